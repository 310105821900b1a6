//! Where each ordinal and volume is.

use super::{FREE, Location, Ordinal, Pair, Volume};
use crate::plan::{OrdinalPlan, Plan, SetPlan, VolumePlan};
use crate::world::{Answer, Holder, Kind, Object, Side, VolumeId, World};

/// Returns the ordinals, those in neither cluster first.
pub(super) fn ordinals(plan: &Plan, world: &World) -> Vec<Ordinal> {
    let mut all = Vec::new();
    for set in &plan.sets {
        let replicas = world.object(Side::Destination, Kind::StatefulSet, &set.name).map_or(0, Object::replicas);
        for (index, ordinal) in set.ordinals.iter().enumerate() {
            let (location, state) = locate(set, ordinal, world, (index as i64) < replicas);
            let volumes = ordinal.volumes.iter().map(|volume| Volume {
                claim: volume.claim.clone(),
                volume: volume.volume.to_string(),
                held_by: held_by(world, &volume.volume),
            });
            all.push(Ordinal { pod: set.pod_name(ordinal.ordinal), location, state, volumes: volumes.collect() });
        }
    }
    // Stable: within a place the ordinals stay in their order.
    all.sort_by_key(|ordinal| ordinal.location != Location::Neither);
    all
}

/// Returns the claims that move without a pod.
pub(super) fn pairs(plan: &Plan, world: &World) -> Vec<Pair> {
    let idle = plan.sets.iter().flat_map(|set| &set.idle);
    idle.map(|planned| {
        let volume = Volume {
            claim: planned.claim.clone(),
            volume: planned.volume.to_string(),
            held_by: held_by(world, &planned.volume),
        };
        Pair { bound_in: Side::BOTH.into_iter().filter(|side| is_bound(planned, *side, world)).collect(), volume }
    })
    .collect()
}

/// Returns whether claim and PV of a planned volume are Bound to each other on a side.
pub(super) fn is_bound(planned: &VolumePlan, side: Side, world: &World) -> bool {
    let claim = world.object(side, Kind::PersistentVolumeClaim, &planned.claim);
    let volume = world.object(side, Kind::PersistentVolume, planned.volume_name(side));
    matches!((claim, volume), (Some(claim), Some(volume)) if volume.is_bound_to(claim))
}

fn locate(set: &SetPlan, ordinal: &OrdinalPlan, world: &World, is_handed_over: bool) -> (Location, String) {
    let name = set.pod_name(ordinal.ordinal);
    let [source, destination] = Side::BOTH.map(|side| world.get(side, Kind::Pod, &name));
    match (source, destination) {
        (Answer::Present { object, .. }, _) if !object.is_terminating() => (Location::Source, pod_state(object)),
        (_, Answer::Present { object, .. }) if !object.is_terminating() => (Location::Destination, pod_state(object)),
        (Answer::Unknown(unknown), _) | (_, Answer::Unknown(unknown)) => (Location::Unknown, unknown.reason.clone()),
        (Answer::Unread, _) | (_, Answer::Unread) => (Location::Unknown, "not looked at".to_owned()),
        (Answer::Present { .. }, _) => (Location::Neither, "its pod is ending in the source cluster".to_owned()),
        (_, Answer::Present { .. }) => (Location::Neither, "its pod is ending in the destination cluster".to_owned()),
        (Answer::Absent { .. }, Answer::Absent { .. }) if is_handed_over => {
            (Location::Neither, "handed over, the destination cluster has not started it".to_owned())
        }
        (Answer::Absent { .. }, Answer::Absent { .. }) => (Location::Neither, "it has no pod".to_owned()),
    }
}

fn pod_state(pod: &Object) -> String {
    let node = pod.text("/spec/nodeName").map(|node| format!(" on node {node}")).unwrap_or_default();
    match (pod.condition("Ready"), pod.text("/status/phase")) {
        (Some("True"), _) => format!("Ready{node}"),
        (_, Some(phase)) => format!("{phase}, not Ready{node}"),
        (_, None) => format!("not Ready{node}"),
    }
}

fn held_by(world: &World, volume: &VolumeId) -> String {
    match world.holder(volume) {
        Holder::Side(side) => format!("{side} cluster"),
        Holder::Moving(side) => format!("{side} cluster, attaching or detaching"),
        Holder::Free => FREE.to_owned(),
        Holder::Other(instance) => format!("{instance}, a node of neither cluster"),
        Holder::Unknown => "unknown".to_owned(),
    }
}
