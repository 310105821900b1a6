//! What the driver does: CSI calls in, EC2 calls out.
//!
//! Order of an attach: claim the pair in flight, look up the instance's devices, attach unless the
//! volume is there already, wait for `attached`. Only the look-up and AttachVolume are done one at a
//! time for an instance, so that two volumes never ask for one device name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::ec2_client::{Ec2Client, Ec2Error};
use super::messages::{
    AccessMode, BoolValue, Capability, ControllerGetCapabilitiesResponse, ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse, ControllerUnpublishVolumeRequest, CreateVolumeRequest, CreateVolumeResponse,
    DeleteVolumeRequest, Empty, GetPluginCapabilitiesResponse, GetPluginInfoResponse, ProbeResponse, Topology,
    TopologyRequirement, Volume, VolumeCapability,
};
use super::{DRIVER, ZONE_KEY};
use crate::Cluster;
use crate::ec2::xml::Element;

/// First pause between two reads of a volume that is changing; the real driver starts at a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two such reads.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a change is waited for, unless the caller gives up before (the attacher does at 60 s).
const PATIENCE: Duration = Duration::from_secs(90);
/// Size of a volume when the request names none, as in the real driver.
const DEFAULT_SIZE: i64 = 100 * GIB;
const GIB: i64 = 1 << 30;

/// Parameters of a StorageClass that end up in the volume's context, for the node.
const FORMAT_KEYS: [&str; 8] = [
    "blocksize",
    "inodesize",
    "bytesperinode",
    "numberofinodes",
    "ext4bigalloc",
    "ext4clustersize",
    "ext4encryptionsupport",
    "blockattachuntilinitialized",
];

/// The driver; clones share what is in flight.
#[derive(Clone)]
pub(super) struct Driver(Arc<Inner>);

struct Inner {
    cluster: Cluster,
    ec2: Ec2Client,
    in_flight: Mutex<HashSet<String>>,
    instances: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Driver {
    pub(super) fn new(cluster: Cluster, endpoint: &str, access_key_id: &str) -> Self {
        Self(Arc::new(Inner {
            cluster,
            ec2: Ec2Client::new(endpoint, access_key_id),
            in_flight: Mutex::default(),
            instances: Mutex::default(),
        }))
    }

    pub(super) async fn plugin_info(&self, _: Empty) -> Result<GetPluginInfoResponse, Status> {
        Ok(GetPluginInfoResponse { name: DRIVER.to_owned(), vendor_version: "v1.50.0-bed".to_owned() })
    }

    pub(super) async fn plugin_capabilities(&self, _: Empty) -> Result<GetPluginCapabilitiesResponse, Status> {
        let capabilities =
            Capability::all([Capability::CONTROLLER_SERVICE, Capability::VOLUME_ACCESSIBILITY_CONSTRAINTS]);
        Ok(GetPluginCapabilitiesResponse { capabilities })
    }

    pub(super) async fn probe(&self, _: Empty) -> Result<ProbeResponse, Status> {
        Ok(ProbeResponse { ready: Some(BoolValue { value: true }) })
    }

    pub(super) async fn controller_capabilities(&self, _: Empty) -> Result<ControllerGetCapabilitiesResponse, Status> {
        let capabilities = Capability::all([Capability::CREATE_DELETE_VOLUME, Capability::PUBLISH_UNPUBLISH_VOLUME]);
        Ok(ControllerGetCapabilitiesResponse { capabilities })
    }

    pub(super) async fn create_volume(&self, request: CreateVolumeRequest) -> Result<CreateVolumeResponse, Status> {
        require("Volume name", &request.name)?;
        if request.volume_capabilities.is_empty() {
            return Err(Status::invalid_argument("Volume capabilities not provided"));
        }
        request.volume_capabilities.iter().try_for_each(check_capability)?;
        if request.volume_content_source.is_some() {
            return Err(Status::invalid_argument("Unsupported volumeContentSource type"));
        }
        let size = size_of(&request)?;
        let wanted = Wanted::from_parameters(&request.parameters)?;
        let zone = match &request.accessibility_requirements {
            Some(requirements) => pick_zone(requirements)
                .ok_or_else(|| Status::invalid_argument(format!("no topology with {ZONE_KEY} in the request")))?,
            None => self.any_zone().await?,
        };
        let multi_attach = request
            .volume_capabilities
            .iter()
            .any(|capability| mode(capability) == AccessMode::MULTI_NODE_MULTI_WRITER);
        let _guard = self.begin(&request.name)?;

        let size_gib = (size / GIB).to_string();
        let token = client_token(&request.name);
        let tags = self.tags(&request);
        let mut parameters: Vec<(String, String)> = vec![
            ("AvailabilityZone".to_owned(), zone.clone()),
            ("Size".to_owned(), size_gib.clone()),
            ("ClientToken".to_owned(), token),
            ("MultiAttachEnabled".to_owned(), multi_attach.to_string()),
            ("TagSpecification.1.ResourceType".to_owned(), "volume".to_owned()),
        ];
        parameters.extend(wanted.ec2_parameters(size / GIB));
        for (at, (key, value)) in tags.into_iter().enumerate() {
            parameters.push((format!("TagSpecification.1.Tag.{}.Key", at + 1), key));
            parameters.push((format!("TagSpecification.1.Tag.{}.Value", at + 1), value));
        }
        let parameters: Vec<(&str, &str)> =
            parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let made = self.0.ec2.call("CreateVolume", &parameters).await.map_err(|error| match error.code.as_str() {
            "IdempotentParameterMismatch" => {
                Status::already_exists(format!("Could not create volume {:?}: {error}", request.name))
            }
            "InvalidParameterValue" | "InvalidParameterCombination" | "UnknownVolumeType" | "InvalidZone.NotFound" => {
                Status::invalid_argument(format!("Could not create volume {:?}: {error}", request.name))
            }
            _ => Status::internal(format!("Could not create volume {:?}: {error}", request.name)),
        })?;
        let id = made.value("volumeId").unwrap_or_default().to_owned();
        self.await_volume(&id, |volume| match volume {
            Ok(volume) => Ok(["available", "in-use"].contains(&volume.value("status").unwrap_or_default())),
            // A volume so young may not be visible yet.
            Err(_) => Ok(false),
        })
        .await
        .map_err(|error| Status::internal(format!("Could not create volume {:?}: {error}", request.name)))?;
        Ok(CreateVolumeResponse {
            volume: Some(Volume {
                capacity_bytes: size,
                volume_id: id,
                volume_context: wanted.context,
                accessible_topology: vec![Topology { segments: HashMap::from([(ZONE_KEY.to_owned(), zone)]) }],
            }),
        })
    }

    pub(super) async fn delete_volume(&self, request: DeleteVolumeRequest) -> Result<Empty, Status> {
        let id = require("Volume ID", &request.volume_id)?;
        let _guard = self.begin(id)?;
        match self.0.ec2.call("DeleteVolume", &[("VolumeId", id)]).await {
            Ok(_) => Ok(Empty {}),
            Err(error) if error.is_not_found() => Ok(Empty {}),
            Err(error) => Err(Status::internal(format!("Could not delete volume ID {id:?}: {error}"))),
        }
    }

    pub(super) async fn publish_volume(
        &self,
        request: ControllerPublishVolumeRequest,
    ) -> Result<ControllerPublishVolumeResponse, Status> {
        let id = require("Volume ID", &request.volume_id)?;
        let node = require("Node ID", &request.node_id)?;
        let capability = request
            .volume_capability
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("Volume capability not provided"))?;
        check_capability(capability)?;
        let _guard = self.begin(&format!("{id} {node}"))?;
        let failed = |error: Ec2Error| {
            let text = format!("Could not attach volume {id:?} to node {node:?}: {error}");
            if error.is_not_found() { Status::not_found(text) } else { Status::internal(text) }
        };
        let device = self.attach(id, node).await.map_err(failed)?;
        self.await_volume(id, |volume| {
            let volume = volume?;
            Ok(attachment(volume, node) == Some("attached"))
        })
        .await
        .map_err(failed)?;
        Ok(ControllerPublishVolumeResponse { publish_context: HashMap::from([("devicePath".to_owned(), device)]) })
    }

    pub(super) async fn unpublish_volume(&self, request: ControllerUnpublishVolumeRequest) -> Result<Empty, Status> {
        let id = require("Volume ID", &request.volume_id)?;
        let node = require("Node ID", &request.node_id)?;
        let _guard = self.begin(&format!("{id} {node}"))?;
        match self.0.ec2.call("DetachVolume", &[("VolumeId", id), ("InstanceId", node)]).await {
            Ok(_) => {}
            // As the real driver: not attached there (any more) is what was asked for, even when EC2 is
            // only on its way.
            Err(error)
                if error.is_not_found()
                    || ["IncorrectState", "InvalidAttachment.NotFound"].contains(&error.code.as_str()) =>
            {
                return Ok(Empty {});
            }
            Err(error) => {
                return Err(Status::internal(format!("Could not detach volume {id:?} from node {node:?}: {error}")));
            }
        }
        self.await_volume(id, |volume| match volume {
            Ok(volume) => Ok(matches!(attachment(volume, node), None | Some("detached"))),
            Err(error) if error.is_not_found() => Ok(true),
            Err(error) => Err(error),
        })
        .await
        .map_err(|error| Status::internal(format!("Could not detach volume {id:?} from node {node:?}: {error}")))?;
        Ok(Empty {})
    }

    /// Attaches a volume unless the instance has it already, and returns the device name.
    async fn attach(&self, id: &str, node: &str) -> Result<String, Ec2Error> {
        let lock =
            self.0.instances.lock().unwrap_or_else(PoisonError::into_inner).entry(node.to_owned()).or_default().clone();
        let _one_at_a_time = lock.lock().await;
        let answer = self.0.ec2.call("DescribeInstances", &[("InstanceId.1", node)]).await?;
        let instance = answer
            .items("reservationSet")
            .flat_map(|reservation| reservation.items("instancesSet"))
            .find(|instance| instance.value("instanceId") == Some(node))
            .ok_or_else(|| Ec2Error { code: "InvalidInstanceID.NotFound".to_owned(), message: node.to_owned() })?;
        let mut taken = HashSet::new();
        for mapping in instance.items("blockDeviceMapping") {
            let device = mapping.value("deviceName").unwrap_or_default();
            let ebs = mapping.get("ebs");
            if ebs.and_then(|ebs| ebs.value("volumeId")) == Some(id) {
                return match ebs.and_then(|ebs| ebs.value("status")) {
                    Some("attaching" | "attached") => Ok(device.to_owned()),
                    state => Err(Ec2Error {
                        code: "IncorrectState".to_owned(),
                        message: format!("{id} is {} on {node}", state.unwrap_or("in an unknown state")),
                    }),
                };
            }
            taken.insert(device.to_owned());
        }
        let device = device_names().find(|name| !taken.contains(name)).ok_or_else(|| Ec2Error {
            code: "AttachmentLimitExceeded".to_owned(),
            message: format!("no device name is left on {node}"),
        })?;
        self.0.ec2.call("AttachVolume", &[("VolumeId", id), ("InstanceId", node), ("Device", &device)]).await?;
        Ok(device)
    }

    /// Reads a volume again and again until `done` says so or cannot go on.
    ///
    /// An error other than not found is not the volume's: it is read again, as the real driver does.
    async fn await_volume(
        &self,
        id: &str,
        done: impl Fn(Result<&Element, Ec2Error>) -> Result<bool, Ec2Error>,
    ) -> Result<(), Ec2Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = self.0.ec2.call("DescribeVolumes", &[("VolumeId.1", id)]).await;
            let finished = match &answer {
                Ok(answer) => match answer.items("volumeSet").next() {
                    Some(volume) => done(Ok(volume))?,
                    None => false,
                },
                Err(error) if error.is_not_found() => {
                    done(Err(Ec2Error { code: error.code.clone(), message: error.message.clone() }))?
                }
                Err(_) => false,
            };
            if finished {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Ec2Error {
                    code: String::new(),
                    message: format!("timed out waiting for the condition of {id}"),
                });
            }
            sleep(pause).await;
            pause = pause.mul_f64(1.5).min(LONGEST_PAUSE);
        }
    }

    /// Returns a zone of the region, for a request that leaves it open.
    async fn any_zone(&self) -> Result<String, Status> {
        let answer = self
            .0
            .ec2
            .call("DescribeAvailabilityZones", &[])
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let zone = answer.items("availabilityZoneInfo").find_map(|zone| zone.value("zoneName")).map(str::to_owned);
        zone.ok_or_else(|| Status::internal("the region has no zone"))
    }

    /// Returns the tags of a new volume, as the real driver with `--extra-create-metadata` sets them.
    fn tags(&self, request: &CreateVolumeRequest) -> BTreeMap<String, String> {
        let cluster = self.0.cluster.name();
        let mut tags = BTreeMap::from([
            ("ebs.csi.aws.com/cluster".to_owned(), "true".to_owned()),
            ("CSIVolumeName".to_owned(), request.name.clone()),
            (format!("kubernetes.io/cluster/{cluster}"), "owned".to_owned()),
            ("Name".to_owned(), format!("{cluster}-dynamic-{}", request.name)),
        ]);
        for (parameter, tag) in [
            ("csi.storage.k8s.io/pvc/name", "kubernetes.io/created-for/pvc/name"),
            ("csi.storage.k8s.io/pvc/namespace", "kubernetes.io/created-for/pvc/namespace"),
            ("csi.storage.k8s.io/pv/name", "kubernetes.io/created-for/pv/name"),
        ] {
            if let Some(value) = request.parameters.get(parameter) {
                tags.insert(tag.to_owned(), value.clone());
            }
        }
        tags
    }

    /// Claims a name for a call; the same call while one is running is `Aborted`, to be made again.
    fn begin(&self, name: &str) -> Result<InFlight, Status> {
        let mut running = self.0.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if !running.insert(name.to_owned()) {
            return Err(Status::aborted(format!("An operation with the given volume {name} already exists")));
        }
        Ok(InFlight { driver: self.clone(), name: name.to_owned() })
    }
}

/// A claimed name; free again when the call ends, also when the caller has gone away.
struct InFlight {
    driver: Driver,
    name: String,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.driver.0.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// What a StorageClass asks for.
#[derive(Debug)]
struct Wanted {
    volume_type: String,
    iops: Option<String>,
    iops_per_gb: Option<i64>,
    throughput: Option<String>,
    encrypted: bool,
    kms_key_id: Option<String>,
    context: HashMap<String, String>,
}

impl Wanted {
    fn from_parameters(parameters: &HashMap<String, String>) -> Result<Self, Status> {
        let mut wanted = Self {
            volume_type: "gp3".to_owned(),
            iops: None,
            iops_per_gb: None,
            throughput: None,
            encrypted: false,
            kms_key_id: None,
            context: HashMap::new(),
        };
        for (key, value) in parameters {
            match key.to_ascii_lowercase().as_str() {
                "type" => value.clone_into(&mut wanted.volume_type),
                "iops" => wanted.iops = Some(value.clone()),
                "iopspergb" => {
                    let number = value
                        .parse()
                        .map_err(|_| Status::invalid_argument(format!("Could not parse invalid iopsPerGB: {value}")))?;
                    wanted.iops_per_gb = Some(number);
                }
                "throughput" => wanted.throughput = Some(value.clone()),
                "encrypted" => wanted.encrypted = value == "true",
                "kmskeyid" => wanted.kms_key_id = Some(value.clone()),
                "allowautoiopspergbincrease" | "csi.storage.k8s.io/fstype" => {}
                "csi.storage.k8s.io/pvc/name" | "csi.storage.k8s.io/pvc/namespace" | "csi.storage.k8s.io/pv/name" => {}
                lower if FORMAT_KEYS.contains(&lower) => {
                    wanted.context.insert(lower.to_owned(), value.clone());
                }
                _ => {
                    return Err(Status::invalid_argument(format!("Invalid parameter key {key} for CreateVolume")));
                }
            }
        }
        Ok(wanted)
    }

    fn ec2_parameters(&self, gib: i64) -> Vec<(String, String)> {
        let iops = self.iops.clone().or(self.iops_per_gb.map(|per_gb| (per_gb * gib).max(100).to_string()));
        let optional = [("Iops", iops), ("Throughput", self.throughput.clone()), ("KmsKeyId", self.kms_key_id.clone())];
        let mut parameters = vec![
            ("VolumeType".to_owned(), self.volume_type.clone()),
            ("Encrypted".to_owned(), self.encrypted.to_string()),
        ];
        parameters.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        parameters
    }
}

fn require<'text>(what: &str, value: &'text str) -> Result<&'text str, Status> {
    if value.is_empty() { Err(Status::invalid_argument(format!("{what} not provided"))) } else { Ok(value) }
}

fn mode(capability: &VolumeCapability) -> i32 {
    capability.access_mode.as_ref().map_or(0, |access| access.mode)
}

/// One writer on one node; many on raw blocks only, where EC2's multi-attach does it.
fn check_capability(capability: &VolumeCapability) -> Result<(), Status> {
    match mode(capability) {
        AccessMode::SINGLE_NODE_WRITER => Ok(()),
        AccessMode::MULTI_NODE_MULTI_WRITER if capability.block.is_some() => Ok(()),
        other => Err(Status::invalid_argument(format!("Volume capabilities not supported: access mode {other}"))),
    }
}

/// Rounds the asked size up to whole GiB.
fn size_of(request: &CreateVolumeRequest) -> Result<i64, Status> {
    let Some(range) = &request.capacity_range else {
        return Ok(DEFAULT_SIZE);
    };
    let size = (range.required_bytes.max(1) as u64).div_ceil(GIB as u64) as i64 * GIB;
    if range.limit_bytes > 0 && size > range.limit_bytes {
        return Err(Status::invalid_argument("After round-up, volume size exceeds the limit specified"));
    }
    Ok(size)
}

/// Returns the first preferred zone, or else the first that will do.
fn pick_zone(requirements: &TopologyRequirement) -> Option<String> {
    requirements
        .preferred
        .iter()
        .chain(&requirements.requisite)
        .find_map(|topology| topology.segments.get(ZONE_KEY).cloned())
}

/// Returns the state of a volume's attachment to an instance.
fn attachment<'volume>(volume: &'volume Element, node: &str) -> Option<&'volume str> {
    volume
        .items("attachmentSet")
        .find(|attachment| attachment.value("instanceId") == Some(node))
        .and_then(|attachment| attachment.value("status"))
}

/// Returns EC2's idempotency token of a volume name.
fn client_token(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the device names that the driver uses: `/dev/xvdaa` to `/dev/xvddx`.
fn device_names() -> impl Iterator<Item = String> {
    ('a'..='d').flat_map(|first| ('a'..='x').map(move |second| format!("/dev/xvd{first}{second}")))
}
