//! All pairs of PersistentVolume and claim that a plan makes in B, translated once.

use std::collections::BTreeMap;

use super::{claim, volume};
use crate::plan::{Plan, VolumePlan};
use crate::world::Object;

/// B's pairs by claim. The live ones are compared with them at every decision, which for a thousand
/// replicas must not translate two thousand objects each time.
#[derive(Clone, Debug)]
pub struct Pairs(BTreeMap<String, Pair>);

#[derive(Clone, Debug)]
struct Pair {
    volume: Object,
    claim: Object,
}

impl Pairs {
    /// Translates all pairs of a plan.
    pub fn of(plan: &Plan) -> Pairs {
        let pair = |planned| Pair { volume: Object(volume(plan, planned)), claim: Object(claim(plan, planned)) };
        Pairs(plan.volumes().map(|planned| (planned.claim.clone(), pair(planned))).collect())
    }

    /// Returns B's PersistentVolume for a volume of the plan.
    pub fn volume(&self, planned: &VolumePlan) -> &Object {
        &self.get(planned).volume
    }

    /// Returns B's claim for a volume of the plan.
    pub fn claim(&self, planned: &VolumePlan) -> &Object {
        &self.get(planned).claim
    }

    fn get(&self, planned: &VolumePlan) -> &Pair {
        self.0.get(&planned.claim).expect("the pairs are those of the plan")
    }
}
