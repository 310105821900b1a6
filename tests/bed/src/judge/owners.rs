//! Survivors and owner references: I-10, I-11, I-19.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Cluster;

use super::view::{View, violation};
use super::{Event, Expected, Object, Violation};

/// Kinds of the set's objects that have owners.
const OWNED: [&str; 3] = ["pods", "persistentvolumeclaims", "controllerrevisions"];

/// I-10, second half: pods of the source that the tool does not delete live on through the freeze.
///
/// The test's own actors may kill pods (as `admin`); everybody else only follows.
pub(super) fn i10_pods_survive_the_freeze(view: &View<'_>) -> Vec<Violation> {
    if view.set_deletes(Cluster::A).next().is_none() || view.case.expected == Expected::RolledBack {
        return Vec::new();
    }
    changed_survivors(view, "I-10")
}

/// I-19: pods of the source that were never moved are not restarted by a rollback.
pub(super) fn i19_survivors_of_a_rollback(view: &View<'_>) -> Vec<Violation> {
    if view.case.expected != Expected::RolledBack {
        return Vec::new();
    }
    changed_survivors(view, "I-19")
}

/// Returns the pods of the source that nobody meant to stop, and that are not as they were.
fn changed_survivors(view: &View<'_>, invariant: &'static str) -> Vec<Violation> {
    let mut violations = Vec::new();
    for before in view.case.before.of(Cluster::A, "pods") {
        let name = before.name();
        let ours = before.namespace() == view.case.source && view.case.ordinal_of(name).is_some();
        if !ours || view.case.excused_pods.contains(name) || was_stopped_on_purpose(view, name) {
            continue;
        }
        let live = view.evidence.live.get(Cluster::A, "pods", &view.case.source, name);
        let what = match live {
            None => format!("pod {name} in a is gone, and was not to be stopped"),
            Some(live) if live.uid() != before.uid() => format!("pod {name} in a is another one now"),
            Some(live) if live.body.pointer("/metadata/deletionTimestamp").is_some() => {
                format!("pod {name} in a is being deleted, and was not to be stopped")
            }
            Some(live) if restarts(live) != restarts(before) => format!("pod {name} in a was restarted"),
            Some(_) => continue,
        };
        let deletes: Vec<&Event> = view.writes().filter(|event| is_delete_of(view, event, name)).collect();
        violations.push(violation(invariant, what, &deletes));
    }
    violations
}

fn was_stopped_on_purpose(view: &View<'_>, pod: &str) -> bool {
    view.writes()
        .filter(|event| is_delete_of(view, event, pod))
        .any(|event| view.is_tools(event) || event.user == "admin")
}

fn is_delete_of(view: &View<'_>, event: &Event, pod: &str) -> bool {
    let deletes = event.verb == "delete" || event.subresource == "eviction";
    event.cluster == Cluster::A && deletes && event.is_about("pods", &view.case.source, pod)
}

fn restarts(pod: &Object) -> i64 {
    let statuses = pod.body.pointer("/status/containerStatuses").and_then(Value::as_array);
    statuses.into_iter().flatten().filter_map(|status| status["restartCount"].as_i64()).sum()
}

/// I-11: after the freeze no object in the source is owned by the old set, and at the end none of
/// the set's objects is owned by anything that does not exist.
///
/// An owner that is missing is the garbage collector's order to delete. A reference that the tool
/// itself writes back after the freeze counts even when the object is gone already.
pub(super) fn i11_no_dangling_owner(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let old = view.case.old_set();
    let frozen = view.set_deletes(Cluster::A).map(|delete| delete.received).min();
    if let (Some(frozen), false) = (frozen, old.is_empty()) {
        let written = view.acts().filter(|event| event.cluster == Cluster::A && event.received > frozen);
        for event in written.filter(|event| gives_owner(event, old)) {
            let what = format!("{} {} gets the deleted set as owner", event.resource, event.name);
            violations.push(violation("I-11", what, &[event]));
        }
    }
    for cluster in Cluster::BOTH {
        let live = &view.evidence.live;
        let existing: BTreeSet<&str> =
            live.objects.iter().filter(|object| object.cluster == cluster).map(|object| object.uid()).collect();
        for resource in OWNED {
            for object in live.of(cluster, resource).filter(|object| is_ours(view, object)) {
                for owner in object.owners().into_iter().filter(|owner| !existing.contains(owner)) {
                    let whose = if owner == old { "the deleted set" } else { "something that does not exist" };
                    let what = format!("{} is owned by {whose} ({owner})", object.title());
                    violations.push(Violation::new("I-11", what));
                }
            }
        }
    }
    violations
}

fn gives_owner(event: &Event, owner: &str) -> bool {
    let references = event.assigns(&["metadata", "ownerReferences"]);
    let references = references.as_ref().and_then(Value::as_array);
    references
        .into_iter()
        .flatten()
        .any(|reference| reference["uid"] == owner && reference.get("$patch").is_none_or(|patch| patch != "delete"))
}

fn is_ours(view: &View<'_>, object: &Object) -> bool {
    let case = view.case;
    object.namespace() == case.namespace(object.cluster)
        && match object.resource.as_str() {
            "pods" => case.ordinal_of(object.name()).is_some(),
            "persistentvolumeclaims" => case.volume_of_claim(object.name()).is_some(),
            _ => {
                let owners = object.body.pointer("/metadata/ownerReferences").and_then(Value::as_array);
                owners.into_iter().flatten().any(|owner| owner["name"] == case.set.as_str())
            }
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::judge::made::{Made, TOOL};

    fn frozen() -> Made {
        let mut made = Made::new();
        made.delete(5, Cluster::A, "statefulsets", "a-space", "web");
        made.forget(Cluster::A, "statefulsets", "web");
        for pod in ["web-0", "web-1"] {
            made.live(Cluster::A, "pods", pod).body["metadata"]["ownerReferences"] = json!([]);
        }
        made
    }

    #[test]
    fn i10_accepts_survivors_and_pods_that_the_tool_moved() {
        let mut made = frozen();
        made.delete(6, Cluster::A, "pods", "a-space", "web-0");
        made.forget(Cluster::A, "pods", "web-0");
        made.accepts(i10_pods_survive_the_freeze);
    }

    #[test]
    fn i10_sees_a_pod_that_the_garbage_collector_took() {
        let mut made = frozen();
        made.write(6, "generic-garbage-collector", Cluster::A, "delete", "pods", "a-space", "web-1", json!({}));
        made.forget(Cluster::A, "pods", "web-1");
        made.rejects(i10_pods_survive_the_freeze, "pod web-1 in a is gone");
    }

    #[test]
    fn i10_forgives_what_the_test_did() {
        let mut made = frozen();
        made.write(6, "admin", Cluster::A, "delete", "pods", "a-space", "web-1", json!({}));
        made.forget(Cluster::A, "pods", "web-1");
        made.accepts(i10_pods_survive_the_freeze);
    }

    #[test]
    fn i19_sees_a_survivor_that_was_replaced_or_restarted() {
        let mut made = Made::new();
        made.case.expected = Expected::RolledBack;
        made.accepts(i19_survivors_of_a_rollback);
        made.live(Cluster::A, "pods", "web-1").body["metadata"]["uid"] = json!("another");
        made.rejects(i19_survivors_of_a_rollback, "pod web-1 in a is another one now");
        let mut made = Made::new();
        made.case.expected = Expected::RolledBack;
        made.live(Cluster::A, "pods", "web-1").body["status"] = json!({"containerStatuses": [{"restartCount": 1}]});
        made.rejects(i19_survivors_of_a_rollback, "pod web-1 in a was restarted");
    }

    #[test]
    fn i11_accepts_owners_that_exist_and_sees_those_that_do_not() {
        Made::new().accepts(i11_no_dangling_owner);
        let mut made = frozen();
        made.accepts(i11_no_dangling_owner);
        made.live(Cluster::A, "pods", "web-1").body["metadata"]["ownerReferences"] = json!([{"uid": "set-uid"}]);
        made.rejects(i11_no_dangling_owner, "pods web-1 in a is owned by the deleted set");
    }

    #[test]
    fn i11_sees_an_owner_that_is_written_back() {
        let mut made = frozen();
        let body = json!({"metadata": {"ownerReferences": [{"uid": "set-uid"}]}});
        made.write(6, TOOL, Cluster::A, "patch", "persistentvolumeclaims", "a-space", "data-web-1", body);
        made.rejects(i11_no_dangling_owner, "gets the deleted set as owner");
        // Taking it away is what the tool is for.
        let mut made = frozen();
        let body = json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": "set-uid"}]}});
        made.write(6, TOOL, Cluster::A, "patch", "persistentvolumeclaims", "a-space", "data-web-1", body);
        made.accepts(i11_no_dangling_owner);
    }
}
