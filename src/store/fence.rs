//! Fencing: after a take-over, what the former holder's late call could hit is touched first.
//!
//! Every update and delete carries uid and resourceVersion. An object whose resourceVersion grew
//! after the take-over therefore fails a call that was made up before it with 409 (§3.1). A late
//! *create* cannot be fenced; it is looked for at the next step.

use futures::StreamExt;
use futures::stream;
use serde_json::{Value, json};

use crate::act;
use crate::connect::{Endpoints, path};
use crate::observe::{self, PARALLEL};
use crate::plan::{Plan, TOUCHED_ANNOTATION};
use crate::record::Subject;
use crate::world::{Kind, Side};

/// How often a mark is tried to be taken away again while others write the object.
const TRIES: usize = 5;

/// Touches every object of the plan that is there, in both clusters.
///
/// # Errors
/// An object could neither be touched nor found changed or gone.
pub(crate) async fn fence(endpoints: &Endpoints, plan: &Plan) -> anyhow::Result<()> {
    let mut touches = stream::iter(targets(plan))
        .map(|(side, kind, name)| async move { touch(endpoints, side, kind, &name).await })
        .buffer_unordered(PARALLEL);
    while let Some(touched) = touches.next().await {
        touched?;
    }
    Ok(())
}

/// Returns everything that a call of this migration may change or delete by name.
fn targets(plan: &Plan) -> Vec<(Side, Kind, String)> {
    let mut targets = Vec::new();
    for side in Side::BOTH {
        targets.push((side, Kind::ConfigMap, plan.stem()));
        for set in &plan.sets {
            if plan.subject() == Subject::Set {
                targets.push((side, Kind::StatefulSet, set.name.clone()));
            }
            for ordinal in &set.ordinals {
                targets.push((side, Kind::Pod, set.pod_name(ordinal.ordinal)));
            }
            for service in set.services.iter().filter(|it| side == Side::Destination && !it.existing) {
                targets.push((side, service.kind(), service.before.name().to_owned()));
            }
            for volume in set.volumes() {
                targets.push((side, Kind::PersistentVolumeClaim, volume.claim.clone()));
                targets.push((side, Kind::PersistentVolume, volume.volume_name(side).to_owned()));
            }
        }
    }
    targets
}

async fn touch(endpoints: &Endpoints, side: Side, kind: Kind, name: &str) -> anyhow::Result<()> {
    // What counts is that the object was written; the mark is taken away again.
    let mark = Value::from(jiff::Timestamp::now().to_string());
    for value in std::iter::once(mark).chain(std::iter::repeat_n(Value::Null, TRIES)) {
        let found = observe::get(endpoints.cluster(side), kind, name).await;
        let failed = |reason: &str| anyhow::anyhow!("touch {kind} `{name}` in the {side} cluster: {reason}");
        let Some(object) = found.map_err(|unknown| failed(&unknown.reason))? else {
            return Ok(());
        };
        if value.is_null() && object.annotation(TOUCHED_ANNOTATION).is_none() {
            return Ok(());
        }
        let at = path(kind, &endpoints.cluster(side).namespace, Some(name));
        let patch = json!({ "metadata": { "annotations": { TOUCHED_ANNOTATION: value } } });
        match endpoints.cluster(side).call(act::patch(at, object.uid(), object.resource_version(), patch)).await {
            // A conflict is somebody else's write after our read: that fences as well.
            Ok(_) => {}
            Err(error) if matches!(error.code(), Some(404 | 409)) => {}
            Err(error) => return Err(failed(&error.to_string())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    /// A Service that was in B before is nobody's to write to.
    #[test]
    fn what_was_in_the_destination_before_is_not_touched() {
        let mut plan = fixtures::plan(1, 1);
        let service = &mut plan.sets[0].services[0];
        let target = (Side::Destination, service.kind(), service.before.name().to_owned());
        assert!(targets(&plan).contains(&target));
        plan.sets[0].services[0].existing = true;
        assert!(!targets(&plan).contains(&target));
    }
}
