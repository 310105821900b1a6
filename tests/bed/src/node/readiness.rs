//! When a pod is Ready: the one place that decides it.
//!
//! A container is ready a settable time after its start, unless a knob or one of the pod's own rules
//! ([`ReadyWhen`]) holds it back; the pod is Ready when its readiness gates agree, too. Rules look at
//! what a real member would see: the processes of this cluster, its names, what lies on the volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::ListParams;

use super::Shared;
use super::api::until_done;
use super::knobs::{PodKnobs, ReadyWhen, Timings};
use super::volumes::PodVolume;
use crate::facts::{HistoryEntry, HistoryKind};

/// How often a probe looks: at what it finds, nobody calls it.
const PROBE: Duration = Duration::from_millis(200);

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

/// Returns whether a pod whose container started `running_for` ago is Ready. `rules` says whether its
/// own rules hold; none when it has none.
pub(super) fn readiness(
    pod: &Pod,
    knobs: &PodKnobs,
    timings: &Timings,
    running_for: Duration,
    rules: Option<bool>,
) -> Readiness {
    let left = knobs.start(timings).saturating_sub(running_for);
    let containers = !knobs.never_ready && left.is_zero() && rules.unwrap_or(true);
    let again = [(!left.is_zero()).then_some(left), rules.map(|_| PROBE)].into_iter().flatten().min();
    Readiness { containers, pod: containers && gates_hold(pod), again: again.filter(|_| !knobs.never_ready) }
}

/// The rules of one start of a pod's containers.
pub(super) struct Rules {
    wanted: ReadyWhen,
    /// It has found once that it may start; what others do later does not stop it.
    may_start: bool,
}

impl Rules {
    pub(super) fn new(wanted: ReadyWhen) -> Self {
        Self { may_start: !wanted.stopped_last, wanted }
    }

    /// Returns whether all rules hold now; none when there are none.
    pub(super) async fn hold(&mut self, shared: &Shared, pod: &Pod, volumes: &[PodVolume]) -> Option<bool> {
        if self.wanted == ReadyWhen::default() {
            return None;
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let member = Member::new(pod.metadata.name.as_deref().unwrap_or_default());
        let running = shared.running(namespace);
        let others = running.iter().filter(|name| member.is_other(name)).collect::<BTreeSet<_>>().len();
        if !self.may_start {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let own: BTreeSet<&str> = volumes.iter().map(|volume| volume.id.as_str()).collect();
            self.may_start = others > 0 || stopped_last(&member, uid, &own, &shared.ec2.contents());
        }
        let majority = self.wanted.majority_of.is_none_or(|members| 2 * (others + 1) > members);
        let answers = match &self.wanted.answers {
            Some(name) => answers(shared, namespace, name).await,
            None => true,
        };
        Some(self.may_start && majority && answers)
    }
}

/// A pod of a set, by its name: a member of a quorum system knows its peers by theirs.
struct Member<'a> {
    name: &'a str,
    set: &'a str,
}

impl<'a> Member<'a> {
    fn new(name: &'a str) -> Self {
        Self { name, set: name.rsplit_once('-').map_or(name, |(set, _)| set) }
    }

    /// Whether that is the name of another member of the same set.
    fn is_other(&self, name: &str) -> bool {
        let ordinal = name.strip_prefix(self.set).and_then(|rest| rest.strip_prefix('-'));
        let is_member =
            ordinal.is_some_and(|ordinal| !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit()));
        is_member && name != self.name
    }
}

/// Whether a name answers in this cluster, as a client in the namespace would find.
async fn answers(shared: &Shared, namespace: &str, name: &str) -> bool {
    let (host, service) = match name.split_once('.') {
        Some((host, service)) => (Some(host), service),
        None => (None, name),
    };
    let slices: Api<EndpointSlice> = Api::namespaced(shared.client.clone(), namespace);
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let found = until_done("look a name up", || slices.list(&of_service)).await;
    found.is_some_and(|found| has_address(&found.items, host))
}

/// Whether there is a ready address of that host, or of any. Kubernetes calls an endpoint ready, too,
/// when its Service publishes addresses that are not.
fn has_address(slices: &[EndpointSlice], host: Option<&str>) -> bool {
    slices.iter().flat_map(|slice| slice.endpoints.iter().flatten()).any(|endpoint| {
        let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        is_ready && !endpoint.addresses.is_empty() && (host.is_none() || endpoint.hostname.as_deref() == host)
    })
}

/// Whether the pod before this one was the last of its set to end, by what the members' volumes say:
/// in its cluster and namespace nobody else had begun and not ended at that time. True when there was
/// none before.
fn stopped_last(
    member: &Member<'_>,
    uid: &str,
    own: &BTreeSet<&str>,
    contents: &BTreeMap<String, Vec<HistoryEntry>>,
) -> bool {
    let before = own
        .iter()
        .filter_map(|volume| contents.get(*volume))
        .flatten()
        .filter(|entry| entry.kind == HistoryKind::End && entry.pod_uid != uid)
        .max_by_key(|entry| entry.at);
    let Some(end) = before else { return true };
    let mut running: BTreeMap<&str, i32> = BTreeMap::new();
    for entry in contents.values().flatten().filter(|entry| {
        entry.at <= end.at
            && (entry.cluster, &entry.namespace) == (end.cluster, &end.namespace)
            && member.is_other(&entry.pod)
    }) {
        *running.entry(&entry.pod_uid).or_default() += if entry.kind == HistoryKind::Start { 1 } else { -1 };
    }
    running.values().all(|uses| *uses == 0)
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
    use crate::Cluster;

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
        let early = readiness(&pod, &knobs, &Timings::default(), Duration::from_millis(200), None);
        assert_eq!(early, Readiness { containers: false, pod: false, again: Some(Duration::from_millis(300)) });
        let late = readiness(&pod, &knobs, &Timings::default(), Duration::from_millis(500), None);
        assert_eq!(late, Readiness { containers: true, pod: true, again: None });
    }

    #[test]
    fn a_pod_that_is_never_ready_waits_for_its_knob() {
        let knobs = PodKnobs { never_ready: true, ..PodKnobs::default() };
        let found =
            readiness(&pod(json!([]), json!([])), &knobs, &Timings::default(), Duration::from_secs(9), Some(true));
        assert_eq!(found, Readiness { containers: false, pod: false, again: None });
    }

    #[test]
    fn a_readiness_gate_holds_the_pod_back_but_not_its_containers() {
        let gates = json!([{"conditionType": "example.com/in-rotation"}]);
        let closed = pod(json!([{"type": "example.com/in-rotation", "status": "False"}]), gates.clone());
        let found = readiness(&closed, &PodKnobs::default(), &Timings::default(), Duration::ZERO, None);
        assert!(found.containers && !found.pod);
        let open = pod(json!([{"type": "example.com/in-rotation", "status": "True"}]), gates);
        assert!(readiness(&open, &PodKnobs::default(), &Timings::default(), Duration::ZERO, None).pod);
    }
    #[test]
    fn a_pod_whose_rules_do_not_hold_asks_again() {
        let of = |rules, running_for| {
            let pod = pod(json!([]), json!([]));
            let knobs = PodKnobs { start_ms: Some(50), ..PodKnobs::default() };
            readiness(&pod, &knobs, &Timings::default(), Duration::from_millis(running_for), Some(rules))
        };
        assert_eq!(of(false, 60), Readiness { containers: false, pod: false, again: Some(PROBE) });
        assert_eq!(of(true, 60), Readiness { containers: true, pod: true, again: Some(PROBE) });
        assert_eq!(of(true, 20).again, Some(Duration::from_millis(30)));
    }

    #[test]
    fn members_are_the_pods_of_the_same_set() {
        let member = Member::new("web-0-1");
        let others = ["web-0-0", "web-0-1", "web-0", "web-0-1-0", "web-0-", "web-0-x", "web-0-12"];
        let found: Vec<&str> = others.into_iter().filter(|name| member.is_other(name)).collect();
        assert_eq!(found, ["web-0-0", "web-0-12"]);
    }

    fn slice(endpoints: serde_json::Value) -> Vec<EndpointSlice> {
        vec![serde_json::from_value(json!({"addressType": "IPv4", "endpoints": endpoints})).expect("a slice")]
    }

    #[test]
    fn a_name_answers_when_its_host_has_a_ready_address() {
        let slices = slice(json!([
            {"addresses": ["10.0.0.1"], "hostname": "writer-0", "conditions": {"ready": false}},
            {"addresses": ["10.0.0.2"], "hostname": "reader-0", "conditions": {"ready": true}},
        ]));
        assert!(has_address(&slices, None) && has_address(&slices, Some("reader-0")));
        assert!(!has_address(&slices, Some("writer-0")) && !has_address(&slices, Some("reader-1")));
        assert!(!has_address(&slice(json!([])), None) && !has_address(&[], None));
    }

    /// One use of a volume: cluster, pod, start and, if it has ended, end in seconds.
    type Use = (Cluster, &'static str, i64, Option<i64>);

    fn contents(volumes: &[(&str, &[Use])]) -> BTreeMap<String, Vec<HistoryEntry>> {
        let entry = |(cluster, pod, start, _): &Use, kind, second| HistoryEntry {
            at: jiff::Timestamp::from_second(second).expect("a second"),
            kind,
            cluster: *cluster,
            namespace: "shop".to_owned(),
            pod: (*pod).to_owned(),
            pod_uid: format!("{pod}-{start}"),
            claim: String::new(),
            node: String::new(),
            instance: String::new(),
            found: 0,
        };
        let history = |uses: &[Use]| {
            let both = uses.iter().flat_map(|use_| {
                let end = use_.3.map(|end| entry(use_, HistoryKind::End, end));
                std::iter::once(entry(use_, HistoryKind::Start, use_.2)).chain(end)
            });
            both.collect()
        };
        volumes.iter().map(|(volume, uses)| ((*volume).to_owned(), history(uses))).collect()
    }

    fn zero_stopped_last(volumes: &[(&str, &[Use])]) -> bool {
        stopped_last(&Member::new("web-0"), "web-0-50", &BTreeSet::from(["zero", "zero-log"]), &contents(volumes))
    }

    #[test]
    fn who_was_stopped_while_others_ran_did_not_stop_last() {
        let (a, b) = (Cluster::A, Cluster::B);
        let now: Use = (b, "web-0", 50, None);
        let lowest_first: [(&str, &[Use]); 2] =
            [("zero", &[(a, "web-0", 1, Some(20)), now]), ("one", &[(a, "web-1", 2, Some(30))])];
        assert!(!zero_stopped_last(&lowest_first));
        let still_there: [(&str, &[Use]); 2] =
            [("zero", &[(a, "web-0", 1, Some(20)), now]), ("one", &[(a, "web-1", 2, None)])];
        assert!(!zero_stopped_last(&still_there));
    }

    #[test]
    fn who_stopped_after_all_others_or_never_ran_may_start() {
        let (a, b) = (Cluster::A, Cluster::B);
        let now: Use = (b, "web-0", 50, None);
        let highest_first: [(&str, &[Use]); 3] = [
            ("zero", &[(a, "web-0", 1, Some(20)), now]),
            ("zero-log", &[(a, "web-0", 1, Some(20)), now]),
            ("one", &[(a, "web-1", 2, Some(4)), (a, "web-1", 5, Some(10))]),
        ];
        assert!(zero_stopped_last(&highest_first));
        assert!(zero_stopped_last(&[("zero", &[now]), ("one", &[(a, "web-1", 2, None)])]));
        // Another set, and the same one in another cluster, are no members that ran on.
        let strangers: [(&str, &[Use]); 3] = [
            ("zero", &[(a, "web-0", 1, Some(20)), now]),
            ("x", &[(a, "db-1", 2, None)]),
            ("y", &[(b, "web-1", 2, None)]),
        ];
        assert!(zero_stopped_last(&strangers));
    }
}
