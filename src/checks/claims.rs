//! The claims: complete and Bound (PF-13), what their policies are (PF-14), not being resized
//! (PF-21), and those of ordinals out of range (PF-36).

use super::case::{Case, Claim, Role};
use super::scope::subject;
use super::{Finding, Level};
use crate::names::some;
use crate::plan::IdleClaims;
use crate::world::{GIB, Kind, Object, Side, quantity_bytes};

/// PF-13: every claim is there and Bound to its PV, and the PV to it; neither is being deleted; no
/// pod owns a claim (deleting that pod would collect it, GC-6).
pub(super) fn bound(case: &Case<'_>) -> Vec<Finding> {
    let kinds = [Kind::PersistentVolumeClaim, Kind::PersistentVolume];
    let doubts: Vec<Finding> = kinds
        .into_iter()
        .filter_map(|kind| case.scope.doubt("PF-13", Level::Blocks, Side::Source, kind, "whether the claims are Bound"))
        .collect();
    if !doubts.is_empty() {
        return doubts;
    }
    case.claims.iter().flat_map(|claim| one_bound(case, claim)).collect()
}

fn one_bound(case: &Case<'_>, claim: &Claim<'_>) -> Vec<Finding> {
    let kubectl = case.source(Kind::PersistentVolumeClaim);
    let describe = format!("`{kubectl} describe pvc {}`", claim.name);
    let blocks = |subject: String, what: String, remedy: String| Finding {
        code: "PF-13",
        level: Level::Blocks,
        subject,
        what,
        remedy,
    };
    let Some(object) = claim.claim else {
        let whose = match claim.role {
            Role::Ordinal(ordinal) => format!("pod {} needs it", case.pod_name(ordinal)),
            Role::Plain(_) | Role::Idle | Role::Alone => "the pod template names it".to_owned(),
        };
        return vec![blocks(
            claim.subject(),
            format!("it is not there, but {whose}"),
            format!(
                "see why with `{kubectl} get pvc` and `{kubectl} get events`; let the set's controller make it, or restore it"
            ),
        )];
    };
    let mut findings = Vec::new();
    if object.is_terminating() {
        findings.push(blocks(
            claim.subject(),
            "it is being deleted, and goes as soon as no pod uses it".to_owned(),
            format!(
                "{describe}; a deletion cannot be taken back: set the PV to Retain, then let claim and PV be made anew"
            ),
        ));
    }
    let pods: Vec<String> =
        object.owners().filter(|owner| owner.kind == "Pod").map(|owner| owner.name.to_owned()).collect();
    if !pods.is_empty() {
        let (of, remedy) = match claim.role {
            Role::Alone => ("", format!("such a claim is the pod's own, and moves with nothing else ({describe})")),
            _ => (
                ", of a scale-down that did not end",
                format!(
                    "let the scale-down end, or scale up again: `{} scale statefulset {} --replicas=N`",
                    case.source(Kind::StatefulSet),
                    case.set.name()
                ),
            ),
        };
        let what = format!("it belongs to pod {}{of}: the claim is deleted with the pod", some(&pods));
        findings.push(blocks(claim.subject(), what, remedy));
    }
    let Some(volume) = claim.volume else {
        let what = match object.text("/spec/volumeName") {
            Some(volume) => format!("it names PersistentVolume {volume}, which is not there"),
            None => {
                format!("it is {} and names no PersistentVolume", object.text("/status/phase").unwrap_or("Pending"))
            }
        };
        findings.push(blocks(claim.subject(), what, format!("{describe}; it must be Bound")));
        return findings;
    };
    if volume.is_terminating() {
        findings.push(blocks(
            claim.volume_subject(),
            "it is being deleted: it cannot be attached again in the source".to_owned(),
            format!(
                "`{} describe pv {}`; it goes when its claim does, so the pair must be made anew first",
                case.source(Kind::PersistentVolume),
                volume.name()
            ),
        ));
    }
    if !volume.is_bound_to(object) {
        let phase = |object: &Object| object.text("/status/phase").unwrap_or("Pending").to_owned();
        findings.push(blocks(
            claim.subject(),
            format!(
                "it and PersistentVolume {} are not Bound to each other (claim {}, PV {})",
                volume.name(),
                phase(object),
                phase(volume)
            ),
            format!("{describe}; `{} describe pv {}`", case.source(Kind::PersistentVolume), volume.name()),
        ));
    }
    findings
}

/// PF-14: what prepare changes, and what comes back at the end.
pub(super) fn policies(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let volumes: Vec<String> = case
        .claims
        .iter()
        .filter_map(|claim| claim.volume)
        .filter(|volume| volume.text("/spec/persistentVolumeReclaimPolicy") != Some("Retain"))
        .map(|volume| volume.name().to_owned())
        .collect();
    if !volumes.is_empty() {
        findings.push(Finding {
            code: "PF-14",
            level: Level::Tells,
            subject: format!("PersistentVolumes {} (source)", some(&volumes)),
            what:
                "their reclaim policy becomes Retain for the time of the move, and goes to the destination at the end"
                    .to_owned(),
            remedy: format!(
                "nothing is to be done; `{} get pv` shows the policies",
                case.source(Kind::PersistentVolume)
            ),
        });
    }
    let policy =
        |when| case.set.at("/spec/persistentVolumeClaimRetentionPolicy").and_then(|policy| policy[when].as_str());
    if [policy("whenDeleted"), policy("whenScaled")].into_iter().flatten().any(|policy| policy != "Retain") {
        findings.push(case.finding(
            "PF-14",
            Level::Tells,
            format!(
                "its claim retention policy (whenDeleted {}, whenScaled {}) becomes Retain for the time of the move, and goes to the destination at the end",
                policy("whenDeleted").unwrap_or("Retain"),
                policy("whenScaled").unwrap_or("Retain")
            ),
            "nothing is to be done; `rollback` gives it back to the source".to_owned(),
        ));
    }
    findings
}

/// PF-36: claims of ordinals out of range hold old data that a later scale-up would want; a person
/// decides what becomes of them (SS-9).
pub(super) fn idle(case: &Case<'_>) -> Vec<Finding> {
    let names: Vec<String> = case.idle.iter().map(|claim| claim.name().to_owned()).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let (level, what) = match case.scope.request.idle_claims {
        IdleClaims::Undecided => (Level::Blocks, "nobody has said what becomes of them"),
        IdleClaims::Include => (Level::Tells, "they move too, without a pod"),
        IdleClaims::Leave => (
            Level::Tells,
            "they stay in the source, untouched: a scale-up in the destination starts with empty volumes",
        ),
    };
    let range = match case.ordinals.end - case.ordinals.start {
        0 => "the set has 0 replicas".to_owned(),
        _ => format!("the set runs ordinals {} to {}", case.ordinals.start, case.ordinals.end - 1),
    };
    vec![Finding {
        code: "PF-36",
        level,
        subject: format!("PersistentVolumeClaims {} (source)", some(&names)),
        what: format!("they are of the set's templates, but {range}: {what}"),
        remedy: "add `--include-idle-claims` to move them too, or `--leave-idle-claims` to leave them as they are"
            .to_owned(),
    }]
}

/// PF-21: no resize or modification is under way; EC2's size is the PV's.
pub(super) fn resizes(case: &Case<'_>) -> Vec<Finding> {
    case.claims.iter().flat_map(|claim| one_resize(case, claim)).collect()
}

fn one_resize(case: &Case<'_>, claim: &Claim<'_>) -> Vec<Finding> {
    let (Some(object), Some(volume)) = (claim.claim, claim.volume) else { return Vec::new() };
    let mut findings = Vec::new();
    let mut pending: Vec<String> = ["Resizing", "FileSystemResizePending", "ModifyingVolume"]
        .into_iter()
        .filter(|kind| object.condition(kind) == Some("True"))
        .map(|kind| format!("condition {kind}"))
        .collect();
    if object
        .at("/status/allocatedResourceStatuses")
        .and_then(|value| value.as_object())
        .is_some_and(|map| !map.is_empty())
    {
        pending.push("status.allocatedResourceStatuses".to_owned());
    }
    if object.at("/status/modifyVolumeStatus").is_some() {
        pending.push("status.modifyVolumeStatus".to_owned());
    }
    if volume.annotation("volume.alpha.kubernetes.io/pre-resize-capacity").is_some() {
        pending.push("the PV's annotation pre-resize-capacity".to_owned());
    }
    let bytes = |object: &Object, pointer: &str| object.text(pointer).and_then(quantity_bytes);
    let capacity = bytes(volume, "/spec/capacity/storage");
    if let (Some(wanted), Some(capacity)) = (bytes(object, "/spec/resources/requests/storage"), capacity)
        && wanted > capacity
    {
        pending.push("it requests more than the PV has".to_owned());
    }
    let describe = format!("`{} describe pvc {}`", case.source(Kind::PersistentVolumeClaim), claim.name);
    if !pending.is_empty() {
        findings.push(Finding {
            code: "PF-21",
            level: Level::Blocks,
            subject: claim.subject(),
            what: format!("a resize or modification of it is not finished: {}", some(&pending)),
            remedy: format!("wait until it is ({describe}; a pending file system grows when the pod starts again), then run this again"),
        });
    }
    if let (Some(ec2), Some(capacity)) = (claim.ec2(case.world()), capacity) {
        let size = u128::try_from(ec2.size_gib).unwrap_or(0) * GIB;
        if size != capacity {
            findings.push(Finding {
                code: "PF-21",
                level: Level::Warns,
                subject: subject(Side::Source, Kind::PersistentVolume, volume.name()),
                what: format!(
                    "its capacity is {}, but the volume in EC2 has {} GiB, which is what the destination will say",
                    volume.text("/spec/capacity/storage").unwrap_or_default(),
                    ec2.size_gib
                ),
                remedy: format!("find out who resized it ({describe}); the data is not touched"),
            });
        }
    }
    findings
}
