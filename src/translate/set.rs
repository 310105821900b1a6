//! B's set: A's, with 0 replicas and Retain/Retain.
//!
//! The spec stays as it is, fields of newer API versions included: a fresh set starts every pod from it
//! (SS-3, SS-4). Only the claim templates lose what would reach the claims that B's controller makes of
//! them at later scale-ups.

use serde_json::{Map, Value, json};

use super::metadata::{Target, assembled, carried, clean_embedded, spec_of};
use super::volume::mapped_class;
use crate::plan::{MIGRATION_ANNOTATION, Plan, SetPlan};
use crate::world::{CLASS_ANNOTATION, Kind};

/// Fields of a claim template's spec that name one volume or one source for all claims to come, or volumes
/// that somebody laid out in A: with a `selector` no volume is provisioned.
/// <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#selector>
pub(super) const DROPPED_TEMPLATE_FIELDS: [&str; 4] = ["volumeName", "selector", "dataSource", "dataSourceRef"];

/// Returns B's set, with 0 replicas and Retain/Retain.
pub fn set(plan: &Plan, set: &SetPlan) -> Value {
    let before = &set.before;
    let target = Target {
        name: &set.name,
        namespace: Some(&plan.destination.namespace),
        annotations: &[(MIGRATION_ANNOTATION, &plan.mark())],
    };
    let metadata = carried(&before.0, &[], &target);

    let mut spec = spec_of(&before.0);
    spec.insert("replicas".to_owned(), 0.into());
    spec.insert(
        "persistentVolumeClaimRetentionPolicy".to_owned(),
        json!({ "whenDeleted": "Retain", "whenScaled": "Retain" }),
    );
    if let Some(templates) = spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut) {
        for template in templates.iter_mut().filter_map(Value::as_object_mut) {
            clean_template(plan, template);
        }
    }
    assembled(&before.0, Kind::StatefulSet.api_version(), Kind::StatefulSet.name(), metadata, spec)
}

fn clean_template(plan: &Plan, template: &mut Map<String, Value>) {
    template.shift_remove("status");
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        clean_embedded(metadata);
        if let Some(class) = metadata.get_mut("annotations").and_then(|found| found.get_mut(CLASS_ANNOTATION)) {
            map_class(plan, class);
        }
    }
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        for field in DROPPED_TEMPLATE_FIELDS {
            spec.shift_remove(field);
        }
        // A template without a class stays without one: B's default decides for later scale-ups.
        if let Some(class) = spec.get_mut("storageClassName") {
            map_class(plan, class);
        }
    }
}

fn map_class(plan: &Plan, class: &mut Value) {
    if let Some(name) = class.as_str() {
        *class = mapped_class(plan, name).into();
    }
}
