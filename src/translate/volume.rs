//! B's PersistentVolume.
//!
//! `Retain` and a claimRef without uid: a PV whose claimRef names a uid that is not there is Released,
//! and its policy carried out (PV-1, PV-2). In-tree PVs become what Kubernetes' own CSI translation makes
//! of them (PV-10); the zone is the one that EC2 reports, under the key that all drivers know (PV-11).

use serde_json::{Map, Value, json};

use super::metadata::{BIND_ANNOTATIONS, Target, assembled, carried, spec_of};
use crate::plan::{MIGRATION_ANNOTATION, Plan, RECLAIM_POLICY_ANNOTATION, VolumePlan};
use crate::world::{CLASS_ANNOTATION, Kind, Object, gib_quantity};

/// Name of the EBS CSI driver.
pub(super) const EBS_DRIVER: &str = "ebs.csi.aws.com";

/// Key of a volume attribute that tells which provisioner process made the volume; for people only.
const PROVISIONER_IDENTITY: &str = "storage.kubernetes.io/csiProvisionerIdentity";

/// Annotation that says who provisioned a PV, and so who deletes it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// Annotation of a PV whose in-tree form is handled by a CSI driver.
const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";

/// Labels that the in-tree plugin used for zone and region.
const OLD_TOPOLOGY: [&str; 2] = ["failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region"];

/// Returns B's PersistentVolume for a volume of the plan.
pub fn volume(plan: &Plan, volume: &VolumePlan) -> Value {
    let before = &volume.volume_before;
    let mark = plan.mark();
    let mut annotations =
        vec![(MIGRATION_ANNOTATION, mark.as_str()), (RECLAIM_POLICY_ANNOTATION, volume.reclaim_policy.as_str())];
    let is_in_tree = before.at("/spec/awsElasticBlockStore").is_some();
    if is_in_tree {
        annotations.push((PROVISIONED_BY, EBS_DRIVER));
    }
    let mut dropped = BIND_ANNOTATIONS.to_vec();
    dropped.extend([MIGRATED_TO, CLASS_ANNOTATION]);
    dropped.extend(OLD_TOPOLOGY);
    let target = Target { name: &volume.destination_volume_name, namespace: None, annotations: &annotations };
    let metadata = carried(&before.0, &dropped, &target);

    let mut spec = spec_of(&before.0);
    spec.shift_remove("volumeAttributesClassName");
    if let Some(in_tree) = spec.shift_remove("awsElasticBlockStore").filter(|source| !source.is_null()) {
        spec.insert("csi".to_owned(), csi_form(&in_tree, volume));
    } else if let Some(csi) = spec.get_mut("csi")
        && let Some(attributes) = csi.get_mut("volumeAttributes").and_then(Value::as_object_mut)
    {
        attributes.shift_remove(PROVISIONER_IDENTITY);
    }
    if !spec.get("capacity").is_some_and(Value::is_object) {
        spec.insert("capacity".to_owned(), json!({}));
    }
    spec["capacity"]["storage"] = gib_quantity(volume.size_gib).into();
    spec.insert("persistentVolumeReclaimPolicy".to_owned(), "Retain".into());
    // Of a PV, unlike of a claim, no class and the empty class are one, and the API shows it as missing.
    match destination_class(plan, volume) {
        "" => spec.shift_remove("storageClassName"),
        class => spec.insert("storageClassName".to_owned(), class.into()),
    };
    spec.insert("volumeMode".to_owned(), volume_mode(before).into());
    spec.insert("claimRef".to_owned(), claim_reference(&plan.destination.namespace, &volume.claim));
    spec.insert(
        "nodeAffinity".to_owned(),
        json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [
            { "key": "topology.kubernetes.io/zone", "operator": "In", "values": [volume.zone] },
        ] }] } }),
    );
    assembled(&before.0, Kind::PersistentVolume.api_version(), Kind::PersistentVolume.name(), metadata, spec)
}

/// Returns a reference that binds a PV to a claim by name, whatever uid it will have.
pub(super) fn claim_reference(namespace: &str, claim: &str) -> Value {
    json!({
        "apiVersion": Kind::PersistentVolumeClaim.api_version(),
        "kind": Kind::PersistentVolumeClaim.name(),
        "namespace": namespace,
        "name": claim,
    })
}

/// Returns the class of PV and claim in A: the claim's, else the PV's, else none, spelled out. Left
/// unset, the claim would get B's default (PV-13).
pub(super) fn source_class(volume: &VolumePlan) -> &str {
    volume.claim_before.class().or_else(|| volume.volume_before.class()).unwrap_or_default()
}

/// Returns the class of PV and claim in B.
pub(super) fn destination_class<'a>(plan: &'a Plan, volume: &'a VolumePlan) -> &'a str {
    mapped_class(plan, source_class(volume))
}

/// Returns what a StorageClass of A is called in B.
pub(super) fn mapped_class<'a>(plan: &'a Plan, class: &'a str) -> &'a str {
    plan.choices.storage_class_map.get(class).map_or(class, String::as_str)
}

/// Returns the volume mode of a PV or claim; the API's default is `Filesystem`.
pub(super) fn volume_mode(object: &Object) -> &str {
    object.text("/spec/volumeMode").unwrap_or("Filesystem")
}

/// Returns the CSI form of an in-tree source; fields that it shares with the CSI form keep their values.
fn csi_form(in_tree: &Value, volume: &VolumePlan) -> Value {
    let mut csi = Map::new();
    csi.insert("driver".to_owned(), EBS_DRIVER.into());
    csi.insert("volumeHandle".to_owned(), volume.volume.0.clone().into());
    for field in ["fsType", "readOnly"] {
        if let Some(value) = in_tree.get(field).filter(|value| !value.is_null()) {
            csi.insert(field.to_owned(), value.clone());
        }
    }
    // The driver takes 0 for the whole disk, as it takes a missing partition.
    if let Some(partition) = in_tree["partition"].as_i64().filter(|partition| *partition != 0) {
        csi.insert("volumeAttributes".to_owned(), json!({ "partition": partition.to_string() }));
    }
    Value::Object(csi)
}
