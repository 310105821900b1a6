//! Back, in A: the pairs as they were, then the set.

use serde_json::json;

use crate::decide::facts::{fresh, listed, present, refresh};
use crate::decide::freeze::{gone, set_differences};
use crate::decide::{Action, Clock, Condition, Decision, Flow, Next, Step, Stop, Wait};
use crate::plan::{MIGRATION_ANNOTATION, RECLAIM_POLICY_ANNOTATION, RETAIN, VolumePlan};
use crate::translate;
use crate::world::{Kind, Object, Read, Side};

impl Decision<'_> {
    /// What would keep A from taking its volumes back is said before B is emptied. As soon as B lets go of
    /// it, A would delete the volume of a claim that is gone or about to go, if somebody took `Retain` from
    /// its PV.
    pub(super) fn source_can_be_refilled(&self) -> Flow<()> {
        let side = Side::Source;
        for volume in self.set.volumes() {
            let found = present(self.world, side, Kind::PersistentVolume, &volume.source_volume_name)?;
            let claim = present(self.world, side, Kind::PersistentVolumeClaim, &volume.claim)?;
            not_another(volume, found, claim)?;
            let is_whole = found.zip(claim).is_some_and(|(found, claim)| {
                found.is_bound_to(claim) && !found.is_terminating() && !claim.is_terminating()
            });
            if !is_whole {
                self.retained_or_gone(found)?;
            }
        }
        Ok(())
    }

    /// Pairs of A that are the same and Bound are used; broken ones are made again (PV-20).
    pub(super) fn refill_source(&self) -> Flow<()> {
        let (mut deletes, mut ending, mut creates) = (Vec::new(), Vec::new(), Vec::new());
        for volume in self.set.volumes() {
            self.refill_pair(volume, &mut deletes, &mut ending, &mut creates)?;
        }
        if !deletes.is_empty() {
            return Err(Next::Act { actions: deletes, needs: None });
        }
        if let Some((kind, found)) = ending.first() {
            return Err(gone(Side::Source, *kind, &[found]));
        }
        if !creates.is_empty() {
            return Err(Next::Act { actions: creates, needs: None });
        }
        self.bound(Side::Source)
    }

    fn refill_pair<'a>(
        &'a self,
        volume: &VolumePlan,
        deletes: &mut Vec<Action>,
        ending: &mut Vec<(Kind, &'a Object)>,
        creates: &mut Vec<Action>,
    ) -> Flow<()> {
        let side = Side::Source;
        let (claims, volumes) = (Kind::PersistentVolumeClaim, Kind::PersistentVolume);
        let found = present(self.world, side, volumes, &volume.source_volume_name)?;
        let claim = present(self.world, side, claims, &volume.claim)?;
        not_another(volume, found, claim)?;
        let is_being_made = |found: &Object| self.is_marked(found) && found.uid() != volume.volume_before.uid();
        match (found, claim) {
            // Case 1: as it was.
            (Some(found), Some(claim))
                if found.is_bound_to(claim) && !found.is_terminating() && !claim.is_terminating() => {}
            // Case 2: both are being made again by us; they are about to bind.
            (Some(found), Some(claim))
                if is_being_made(found) && !found.is_terminating() && !claim.is_terminating() => {}
            // Case 3: the PV is made again, its claim is next.
            (Some(found), None) if is_being_made(found) && !found.is_terminating() => {
                creates.push(Action::create(
                    Step::RecreateClaim,
                    side,
                    claims,
                    translate::claim_again(self.plan, volume),
                ));
            }
            // Case 4: nothing is left.
            (None, None) => {
                let mut object = translate::volume_again(self.plan, volume);
                object["metadata"]["annotations"][MIGRATION_ANNOTATION] = json!(self.plan.mark());
                object["metadata"]["annotations"][RECLAIM_POLICY_ANNOTATION] = json!(volume.reclaim_policy);
                creates.push(Action::create(Step::RecreateVolume, side, volumes, object));
            }
            // Case 5: a broken pair. The claim goes first, while its PV is `Retain` or gone; then the PV.
            (found, Some(claim)) => {
                self.retained_or_gone(found)?;
                self.unused_in_source(volume)?;
                match claim.is_terminating() {
                    true => ending.push((claims, claim)),
                    false => deletes.push(Action::delete(Step::DeleteBrokenClaim, side, claims, claim)),
                }
            }
            (Some(found), None) => {
                self.retained_or_gone(Some(found))?;
                match found.is_terminating() {
                    true => ending.push((volumes, found)),
                    false => deletes.push(Action::delete(Step::DeleteBrokenClaim, side, volumes, found)),
                }
            }
        }
        Ok(())
    }

    /// A claim that a pod uses would not go (`kubernetes.io/pvc-protection`): nothing of a pair is deleted
    /// under a pod of A that never moved.
    fn unused_in_source(&self, volume: &VolumePlan) -> Flow<()> {
        refresh(self.world, [Read::List(Side::Source, Kind::Pod)])?;
        listed(self.world, Side::Source, Kind::Pod, 0)?;
        match self.user(Side::Source, &[volume]) {
            Some(on @ Condition::ClaimUnused { side: Side::Source, .. }) => {
                let clock = Clock::Cluster { what: format!("claim {} unused", volume.claim) };
                Err(Next::Wait(Wait { on, clock, poll: Vec::new() }))
            }
            _ => Ok(()),
        }
    }

    fn retained_or_gone(&self, found: Option<&Object>) -> Flow<()> {
        let Some(found) = found else { return Ok(()) };
        let (side, kind) = (Side::Source, Kind::PersistentVolume);
        // All at once: there may be hundreds.
        refresh(self.world, [Read::List(side, kind)])?;
        let Some(found) = present(self.world, side, kind, found.name())? else { return Ok(()) };
        match found.text("/spec/persistentVolumeReclaimPolicy").unwrap_or_default() {
            RETAIN => Ok(()),
            policy => Err(Next::Stop(Stop::NotRetained {
                side: Side::Source,
                volume: found.name().to_owned(),
                policy: policy.to_owned(),
            })),
        }
    }

    /// The set comes last, after the gate: from here on A's controller starts pods.
    pub(super) fn recreate_set(&self) -> Flow<()> {
        let name = &self.set.name;
        match fresh(self.world, Side::Source, Kind::StatefulSet, name)? {
            Some(found) if found.is_terminating() => Err(gone(Side::Source, Kind::StatefulSet, &[found])),
            Some(found) if found.uid() == self.set.uid() || self.is_marked(found) => Ok(()),
            // Somebody (GitOps) put it back: fine when it is the same set.
            Some(found) if set_differences(&self.set.before, found).is_empty() => Ok(()),
            Some(found) => Err(Next::Stop(Stop::SetReturned { uid: found.uid().to_owned() })),
            None => {
                self.let_go()?;
                let mut object = translate::set_again(self.plan, self.set);
                if !object["metadata"]["annotations"].is_object() {
                    object["metadata"]["annotations"] = json!({});
                }
                // The mark says that it is ours, should this process end now; it is taken off at the end.
                object["metadata"]["annotations"][MIGRATION_ANNOTATION] = json!(self.plan.mark());
                let action = Action::create(Step::RecreateSet, Side::Source, Kind::StatefulSet, object);
                Err(Next::Act { actions: vec![action], needs: None })
            }
        }
    }
}

/// Stops when PV or claim of A have become others under the same names.
fn not_another(volume: &VolumePlan, found: Option<&Object>, claim: Option<&Object>) -> Flow<()> {
    let stop = |found: &Object, kind: Kind, difference: String| {
        let (kind, name) = (kind.name(), found.name().to_owned());
        Err(Next::Stop(Stop::SourceReplaced { kind, name, difference }))
    };
    if let Some(found) = found.filter(|found| found.volume_id().as_ref() != Some(&volume.volume)) {
        return stop(found, Kind::PersistentVolume, format!("it names another volume than {}", volume.volume));
    }
    let uses_another =
        |claim: &&Object| claim.text("/spec/volumeName").is_some_and(|name| name != volume.source_volume_name);
    match claim.filter(uses_another) {
        Some(claim) => stop(claim, Kind::PersistentVolumeClaim, "it uses another PersistentVolume".to_owned()),
        None => Ok(()),
    }
}
