//! What is created, when, and how it was translated: I-4, I-5, I-7, I-13.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Cluster;

use super::evidence::handle_of;
use super::view::{View, is_create_of, violation};
use super::{Event, SetVolume, Violation};

/// Annotations by which a claim says that it is bound, or how: only the controllers may set them.
const BIND_ANNOTATIONS: [&str; 5] = [
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
];

/// The label of a zone in node affinities.
const ZONE: &str = "topology.kubernetes.io/zone";

/// I-4: no PersistentVolume is created with the uid or version of a claim, with owners or
/// finalizers; no claim with bind annotations or owners.
pub(super) fn i4_created_without_server_fields(view: &View<'_>) -> Vec<Violation> {
    let filled = |event: &Event, pointer: &str| {
        event.body.pointer(pointer).is_some_and(|value| {
            !value.is_null() && *value != json!("") && value.as_array().is_none_or(|list| !list.is_empty())
        })
    };
    let mut violations = Vec::new();
    for event in view.attempts() {
        let mut reject = |field: &str| {
            let what = format!("{} {} is created with {field}", event.resource, event.name);
            violations.push(violation("I-4", what, &[event]));
        };
        if is_create_of(event, "persistentvolumes") {
            for (pointer, field) in [
                ("/spec/claimRef/uid", "claimRef.uid"),
                ("/spec/claimRef/resourceVersion", "claimRef.resourceVersion"),
                ("/metadata/ownerReferences", "ownerReferences"),
                ("/metadata/finalizers", "finalizers"),
            ] {
                if filled(event, pointer) {
                    reject(field);
                }
            }
        } else if is_create_of(event, "persistentvolumeclaims") {
            if filled(event, "/metadata/ownerReferences") {
                reject("ownerReferences");
            }
            let annotations = event.body.pointer("/metadata/annotations");
            for annotation in BIND_ANNOTATIONS {
                if annotations.is_some_and(|annotations| annotations.get(annotation).is_some()) {
                    reject(annotation);
                }
            }
        }
    }
    violations
}

/// I-5: no claim of the set's ordinals ever exists with another volume than its own, and no volume
/// is provisioned for one.
///
/// It counts who creates the claim only in so far as it happens after the tool began: the set's
/// controller creates empty claims when the tool lets it.
pub(super) fn i5_claims_only_on_their_own_volume(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    // Controllers write the same claim back again and again.
    let mut told = BTreeSet::new();
    for event in view.writes().filter(|event| event.received > view.case.since) {
        let volume = (event.resource == "persistentvolumeclaims"
            && event.namespace == view.case.namespace(event.cluster))
        .then(|| view.case.volume_of_claim(&event.name))
        .flatten();
        if let Some(volume) = volume {
            let named = event.assigns(&["spec", "volumeName"]);
            let named = match named.as_ref().and_then(Value::as_str) {
                Some(name) => name,
                None if is_create_of(event, "persistentvolumeclaims") => "",
                None => continue,
            };
            let right = view.volumes_naming(event.cluster, &volume.handle).contains(&named);
            if !right && told.insert((event.cluster, volume.claim.as_str(), named.to_owned())) {
                let what = format!(
                    "claim {} in {} has volumeName {named:?}, which is not a PersistentVolume of {}",
                    volume.claim,
                    event.cluster.name(),
                    volume.handle
                );
                violations.push(violation("I-5", what, &[event]));
            }
        }
        if let Some(claim) = provisioned_claim(view, event) {
            let what = format!("a new volume is provisioned for claim {claim} in {}", event.cluster.name());
            violations.push(violation("I-5", what, &[event]));
        }
    }
    violations
}

/// Returns the claim of the set for which a write stores a new volume that was just provisioned.
fn provisioned_claim<'a>(view: &View<'a>, event: &Event) -> Option<&'a str> {
    if !is_create_of(event, "persistentvolumes") || view.is_tools(event) {
        return None;
    }
    let claim = event.body.pointer("/spec/claimRef")?;
    let handle = handle_of(&event.body)?;
    let in_place = claim["namespace"] == view.case.namespace(event.cluster);
    let volume = view.case.volume_of_claim(claim["name"].as_str()?)?;
    (in_place && volume.handle != handle).then_some(volume.claim.as_str())
}

/// I-7: the set is created in the destination with 0 replicas, when the pairs of all ordinals are
/// bound to each other and were seen so.
pub(super) fn i7_set_with_no_replicas_after_the_pairs(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for create in view.set_creates(Cluster::B) {
        if create.replicas() != Some(0) {
            let what = format!("the set is created with {} replicas", create.replicas().unwrap_or(1));
            violations.push(violation("I-7", what, &[create]));
        }
        for volume in view.case.used_volumes() {
            if let Some(missing) = unbound(view, volume, create.received) {
                violations.push(violation("I-7", format!("the set is created while {missing}"), &[create]));
            }
        }
    }
    violations
}

/// Returns what was not bound, or not seen bound, of a volume's pair in the destination.
fn unbound(view: &View<'_>, volume: &SetVolume, at: Timestamp) -> Option<String> {
    let namespace = view.case.namespace(Cluster::B);
    let volumes = view.volumes_naming(Cluster::B, &volume.handle);
    let name = match volumes.as_slice() {
        [] => return Some(format!("no PersistentVolume names {}", volume.handle)),
        [name, ..] => *name,
    };
    for (resource, namespace, object) in
        [("persistentvolumes", "", name), ("persistentvolumeclaims", namespace, volume.claim.as_str())]
    {
        let phase = view.value_at(Cluster::B, resource, namespace, object, &["status", "phase"], at);
        let since = match &phase {
            Some((writer, phase)) if phase == "Bound" => writer.map_or(Timestamp::MIN, |writer| writer.received),
            _ => return Some(format!("{object} is not Bound")),
        };
        if !view.looked(Cluster::B, resource, namespace, object, since, at) {
            return Some(format!("nothing shows that {object} was seen Bound"));
        }
    }
    None
}

/// I-13: PersistentVolume and claim in the destination say the same of the volume as in the source,
/// and the zone is the one that EC2 reports.
pub(super) fn i13_translation_keeps_the_volume(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for event in view.acts().filter(|event| event.cluster == Cluster::B) {
        if is_create_of(event, "persistentvolumes") {
            violations.extend(translated_volume(view, event));
        } else if is_create_of(event, "persistentvolumeclaims") && event.namespace == view.case.destination {
            violations.extend(translated_claim(view, event));
        }
    }
    violations
}

fn translated_volume(view: &View<'_>, event: &Event) -> Vec<Violation> {
    let handle = handle_of(&event.body).unwrap_or_default();
    let Some(volume) = view.case.volume(&handle) else {
        let what = format!("{} names {handle:?}, which is no volume of the set", event.name);
        return vec![violation("I-13", what, &[event])];
    };
    let Some(source) = view.case.before.get(Cluster::A, "persistentvolumes", "", &volume.volume) else {
        return Vec::new();
    };
    let mut violations = Vec::new();
    let mut reject = |what: String| violations.push(violation("I-13", what, &[event]));
    let claim = event.body.pointer("/spec/claimRef/name").and_then(Value::as_str);
    if claim != Some(volume.claim.as_str()) {
        reject(format!("{} of {handle} is for claim {claim:?}, not {}", event.name, volume.claim));
    }
    let (was, is) = (volume_facts(&source.body), volume_facts(&event.body));
    for ((field, was), (_, is)) in was.iter().zip(&is) {
        let was = if *field == "class" { mapped(view, was) } else { was.clone() };
        if was != *is {
            reject(format!("{}: {field} is {is}, in the source {was}", event.name));
        }
    }
    let zones = zones_of(&event.body);
    if zones != [volume.zone.as_str()] {
        reject(format!("{}: zones {zones:?}, EC2 says {}", event.name, volume.zone));
    }
    violations
}

fn translated_claim(view: &View<'_>, event: &Event) -> Vec<Violation> {
    let Some(source) = view.case.before.get(Cluster::A, "persistentvolumeclaims", &view.case.source, &event.name)
    else {
        return Vec::new();
    };
    let facts = |body: &Value| {
        let spec = &body["spec"];
        let mode = spec.get("volumeMode").cloned().unwrap_or_else(|| "Filesystem".into());
        [("accessModes", spec["accessModes"].clone()), ("volumeMode", mode), ("class", class_of(body))]
    };
    let mut violations = Vec::new();
    for ((field, was), (_, is)) in facts(&source.body).into_iter().zip(facts(&event.body)) {
        let was = if field == "class" { mapped(view, &was) } else { was };
        if was != is {
            let what = format!("claim {}: {field} is {is}, in the source {was}", event.name);
            violations.push(violation("I-13", what, &[event]));
        }
    }
    violations
}

/// Returns what a PersistentVolume says of its volume, in one form for CSI and in-tree ones.
fn volume_facts(body: &Value) -> Vec<(&'static str, Value)> {
    let spec = &body["spec"];
    let filled = |value: Option<&Value>, default: Value| match value {
        None | Some(Value::Null) => default,
        Some(value) => value.clone(),
    };
    let (read_only, fs_type, attributes) = match spec.get("awsElasticBlockStore") {
        Some(in_tree) => {
            let attributes = match in_tree["partition"].as_u64() {
                None | Some(0) => json!({}),
                Some(partition) => json!({"partition": partition.to_string()}),
            };
            (in_tree.get("readOnly"), in_tree.get("fsType"), attributes)
        }
        None => {
            let csi = &spec["csi"];
            let mut attributes = filled(csi.get("volumeAttributes"), json!({}));
            if let Some(attributes) = attributes.as_object_mut() {
                // It names the provisioner that made the volume, and means nothing elsewhere.
                attributes.remove("storage.kubernetes.io/csiProvisionerIdentity");
            }
            (csi.get("readOnly"), csi.get("fsType"), attributes)
        }
    };
    vec![
        ("volumeMode", filled(spec.get("volumeMode"), "Filesystem".into())),
        ("accessModes", filled(spec.get("accessModes"), json!([]))),
        ("mountOptions", filled(spec.get("mountOptions"), json!([]))),
        ("readOnly", filled(read_only, false.into())),
        ("fsType", filled(fs_type, "".into())),
        ("volumeAttributes", attributes),
        ("class", class_of(body)),
    ]
}

/// Returns the storage class of a volume or claim; the old annotation wins over the field.
fn class_of(body: &Value) -> Value {
    let old = body.pointer("/metadata/annotations/volume.beta.kubernetes.io~1storage-class");
    old.or_else(|| body.pointer("/spec/storageClassName")).cloned().unwrap_or_else(|| "".into())
}

fn mapped(view: &View<'_>, class: &Value) -> Value {
    let mapped = class.as_str().and_then(|class| view.case.classes.get(class));
    mapped.map_or_else(|| class.clone(), |mapped| mapped.as_str().into())
}

fn zones_of(volume: &Value) -> Vec<&str> {
    let terms = volume.pointer("/spec/nodeAffinity/required/nodeSelectorTerms").and_then(Value::as_array);
    terms
        .into_iter()
        .flatten()
        .filter_map(|term| term["matchExpressions"].as_array())
        .flatten()
        .filter(|expression| expression["key"] == ZONE && expression["operator"] == "In")
        .filter_map(|expression| expression["values"].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::made::{Made, TOOL, claim_body, volume_body};

    #[test]
    fn i4_accepts_plain_creates_and_sees_server_fields() {
        let mut made = Made::new();
        made.pair_in_b(1, 0);
        made.accepts(i4_created_without_server_fields);
        for (pointer, field) in [("claimRef", "uid"), ("claimRef", "resourceVersion")] {
            let mut made = Made::new();
            let mut body = volume_body(0);
            body["spec"][pointer][field] = json!("7");
            made.write(1, TOOL, Cluster::B, "create", "persistentvolumes", "", "pv-0", body);
            made.rejects(i4_created_without_server_fields, field);
        }
    }

    #[test]
    fn i4_sees_owners_and_bind_annotations_of_claims() {
        let mut made = Made::new();
        let mut body = claim_body(0);
        body["metadata"]["ownerReferences"] = json!([{"uid": "set-uid"}]);
        made.write(1, TOOL, Cluster::B, "create", "persistentvolumeclaims", "b-space", "data-web-0", body);
        made.rejects(i4_created_without_server_fields, "ownerReferences");
        let mut made = Made::new();
        let mut body = claim_body(0);
        body["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
        made.write(1, TOOL, Cluster::B, "create", "persistentvolumeclaims", "b-space", "data-web-0", body);
        made.rejects(i4_created_without_server_fields, "bind-completed");
    }

    #[test]
    fn i5_accepts_pairs_and_sees_claims_without_volume() {
        let mut made = Made::new();
        made.pair_in_b(1, 0);
        made.pair_in_b(1, 1);
        made.accepts(i5_claims_only_on_their_own_volume);
        let mut body = claim_body(0);
        body["spec"].as_object_mut().unwrap().remove("volumeName");
        made.write(3, "kcm", Cluster::B, "create", "persistentvolumeclaims", "b-space", "data-web-0", body);
        made.rejects(i5_claims_only_on_their_own_volume, "volumeName \"\"");
    }

    #[test]
    fn i5_sees_a_claim_on_the_volume_of_another() {
        let mut made = Made::new();
        made.pair_in_b(1, 1);
        let mut body = claim_body(0);
        body["spec"]["volumeName"] = json!("pv-1");
        made.write(3, TOOL, Cluster::B, "create", "persistentvolumeclaims", "b-space", "data-web-0", body);
        made.rejects(i5_claims_only_on_their_own_volume, "not a PersistentVolume of vol-0");
    }

    #[test]
    fn i5_sees_a_provisioned_volume() {
        let mut made = Made::new();
        let body = json!({"spec": {"csi": {"volumeHandle": "vol-new"},
            "claimRef": {"namespace": "b-space", "name": "data-web-0", "uid": "u"}}});
        made.write(3, "csi-provisioner", Cluster::B, "create", "persistentvolumes", "", "pvc-new", body);
        made.rejects(i5_claims_only_on_their_own_volume, "provisioned for claim data-web-0");
    }

    fn paired() -> Made {
        let mut made = Made::new();
        made.pair_in_b(1, 0);
        made.pair_in_b(1, 1);
        made.read(3, Cluster::B, "list", "persistentvolumes", "", "", 200);
        made.read(3, Cluster::B, "list", "persistentvolumeclaims", "b-space", "", 200);
        made
    }

    #[test]
    fn i7_accepts_a_set_at_rest_after_the_pairs() {
        let mut made = paired();
        made.set_in_b(4, 0);
        made.accepts(i7_set_with_no_replicas_after_the_pairs);
    }

    #[test]
    fn i7_sees_replicas_and_missing_pairs_and_blindness() {
        let mut made = paired();
        made.set_in_b(4, 1);
        made.rejects(i7_set_with_no_replicas_after_the_pairs, "with 1 replicas");
        let mut made = Made::new();
        made.pair_in_b(1, 0);
        made.set_in_b(4, 0);
        made.rejects(i7_set_with_no_replicas_after_the_pairs, "no PersistentVolume names vol-1");
        let mut made = Made::new();
        made.pair_in_b(1, 0);
        made.pair_in_b(1, 1);
        made.set_in_b(4, 0);
        made.rejects(i7_set_with_no_replicas_after_the_pairs, "was seen Bound");
        let mut made = paired();
        made.set_in_b(0, 0);
        made.rejects(i7_set_with_no_replicas_after_the_pairs, "is not Bound");
    }

    #[test]
    fn i13_accepts_a_faithful_translation() {
        paired().accepts(i13_translation_keeps_the_volume);
    }

    #[test]
    fn i13_sees_each_fact_that_changed() {
        let zone = json!([{"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["eu-west-1b"]}]}]);
        for (pointer, value, word) in [
            ("/spec/nodeAffinity/required/nodeSelectorTerms", zone, "EC2 says"),
            ("/spec/volumeMode", json!("Block"), "volumeMode"),
            ("/spec/csi/fsType", json!("xfs"), "fsType"),
            ("/spec/csi/volumeHandle", json!("vol-1"), "is for claim"),
            ("/spec/storageClassName", json!("other"), "class"),
            ("/spec/accessModes", json!(["ReadOnlyMany"]), "accessModes"),
        ] {
            let mut made = Made::new();
            let mut body = volume_body(0);
            *body.pointer_mut(pointer).unwrap() = value;
            made.write(1, TOOL, Cluster::B, "create", "persistentvolumes", "", "pv-0", body);
            made.rejects(i13_translation_keeps_the_volume, word);
        }
    }

    #[test]
    fn i13_knows_the_class_map() {
        let mut made = Made::new();
        made.case.classes.insert("gp3".to_owned(), "fast".to_owned());
        let mut body = claim_body(0);
        body["spec"]["storageClassName"] = json!("fast");
        made.write(1, TOOL, Cluster::B, "create", "persistentvolumeclaims", "b-space", "data-web-0", body);
        made.accepts(i13_translation_keeps_the_volume);
        made.case.classes.clear();
        made.rejects(i13_translation_keeps_the_volume, "class");
    }
}
