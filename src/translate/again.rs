//! A's objects again, from their before-images: what rollback makes when they are gone (§6).
//!
//! Nothing is translated back. Labels, annotations and spec are those that they had, so that the
//! surviving pods are adopted by an equal revision and not restarted (GC-8, I-19).

use serde_json::Value;

use super::metadata::{BIND_ANNOTATIONS, Target, assembled, restored, spec_of};
use super::volume::{claim_reference, source_class};
use crate::plan::{MIGRATION_ANNOTATION, Plan, RECLAIM_POLICY_ANNOTATION, SetPlan, VolumePlan};
use crate::world::Kind;

/// Returns A's PersistentVolume again, from its before-image: `Retain`, claimRef without uid.
pub fn volume_again(plan: &Plan, volume: &VolumePlan) -> Value {
    let before = &volume.volume_before;
    let target = Target {
        name: &volume.source_volume_name,
        namespace: None,
        annotations: &[(MIGRATION_ANNOTATION, &plan.mark()), (RECLAIM_POLICY_ANNOTATION, &volume.reclaim_policy)],
    };
    let metadata = restored(&before.0, &BIND_ANNOTATIONS, &target);
    let mut spec = spec_of(&before.0);
    spec.insert("persistentVolumeReclaimPolicy".to_owned(), "Retain".into());
    spec.insert("claimRef".to_owned(), claim_reference(&plan.source.namespace, &volume.claim));
    assembled(&before.0, Kind::PersistentVolume.api_version(), Kind::PersistentVolume.name(), metadata, spec)
}

/// Returns A's claim again, from its before-image, pre-bound to [`volume_again`].
pub fn claim_again(plan: &Plan, volume: &VolumePlan) -> Value {
    let before = &volume.claim_before;
    let target = Target { name: &volume.claim, namespace: Some(&plan.source.namespace), annotations: &[] };
    let metadata = restored(&before.0, &BIND_ANNOTATIONS, &target);
    let mut spec = spec_of(&before.0);
    spec.insert("volumeName".to_owned(), volume.source_volume_name.clone().into());
    if before.class().is_none() {
        // It was made before A had its default class, which would be filled in now.
        spec.insert("storageClassName".to_owned(), source_class(volume).into());
    }
    assembled(&before.0, Kind::PersistentVolumeClaim.api_version(), Kind::PersistentVolumeClaim.name(), metadata, spec)
}

/// Returns A's set again, from its before-image, with everything it had.
pub fn set_again(plan: &Plan, set: &SetPlan) -> Value {
    let before = &set.before;
    let target = Target { name: &set.name, namespace: Some(&plan.source.namespace), annotations: &[] };
    let metadata = restored(&before.0, &[], &target);
    assembled(&before.0, Kind::StatefulSet.api_version(), Kind::StatefulSet.name(), metadata, spec_of(&before.0))
}
