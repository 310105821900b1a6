//! What was seen of a test: logs, histories and live objects, as plain data.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Cluster;
use crate::facts::{Ec2Call, HistoryEntry, VolumeChange};

use super::Event;

/// Everything that the judge looks at.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Requests to both API servers, in the order of their arrival.
    pub events: Vec<Event>,
    /// Requests to EC2 by the tool's keys, in the order of their arrival.
    pub calls: Vec<Ec2Call>,
    /// True changes in EC2, by volume id.
    pub changes: BTreeMap<String, Vec<VolumeChange>>,
    /// What the pods wrote on the volumes, by volume id.
    pub histories: BTreeMap<String, Vec<HistoryEntry>>,
    /// The cluster of each EC2 instance.
    pub instances: BTreeMap<String, Cluster>,
    /// The objects that exist now.
    pub live: Snapshot,
}

/// One object with its place.
#[derive(Clone, Debug)]
pub struct Object {
    /// The cluster in which it exists.
    pub cluster: Cluster,
    /// Plural name of the resource, such as `persistentvolumes`.
    pub resource: String,
    /// The object as the server gives it.
    pub body: Value,
}

impl Object {
    /// Returns the text at a JSON pointer, or an empty one.
    pub fn text(&self, pointer: &str) -> &str {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the object's name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Returns the object's namespace, empty where it has none.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// Returns the object's uid.
    pub fn uid(&self) -> &str {
        self.text("/metadata/uid")
    }

    /// Returns the uids of the objects that own it.
    pub fn owners(&self) -> Vec<&str> {
        let references = self.body.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        references.into_iter().flatten().filter_map(|reference| reference["uid"].as_str()).collect()
    }

    /// Returns the volume id that a PersistentVolume names, whatever the form.
    pub fn handle(&self) -> Option<String> {
        handle_of(&self.body)
    }

    /// Returns resource and name, for people.
    pub fn title(&self) -> String {
        format!("{} {} in {}", self.resource, self.name(), self.cluster.name())
    }
}

/// Returns the EC2 volume id that the JSON of a PersistentVolume names.
pub(super) fn handle_of(volume: &Value) -> Option<String> {
    let handle = volume
        .pointer("/spec/csi/volumeHandle")
        .or_else(|| volume.pointer("/spec/awsElasticBlockStore/volumeID"))?
        .as_str()?;
    // In-tree volumes are written `aws://zone/vol-…`, too.
    handle.rsplit('/').next().map(str::to_owned)
}

/// Objects of both clusters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The objects, in no particular order.
    pub objects: Vec<Object>,
}

impl Snapshot {
    /// Returns the objects of one resource in one cluster.
    pub fn of(&self, cluster: Cluster, resource: &str) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |object| object.cluster == cluster && object.resource == resource)
    }

    /// Returns one object.
    pub fn get(&self, cluster: Cluster, resource: &str, namespace: &str, name: &str) -> Option<&Object> {
        self.of(cluster, resource).find(|object| object.name() == name && object.namespace() == namespace)
    }
}
