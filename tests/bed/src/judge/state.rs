//! What the tool keeps in the clusters, what it repeats, and what it leaves: I-12, I-14, I-18, I-24.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Cluster;

use super::ending::has_come_into_use;
use super::view::{View, is_create_of, violation};
use super::{Event, Expected, Violation};

/// What the names and annotations of everything that the tool keeps for itself contain.
pub(super) const OWN_NAME: &str = "sts-migrate";

/// The resources in which the tool keeps its lock, its plan and its record.
pub(super) const OWN_RESOURCES: [&str; 3] = ["leases", "secrets", "configmaps"];

/// Where the tool's record stands in its ConfigMap, as YAML.
const RECORD: [&str; 2] = ["data", "record.yaml"];

/// I-12: the plan is in both clusters before the first change, and stays until the outcome is
/// written down in both.
pub(super) fn i12_plan_while_it_matters(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    if let Some(first) = view.acts().find(|event| !is_own(event) && !is_create_of(event, "namespaces")) {
        for cluster in Cluster::BOTH {
            let planned = view.acts().any(|event| {
                event.cluster == cluster && is_create_of(event, "secrets") && event.completed <= first.received
            });
            if !planned {
                let what = format!("no plan is in {} before the first change", cluster.name());
                violations.push(violation("I-12", what, &[first]));
            }
        }
    }
    for delete in view.acts().filter(|event| event.verb == "delete" && event.resource == "secrets") {
        for cluster in Cluster::BOTH {
            let last = records(view, cluster).into_iter().rfind(|(event, _)| event.completed <= delete.received);
            if last.is_none_or(|(_, record)| record["outcome"].is_null()) {
                let what = format!("a plan is deleted while the record in {} has no outcome", cluster.name());
                violations.push(violation("I-12", what, &[delete]));
            }
        }
    }
    violations
}

/// I-14: a step that is run again does nothing twice: no second pod of A is deleted for one ordinal,
/// and no set for one that was deleted before, unless the tool had put the set back itself.
pub(super) fn i14_nothing_twice(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let namespace = view.case.namespace(Cluster::A);
    let mut names: Vec<(&str, String)> = view.case.ordinals().map(|ordinal| ("pods", view.case.pod(ordinal))).collect();
    names.push(("statefulsets", view.case.set.clone()));
    for (resource, name) in names {
        let lives = view.lives(Cluster::A, resource, namespace, &name);
        let mut deleted: Vec<(usize, &Event)> = Vec::new();
        for event in view.acts() {
            if event.cluster != Cluster::A || event.verb != "delete" || !event.is_about(resource, namespace, &name) {
                continue;
            }
            let life = lives.iter().rposition(|life| life.born <= event.received).unwrap_or(0);
            if let Some((former, earlier)) = deleted.last() {
                let put_back = view
                    .set_creates(Cluster::A)
                    .any(|create| create.received > earlier.received && create.received < event.received);
                if *former != life && !put_back {
                    let what = format!("{resource} {name} is deleted in a, and then its successor");
                    violations.push(violation("I-14", what, &[earlier, event]));
                }
            }
            deleted.push((life, event));
        }
    }
    violations
}

/// I-18: once a failure is written into the record, nothing is changed any more but record and lock,
/// until somebody takes the lock again.
pub(super) fn i18_nothing_after_a_failure(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut known: BTreeMap<Cluster, Value> = BTreeMap::new();
    let mut holders: BTreeMap<Cluster, String> = BTreeMap::new();
    let mut failed: Option<&Event> = None;
    for event in view.acts() {
        if let Some(record) = record_of(event) {
            let failure = record["lastFailure"].clone();
            let former = known.insert(event.cluster, failure.clone()).unwrap_or_default();
            if !failure.is_null() && failure != former {
                failed = failed.or(Some(event));
            }
        } else if event.resource == "leases" {
            let holder = event.assigns(&["spec", "holderIdentity"]);
            let holder = match (event.verb.as_str(), &holder) {
                ("delete", _) => "",
                (_, Some(holder)) => holder.as_str().unwrap_or_default(),
                // A renewal need not name the holder again.
                (_, None) => continue,
            };
            let former = holders.insert(event.cluster, holder.to_owned());
            if !holder.is_empty() && former.as_deref() != Some(holder) {
                failed = None;
            }
        } else if let Some(failure) = failed {
            let what = format!("{} of {} {} after the failure", event.verb, event.resource, event.name);
            violations.push(violation("I-18", what, &[failure, event]));
        }
    }
    violations
}

/// I-24: of what the tool created nothing is left at the end but the moved objects and one record
/// per cluster.
pub(super) fn i24_nothing_leaks(view: &View<'_>) -> Vec<Violation> {
    let kept: &[&str] = match view.case.expected {
        Expected::Untouched | Expected::Midway | Expected::Moved => return Vec::new(),
        Expected::RolledBack => &[],
        Expected::Finalized => {
            &["statefulsets", "persistentvolumes", "persistentvolumeclaims", "services", "ingresses"]
        }
    };
    let mut violations = Vec::new();
    let mut records: BTreeMap<Cluster, Vec<&str>> = BTreeMap::new();
    for object in &view.evidence.live.objects {
        let created = view.acts().find(|event| {
            event.cluster == object.cluster
                && is_create_of(event, &object.resource)
                && event.is_about(&object.resource, object.namespace(), object.name())
        });
        let Some(created) = created else { continue };
        let returned = object.cluster == Cluster::A
            && view.case.before.get(Cluster::A, &object.resource, object.namespace(), object.name()).is_some();
        let moved = object.cluster == Cluster::B && kept.contains(&object.resource.as_str());
        if object.resource == "configmaps" {
            records.entry(object.cluster).or_default().push(object.name());
        } else if !returned && !moved && !has_come_into_use(view, object) {
            violations.push(violation("I-24", format!("{} is left over", object.title()), &[created]));
        }
    }
    for (cluster, names) in records.into_iter().filter(|(_, names)| names.len() > 1) {
        let what = format!("{} has the records {}", cluster.name(), names.join(", "));
        violations.push(Violation::new("I-24", what));
    }
    violations
}

fn is_own(event: &Event) -> bool {
    OWN_RESOURCES.contains(&event.resource.as_str())
}

/// Returns the records that the tool wrote in a cluster.
fn records<'a>(view: &View<'a>, cluster: Cluster) -> Vec<(&'a Event, Value)> {
    view.acts().filter(|event| event.cluster == cluster).filter_map(|event| Some((event, record_of(event)?))).collect()
}

/// Returns the record that a write stores.
fn record_of(event: &Event) -> Option<Value> {
    if event.resource != "configmaps" {
        return None;
    }
    serde_yaml::from_str(event.assigns(&RECORD)?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::judge::made::{Made, TOOL};

    fn record(made: &mut Made, at: i64, cluster: Cluster, text: &str) {
        let namespace = format!("{}-space", cluster.name());
        let body = json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "data": {"record.yaml": text}});
        made.write(at, TOOL, cluster, "update", "configmaps", &namespace, "sts-migrate-set-web-1", body);
    }

    fn lease(made: &mut Made, at: i64, holder: &str) {
        let body = json!({"spec": {"holderIdentity": holder}});
        made.write(at, TOOL, Cluster::A, "update", "leases", "a-space", "sts-migrate-set-web-1", body);
    }

    #[test]
    fn i12_wants_the_plan_first_in_both_clusters() {
        let mut made = Made::new();
        made.write(1, TOOL, Cluster::A, "create", "secrets", "a-space", "sts-migrate-web-1", json!({}));
        made.retain_all(3);
        made.rejects(i12_plan_while_it_matters, "no plan is in b");
        made.write(2, TOOL, Cluster::B, "create", "secrets", "b-space", "sts-migrate-web-1", json!({}));
        made.accepts(i12_plan_while_it_matters);
    }

    #[test]
    fn i12_wants_the_outcome_before_the_plan_goes() {
        let mut made = Made::new();
        record(&mut made, 1, Cluster::A, "{outcome: Completed}");
        record(&mut made, 1, Cluster::B, "{outcome: null}");
        made.delete(5, Cluster::A, "secrets", "a-space", "sts-migrate-web-1");
        made.rejects(i12_plan_while_it_matters, "the record in b has no outcome");
        record(&mut made, 2, Cluster::B, "{outcome: Completed}");
        made.accepts(i12_plan_while_it_matters);
    }

    #[test]
    fn i14_sees_a_second_pod_deleted_for_one_ordinal() {
        let mut made = Made::new();
        made.delete(1, Cluster::A, "pods", "a-space", "web-0");
        made.delete(2, Cluster::A, "pods", "a-space", "web-0");
        made.accepts(i14_nothing_twice);
        made.write(3, "kcm", Cluster::A, "create", "pods", "a-space", "web-0", json!({}));
        made.delete(4, Cluster::A, "pods", "a-space", "web-0");
        made.rejects(i14_nothing_twice, "and then its successor");
    }

    #[test]
    fn i14_lets_a_set_that_was_put_back_be_moved_again() {
        let mut made = Made::new();
        made.delete(1, Cluster::A, "pods", "a-space", "web-0");
        made.write(2, TOOL, Cluster::A, "create", "statefulsets", "a-space", "web", json!({}));
        made.write(3, "kcm", Cluster::A, "create", "pods", "a-space", "web-0", json!({}));
        made.delete(4, Cluster::A, "pods", "a-space", "web-0");
        made.accepts(i14_nothing_twice);
    }

    #[test]
    fn i18_sees_an_act_after_the_failure() {
        let mut made = Made::new();
        lease(&mut made, 1, "one");
        record(&mut made, 2, Cluster::A, "{lastFailure: {in: swing, at: now}}");
        lease(&mut made, 3, "");
        made.accepts(i18_nothing_after_a_failure);
        made.scale_b(4, 1);
        made.rejects(i18_nothing_after_a_failure, "after the failure");
    }

    #[test]
    fn i18_lets_the_next_run_go_on_and_keep_the_text() {
        let mut made = Made::new();
        lease(&mut made, 1, "one");
        record(&mut made, 2, Cluster::A, "{lastFailure: {in: swing, at: now}}");
        lease(&mut made, 3, "");
        lease(&mut made, 4, "two");
        record(&mut made, 5, Cluster::A, "{lastFailure: {in: swing, at: now}, seq: 9}");
        made.scale_b(6, 1);
        made.accepts(i18_nothing_after_a_failure);
    }

    #[test]
    fn i24_sees_what_the_tool_leaves() {
        let mut made = Made::new();
        made.case.expected = Expected::RolledBack;
        made.pair_in_b(1, 0);
        made.accepts(i24_nothing_leaks);
        made.exists_in_b(0);
        made.rejects(i24_nothing_leaks, "persistentvolumes pv-0 in b is left over");
        made.case.expected = Expected::Finalized;
        made.accepts(i24_nothing_leaks);
    }
}
