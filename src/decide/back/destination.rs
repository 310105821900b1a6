//! Back, in B: its pods end, it lets go of the volumes, and what is ours is deleted.

use serde_json::{Value, json};

use super::foreign_data;
use crate::decide::facts::{listed, present, refresh};
use crate::decide::freeze::gone;
use crate::decide::{Action, Decision, Flow, Next, Step};
use crate::plan::{MIGRATION_ANNOTATION, RETAIN, VolumePlan};
use crate::world::{Kind, Object, Read, Side};

impl Decision<'_> {
    /// B's pods end, and B lets go of the volumes.
    pub(super) fn stop_destination(&self) -> Flow<()> {
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
        // The set itself as owner is no harm: it is deleted with `Orphan`, after its pods. A controller whose
        // pods are not Ready would not come to let go of its claims (GC-5).
        self.without_owners(Side::Destination, &["Pod"])?;
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
        if self.has_set()
            && let Some(foreign) = present(self.world, Side::Destination, Kind::StatefulSet, &self.set.name)?
        {
            let claims: Vec<&str> = self.set.volumes().map(|volume| volume.claim.as_str()).collect();
            let mut pods = listed(self.world, Side::Destination, Kind::Pod, 0)?.objects();
            if pods.any(|pod| pod.claim_names().any(|claim| claims.contains(&claim))) {
                // They are or will be its own, and it would make each again that is stopped.
                return Err(foreign_data(Kind::StatefulSet, foreign));
            }
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
    pub(super) fn let_go(&self) -> Flow<()> {
        let all: Vec<&VolumePlan> = self.set.volumes().collect();
        if all.is_empty() {
            return Ok(());
        }
        let pods: Vec<String> = self.set.ordinals.iter().map(|ordinal| self.set.pod_name(ordinal.ordinal)).collect();
        self.gate(Side::Destination, &pods, &all)
    }

    /// Deletes what is ours in B, without a pod left to use it.
    pub(super) fn empty_destination(&self) -> Flow<()> {
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
