//! What of `metadata` is carried along: all but what the server sets and what other machinery would act on.
//!
//! Owner references of A name uids that B does not have, and the garbage collector deletes what hangs on
//! them (GC-7). Finalizers are put back by those who need them (PV-17). Bind annotations make a claim
//! `Lost` for good (PV-3). Tracking ids would make the GitOps of A or B prune or adopt (OP-1, OP-2).

use serde_json::{Map, Value};

/// Fields that the API server sets, and references that mean something in their own cluster only.
const NOT_CARRIED: [&str; 10] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "ownerReferences",
    "finalizers",
];

/// Annotations by which volume controllers remember what they did with a claim or PV.
pub(super) const BIND_ANNOTATIONS: [&str; 6] = [
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-resizer",
];

/// Annotation in which `kubectl apply` keeps what it last sent.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Prefix of this program's own annotations: those of an earlier attempt say nothing about this one.
const OWN: &str = "sts-migrate.io/";

/// Prefixes of the labels and annotations by which Argo CD and Flux know their objects. Argo CD's old
/// label `app.kubernetes.io/instance` is not among them: selectors hang on it.
const TRACKING: [&str; 3] = ["argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/"];

/// Returns whether a label or annotation is a tracking id of Argo CD or Flux.
pub(super) fn is_tracking(key: &str) -> bool {
    TRACKING.iter().any(|prefix| key.starts_with(prefix))
}

/// Name and namespace of an object to be made, and the annotations that it gets.
pub(super) struct Target<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: Option<&'a str>,
    pub(super) annotations: &'a [(&'a str, &'a str)],
}

/// Returns the metadata of B's object for A's: without tracking ids and the named labels and annotations.
pub(super) fn carried(before: &Value, dropped: &[&str], target: &Target<'_>) -> Value {
    let is_dropped = |key: &str| is_tracking(key) || key == LAST_APPLIED || dropped.contains(&key);
    let mut fields = cleaned(before, is_dropped);
    retain_keys(&mut fields, "labels", |key| !is_tracking(key) && !dropped.contains(&key));
    complete(fields, target)
}

/// Returns the metadata of A's object made again: as it was, without the named annotations.
pub(super) fn restored(before: &Value, dropped: &[&str], target: &Target<'_>) -> Value {
    complete(cleaned(before, |key| dropped.contains(&key)), target)
}

/// Removes from embedded metadata, such as a claim template's, what would reach the objects made of it.
pub(super) fn clean_embedded(metadata: &mut Map<String, Value>) {
    for field in NOT_CARRIED.iter().filter(|field| **field != "finalizers") {
        metadata.shift_remove(*field);
    }
}

fn cleaned(before: &Value, is_dropped: impl Fn(&str) -> bool) -> Map<String, Value> {
    let mut fields = before["metadata"].as_object().cloned().unwrap_or_default();
    for field in NOT_CARRIED {
        fields.shift_remove(field);
    }
    retain_keys(&mut fields, "annotations", |key| !key.starts_with(OWN) && !is_dropped(key));
    fields
}

fn complete(mut fields: Map<String, Value>, target: &Target<'_>) -> Value {
    fields.insert("name".to_owned(), target.name.into());
    match target.namespace {
        Some(namespace) => fields.insert("namespace".to_owned(), namespace.into()),
        None => fields.shift_remove("namespace"),
    };
    if !target.annotations.is_empty() {
        let annotations = fields.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
        for (key, value) in target.annotations {
            annotations[*key] = (*value).into();
        }
    }
    Value::Object(fields)
}

/// Keeps the entries of a map whose keys are wanted; an empty map goes altogether.
fn retain_keys(fields: &mut Map<String, Value>, map: &str, is_kept: impl Fn(&str) -> bool) {
    let Some(entries) = fields.get_mut(map) else { return };
    if let Some(entries) = entries.as_object_mut() {
        entries.retain(|key, _| is_kept(key));
    }
    if entries.is_null() || entries.as_object().is_some_and(Map::is_empty) {
        fields.shift_remove(map);
    }
}

/// Returns a copy of an object's `spec`.
pub(super) fn spec_of(before: &Value) -> Map<String, Value> {
    before["spec"].as_object().cloned().unwrap_or_default()
}

/// Returns the object with its metadata and spec replaced, without `status`, with what else it had.
pub(super) fn assembled(
    before: &Value,
    api_version: &str,
    kind: &str,
    metadata: Value,
    spec: Map<String, Value>,
) -> Value {
    let mut object = before.as_object().cloned().unwrap_or_default();
    object.shift_remove("status");
    // Items of a list come without these two.
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    object.insert("metadata".to_owned(), metadata);
    object.insert("spec".to_owned(), Value::Object(spec));
    Value::Object(object)
}
