//! In-tree PersistentVolumes, as clusters have them from the time before CSI migration.
//!
//! Nothing here translates them: the controllers of these versions serve them through the CSI driver,
//! and say so on the PV (`pv.kubernetes.io/migrated-to`).

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Api, Client};
use serde_json::json;

use super::{Class, apply, until};
use crate::Bed;
use crate::ec2::{NewVolume, ZONES};

/// Class of in-tree volumes, as every EKS cluster of that time has it.
pub const IN_TREE_CLASS: &str = "gp2";

/// How long a claim may take to be Bound to a volume that is there.
const BOUND_WITHIN: Duration = Duration::from_secs(60);

/// Returns the class of in-tree volumes; claims of it get new volumes of the in-tree form.
pub fn in_tree_class() -> Class {
    Class::new(IN_TREE_CLASS).provisioner("kubernetes.io/aws-ebs")
}

/// Makes an EBS volume of 1 GiB with an in-tree PV and a claim that is Bound to it, and returns the
/// volume's id. The handle has the long form `aws://ZONE/ID`. A set whose template is called so finds its
/// claim there.
///
/// Bound before any pod wants it: a scheduler that sees it unbound may place the pod's other volumes in
/// another zone.
pub async fn in_tree_claim(bed: &Bed, a: &Client, namespace: &str, claim: &str, mode: &str) -> Result<String> {
    // The tag by which policies of the CSI driver's controller know volumes of that time.
    let tags = [("kubernetes.io/created-for/pvc/name".to_owned(), claim.to_owned())].into();
    let volume = bed.ec2().create_volume(&NewVolume { tags, ..NewVolume::default() }).await?;
    let (id, zone, region) = (volume.volume, volume.zone, &ZONES[0][..ZONES[0].len() - 1]);
    let term = |key: &str, value: &str| json!({"key": key, "operator": "In", "values": [value]});
    let terms = [term("topology.kubernetes.io/zone", &zone), term("topology.kubernetes.io/region", region)];
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": format!("pvc-{namespace}-{claim}"),
            "labels": {"topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": region},
            "annotations": {
                "kubernetes.io/createdby": "aws-ebs-dynamic-provisioner",
                "pv.kubernetes.io/bound-by-controller": "yes",
                "pv.kubernetes.io/provisioned-by": "kubernetes.io/aws-ebs",
            },
        },
        "spec": {
            "awsElasticBlockStore": {"volumeID": format!("aws://{zone}/{id}"), "fsType": "ext4"},
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "volumeMode": mode,
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim,
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": terms}]}},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": IN_TREE_CLASS,
        },
    });
    let bound = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": IN_TREE_CLASS,
            "volumeMode": mode,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    for object in [in_tree_class().manifest(), volume, bound] {
        apply(a, object).await.with_context(|| format!("make the in-tree claim {namespace}/{claim}"))?;
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(a.clone(), namespace);
    let is_bound = |claim: Option<&PersistentVolumeClaim>| {
        claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref()) == Some("Bound")
    };
    until(claims, claim, BOUND_WITHIN, "Bound", is_bound).await?;
    Ok(id)
}
