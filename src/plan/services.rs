//! Which Services and Ingresses belong to a set (§1.2).
//!
//! Belonging is read from what a Service selects, now and once the set's pods are all there; and from
//! what else it would select. Nothing is concluded from names or labels of the Service itself.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::world::{Kind, Object, Side, World};

/// How a Service or Ingress of A's namespace stands to the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKinship {
    /// It is the set's own and publishes nothing: created in prepare.
    OwnQuiet,
    /// It is the set's own and publishes something: waits for the cutover.
    OwnPublishing,
    /// It selects the set's pods and others' too: reported, never copied.
    Shared,
    /// It has nothing to do with the set.
    Unrelated,
}

/// Kinds whose pod templates a Service may select besides the set's; to be listed before kinship is asked for.
pub(super) const WORKLOADS: [Kind; 3] = [Kind::StatefulSet, Kind::Deployment, Kind::DaemonSet];

/// Prefixes of the annotations by which external-dns publishes a host name; the newer one has no `alpha`.
const EXTERNAL_DNS: [&str; 2] = ["external-dns.alpha.kubernetes.io/", "external-dns.kubernetes.io/"];

/// Annotations that give a load balancer of AWS an address or a name that only one can have.
const FIXED_ADDRESS: [&str; 4] = [
    "service.beta.kubernetes.io/aws-load-balancer-eip-allocations",
    "service.beta.kubernetes.io/aws-load-balancer-ipv6-addresses",
    "service.beta.kubernetes.io/aws-load-balancer-name",
    "service.beta.kubernetes.io/aws-load-balancer-private-ipv4-addresses",
];

/// Labels that a set's controller gives to each pod.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// Prefix of the annotations in which the AWS Load Balancer Controller keeps what a pseudo backend does.
const ALB_ACTION: &str = "alb.ingress.kubernetes.io/actions.";

/// Returns how a Service or Ingress stands to the set.
pub fn kinship(set: &Object, object: &Object, world: &World) -> ServiceKinship {
    if is_ingress(object) { ingress_kinship(set, object, world) } else { service_kinship(set, object, world) }
}

/// Returns the labels that a Service selects by and that the set's pods have from somebody else than
/// their controller, such as the role of a leader: a pod that starts in B has none of them.
pub(crate) fn labels_of_others(set: &Object, service: &Object) -> Vec<String> {
    let selector = service.at("/spec/selector").and_then(Value::as_object).into_iter().flatten();
    let template = labels_at(set, "/spec/template/metadata/labels");
    selector
        .filter(|(key, value)| {
            let is_given = template.and_then(|labels| labels.get(*key)) == Some(value);
            !is_given && ![POD_NAME, POD_INDEX].contains(&key.as_str())
        })
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect()
}

/// Returns whether a Service publishes something that both clusters would publish, or cannot hold, at once.
pub(crate) fn publishes(service: &Object) -> bool {
    let annotations = service.at("/metadata/annotations").and_then(Value::as_object);
    let is_publishing = |key: &String| {
        EXTERNAL_DNS.iter().any(|prefix| key.starts_with(prefix)) || FIXED_ADDRESS.contains(&key.as_str())
    };
    annotations.is_some_and(|annotations| annotations.keys().any(is_publishing))
        || service.text("/spec/loadBalancerIP").is_some_and(|address| !address.is_empty())
        || !service.array("/spec/externalIPs").is_empty()
}

/// Returns the node ports that clients of a Service may know: those of a NodePort one.
pub fn node_ports(service: &Object) -> impl Iterator<Item = i64> {
    let is_published = service.text("/spec/type") == Some("NodePort");
    let ports = service.array("/spec/ports").iter().filter(move |_| is_published);
    ports.filter_map(|port| port["nodePort"].as_i64())
}

/// Returns whether a Service or Ingress that is in B already means what A's means (DS-5).
pub fn same_meaning(source: &Object, destination: &Object) -> bool {
    meaning(source) == meaning(destination)
}

fn meaning(object: &Object) -> Value {
    if is_ingress(object) {
        let fields = ["ingressClassName", "defaultBackend", "rules", "tls"];
        return fields.iter().map(|field| object.0["spec"][*field].clone()).collect();
    }
    let keeps_node_ports = object.text("/spec/type") == Some("NodePort");
    let mut ports: Vec<Value> = object
        .array("/spec/ports")
        .iter()
        .map(|port| {
            serde_json::json!([
                port["name"].as_str().unwrap_or_default(),
                port["port"],
                port["protocol"].as_str().unwrap_or("TCP"),
                if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] },
                if keeps_node_ports { &port["nodePort"] } else { &Value::Null },
            ])
        })
        .collect();
    ports.sort_by_key(Value::to_string);
    serde_json::json!({
        "type": object.text("/spec/type").unwrap_or("ClusterIP"),
        "headless": object.text("/spec/clusterIP") == Some("None"),
        "selector": object.at("/spec/selector").cloned().unwrap_or_else(|| Map::new().into()),
        "ports": ports,
        "publishNotReadyAddresses": object.at("/spec/publishNotReadyAddresses") == Some(&Value::Bool(true)),
        "externalName": object.text("/spec/externalName").unwrap_or_default(),
    })
}

/// Returns whether it is an Ingress; items of a list do not always say their kind.
fn is_ingress(object: &Object) -> bool {
    match object.text("/kind") {
        Some(kind) => kind == Kind::Ingress.name(),
        None => ["/spec/rules", "/spec/defaultBackend"].iter().any(|field| object.at(field).is_some()),
    }
}

fn service_kinship(set: &Object, service: &Object, world: &World) -> ServiceKinship {
    // The governing Service must be there before the pods, whatever else it does.
    if set.text("/spec/serviceName").is_some_and(|name| !name.is_empty() && name == service.name()) {
        return ServiceKinship::OwnQuiet;
    }
    let Some(selector) = service.at("/spec/selector").and_then(Value::as_object).filter(|found| !found.is_empty())
    else {
        return ServiceKinship::Unrelated;
    };
    if !own_labels(set, world).iter().any(|labels| selects(selector, labels)) {
        return ServiceKinship::Unrelated;
    }
    if foreign_labels(set, world).any(|labels| selects(selector, labels)) {
        return ServiceKinship::Shared;
    }
    if publishes(service) { ServiceKinship::OwnPublishing } else { ServiceKinship::OwnQuiet }
}

fn ingress_kinship(set: &Object, ingress: &Object, world: &World) -> ServiceKinship {
    let own: BTreeSet<&str> = world
        .objects(Side::Source, Kind::Service)
        .filter(|service| {
            let kinship = service_kinship(set, service, world);
            matches!(kinship, ServiceKinship::OwnQuiet | ServiceKinship::OwnPublishing)
        })
        .map(Object::name)
        .collect();
    let backends = backends(ingress);
    let belongs = |backend: &Option<&str>| backend.is_some_and(|name| own.contains(name));
    match (backends.iter().any(belongs), backends.iter().all(belongs)) {
        (true, true) => ServiceKinship::OwnPublishing,
        (true, false) => ServiceKinship::Shared,
        (false, _) => ServiceKinship::Unrelated,
    }
}

/// Returns the Services behind an Ingress; `None` stands for a backend that is something else.
fn backends(ingress: &Object) -> Vec<Option<&str>> {
    let paths = ingress
        .array("/spec/rules")
        .iter()
        .flat_map(|rule| rule.pointer("/http/paths").and_then(Value::as_array).into_iter().flatten())
        .map(|path| &path["backend"]);
    ingress
        .at("/spec/defaultBackend")
        .into_iter()
        .chain(paths)
        .filter_map(|backend| {
            let name = backend.pointer("/service/name").and_then(Value::as_str);
            let is_action = backend.pointer("/service/port/name").and_then(Value::as_str) == Some("use-annotation");
            match name.filter(|_| is_action) {
                // A pseudo backend such as a redirect sends nothing to anybody; one that forwards might.
                Some(action) => {
                    let does = ingress.annotation(&format!("{ALB_ACTION}{action}")).unwrap_or_default();
                    let forwards = does.is_empty() || does.to_lowercase().contains("forward");
                    forwards.then_some(None)
                }
                None => Some(name),
            }
        })
        .collect()
}

fn selects(selector: &Map<String, Value>, labels: &Map<String, Value>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn labels_at<'a>(object: &'a Object, pointer: &str) -> Option<&'a Map<String, Value>> {
    object.at(pointer).and_then(Value::as_object)
}

/// Returns the labels of the set's pods: of those that are there, and of those that its controller would
/// make. A Service of one pod is the set's own also while that pod is down.
fn own_labels(set: &Object, world: &World) -> Vec<Map<String, Value>> {
    let template = labels_at(set, "/spec/template/metadata/labels").cloned().unwrap_or_default();
    let first = set.first_ordinal();
    let made = (first..first + set.replicas()).map(|ordinal| {
        let mut labels = template.clone();
        labels.insert(POD_NAME.to_owned(), format!("{}-{ordinal}", set.name()).into());
        labels.insert(POD_INDEX.to_owned(), ordinal.to_string().into());
        labels
    });
    let live = world
        .objects(Side::Source, Kind::Pod)
        .filter(|pod| is_pod_of(set, pod))
        .filter_map(|pod| labels_at(pod, "/metadata/labels").cloned());
    std::iter::once(template.clone()).chain(made).chain(live).collect()
}

/// Returns the labels of pods and pod templates of A's namespace that are not the set's.
fn foreign_labels<'a>(set: &'a Object, world: &'a World) -> impl Iterator<Item = &'a Map<String, Value>> {
    let pods = world
        .objects(Side::Source, Kind::Pod)
        .filter(move |pod| !is_pod_of(set, pod) && !pod.is_finished_pod())
        .filter_map(|pod| labels_at(pod, "/metadata/labels"));
    let templates = WORKLOADS
        .into_iter()
        .flat_map(move |kind| world.objects(Side::Source, kind).map(move |workload| (kind, workload)))
        .filter(move |(kind, workload)| *kind != Kind::StatefulSet || workload.name() != set.name())
        .filter_map(|(_, workload)| labels_at(workload, "/spec/template/metadata/labels"));
    pods.chain(templates)
}

/// Returns whether a pod is the set's: by its controller, or, orphaned, by a name in range.
fn is_pod_of(set: &Object, pod: &Object) -> bool {
    match pod.owners().find(|owner| owner.controller) {
        Some(owner) => owner.uid == set.uid(),
        None => {
            let first = set.first_ordinal();
            let ordinal = pod.name().rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse::<i64>().ok());
            ordinal.is_some_and(|ordinal| {
                (first..first + set.replicas()).contains(&ordinal) && pod.name() == format!("{}-{ordinal}", set.name())
            })
        }
    }
}

#[cfg(test)]
mod tests;
