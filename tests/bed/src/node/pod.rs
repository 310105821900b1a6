//! The life of one pod on its node, from the scheduler's binding to its end.
//!
//! The order is the kubelet's, and what the hand-over of volumes rests on:
//!
//! - start: `volumesInUse` → `volumesAttached` and VolumeAttachment `attached` → mount → status;
//! - end: containers ended → status → unmount → `volumesInUse` shrinks → the pod object is deleted.
//!
//! Every step waits until the node is awake: on a silent node processes run on and volumes stay
//! mounted, also when the pod object is long gone.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, pending};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, Preconditions};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use super::api::{kubelet, until_done};
use super::knobs::{PodKnobs, ReadyWhen, pre_stop};
use super::machine::{Machine, Process};
use super::readiness::{Rules, readiness};
use super::status::{Containers, End, View};
use super::volumes::{self, PodVolume};
use crate::facts::{HistoryEntry, HistoryKind};

/// How long to wait before something is tried again that nobody announces (a claim that gets bound, a
/// mount that was refused).
const RETRY: Duration = Duration::from_millis(200);
/// A kubelet gives containers of a pod that was deleted by force this long to end.
const FORCED_GRACE: Duration = Duration::from_secs(2);
/// Grace period of a pod that does not say.
const DEFAULT_GRACE_SECONDS: i64 = 30;
/// Exit code of containers that ended with their machine.
const POWER_LOST: i32 = 255;

/// What the API server wants of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    End,
    /// The object is gone.
    Gone,
}

/// A pod while its node looks after it.
pub(super) struct Life {
    shared: Arc<Shared>,
    machine: Arc<Machine>,
    /// The object as last seen, none when it is gone.
    object: watch::Receiver<Option<Arc<Pod>>>,
    /// The object as last seen while it was there.
    pod: Arc<Pod>,
    uid: String,
    namespace: String,
    name: String,
    knobs: watch::Receiver<PodKnobs>,
    volumes: Vec<PodVolume>,
    rules: ReadyWhen,
    view: View,
    /// The status that the API server has.
    posted: Option<View>,
}

impl Life {
    pub(super) fn new(
        shared: Arc<Shared>,
        machine: Arc<Machine>,
        pod: Arc<Pod>,
        object: watch::Receiver<Option<Arc<Pod>>>,
    ) -> Self {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let name = pod.metadata.name.clone().unwrap_or_default();
        Self {
            knobs: shared.pod_knobs.subscribe(&namespace, &name),
            view: View::new(machine.facts.address.clone()),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            shared,
            machine,
            object,
            pod,
            namespace,
            name,
            volumes: Vec::new(),
            rules: ReadyWhen::default(),
            posted: None,
        }
    }

    /// Looks after the pod until it is over and its object is gone or about to go.
    pub(super) async fn live(mut self) {
        if !is_over(&self.pod) {
            self.run().await;
            self.end().await;
        }
        while self.wish() == Wish::Run {
            self.news().await;
        }
        self.remove().await;
    }

    /// Starts the pod and keeps it running; returns when it is to end, or has ended for good.
    async fn run(&mut self) {
        self.machine.awake().await;
        if !self.prepare_volumes().await {
            return;
        }
        loop {
            let Some(boot) = self.start().await else { return };
            let Some(exit_code) = self.keep_running(boot).await else { return };
            let end = self.ended(exit_code);
            if stays_down(&self.pod, exit_code) {
                self.view.containers = Containers::Ended(end);
                self.view.over = true;
                return;
            }
            self.view.last_end = Some(end);
            self.view.restarts += 1;
            self.view.set_ready(false, false);
            self.view.containers =
                Containers::Waiting { reason: "CrashLoopBackOff", message: "waiting before the next start".into() };
            self.post().await;
            if !self.pause(self.shared.timings.restart).await {
                return;
            }
        }
    }

    /// Finds out the pod's volumes and rules, and reports the volumes as in use. False when the pod is to end before.
    async fn prepare_volumes(&mut self) -> bool {
        loop {
            if self.wish() != Wish::Run {
                return false;
            }
            let volumes = volumes::resolve(&self.shared.client, &self.pod).await;
            match volumes.and_then(|volumes| Ok((volumes, ReadyWhen::of(&self.pod)?))) {
                Ok((volumes, rules)) => {
                    (self.volumes, self.rules) = (volumes, rules);
                    break;
                }
                Err(reason) => self.wait_creating(&reason).await,
            }
            if !self.pause(RETRY).await {
                return false;
            }
        }
        self.machine.awake().await;
        self.machine.hold(&self.uid, &self.volumes).await;
        true
    }

    /// Waits for the attachments, mounts, starts the containers. Returns the boot of the machine in
    /// which they run; none when the pod is to end before.
    async fn start(&mut self) -> Option<u64> {
        let boot = loop {
            self.machine.awake().await;
            if !self.attached().await {
                return None;
            }
            let boot = *self.machine.boot.borrow();
            if !self.machine.runs(&self.uid) {
                self.machine.start(self.process());
            }
            match self.mount() {
                Ok(()) => break boot,
                Err(reason) => self.wait_creating(&reason).await,
            }
            if !self.pause(RETRY).await {
                return None;
            }
        };
        self.view.address.get_or_insert_with(|| self.shared.next_address());
        self.view.containers = Containers::Running { since: Timestamp::now() };
        Some(boot)
    }

    /// Waits until all volumes are attached, in the eyes of both who know. False when the pod is to end before.
    async fn attached(&mut self) -> bool {
        let names: Vec<String> =
            self.volumes.iter().map(|volume| volume.attachment_name(&self.machine.facts.name)).collect();
        let mut attached = self.machine.attached.subscribe();
        let mut attachments = self.shared.attachments.subscribe();
        loop {
            if self.wish() != Wish::Run {
                return false;
            }
            attached.mark_unchanged();
            attachments.mark_unchanged();
            if self.machine.has_attached(&self.volumes) && self.shared.attachments.has_all(&names) {
                return true;
            }
            self.wait_creating("waiting for volumes to be attached").await;
            tokio::select! {
                _ = attached.changed() => {}
                _ = attachments.changed() => {}
                () = self.news() => {}
            }
        }
    }

    /// Mounts what is not mounted yet.
    fn mount(&self) -> Result<(), String> {
        let mounted = self.machine.mounted(&self.uid);
        for volume in self.volumes.iter().filter(|volume| !mounted.contains(&volume.id)) {
            self.machine
                .mount(&volume.id, self.entry(volume))
                .map_err(|reason| format!("mounting volume {}: {reason}", volume.id))?;
        }
        Ok(())
    }

    /// Keeps status and world in step while the containers run. Returns the exit code when they end by
    /// themselves or with the machine; none when the pod is to end.
    async fn keep_running(&mut self, boot: u64) -> Option<i32> {
        let started = Instant::now();
        let mut node_knobs = self.machine.knobs.subscribe();
        let mut rules = Rules::new(self.rules.clone());
        loop {
            self.machine.awake().await;
            node_knobs.mark_unchanged();
            if *self.machine.boot.borrow() != boot {
                return Some(POWER_LOST);
            }
            if self.wish() != Wish::Run {
                return None;
            }
            let knobs = self.knobs.borrow_and_update().clone();
            let hold = rules.hold(&self.shared, &self.pod, &self.volumes).await;
            let ready = readiness(&self.pod, &knobs, &self.shared.timings, started.elapsed(), hold);
            let own_end = knobs.own_end().map(|(after, exit_code)| (started + after, exit_code));
            if let Some((_, exit_code)) = own_end.filter(|(at, _)| *at <= Instant::now()) {
                return Some(exit_code);
            }
            self.view.set_ready(ready.containers, ready.pod);
            self.post().await;
            let wake = [ready.again.map(|after| Instant::now() + after), own_end.map(|(at, _)| at)];
            let timer = match wake.into_iter().flatten().min() {
                Some(at) => Either::Left(sleep_until(at)),
                None => Either::Right(pending()),
            };
            tokio::select! {
                () = timer => {}
                _ = node_knobs.changed() => {}
                _ = self.knobs.changed() => {}
                _ = self.object.changed(), if !self.gone() => {}
            }
        }
    }

    /// Ends the containers within the grace period, then lets the volumes go.
    async fn end(&mut self) {
        self.machine.awake().await;
        if let Containers::Running { .. } = self.view.containers {
            let exit_code = self.terminate().await;
            self.machine.awake().await;
            self.view.containers = Containers::Ended(self.ended(exit_code));
        }
        self.view.over = true;
        self.view.set_ready(false, false);
        if let Containers::Ended(_) = self.view.containers {
            self.post().await;
        }
        if self.machine.runs(&self.uid) && !self.volumes.is_empty() {
            let length = self.machine.knobs.borrow().unmount(&self.shared.timings);
            sleep(length).await;
            self.machine.awake().await;
        }
        self.machine.unmount(&self.uid);
        let lag = self.machine.knobs.borrow().volumes_in_use_lag(&self.shared.timings);
        if lag.is_zero() {
            self.machine.release(&self.uid).await;
        } else {
            let (machine, uid) = (self.machine.clone(), self.uid.clone());
            tokio::spawn(async move {
                sleep(lag).await;
                machine.release(&uid).await;
            });
        }
    }

    /// Runs the `preStop` hooks, sends SIGTERM and waits until the containers have ended, or are killed. Returns the exit code.
    async fn terminate(&mut self) -> i32 {
        let begun = Instant::now();
        loop {
            let grace = self.grace();
            let (after, exit_code) =
                self.knobs.borrow_and_update().end(&self.shared.timings, pre_stop(&self.pod), grace);
            if begun.elapsed() >= after {
                return exit_code;
            }
            tokio::select! {
                () = sleep_until(begun + after) => {}
                _ = self.knobs.changed() => {}
                _ = self.object.changed(), if !self.gone() => {}
            }
        }
    }

    /// Removes the pod object, if it is still there: nothing of the pod is left on this node.
    async fn remove(&mut self) {
        self.machine.awake().await;
        if self.wish() == Wish::Gone {
            return;
        }
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        let pods = self.pods();
        until_done("delete the pod that has ended", || async {
            pods.delete(&self.name, &parameters).await.map(|_| ())
        })
        .await;
    }

    /// Posts why the pod does not start.
    async fn wait_creating(&mut self, reason: &str) {
        self.view.containers = Containers::Waiting { reason: "ContainerCreating", message: reason.to_owned() };
        self.post().await;
    }

    /// Posts the status, if it is another than the last one.
    async fn post(&mut self) {
        if self.posted.as_ref() == Some(&self.view) {
            return;
        }
        self.machine.awake().await;
        if self.wish() == Wish::Gone {
            return;
        }
        // The uid is a precondition: a successor of the same name is never written to.
        let patch = json!({"metadata": {"uid": self.uid}, "status": self.view.render(&self.pod)});
        let pods = self.pods();
        until_done("post a pod's status", || async {
            pods.patch_status(&self.name, &kubelet(), &Patch::Strategic(&patch)).await
        })
        .await;
        self.posted = Some(self.view.clone());
    }

    /// Waits for that long, or until the pod changes. False when it is to end.
    async fn pause(&mut self, length: Duration) -> bool {
        let until = Instant::now() + length;
        while self.wish() == Wish::Run {
            tokio::select! {
                () = sleep_until(until) => break,
                () = self.news() => {}
            }
        }
        self.machine.awake().await;
        self.wish() == Wish::Run
    }

    /// Waits until the object changes, for ever once it is gone.
    async fn news(&mut self) {
        if self.gone() || self.object.changed().await.is_err() {
            pending::<()>().await;
        }
    }

    /// Takes note of the object as it is now, and returns what is wanted.
    fn wish(&mut self) -> Wish {
        let seen = self.object.borrow_and_update().clone();
        let Some(pod) = seen.filter(|_| !self.gone()) else { return Wish::Gone };
        let ends = pod.metadata.deletion_timestamp.is_some();
        self.pod = pod;
        if ends { Wish::End } else { Wish::Run }
    }

    /// Whether the object is gone: said so, or nobody is left who would say so.
    fn gone(&self) -> bool {
        self.object.borrow().is_none() || self.object.has_changed().is_err()
    }

    fn grace(&mut self) -> Duration {
        if self.wish() == Wish::Gone {
            return FORCED_GRACE;
        }
        let own = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let seconds = self.pod.metadata.deletion_grace_period_seconds.or(own).unwrap_or(DEFAULT_GRACE_SECONDS);
        Duration::from_secs(seconds.try_into().unwrap_or_default())
    }

    /// Returns how the containers, that ran until now, have ended.
    fn ended(&self, exit_code: i32) -> End {
        let ended = Timestamp::now();
        let started = match self.view.containers {
            Containers::Running { since } => since,
            _ => ended,
        };
        End { started, ended, exit_code }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.shared.client.clone(), &self.namespace)
    }

    fn process(&self) -> Process {
        Process {
            node: self.machine.facts.name.clone(),
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            pod_uid: self.uid.clone(),
            volumes: Vec::new(),
        }
    }

    fn entry(&self, volume: &PodVolume) -> HistoryEntry {
        HistoryEntry {
            at: Timestamp::now(),
            kind: HistoryKind::Start,
            cluster: self.machine.facts.cluster,
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            pod_uid: self.uid.clone(),
            claim: volume.claim.clone(),
            node: self.machine.facts.name.clone(),
            instance: self.machine.facts.instance.clone(),
            // EC2 counts what it finds at the mount.
            found: 0,
        }
    }
}

/// Whether the pod's phase is final.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a container that ended by itself is not started again.
fn stays_down(pod: &Pod, exit_code: i32) -> bool {
    match pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
        Some("Never") => true,
        Some("OnFailure") => exit_code == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(policy: &str) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [], "restartPolicy": policy}})).expect("a pod")
    }

    #[test]
    fn the_restart_policy_says_who_stays_down() {
        assert!(!stays_down(&pod("Always"), 0));
        assert!(stays_down(&pod("OnFailure"), 0));
        assert!(!stays_down(&pod("OnFailure"), 1));
        assert!(stays_down(&pod("Never"), 1));
    }
}
