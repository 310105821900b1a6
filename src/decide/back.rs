//! Back: B is emptied of what is ours, then A gets the set back as it was.
//!
//! ```text
//! cutover `back` ─▶ B: Retain seen live ─▶ replicas 0 ─▶ pods, highest first ─▶ gate in B ─▶ set ─▶ revisions
//!   ─▶ claims ─▶ PVs, Services ─▶ A: pairs as before, Bound ─▶ gate ─▶ set ─▶ record RolledBack
//!   ─▶ policies and marks, volume by volume as they come home ─▶ pods available
//! ```
//! None of the forward checks run. It refuses only for data that is not ours (TL-14).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::facts::{fresh, listed, present, refresh, volumes};
use super::freeze::{gone, set_differences};
use super::gate::ids;
use super::ours::{Ownership, ownership};
use super::prepare::RETAIN;
use super::{Action, Clock, Command, Condition, Decision, Done, Flow, Next, Step, Stop, Wait, records};
use crate::plan::{MIGRATION_ANNOTATION, OrdinalPlan, RECLAIM_POLICY_ANNOTATION, VolumePlan};
use crate::record::{Cutover, Outcome};
use crate::translate;
use crate::world::{Holder, Kind, Object, Read, Side};

impl Decision<'_> {
    pub(super) fn back(&self) -> Flow<Done> {
        if self.record.outcome.is_none() {
            self.cutover_back()?;
            self.foreign_data()?;
            self.stop_destination()?;
            self.empty_destination()?;
            self.refill_source()?;
            if self.has_set() {
                self.recreate_set()?;
            }
            let rolled_back = self.record.next(|next| {
                next.outcome = Some(Outcome::RolledBack);
                next.last_failure = None;
            });
            return Err(records::write(self.plan, self.world, &rolled_back, &Side::BOTH, None)?);
        }
        self.end_at_home()
    }

    /// Gives A's objects their values back. The migration is undone already: a pod that cannot come up
    /// (a sibling set may still be in B) keeps only its own volumes at `Retain`, until this is run again.
    fn end_at_home(&self) -> Flow<Done> {
        let side = Side::Source;
        let set = match self.has_set() {
            true => present(self.world, side, Kind::StatefulSet, &self.set.name)?,
            false => None,
        };
        let Some(set) = set else {
            self.restore(side, &[])?;
            return Ok(Done::RolledBack);
        };
        // By now somebody may have scaled it: who has no pod is not waited for.
        let replicas = set.replicas().min(self.set.replicas());
        let on_the_way = self.on_the_way(replicas)?;
        self.restore(side, &on_the_way)?;
        let poll: Vec<Read> = match on_the_way.is_empty() {
            true => Vec::new(),
            false => vec![Read::Volumes(ids(&on_the_way))],
        };
        if let Err(Next::Wait(wait)) = self.available(side, set, replicas) {
            return Err(Next::Wait(Wait { poll, ..wait }));
        }
        if let Some(volume) = on_the_way.first() {
            let on = Condition::Home { side, claim: volume.claim.clone(), volume: volume.volume.to_string() };
            let clock = Clock::Ready { what: "volumes back home".to_owned() };
            return Err(Next::Wait(Wait { on, clock, poll }));
        }
        Ok(Done::RolledBack)
    }

    /// Returns the volumes of A's pods that their nodes do not hold yet: `Delete` is written back only to
    /// a volume that is home (§6).
    fn on_the_way(&self, replicas: i64) -> Flow<Vec<&VolumePlan>> {
        let waiting: Vec<&VolumePlan> = self
            .handed_over(replicas)
            .iter()
            .flat_map(|ordinal| &ordinal.volumes)
            .filter(|volume| volume.reclaim_policy != RETAIN)
            .filter(|volume| {
                let found = self.world.object(Side::Source, Kind::PersistentVolume, &volume.source_volume_name);
                found.is_some_and(|found| self.is_marked(found))
            })
            .collect();
        if waiting.is_empty() {
            return Ok(waiting);
        }
        volumes(self.world, &ids(&waiting), self.world.settled)?;
        let is_under_way =
            |volume: &&VolumePlan| matches!(self.world.holder(&volume.volume), Holder::Free | Holder::Moving(_));
        Ok(waiting.into_iter().filter(is_under_way).collect())
    }

    /// Clients are led back before B goes down.
    fn cutover_back(&self) -> Flow<()> {
        if self.record.cutover == Cutover::NotBegun {
            return Ok(());
        }
        if self.goal.commands.cutover {
            self.run(Command::CutoverBack, None)?;
        }
        self.write_cutover(Cutover::NotBegun, None)
    }

    /// Returns B's set if it is of this migration.
    fn our_destination_set(&self) -> Flow<Option<&Object>> {
        if !self.has_set() {
            return Ok(None);
        }
        let found = fresh(self.world, Side::Destination, Kind::StatefulSet, &self.set.name)?;
        Ok(found.filter(|found| self.is_marked(found)))
    }

    /// Refuses for data in B that is not ours to delete: a claim or pod beyond the range (somebody
    /// scaled up), or a pair of ours that was changed.
    fn foreign_data(&self) -> Flow<()> {
        if self.our_destination_set()?.is_some() {
            let planned: BTreeSet<&str> = self.set.volumes().map(|volume| volume.claim.as_str()).collect();
            let stems: Vec<String> = self
                .set
                .before
                .array("/spec/volumeClaimTemplates")
                .iter()
                .filter_map(|template| {
                    Some(format!("{}-{}-", template.pointer("/metadata/name")?.as_str()?, self.set.name))
                })
                .collect();
            for claim in listed(self.world, Side::Destination, Kind::PersistentVolumeClaim, 0)?.objects() {
                let is_of_set = stems.iter().any(|stem| is_ordinal(claim.name().strip_prefix(stem.as_str())));
                if is_of_set && !planned.contains(claim.name()) && !self.is_marked(claim) {
                    return Err(foreign_data(Kind::PersistentVolumeClaim, claim));
                }
            }
            let pods: BTreeMap<String, &OrdinalPlan> =
                self.set.ordinals.iter().map(|ordinal| (self.set.pod_name(ordinal.ordinal), ordinal)).collect();
            let stem = format!("{}-", self.set.name);
            for pod in listed(self.world, Side::Destination, Kind::Pod, 0)?.objects() {
                let is_ours = match pods.get(pod.name()) {
                    Some(ordinal) => self.is_our_pod(pod, ordinal)?,
                    None => !is_ordinal(pod.name().strip_prefix(stem.as_str())),
                };
                if !is_ours {
                    return Err(foreign_data(Kind::Pod, pod));
                }
            }
        }
        for volume in self.set.volumes() {
            self.refuse_changed(Kind::PersistentVolumeClaim, &volume.claim, self.pairs.claim(volume))?;
            let wanted = self.pairs.volume(volume);
            self.refuse_changed(Kind::PersistentVolume, &volume.destination_volume_name, wanted)?;
        }
        Ok(())
    }

    /// Returns whether a pod in B with the name of an ordinal's is our set's: its controller says so, or what
    /// it uses, should somebody have removed the set alone.
    fn is_our_pod(&self, pod: &Object, ordinal: &OrdinalPlan) -> Flow<bool> {
        let set = present(self.world, Side::Destination, Kind::StatefulSet, &self.set.name)?;
        if let (Some(set), Some(owner)) = (set, pod.controller()) {
            return Ok(owner.uid == set.uid());
        }
        for volume in &ordinal.volumes {
            let claim = present(self.world, Side::Destination, Kind::PersistentVolumeClaim, &volume.claim)?;
            let is_ours = claim.is_some_and(|claim| self.is_marked(claim));
            if is_ours && pod.claim_names().any(|claim| claim == volume.claim) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn refuse_changed(&self, kind: Kind, name: &str, wanted: &Object) -> Flow<()> {
        let Some(found) = present(self.world, Side::Destination, kind, name)? else { return Ok(()) };
        match ownership(self.plan, kind, found, wanted) {
            Ownership::Ours => Ok(()),
            Ownership::Changed(differences) => Err(Next::Stop(Stop::Changed {
                side: Side::Destination,
                kind: kind.name(),
                name: name.to_owned(),
                differences,
            })),
            // Somebody else's, of the same name: only dangerous when our set could run on it.
            Ownership::Foreign if self.our_destination_set()?.is_some() => Err(foreign_data(kind, found)),
            Ownership::Foreign => Ok(()),
        }
    }

    /// B's pods end, and B lets go of the volumes.
    fn stop_destination(&self) -> Flow<()> {
        let Some(set) = self.our_destination_set()? else { return self.without_set() };
        if set.is_terminating() {
            return Err(gone(Side::Destination, Kind::StatefulSet, &[set]));
        }
        let mut keep: Vec<Action> = self.retain_claims(Side::Destination, set).into_iter().collect();
        for volume in self.set.volumes() {
            keep.extend(self.retain_destination(volume)?);
        }
        if !keep.is_empty() {
            return Err(Next::Act { actions: keep, needs: None });
        }
        self.without_owners(Side::Destination)?;
        if set.replicas() != 0 {
            let patch = json!({ "spec": { "replicas": 0 } });
            let action = Action::patch(Step::Shrink, Side::Destination, Kind::StatefulSet, set, patch);
            return Err(Next::Act { actions: vec![action], needs: None });
        }
        self.stop_destination_pods()?;
        self.let_go()?;
        let marks: Vec<Action> = listed(self.world, Side::Destination, Kind::ControllerRevision, self.world.settled)?
            .objects()
            .filter(|found| found.owners().any(|owner| owner.uid == set.uid()) && !self.is_marked(found))
            .map(|found| {
                // Deleted with `Orphan`, the set leaves them behind without an owner: the mark finds them.
                let patch = json!({ "metadata": { "annotations": { MIGRATION_ANNOTATION: self.plan.mark() } } });
                Action::patch(Step::MarkRevision, Side::Destination, Kind::ControllerRevision, found, patch)
            })
            .collect();
        if !marks.is_empty() {
            return Err(Next::Act { actions: marks, needs: None });
        }
        let action = Action::delete(Step::DeleteOurs, Side::Destination, Kind::StatefulSet, set);
        Err(Next::Act { actions: vec![action], needs: None })
    }

    /// Without a set of ours its pods may still be there (somebody removed it alone), and others may use what
    /// was moved: it must be free before it goes back.
    fn without_set(&self) -> Flow<()> {
        let (mut is_standing, mut keep) = (false, Vec::new());
        for volume in self.set.volumes() {
            let claim = present(self.world, Side::Destination, Kind::PersistentVolumeClaim, &volume.claim)?;
            is_standing |= claim.is_some_and(|claim| self.is_marked(claim));
            keep.extend(self.retain_destination(volume)?);
        }
        if !is_standing {
            return Ok(());
        }
        if !keep.is_empty() {
            return Err(Next::Act { actions: keep, needs: None });
        }
        self.stop_destination_pods()?;
        self.let_go()
    }

    fn retain_destination(&self, volume: &VolumePlan) -> Flow<Option<Action>> {
        let (side, kind) = (Side::Destination, Kind::PersistentVolume);
        let found = present(self.world, side, kind, &volume.destination_volume_name)?;
        Ok(found
            .filter(|found| self.is_marked(found))
            .filter(|found| found.text("/spec/persistentVolumeReclaimPolicy") != Some(RETAIN))
            .map(|found| {
                let patch = json!({ "spec": { "persistentVolumeReclaimPolicy": RETAIN } });
                Action::patch(Step::RetainVolume, side, kind, found, patch)
            }))
    }

    /// Deletes what pods remain, highest first: an OrderedReady controller waits for ever on two
    /// unhealthy pods.
    fn stop_destination_pods(&self) -> Flow<()> {
        let side = Side::Destination;
        let mut running = Vec::new();
        for ordinal in self.set.ordinals.iter().rev() {
            let found = present(self.world, side, Kind::Pod, &self.set.pod_name(ordinal.ordinal))?;
            if let Some(pod) = found
                && self.is_our_pod(pod, ordinal)?
            {
                running.push(pod);
            }
        }
        if !self.set.is_parallel() {
            running.truncate(1);
        }
        let actions: Vec<Action> = running
            .iter()
            .filter(|pod| !pod.is_terminating())
            .map(|pod| Action::delete(Step::DeletePod, side, Kind::Pod, pod))
            .collect();
        if !actions.is_empty() {
            return Err(Next::Act { actions, needs: None });
        }
        match running.first() {
            Some(pod) => Err(self.pod_gone(side, pod)),
            None => Ok(()),
        }
    }

    /// Passes the gate in B.
    fn let_go(&self) -> Flow<()> {
        let all: Vec<&VolumePlan> = self.set.volumes().collect();
        if all.is_empty() {
            return Ok(());
        }
        let pods: Vec<String> = self.set.ordinals.iter().map(|ordinal| self.set.pod_name(ordinal.ordinal)).collect();
        self.gate(Side::Destination, &pods, &all)
    }

    /// Deletes what is ours in B, without a pod left to use it.
    fn empty_destination(&self) -> Flow<()> {
        let side = Side::Destination;
        // Read after the set was gone: until then they had an owner.
        let revisions: Vec<&Object> = listed(self.world, side, Kind::ControllerRevision, self.world.settled)?
            .objects()
            .filter(|found| self.is_marked(found) && found.owners().next().is_none())
            .collect();
        self.delete_ours(Kind::ControllerRevision, revisions)?;
        for kind in [Kind::PersistentVolumeClaim, Kind::PersistentVolume] {
            let (mut ours, mut keep) = (Vec::new(), Vec::new());
            for volume in self.set.volumes() {
                let name = match kind {
                    Kind::PersistentVolume => &volume.destination_volume_name,
                    _ => &volume.claim,
                };
                if let Some(found) = present(self.world, side, kind, name)?.filter(|found| self.is_marked(found)) {
                    ours.push(found);
                    keep.push(volume);
                }
            }
            if ours.is_empty() {
                continue;
            }
            // Their policies as they are now, not as they were, of all at once: an update in between is a 409.
            refresh(self.world, [Read::List(side, Kind::PersistentVolume)])?;
            listed(self.world, side, Kind::PersistentVolume, 0)?;
            let mut actions = Vec::new();
            for volume in keep {
                actions.extend(self.retain_destination(volume)?);
            }
            if !actions.is_empty() {
                return Err(Next::Act { actions, needs: None });
            }
            self.delete_ours(kind, ours)?;
        }
        let mut services = Vec::new();
        for service in &self.set.services {
            let found = present(self.world, side, service.kind(), service.before.name())?;
            services.extend(found.filter(|found| self.is_marked(found)).map(|found| (service.kind(), found)));
        }
        if services.is_empty() {
            return Ok(());
        }
        // One that another set in B has come to use stays (§1.2).
        refresh(self.world, [Read::List(side, Kind::StatefulSet)])?;
        let sets = listed(self.world, side, Kind::StatefulSet, 0)?;
        let mut actions = Vec::new();
        for (kind, found) in services {
            let others = sets.objects().filter(|set| set.name() != self.set.name);
            if kind == Kind::Service && others.into_iter().any(|set| uses(set, found)) {
                let patch = json!({ "metadata": { "annotations": { MIGRATION_ANNOTATION: null } } });
                actions.push(Action::patch(Step::LeaveService, side, kind, found, patch));
            } else if found.is_terminating() {
                return Err(gone(side, kind, &[found]));
            } else {
                actions.push(Action::delete(Step::DeleteOurs, side, kind, found));
            }
        }
        Err(Next::Act { actions, needs: None })
    }

    fn delete_ours(&self, kind: Kind, ours: Vec<&Object>) -> Flow<()> {
        let (ending, standing): (Vec<&Object>, Vec<&Object>) =
            ours.into_iter().partition(|found| found.is_terminating());
        if !standing.is_empty() {
            let delete = |found: &&Object| Action::delete(Step::DeleteOurs, Side::Destination, kind, found);
            return Err(Next::Act { actions: standing.iter().map(delete).collect(), needs: None });
        }
        if ending.is_empty() { Ok(()) } else { Err(gone(Side::Destination, kind, &ending)) }
    }

    /// Pairs of A that are the same and Bound are used; broken ones are made again (PV-20).
    fn refill_source(&self) -> Flow<()> {
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
        if let Some(found) = found
            && found.volume_id().as_ref() != Some(&volume.volume)
        {
            let differences = vec![format!("it names another volume than {}", volume.volume)];
            let (kind, name) = (volumes.name(), found.name().to_owned());
            return Err(Next::Stop(Stop::SourceChanged { kind, name, differences }));
        }
        if let Some(claim) = claim
            && claim.text("/spec/volumeName").is_some_and(|name| name != volume.source_volume_name)
        {
            let differences = vec!["it uses another PersistentVolume".to_owned()];
            let (kind, name) = (claims.name(), claim.name().to_owned());
            return Err(Next::Stop(Stop::SourceChanged { kind, name, differences }));
        }
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
    fn recreate_set(&self) -> Flow<()> {
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

fn foreign_data(kind: Kind, found: &Object) -> Next {
    Next::Stop(Stop::ForeignData { kind: kind.name(), name: found.name().to_owned() })
}

fn is_ordinal(rest: Option<&str>) -> bool {
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns whether a set uses a Service: as its governing one, or because it leads to the set's pods.
fn uses(set: &Object, service: &Object) -> bool {
    let labels = set.at("/spec/template/metadata/labels");
    let selector = service.at("/spec/selector").and_then(Value::as_object).filter(|selector| !selector.is_empty());
    set.text("/spec/serviceName") == Some(service.name())
        || selector.is_some_and(|selector| {
            selector.iter().all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
        })
}
