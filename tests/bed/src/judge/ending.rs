//! What is left at the end: I-15 after a rollback, I-16 after finalize.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::Cluster;

use super::state::OWN_NAME;
use super::view::{View, is_create_of, other};
use super::{Expected, Object, Violation};

/// The field of a set that says what becomes of claims.
const RETENTION: &str = "/spec/persistentVolumeClaimRetentionPolicy";

/// I-15: after a rollback the source has its set, claims, volumes and policies as before, and the
/// destination has nothing of the set any more.
pub(super) fn i15_rolled_back(view: &View<'_>) -> Vec<Violation> {
    if view.case.expected != Expected::RolledBack {
        return Vec::new();
    }
    let case = view.case;
    let mut wrong = Vec::new();
    let was = case.before.get(Cluster::A, "statefulsets", &case.source, &case.set);
    match (was, view.evidence.live.get(Cluster::A, "statefulsets", &case.source, &case.set)) {
        (Some(_), None) => wrong.push(format!("the set {} does not exist in a", case.set)),
        (Some(was), Some(is)) if was.body.pointer("/spec") != is.body.pointer("/spec") => {
            wrong.push(format!("the set {} in a has another spec", case.set));
        }
        (Some(was), Some(is)) if described(was) != described(is) => {
            wrong.push(format!("the set {} in a has other labels or annotations", case.set));
        }
        _ => {}
    }
    wrong.extend(lost_pairs(view, Cluster::A));
    wrong.extend(other_policies(view, Cluster::A));
    wrong.extend(left_over(view, Cluster::B));
    for service in view.acts().filter(|event| matches!(event.resource.as_str(), "services" | "ingresses")) {
        let created = is_create_of(service, &service.resource) && service.cluster == Cluster::B;
        let live = view.evidence.live.get(Cluster::B, &service.resource, &service.namespace, &service.name);
        // One that another set in B has come to use stays.
        let used = live.is_some_and(|service| has_come_into_use(view, service));
        if created && live.is_some() && !used {
            wrong.push(format!("{} {} is still in b", service.resource, service.name));
        }
    }
    wrong.extend(marks(view));
    wrong.into_iter().map(|what| Violation::new("I-15", what)).collect()
}

/// I-16: after finalize the source has nothing of the set's volumes, and the destination has the
/// policies that the source had.
pub(super) fn i16_finalized(view: &View<'_>) -> Vec<Violation> {
    if view.case.expected != Expected::Finalized {
        return Vec::new();
    }
    let case = view.case;
    let mut wrong = left_over(view, Cluster::A);
    wrong.extend(lost_pairs(view, Cluster::B));
    wrong.extend(other_policies(view, Cluster::B));
    let was = case.before.get(Cluster::A, "statefulsets", &case.source, &case.set);
    let is = view.evidence.live.get(Cluster::B, "statefulsets", &case.destination, &case.set);
    match (was, is) {
        (Some(_), None) => wrong.push(format!("the set {} does not exist in b", case.set)),
        (Some(was), Some(is)) if was.body.pointer(RETENTION) != is.body.pointer(RETENTION) => {
            wrong.push(format!("the set {} in b has another retention policy", case.set));
        }
        _ => {}
    }
    for volume in case.used_volumes() {
        if view.holder(&volume.handle, jiff::Timestamp::MAX) != Some(Cluster::B) {
            wrong.push(format!("{} is not held by an instance of b", volume.handle));
        }
    }
    wrong.extend(marks(view));
    wrong.into_iter().map(|what| Violation::new("I-16", what)).collect()
}

/// Whether it is a Service of the destination that governs another set there by now, or leads to its pods.
pub(super) fn has_come_into_use(view: &View<'_>, service: &Object) -> bool {
    let selector = service.body.pointer("/spec/selector").and_then(Value::as_object);
    let selector = selector.filter(|selector| !selector.is_empty());
    let uses = |set: &Object| {
        let labels = &set.body["spec"]["template"]["metadata"]["labels"];
        let is_other = set.name() != view.case.set && set.namespace() == service.namespace();
        let is_governed = set.text("/spec/serviceName") == service.name();
        let selects =
            |selector: &Map<String, Value>| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        is_other && (is_governed || selector.is_some_and(selects))
    };
    let is_in_place = service.resource == "services" && service.cluster == Cluster::B;
    is_in_place && view.evidence.live.of(Cluster::B, "statefulsets").any(uses)
}

/// Returns what people wrote about an object; an empty list and none are the same.
fn described(object: &Object) -> [BTreeMap<&str, &Value>; 2] {
    ["/metadata/labels", "/metadata/annotations"].map(|pointer| {
        let fields = object.body.pointer(pointer).and_then(Value::as_object);
        fields.into_iter().flatten().map(|(key, value)| (key.as_str(), value)).collect()
    })
}

/// Returns what a cluster still has of a set that is elsewhere now.
fn left_over(view: &View<'_>, cluster: Cluster) -> Vec<String> {
    let case = view.case;
    let live = &view.evidence.live;
    let namespace = case.namespace(cluster);
    let in_place = |object: &&Object| object.namespace() == namespace;
    let mut left: Vec<&Object> = Vec::new();
    left.extend(live.of(cluster, "statefulsets").filter(in_place).filter(|set| set.name() == case.set));
    left.extend(live.of(cluster, "pods").filter(in_place).filter(|pod| case.ordinal_of(pod.name()).is_some()));
    left.extend(
        live.of(cluster, "persistentvolumeclaims")
            .filter(in_place)
            .filter(|claim| case.volume_of_claim(claim.name()).is_some()),
    );
    left.extend(
        live.of(cluster, "persistentvolumes")
            .filter(|volume| volume.handle().is_some_and(|handle| case.volume(&handle).is_some())),
    );
    let attachments: Vec<String> =
        case.volumes.iter().flat_map(|volume| view.attachments(cluster, &volume.handle)).collect();
    left.extend(
        live.of(cluster, "volumeattachments")
            .filter(|attachment| attachments.iter().any(|name| name == attachment.name())),
    );
    left.extend(live.of(cluster, "controllerrevisions").filter(in_place).filter(|revision| {
        let before = case.before.get(cluster, "controllerrevisions", namespace, revision.name());
        let created = view.writes().find(|event| {
            event.cluster == cluster
                && is_create_of(event, "controllerrevisions")
                && event.namespace == namespace
                && event.name == revision.name()
        });
        let first = before.map(|revision| &revision.body).or(created.map(|create| &create.body));
        // Another set with an equal selector may have adopted it: then it is that one's.
        let adopted = revision
            .body
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array)
            .is_some_and(|owners| owners.iter().any(|owner| owner["name"] != case.set.as_str()));
        first.is_some_and(|first| is_owned_by_set(first, &case.set)) && !adopted
    }));
    left.into_iter().map(|object| format!("{} is left over", object.title())).collect()
}

fn is_owned_by_set(body: &Value, set: &str) -> bool {
    let owners = body.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner["kind"] == "StatefulSet" && owner["name"] == set)
}

/// Returns the claims that are not bound to the PersistentVolume of their volume.
fn lost_pairs(view: &View<'_>, cluster: Cluster) -> Vec<String> {
    let live = &view.evidence.live;
    let mut lost = Vec::new();
    for volume in &view.case.volumes {
        let claim = live.get(cluster, "persistentvolumeclaims", view.case.namespace(cluster), &volume.claim);
        let bound = claim.filter(|claim| claim.text("/status/phase") == "Bound").and_then(|claim| {
            let object = live.get(cluster, "persistentvolumes", "", claim.text("/spec/volumeName"))?;
            let pair = object.text("/spec/claimRef/uid") == claim.uid();
            (pair && object.handle().as_deref() == Some(&volume.handle)).then_some(object)
        });
        if bound.is_none() {
            lost.push(format!("claim {} in {} is not bound to {}", volume.claim, cluster.name(), volume.handle));
        }
    }
    lost
}

/// Returns the PersistentVolumes that have another policy than the source had, without need.
fn other_policies(view: &View<'_>, cluster: Cluster) -> Vec<String> {
    let mut others = Vec::new();
    for volume in &view.case.volumes {
        let Some(was) = view.case.before.get(Cluster::A, "persistentvolumes", "", &volume.volume) else {
            continue;
        };
        let was = was.text("/spec/persistentVolumeReclaimPolicy");
        let elsewhere = view
            .evidence
            .live
            .of(other(cluster), "persistentvolumes")
            .any(|object| object.handle().as_deref() == Some(&volume.handle));
        let idle = !view.case.ordinals().contains(&volume.ordinal);
        let home = view.holder(&volume.handle, jiff::Timestamp::MAX);
        let at_home = home == Some(cluster) || (idle && home.is_none());
        for object in view.evidence.live.of(cluster, "persistentvolumes") {
            if object.handle().as_deref() != Some(&volume.handle) {
                continue;
            }
            let is = object.text("/spec/persistentVolumeReclaimPolicy");
            // `Retain` stays where writing `Delete` is forbidden.
            let must_stay = is == "Retain" && (elsewhere || !at_home || object.text("/status/phase") != "Bound");
            if is != was && !must_stay {
                others.push(format!("{} has {is}, it was {was}", object.title()));
            }
        }
    }
    others
}

/// Returns the marks, plans and locks of the tool that are still there, in either cluster.
fn marks(view: &View<'_>) -> Vec<String> {
    let case = view.case;
    let mut marks = Vec::new();
    for object in &view.evidence.live.objects {
        let in_place = object.namespace() == case.namespace(object.cluster);
        let kept = matches!(object.resource.as_str(), "secrets" | "leases");
        // Another migration in the same namespace has its own.
        if in_place && kept && object.name().contains(OWN_NAME) && object.name().contains(case.set.as_str()) {
            marks.push(format!("{} is left over", object.title()));
        }
        let ours = match object.resource.as_str() {
            "persistentvolumes" => object.handle().is_some_and(|handle| case.volume(&handle).is_some()),
            "persistentvolumeclaims" => in_place && case.volume_of_claim(object.name()).is_some(),
            "statefulsets" => in_place && object.name() == case.set,
            _ => false,
        };
        let annotations = object.body.pointer("/metadata/annotations").and_then(Value::as_object);
        for key in annotations.into_iter().flatten().map(|(key, _)| key) {
            if ours && key.contains(OWN_NAME) {
                marks.push(format!("{} still has the annotation {key}", object.title()));
            }
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::judge::made::Made;

    fn rolled_back() -> Made {
        let mut made = Made::new();
        made.case.expected = Expected::RolledBack;
        made
    }

    #[test]
    fn i15_accepts_a_source_as_before() {
        rolled_back().accepts(i15_rolled_back);
    }

    #[test]
    fn i15_sees_what_is_missing_or_changed_in_the_source() {
        let mut made = rolled_back();
        made.forget(Cluster::A, "statefulsets", "web");
        made.rejects(i15_rolled_back, "does not exist in a");
        let mut made = rolled_back();
        made.live(Cluster::A, "statefulsets", "web").body["spec"]["replicas"] = json!(1);
        made.rejects(i15_rolled_back, "another spec");
        let mut made = rolled_back();
        made.live(Cluster::A, "statefulsets", "web").body["metadata"]["annotations"] = json!({"new": "one"});
        made.rejects(i15_rolled_back, "other labels or annotations");
        let mut made = rolled_back();
        made.live(Cluster::A, "persistentvolumeclaims", "data-web-1").body["status"]["phase"] = json!("Lost");
        made.rejects(i15_rolled_back, "data-web-1 in a is not bound");
        let mut made = rolled_back();
        made.change(1, "vol-0", "in-use", &["i-a"]);
        made.live(Cluster::A, "persistentvolumes", "pv-0").body["spec"]["persistentVolumeReclaimPolicy"] =
            json!("Retain");
        made.rejects(i15_rolled_back, "has Retain, it was Delete");
    }

    #[test]
    fn i15_sees_what_is_left_in_the_destination() {
        let mut made = rolled_back();
        made.pair_in_b(1, 0);
        made.exists_in_b(0);
        made.rejects(i15_rolled_back, "persistentvolumes pv-0 in b is left over");
    }

    #[test]
    fn i15_lets_a_service_stay_that_another_set_has_come_to_use() {
        let mut made = rolled_back();
        let metadata = json!({"name": "db", "namespace": "b-space"});
        let service = json!({"metadata": metadata, "spec": {"selector": {"release": "shop"}}});
        made.write(1, crate::judge::made::TOOL, Cluster::B, "create", "services", "b-space", "db", service.clone());
        let live = |resource: &str, body| Object { cluster: Cluster::B, resource: resource.to_owned(), body };
        made.evidence.live.objects.push(live("services", service));
        made.rejects(i15_rolled_back, "services db is still in b");
        let user = json!({"metadata": {"name": "readers", "namespace": "b-space"}, "spec": {}});
        made.evidence.live.objects.push(live("statefulsets", user));
        made.rejects(i15_rolled_back, "services db is still in b");
        let labels = json!({"metadata": {"labels": {"release": "shop"}}});
        for spec in [json!({"serviceName": "db"}), json!({"serviceName": "own", "template": labels})] {
            made.live(Cluster::B, "statefulsets", "readers").body["spec"] = spec;
            made.accepts(i15_rolled_back);
        }
    }

    fn finalized() -> Made {
        let mut made = Made::new();
        made.case.expected = Expected::Finalized;
        for index in 0..2 {
            made.forget(Cluster::A, "persistentvolumes", &format!("pv-{index}"));
            made.forget(Cluster::A, "persistentvolumeclaims", &format!("data-web-{index}"));
            made.forget(Cluster::A, "pods", &format!("web-{index}"));
            made.pair_in_b(1, index);
            made.exists_in_b(index);
            made.change(2, &format!("vol-{index}"), "in-use", &["i-b"]);
        }
        made.forget(Cluster::A, "statefulsets", "web");
        made.set_exists_in_b();
        made
    }

    #[test]
    fn i16_accepts_a_finished_migration() {
        finalized().accepts(i16_finalized);
    }

    #[test]
    fn i16_sees_left_overs_policies_and_holders() {
        let mut made = finalized();
        made.bring_back(Cluster::A, "persistentvolumes", "pv-1");
        made.rejects(i16_finalized, "persistentvolumes pv-1 in a is left over");
        let mut made = finalized();
        made.live(Cluster::B, "persistentvolumes", "pv-0").body["spec"]["persistentVolumeReclaimPolicy"] =
            json!("Retain");
        made.rejects(i16_finalized, "has Retain, it was Delete");
        let mut made = finalized();
        made.live(Cluster::B, "statefulsets", "web").body["spec"]["persistentVolumeClaimRetentionPolicy"] =
            json!({"whenDeleted": "Retain"});
        made.rejects(i16_finalized, "another retention policy");
        let mut made = finalized();
        made.change(3, "vol-0", "in-use", &["i-a"]);
        made.rejects(i16_finalized, "vol-0 is not held by an instance of b");
        let mut made = finalized();
        made.live(Cluster::B, "persistentvolumes", "pv-0").body["metadata"]["annotations"] =
            json!({"sts-migrate.io/id": "1"});
        made.rejects(i16_finalized, "still has the annotation");
    }
}
