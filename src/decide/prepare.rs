//! Prepare: everything stands ready in B, and nothing is down yet.
//!
//! ```text
//! A: set Retain/Retain, PVs Retain ─▶ claims without owner ─▶ B: Services ─▶ PVs ─▶ claims ─▶ Bound ─▶ set, 0 replicas
//! ```
//! After the freeze the same function checks that all of it still holds; then it creates nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::facts::{listed, present};
use super::ours::{Ownership, ownership};
use super::{Action, Clock, Condition, Decision, Flow, Next, Step, Stop, Wait};
use crate::plan::{MIGRATION_ANNOTATION, RECLAIM_POLICY_ANNOTATION, RETAIN, VolumePlan};
use crate::translate;
use crate::world::{Kind, Object, Side};

impl Decision<'_> {
    pub(super) fn prepare(&self) -> Flow<()> {
        self.namespaces()?;
        self.keep_source()?;
        self.idle_let_go()?;
        self.create_services(false)?;
        self.create_volumes()?;
        self.create_claims()?;
        self.bound(Side::Destination)?;
        if self.has_set() { self.create_set() } else { Ok(()) }
    }

    /// Returns whether the freeze was confirmed, and so everything was prepared.
    pub(super) fn is_frozen(&self) -> bool {
        self.record.frozen_at.is_some()
    }

    fn namespaces(&self) -> Flow<()> {
        for side in Side::BOTH {
            let namespace = &self.plan.place(side).namespace;
            let state = match present(self.world, side, Kind::Namespace, namespace)? {
                None => "not there",
                Some(found) if found.is_terminating() => "being deleted",
                Some(_) => continue,
            };
            return Err(Next::Stop(Stop::Namespace { side, namespace: namespace.clone(), state }));
        }
        Ok(())
    }

    /// A's PVs and the set keep their volumes, whatever happens to objects from here on.
    fn keep_source(&self) -> Flow<()> {
        let mut actions = Vec::new();
        if self.has_set() && !self.is_frozen() {
            actions.extend(self.retain_claims(Side::Source, self.planned_source_set()?));
        }
        let moved = self.moved()?;
        for volume in self.set.volumes() {
            actions.extend(self.retain_source(volume, moved.contains(volume.claim.as_str()))?);
        }
        if !actions.is_empty() {
            return Err(Next::Act { actions, needs: None });
        }
        if !self.is_frozen() {
            self.without_owners(Side::Source, &["StatefulSet", "Pod"])?;
        }
        Ok(())
    }

    /// Volumes that move without a pod have left A before a pod in B could want them.
    fn idle_let_go(&self) -> Flow<()> {
        let mut leaving = Vec::new();
        for volume in &self.set.idle {
            // Once the claim is in B, B may use the volume: it is home, and not asked for again.
            if present(self.world, Side::Destination, Kind::PersistentVolumeClaim, &volume.claim)?.is_none() {
                leaving.push(volume);
            }
        }
        if leaving.is_empty() { Ok(()) } else { self.gate(Side::Source, &[], &leaving) }
    }

    /// Returns the set in A, which must be the planned one.
    fn planned_source_set(&self) -> Flow<&Object> {
        match present(self.world, Side::Source, Kind::StatefulSet, &self.set.name)? {
            None => Err(Next::Stop(Stop::SetVanished)),
            Some(found) if found.uid() == self.set.uid() => Ok(found),
            Some(found) => Err(Next::Stop(Stop::SetReturned { uid: found.uid().to_owned() })),
        }
    }

    /// Returns the patch that makes a set keep its claims, if it does not (GC-5, GC-6).
    pub(super) fn retain_claims(&self, side: Side, set: &Object) -> Option<Action> {
        let deletes = |when| {
            set.at("/spec/persistentVolumeClaimRetentionPolicy")
                .and_then(|policy| policy.get(when))
                .is_some_and(|value| value != RETAIN)
        };
        (deletes("whenDeleted") || deletes("whenScaled")).then(|| {
            let patch = json!({ "spec": { "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": RETAIN, "whenScaled": RETAIN,
            } } });
            Action::patch(Step::RetainClaims, side, Kind::StatefulSet, set, patch)
        })
    }

    /// Returns the claims of which B has the volume: A's pair serves only the way back now, which makes it
    /// again should somebody have removed it.
    fn moved(&self) -> Flow<BTreeSet<&str>> {
        let mut moved = BTreeSet::new();
        if self.is_frozen() {
            let set = present(self.world, Side::Destination, Kind::StatefulSet, &self.set.name)?;
            let replicas = set.filter(|set| self.is_marked(set)).map_or(0, Object::replicas);
            moved.extend(self.handed_over(replicas).iter().flat_map(|it| &it.volumes).map(|it| it.claim.as_str()));
        }
        for volume in &self.set.idle {
            let claim = present(self.world, Side::Destination, Kind::PersistentVolumeClaim, &volume.claim)?;
            if claim.is_some_and(|claim| self.is_marked(claim)) {
                moved.insert(volume.claim.as_str());
            }
        }
        Ok(moved)
    }

    /// Checks one pair of A and returns the patch that makes its PV `Retain`, if it is not.
    fn retain_source(&self, volume: &VolumePlan, is_moved: bool) -> Flow<Option<Action>> {
        let name = &volume.source_volume_name;
        let Some(found) = self.source_pair(volume, is_moved)? else { return Ok(None) };
        let is_marked = found.annotation(MIGRATION_ANNOTATION) == Some(self.plan.mark().as_str());
        let policy = found.text("/spec/persistentVolumeReclaimPolicy").unwrap_or_default();
        if is_marked && policy == RETAIN {
            return Ok(None);
        }
        if is_marked || is_moved || self.is_frozen() {
            let (volume, policy) = (name.clone(), policy.to_owned());
            return Err(Next::Stop(Stop::NotRetained { side: Side::Source, volume, policy }));
        }
        let patch = json!({
            "metadata": { "annotations": {
                MIGRATION_ANNOTATION: self.plan.mark(),
                RECLAIM_POLICY_ANNOTATION: volume.reclaim_policy,
            } },
            "spec": { "persistentVolumeReclaimPolicy": RETAIN },
        });
        Ok(Some(Action::patch(Step::RetainVolume, Side::Source, Kind::PersistentVolume, found, patch)))
    }

    /// Returns A's PV; it and its claim must be the planned ones (TL-11), or may be gone if they have moved.
    fn source_pair(&self, volume: &VolumePlan, is_moved: bool) -> Flow<Option<&Object>> {
        let find = |kind: Kind, name: &str, before: &Object| -> Flow<Option<&Object>> {
            let Some(found) = present(self.world, Side::Source, kind, name)? else {
                if is_moved {
                    return Ok(None);
                }
                let (side, kind, name) = (Side::Source, kind.name(), name.to_owned());
                return Err(Next::Stop(Stop::Missing { side, kind, name }));
            };
            let mut differences = Vec::new();
            if found.uid() != before.uid() {
                differences.push(format!("uid is {}, not {}", found.uid(), before.uid()));
            }
            if found.is_terminating() && !is_moved {
                differences.push("it is being deleted".to_owned());
            }
            if kind == Kind::PersistentVolume && found.volume_id().as_ref() != Some(&volume.volume) {
                differences.push(format!("it names another volume than {}", volume.volume));
            }
            if !differences.is_empty() {
                let (kind, name) = (kind.name(), name.to_owned());
                return Err(Next::Stop(Stop::SourceChanged { kind, name, differences }));
            }
            Ok(Some(found))
        };
        find(Kind::PersistentVolumeClaim, &volume.claim, &volume.claim_before)?;
        find(Kind::PersistentVolume, &volume.source_volume_name, &volume.volume_before)
    }

    /// Waits until no claim in range belongs to an object of these kinds: deleting that would take it along.
    pub(super) fn without_owners(&self, side: Side, kinds: &[&str]) -> Flow<()> {
        let mut claims = Vec::new();
        for volume in self.set.ordinals.iter().flat_map(|ordinal| &ordinal.volumes) {
            let found = present(self.world, side, Kind::PersistentVolumeClaim, &volume.claim)?;
            if found.is_some_and(|claim| claim.owners().any(|owner| kinds.contains(&owner.kind))) {
                claims.push(volume.claim.clone());
            }
        }
        if claims.is_empty() {
            return Ok(());
        }
        let clock = Clock::Cluster { what: format!("{} claims without owner", claims.len()) };
        Err(Next::Wait(Wait { on: Condition::OwnersGone { claims }, clock, poll: Vec::new() }))
    }

    /// Creates the Services that are carried over: those that publish nothing in prepare, the others
    /// at the cutover.
    pub(super) fn create_services(&self, at_cutover: bool) -> Flow<()> {
        let mut actions = Vec::new();
        for service in self.set.services.iter().filter(|service| service.at_cutover == at_cutover) {
            let (kind, name) = (service.kind(), service.before.name());
            let found = present(self.world, Side::Destination, kind, name)?;
            if service.existing {
                continue;
            }
            let wanted = Object(translate::service(self.plan, service));
            match found {
                // A Service that somebody took away after the freeze costs no data, and comes back.
                None => actions.push(Action::create(Step::CreateService, Side::Destination, kind, wanted.0)),
                Some(found) => self.check_ours(kind, found, &wanted)?,
            }
        }
        if actions.is_empty() { Ok(()) } else { Err(Next::Act { actions, needs: None }) }
    }

    fn create_volumes(&self) -> Flow<()> {
        let shelf = listed(self.world, Side::Destination, Kind::PersistentVolume, 0)?;
        let mut by_handle = BTreeMap::new();
        for found in shelf.objects() {
            if let Some(id) = found.volume_id() {
                by_handle.entry(id).or_insert_with(Vec::new).push(found.name());
            }
        }
        let mut actions = Vec::new();
        for volume in self.set.volumes() {
            let name = volume.destination_volume_name.as_str();
            let twin = by_handle.get(&volume.volume).into_iter().flatten().find(|other| **other != name);
            if let Some(twin) = twin {
                return Err(self.foreign(Side::Destination, Kind::PersistentVolume, twin));
            }
            let wanted = self.pairs.volume(volume);
            match self.created(Kind::PersistentVolume, name, wanted)? {
                None => actions.push(Action::create(
                    Step::CreateVolume,
                    Side::Destination,
                    Kind::PersistentVolume,
                    wanted.0.clone(),
                )),
                Some(found) => {
                    let policy = found.text("/spec/persistentVolumeReclaimPolicy").unwrap_or_default();
                    if policy != RETAIN {
                        let (side, volume, policy) = (Side::Destination, name.to_owned(), policy.to_owned());
                        return Err(Next::Stop(Stop::NotRetained { side, volume, policy }));
                    }
                }
            }
        }
        if actions.is_empty() { Ok(()) } else { Err(Next::Act { actions, needs: None }) }
    }

    fn create_claims(&self) -> Flow<()> {
        let mut actions = Vec::new();
        for volume in self.set.volumes() {
            let wanted = self.pairs.claim(volume);
            let kind = Kind::PersistentVolumeClaim;
            if self.created(kind, &volume.claim, wanted)?.is_none() {
                actions.push(Action::create(Step::CreateClaim, Side::Destination, kind, wanted.0.clone()));
            }
        }
        if actions.is_empty() { Ok(()) } else { Err(Next::Act { actions, needs: None }) }
    }

    /// Waits until all pairs on a side are Bound to each other (PV-4).
    pub(super) fn bound(&self, side: Side) -> Flow<()> {
        let mut claims = Vec::new();
        for volume in self.set.volumes() {
            let claim = present(self.world, side, Kind::PersistentVolumeClaim, &volume.claim)?;
            let found = present(self.world, side, Kind::PersistentVolume, volume.volume_name(side))?;
            if !matches!((found, claim), (Some(found), Some(claim)) if found.is_bound_to(claim)) {
                claims.push(volume.claim.clone());
            }
        }
        if claims.is_empty() {
            return Ok(());
        }
        // With the number, so that each that is Bound starts it anew: hundreds take their controller minutes.
        let clock = Clock::Cluster { what: format!("{} claims Bound in the {side} cluster", claims.len()) };
        Err(Next::Wait(Wait { on: Condition::Bound { side, claims }, clock, poll: Vec::new() }))
    }

    fn create_set(&self) -> Flow<()> {
        let wanted = Object(translate::set(self.plan, self.set));
        let Some(found) = self.created(Kind::StatefulSet, &self.set.name, &wanted)? else {
            let action = Action::create(Step::CreateSet, Side::Destination, Kind::StatefulSet, wanted.0);
            return Err(Next::Act { actions: vec![action], needs: None });
        };
        let replicas = found.replicas();
        if replicas != 0 && !self.is_frozen() {
            return Err(Next::Stop(Stop::Scaled { replicas, handed_over: 0 }));
        }
        // Our own set keeps its claims until finalize; somebody else's `Delete` is undone before any pod runs.
        match self.retain_claims(Side::Destination, found) {
            Some(action) => Err(Next::Act { actions: vec![action], needs: None }),
            None => Ok(()),
        }
    }

    /// Returns an object of ours in B, or none where it may still be created.
    fn created(&self, kind: Kind, name: &str, wanted: &Object) -> Flow<Option<&Object>> {
        match present(self.world, Side::Destination, kind, name)? {
            Some(found) if found.is_terminating() => {
                Err(self.changed(kind, name, vec!["it is being deleted".to_owned()]))
            }
            Some(found) => self.check_ours(kind, found, wanted).map(|()| Some(found)),
            None if self.is_frozen() => {
                let (side, kind, name) = (Side::Destination, kind.name(), name.to_owned());
                Err(Next::Stop(Stop::Missing { side, kind, name }))
            }
            None => Ok(None),
        }
    }

    fn check_ours(&self, kind: Kind, found: &Object, wanted: &Object) -> Flow<()> {
        match ownership(self.plan, kind, found, wanted) {
            Ownership::Ours => Ok(()),
            Ownership::Changed(differences) => Err(self.changed(kind, found.name(), differences)),
            Ownership::Foreign => Err(self.foreign(Side::Destination, kind, found.name())),
        }
    }

    fn changed(&self, kind: Kind, name: &str, differences: Vec<String>) -> Next {
        let (side, kind, name) = (Side::Destination, kind.name(), name.to_owned());
        Next::Stop(Stop::Changed { side, kind, name, differences })
    }

    pub(super) fn foreign(&self, side: Side, kind: Kind, name: &str) -> Next {
        Next::Stop(Stop::Foreign { side, kind: kind.name(), name: name.to_owned() })
    }
}
