//! When a pod is Ready: the one place that decides it.
//!
//! Today a container is ready a settable time after its start, unless a knob holds it back, and the
//! pod is Ready when its readiness gates agree. Rules that look further (at the volumes' content, at
//! the other members of a set) belong here.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::knobs::{PodKnobs, Timings};

/// What a readiness probe would say now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Readiness {
    /// The containers are ready.
    pub(super) containers: bool,
    /// The pod is Ready: its containers are, and its readiness gates hold.
    pub(super) pod: bool,
    /// When to ask again, if nothing else happens before.
    pub(super) again: Option<Duration>,
}

/// Returns whether a pod whose container started `running_for` ago is Ready.
pub(super) fn readiness(pod: &Pod, knobs: &PodKnobs, timings: &Timings, running_for: Duration) -> Readiness {
    let left = knobs.start(timings).saturating_sub(running_for);
    let containers = !knobs.never_ready && left.is_zero();
    Readiness {
        containers,
        pod: containers && gates_hold(pod),
        again: (!knobs.never_ready && !left.is_zero()).then_some(left),
    }
}

/// Whether every readiness gate of the pod has a condition that is True.
fn gates_hold(pod: &Pod) -> bool {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let conditions: Vec<_> = pod.status.iter().flat_map(|status| status.conditions.iter().flatten()).collect();
    gates.into_iter().all(|gate| {
        conditions.iter().any(|condition| condition.type_ == gate.condition_type && condition.status == "True")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(conditions: serde_json::Value, gates: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "spec": {"containers": [], "readinessGates": gates},
            "status": {"conditions": conditions},
        }))
        .expect("a pod")
    }

    #[test]
    fn a_container_is_ready_once_its_start_time_has_passed() {
        let knobs = PodKnobs { start_ms: Some(500), ..PodKnobs::default() };
        let pod = pod(json!([]), json!([]));
        let early = readiness(&pod, &knobs, &Timings::default(), Duration::from_millis(200));
        assert_eq!(early, Readiness { containers: false, pod: false, again: Some(Duration::from_millis(300)) });
        let late = readiness(&pod, &knobs, &Timings::default(), Duration::from_millis(500));
        assert_eq!(late, Readiness { containers: true, pod: true, again: None });
    }

    #[test]
    fn a_pod_that_is_never_ready_waits_for_its_knob() {
        let knobs = PodKnobs { never_ready: true, ..PodKnobs::default() };
        let found = readiness(&pod(json!([]), json!([])), &knobs, &Timings::default(), Duration::from_secs(9));
        assert_eq!(found, Readiness { containers: false, pod: false, again: None });
    }

    #[test]
    fn a_readiness_gate_holds_the_pod_back_but_not_its_containers() {
        let gates = json!([{"conditionType": "example.com/in-rotation"}]);
        let closed = pod(json!([{"type": "example.com/in-rotation", "status": "False"}]), gates.clone());
        let found = readiness(&closed, &PodKnobs::default(), &Timings::default(), Duration::ZERO);
        assert!(found.containers && !found.pod);
        let open = pod(json!([{"type": "example.com/in-rotation", "status": "True"}]), gates);
        assert!(readiness(&open, &PodKnobs::default(), &Timings::default(), Duration::ZERO).pod);
    }
}
