//! Back: B is emptied of what is ours, then A gets the set back as it was.
//!
//! ```text
//! EC2 and B answer ─▶ cutover `back` ─▶ B: Retain seen live ─▶ replicas 0 ─▶ pods, highest first ─▶ gate in B
//!   ─▶ set ─▶ revisions ─▶ claims ─▶ PVs, Services ─▶ A: pairs as before, Bound ─▶ gate ─▶ set ─▶ record RolledBack
//!   ─▶ policies and marks, volume by volume as they come home ─▶ pods available
//! ```
//! None of the forward checks run. It refuses only for data that is not ours (TL-14).

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{fresh, listed, present, volumes};
use super::gate::ids;
use super::ours::{Ownership, ownership};
use super::{Clock, Command, Condition, Decision, Done, Flow, Next, Stop, Wait, records};
use crate::plan::{OrdinalPlan, RETAIN, VolumePlan};
use crate::record::{Cutover, Outcome};
use crate::world::{Holder, Kind, Object, Read, Side};

mod destination;
mod source;

impl Decision<'_> {
    pub(super) fn back(&self) -> Flow<Done> {
        if self.record.outcome.is_none() {
            self.can_let_go()?;
            self.cutover_back()?;
            self.foreign_data()?;
            self.source_can_be_refilled()?;
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
            .collect();
        let waiting = self.marked_volumes(Side::Source, waiting)?;
        if waiting.is_empty() {
            return Ok(waiting);
        }
        volumes(self.world, &ids(&waiting), self.world.settled)?;
        let is_under_way =
            |volume: &&VolumePlan| matches!(self.world.holder(&volume.volume), Holder::Free | Holder::Moving(_));
        Ok(waiting.into_iter().filter(is_under_way).collect())
    }

    /// Whoever will be asked whether B has let go answers before anything in B goes down.
    fn can_let_go(&self) -> Flow<()> {
        for (side, kind) in
            [(Side::Source, Kind::Pod), (Side::Destination, Kind::Pod), (Side::Destination, Kind::VolumeAttachment)]
        {
            listed(self.world, side, kind, 0)?;
        }
        self.answered(&self.set.volumes().collect::<Vec<_>>())
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
        if let Some(set) = self.our_destination_set()? {
            // What B had before its set came is none of the set's, and stays as it was.
            let was_before = |found: &Object| {
                let [found, set] = [found, set].map(|object| object.text("/metadata/creationTimestamp"));
                found.zip(set).is_some_and(|(found, set)| found < set)
            };
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
                if is_of_set && !planned.contains(claim.name()) && !self.is_marked(claim) && !was_before(claim) {
                    return Err(foreign_data(Kind::PersistentVolumeClaim, claim));
                }
            }
            let pods: BTreeMap<String, &OrdinalPlan> =
                self.set.ordinals.iter().map(|ordinal| (self.set.pod_name(ordinal.ordinal), ordinal)).collect();
            let stem = format!("{}-", self.set.name);
            for pod in listed(self.world, Side::Destination, Kind::Pod, 0)?.objects() {
                let is_ours = match pods.get(pod.name()) {
                    Some(ordinal) => self.is_our_pod(pod, ordinal)?,
                    None => !is_ordinal(pod.name().strip_prefix(stem.as_str())) || was_before(pod),
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
        if let (Some(set), Some(owner)) = (self.our_destination_set()?, pod.controller()) {
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
}

fn foreign_data(kind: Kind, found: &Object) -> Next {
    Next::Stop(Stop::ForeignData { kind: kind.name(), name: found.name().to_owned() })
}

fn is_ordinal(rest: Option<&str>) -> bool {
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}
