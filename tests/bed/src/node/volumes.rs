//! Which EBS volumes a pod uses: pod volume → claim → PersistentVolume → volume handle.
//!
//! The rules are the kubelet's: a volume that no container mounts is none of its business, the claim
//! must be bound both ways, and the mode in which it is used must be the volume's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Api, Client};
use sha2::{Digest, Sha256};

/// Name of the CSI driver.
pub(super) const DRIVER: &str = "ebs.csi.aws.com";

/// An EBS volume as a pod uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodVolume {
    /// Claim through which it is used; empty for a volume named in the pod itself.
    pub(super) claim: String,
    /// EC2's id of the volume.
    pub(super) id: String,
}

impl PodVolume {
    /// Returns the volume's name in `volumesInUse` and `volumesAttached`.
    pub(super) fn unique_name(&self) -> String {
        format!("kubernetes.io/csi/{DRIVER}^{}", self.id)
    }

    /// Returns the name of the VolumeAttachment that attaches it to a node.
    pub(super) fn attachment_name(&self, node: &str) -> String {
        let digest = Sha256::digest(format!("{}{DRIVER}{node}", self.id));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("csi-{hex}")
    }
}

/// What a pod's volume names, as far as the pod itself tells.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Claim(String),
    Inline(String),
}

/// Where a volume is used: mounted as a file system or given as a raw device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Filesystem,
    Block,
}

/// Returns the EBS volumes of a pod, or why they cannot be told yet.
pub(super) async fn resolve(client: &Client, pod: &Pod) -> Result<Vec<PodVolume>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let mut found: Vec<PodVolume> = Vec::new();
    for (named, mode) in named(pod) {
        let volume = match named {
            Named::Inline(id) => Some(PodVolume { claim: String::new(), id }),
            Named::Claim(name) => {
                let claim = claims.get(&name).await.map_err(|error| format!("claim {name}: {error}"))?;
                let volume_name = bound_volume(&claim)?;
                let volume =
                    volumes.get(&volume_name).await.map_err(|error| format!("volume {volume_name}: {error}"))?;
                bound_back(&claim, &volume)?;
                used_in_its_mode(&name, &volume, mode)?;
                handle(&volume)?.map(|id| PodVolume { claim: name, id })
            }
        };
        // Two claims never share a volume, but a pod may name one claim twice.
        found.extend(volume.filter(|volume| !found.iter().any(|other| other.id == volume.id)));
    }
    Ok(found)
}

/// Returns what the pod's containers use, with the mode of the use.
fn named(pod: &Pod) -> Vec<(Named, Mode)> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let uses = uses(spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    for volume in spec.volumes.iter().flatten() {
        let Some(mode) = uses.get(volume.name.as_str()) else { continue };
        let named = if let Some(source) = &volume.persistent_volume_claim {
            Named::Claim(source.claim_name.clone())
        } else if volume.ephemeral.is_some() {
            Named::Claim(format!("{pod_name}-{}", volume.name))
        } else if let Some(source) = &volume.aws_elastic_block_store {
            Named::Inline(in_tree_id(&source.volume_id))
        } else {
            continue;
        };
        found.push((named, *mode));
    }
    found
}

fn uses<'a>(containers: impl Iterator<Item = &'a Container>) -> BTreeMap<&'a str, Mode> {
    let mut uses = BTreeMap::new();
    for container in containers {
        for mount in container.volume_mounts.iter().flatten() {
            uses.insert(mount.name.as_str(), Mode::Filesystem);
        }
        for device in container.volume_devices.iter().flatten() {
            uses.insert(device.name.as_str(), Mode::Block);
        }
    }
    uses
}

fn bound_volume(claim: &PersistentVolumeClaim) -> Result<String, String> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("claim {name} is being deleted"));
    }
    let bound = claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"));
    claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.clone())
        .filter(|_| bound)
        .ok_or_else(|| format!("claim {name} is not bound"))
}

fn bound_back(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), String> {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if reference.is_some_and(|reference| reference.uid == claim.metadata.uid) {
        return Ok(());
    }
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    Err(format!("the volume of claim {name} is not bound to it"))
}

fn used_in_its_mode(claim: &str, volume: &PersistentVolume, mode: Mode) -> Result<(), String> {
    let block = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block");
    match (block, mode) {
        (true, Mode::Filesystem) => Err(format!("claim {claim} has volumeMode Block, but is used in volumeMounts")),
        (false, Mode::Block) => Err(format!("claim {claim} has volumeMode Filesystem, but is used in volumeDevices")),
        _ => Ok(()),
    }
}

/// Returns the EBS volume of a PersistentVolume; none when it is on something else than EBS.
pub(crate) fn handle(volume: &PersistentVolume) -> Result<Option<String>, String> {
    let Some(spec) = &volume.spec else { return Ok(None) };
    if let Some(csi) = &spec.csi {
        if csi.driver == DRIVER {
            return Ok(Some(csi.volume_handle.clone()));
        }
        return Err(format!("driver {} is not registered on this node", csi.driver));
    }
    Ok(spec.aws_elastic_block_store.as_ref().map(|source| in_tree_id(&source.volume_id)))
}

/// Returns the id in `aws://zone/vol-…`, `aws:///vol-…` or `vol-…`.
fn in_tree_id(volume: &str) -> String {
    volume.rsplit('/').next().unwrap_or(volume).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec}))
            .expect("a pod")
    }

    #[test]
    fn only_what_a_container_uses_counts_and_raw_devices_do() {
        let pod = pod(json!({
            "containers": [{
                "name": "web",
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "volumeDevices": [{"name": "raw", "devicePath": "/dev/raw"}],
            }],
            "initContainers": [{"name": "init", "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}},
                {"name": "raw", "persistentVolumeClaim": {"claimName": "raw-web-0"}},
                {"name": "unused", "persistentVolumeClaim": {"claimName": "unused-web-0"}},
                {"name": "scratch", "ephemeral": {}},
                {"name": "config", "configMap": {"name": "config"}},
            ],
        }));
        let expected = [
            (Named::Claim("data-web-0".into()), Mode::Filesystem),
            (Named::Claim("raw-web-0".into()), Mode::Block),
            (Named::Claim("web-0-scratch".into()), Mode::Filesystem),
        ];
        assert_eq!(named(&pod), expected);
    }

    #[test]
    fn in_tree_volumes_name_the_bare_id() {
        for name in ["aws://eu-west-1a/vol-0123456789abcdef0", "aws:///vol-0123456789abcdef0", "vol-0123456789abcdef0"]
        {
            assert_eq!(in_tree_id(name), "vol-0123456789abcdef0");
        }
    }

    #[test]
    fn a_claim_that_is_bound_one_way_only_is_not_mounted() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "data-web-0", "uid": "new"},
            "spec": {"volumeName": "pv-1"},
            "status": {"phase": "Bound"},
        }))
        .expect("a claim");
        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": "pv-1"},
            "spec": {"claimRef": {"uid": "old"}},
        }))
        .expect("a volume");
        assert_eq!(bound_volume(&claim), Ok("pv-1".to_owned()));
        assert_eq!(bound_back(&claim, &volume), Err("the volume of claim data-web-0 is not bound to it".to_owned()));
    }

    #[test]
    fn a_raw_volume_is_not_mounted_as_a_file_system() {
        let volume: PersistentVolume =
            serde_json::from_value(json!({"metadata": {"name": "pv-1"}, "spec": {"volumeMode": "Block"}}))
                .expect("a volume");
        assert!(used_in_its_mode("raw-web-0", &volume, Mode::Filesystem).is_err());
        assert_eq!(used_in_its_mode("raw-web-0", &volume, Mode::Block), Ok(()));
    }

    #[test]
    fn a_volume_of_another_driver_cannot_be_mounted() {
        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": "pv-1"},
            "spec": {"csi": {"driver": "ebs.csi.eks.amazonaws.com", "volumeHandle": "vol-0123456789abcdef0"}},
        }))
        .expect("a volume");
        assert!(handle(&volume).is_err());
    }
}
