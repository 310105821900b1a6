//! Small handmade evidence for the unit tests of the invariants.
//!
//! A set `web` with 2 replicas and one claim template moves from `a-space` to `b-space`: pod
//! `web-i` uses `data-web-i` on `pv-i`, which is `vol-i` (reclaim policy `Delete`). Instance `i-a`
//! is a node of A, `i-b` one of B. Times are seconds after the look at what was there before.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::Cluster;
use crate::facts::{AttachmentSeen, Ec2Call, HistoryEntry, HistoryKind, VolumeChange, VolumeSeen};

use super::{Case, Event, Evidence, Expected, Invariant, Object, Order, SetVolume, Snapshot, View};

/// The tool's user.
pub(super) const TOOL: &str = "tool-0";

/// The tool's access key.
const KEY: &str = "AKIATOOL000000000000";

/// Evidence and case under construction.
pub(super) struct Made {
    pub(super) evidence: Evidence,
    pub(super) case: Case,
}

/// The PersistentVolume that a careful tool creates in B.
pub(super) fn volume_body(index: i64) -> Value {
    json!({
        "metadata": {"name": format!("pv-{index}")},
        "spec": {
            "csi": {"volumeHandle": format!("vol-{index}"), "fsType": "ext4"},
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": "b-space", "name": format!("data-web-{index}")},
            "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "storageClassName": "gp3",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["eu-west-1a"]}]}]}},
        },
    })
}

/// The claim that a careful tool creates in B.
pub(super) fn claim_body(index: i64) -> Value {
    json!({
        "metadata": {"name": format!("data-web-{index}"), "namespace": "b-space"},
        "spec": {"volumeName": format!("pv-{index}"), "accessModes": ["ReadWriteOnce"], "storageClassName": "gp3"},
    })
}

/// The moment so many seconds after the beginning.
pub(super) fn second(at: i64) -> Timestamp {
    start() + SignedDuration::from_secs(at)
}

fn start() -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1)
}

fn object(cluster: Cluster, resource: &str, body: Value) -> Object {
    Object { cluster, resource: resource.to_owned(), body }
}

impl Made {
    /// The set runs in A, nothing has happened yet.
    pub(super) fn new() -> Made {
        let mut objects = vec![object(
            Cluster::A,
            "statefulsets",
            json!({
                "metadata": {"name": "web", "namespace": "a-space", "uid": "set-uid"},
                "spec": {"replicas": 2, "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}},
            }),
        )];
        let mut volumes = Vec::new();
        for index in 0..2 {
            let mut volume = volume_body(index);
            volume["spec"]["persistentVolumeReclaimPolicy"] = json!("Delete");
            volume["spec"]["claimRef"] =
                json!({"namespace": "a-space", "name": format!("data-web-{index}"), "uid": format!("claim-{index}")});
            volume["status"] = json!({"phase": "Bound"});
            let mut claim = claim_body(index);
            claim["metadata"]["namespace"] = json!("a-space");
            claim["metadata"]["uid"] = json!(format!("claim-{index}"));
            claim["status"] = json!({"phase": "Bound"});
            let pod = json!({
                "metadata": {"name": format!("web-{index}"), "namespace": "a-space", "uid": format!("pod-{index}"),
                    "ownerReferences": [{"kind": "StatefulSet", "name": "web", "uid": "set-uid"}]},
            });
            objects.push(object(Cluster::A, "persistentvolumes", volume));
            objects.push(object(Cluster::A, "persistentvolumeclaims", claim));
            objects.push(object(Cluster::A, "pods", pod));
            volumes.push(SetVolume {
                handle: format!("vol-{index}"),
                zone: "eu-west-1a".to_owned(),
                ordinal: index,
                claim: format!("data-web-{index}"),
                volume: format!("pv-{index}"),
            });
        }
        let before = Snapshot { objects };
        let evidence = Evidence {
            instances: BTreeMap::from([("i-a".to_owned(), Cluster::A), ("i-b".to_owned(), Cluster::B)]),
            live: before.clone(),
            ..Evidence::default()
        };
        let case = Case {
            users: BTreeSet::from([TOOL.to_owned()]),
            keys: BTreeSet::from([KEY.to_owned()]),
            source: "a-space".to_owned(),
            destination: "b-space".to_owned(),
            set: "web".to_owned(),
            alone: false,
            start: 0,
            replicas: 2,
            order: Order::OneByOne,
            volumes,
            services: BTreeSet::from(["web".to_owned()]),
            classes: BTreeMap::new(),
            excused_nodes: BTreeSet::new(),
            excused_pods: BTreeSet::new(),
            other_sets: BTreeSet::new(),
            before,
            histories: BTreeMap::new(),
            since: start(),
            marks: Vec::new(),
            expected: Expected::Midway,
        };
        Made { evidence, case }
    }

    /// Checks that the invariant finds nothing.
    pub(super) fn accepts(&self, invariant: Invariant) {
        let found = invariant(&View::new(&self.evidence, &self.case));
        assert!(found.is_empty(), "accused without reason: {found:#?}");
    }

    /// Checks that the invariant finds something that says this.
    pub(super) fn rejects(&self, invariant: Invariant, what: &str) {
        let found = invariant(&View::new(&self.evidence, &self.case));
        assert!(found.iter().any(|violation| violation.what.contains(what)), "no `{what}` in {found:#?}");
    }

    #[expect(clippy::too_many_arguments, reason = "a line of the audit log has so many columns")]
    fn event(
        &mut self,
        at: i64,
        user: &str,
        cluster: Cluster,
        verb: &str,
        resource: &str,
        namespace: &str,
        name: &str,
        code: u16,
    ) -> &mut Event {
        let event = Event {
            cluster,
            id: self.evidence.events.len().to_string(),
            user: user.to_owned(),
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            subresource: String::new(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            query: BTreeMap::new(),
            body: Value::Null,
            code,
            received: second(at),
            completed: second(at) + SignedDuration::from_millis(2),
        };
        // The log is in the order of arrival, however a test was written.
        let place = self.evidence.events.partition_point(|other| other.received <= event.received);
        self.evidence.events.insert(place, event);
        &mut self.evidence.events[place]
    }

    /// Somebody writes, with success.
    #[expect(clippy::too_many_arguments, reason = "a line of the audit log has so many columns")]
    pub(super) fn write(
        &mut self,
        at: i64,
        user: &str,
        cluster: Cluster,
        verb: &str,
        resource: &str,
        namespace: &str,
        name: &str,
        body: Value,
    ) -> &mut Event {
        let event = self.event(at, user, cluster, verb, resource, namespace, name, 200);
        event.body = body;
        event
    }

    /// The tool reads.
    #[expect(clippy::too_many_arguments, reason = "a line of the audit log has so many columns")]
    pub(super) fn read(
        &mut self,
        at: i64,
        cluster: Cluster,
        verb: &str,
        resource: &str,
        namespace: &str,
        name: &str,
        code: u16,
    ) -> &mut Event {
        self.event(at, TOOL, cluster, verb, resource, namespace, name, code)
    }

    /// The tool deletes with preconditions.
    pub(super) fn delete(
        &mut self,
        at: i64,
        cluster: Cluster,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> &mut Event {
        let body = json!({"preconditions": {"uid": "u", "resourceVersion": "7"}});
        self.write(at, TOOL, cluster, "delete", resource, namespace, name, body)
    }

    /// The tool patches all volumes in A to `Retain`.
    pub(super) fn retain_all(&mut self, at: i64) {
        for index in 0..2 {
            let body = json!({
                "metadata": {"uid": "u", "resourceVersion": "7"},
                "spec": {"persistentVolumeReclaimPolicy": "Retain"},
            });
            self.write(at, TOOL, Cluster::A, "patch", "persistentvolumes", "", &format!("pv-{index}"), body);
        }
    }

    /// The tool creates a pair in B, and the controller binds it a second later.
    pub(super) fn pair_in_b(&mut self, at: i64, index: i64) {
        let (volume, claim) = (format!("pv-{index}"), format!("data-web-{index}"));
        self.write(at, TOOL, Cluster::B, "create", "persistentvolumes", "", &volume, volume_body(index));
        let claims = "persistentvolumeclaims";
        self.write(at, TOOL, Cluster::B, "create", claims, "b-space", &claim, claim_body(index));
        let bound = json!({"status": {"phase": "Bound"}});
        let event = self.write(at + 1, "kcm", Cluster::B, "update", "persistentvolumes", "", &volume, bound.clone());
        event.subresource = "status".to_owned();
        let event = self.write(at + 1, "kcm", Cluster::B, "update", claims, "b-space", &claim, bound);
        event.subresource = "status".to_owned();
    }

    /// A finished pair exists in B, with the policy that A had.
    pub(super) fn exists_in_b(&mut self, index: i64) {
        let mut volume = volume_body(index);
        volume["spec"]["persistentVolumeReclaimPolicy"] = json!("Delete");
        volume["spec"]["claimRef"]["uid"] = json!(format!("claim-b-{index}"));
        volume["status"] = json!({"phase": "Bound"});
        let mut claim = claim_body(index);
        claim["metadata"]["uid"] = json!(format!("claim-b-{index}"));
        claim["status"] = json!({"phase": "Bound"});
        self.evidence.live.objects.push(object(Cluster::B, "persistentvolumes", volume));
        self.evidence.live.objects.push(object(Cluster::B, "persistentvolumeclaims", claim));
    }

    /// The set exists in B as it was in A.
    pub(super) fn set_exists_in_b(&mut self) {
        let mut set = self.case.before.get(Cluster::A, "statefulsets", "a-space", "web").unwrap().body.clone();
        set["metadata"] = json!({"name": "web", "namespace": "b-space", "uid": "set-b"});
        self.evidence.live.objects.push(object(Cluster::B, "statefulsets", set));
    }

    /// The tool creates the set in B.
    pub(super) fn set_in_b(&mut self, at: i64, replicas: i64) {
        let body = json!({"spec": {"replicas": replicas}});
        self.write(at, TOOL, Cluster::B, "create", "statefulsets", "b-space", "web", body);
    }

    /// The tool gives the set in B replicas.
    pub(super) fn scale_b(&mut self, at: i64, replicas: i64) {
        let body = json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "spec": {"replicas": replicas}});
        self.write(at, TOOL, Cluster::B, "patch", "statefulsets", "b-space", "web", body);
    }

    /// A cluster attaches a volume.
    pub(super) fn attachment(&mut self, at: i64, cluster: Cluster, name: &str, volume: &str) {
        let body = json!({"spec": {"source": {"persistentVolumeName": volume}, "nodeName": "n"}});
        self.write(at, "kcm", cluster, "create", "volumeattachments", "", name, body);
    }

    /// EC2 changes a volume.
    pub(super) fn change(&mut self, at: i64, volume: &str, state: &str, instances: &[&str]) {
        let change = VolumeChange { at: second(at), now: seen(volume, state, instances) };
        let changes = self.evidence.changes.entry(volume.to_owned()).or_default();
        let place = changes.partition_point(|other| other.at <= change.at);
        changes.insert(place, change);
    }

    /// The tool asks EC2 for something.
    pub(super) fn call(&mut self, at: i64, action: &str) -> &mut Ec2Call {
        let call = Ec2Call {
            seq: 0,
            received: second(at),
            answered: second(at) + SignedDuration::from_millis(2),
            key: KEY.to_owned(),
            action: action.to_owned(),
            volumes: Vec::new(),
            instance: None,
            error: None,
            seen: Vec::new(),
        };
        self.evidence.calls.push(call);
        self.evidence.calls.last_mut().unwrap()
    }

    /// EC2 tells the tool of a volume.
    pub(super) fn described(&mut self, at: i64, volume: &str, state: &str, instances: &[&str]) {
        let call = self.call(at, "DescribeVolumes");
        call.volumes.push(volume.to_owned());
        call.seen.push(seen(volume, state, instances));
    }

    /// EC2 does not tell the tool of a volume.
    pub(super) fn refused(&mut self, at: i64, volume: &str, error: &str) {
        let call = self.call(at, "DescribeVolumes");
        call.volumes.push(volume.to_owned());
        call.error = Some(error.to_owned());
    }

    /// A pod starts or ends to use `vol-0`, having found all that was there.
    pub(super) fn uses(&mut self, at: i64, cluster: Cluster, pod: &str, kind: HistoryKind) {
        let history = self.history("vol-0");
        history.push(HistoryEntry {
            at: second(at),
            kind,
            cluster,
            namespace: format!("{}-space", cluster.name()),
            pod: pod.to_owned(),
            pod_uid: format!("{}-{pod}", cluster.name()),
            claim: format!("data-{pod}"),
            node: "node".to_owned(),
            instance: format!("i-{}", cluster.name()),
            found: history.len(),
        });
    }

    /// The history of a volume.
    pub(super) fn history(&mut self, volume: &str) -> &mut Vec<HistoryEntry> {
        self.evidence.histories.entry(volume.to_owned()).or_default()
    }

    /// Takes the histories so far for those from before.
    pub(super) fn remember_histories(&mut self) {
        self.case.histories = self.evidence.histories.clone();
    }

    /// A pod is Ready now.
    pub(super) fn ready_pod(&mut self, cluster: Cluster, name: &str, uid: &str) {
        let body = json!({
            "metadata": {"name": name, "namespace": format!("{}-space", cluster.name()), "uid": uid},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        self.evidence.live.objects.push(object(cluster, "pods", body));
    }

    /// Another set exists, before and now.
    pub(super) fn bystander(&mut self, name: &str) {
        let body = json!({"metadata": {"name": name, "namespace": "a-space", "uid": name}, "spec": {}});
        let bystander = object(Cluster::A, "statefulsets", body);
        self.case.before.objects.push(bystander.clone());
        self.evidence.live.objects.push(bystander);
    }

    /// A live object, to change it.
    pub(super) fn live(&mut self, cluster: Cluster, resource: &str, name: &str) -> &mut Object {
        self.evidence
            .live
            .objects
            .iter_mut()
            .find(|object| object.cluster == cluster && object.resource == resource && object.name() == name)
            .unwrap()
    }

    /// An object does not exist any more.
    pub(super) fn forget(&mut self, cluster: Cluster, resource: &str, name: &str) {
        self.evidence
            .live
            .objects
            .retain(|object| object.cluster != cluster || object.resource != resource || object.name() != name);
    }

    /// An object from before exists again.
    pub(super) fn bring_back(&mut self, cluster: Cluster, resource: &str, name: &str) {
        let before = self
            .case
            .before
            .objects
            .iter()
            .find(|object| object.cluster == cluster && object.resource == resource && object.name() == name);
        self.evidence.live.objects.extend(before.cloned());
    }
}

fn seen(volume: &str, state: &str, instances: &[&str]) -> VolumeSeen {
    VolumeSeen {
        volume: volume.to_owned(),
        state: state.to_owned(),
        attachments: instances
            .iter()
            .map(|instance| AttachmentSeen { instance: (*instance).to_owned(), state: "attached".to_owned() })
            .collect(),
    }
}
