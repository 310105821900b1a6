//! Finalize: A's claims and PVs are deleted, the volumes stay; B's objects get the values that A's had.
//!
//! ```text
//! all home in B ─▶ record `deleting` ─▶ A: claims ─▶ PVs, ControllerRevisions ─▶ B: policies, marks off ─▶ record Completed
//! ```

use serde_json::{Value, json};

use super::facts::{fresh, listed, present, refresh, volumes};
use super::freeze::gone;
use super::gate::ids;
use super::{Action, Clock, Condition, Confirmation, Decision, Done, Flow, Next, Step, Stop, Wait, records};
use crate::plan::{MIGRATION_ANNOTATION, RECLAIM_POLICY_ANNOTATION, RETAIN, VolumePlan};
use crate::record::Outcome;
use crate::world::{Holder, Kind, Object, Read, Side};

impl Decision<'_> {
    pub(super) fn finalize(&self) -> Flow<Done> {
        if self.record.outcome == Some(Outcome::Completed) {
            return Ok(Done::Completed);
        }
        if !self.record.deleting {
            self.all_home()?;
            let deleting = self.record.next(|next| {
                next.deleting = true;
                next.last_failure = None;
            });
            let needs = Some(Confirmation::Deleting);
            return Err(records::write(self.plan, self.world, &deleting, &Side::BOTH, needs)?);
        }
        self.delete_source(Kind::PersistentVolumeClaim)?;
        self.delete_source(Kind::PersistentVolume)?;
        self.delete_revisions(Side::Source)?;
        self.restore(Side::Destination, &[])?;
        let completed = self.record.next(|next| {
            next.outcome = Some(Outcome::Completed);
            next.last_failure = None;
        });
        Err(records::write(self.plan, self.world, &completed, &Side::BOTH, None)?)
    }

    /// Every volume is held by B, and nothing in A looks at it (TL-17).
    pub(super) fn all_home(&self) -> Flow<()> {
        let all: Vec<&VolumePlan> = self.set.volumes().collect();
        refresh(
            self.world,
            [
                Read::List(Side::Source, Kind::Pod),
                Read::List(Side::Source, Kind::VolumeAttachment),
                Read::Volumes(ids(&all)),
            ],
        )?;
        self.source_is_silent(&all)?;
        volumes(self.world, &ids(&all), self.world.settled)?;
        for volume in &all {
            let is_idle = self.set.idle.iter().any(|idle| idle.volume == volume.volume);
            let holder = self.world.holder(&volume.volume);
            match holder {
                Holder::Side(Side::Destination) => {}
                Holder::Free if is_idle => {}
                Holder::Other(instance) => {
                    let volume = volume.volume.to_string();
                    return Err(Next::Stop(Stop::HeldByOther { volume, instance }));
                }
                Holder::Side(Side::Source) | Holder::Free | Holder::Moving(_) | Holder::Unknown => {
                    let (claim, volume) = (volume.claim.clone(), volume.volume.to_string());
                    let on = Condition::Home { side: Side::Destination, claim, volume };
                    let clock = Clock::Ready { what: "volumes at home".to_owned() };
                    return Err(Next::Wait(Wait { on, clock, poll: vec![Read::Volumes(ids(&all))] }));
                }
            }
        }
        Ok(())
    }

    /// Deletes A's claims or PVs, each only while its PV is seen to be `Retain` (PV-19).
    fn delete_source(&self, kind: Kind) -> Flow<()> {
        let side = Side::Source;
        let standing: Vec<&VolumePlan> = self
            .set
            .volumes()
            .filter(|volume| self.world.object(side, kind, source_name(kind, volume)).is_some())
            .collect();
        let policies =
            standing.iter().map(|volume| Read::Get(side, Kind::PersistentVolume, volume.source_volume_name.clone()));
        refresh(self.world, policies)?;
        let (mut actions, mut ending) = (Vec::new(), Vec::new());
        for volume in self.set.volumes() {
            let name = source_name(kind, volume);
            let Some(found) = present(self.world, side, kind, name)? else { continue };
            let before = if kind == Kind::PersistentVolume { &volume.volume_before } else { &volume.claim_before };
            if found.uid() != before.uid() {
                let difference = format!("uid is {}, not {}", found.uid(), before.uid());
                return Err(Next::Stop(Stop::SourceReplaced { kind: kind.name(), name: name.to_owned(), difference }));
            }
            if let Some(volume) = present(self.world, side, Kind::PersistentVolume, &volume.source_volume_name)? {
                let policy = volume.text("/spec/persistentVolumeReclaimPolicy").unwrap_or_default();
                if policy != RETAIN {
                    let (volume, policy) = (volume.name().to_owned(), policy.to_owned());
                    return Err(Next::Stop(Stop::NotRetained { side, volume, policy }));
                }
            }
            if found.is_terminating() {
                ending.push(found);
            } else {
                let step = match kind {
                    Kind::PersistentVolume => Step::DeleteSourceVolume,
                    _ => Step::DeleteSourceClaim,
                };
                actions.push(Action::delete(step, side, kind, found));
            }
        }
        if !actions.is_empty() {
            return Err(Next::Act { actions, needs: None });
        }
        if ending.is_empty() { Ok(()) } else { Err(gone(side, kind, &ending)) }
    }

    /// Deletes A's ControllerRevisions by the recorded uids, never by name (GC-8); one that another
    /// set has adopted stays.
    fn delete_revisions(&self, side: Side) -> Flow<()> {
        let actions: Vec<Action> = listed(self.world, side, Kind::ControllerRevision, 0)?
            .objects()
            .filter(|found| self.set.revisions.iter().any(|uid| uid == found.uid()))
            .filter(|found| found.owners().all(|owner| owner.uid == self.set.uid()) && !found.is_terminating())
            .map(|found| Action::delete(Step::DeleteRevision, side, Kind::ControllerRevision, found))
            .collect();
        if actions.is_empty() { Ok(()) } else { Err(Next::Act { actions, needs: None }) }
    }

    /// Gives the objects of a side the values back that A's had, and takes our annotations off; of the
    /// PVs not those of volumes whose turn is `later`.
    pub(super) fn restore(&self, side: Side, later: &[&VolumePlan]) -> Flow<()> {
        let turn = self.set.volumes().filter(|volume| !later.iter().any(|later| later.volume == volume.volume));
        let marked = self.marked_volumes(side, turn)?;
        let mut reads = vec![Read::List(side.other(), Kind::PersistentVolume)];
        if !marked.is_empty() {
            reads.push(Read::Volumes(ids(&marked)));
        }
        for volume in &marked {
            reads.push(Read::Get(side, Kind::PersistentVolume, volume.volume_name(side).to_owned()));
            reads.push(Read::Get(side, Kind::PersistentVolumeClaim, volume.claim.clone()));
        }
        if !marked.is_empty() {
            refresh(self.world, reads)?;
            volumes(self.world, &ids(&marked), self.world.settled)?;
        }
        let mut actions = Vec::new();
        for volume in marked {
            actions.extend(self.restore_volume(side, volume)?);
        }
        for volume in self.set.volumes() {
            let found = present(self.world, side, Kind::PersistentVolumeClaim, &volume.claim)?;
            actions.extend(self.unmark(side, Kind::PersistentVolumeClaim, found));
        }
        if side == Side::Destination {
            for service in &self.set.services {
                let found = present(self.world, side, service.kind(), service.before.name())?;
                actions.extend(self.unmark(side, service.kind(), found));
            }
        }
        actions.extend(self.restore_set(side)?);
        if actions.is_empty() { Ok(()) } else { Err(Next::Act { actions, needs: None }) }
    }

    /// `Delete` is written back only when nothing can go wrong with it (§6); else `Retain` stays, and
    /// the annotation with it, which says so.
    fn restore_volume(&self, side: Side, volume: &VolumePlan) -> Flow<Option<Action>> {
        let name = volume.volume_name(side);
        let Some(found) = present(self.world, side, Kind::PersistentVolume, name)? else { return Ok(None) };
        let claim = present(self.world, side, Kind::PersistentVolumeClaim, &volume.claim)?;
        let is_pair = claim.is_some_and(|claim| found.is_bound_to(claim) && !claim.is_terminating());
        let twin = listed(self.world, side.other(), Kind::PersistentVolume, self.world.settled)?
            .objects()
            .any(|other| other.volume_id().as_ref() == Some(&volume.volume));
        let is_idle = self.set.idle.iter().any(|idle| idle.volume == volume.volume);
        let is_home = match self.world.holder(&volume.volume) {
            Holder::Side(holder) => holder == side,
            Holder::Free => is_idle,
            Holder::Moving(_) | Holder::Other(_) | Holder::Unknown => false,
        };
        let is_safe = is_pair && is_home && !twin && !found.is_terminating();
        let policy = if is_safe { volume.reclaim_policy.as_str() } else { RETAIN };
        let stays = policy != volume.reclaim_policy;
        let patch = json!({
            "metadata": { "annotations": {
                MIGRATION_ANNOTATION: null,
                RECLAIM_POLICY_ANNOTATION: if stays { json!(volume.reclaim_policy) } else { Value::Null },
            } },
            "spec": { "persistentVolumeReclaimPolicy": policy },
        });
        Ok(Some(Action::patch(Step::RestorePolicy, side, Kind::PersistentVolume, found, patch)))
    }

    fn restore_set(&self, side: Side) -> Flow<Option<Action>> {
        if !self.has_set() {
            return Ok(None);
        }
        let Some(found) = fresh(self.world, side, Kind::StatefulSet, &self.set.name)? else { return Ok(None) };
        let before = self.set.before.at("/spec/persistentVolumeClaimRetentionPolicy");
        let is_ours = self.is_marked(found) || (side == Side::Source && found.uid() == self.set.uid());
        let differs = found.at("/spec/persistentVolumeClaimRetentionPolicy") != before && before.is_some();
        if !is_ours || !(differs || self.is_marked(found)) {
            return Ok(None);
        }
        let mut patch = json!({ "metadata": { "annotations": { MIGRATION_ANNOTATION: null } } });
        if differs {
            patch["spec"] = json!({ "persistentVolumeClaimRetentionPolicy": before });
        }
        Ok(Some(Action::patch(Step::RestorePolicy, side, Kind::StatefulSet, found, patch)))
    }

    fn unmark(&self, side: Side, kind: Kind, found: Option<&Object>) -> Option<Action> {
        let found = found.filter(|found| self.is_marked(found))?;
        let patch = json!({ "metadata": { "annotations": { MIGRATION_ANNOTATION: null } } });
        Some(Action::patch(Step::RemoveMark, side, kind, found, patch))
    }

    /// Returns those of the volumes whose PV on a side carries this migration's mark.
    pub(super) fn marked_volumes<'v>(
        &self,
        side: Side,
        volumes: impl IntoIterator<Item = &'v VolumePlan>,
    ) -> Flow<Vec<&'v VolumePlan>> {
        let mut marked = Vec::new();
        for volume in volumes {
            let found = present(self.world, side, Kind::PersistentVolume, volume.volume_name(side))?;
            if found.is_some_and(|found| self.is_marked(found)) {
                marked.push(volume);
            }
        }
        Ok(marked)
    }

    /// Returns whether an object carries this migration's mark.
    pub(super) fn is_marked(&self, object: &Object) -> bool {
        object.annotation(MIGRATION_ANNOTATION) == Some(self.plan.mark().as_str())
    }
}

fn source_name(kind: Kind, volume: &VolumePlan) -> &str {
    match kind {
        Kind::PersistentVolume => &volume.source_volume_name,
        _ => &volume.claim,
    }
}
