//! A claim that shall move alone, without a set: is it there, and no set's own (PF-7), and let go of by
//! A's nodes (PF-18)? What uses it by a pod or a template is `users`' to say, as for the claims of a set.

use super::case::{Case, Claim, Role};
use super::scope::{Scope, subject};
use super::{Finding, Level};
use crate::names::there_are;
use crate::record::Subject;
use crate::world::{Answer, Holder, Kind, Object, Side, claim_name};

/// PF-7: there is such a claim.
pub(super) fn exists(scope: &Scope<'_>) -> Vec<Finding> {
    let (side, kind, name) = (Side::Source, Kind::PersistentVolumeClaim, scope.request.name.as_str());
    match scope.world.get(side, kind, name) {
        Answer::Present { .. } => return Vec::new(),
        Answer::Unread | Answer::Unknown(_) => {
            return scope.doubt_one("PF-7", Level::Blocks, side, kind, name).into_iter().collect();
        }
        Answer::Absent { .. } => {}
    }
    let namespace = &scope.request.source.namespace;
    let claims = || scope.world.objects(side, kind).map(Object::name);
    // The name of something near it: the set that has such claims, or the PV that a claim is bound to.
    let set = scope.world.object(side, Kind::StatefulSet, name);
    let bound = scope.world.object(side, Kind::PersistentVolume, name);
    let bound = bound.filter(|volume| volume.text("/spec/claimRef/namespace") == Some(namespace));
    let (what, remedy) = match (set, bound.and_then(|volume| volume.text("/spec/claimRef/name"))) {
        (Some(_), _) => (
            "there is no such claim, but a StatefulSet of that name".to_owned(),
            format!("move the set with its claims: `{}`", scope.of_set(name, "")),
        ),
        (None, Some(claim)) => (
            format!("there is no such claim; PersistentVolume {name} is bound to claim {claim}"),
            format!("name the claim: `{}`", scope.of_claim(claim)),
        ),
        (None, None) => (
            format!("there is no such claim in namespace {namespace}; {}", there_are("claims", name, claims())),
            format!("`{} get pvc` lists what there is", scope.kubectl(side, kind)),
        ),
    };
    vec![Finding { code: "PF-7", level: Level::Blocks, subject: subject(side, kind, name), what, remedy }]
}

/// PF-7: it is no set's own. The claims of a set move with it; at rest (0 replicas) a person may say
/// that the set does not need this one.
pub(super) fn of_a_set(case: &Case<'_>) -> Vec<Finding> {
    let side = Side::Source;
    if case.scope.request.subject == Subject::Set {
        return Vec::new();
    }
    // That sets could not be listed is said with the other workloads.
    case.world().objects(side, Kind::StatefulSet).filter_map(|set| owned(case, set)).collect()
}

fn owned(case: &Case<'_>, set: &Object) -> Option<Finding> {
    let claim = case.scope.request.name.as_str();
    let ordinal = set.claim_templates().find_map(|template| {
        let ordinal: i64 = claim.strip_prefix(&format!("{template}-{}-", set.name()))?.parse().ok()?;
        (ordinal >= 0 && claim_name(template, set.name(), ordinal) == claim).then_some(ordinal)
    })?;
    let first = set.first_ordinal();
    let range = first..first + set.replicas();
    let is_in_range = range.contains(&ordinal);
    let (level, what, flags) = match (set.replicas(), is_in_range) {
        (0, _) => (Level::Forceable, "has 0 replicas now, but scaled up it wants this claim", "--include-idle-claims"),
        (_, true) => (Level::Blocks, "runs on it", ""),
        (_, false) => (Level::Blocks, "has it of an ordinal that it does not run now", "--include-idle-claims"),
    };
    let force = if level == Level::Forceable { "; or add `--force` to move this claim without it" } else { "" };
    Some(Finding {
        code: "PF-7",
        level,
        subject: case.subject(),
        what: format!("it is a claim of StatefulSet {}, which {what}", set.name()),
        remedy: format!("move the set with its claims: `{}`{force}", case.scope.of_set(set.name(), flags)),
    })
}

/// PF-18: no node of A has the volume: without a pod that `users` names, one that still has it is
/// letting it go, or holds on to it.
pub(super) fn held(case: &Case<'_>) -> Vec<Finding> {
    let is_used = |claim: &Claim<'_>| {
        let mut pods = case.world().objects(Side::Source, Kind::Pod).filter(|pod| !pod.is_finished_pod());
        pods.any(|pod| pod.claim_names().any(|name| name == claim.name))
    };
    let alone = case.claims.iter().filter(|claim| claim.role == Role::Alone && !is_used(claim));
    alone
        .filter_map(|claim| {
            let id = claim.id.as_ref()?;
            let state = match case.world().holder(id) {
                Holder::Side(Side::Source) => "attached to",
                Holder::Moving(Side::Source) => "being attached to or detached from",
                Holder::Side(Side::Destination) | Holder::Moving(Side::Destination) => return None,
                Holder::Free | Holder::Other(_) | Holder::Unknown => return None,
            };
            let node = claim.ec2(case.world())?.attachments.last()?.instance.clone();
            Some(Finding {
                code: "PF-18",
                level: Level::Blocks,
                subject: claim.id_subject(),
                what: format!("it is {state} instance {node} of the source"),
                remedy: format!(
                    "end what uses the claim, and wait until the volume is detached (`--wait` does); `{} get volumeattachments` shows where it is",
                    case.source(Kind::VolumeAttachment)
                ),
            })
        })
        .collect()
}
