//! What a node agent says about a pod, as the pod's `status`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

/// State of all containers of a pod: here they start and end together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Containers {
    /// Not started, or waiting to be started again.
    Waiting {
        /// `ContainerCreating` or `CrashLoopBackOff`.
        reason: &'static str,
        /// What is waited for.
        message: String,
    },
    /// Running since then.
    Running { since: Timestamp },
    /// Ended.
    Ended(End),
}

/// How containers ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) exit_code: i32,
}

/// The part of a pod's life that its status shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// When the node agent took the pod on.
    pub(super) accepted: Timestamp,
    /// Address of the pod once its containers have started.
    pub(super) address: Option<String>,
    pub(super) host_address: String,
    pub(super) containers: Containers,
    /// The end before the present start.
    pub(super) last_end: Option<End>,
    pub(super) restarts: i32,
    pub(super) containers_ready: bool,
    pub(super) ready: bool,
    /// When `ready` last changed.
    pub(super) ready_changed: Timestamp,
    /// The pod is not started again: its phase is final.
    pub(super) over: bool,
}

impl View {
    /// Returns the view of a pod that was just taken on.
    pub(super) fn new(host_address: String) -> Self {
        let now = Timestamp::now();
        Self {
            accepted: now,
            address: None,
            host_address,
            containers: Containers::Waiting { reason: "ContainerCreating", message: String::new() },
            last_end: None,
            restarts: 0,
            containers_ready: false,
            ready: false,
            ready_changed: now,
            over: false,
        }
    }

    pub(super) fn set_ready(&mut self, containers: bool, pod: bool) {
        self.containers_ready = containers;
        if self.ready != pod {
            self.ready = pod;
            self.ready_changed = Timestamp::now();
        }
    }

    fn phase(&self) -> &'static str {
        match &self.containers {
            Containers::Ended(end) if self.over && end.exit_code == 0 => "Succeeded",
            Containers::Ended(_) if self.over => "Failed",
            Containers::Waiting { .. } if self.restarts == 0 && self.last_end.is_none() => "Pending",
            _ => "Running",
        }
    }

    /// Returns the pod's `status`, to be merged with what others say in it.
    pub(super) fn render(&self, pod: &Pod) -> Value {
        let spec = pod.spec.as_ref();
        let containers: Vec<Value> = spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .map(|container| self.container(&container.name, container.image.as_deref()))
            .collect();
        let init_containers: Vec<Value> = spec
            .iter()
            .flat_map(|spec| spec.init_containers.iter().flatten())
            .map(|container| {
                self.init_container(&container.name, container.image.as_deref(), container.restart_policy.is_some())
            })
            .collect();
        let started = self.address.is_some();
        let mut status = json!({
            "phase": self.phase(),
            "startTime": Time(self.accepted),
            "hostIP": self.host_address,
            "hostIPs": [{"ip": self.host_address}],
            "containerStatuses": containers,
            "conditions": [
                condition("PodReadyToStartContainers", started, self.accepted, ""),
                condition("Initialized", started, self.accepted, "ContainersNotInitialized"),
                condition("ContainersReady", self.containers_ready, self.ready_changed, "ContainersNotReady"),
                condition("Ready", self.ready, self.ready_changed, "ContainersNotReady"),
            ],
        });
        if !init_containers.is_empty() {
            status["initContainerStatuses"] = init_containers.into();
        }
        if let Some(address) = &self.address {
            status["podIP"] = json!(address);
            status["podIPs"] = json!([{"ip": address}]);
        }
        status
    }

    fn container(&self, name: &str, image: Option<&str>) -> Value {
        let state = match &self.containers {
            Containers::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
            Containers::Running { since } => json!({"running": {"startedAt": Time(*since)}}),
            Containers::Ended(end) => ended(end),
        };
        let running = matches!(self.containers, Containers::Running { .. });
        let mut status = json!({
            "name": name,
            "image": image.unwrap_or_default(),
            "imageID": "",
            "ready": self.containers_ready,
            "started": running,
            "restartCount": self.restarts,
            "state": state,
        });
        if let Some(end) = &self.last_end {
            status["lastState"] = ended(end);
        }
        status
    }

    /// Init containers have done their work the moment the pod starts; sidecars among them run on.
    fn init_container(&self, name: &str, image: Option<&str>, sidecar: bool) -> Value {
        let mut status = self.container(name, image);
        if !sidecar && self.address.is_some() {
            let end = End { started: self.accepted, ended: self.accepted, exit_code: 0 };
            status["ready"] = json!(true);
            status["started"] = json!(false);
            status["restartCount"] = json!(0);
            status["state"] = ended(&end);
        }
        status
    }
}

fn ended(end: &End) -> Value {
    json!({"terminated": {
        "exitCode": end.exit_code,
        "reason": if end.exit_code == 0 { "Completed" } else { "Error" },
        "startedAt": Time(end.started),
        "finishedAt": Time(end.ended),
    }})
}

fn condition(kind: &str, holds: bool, changed: Timestamp, reason: &str) -> Value {
    json!({
        "type": kind,
        "status": if holds { "True" } else { "False" },
        "reason": if holds { "" } else { reason },
        "lastTransitionTime": Time(changed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web-0"},
            "spec": {"containers": [{"name": "web", "image": "web:1"}], "initContainers": [{"name": "init"}]},
        }))
        .expect("a pod")
    }

    fn running() -> View {
        let mut view = View::new("10.1.0.1".into());
        view.address = Some("10.128.0.7".into());
        view.containers = Containers::Running { since: Timestamp::now() };
        view.set_ready(true, true);
        view
    }

    #[test]
    fn a_pod_whose_volumes_are_awaited_is_pending_and_says_why() {
        let mut view = View::new("10.1.0.1".into());
        view.containers =
            Containers::Waiting { reason: "ContainerCreating", message: "claim data-web-0 is not bound".into() };
        let status = view.render(&pod());
        assert_eq!(status["phase"], "Pending");
        assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["message"], "claim data-web-0 is not bound");
        assert_eq!(status.get("podIP"), None);
    }

    #[test]
    fn a_running_pod_is_ready_and_has_an_address() {
        let status = running().render(&pod());
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["podIP"], "10.128.0.7");
        assert_eq!(status["conditions"][3]["type"], "Ready");
        assert_eq!(status["conditions"][3]["status"], "True");
        assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
    }

    #[test]
    fn a_restart_keeps_the_phase_and_counts() {
        let mut view = running();
        let end = End { started: view.accepted, ended: view.accepted, exit_code: 1 };
        view.restarts = 1;
        view.last_end = Some(end);
        view.containers = Containers::Waiting { reason: "CrashLoopBackOff", message: String::new() };
        let status = view.render(&pod());
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["containerStatuses"][0]["restartCount"], 1);
        assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    }

    #[test]
    fn the_final_phase_follows_the_exit_code() {
        let mut view = running();
        view.over = true;
        for (exit_code, phase) in [(0, "Succeeded"), (137, "Failed")] {
            view.containers = Containers::Ended(End { started: view.accepted, ended: view.accepted, exit_code });
            assert_eq!(view.render(&pod())["phase"], phase);
        }
    }

    #[test]
    fn readiness_that_does_not_change_keeps_its_time() {
        let mut view = running();
        let since = view.ready_changed;
        view.set_ready(true, true);
        assert_eq!(view.ready_changed, since);
    }
}
