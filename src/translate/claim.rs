//! B's claim, pre-bound to its PV.
//!
//! Without `volumeName` an empty volume would be provisioned (PV-4); without an explicit class B's default
//! would be filled in (PV-13); with a request above the capacity B's resizer would modify the volume (PV-14).

use serde_json::{Value, json};

use super::metadata::{BIND_ANNOTATIONS, Target, assembled, carried, spec_of};
use super::volume::{destination_class, volume_mode};
use crate::plan::{MIGRATION_ANNOTATION, Plan, VolumePlan};
use crate::world::{CLASS_ANNOTATION, GIB, Kind, gib_quantity, quantity_bytes};

/// Fields of a claim's spec that ask for a volume which is there already, or for another one.
pub(super) const DROPPED_FIELDS: [&str; 4] = ["selector", "dataSource", "dataSourceRef", "volumeAttributesClassName"];

/// Returns B's claim for a volume of the plan, pre-bound to [`volume`](super::volume()).
pub fn claim(plan: &Plan, volume: &VolumePlan) -> Value {
    let before = &volume.claim_before;
    let mut dropped = BIND_ANNOTATIONS.to_vec();
    dropped.extend([CLASS_ANNOTATION, "pv.kubernetes.io/migrated-to"]);
    let target = Target {
        name: &volume.claim,
        namespace: Some(&plan.destination.namespace),
        annotations: &[(MIGRATION_ANNOTATION, &plan.mark())],
    };
    let metadata = carried(&before.0, &dropped, &target);

    let mut spec = spec_of(&before.0);
    for field in DROPPED_FIELDS {
        spec.shift_remove(field);
    }
    spec.insert("volumeName".to_owned(), volume.destination_volume_name.clone().into());
    spec.insert("storageClassName".to_owned(), destination_class(plan, volume).into());
    // A claim made before volume modes existed has none; then its PV says.
    let mode = before.text("/spec/volumeMode").unwrap_or_else(|| volume_mode(&volume.volume_before));
    spec.insert("volumeMode".to_owned(), mode.into());
    if !spec.get("resources").is_some_and(Value::is_object) {
        spec.insert("resources".to_owned(), json!({}));
    }
    if !spec["resources"]["requests"].is_object() {
        spec["resources"]["requests"] = json!({});
    }
    spec["resources"]["requests"]["storage"] = request(volume).into();
    assembled(&before.0, Kind::PersistentVolumeClaim.api_version(), Kind::PersistentVolumeClaim.name(), metadata, spec)
}

/// Returns the smaller of the claim's request and the volume's size, the request in its own words.
pub(super) fn request(volume: &VolumePlan) -> String {
    let size = u128::try_from(volume.size_gib).unwrap_or_default() * GIB;
    match volume.claim_before.text("/spec/resources/requests/storage") {
        Some(request) if quantity_bytes(request).is_some_and(|bytes| bytes <= size) => request.to_owned(),
        _ => gib_quantity(volume.size_gib),
    }
}
