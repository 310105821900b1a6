use serde_json::json;

use super::*;
use crate::fixtures;

/// A world with the sample set of three replicas, and more objects in A.
fn world_with(more: &[(Kind, Value)]) -> (Object, World) {
    let plan = fixtures::plan(3, 1);
    let mut world = fixtures::world(&plan);
    for (kind, object) in more {
        let object = Object(object.clone());
        let name = object.name().to_owned();
        world.shelf_mut(Side::Source, *kind).put(2, &name, Ok(Some(object)));
    }
    (plan.sets[0].before.clone(), world)
}

fn service(name: &str, spec: Value) -> Object {
    Object(json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec }))
}

fn all_pods() -> Value {
    json!({ "selector": fixtures::labels() })
}

fn workload(name: &str, labels: Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "template": { "metadata": { "labels": labels } } } })
}

fn pod(name: &str, labels: Value, phase: &str) -> Value {
    json!({ "metadata": { "name": name, "labels": labels }, "status": { "phase": phase } })
}

#[test]
fn the_governing_service_belongs_whatever_it_selects() {
    let (set, world) = world_with(&[]);
    let governing = service(fixtures::SET, json!({ "selector": { "other": "pods" } }));
    assert_eq!(kinship(&set, &governing, &world), ServiceKinship::OwnQuiet);
}

#[test]
fn the_governing_service_is_not_kept_back_for_its_host_names() {
    let (set, world) = world_with(&[]);
    let mut governing = service(fixtures::SET, all_pods());
    governing.0["metadata"]["annotations"] = json!({ "external-dns.alpha.kubernetes.io/hostname": "web.example.org" });
    assert_eq!(kinship(&set, &governing, &world), ServiceKinship::OwnQuiet);
}

#[test]
fn a_service_belongs_by_what_it_selects() {
    let cases = [
        ("all pods", all_pods(), ServiceKinship::OwnQuiet),
        ("part of their labels", json!({ "selector": { "app.kubernetes.io/name": "web" } }), ServiceKinship::OwnQuiet),
        (
            "one pod by name",
            json!({ "selector": { "statefulset.kubernetes.io/pod-name": "web-1" } }),
            ServiceKinship::OwnQuiet,
        ),
        (
            "a pod out of range",
            json!({ "selector": { "statefulset.kubernetes.io/pod-name": "web-9" } }),
            ServiceKinship::Unrelated,
        ),
        (
            "more labels than they have",
            json!({ "selector": { "app.kubernetes.io/name": "web", "tier": "x" } }),
            ServiceKinship::Unrelated,
        ),
        ("nothing", json!({ "selector": {} }), ServiceKinship::Unrelated),
        ("no selector", json!({ "type": "ExternalName", "externalName": "web" }), ServiceKinship::Unrelated),
    ];
    let (set, world) = world_with(&[]);
    for (case, spec, expected) in cases {
        assert_eq!(kinship(&set, &service("web-http", spec), &world), expected, "{case}");
    }
}

#[test]
fn a_service_of_one_pod_belongs_while_that_pod_is_down() {
    let (set, mut world) = world_with(&[]);
    world.shelf_mut(Side::Source, Kind::Pod).put(2, "web-1", Ok(None));
    let one = service("web-1", json!({ "selector": { "statefulset.kubernetes.io/pod-name": "web-1" } }));
    assert_eq!(kinship(&set, &one, &world), ServiceKinship::OwnQuiet);
}

#[test]
fn a_label_that_only_a_live_pod_has_counts() {
    let mut labels = fixtures::labels();
    labels["role"] = "leader".into();
    let (set, mut world) = world_with(&[]);
    let leader = service("web-leader", json!({ "selector": { "role": "leader" } }));
    assert_eq!(kinship(&set, &leader, &world), ServiceKinship::Unrelated);
    let mut pod = world.object(Side::Source, Kind::Pod, "web-2").expect("it is in the fixture").clone();
    pod.0["metadata"]["labels"] = labels;
    world.shelf_mut(Side::Source, Kind::Pod).put(2, "web-2", Ok(Some(pod)));
    assert_eq!(kinship(&set, &leader, &world), ServiceKinship::OwnQuiet);
}

#[test]
fn a_service_that_selects_others_too_is_shared() {
    let labels = fixtures::labels();
    let cases = [
        ("another set", Kind::StatefulSet, workload("web-api", labels.clone()), true),
        ("a deployment at rest", Kind::Deployment, workload("web", labels.clone()), true),
        ("a daemon set", Kind::DaemonSet, workload("web", labels.clone()), true),
        ("a deployment of other labels", Kind::Deployment, workload("api", json!({ "app": "api" })), false),
        ("a bare pod", Kind::Pod, pod("debug", labels.clone(), "Running"), true),
        ("a pod beyond the range", Kind::Pod, pod("web-7", labels.clone(), "Running"), true),
        ("a pod that only looks like an ordinal", Kind::Pod, pod("web-01", labels.clone(), "Running"), true),
        ("a pod that has ended", Kind::Pod, pod("job", labels.clone(), "Succeeded"), false),
        ("an orphan of the set", Kind::Pod, pod("web-1", labels, "Running"), false),
    ];
    for (case, kind, other, is_shared) in cases {
        let (set, world) = world_with(&[(kind, other)]);
        let expected = if is_shared { ServiceKinship::Shared } else { ServiceKinship::OwnQuiet };
        assert_eq!(kinship(&set, &service("web-http", all_pods()), &world), expected, "{case}");
    }
}

#[test]
fn a_pod_of_another_controller_is_no_pod_of_the_set_whatever_its_name() {
    let mut other = pod("web-1", fixtures::labels(), "Running");
    other["metadata"]["ownerReferences"] =
        json!([{ "kind": "StatefulSet", "name": "web", "uid": "old", "controller": true }]);
    let (set, world) = world_with(&[(Kind::Pod, other)]);
    assert_eq!(kinship(&set, &service("web-http", all_pods()), &world), ServiceKinship::Shared);
}

#[test]
fn what_only_one_cluster_can_publish_waits_for_the_cutover() {
    let annotated = |key: &str| (json!({ key: "x" }), json!({}));
    let cases = [
        (annotated("external-dns.alpha.kubernetes.io/hostname"), true),
        (annotated("external-dns.kubernetes.io/hostname"), true),
        (annotated("service.beta.kubernetes.io/aws-load-balancer-eip-allocations"), true),
        (annotated("service.beta.kubernetes.io/aws-load-balancer-name"), true),
        (annotated("service.beta.kubernetes.io/aws-load-balancer-scheme"), false),
        ((json!({}), json!({ "loadBalancerIP": "10.0.0.9" })), true),
        ((json!({}), json!({ "loadBalancerIP": "" })), false),
        ((json!({}), json!({ "externalIPs": ["10.0.0.9"] })), true),
        ((json!({}), json!({ "type": "LoadBalancer" })), false),
        ((json!({}), json!({ "type": "NodePort" })), false),
    ];
    let (set, world) = world_with(&[]);
    for ((annotations, spec), waits) in cases {
        let mut object = service("web-public", spec.clone());
        object.0["metadata"]["annotations"] = annotations.clone();
        object.0["spec"]["selector"] = fixtures::labels();
        let expected = if waits { ServiceKinship::OwnPublishing } else { ServiceKinship::OwnQuiet };
        assert_eq!(kinship(&set, &object, &world), expected, "{annotations} {spec}");
    }
}

#[test]
fn an_ingress_belongs_when_all_its_backends_do() {
    let backend = |name: &str| json!({ "service": { "name": name, "port": { "number": 80 } } });
    let ingress = |backends: &[&str]| {
        let paths: Vec<Value> = backends.iter().map(|name| json!({ "path": "/", "backend": backend(name) })).collect();
        json!({ "rules": [{ "host": "web.example.org", "http": { "paths": paths } }] })
    };
    let mut with_default = ingress(&["web-http"]);
    with_default["defaultBackend"] = backend("api");
    let action = json!({ "service": { "name": "redirect", "port": { "name": "use-annotation" } } });
    let mut with_action = ingress(&["web-http"]);
    with_action["defaultBackend"] = action.clone();
    let resource = json!({ "defaultBackend": { "resource": { "kind": "Bucket", "name": "x" } } });
    let cases = [
        (ingress(&["web-http", "web"]), ServiceKinship::OwnPublishing),
        (ingress(&["web-http", "api"]), ServiceKinship::Shared),
        (ingress(&["web-http", "missing"]), ServiceKinship::Shared),
        (ingress(&["api"]), ServiceKinship::Unrelated),
        (ingress(&[]), ServiceKinship::Unrelated),
        (with_default, ServiceKinship::Shared),
        (with_action, ServiceKinship::OwnPublishing),
        (json!({ "defaultBackend": action }), ServiceKinship::Unrelated),
        (resource, ServiceKinship::Unrelated),
    ];
    let (set, world) = world_with(&[
        (Kind::Service, service("web-http", all_pods()).0),
        (Kind::Service, service("api", json!({ "selector": { "app": "api" } })).0),
    ]);
    for (spec, expected) in cases {
        let mut object = Object(json!({ "metadata": { "name": "web" }, "spec": spec }));
        object.0["metadata"]["annotations"] =
            json!({ "alb.ingress.kubernetes.io/actions.redirect": r#"{"type":"redirect"}"# });
        assert_eq!(kinship(&set, &object, &world), expected, "without a kind: {spec}");
        object.0["kind"] = "Ingress".into();
        assert_eq!(kinship(&set, &object, &world), expected, "{spec}");
    }
}

#[test]
fn an_ingress_action_that_forwards_counts_as_somebody_elses_backend() {
    let (set, world) = world_with(&[(Kind::Service, service("web-http", all_pods()).0)]);
    let ingress = Object(json!({
        "kind": "Ingress",
        "metadata": { "name": "web", "annotations": {
            "alb.ingress.kubernetes.io/actions.split": r#"{"type":"forward","forwardConfig":{}}"#,
        } },
        "spec": {
            "defaultBackend": { "service": { "name": "web-http", "port": { "number": 80 } } },
            "rules": [{ "http": { "paths": [
                { "backend": { "service": { "name": "split", "port": { "name": "use-annotation" } } } },
            ] } }],
        },
    }));
    assert_eq!(kinship(&set, &ingress, &world), ServiceKinship::Shared);
}

#[test]
fn the_meaning_of_a_service_is_what_its_clients_see() {
    let base = json!({
        "clusterIP": "None",
        "selector": { "app": "web" },
        "publishNotReadyAddresses": true,
        "ports": [{ "name": "a", "port": 80, "protocol": "TCP", "targetPort": 80 }, { "name": "b", "port": 81 }],
    });
    let changed = |pointer: &str, value: Value| {
        let mut spec = base.clone();
        *spec.pointer_mut(pointer).expect("it is there") = value;
        service("web", spec)
    };
    let original = service("web", base.clone());
    let mut same = base.clone();
    same["ports"] =
        json!([{ "name": "b", "port": 81, "targetPort": 81 }, { "name": "a", "port": 80, "nodePort": 30_000 }]);
    same["ipFamilies"] = json!(["IPv6"]);
    same["type"] = "ClusterIP".into();
    assert!(same_meaning(&original, &service("web", same)));
    assert!(!same_meaning(&original, &changed("/clusterIP", "10.0.0.1".into())));
    assert!(!same_meaning(&original, &changed("/selector/app", "api".into())));
    assert!(!same_meaning(&original, &changed("/publishNotReadyAddresses", false.into())));
    assert!(!same_meaning(&original, &changed("/ports/0/port", 8080.into())));
    assert!(!same_meaning(&original, &changed("/ports/0/targetPort", "http".into())));
}
