//! The form and the target of each single call: I-9, I-10, I-21.

use serde_json::Value;

use crate::Cluster;

use super::evidence::handle_of;
use super::state::{OWN_NAME, OWN_RESOURCES};
use super::view::{View, is_create_of, violation};
use super::{Event, Expected, Violation};

/// Grace period that pods have if they do not say.
const DEFAULT_GRACE: i64 = 30;

/// I-9: every update and delete names uid and version of what it means; no pod gets less time than
/// it asks for, none is evicted, nothing is deleted by the collection, no finalizer is removed.
pub(super) fn i9_preconditions_everywhere(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for event in view.attempts() {
        let title = format!("{} of {} {}", event.verb, event.resource, event.name);
        let mut reject = |what: String| violations.push(violation("I-9", what, &[event]));
        match event.verb.as_str() {
            "update" | "patch" | "delete" => {
                for field in ["uid", "resourceVersion"] {
                    if event.demands(field).is_none() {
                        reject(format!("{title} does not demand the {field}"));
                    }
                }
            }
            "deletecollection" => reject(title.clone()),
            "create" if event.subresource == "eviction" => reject(format!("eviction of pod {}", event.name)),
            _ => {}
        }
        if let Some((given, wanted)) = shortened_grace(view, event) {
            reject(format!("{title} gives {given} s, the pod asks for {wanted} s"));
        }
        if removes_finalizers(event) {
            reject(format!("{title} removes a finalizer"));
        }
    }
    violations
}

/// Returns the grace period that a delete gives, and the one that the pod asks for, if it is less.
fn shortened_grace(view: &View<'_>, event: &Event) -> Option<(i64, i64)> {
    if event.verb != "delete" || event.resource != "pods" {
        return None;
    }
    let in_query = event.query.get("gracePeriodSeconds").and_then(|seconds| seconds.parse().ok());
    let given = event.body.get("gracePeriodSeconds").and_then(Value::as_i64).or(in_query)?;
    let set = view.case.before.get(Cluster::A, "statefulsets", &view.case.source, &view.case.set);
    let wanted = set
        .and_then(|set| set.body.pointer("/spec/template/spec/terminationGracePeriodSeconds"))
        .and_then(Value::as_i64)
        .unwrap_or(DEFAULT_GRACE);
    (given < wanted).then_some((given, wanted))
}

/// Returns whether a write takes finalizers away.
fn removes_finalizers(event: &Event) -> bool {
    if let Value::Array(operations) = &event.body {
        let touches = |operation: &Value| {
            operation["op"] != "test"
                && operation["path"].as_str().is_some_and(|path| path.starts_with("/metadata/finalizers"))
        };
        return operations.iter().any(touches);
    }
    let named = event.body.pointer("/metadata/finalizers");
    match event.verb.as_str() {
        // In a patch, naming them at all replaces or clears them.
        "patch" => named.is_some() || event.body.pointer("/metadata/$deleteFromPrimitiveList/finalizers").is_some(),
        // Every claim and PersistentVolume has the server's protection; an update without drops it.
        "update" if event.subresource.is_empty() => {
            matches!(event.resource.as_str(), "persistentvolumes" | "persistentvolumeclaims" | "volumeattachments")
                && named.and_then(Value::as_array).is_none_or(Vec::is_empty)
        }
        _ => false,
    }
}

/// I-10, first half: sets are always deleted with `Orphan`.
pub(super) fn i10_sets_are_orphaned(view: &View<'_>) -> Vec<Violation> {
    view.attempts()
        .filter(|event| event.verb == "delete" && event.resource == "statefulsets")
        .filter(|event| {
            let in_body = event.body.get("propagationPolicy").and_then(Value::as_str);
            let in_query = event.query.get("propagationPolicy").map(String::as_str);
            in_body.or(in_query) != Some("Orphan")
        })
        .map(|event| {
            let what = format!("set {} is deleted in {} without Orphan", event.name, event.cluster.name());
            violation("I-10", what, &[event])
        })
        .collect()
}

/// I-21: the tool changes nothing but the set's own objects and what it keeps for itself, and
/// bystanders stay as they were.
pub(super) fn i21_only_the_sets_own_objects(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for event in view.attempts() {
        let title = format!(
            "{} of {} {}/{} in {}",
            event.verb,
            event.resource,
            event.namespace,
            event.name,
            event.cluster.name()
        );
        if view.case.expected == Expected::Untouched {
            violations.push(violation("I-21", format!("{title}, nothing was to change"), &[event]));
        } else if !may_change(view, event) {
            violations.push(violation("I-21", format!("{title} is not the set's"), &[event]));
        }
    }
    violations.extend(changed_bystanders(view));
    violations
}

/// Returns whether a request is about something that the tool may change.
fn may_change(view: &View<'_>, event: &Event) -> bool {
    let case = view.case;
    let name = event.name.as_str();
    let create = event.verb == "create";
    let in_place = event.namespace == case.namespace(event.cluster);
    match event.resource.as_str() {
        "namespaces" => create && event.cluster == Cluster::B && name == case.destination,
        "persistentvolumes" if create => handle_of(&event.body).is_some_and(|handle| case.volume(&handle).is_some()),
        "persistentvolumes" => view.named.contains_key(&(event.cluster, name.to_owned())),
        "persistentvolumeclaims" => in_place && case.volume_of_claim(name).is_some(),
        "statefulsets" => in_place && name == case.set,
        // The controller makes pods, the tool never does.
        "pods" => in_place && !create && case.ordinal_of(name).is_some(),
        "controllerrevisions" => in_place && !create && is_own_revision(view, event),
        // What belongs to the set in the source stays there.
        "services" | "ingresses" => event.cluster == Cluster::B && in_place && case.services.contains(name),
        resource if OWN_RESOURCES.contains(&resource) => {
            in_place && name.contains(OWN_NAME) && name.contains(shortened(&case.set))
        }
        _ => false,
    }
}

/// Returns the part of a long name that fits into another one.
fn shortened(name: &str) -> &str {
    let end = (0..=name.len().min(20)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    &name[..end]
}

/// Returns whether a ControllerRevision is one of the set's: a name alone is no proof, since those
/// of the set `web-api` begin with `web-`, too.
fn is_own_revision(view: &View<'_>, event: &Event) -> bool {
    let case = view.case;
    let before = case.before.get(event.cluster, "controllerrevisions", &event.namespace, &event.name);
    let created = view.writes().find(|write| {
        write.cluster == event.cluster
            && is_create_of(write, "controllerrevisions")
            && write.namespace == event.namespace
            && write.name == event.name
    });
    let body = before.map(|revision| &revision.body).or(created.map(|create| &create.body));
    let references = body.and_then(|body| body.pointer("/metadata/ownerReferences")).and_then(Value::as_array);
    references.into_iter().flatten().any(|owner| owner["kind"] == "StatefulSet" && owner["name"] == case.set.as_str())
}

/// Returns the bystanders that are not as they were.
fn changed_bystanders(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let bystanders = view.case.before.objects.iter().filter(|object| is_bystander(view, object));
    for before in bystanders.filter(|object| !is_of_another_move(view, object)) {
        let live = view.evidence.live.get(before.cluster, &before.resource, before.namespace(), before.name());
        let what = match live {
            None => "is gone".to_owned(),
            Some(live) => {
                let changed = ["/metadata/uid", "/metadata/labels", "/metadata/annotations", "/spec", "/data"]
                    .into_iter()
                    .find(|pointer| live.body.pointer(pointer) != before.body.pointer(pointer));
                match changed {
                    None => continue,
                    Some(pointer) => format!(
                        "has another {pointer}: {} was {}",
                        live.body.pointer(pointer).unwrap_or(&Value::Null),
                        before.body.pointer(pointer).unwrap_or(&Value::Null)
                    ),
                }
            }
        };
        violations.push(Violation::new("I-21", format!("the bystander {} {what}", before.title())));
    }
    violations
}

/// Returns whether an object from before has nothing to do with the move.
fn is_bystander(view: &View<'_>, object: &super::Object) -> bool {
    let case = view.case;
    let ours = match object.resource.as_str() {
        "persistentvolumes" => view.named.contains_key(&(object.cluster, object.name().to_owned())),
        "persistentvolumeclaims" => case.volume_of_claim(object.name()).is_some(),
        "statefulsets" => object.name() == case.set,
        "pods" => case.ordinal_of(object.name()).is_some() || case.excused_pods.contains(object.name()),
        "controllerrevisions" => is_owned_by(object, &case.set),
        // Their status, or what the servers write into them, changes all the time.
        "volumeattachments" | "nodes" | "namespaces" | "endpoints" | "endpointslices" | "events" => true,
        resource if OWN_RESOURCES.contains(&resource) => object.name().contains(OWN_NAME),
        _ => false,
    };
    !ours
}

fn is_owned_by(object: &super::Object, set: &str) -> bool {
    let owners = object.body.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner["name"] == set)
}

/// Returns whether an object belongs to another set of the namespace that the test moves, too.
fn is_of_another_move(view: &View<'_>, object: &super::Object) -> bool {
    let case = view.case;
    let is_volume = object.resource == "persistentvolumes";
    let at = |own: &'static str, claim: &'static str| object.text(if is_volume { claim } else { own });
    let name = at("/metadata/name", "/spec/claimRef/name");
    let in_place = at("/metadata/namespace", "/spec/claimRef/namespace") == case.namespace(object.cluster);
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit()).strip_suffix('-');
    let governs =
        |set: &super::Object| case.other_sets.contains(set.name()) && set.text("/spec/serviceName") == object.name();
    in_place
        && match object.resource.as_str() {
            "statefulsets" => case.other_sets.contains(name),
            "services" => case.before.of(object.cluster, "statefulsets").any(governs),
            "pods" => stem.is_some_and(|stem| case.other_sets.contains(stem)),
            "controllerrevisions" => case.other_sets.iter().any(|set| is_owned_by(object, set)),
            "persistentvolumeclaims" | "persistentvolumes" => {
                let of_set = |set: &String| stem.is_some_and(|stem| stem.ends_with(&format!("-{set}")));
                case.other_sets.iter().any(of_set)
            }
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::judge::made::{Made, TOOL};

    #[test]
    fn i9_accepts_calls_that_name_what_they_mean() {
        let mut made = Made::new();
        made.delete(1, Cluster::A, "pods", "a-space", "web-0");
        made.retain_all(2);
        made.accepts(i9_preconditions_everywhere);
    }

    #[test]
    fn i9_sees_each_missing_precondition() {
        let mut made = Made::new();
        let body = json!({"preconditions": {"uid": "u"}});
        made.write(1, TOOL, Cluster::A, "delete", "pods", "a-space", "web-0", body);
        made.rejects(i9_preconditions_everywhere, "does not demand the resourceVersion");
        let mut made = Made::new();
        let body = json!({"metadata": {"resourceVersion": "7"}, "spec": {}});
        made.write(1, TOOL, Cluster::A, "patch", "persistentvolumes", "", "pv-0", body);
        made.rejects(i9_preconditions_everywhere, "does not demand the uid");
    }

    #[test]
    fn i9_sees_haste_eviction_and_collections() {
        let mut made = Made::new();
        made.delete(1, Cluster::A, "pods", "a-space", "web-0").body["gracePeriodSeconds"] = json!(0);
        made.rejects(i9_preconditions_everywhere, "gives 0 s");
        let mut made = Made::new();
        let event = made.write(1, TOOL, Cluster::A, "create", "pods", "a-space", "web-0", json!({}));
        event.subresource = "eviction".to_owned();
        made.rejects(i9_preconditions_everywhere, "eviction");
        let mut made = Made::new();
        made.write(1, TOOL, Cluster::A, "deletecollection", "pods", "a-space", "", json!({}));
        made.rejects(i9_preconditions_everywhere, "deletecollection");
    }

    #[test]
    fn i9_sees_finalizers_removed_in_each_way() {
        let metadata =
            |finalizers: Value| json!({"metadata": {"uid": "u", "resourceVersion": "7", "finalizers": finalizers}});
        for (verb, body) in [
            ("patch", metadata(Value::Null)),
            ("update", metadata(json!([]))),
            (
                "patch",
                json!([
                    {"op": "test", "path": "/metadata/uid", "value": "u"},
                    {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
                    {"op": "remove", "path": "/metadata/finalizers/0"},
                ]),
            ),
        ] {
            let mut made = Made::new();
            made.write(1, TOOL, Cluster::A, verb, "persistentvolumes", "", "pv-0", body);
            made.rejects(i9_preconditions_everywhere, "removes a finalizer");
        }
        let mut made = Made::new();
        let body = metadata(json!(["kubernetes.io/pv-protection"]));
        made.write(1, TOOL, Cluster::A, "update", "persistentvolumes", "", "pv-0", body);
        made.accepts(i9_preconditions_everywhere);
    }

    #[test]
    fn i10_demands_orphan_in_body_or_query() {
        let mut made = Made::new();
        made.delete(1, Cluster::A, "statefulsets", "a-space", "web").body["propagationPolicy"] = json!("Orphan");
        made.accepts(i10_sets_are_orphaned);
        let mut made = Made::new();
        made.delete(1, Cluster::A, "statefulsets", "a-space", "web");
        made.rejects(i10_sets_are_orphaned, "without Orphan");
        let mut made = Made::new();
        made.delete(1, Cluster::A, "statefulsets", "a-space", "web").body["propagationPolicy"] = json!("Background");
        made.rejects(i10_sets_are_orphaned, "without Orphan");
    }

    #[test]
    fn i21_accepts_the_sets_objects_and_its_own() {
        let mut made = Made::new();
        made.retain_all(1);
        made.pair_in_b(2, 0);
        made.set_in_b(4, 0);
        made.scale_b(5, 1);
        made.write(6, TOOL, Cluster::A, "create", "leases", "a-space", "sts-migrate-web-1f", json!({}));
        made.write(6, TOOL, Cluster::B, "create", "services", "b-space", "web", json!({}));
        made.accepts(i21_only_the_sets_own_objects);
    }

    #[test]
    fn i21_sees_each_stranger() {
        for (cluster, verb, resource, namespace, name) in [
            (Cluster::A, "patch", "persistentvolumes", "", "pv-bystander"),
            (Cluster::A, "delete", "persistentvolumeclaims", "a-space", "data-other-0"),
            (Cluster::A, "delete", "pods", "a-space", "web-2"),
            (Cluster::A, "delete", "pods", "another-space", "web-0"),
            (Cluster::A, "update", "services", "a-space", "web"),
            (Cluster::A, "create", "configmaps", "kube-system", "sts-migrate-web"),
            (Cluster::B, "create", "configmaps", "b-space", "web"),
            (Cluster::B, "delete", "namespaces", "", "b-space"),
            (Cluster::B, "create", "pods", "b-space", "web-0"),
            (Cluster::A, "delete", "controllerrevisions", "a-space", "web-api-1"),
            (Cluster::A, "delete", "volumeattachments", "", "va-0"),
        ] {
            let mut made = Made::new();
            made.write(1, TOOL, cluster, verb, resource, namespace, name, json!({}));
            made.rejects(i21_only_the_sets_own_objects, "is not the set's");
        }
    }

    #[test]
    fn i21_sees_any_change_where_none_was_to_be() {
        let mut made = Made::new();
        made.case.expected = Expected::Untouched;
        made.read(1, Cluster::A, "list", "pods", "", "", 200);
        made.accepts(i21_only_the_sets_own_objects);
        made.retain_all(2);
        made.rejects(i21_only_the_sets_own_objects, "nothing was to change");
    }

    #[test]
    fn i21_sees_a_bystander_that_changed_or_went() {
        let mut made = Made::new();
        made.bystander("other");
        made.accepts(i21_only_the_sets_own_objects);
        made.forget(Cluster::A, "statefulsets", "other");
        made.rejects(i21_only_the_sets_own_objects, "statefulsets other in a is gone");
        let mut made = Made::new();
        made.bystander("other");
        made.live(Cluster::A, "statefulsets", "other").body["metadata"]["labels"] = json!({"new": "label"});
        made.rejects(i21_only_the_sets_own_objects, "has another /metadata/labels");
    }

    #[test]
    fn i21_leaves_another_move_of_the_test_to_its_own_case() {
        let mut made = Made::new();
        made.bystander("other");
        made.bystander("another");
        made.case = made.case.beside("other");
        made.forget(Cluster::A, "statefulsets", "other");
        made.accepts(i21_only_the_sets_own_objects);
        made.forget(Cluster::A, "statefulsets", "another");
        made.rejects(i21_only_the_sets_own_objects, "statefulsets another in a is gone");
    }
}
