//! The driver over its socket, as the sidecars call it, against the stand-in.

use std::collections::HashMap;
use std::path::PathBuf;

use prost::Message;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::messages::*;
use super::{ZONE_KEY, serve};
use crate::Cluster;
use crate::ec2::tests::{ELSEWHERE, FIRST, SECOND, SOON, Stand, entry};
use crate::ec2::{AttachmentState, Knobs, NewVolume, VolumeState, csi_key};

const GIB: i64 = 1 << 30;

/// A driver of cluster `b` on a socket of its own.
struct Driver {
    stand: Stand,
    channel: Channel,
    server: JoinHandle<()>,
    _directory: TempDir,
}

impl Driver {
    async fn start() -> Self {
        let stand = Stand::start().await;
        let directory = TempDir::new().expect("a directory");
        let socket: PathBuf = directory.path().join("csi.sock");
        let (path, url) = (socket.clone(), stand.url.clone());
        let server = tokio::spawn(async move {
            serve(Cluster::B, &path, &url, csi_key(Cluster::B)).await.expect("serve");
        });
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).expect("an endpoint");
        let deadline = Instant::now() + SOON;
        let channel = loop {
            match endpoint.connect().await {
                Ok(channel) => break channel,
                Err(error) => assert!(Instant::now() < deadline, "no socket: {error}"),
            }
            tokio::task::yield_now().await;
        };
        Self { stand, channel, server, _directory: directory }
    }

    async fn call<M, R>(&self, path: &'static str, message: M) -> Result<R, Status>
    where
        M: Message + Default + 'static,
        R: Message + Default + 'static,
    {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.expect("a connection");
        let codec = ProstCodec::<M, R>::default();
        Ok(client.unary(Request::new(message), PathAndQuery::from_static(path), codec).await?.into_inner())
    }

    async fn create(&self, request: CreateVolumeRequest) -> Result<Volume, Status> {
        let answer: CreateVolumeResponse = self.call("/csi.v1.Controller/CreateVolume", request).await?;
        Ok(answer.volume.expect("a volume"))
    }

    async fn delete(&self, volume: &str) -> Result<(), Status> {
        let request = DeleteVolumeRequest { volume_id: volume.to_owned() };
        self.call::<_, Empty>("/csi.v1.Controller/DeleteVolume", request).await.map(drop)
    }

    async fn publish(&self, volume: &str, node: &str) -> Result<String, Status> {
        let request = ControllerPublishVolumeRequest {
            volume_id: volume.to_owned(),
            node_id: node.to_owned(),
            volume_capability: Some(capability(AccessMode::SINGLE_NODE_WRITER, false)),
            ..ControllerPublishVolumeRequest::default()
        };
        let answer: ControllerPublishVolumeResponse =
            self.call("/csi.v1.Controller/ControllerPublishVolume", request).await?;
        Ok(answer.publish_context["devicePath"].clone())
    }

    async fn unpublish(&self, volume: &str, node: &str) -> Result<(), Status> {
        let request = ControllerUnpublishVolumeRequest { volume_id: volume.to_owned(), node_id: node.to_owned() };
        self.call::<_, Empty>("/csi.v1.Controller/ControllerUnpublishVolume", request).await.map(drop)
    }

    /// Returns how often the driver has called an EC2 action.
    async fn calls(&self, action: &str) -> usize {
        let log = self.stand.control.log_of_key(csi_key(Cluster::B)).await.expect("the log");
        log.iter().filter(|call| call.action == action).count()
    }

    async fn state(&self, volume: &str) -> VolumeState {
        self.stand.control.volume(volume).await.expect("a volume").state
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn capability(mode: i32, block: bool) -> VolumeCapability {
    VolumeCapability {
        block: block.then_some(Empty {}),
        mount: (!block).then(MountVolume::default),
        access_mode: Some(AccessMode { mode }),
    }
}

fn zone(name: &str) -> Topology {
    Topology { segments: HashMap::from([(ZONE_KEY.to_owned(), name.to_owned())]) }
}

fn request(name: &str) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: 2 * GIB - 5, limit_bytes: 0 }),
        volume_capabilities: vec![capability(AccessMode::SINGLE_NODE_WRITER, false)],
        accessibility_requirements: Some(TopologyRequirement {
            requisite: vec![zone("eu-west-1a"), zone("eu-west-1b")],
            preferred: vec![zone("eu-west-1b"), zone("eu-west-1a")],
        }),
        ..CreateVolumeRequest::default()
    }
}

#[tokio::test]
async fn it_says_who_it_is_and_what_it_can() {
    let driver = Driver::start().await;
    let info: GetPluginInfoResponse = driver.call("/csi.v1.Identity/GetPluginInfo", Empty {}).await.unwrap();
    assert_eq!(info.name, "ebs.csi.aws.com");
    let numbers = |capabilities: Vec<Capability>| {
        capabilities.into_iter().map(|capability| capability.kind.unwrap().number).collect::<Vec<_>>()
    };
    let plugin: GetPluginCapabilitiesResponse =
        driver.call("/csi.v1.Identity/GetPluginCapabilities", Empty {}).await.unwrap();
    assert_eq!(numbers(plugin.capabilities), [1, 2]);
    let probe: ProbeResponse = driver.call("/csi.v1.Identity/Probe", Empty {}).await.unwrap();
    assert!(probe.ready.unwrap().value);
    let controller: ControllerGetCapabilitiesResponse =
        driver.call("/csi.v1.Controller/ControllerGetCapabilities", Empty {}).await.unwrap();
    assert_eq!(numbers(controller.capabilities), [1, 2]);
    let other = driver.call::<_, Empty>("/csi.v1.Controller/CreateSnapshot", Empty {}).await.unwrap_err();
    assert_eq!(other.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_volume_is_made_once_in_the_preferred_zone_with_its_tags() {
    let driver = Driver::start().await;
    let mut wanted = request("pvc-1");
    wanted.parameters = [
        ("type", "io2"),
        ("iopsPerGB", "100"),
        ("encrypted", "true"),
        ("csi.storage.k8s.io/fstype", "xfs"),
        ("csi.storage.k8s.io/pvc/name", "data-web-0"),
        ("csi.storage.k8s.io/pvc/namespace", "space"),
        ("csi.storage.k8s.io/pv/name", "pvc-1"),
        ("inodeSize", "512"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let made = driver.create(wanted.clone()).await.unwrap();
    assert_eq!(made.capacity_bytes, 2 * GIB);
    assert_eq!(made.accessible_topology, [zone("eu-west-1b")]);
    assert_eq!(made.volume_context, HashMap::from([("inodesize".to_owned(), "512".to_owned())]));
    assert_eq!(driver.create(wanted.clone()).await.unwrap(), made);
    wanted.capacity_range = Some(CapacityRange { required_bytes: 5 * GIB, limit_bytes: 0 });
    assert_eq!(driver.create(wanted).await.unwrap_err().code(), Code::AlreadyExists);

    let volumes = driver.stand.control.volumes().await.unwrap();
    let [volume] = volumes.as_slice() else { panic!("not one volume: {volumes:?}") };
    assert_eq!((volume.size, volume.zone.as_str(), volume.volume_type.as_str()), (2, "eu-west-1b", "io2"));
    assert_eq!((volume.iops, volume.encrypted), (Some(200), true));
    for (key, value) in [
        ("ebs.csi.aws.com/cluster", "true"),
        ("CSIVolumeName", "pvc-1"),
        ("kubernetes.io/created-for/pvc/name", "data-web-0"),
        ("kubernetes.io/created-for/pvc/namespace", "space"),
        ("kubernetes.io/created-for/pv/name", "pvc-1"),
        ("kubernetes.io/cluster/b", "owned"),
    ] {
        assert_eq!(volume.tags.get(key).map(String::as_str), Some(value), "{key}");
    }
}

#[tokio::test]
async fn what_it_cannot_make_it_refuses() {
    let driver = Driver::start().await;
    let with = |change: &dyn Fn(&mut CreateVolumeRequest)| {
        let mut request = request("pvc-1");
        change(&mut request);
        request
    };
    for request in [
        with(&|request| request.name.clear()),
        with(&|request| request.volume_capabilities.clear()),
        with(&|request| request.volume_capabilities = vec![capability(AccessMode::MULTI_NODE_MULTI_WRITER, false)]),
        with(&|request| request.volume_content_source = Some(Empty {})),
        with(&|request| request.capacity_range = Some(CapacityRange { required_bytes: GIB + 1, limit_bytes: GIB + 2 })),
        with(&|request| request.parameters = HashMap::from([("colour".to_owned(), "blue".to_owned())])),
        with(&|request| request.parameters = HashMap::from([("type".to_owned(), "gp9".to_owned())])),
        with(&|request| {
            request.accessibility_requirements =
                Some(TopologyRequirement { requisite: vec![zone("mars-1a")], preferred: vec![] })
        }),
    ] {
        let error = driver.create(request.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{request:?}: {error}");
    }
    assert_eq!(driver.stand.control.volumes().await.unwrap(), []);
}

#[tokio::test]
async fn a_volume_without_a_wish_for_a_zone_gets_one() {
    let driver = Driver::start().await;
    let made =
        driver.create(CreateVolumeRequest { accessibility_requirements: None, ..request("pvc-1") }).await.unwrap();
    assert_eq!(made.accessible_topology, [zone("eu-west-1a")]);
}

#[tokio::test]
async fn two_publishes_make_one_attach_and_end_attached() {
    let driver = Driver::start().await;
    let id = driver.stand.volume().await.volume;
    driver.stand.control.knobs(&Knobs { attach_ms: Some([300, 300]), ..Knobs::default() }).await.unwrap();
    let (one, other) = tokio::join!(driver.publish(&id, FIRST), driver.publish(&id, FIRST));
    // The second may be told to come again; coming again gives the same device.
    for answer in [&one, &other] {
        assert!(answer.is_ok() || answer.as_ref().is_err_and(|error| error.code() == Code::Aborted), "{answer:?}");
    }
    let device = driver.publish(&id, FIRST).await.unwrap();
    assert!([&one, &other].iter().any(|answer| answer.as_ref().ok() == Some(&device)), "{one:?} {other:?} {device}");
    let volume = driver.stand.control.volume(&id).await.unwrap();
    assert_eq!(volume.attachments[0].state, AttachmentState::Attached);
    assert_eq!(volume.attachments[0].device, device);
    assert_eq!(driver.calls("AttachVolume").await, 1);
}

#[tokio::test]
async fn many_volumes_get_devices_of_their_own() {
    let driver = Driver::start().await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(driver.stand.volume().await.volume);
    }
    let answers = futures::future::join_all(ids.iter().map(|id| driver.publish(id, FIRST))).await;
    let mut devices: Vec<String> = answers.into_iter().map(|answer| answer.unwrap()).collect();
    devices.sort();
    devices.dedup();
    assert_eq!(devices.len(), ids.len());
}

#[tokio::test]
async fn publish_fails_where_ec2_refuses() {
    let driver = Driver::start().await;
    let id = driver.stand.volume().await.volume;
    assert_eq!(driver.publish(&id, "i-0ffffffffffffffff").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(driver.publish("vol-00000000000000000", FIRST).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(driver.publish("", FIRST).await.unwrap_err().code(), Code::InvalidArgument);
    let zone = driver.publish(&id, ELSEWHERE).await.unwrap_err();
    assert!(zone.message().contains("InvalidVolume.ZoneMismatch"), "{zone}");
    driver.stand.attach(&id, FIRST, "/dev/xvdaa").await;
    let taken = driver.publish(&id, SECOND).await.unwrap_err();
    assert_eq!(taken.code(), Code::Internal);
    assert!(taken.message().contains("VolumeInUse"), "{taken}");
}

#[tokio::test]
async fn unpublish_waits_until_the_volume_is_free() {
    let driver = Driver::start().await;
    let id = driver.stand.volume().await.volume;
    driver.publish(&id, FIRST).await.unwrap();
    driver.stand.control.knobs(&Knobs { detach_ms: Some([300, 300]), ..Knobs::default() }).await.unwrap();
    driver.unpublish(&id, FIRST).await.unwrap();
    assert_eq!(driver.state(&id).await, VolumeState::Available);
    driver.unpublish(&id, FIRST).await.unwrap();
    driver.unpublish("vol-00000000000000000", FIRST).await.unwrap();
    driver.unpublish(&id, "i-0ffffffffffffffff").await.unwrap();
    assert_eq!(driver.state(&id).await, VolumeState::Available);
}

#[tokio::test]
async fn unpublish_of_a_mounted_volume_waits_for_the_unmount() {
    let driver = Driver::start().await;
    let id = driver.stand.volume().await.volume;
    driver.publish(&id, FIRST).await.unwrap();
    driver.stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap();
    let busy = async {
        driver
            .stand
            .control
            .await_volume(&id, SOON, |volume| volume.attachments[0].state == AttachmentState::Busy)
            .await
            .unwrap();
        // Asked again while the first call waits: to be made again, not a success.
        assert_eq!(driver.unpublish(&id, FIRST).await.unwrap_err().code(), Code::Aborted);
        driver.stand.ec2.unmount(&id, FIRST, entry("web-0")).unwrap();
    };
    let (done, ()) = tokio::join!(driver.unpublish(&id, FIRST), busy);
    done.unwrap();
    assert_eq!(driver.state(&id).await, VolumeState::Available);
}

#[tokio::test]
async fn an_abandoned_unpublish_is_taken_for_done_while_ec2_is_not() {
    let driver = Driver::start().await;
    let id = driver.stand.volume().await.volume;
    driver.publish(&id, FIRST).await.unwrap();
    let sticky = Knobs { volume: Some(id.clone()), detach_sticks: Some(true), ..Knobs::default() };
    driver.stand.control.knobs(&sticky).await.unwrap();
    let busy =
        driver.stand.control.await_volume(&id, SOON, |volume| volume.attachments[0].state == AttachmentState::Busy);
    tokio::select! {
        answer = driver.unpublish(&id, FIRST) => panic!("the detach does not stick: {answer:?}"),
        busy = busy => { busy.unwrap(); }
    }
    // The caller has given up; the driver's own claim goes with its call, sooner or later.
    let deadline = Instant::now() + SOON;
    loop {
        match driver.unpublish(&id, FIRST).await {
            Ok(()) => break,
            Err(error) => assert!(error.code() == Code::Aborted && Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(driver.state(&id).await, VolumeState::InUse);
}

#[tokio::test]
async fn delete_takes_a_free_volume_and_a_gone_one() {
    let driver = Driver::start().await;
    let id = driver.stand.volume().await.volume;
    driver.publish(&id, FIRST).await.unwrap();
    let refused = driver.delete(&id).await.unwrap_err();
    assert!(refused.message().contains("VolumeInUse"), "{refused}");
    driver.unpublish(&id, FIRST).await.unwrap();
    driver.delete(&id).await.unwrap();
    driver.stand.control.await_volume(&id, SOON, |volume| volume.state == VolumeState::Deleted).await.unwrap();
    driver.delete(&id).await.unwrap();
}

#[tokio::test]
async fn throttled_calls_are_made_again() {
    let driver = Driver::start().await;
    let new = NewVolume { zone: "eu-west-1b".to_owned(), ..NewVolume::default() };
    let id = driver.stand.control.create_volume(&new).await.unwrap().volume;
    let mut key = driver.stand.control.key(csi_key(Cluster::B)).await.unwrap();
    key.throttle = 0.3;
    driver.stand.control.set_key(&key).await.unwrap();
    driver.publish(&id, ELSEWHERE).await.unwrap();
    driver.unpublish(&id, ELSEWHERE).await.unwrap();
    assert_eq!(driver.state(&id).await, VolumeState::Available);
}
