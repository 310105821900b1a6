//! Swing: ordinal by ordinal, lowest first, or all together, from A to B.
//!
//! How far it is, B's set says itself: its replicas are the ordinals handed over. For these A must
//! be silent, and B must prove that it runs on the same volumes; then the next batch goes down.
//!
//! ```text
//! moved ordinals: A silent ─▶ available ─▶ proven ─▶ verify command
//! next batch: checks again ─▶ question ─▶ before-pod command ─▶ delete pods ─▶ gate ─▶ grow B
//! ```

use std::collections::BTreeMap;

use serde_json::json;

use super::facts::{listed, present, refresh, volumes};
use super::gate::{attached_volume, ids};
use super::{
    Action, Clock, Command, Condition, Confirmation, Decision, Done, Flow, Next, Step, Stop, Verb, Wait, records,
};
use crate::plan::{Order, OrdinalPlan, RETAIN, VolumePlan};
use crate::world::{AttachmentState, CLUSTER_NAMESPACE, Holder, Kind, Object, Read, Side, VolumeId};

impl Decision<'_> {
    /// Returns none when all ordinals run in B, or the pause that was asked for.
    pub(super) fn swing(&self) -> Flow<Option<Done>> {
        if self.record.verifying && !self.goal.commands.verify {
            return Err(Next::Stop(Stop::VerifyCommandMissing));
        }
        let set = self.destination_set()?;
        let replicas = set.replicas();
        self.only_handed_over(replicas)?;
        let moved = self.handed_over(replicas);
        let planned: Vec<&VolumePlan> = moved.iter().flat_map(|ordinal| &ordinal.volumes).collect();
        self.source_is_silent(&planned)?;
        if replicas > 0 {
            self.available(Side::Destination, set, replicas)?;
            self.proven(moved)?;
            self.verified(moved)?;
        }
        let last = moved.last().map(|moved| moved.ordinal);
        if let (Some(last), Some(pause)) = (last, self.goal.pause_after)
            && last >= pause
        {
            return Ok(Some(Done::PausedAfter(last)));
        }
        let Some(next) = self.set.ordinals.get(moved.len()) else {
            return Ok(None);
        };
        let batch = match self.plan.choices.order {
            Order::OneByOne => std::slice::from_ref(next),
            Order::Together => &self.set.ordinals[moved.len()..],
        };
        self.stop_pods(batch)?;
        self.hand_over(batch)
    }

    fn destination_set(&self) -> Flow<&Object> {
        let name = &self.set.name;
        present(self.world, Side::Destination, Kind::StatefulSet, name)?.ok_or_else(|| {
            Next::Stop(Stop::Missing { side: Side::Destination, kind: "StatefulSet", name: name.clone() })
        })
    }

    /// Stops when B's set was scaled beyond the ordinals that A has let go of.
    fn only_handed_over(&self, replicas: i64) -> Flow<()> {
        let attached = self.attached_in(Side::Source)?;
        let mut let_go = 0;
        for ordinal in &self.set.ordinals {
            let pod = present(self.world, Side::Source, Kind::Pod, &self.set.pod_name(ordinal.ordinal))?;
            let is_held =
                ordinal.volumes.iter().any(|volume| attached.contains_key(volume.source_volume_name.as_str()));
            if pod.is_some() || is_held {
                break;
            }
            let_go += 1;
        }
        if replicas <= let_go {
            return Ok(());
        }
        // Case 1: the ordinal never left A, so somebody scaled B. Case 2: it left, and something came
        // back behind it; that is `source_is_silent`'s to name.
        if let Some(ordinal) = self.set.ordinals.get(let_go as usize)
            && replicas <= self.set.replicas()
        {
            let ids: Vec<VolumeId> = ordinal.volumes.iter().map(|volume| volume.volume.clone()).collect();
            refresh(self.world, [Read::Volumes(ids.clone())])?;
            volumes(self.world, &ids, 0)?;
            let is_in_source = |holder| matches!(holder, Holder::Side(Side::Source) | Holder::Moving(Side::Source));
            if !ids.iter().any(|id| is_in_source(self.world.holder(id))) {
                return Ok(());
            }
        }
        Err(Next::Stop(Stop::Scaled { replicas, handed_over: let_go }))
    }

    /// Returns the VolumeAttachments of a side by PV name.
    fn attached_in(&self, side: Side) -> Flow<BTreeMap<&str, &Object>> {
        let shelf = listed(self.world, side, Kind::VolumeAttachment, 0)?;
        Ok(shelf.objects().filter_map(|found| Some((attached_volume(found)?, found))).collect())
    }

    /// The home check (§3): nothing in A uses a volume that has moved.
    pub(super) fn source_is_silent(&self, moved: &[&VolumePlan]) -> Flow<()> {
        let attached = self.attached_in(Side::Source)?;
        let volumes: BTreeMap<&str, &VolumePlan> =
            moved.iter().map(|volume| (volume.claim.as_str(), *volume)).collect();
        let pods = listed(self.world, Side::Source, Kind::Pod, 0)?;
        for pod in pods.objects().filter(|pod| !pod.is_finished_pod()) {
            if let Some(volume) = pod.claim_names().find_map(|claim| volumes.get(claim)) {
                let (what, volume) = (format!("pod {}", pod.name()), volume.volume.to_string());
                return Err(Next::Stop(Stop::UsedBehind { side: Side::Source, what, volume }));
            }
        }
        for volume in volumes.values() {
            if let Some(found) = attached.get(volume.source_volume_name.as_str()) {
                let (what, volume) = (format!("VolumeAttachment {}", found.name()), volume.volume.to_string());
                return Err(Next::Stop(Stop::UsedBehind { side: Side::Source, what, volume }));
            }
        }
        Ok(())
    }

    /// Waits until the set has this many available replicas of its newest generation (SS-2): else
    /// its controller would not create the next one.
    pub(super) fn available(&self, side: Side, set: &Object, wanted: i64) -> Flow<()> {
        let observed = set.number("/status/observedGeneration") >= set.number("/metadata/generation");
        let available = set.number("/status/availableReplicas").unwrap_or_default();
        if observed && available >= wanted {
            return Ok(());
        }
        let on = Condition::Available {
            side,
            set: set.name().to_owned(),
            available: if observed { available } else { 0 },
            wanted,
            detail: self.trouble(side),
        };
        let clock = Clock::Ready { what: format!("{wanted} replicas in the {side} cluster") };
        Err(Next::Wait(Wait { on, clock, poll: Vec::new() }))
    }

    /// Returns what the pods and attachments of a side say about not being ready.
    fn trouble(&self, side: Side) -> Vec<String> {
        let mut lines = Vec::new();
        for ordinal in &self.set.ordinals {
            let name = self.set.pod_name(ordinal.ordinal);
            let Some(pod) = self.world.object(side, Kind::Pod, &name) else { continue };
            if pod.condition("Ready") == Some("True") {
                continue;
            }
            let unscheduled = pod
                .array("/status/conditions")
                .iter()
                .find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
            let waiting = pod.array("/status/containerStatuses").iter().find_map(|status| {
                let waiting = status.pointer("/state/waiting")?;
                let message = waiting["message"].as_str().or_else(|| waiting["reason"].as_str())?;
                Some(message.to_owned())
            });
            let why = match unscheduled {
                Some(condition) => condition["message"].as_str().unwrap_or("not scheduled").to_owned(),
                None => waiting.unwrap_or_else(|| "not Ready".to_owned()),
            };
            lines.push(format!("pod {name}: {why}"));
            for volume in &ordinal.volumes {
                let attachments = self.world.objects(side, Kind::VolumeAttachment);
                for found in attachments.filter(|found| attached_volume(found) == Some(volume.volume_name(side))) {
                    if let Some(error) = found.text("/status/attachError/message") {
                        lines.push(format!("attaching {}: {error}", volume.volume));
                    }
                }
            }
        }
        lines
    }

    /// Ready is not enough: a pod on a fresh, empty volume is Ready too (SS-13). The chain pod → claim
    /// → PV → handle → EC2 attachment → instance of the pod's node must be closed.
    fn proven(&self, moved: &[OrdinalPlan]) -> Flow<()> {
        let mut open: Option<(String, String)> = None;
        let planned: Vec<&VolumePlan> = moved.iter().flat_map(|ordinal| &ordinal.volumes).collect();
        let ids = ids(&planned);
        volumes(self.world, &ids, 0)?;
        let again = refresh(self.world, [Read::Volumes(ids.clone())]);
        for ordinal in moved {
            let name = self.set.pod_name(ordinal.ordinal);
            let Some(pod) = present(self.world, Side::Destination, Kind::Pod, &name)? else {
                open.get_or_insert((name, "the pod is not there".to_owned()));
                continue;
            };
            for volume in &ordinal.volumes {
                let missing = self.open_link(pod, volume).map_err(|next| match (next, &again) {
                    // What EC2 said long ago may name a node that is gone since: asked again first.
                    (Next::Stop(_), Err(Next::Look(look))) => Next::Look(look.clone()),
                    (next, _) => next,
                })?;
                if let Some(missing) = missing {
                    open.get_or_insert((name.clone(), missing));
                }
            }
        }
        let Some((pod, missing)) = open else { return Ok(()) };
        // What EC2 said before the pod came up proves nothing; look again before waiting.
        refresh(self.world, [Read::Volumes(ids.clone())])?;
        let clock = Clock::Ready { what: format!("proof up to {pod}") };
        Err(Next::Wait(Wait { on: Condition::Proven { pod, missing }, clock, poll: vec![Read::Volumes(ids)] }))
    }

    /// Returns the first open link between a pod of B and a volume.
    fn open_link(&self, pod: &Object, volume: &VolumePlan) -> Flow<Option<String>> {
        let side = Side::Destination;
        let wrong = |what: String| Next::Stop(Stop::WrongVolume { pod: pod.name().to_owned(), what });
        if !pod.claim_names().any(|claim| claim == volume.claim) {
            return Err(wrong(format!("it does not use claim {}", volume.claim)));
        }
        let claim = present(self.world, side, Kind::PersistentVolumeClaim, &volume.claim)?;
        let found = present(self.world, side, Kind::PersistentVolume, volume.volume_name(side))?;
        let (Some(claim), Some(found)) = (claim, found) else {
            return Err(wrong(format!("claim {} or its PersistentVolume is gone", volume.claim)));
        };
        if !found.is_bound_to(claim) {
            return Err(wrong(format!("claim {} is not bound to {}", volume.claim, found.name())));
        }
        if found.volume_id().as_ref() != Some(&volume.volume) {
            return Err(wrong(format!(
                "PersistentVolume {} names another volume than {}",
                found.name(),
                volume.volume
            )));
        }
        let Some(node_name) = pod.text("/spec/nodeName") else {
            return Ok(Some("the pod has no node".to_owned()));
        };
        let Some(instance) = present(self.world, side, Kind::Node, node_name)?.and_then(|node| node.instance_id())
        else {
            return Ok(Some(format!("node {node_name} names no EC2 instance")));
        };
        let latest = self.world.volumes.get(&volume.volume).and_then(|facts| facts.latest());
        let Some(Ok((_, latest))) = latest else { return Ok(Some("EC2 has not answered".to_owned())) };
        let ec2 = self.usable(&volume.volume, latest)?;
        let is_attached =
            ec2.attachments.iter().any(|held| held.instance == instance && held.state == AttachmentState::Attached);
        Ok((!is_attached).then(|| format!("EC2 does not show {} attached to {instance}", volume.volume)))
    }

    /// Runs the operator's own check of what came up last.
    ///
    /// The record says so from before the first until all have passed: whoever goes on meanwhile, after a
    /// failure or a crash, neither moves the next nor ends the swing without a check.
    fn verified(&self, moved: &[OrdinalPlan]) -> Flow<()> {
        if !self.goal.commands.verify {
            return Ok(());
        }
        let newest = match self.plan.choices.order {
            Order::OneByOne => &moved[moved.len().saturating_sub(1)..],
            Order::Together => moved,
        };
        for ordinal in newest {
            let command = Command::Verify(ordinal.ordinal);
            if !self.record.verifying && !self.world.commands_done.contains(&command) {
                return self.write_verifying(true);
            }
            self.run(command, None)?;
        }
        if self.record.verifying && moved.len() == self.set.ordinals.len() {
            return self.write_verifying(false);
        }
        Ok(())
    }

    fn write_verifying(&self, verifying: bool) -> Flow<()> {
        let next = self.record.next(|next| next.verifying = verifying);
        Err(records::write(self.plan, self.world, &next, &Side::BOTH, None)?)
    }

    /// Runs a command of the operator's, once in this process.
    pub(super) fn run(&self, command: Command, needs: Option<Confirmation>) -> Flow<()> {
        if self.world.commands_done.contains(&command) {
            return Ok(());
        }
        let actions = vec![Action { step: Step::RunCommand, verb: Verb::Run(command) }];
        Err(Next::Act { actions, needs })
    }

    /// Stops the pods of a batch as the controller itself would: highest first, each gone before the
    /// next, or side by side for a Parallel set.
    fn stop_pods(&self, batch: &[OrdinalPlan]) -> Flow<()> {
        let mut running = Vec::new();
        for ordinal in batch.iter().rev() {
            let name = self.set.pod_name(ordinal.ordinal);
            if let Some(pod) = present(self.world, Side::Source, Kind::Pod, &name)? {
                running.push((ordinal, pod));
            }
        }
        // All nodes before the first pod goes down: one that is not Ready would keep a set stopped half-way.
        let all: Vec<&Object> = running.iter().map(|(_, pod)| *pod).filter(|pod| !pod.is_terminating()).collect();
        if !self.set.is_parallel() {
            running.truncate(1);
        }
        let (ending, standing): (Vec<_>, Vec<_>) = running.into_iter().partition(|(_, pod)| pod.is_terminating());
        for (_, pod) in &standing {
            let came_back =
                self.world.shelf(Side::Source, Kind::Pod).is_some_and(|shelf| shelf.has_returned(pod.name()));
            if came_back {
                let (pod, uid) = (pod.name().to_owned(), pod.uid().to_owned());
                return Err(Next::Stop(Stop::PodReturned { pod, uid }));
            }
        }
        if !standing.is_empty() {
            // Of all that is ahead, so that one answer does for the whole run.
            let ahead = self.set.ordinals.iter().skip_while(|it| batch.first().is_some_and(|first| *it != first));
            self.answered(&ahead.flat_map(|ordinal| &ordinal.volumes).collect::<Vec<_>>())?;
            self.checks_again(batch, &standing, &all)?;
            for (ordinal, _) in standing.iter().filter(|_| self.goal.commands.before_pod) {
                self.run(Command::BeforePod(ordinal.ordinal), Some(self.question(ordinal)))?;
            }
            let needs = standing.first().map(|(ordinal, _)| self.question(ordinal));
            let actions =
                standing.iter().map(|(_, pod)| Action::delete(Step::DeletePod, Side::Source, Kind::Pod, pod)).collect();
            return Err(Next::Act { actions, needs });
        }
        match ending.first() {
            Some((_, pod)) => Err(self.pod_gone(Side::Source, pod)),
            None => Ok(()),
        }
    }

    fn question(&self, ordinal: &OrdinalPlan) -> Confirmation {
        match self.plan.choices.order {
            Order::OneByOne => Confirmation::Pod(ordinal.ordinal),
            Order::Together => Confirmation::AllPods,
        }
    }

    /// Gate (1), with the pod's own clock.
    pub(super) fn pod_gone(&self, side: Side, pod: &Object) -> Next {
        let node = pod.text("/spec/nodeName").unwrap_or_default().to_owned();
        let node_ready =
            self.world.object(side, Kind::Node, &node).is_none_or(|node| node.condition("Ready") == Some("True"));
        let clock = Clock::Termination { pod: pod.name().to_owned(), grace_seconds: self.set.grace_seconds() };
        Next::Wait(Wait {
            on: Condition::PodGone { side, pod: pod.name().to_owned(), node, node_ready },
            clock,
            poll: Vec::new(),
        })
    }

    /// The checks that are made again right before pods go down (column "again").
    fn checks_again(
        &self,
        batch: &[OrdinalPlan],
        standing: &[(&OrdinalPlan, &Object)],
        running: &[&Object],
    ) -> Flow<()> {
        let mut reads = Vec::new();
        for side in Side::BOTH {
            reads.push(Read::Get(side, Kind::Namespace, CLUSTER_NAMESPACE.to_owned()));
            reads.push(Read::List(side, Kind::Pod));
            for volume in batch.iter().flat_map(|ordinal| &ordinal.volumes) {
                reads.push(Read::Get(side, Kind::PersistentVolume, volume.volume_name(side).to_owned()));
            }
        }
        for volume in batch.iter().flat_map(|ordinal| &ordinal.volumes) {
            reads.push(Read::Get(Side::Destination, Kind::PersistentVolumeClaim, volume.claim.clone()));
        }
        for pod in running {
            if let Some(node) = pod.text("/spec/nodeName") {
                reads.push(Read::Get(Side::Source, Kind::Node, node.to_owned()));
            }
        }
        refresh(self.world, reads)?;
        for volume in batch.iter().flat_map(|ordinal| &ordinal.volumes) {
            for side in Side::BOTH {
                let name = volume.volume_name(side);
                let found = present(self.world, side, Kind::PersistentVolume, name)?;
                let policy = found.and_then(|found| found.text("/spec/persistentVolumeReclaimPolicy"));
                if policy != Some(RETAIN) {
                    let (volume, policy) = (name.to_owned(), policy.unwrap_or("nothing: it is gone").to_owned());
                    return Err(Next::Stop(Stop::NotRetained { side, volume, policy }));
                }
            }
        }
        let own: Vec<&str> = standing.iter().map(|(_, pod)| pod.name()).collect();
        for side in Side::BOTH {
            let pods = listed(self.world, side, Kind::Pod, 0)?;
            for pod in pods.objects().filter(|pod| !pod.is_finished_pod()) {
                let is_own = side == Side::Source && own.contains(&pod.name());
                let used = batch
                    .iter()
                    .filter(|ordinal| self.set.pod_name(ordinal.ordinal) != pod.name() || side == Side::Destination)
                    .flat_map(|ordinal| &ordinal.volumes)
                    .find(|volume| pod.claim_names().any(|claim| claim == volume.claim));
                if let (false, Some(volume)) = (is_own, used) {
                    let (what, volume) = (format!("pod {}", pod.name()), volume.volume.to_string());
                    return Err(Next::Stop(Stop::UsedBehind { side, what, volume }));
                }
            }
        }
        for pod in running {
            let Some(node) = pod.text("/spec/nodeName") else { continue };
            let found = present(self.world, Side::Source, Kind::Node, node)?;
            if found.and_then(|found| found.condition("Ready")) != Some("True") {
                let (node, pod) = (node.to_owned(), pod.name().to_owned());
                return Err(Next::Stop(Stop::NodeNotReady { node, pod }));
            }
        }
        Ok(())
    }

    /// Passes the gate and lets B's controller start the batch.
    fn hand_over(&self, batch: &[OrdinalPlan]) -> Flow<Option<Done>> {
        let pods: Vec<String> = batch.iter().map(|ordinal| self.set.pod_name(ordinal.ordinal)).collect();
        let leaving: Vec<&VolumePlan> = batch.iter().flat_map(|ordinal| &ordinal.volumes).collect();
        self.gate(Side::Source, &pods, &leaving)?;
        let set = self.destination_set()?;
        let replicas = set.replicas() + batch.len() as i64;
        let patch = json!({ "spec": { "replicas": replicas } });
        let action = Action::patch(Step::Grow, Side::Destination, Kind::StatefulSet, set, patch);
        Err(Next::Act { actions: vec![action], needs: None })
    }
}
