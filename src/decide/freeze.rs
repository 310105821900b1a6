//! Freeze: the set object in A is deleted, its pods run on without a controller.

use serde_json::{Value, json};

use super::facts::{listed, present};
use super::{Action, Clock, Condition, Confirmation, Decision, Flow, Next, Step, Stop, Wait, records};
use crate::plan::UNHEEDED_ANNOTATIONS;
use crate::world::{Answer, Kind, Object, Side};

impl Decision<'_> {
    pub(super) fn freeze(&self) -> Flow<()> {
        let name = &self.set.name;
        let Some(found) = present(self.world, Side::Source, Kind::StatefulSet, name)? else {
            if !self.is_frozen() {
                return Err(Next::Stop(Stop::SetVanished));
            }
            return self.remove_dangling_owners();
        };
        if found.uid() != self.set.uid() {
            return Err(Next::Stop(Stop::SetReturned { uid: found.uid().to_owned() }));
        }
        if found.is_terminating() {
            return Err(gone(Side::Source, Kind::StatefulSet, &[found]));
        }
        let differences = set_differences(&self.set.before, found);
        if !differences.is_empty() {
            return Err(Next::Stop(Stop::SetChanged { differences }));
        }
        if !self.is_frozen() {
            let frozen = self.record.next(|next| {
                next.frozen_at = Some(self.world.clock.clone());
                next.last_failure = None;
            });
            let needs = Some(Confirmation::Freeze);
            return Err(records::write(self.plan, self.world, &frozen, &Side::BOTH, needs)?);
        }
        let action = Action::delete(Step::Freeze, Side::Source, Kind::StatefulSet, found);
        Err(Next::Act { actions: vec![action], needs: Some(Confirmation::Freeze) })
    }

    /// Removes owner references to the deleted set, which would make the garbage collector take
    /// pods and claims (GC-2). Looked for in lists that began after the set's 404, and in every
    /// later decision.
    fn remove_dangling_owners(&self) -> Flow<()> {
        let gone_since = match self.world.get(Side::Source, Kind::StatefulSet, &self.set.name) {
            Answer::Absent { since, .. } => since,
            Answer::Present { .. } | Answer::Unread | Answer::Unknown(_) => 0,
        };
        let mut actions = Vec::new();
        for kind in [Kind::Pod, Kind::PersistentVolumeClaim, Kind::ControllerRevision] {
            for object in listed(self.world, Side::Source, kind, gone_since)?.objects() {
                if object.owners().any(|owner| owner.uid == self.set.uid()) {
                    let patch = without_owner(object, self.set.uid());
                    actions.push(Action::patch(Step::RemoveOwner, Side::Source, kind, object, patch));
                }
            }
        }
        if actions.is_empty() { Ok(()) } else { Err(Next::Act { actions, needs: None }) }
    }
}

/// Returns the wait for objects to be gone.
pub(super) fn gone(side: Side, kind: Kind, objects: &[&Object]) -> Next {
    let names: Vec<String> = objects.iter().map(|object| object.name().to_owned()).collect();
    let mut finalizers: Vec<String> =
        objects.iter().flat_map(|object| object.finalizers()).map(str::to_owned).collect();
    finalizers.sort();
    finalizers.dedup();
    // With the number, so that each that goes starts it anew: hundreds take their controllers minutes.
    let clock = Clock::Cluster { what: format!("{} {kind} gone from the {side} cluster", names.len()) };
    let on = Condition::Gone { side, kind: kind.name(), names, finalizers };
    Next::Wait(Wait { on, clock, poll: Vec::new() })
}

fn without_owner(object: &Object, uid: &str) -> Value {
    let others: Vec<&Value> =
        object.array("/metadata/ownerReferences").iter().filter(|owner| owner["uid"] != uid).collect();
    if others.is_empty() {
        json!({ "metadata": { "ownerReferences": null } })
    } else {
        json!({ "metadata": { "ownerReferences": others } })
    }
}

/// Returns what differs between the set when it was planned and now, our own patches masked: a
/// before-image that went stale would bring back an old set (TL-11).
pub(super) fn set_differences(before: &Object, now: &Object) -> Vec<String> {
    let masked = |object: &Object, pointer: &str| {
        let mut value = object.at(pointer).cloned().unwrap_or(Value::Null);
        if let Some(map) = value.as_object_mut() {
            map.remove("persistentVolumeClaimRetentionPolicy");
            map.retain(|key, _| !UNHEEDED_ANNOTATIONS.contains(&key.as_str()));
        }
        if value.as_object().is_some_and(serde_json::Map::is_empty) { Value::Null } else { value }
    };
    let mut differences = Vec::new();
    for pointer in ["/metadata/labels", "/metadata/annotations"] {
        if masked(before, pointer) != masked(now, pointer) {
            differences.push(pointer[1..].replace('/', "."));
        }
    }
    let (before, now) = (masked(before, "/spec"), masked(now, "/spec"));
    let empty = serde_json::Map::new();
    let (before, now) = (before.as_object().unwrap_or(&empty), now.as_object().unwrap_or(&empty));
    for key in before.keys().chain(now.keys().filter(|key| !before.contains_key(*key))) {
        if before.get(key) != now.get(key) {
            differences.push(format!("spec.{key}"));
        }
    }
    differences
}
