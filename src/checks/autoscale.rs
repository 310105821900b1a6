//! Does something scale the set? (PF-10, OP-4)
//!
//! An autoscaler in B raises the replicas past what was handed over, and B's controller then creates
//! *empty* claims. An autoscaler's minimum and maximum hold even while its scaling is disabled, so
//! only its absence is good enough.

use super::case::Case;
use super::scope::subject;
use super::{Finding, Level};
use crate::world::{Kind, Object, Side};

/// PF-10: no HorizontalPodAutoscaler, no ScaledObject that is not paused, no evicting
/// VerticalPodAutoscaler on the set, in both clusters.
pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let scalers = [Kind::HorizontalPodAutoscaler, Kind::ScaledObject];
    let mut findings = case.scope.doubts("PF-10", Level::Blocks, &scalers, "whether something scales the set");
    let evictors = [Kind::VerticalPodAutoscaler];
    findings.extend(case.scope.doubts("PF-10", Level::Warns, &evictors, "whether something evicts the set's pods"));
    for side in Side::BOTH {
        for found in targets(case, side, Kind::HorizontalPodAutoscaler, "/spec/scaleTargetRef") {
            // KEDA's own is dealt with through the ScaledObject that made it.
            if !found.owners().any(|owner| owner.kind == "ScaledObject") {
                findings.push(horizontal(case, side, found));
            }
        }
        for found in targets(case, side, Kind::ScaledObject, "/spec/scaleTargetRef") {
            if !is_paused(side, found) {
                findings.push(scaled_object(case, side, found));
            }
        }
        for found in targets(case, side, Kind::VerticalPodAutoscaler, "/spec/targetRef") {
            let mode = found.text("/spec/updatePolicy/updateMode").unwrap_or("Auto");
            if !matches!(mode, "Off" | "Initial") {
                findings.push(vertical(case, side, found, mode));
            }
        }
    }
    findings
}

fn targets<'a>(case: &Case<'a>, side: Side, kind: Kind, pointer: &'static str) -> impl Iterator<Item = &'a Object> {
    let name = case.set.name();
    case.world().objects(side, kind).filter(move |object| {
        object.at(pointer).is_some_and(|target| target["kind"] == "StatefulSet" && target["name"] == name)
    })
}

fn is_paused(side: Side, found: &Object) -> bool {
    found.annotation("autoscaling.keda.sh/paused") == Some("true")
        // This one first scales to its number, which in B would be past what was handed over.
        || side == Side::Source && found.annotation("autoscaling.keda.sh/paused-replicas").is_some()
}

fn horizontal(case: &Case<'_>, side: Side, found: &Object) -> Finding {
    let kind = Kind::HorizontalPodAutoscaler;
    let (kubectl, name) = (case.scope.kubectl(side, kind), found.name());
    Finding {
        code: "PF-10",
        level: Level::Blocks,
        subject: subject(side, kind, name),
        what: "it scales the set, and could make empty volumes while the set moves".to_owned(),
        remedy: format!(
            "put it aside: `{kubectl} get hpa {name} -o yaml > {name}-hpa.yaml`, then `{kubectl} delete hpa {name}`; apply it in the destination when the move is done"
        ),
    }
}

fn scaled_object(case: &Case<'_>, side: Side, found: &Object) -> Finding {
    let kind = Kind::ScaledObject;
    let (kubectl, name) = (case.scope.kubectl(side, kind), found.name());
    Finding {
        code: "PF-10",
        level: Level::Blocks,
        subject: subject(side, kind, name),
        what: "it scales the set, and could make empty volumes while the set moves".to_owned(),
        remedy: format!("pause it: `{kubectl} annotate scaledobject {name} autoscaling.keda.sh/paused=true`"),
    }
}

fn vertical(case: &Case<'_>, side: Side, found: &Object, mode: &str) -> Finding {
    let kind = Kind::VerticalPodAutoscaler;
    let (kubectl, name) = (case.scope.kubectl(side, kind), found.name());
    Finding {
        code: "PF-10",
        level: Level::Forceable,
        subject: subject(side, kind, name),
        what: format!(
            "its mode {mode} evicts pods of the set, which nobody restarts between the freeze and their turn"
        ),
        remedy: format!(
            "`{kubectl} patch vpa {name} --type merge -p '{{\"spec\":{{\"updatePolicy\":{{\"updateMode\":\"Off\"}}}}}}'`, or add `--force`"
        ),
    }
}
