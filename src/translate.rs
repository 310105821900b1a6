//! From A's object to B's, field by field, on raw JSON; and back from the before-images.
//!
//! Raw, so that fields which no typed struct knows survive. Idempotent on its own output. No I/O.

use serde_json::Value;

use crate::plan::{Plan, ServicePlan, SetPlan, VolumePlan};

/// Returns B's PersistentVolume for a volume of the plan.
pub fn volume(_plan: &Plan, _volume: &VolumePlan) -> Value {
    todo!()
}

/// Returns B's claim for a volume of the plan, pre-bound to [`volume`].
pub fn claim(_plan: &Plan, _volume: &VolumePlan) -> Value {
    todo!()
}

/// Returns B's set, with 0 replicas and Retain/Retain.
pub fn set(_plan: &Plan, _set: &SetPlan) -> Value {
    todo!()
}

/// Returns B's Service or Ingress.
pub fn service(_plan: &Plan, _service: &ServicePlan) -> Value {
    todo!()
}

/// Returns A's PersistentVolume again, from its before-image: `Retain`, claimRef without uid.
pub fn volume_again(_plan: &Plan, _volume: &VolumePlan) -> Value {
    todo!()
}

/// Returns A's claim again, from its before-image, pre-bound to [`volume_again`].
pub fn claim_again(_plan: &Plan, _volume: &VolumePlan) -> Value {
    todo!()
}

/// Returns A's set again, from its before-image, with everything it had.
pub fn set_again(_plan: &Plan, _set: &SetPlan) -> Value {
    todo!()
}
