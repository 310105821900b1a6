//! A Kubernetes object as raw JSON, with the readings that the rules need.
//!
//! Raw because typed structs drop the fields that they do not know, and a set restored without one
//! of them restarts every survivor.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::VolumeId;

/// A Kubernetes object exactly as the API server sent it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Object(pub Value);

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    /// Kind of the owner.
    pub kind: &'a str,
    /// Name of the owner.
    pub name: &'a str,
    /// Uid of the owner.
    pub uid: &'a str,
    /// Whether it is the managing controller.
    pub controller: bool,
}

impl Object {
    /// Returns the value at a JSON pointer such as `/spec/replicas`.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        self.0.pointer(pointer).filter(|value| !value.is_null())
    }

    /// Returns the string at a JSON pointer.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer).and_then(Value::as_str)
    }

    /// Returns the whole number at a JSON pointer.
    pub fn number(&self, pointer: &str) -> Option<i64> {
        self.at(pointer).and_then(Value::as_i64)
    }

    /// Returns the array at a JSON pointer, empty when it is missing.
    pub fn array(&self, pointer: &str) -> &[Value] {
        self.at(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Returns `metadata.name`.
    pub fn name(&self) -> &str {
        self.text("/metadata/name").unwrap_or_default()
    }

    /// Returns `metadata.namespace`, empty for cluster-wide objects.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace").unwrap_or_default()
    }

    /// Returns `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.text("/metadata/uid").unwrap_or_default()
    }

    /// Returns `metadata.resourceVersion`.
    pub fn resource_version(&self) -> &str {
        self.text("/metadata/resourceVersion").unwrap_or_default()
    }

    /// Returns whether a deletion has begun.
    pub fn is_terminating(&self) -> bool {
        self.at("/metadata/deletionTimestamp").is_some()
    }

    /// Returns an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.at("/metadata/annotations")?.get(key)?.as_str()
    }

    /// Returns a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.at("/metadata/labels")?.get(key)?.as_str()
    }

    /// Returns the owner references.
    pub fn owners(&self) -> impl Iterator<Item = OwnerReference<'_>> {
        self.array("/metadata/ownerReferences").iter().map(|owner| OwnerReference {
            kind: owner["kind"].as_str().unwrap_or_default(),
            name: owner["name"].as_str().unwrap_or_default(),
            uid: owner["uid"].as_str().unwrap_or_default(),
            controller: owner["controller"].as_bool().unwrap_or_default(),
        })
    }

    /// Returns the finalizers.
    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.array("/metadata/finalizers").iter().filter_map(Value::as_str)
    }

    /// Returns the EC2 instance id of a Node, the last part of `spec.providerID`
    /// (`aws:///eu-west-1a/i-…`).
    pub fn instance_id(&self) -> Option<&str> {
        let provider = self.text("/spec/providerID")?;
        provider.rsplit('/').next().filter(|instance| instance.starts_with("i-"))
    }

    /// Returns the EBS volume of a PersistentVolume, of the CSI form or the in-tree form
    /// (`aws://zone/vol-…`, bare `vol-…`), normalised; none when it is no EBS volume.
    pub fn volume_id(&self) -> Option<VolumeId> {
        let handle = match self.text("/spec/csi/driver") {
            Some(_) => self.text("/spec/csi/volumeHandle")?,
            None => self.text("/spec/awsElasticBlockStore/volumeID")?,
        };
        let bare = handle.rsplit('/').next()?;
        bare.starts_with("vol-").then(|| VolumeId(bare.to_owned()))
    }

    /// Returns the claim names that a Pod's (or a pod template's) volumes use.
    pub fn claim_names(&self) -> impl Iterator<Item = &str> {
        self.array("/spec/volumes")
            .iter()
            .filter_map(|volume| volume.pointer("/persistentVolumeClaim/claimName")?.as_str())
    }

    /// Returns whether a Pod has ended for good: its claims are no longer used by it.
    pub fn is_finished_pod(&self) -> bool {
        matches!(self.text("/status/phase"), Some("Succeeded" | "Failed"))
    }

    /// Returns the status (`True`, `False`, `Unknown`) of a condition in `status.conditions`.
    pub fn condition(&self, kind: &str) -> Option<&str> {
        self.array("/status/conditions").iter().find(|condition| condition["type"] == kind)?["status"].as_str()
    }

    /// Returns whether PV and claim are bound to each other: both phases `Bound`, the claim's uid in
    /// the PV's claimRef, the PV's name in the claim (PV-4).
    pub fn is_bound_to(&self, claim: &Object) -> bool {
        self.text("/status/phase") == Some("Bound")
            && claim.text("/status/phase") == Some("Bound")
            && self.text("/spec/claimRef/uid") == Some(claim.uid())
            && self.text("/spec/claimRef/name") == Some(claim.name())
            && claim.text("/spec/volumeName") == Some(self.name())
    }

    /// Returns `spec.replicas` of a set; the API's default is 1.
    pub fn replicas(&self) -> i64 {
        self.number("/spec/replicas").unwrap_or(1)
    }

    /// Returns the pod template of a workload (Deployment, Job, CronJob, set, …).
    pub fn pod_template(&self) -> Option<&Value> {
        self.at("/spec/jobTemplate/spec/template").or_else(|| self.at("/spec/template"))
    }

    /// Returns all labels and annotations.
    pub fn marks(&self) -> impl Iterator<Item = (&str, &str)> {
        ["/metadata/labels", "/metadata/annotations"]
            .into_iter()
            .filter_map(|pointer| self.at(pointer)?.as_object())
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// Returns the managing controller.
    pub fn controller(&self) -> Option<OwnerReference<'_>> {
        self.owners().find(|owner| owner.controller)
    }
}
