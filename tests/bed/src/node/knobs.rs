//! What a test can change about nodes and pods while they run.
//!
//! A setting replaces the one before it as a whole: what it does not name is back at its default.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How fast things happen where no knob says otherwise.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Timings {
    /// From the start of a container until it may be Ready.
    pub start: Duration,
    /// From SIGTERM until the container has ended.
    pub exit: Duration,
    /// How long an unmount takes.
    pub unmount: Duration,
    /// From the unmount until `volumesInUse` no longer names the volume.
    pub volumes_in_use_lag: Duration,
    /// How long a crashed container waits before it is started again.
    pub restart: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            start: Duration::ZERO,
            exit: Duration::from_millis(100),
            unmount: Duration::ZERO,
            volumes_in_use_lag: Duration::ZERO,
            restart: Duration::from_millis(300),
        }
    }
}

/// The knobs of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NodeKnobs {
    /// The kubelet is gone: no Lease, no status, no pod handling. Its processes go on running and
    /// its volumes stay mounted.
    pub silent: bool,
    /// The machine has lost its power: silent, and every process on it has ended. Switched on again
    /// it starts the containers of its pods anew.
    pub dead: bool,
    /// How long an unmount takes.
    pub unmount_ms: Option<u64>,
    /// From the unmount until `volumesInUse` no longer names the volume. A kubelet reports with its
    /// node status, every 10 s, and does not hold up the pod's end for that.
    pub volumes_in_use_lag_ms: Option<u64>,
}

impl NodeKnobs {
    /// Whether the node agent of this node does anything.
    pub(super) fn awake(&self) -> bool {
        !self.silent && !self.dead
    }

    pub(super) fn unmount(&self, timings: &Timings) -> Duration {
        chosen(self.unmount_ms, timings.unmount)
    }

    pub(super) fn volumes_in_use_lag(&self, timings: &Timings) -> Duration {
        chosen(self.volumes_in_use_lag_ms, timings.volumes_in_use_lag)
    }
}

/// The knobs of one pod, by its name: they hold for its successors of the same name too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PodKnobs {
    /// The readiness probe fails for as long as this is set.
    pub never_ready: bool,
    /// The container does not end before its grace period is over (SIGKILL).
    pub ignore_sigterm: bool,
    /// From the start of its termination (preStop hook included) until the container has ended.
    pub exit_ms: Option<u64>,
    /// From the start of the container until it may be Ready.
    pub start_ms: Option<u64>,
    /// The container crashes this long after each start.
    pub fail_after_ms: Option<u64>,
    /// The container ends by itself with exit code 0 this long after its start, as a Job's does.
    pub complete_after_ms: Option<u64>,
}

impl PodKnobs {
    pub(super) fn start(&self, timings: &Timings) -> Duration {
        chosen(self.start_ms, timings.start)
    }

    /// Returns how long after the start of its termination the container ends, and its exit code. `pre_stop` is
    /// how long its hook takes, which counts against the grace period.
    pub(super) fn end(&self, timings: &Timings, pre_stop: Duration, grace: Duration) -> (Duration, i32) {
        let exit = chosen(self.exit_ms, pre_stop + timings.exit);
        if self.ignore_sigterm || exit > grace { (grace, KILLED) } else { (exit, 0) }
    }

    /// Returns when after its start the container ends by itself, and with which exit code.
    pub(super) fn own_end(&self) -> Option<(Duration, i32)> {
        let crash = self.fail_after_ms.map(|after| (Duration::from_millis(after), 1));
        let completion = self.complete_after_ms.map(|after| (Duration::from_millis(after), 0));
        [crash, completion].into_iter().flatten().min()
    }
}

/// Returns how long the `preStop` hooks of a pod take, which run side by side. Of commands only `sleep` is
/// known; any other takes no time.
pub(super) fn pre_stop(pod: &Pod) -> Duration {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let hooks = containers.filter_map(|container| container.lifecycle.as_ref()?.pre_stop.as_ref());
    let seconds = hooks.filter_map(|hook| match (&hook.sleep, &hook.exec) {
        (Some(sleep), _) => u64::try_from(sleep.seconds).ok(),
        (None, exec) => {
            let words = exec.as_ref()?.command.as_deref()?.join(" ");
            words.trim_start_matches("/bin/sh -c ").strip_prefix("sleep ")?.parse().ok()
        }
    });
    Duration::from_secs(seconds.max().unwrap_or_default())
}

/// Annotation of a pod (template) that holds [`ReadyWhen`] as JSON: it moves with the set.
pub const READY_WHEN: &str = "bed.example/ready-when";

/// What a pod needs of its surroundings to be Ready, besides its own start. All that is set must hold,
/// at every moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ReadyWhen {
    /// A quorum system of so many members: more than half of them, this one included, must run in
    /// this cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub majority_of: Option<usize>,
    /// A DNS name that must answer in this cluster: a Service of the pod's namespace (`db`), or one
    /// pod behind a headless one (`writer-0.db`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
    /// A member that is alone in this cluster starts only if it never ran before, or stopped last of
    /// its set; else newer data may be on another's volume. One that is not alone joins the others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopped_last: bool,
}

impl ReadyWhen {
    /// Returns the rules of a pod; an error when its annotation is not understood.
    pub(super) fn of(pod: &Pod) -> Result<Self, String> {
        let text = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(READY_WHEN));
        let Some(text) = text else { return Ok(Self::default()) };
        serde_json::from_str(text).map_err(|error| format!("annotation {READY_WHEN}: {error}"))
    }
}

/// Exit code of a process that SIGKILL ended.
const KILLED: i32 = 137;

fn chosen(knob: Option<u64>, default: Duration) -> Duration {
    knob.map_or(default, Duration::from_millis)
}

/// The knobs of all pods of a cluster, also of those that do not exist yet.
#[derive(Default)]
pub(super) struct PodKnobStore {
    by_pod: Mutex<HashMap<(String, String), watch::Sender<PodKnobs>>>,
}

impl PodKnobStore {
    pub(super) fn set(&self, namespace: &str, pod: &str, knobs: PodKnobs) {
        self.with(namespace, pod, |sender| {
            sender.send_replace(knobs);
        });
    }

    pub(super) fn subscribe(&self, namespace: &str, pod: &str) -> watch::Receiver<PodKnobs> {
        self.with(namespace, pod, |sender| sender.subscribe())
    }

    fn with<T>(&self, namespace: &str, pod: &str, act: impl FnOnce(&watch::Sender<PodKnobs>) -> T) -> T {
        let mut by_pod = self.by_pod.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), pod.to_owned());
        act(by_pod.entry(key).or_insert_with(|| watch::Sender::new(PodKnobs::default())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(3);

    #[test]
    fn a_container_ends_at_its_own_pace_within_the_grace_period() {
        let knobs = PodKnobs { exit_ms: Some(700), ..PodKnobs::default() };
        assert_eq!(knobs.end(&Timings::default(), Duration::ZERO, GRACE), (Duration::from_millis(700), 0));
    }

    fn hooks(hooks: &[serde_json::Value]) -> Pod {
        let containers: Vec<_> =
            hooks.iter().map(|hook| serde_json::json!({"name": "web", "lifecycle": {"preStop": hook}})).collect();
        serde_json::from_value(serde_json::json!({"spec": {"containers": containers}})).expect("a pod")
    }

    #[test]
    fn a_hook_that_sleeps_comes_before_the_exit() {
        let exec = |command: &[&str]| serde_json::json!({"exec": {"command": command}});
        let native = serde_json::json!({"sleep": {"seconds": 2}});
        for (pod, seconds) in [
            (hooks(std::slice::from_ref(&native)), 2),
            (hooks(&[exec(&["sleep", "1"])]), 1),
            (hooks(&[exec(&["/bin/sh", "-c", "sleep 1"]), native]), 2),
            (hooks(&[exec(&["/bin/sh", "-c", "drain"])]), 0),
            (hooks(&[]), 0),
        ] {
            assert_eq!(pre_stop(&pod), Duration::from_secs(seconds), "{pod:?}");
        }
        let end = |pre_stop| PodKnobs::default().end(&Timings::default(), Duration::from_secs(pre_stop), GRACE);
        assert_eq!(end(2), (Duration::from_millis(2100), 0));
        assert_eq!(end(3), (GRACE, 137));
    }

    #[test]
    fn a_container_that_is_too_slow_is_killed_when_the_grace_period_is_over() {
        let knobs = PodKnobs { exit_ms: Some(7000), ..PodKnobs::default() };
        assert_eq!(knobs.end(&Timings::default(), Duration::ZERO, GRACE), (GRACE, 137));
    }

    #[test]
    fn a_container_that_ignores_sigterm_lasts_the_whole_grace_period() {
        let knobs = PodKnobs { ignore_sigterm: true, exit_ms: Some(1), ..PodKnobs::default() };
        assert_eq!(knobs.end(&Timings::default(), Duration::ZERO, GRACE), (GRACE, 137));
    }

    #[test]
    fn the_earlier_of_crash_and_completion_happens() {
        let knobs = PodKnobs { fail_after_ms: Some(20), complete_after_ms: Some(10), ..PodKnobs::default() };
        assert_eq!(knobs.own_end(), Some((Duration::from_millis(10), 0)));
        assert_eq!(PodKnobs::default().own_end(), None);
    }

    #[test]
    fn a_knob_set_before_the_pod_exists_is_seen_by_it() {
        let store = PodKnobStore::default();
        store.set("shop", "web-0", PodKnobs { never_ready: true, ..PodKnobs::default() });
        assert!(store.subscribe("shop", "web-0").borrow().never_ready);
        assert!(!store.subscribe("shop", "web-1").borrow().never_ready);
    }

    #[test]
    fn a_misspelled_knob_is_refused() {
        assert!(serde_json::from_str::<PodKnobs>(r#"{"neverready":true}"#).is_err());
    }

    fn annotated(rules: &str) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"annotations": {READY_WHEN: rules}}})).expect("a pod")
    }

    #[test]
    fn rules_are_read_from_the_pods_annotation() {
        let found = ReadyWhen::of(&annotated(r#"{"majorityOf":3,"answers":"db"}"#));
        let wanted = ReadyWhen { majority_of: Some(3), answers: Some("db".to_owned()), stopped_last: false };
        assert_eq!(found, Ok(wanted));
        assert_eq!(ReadyWhen::of(&Pod::default()), Ok(ReadyWhen::default()));
    }

    #[test]
    fn a_misspelled_rule_is_refused() {
        for rules in [r#"{"majority":3}"#, r#"{"majorityOf":"3"}"#, "majorityOf: 3", ""] {
            assert!(ReadyWhen::of(&annotated(rules)).is_err(), "{rules}");
        }
    }
}
