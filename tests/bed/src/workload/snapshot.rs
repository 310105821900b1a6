//! What is in a namespace, to be compared with what is there later.
//!
//! A snapshot keeps what somebody has written (uid, labels, annotations, owners, finalizers, spec,
//! data) and leaves out what moves by itself (status, resourceVersion, managed fields); of a pod it
//! keeps the restarts.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};

use super::kinds::namespaced;

/// Metadata that counts.
const METADATA: [&str; 5] = ["uid", "labels", "annotations", "ownerReferences", "finalizers"];

/// Everything in a namespace and the PersistentVolumes that are bound to it, at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The objects by `Kind/name`.
    pub objects: BTreeMap<String, Value>,
}

/// Takes a snapshot of a namespace.
pub async fn snapshot(client: &Client, namespace: &str) -> Result<Snapshot> {
    let lists = namespaced().into_iter().map(|resource| list(client, namespace, resource));
    let mut objects: BTreeMap<String, Value> = try_join_all(lists).await?.into_iter().flatten().collect();
    let resource = ApiResource::erase::<PersistentVolume>(&());
    let volumes: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    for volume in volumes.list(&ListParams::default()).await.context("list PersistentVolumes")? {
        if volume.data["spec"]["claimRef"]["namespace"] == namespace {
            objects.insert(format!("PersistentVolume/{}", volume.name_any()), written(&volume)?);
        }
    }
    Ok(Snapshot { objects })
}

async fn list(client: &Client, namespace: &str, resource: ApiResource) -> Result<Vec<(String, Value)>> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let listed = api.list(&ListParams::default()).await.with_context(|| format!("list {}", resource.plural))?;
    listed.iter().map(|object| Ok((format!("{}/{}", resource.kind, object.name_any()), written(object)?))).collect()
}

/// Returns the part of an object that somebody has written.
fn written(object: &DynamicObject) -> Result<Value> {
    let mut whole = serde_json::to_value(object).context("read an object")?;
    let restarts: Vec<Value> = whole["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| container["restartCount"].clone())
        .collect();
    let metadata: Map<String, Value> =
        METADATA.iter().filter_map(|key| Some(((*key).to_owned(), whole["metadata"].get(key)?.clone()))).collect();
    whole["metadata"] = metadata.into();
    if let Some(fields) = whole.as_object_mut() {
        for key in ["status", "apiVersion", "kind"] {
            fields.remove(key);
        }
        if !restarts.is_empty() {
            fields.insert("restarts".to_owned(), restarts.into());
        }
    }
    Ok(whole)
}

impl Snapshot {
    /// Returns the part of the snapshot whose keys (`Kind/name`) are to be kept.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Snapshot {
        let objects =
            self.objects.iter().filter(|(key, _)| keep(key)).map(|(key, object)| (key.clone(), object.clone()));
        Snapshot { objects: objects.collect() }
    }

    /// Returns what is different in a later snapshot, one line per object or field; nothing when all is as it was.
    pub fn differences(&self, later: &Snapshot) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, object) in &self.objects {
            match later.objects.get(key) {
                None => lines.push(format!("{key} is gone")),
                Some(other) => compare(key, object, other, &mut lines),
            }
        }
        let new = later.objects.keys().filter(|key| !self.objects.contains_key(*key));
        lines.extend(new.map(|key| format!("{key} is new")));
        lines
    }
}

fn compare(path: &str, before: &Value, after: &Value, lines: &mut Vec<String>) {
    if before == after {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        lines.push(format!("{path}: {before} → {after}"));
        return;
    };
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let missing = json!(null);
    for key in keys {
        compare(&format!("{path} .{key}"), old.get(key).unwrap_or(&missing), new.get(key).unwrap_or(&missing), lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(objects: Value) -> Snapshot {
        let objects = objects.as_object().expect("objects").iter().map(|(key, value)| (key.clone(), value.clone()));
        Snapshot { objects: objects.collect() }
    }

    #[test]
    fn differences_name_object_and_field() {
        let before = of(json!({"Pod/web-0": {"metadata": {"uid": "1"}}, "Service/web": {}}));
        let after = of(json!({"Pod/web-0": {"metadata": {"uid": "2"}}, "Lease/web": {}}));
        let expected = [r#"Pod/web-0 .metadata .uid: "1" → "2""#, "Service/web is gone", "Lease/web is new"];
        assert_eq!(before.differences(&after), expected);
        assert!(before.differences(&before).is_empty());
    }

    #[test]
    fn what_moves_by_itself_is_left_out() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web-0", "uid": "1", "resourceVersion": "7", "generation": 2},
            "spec": {"nodeName": "node-1"},
            "status": {"phase": "Running", "containerStatuses": [{"restartCount": 2}]},
        }))
        .expect("an object");
        let expected = json!({"metadata": {"uid": "1"}, "spec": {"nodeName": "node-1"}, "restarts": [2]});
        assert_eq!(written(&object).expect("written"), expected);
    }

    #[test]
    fn a_part_of_a_snapshot_can_be_compared_alone() {
        let before = of(json!({"Pod/web-0": {"a": 1}, "Pod/other-0": {"a": 1}}));
        let after = of(json!({"Pod/web-0": {"a": 2}, "Pod/other-0": {"a": 1}}));
        let bystander = |key: &str| key.ends_with("/other-0");
        assert!(before.only(bystander).differences(&after.only(bystander)).is_empty());
        assert_eq!(before.differences(&after), ["Pod/web-0 .a: 1 → 2"]);
    }
}
