//! The evidence seen with the case in mind: whose requests, which objects, what was true when.
//!
//! The logs have no answers' bodies, so what was true at a moment is put together from the writes
//! of everybody: an object lives from its create to the last write that succeeded on it. The
//! moment of a write is when it *arrived*: a watcher may know of it before its answer is complete.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::Cluster;
use crate::facts::Ec2Call;

use super::evidence::handle_of;
use super::{Case, Event, Evidence, Violation};

/// The field that says what becomes of a volume when its claim is deleted.
pub(super) const RECLAIM_POLICY: [&str; 2] = ["spec", "persistentVolumeReclaimPolicy"];

/// Evidence and case, with the questions that invariants ask of them.
pub(super) struct View<'a> {
    pub(super) evidence: &'a Evidence,
    pub(super) case: &'a Case,
    /// PersistentVolumes that name one of the set's volumes: (cluster, name) → volume id.
    pub(super) named: BTreeMap<(Cluster, String), String>,
}

/// One life of an object, from a create to its removal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) born: Timestamp,
    /// When it was gone; none when it still exists.
    pub(super) gone: Option<Timestamp>,
    deleted: bool,
    last_write: Timestamp,
}

impl Life {
    fn new(born: Timestamp) -> Self {
        Life { born, gone: None, deleted: false, last_write: born }
    }
}

impl<'a> View<'a> {
    pub(super) fn new(evidence: &'a Evidence, case: &'a Case) -> Self {
        let mut named = BTreeMap::new();
        let mut note = |cluster: Cluster, name: &str, body: &Value| {
            if let Some(handle) = handle_of(body).filter(|handle| case.volume(handle).is_some()) {
                named.insert((cluster, name.to_owned()), handle);
            }
        };
        for cluster in Cluster::BOTH {
            for snapshot in [&case.before, &evidence.live] {
                for volume in snapshot.of(cluster, "persistentvolumes") {
                    note(cluster, volume.name(), &volume.body);
                }
            }
        }
        for event in evidence.events.iter().filter(|event| is_create_of(event, "persistentvolumes")) {
            if event.is_write() && event.succeeded() {
                note(event.cluster, &event.name, &event.body);
            }
        }
        View { evidence, case, named }
    }

    /// Returns the successful writes of everybody.
    pub(super) fn writes(&self) -> impl Iterator<Item = &'a Event> {
        self.evidence.events.iter().filter(|event| event.is_write() && event.succeeded())
    }

    /// Returns whether the tool asked.
    pub(super) fn is_tools(&self, event: &Event) -> bool {
        self.case.users.contains(&event.user)
    }

    /// Returns everything that the tool meant to change, refused or not.
    pub(super) fn attempts(&self) -> impl Iterator<Item = &'a Event> {
        self.evidence.events.iter().filter(|event| self.is_tools(event) && event.is_write())
    }

    /// Returns everything that the tool changed.
    pub(super) fn acts(&self) -> impl Iterator<Item = &'a Event> {
        self.attempts().filter(|event| event.succeeded())
    }

    /// Returns the tool's reads.
    pub(super) fn reads(&self) -> impl Iterator<Item = &'a Event> {
        self.evidence.events.iter().filter(|event| self.is_tools(event) && event.is_read())
    }

    /// Returns the tool's requests to EC2.
    pub(super) fn calls(&self) -> impl Iterator<Item = &'a Ec2Call> {
        self.evidence.calls.iter().filter(|call| self.case.keys.contains(&call.key))
    }

    /// Returns whether the request is about the set (or its scale) in its place.
    pub(super) fn is_set(&self, event: &Event) -> bool {
        event.is_about("statefulsets", self.case.namespace(event.cluster), &self.case.set)
    }

    /// Returns the tool's deletes of pods of the set, with their ordinals.
    pub(super) fn pod_deletes(&self, cluster: Cluster) -> impl Iterator<Item = (i64, &'a Event)> {
        self.acts().filter_map(move |event| {
            let deletes = event.cluster == cluster
                && event.verb == "delete"
                && event.resource == "pods"
                && event.namespace == self.case.namespace(cluster);
            deletes.then(|| self.case.ordinal_of(&event.name)).flatten().map(|ordinal| (ordinal, event))
        })
    }

    /// Returns the tool's deletes of the set in a cluster.
    pub(super) fn set_deletes(&self, cluster: Cluster) -> impl Iterator<Item = &'a Event> {
        self.acts().filter(move |event| event.cluster == cluster && event.verb == "delete" && self.is_set(event))
    }

    /// Returns the tool's creates of the set in a cluster.
    pub(super) fn set_creates(&self, cluster: Cluster) -> impl Iterator<Item = &'a Event> {
        self.acts()
            .filter(move |event| event.cluster == cluster && is_create_of(event, "statefulsets") && self.is_set(event))
    }

    /// Returns the writes that gave the set a number of replicas, by anybody, in order.
    pub(super) fn replicas(&self, cluster: Cluster) -> Vec<(&'a Event, i64)> {
        self.writes()
            .filter(|event| event.cluster == cluster && self.is_set(event))
            .filter_map(|event| Some((event, event.replicas()?)))
            .collect()
    }

    /// Returns whether the tool's act may end data or the use of it, or starts a pod.
    pub(super) fn is_destructive(&self, event: &Event) -> bool {
        match event.verb.as_str() {
            "delete" | "deletecollection" => matches!(
                event.resource.as_str(),
                "statefulsets" | "pods" | "persistentvolumeclaims" | "persistentvolumes" | "volumeattachments"
            ),
            "create" if event.resource == "statefulsets" => event.replicas().unwrap_or(1) > 0,
            _ => event.replicas().is_some_and(|replicas| replicas > 0),
        }
    }

    /// Returns the lives of an object.
    pub(super) fn lives(&self, cluster: Cluster, resource: &str, namespace: &str, name: &str) -> Vec<Life> {
        let mut writes: Vec<&Event> = self
            .writes()
            .filter(|event| event.cluster == cluster && event.is_about(resource, namespace, name))
            .collect();
        // As they arrived: what came of a create may be answered before that is.
        writes.sort_by_key(|event| event.received);
        let before = self.case.before.get(cluster, resource, namespace, name);
        let since = self.case.since;
        let mut lives = Vec::new();
        if let Some(before) = before
            && !writes.iter().any(|event| is_create_of(event, resource) && event.received <= since)
        {
            // Asked to end before the case began: that delete is in no log.
            let deleted = before.body.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null());
            lives.push(Life { deleted, ..Life::new(Timestamp::MIN) });
        }
        for event in writes {
            if is_create_of(event, resource) {
                end_last(&mut lives);
                lives.push(Life::new(event.received));
                continue;
            }
            if lives.is_empty() {
                lives.push(Life::new(Timestamp::MIN));
            }
            if let Some(life) = lives.last_mut() {
                life.deleted |= event.verb == "delete" || event.subresource == "eviction";
                life.last_write = event.received;
            }
        }
        let exists = self.evidence.live.get(cluster, resource, namespace, name).is_some();
        if exists && lives.is_empty() {
            lives.push(Life::new(Timestamp::MIN));
        }
        if !exists && lives.last().is_some_and(|life| life.deleted) {
            end_last(&mut lives);
        }
        lives
    }

    /// Returns since when an object has been absent at a moment; none if it existed then.
    pub(super) fn absent_since(
        &self,
        cluster: Cluster,
        resource: &str,
        namespace: &str,
        name: &str,
        at: Timestamp,
    ) -> Option<Timestamp> {
        let lives = self.lives(cluster, resource, namespace, name);
        match lives.iter().rev().find(|life| life.born <= at) {
            None => Some(Timestamp::MIN),
            Some(life) => life.gone.filter(|&gone| gone <= at),
        }
    }

    /// Returns the names of the PersistentVolumes in a cluster that name a volume.
    pub(super) fn volumes_naming(&self, cluster: Cluster, handle: &str) -> Vec<&str> {
        self.named
            .iter()
            .filter(|((place, _), named)| *place == cluster && *named == handle)
            .map(|((_, name), _)| name.as_str())
            .collect()
    }

    /// Returns the names of the VolumeAttachments that a cluster ever had for a volume.
    pub(super) fn attachments(&self, cluster: Cluster, handle: &str) -> BTreeSet<String> {
        let volumes = self.volumes_naming(cluster, handle);
        let names = |body: &Value| {
            let volume = body.pointer("/spec/source/persistentVolumeName").and_then(Value::as_str);
            volume.is_some_and(|volume| volumes.contains(&volume))
        };
        let created = self
            .writes()
            .filter(|event| event.cluster == cluster && is_create_of(event, "volumeattachments"))
            .filter(|event| names(&event.body))
            .map(|event| event.name.clone());
        let seen = [&self.case.before, &self.evidence.live]
            .into_iter()
            .flat_map(|snapshot| snapshot.of(cluster, "volumeattachments"))
            .filter(|attachment| names(&attachment.body))
            .map(|attachment| attachment.name().to_owned());
        created.chain(seen).collect()
    }

    /// Returns the pods of a place that have named a claim up to a moment, but for those that the test excuses.
    pub(super) fn users(&self, cluster: Cluster, claim: &str, until: Timestamp) -> BTreeSet<String> {
        let namespace = self.case.namespace(cluster);
        let names = |body: &Value| {
            let volumes = body.pointer("/spec/volumes").and_then(Value::as_array);
            volumes.into_iter().flatten().any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim)
        };
        let before =
            self.case.before.of(cluster, "pods").filter(|pod| pod.namespace() == namespace && names(&pod.body));
        // `kubectl apply --server-side` creates by a patch.
        let made = self.writes().filter(|event| event.received <= until).filter(|event| {
            event.cluster == cluster && event.resource == "pods" && event.namespace == namespace && names(&event.body)
        });
        let all = before.map(|pod| pod.name().to_owned()).chain(made.map(|event| event.name.clone()));
        all.filter(|pod| !self.case.excused_pods.contains(pod)).collect()
    }

    /// Returns the values that a field of an object had, with the write that made it so; the first
    /// one, from before, has none.
    ///
    /// Controllers write whole objects back all the time: only a write that changes the value counts.
    pub(super) fn values(
        &self,
        cluster: Cluster,
        resource: &str,
        namespace: &str,
        name: &str,
        path: &[&str],
    ) -> Vec<(Option<&'a Event>, Value)> {
        let pointer = format!("/{}", path.join("/"));
        let before = self
            .case
            .before
            .get(cluster, resource, namespace, name)
            .and_then(|object| object.body.pointer(&pointer).cloned());
        // The server takes the status from writes of the status only, and nothing else from those.
        let of_status = path.first() == Some(&"status");
        let mut values: Vec<(Option<&Event>, Value)> = before.map(|value| (None, value)).into_iter().collect();
        // What is older is in the object from before, if there was one.
        let since = self.case.since;
        for event in self.writes().filter(|event| event.received > since && event.cluster == cluster) {
            let counts = event.is_about(resource, namespace, name) && (event.subresource == "status") == of_status;
            match event.assigns(path).filter(|_| counts) {
                Some(value) if values.last().is_none_or(|(_, last)| *last != value) => {
                    values.push((Some(event), value));
                }
                _ => {}
            }
        }
        values
    }

    /// Returns the value of a field at a moment with the write that gave it.
    pub(super) fn value_at(
        &self,
        cluster: Cluster,
        resource: &str,
        namespace: &str,
        name: &str,
        path: &[&str],
        at: Timestamp,
    ) -> Option<(Option<&'a Event>, Value)> {
        let values = self.values(cluster, resource, namespace, name, path);
        values.into_iter().rev().find(|(event, _)| event.is_none_or(|event| event.received <= at))
    }

    /// Returns the cluster whose instance last held a volume before a moment; none if no one did.
    pub(super) fn last_holder(&self, handle: &str, at: Timestamp) -> Option<Cluster> {
        let changes = self.evidence.changes.get(handle)?;
        changes
            .iter()
            .filter(|change| change.at <= at)
            .rev()
            .find_map(|change| change.now.attachments.iter().find(|attachment| attachment.state != "detached"))
            .and_then(|attachment| self.evidence.instances.get(&attachment.instance).copied())
    }

    /// Returns the cluster whose instance holds a volume at a moment; none when it is free.
    pub(super) fn holder(&self, handle: &str, at: Timestamp) -> Option<Cluster> {
        let change = self.evidence.changes.get(handle)?.iter().rfind(|change| change.at <= at)?;
        let attachment = change.now.attachments.iter().find(|attachment| attachment.state != "detached")?;
        self.evidence.instances.get(&attachment.instance).copied()
    }

    /// Returns whether the tool looked at an object (or was watching it) between two moments.
    ///
    /// A read that was under way at the first moment may have seen it.
    pub(super) fn looked(
        &self,
        cluster: Cluster,
        resource: &str,
        namespace: &str,
        name: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> bool {
        self.reads().any(|read| {
            let place = read.namespace.is_empty() || read.namespace == namespace;
            let covers = match read.verb.as_str() {
                "get" => read.name == name && read.completed >= from && read.completed <= to,
                "list" => read.completed >= from && read.completed <= to,
                // An open watch shows each change as it happens.
                _ => read.received <= to && read.completed >= from,
            };
            read.cluster == cluster && read.resource == resource && read.succeeded() && place && covers
        })
    }
}

/// Returns whether the request creates an object of this kind (not a subresource of one).
pub(super) fn is_create_of(event: &Event, resource: &str) -> bool {
    event.verb == "create" && event.resource == resource && event.subresource.is_empty()
}

/// The other cluster.
pub(super) fn other(cluster: Cluster) -> Cluster {
    match cluster {
        Cluster::A => Cluster::B,
        Cluster::B => Cluster::A,
    }
}

/// Returns a violation that some acts show.
pub(super) fn violation(invariant: &'static str, what: impl Into<String>, shown: &[&Event]) -> Violation {
    shown.iter().fold(Violation::new(invariant, what), |violation, event| violation.shown_by(event))
}

fn end_last(lives: &mut [Life]) {
    if let Some(life) = lives.last_mut() {
        life.gone = Some(life.last_write);
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;
    use crate::judge::made::{Made, second};

    fn absent_since(made: &Made, at: i64) -> Option<Timestamp> {
        let view = View::new(&made.evidence, &made.case);
        view.absent_since(Cluster::A, "pods", "a-space", "web-0", second(at))
    }

    #[test]
    fn what_was_there_before_lives_until_its_last_write() {
        let mut made = Made::new();
        assert_eq!(absent_since(&made, 9), None);
        made.delete(1, Cluster::A, "pods", "a-space", "web-0");
        let status = made.write(2, "node-agent", Cluster::A, "patch", "pods", "a-space", "web-0", json!({}));
        status.subresource = "status".to_owned();
        // It is Terminating while it still exists.
        assert_eq!(absent_since(&made, 9), None);
        made.forget(Cluster::A, "pods", "web-0");
        assert_eq!(absent_since(&made, 1), None);
        assert_eq!(absent_since(&made, 9), Some(second(2)));
    }

    /// Whoever asked for its end did so before the case began.
    #[test]
    fn what_was_terminating_before_lives_until_its_last_write() {
        let mut made = Made::new();
        let before = made.case.before.objects.iter_mut();
        let pod = before.filter(|object| object.resource == "pods").find(|object| object.name() == "web-0").unwrap();
        pod.body["metadata"]["deletionTimestamp"] = json!("2025-01-01T00:00:00Z");
        let finalizers = json!({"metadata": {"finalizers": null}});
        made.write(2, "csi-attacher", Cluster::A, "patch", "pods", "a-space", "web-0", finalizers);
        assert_eq!(absent_since(&made, 9), None, "it still exists");
        made.forget(Cluster::A, "pods", "web-0");
        assert_eq!(absent_since(&made, 1), None);
        assert_eq!(absent_since(&made, 9), Some(second(2)));
    }

    #[test]
    fn a_successor_has_a_life_of_its_own() {
        let mut made = Made::new();
        made.delete(1, Cluster::A, "pods", "a-space", "web-0");
        made.write(3, "kcm", Cluster::A, "create", "pods", "a-space", "web-0", json!({}));
        assert_eq!(absent_since(&made, 2), Some(second(1)));
        assert_eq!(absent_since(&made, 4), None);
    }

    /// The scheduler binds what it has seen by its watch, before the answer to the create is complete.
    #[test]
    fn what_came_of_a_create_is_its_own_although_that_is_answered_later() {
        let mut made = Made::new();
        made.delete(1, Cluster::A, "pods", "a-space", "web-0");
        made.write(3, "kcm", Cluster::A, "create", "pods", "a-space", "web-0", json!({})).completed = second(5);
        let binding = made.write(4, "scheduler", Cluster::A, "create", "pods", "a-space", "web-0", json!({}));
        binding.subresource = "binding".to_owned();
        assert_eq!(absent_since(&made, 2), Some(second(1)));
    }

    #[test]
    fn what_never_was_is_absent() {
        let made = Made::new();
        let view = View::new(&made.evidence, &made.case);
        let since = view.absent_since(Cluster::B, "pods", "b-space", "web-0", second(5));
        assert_eq!(since, Some(Timestamp::MIN));
    }

    #[test]
    fn only_a_write_that_changes_a_value_counts() {
        let mut made = Made::new();
        made.retain_all(1);
        let whole = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        made.write(5, "kcm", Cluster::A, "update", "persistentvolumes", "", "pv-0", whole);
        let view = View::new(&made.evidence, &made.case);
        let values = view.values(Cluster::A, "persistentvolumes", "", "pv-0", &RECLAIM_POLICY);
        let found: Vec<_> =
            values.iter().map(|(event, value)| (event.map(|event| event.received), value.clone())).collect();
        assert_eq!(found, [(None, json!("Delete")), (Some(second(1)), json!("Retain"))]);
    }

    #[test]
    fn a_read_that_was_under_way_may_have_seen_it() {
        let mut made = Made::new();
        made.read(1, Cluster::A, "list", "pods", "a-space", "", 200);
        let watch = made.read(3, Cluster::A, "watch", "nodes", "", "", 200);
        watch.completed = Timestamp::MAX;
        let view = View::new(&made.evidence, &made.case);
        let looked = |resource, from, to| view.looked(Cluster::A, resource, "a-space", "x", from, second(to));
        assert!(looked("pods", second(1) + SignedDuration::from_millis(1), 2));
        assert!(!looked("pods", second(2), 9));
        assert!(looked("nodes", second(7), 9));
        assert!(!looked("nodes", second(1), 2));
    }
}
