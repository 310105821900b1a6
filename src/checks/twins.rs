//! Is anything in the way: another PV of the same volume (PF-19), objects in B under the names that
//! are needed, pods that only look like the set's (PF-20)?

use std::collections::BTreeSet;

use super::case::Case;
use super::scope::subject;
use super::{Finding, Level};
use crate::names::some;
use crate::plan::RETAIN_PATCH;
use crate::world::{Kind, Object, Side, VolumeId, idle_claims};

/// PF-19: each volume is named by one PV in A and by none in B. A twin with `Delete` deletes the
/// volume when it is let go, weeks later if need be.
pub(super) fn handles(case: &Case<'_>) -> Vec<Finding> {
    let mut findings =
        case.scope.doubts("PF-19", Level::Blocks, &[Kind::PersistentVolume], "whether another PV names the volumes");
    let own: BTreeSet<&str> = case.claims.iter().filter_map(|claim| claim.volume).map(Object::name).collect();
    let volumes: BTreeSet<&VolumeId> = case.claims.iter().filter_map(|claim| claim.id.as_ref()).collect();
    for side in Side::BOTH {
        let mut seen: BTreeSet<VolumeId> = BTreeSet::new();
        // Own PVs first: of two that name one volume the second is the twin, even if it is the set's own.
        let (first, then): (Vec<&Object>, Vec<&Object>) = case
            .world()
            .objects(side, Kind::PersistentVolume)
            .partition(|volume| side == Side::Source && own.contains(volume.name()));
        for (is_own, volume) in
            first.into_iter().map(|volume| (true, volume)).chain(then.into_iter().map(|volume| (false, volume)))
        {
            let Some(id) = volume.volume_id().filter(|id| volumes.contains(id)) else { continue };
            let is_fine = match side {
                Side::Source => is_own && !seen.contains(&id),
                Side::Destination => case.is_ours(volume),
            };
            if !is_fine {
                findings.push(twin(case, side, volume.name(), &id));
            }
            seen.insert(id);
        }
        for pod in case.world().objects(side, Kind::Pod).filter(|pod| !pod.is_finished_pod()) {
            for volume in pod.array("/spec/volumes") {
                let handle = volume.pointer("/awsElasticBlockStore/volumeID").and_then(|handle| handle.as_str());
                let id = handle.and_then(|handle| handle.rsplit('/').next()).map(|id| VolumeId(id.to_owned()));
                if let Some(id) = id.filter(|id| volumes.contains(id)) {
                    findings.push(inline(case, side, pod, &id));
                }
            }
        }
    }
    findings
}

fn twin(case: &Case<'_>, side: Side, name: &str, id: &VolumeId) -> Finding {
    let kubectl = case.scope.kubectl(side, Kind::PersistentVolume);
    Finding {
        code: "PF-19",
        level: Level::Blocks,
        subject: subject(side, Kind::PersistentVolume, name),
        what: format!("it names volume {id} too: deleting it could delete the volume that moves"),
        remedy: format!(
            "make sure that nothing uses it, then `{kubectl} patch pv {name} -p {RETAIN_PATCH}` and \
             `{kubectl} delete pv {name}`"
        ),
    }
}

fn inline(case: &Case<'_>, side: Side, pod: &Object, id: &VolumeId) -> Finding {
    Finding {
        code: "PF-19",
        level: Level::Blocks,
        subject: subject(side, Kind::Pod, pod.name()),
        what: format!("it names volume {id} itself, past any claim"),
        remedy: format!("stop what makes it: `{} delete pod {}`", case.scope.kubectl(side, Kind::Pod), pod.name()),
    }
}

/// PF-20: in B no set, claim or pod has one of the names; in A no stray pod has one.
pub(super) fn destination(case: &Case<'_>) -> Vec<Finding> {
    let side = Side::Destination;
    let mut findings: Vec<Finding> = [Kind::StatefulSet, Kind::PersistentVolumeClaim, Kind::Pod]
        .into_iter()
        .filter_map(|kind| case.scope.doubt("PF-20", Level::Blocks, side, kind, "whether the names are free"))
        .collect();
    if let Some(set) = case.world().object(side, Kind::StatefulSet, case.set.name()).filter(|set| !case.is_ours(set)) {
        findings.push(taken(
            case,
            Kind::StatefulSet,
            set,
            "a set of that name is there already, and it is not of this migration",
        ));
    }
    for claim in &case.claims {
        let found = case.world().object(side, Kind::PersistentVolumeClaim, &claim.name);
        if let Some(found) = found.filter(|found| !case.is_ours(found)) {
            let what = "a claim of that name is there already: pods would run on its volume instead of the moved one";
            findings.push(taken(case, Kind::PersistentVolumeClaim, found, what));
        }
    }
    findings.extend(waiting(case));
    let names: BTreeSet<String> = case.ordinals.clone().map(|ordinal| case.pod_name(ordinal)).collect();
    for side in Side::BOTH {
        for pod in case.world().objects(side, Kind::Pod).filter(|pod| names.contains(pod.name())) {
            if side == Side::Source && pod.owners().any(|owner| owner.uid == case.set.uid()) {
                continue;
            }
            findings.push(Finding {
                code: "PF-20",
                level: Level::Blocks,
                subject: subject(side, Kind::Pod, pod.name()),
                what: "it has the name of a pod of the set but is none, and would be taken for one".to_owned(),
                remedy: format!("`{} delete pod {}`", case.scope.kubectl(side, Kind::Pod), pod.name()),
            });
        }
    }
    findings
}

/// Returns the finding about claims of the set's templates in B at ordinals that do not move: the set there
/// would take them at a later scale-up, with whatever is on their volumes (SS-9).
fn waiting(case: &Case<'_>) -> Option<Finding> {
    let kind = Kind::PersistentVolumeClaim;
    let moves = |name: &str| case.claims.iter().any(|claim| claim.name == name);
    let names: Vec<String> = idle_claims(case.set, Side::Destination, case.world())
        .into_iter()
        .filter(|claim| !case.is_ours(claim) && !moves(claim.name()))
        .map(|claim| claim.name().to_owned())
        .collect();
    (!names.is_empty()).then(|| Finding {
        code: "PF-20",
        level: Level::Warns,
        subject: format!("PersistentVolumeClaims {} (destination)", some(&names)),
        what: "they are there already, of ordinals that do not move: scaled up later, the set would start on what they hold"
            .to_owned(),
        remedy: format!(
            "if nobody needs them, remove them: `{} delete persistentvolumeclaim {}`",
            case.destination(kind),
            names.join(" ")
        ),
    })
}

/// Returns a finding about an object in B whose name is needed.
pub(super) fn taken(case: &Case<'_>, kind: Kind, found: &Object, what: &str) -> Finding {
    let kubectl = case.destination(kind);
    let (resource, name) = (kind.name().to_lowercase(), found.name());
    Finding {
        code: "PF-20",
        level: Level::Blocks,
        subject: subject(Side::Destination, kind, name),
        what: what.to_owned(),
        remedy: format!(
            "look at it (`{kubectl} get {resource} {name} -o yaml`) and, if nobody needs it, `{kubectl} delete {resource} {name}`; or choose another namespace with `--dst-namespace`"
        ),
    }
}
