//! What stays in the source cluster after finalize: not the program's to remove, and easy to forget.

use crate::plan::{ServiceKinship, kinship};
use crate::world::{Kind, Object, Read, Side, World, template_claims};

/// Label by which Helm marks what it manages (its value there is `Helm`).
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Annotation that names the Helm release of an object.
const HELM_RELEASE: &str = "meta.helm.sh/release-name";

/// Kinds that are looked through.
const KINDS: [Kind; 9] = [
    Kind::Pod,
    Kind::PersistentVolumeClaim,
    Kind::StatefulSet,
    Kind::Service,
    Kind::Ingress,
    Kind::PodDisruptionBudget,
    Kind::HorizontalPodAutoscaler,
    Kind::ScaledObject,
    Kind::VerticalPodAutoscaler,
];

/// Returns the reads on which [`left_in_source`] rests.
pub(crate) fn needed() -> Vec<Read> {
    KINDS.map(|kind| Read::List(Side::Source, kind)).to_vec()
}

/// Returns what of a set stays in A, for people. `set` is the set as A had it.
pub(crate) fn left_in_source(set: &Object, world: &World) -> Vec<String> {
    let mut left = Vec::new();
    // Idle claims that were to stay; they are a new set's as soon as there is one.
    if world.object(Side::Source, Kind::StatefulSet, set.name()).is_none() {
        let claims = template_claims(set, Side::Source, world).into_iter();
        left.extend(claims.map(|(_, claim)| format!("PersistentVolumeClaim {} with its volume", claim.name())));
    }
    for kind in [Kind::Service, Kind::Ingress] {
        for object in world.objects(Side::Source, kind) {
            let words = match kinship(set, object, world) {
                ServiceKinship::OwnQuiet | ServiceKinship::OwnPublishing => "",
                ServiceKinship::Shared => ", which others use too",
                ServiceKinship::Unrelated => continue,
            };
            let balancer = match object.text("/spec/type") {
                Some("LoadBalancer") => " with its load balancer",
                _ => "",
            };
            left.push(format!("{kind} {}{balancer}{words}", object.name()));
        }
    }
    for object in world.objects(Side::Source, Kind::PodDisruptionBudget).filter(|budget| selects(budget, set)) {
        left.push(format!("PodDisruptionBudget {}", object.name()));
    }
    for (kind, target) in [
        (Kind::HorizontalPodAutoscaler, "/spec/scaleTargetRef"),
        (Kind::ScaledObject, "/spec/scaleTargetRef"),
        (Kind::VerticalPodAutoscaler, "/spec/targetRef"),
    ] {
        let names_set = |object: &&Object| {
            object.at(target).is_some_and(|target| {
                target["name"] == set.name() && target["kind"].as_str().unwrap_or("Deployment") == "StatefulSet"
            })
        };
        left.extend(
            world.objects(Side::Source, kind).filter(names_set).map(|object| format!("{kind} {}", object.name())),
        );
    }
    if set.label(MANAGED_BY) == Some("Helm")
        && let Some(release) = set.annotation(HELM_RELEASE)
    {
        left.push(format!("Helm release {release}: uninstall it only now that finalize is done"));
    }
    left
}

/// Returns what stays in A as lines for people, one for each: nobody can remove what was not named.
pub(crate) fn left_lines(left: &[String]) -> Vec<String> {
    let heading = (!left.is_empty()).then(|| "left in the source cluster, yours to remove:".to_owned());
    heading.into_iter().chain(left.iter().map(|item| format!("  {item}"))).collect()
}

/// Returns whether a budget's labels select the set's pods; expressions are taken to do so.
fn selects(budget: &Object, set: &Object) -> bool {
    let Some(wanted) = budget.at("/spec/selector/matchLabels").and_then(serde_json::Value::as_object) else {
        return budget.at("/spec/selector/matchExpressions").is_some();
    };
    let labels = set.at("/spec/template/metadata/labels");
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{left_in_source, left_lines};
    use crate::fixtures;
    use crate::world::{Kind, Object, Side, World};

    /// Returns what is left of the usual set when A's namespace has these objects of a kind.
    fn left_of(kinds: impl IntoIterator<Item = (Kind, Vec<Value>)>) -> Vec<String> {
        let mut world = World::default();
        for (kind, objects) in kinds {
            world.shelf_mut(Side::Source, kind).put_list(1, objects.into_iter().map(Object));
        }
        left_in_source(&fixtures::plan(2, 1).sets[0].before, &world)
    }

    fn service(name: &str, kind: &str, selector: Value) -> Value {
        json!({ "kind": "Service", "metadata": { "name": name }, "spec": { "type": kind, "selector": selector } })
    }

    fn ingress(name: &str, services: &[&str]) -> Value {
        let paths: Vec<Value> = services.iter().map(|it| json!({ "backend": { "service": { "name": it } } })).collect();
        json!({ "kind": "Ingress", "metadata": { "name": name }, "spec": { "rules": [{ "http": { "paths": paths } }] } })
    }

    fn scaler(name: &str, target: &str, kind: Value, set: &str) -> Value {
        json!({ "metadata": { "name": name }, "spec": { target: { "kind": kind, "name": set } } })
    }

    #[test]
    fn claims_that_were_to_stay_are_named_until_a_new_set_has_them() {
        let plan = fixtures::plan(2, 1);
        let set = &plan.sets[0].before;
        let mut world = World::default();
        let claims = [fixtures::claim_json(7, 0)].map(Object);
        world.shelf_mut(Side::Source, Kind::PersistentVolumeClaim).put_list(1, claims);
        assert_eq!(left_in_source(set, &world), ["PersistentVolumeClaim data-web-7 with its volume"]);
        world.shelf_mut(Side::Source, Kind::StatefulSet).put_list(1, [set.clone()]);
        assert!(left_in_source(set, &world).is_empty());
    }

    #[test]
    fn services_and_ingresses_that_lead_to_the_set_are_named() {
        let services = vec![
            service("web-public", "LoadBalancer", fixtures::labels()),
            service("billing", "LoadBalancer", json!({ "app": "billing" })),
        ];
        let ingresses = vec![
            ingress("front", &["web-public"]),
            ingress("mixed", &["web-public", "billing"]),
            ingress("other", &["billing"]),
        ];
        assert_eq!(
            left_of([(Kind::Service, services), (Kind::Ingress, ingresses)]),
            ["Service web-public with its load balancer", "Ingress front", "Ingress mixed, which others use too",]
        );
    }

    #[test]
    fn autoscalers_that_name_the_set_are_named() {
        for (kind, target) in [
            (Kind::HorizontalPodAutoscaler, "scaleTargetRef"),
            (Kind::ScaledObject, "scaleTargetRef"),
            (Kind::VerticalPodAutoscaler, "targetRef"),
        ] {
            let set = json!("StatefulSet");
            let all = vec![
                scaler("its", target, set.clone(), "web"),
                scaler("of-another-set", target, set, "web-api"),
                scaler("of-a-deployment", target, json!("Deployment"), "web"),
                // What KEDA takes for a Deployment.
                scaler("without-a-kind", target, Value::Null, "web"),
            ];
            assert_eq!(left_of([(kind, all)]), [format!("{kind} its")]);
        }
    }

    #[test]
    fn a_helm_release_is_named_when_helm_manages_the_set() {
        let mut set = fixtures::plan(2, 1).sets[0].before.clone();
        assert!(left_in_source(&set, &World::default()).is_empty(), "the annotation alone is what a copy has too");
        set.0["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("Helm");
        let release = "Helm release shop: uninstall it only now that finalize is done";
        assert_eq!(left_in_source(&set, &World::default()), [release]);
    }

    #[test]
    fn nothing_that_stays_is_cut_from_the_list() {
        let services: Vec<Value> =
            (0..20).map(|it| service(&format!("web-{it:02}"), "ClusterIP", fixtures::labels())).collect();
        let lines = left_lines(&left_of([(Kind::Service, services)]));
        assert_eq!(lines.len(), 21);
        assert_eq!((&*lines[0], &*lines[20]), ("left in the source cluster, yours to remove:", "  Service web-19"));
        assert!(left_lines(&[]).is_empty());
    }
}
