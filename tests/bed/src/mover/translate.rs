//! A's objects as they must be in B, and as they come back to A.

use serde_json::{Value, json};

use super::side::{retain_claims, text};
use super::{Mistake, Mover, Pair};

/// Metadata that only servers and controllers write.
const SERVER_FIELDS: [&str; 8] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "selfLink",
    "ownerReferences",
    "finalizers",
];

/// Annotations that say how a claim was bound.
const BIND_ANNOTATIONS: [&str; 5] = [
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
];

/// Returns an object without what servers and controllers write.
pub(super) fn plain(object: &Value) -> Value {
    let mut plain = object.clone();
    if let Some(fields) = plain.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = plain["metadata"].as_object_mut() {
        for field in SERVER_FIELDS {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            for annotation in BIND_ANNOTATIONS {
                annotations.remove(annotation);
            }
        }
    }
    plain
}

impl Mover {
    pub(super) fn volume_in_b(&self, pair: &Pair) -> Value {
        let claimed_by = if self.makes(Mistake::VolumesSwapped) { self.swapped(pair) } else { pair };
        let mut volume = plain(&pair.volume);
        let mut claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": self.b.namespace, "name": claimed_by.claim_name(),
        });
        if self.makes(Mistake::VolumeWithClaimUid) {
            claim["uid"] = pair.claim["metadata"]["uid"].clone();
        }
        let spec = &mut volume["spec"];
        spec["claimRef"] = claim;
        let policy = if self.makes(Mistake::VolumeWithDelete) { "Delete" } else { "Retain" };
        spec["persistentVolumeReclaimPolicy"] = json!(policy);
        if let Some(attributes) = spec["csi"]["volumeAttributes"].as_object_mut() {
            attributes.remove("storage.kubernetes.io/csiProvisionerIdentity");
        }
        let zone = match pair.zone.as_str() {
            "eu-west-1a" if self.makes(Mistake::WrongZone) => "eu-west-1b",
            _ if self.makes(Mistake::WrongZone) => "eu-west-1a",
            zone => zone,
        };
        spec["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}]}]}});
        volume
    }

    pub(super) fn claim_in_b(&self, pair: &Pair) -> Value {
        let mut claim = plain(&pair.claim);
        claim["metadata"]["namespace"] = json!(self.b.namespace);
        if self.makes(Mistake::ClaimWithoutVolumeName) {
            if let Some(spec) = claim["spec"].as_object_mut() {
                spec.remove("volumeName");
            }
        } else if self.makes(Mistake::VolumesSwapped) {
            claim["spec"]["volumeName"] = json!(self.swapped(pair).volume_name());
        }
        claim
    }

    pub(super) fn set_in_b(&self) -> Value {
        let mut set = plain(&self.before.set);
        set["metadata"]["namespace"] = json!(self.b.namespace);
        set["spec"]["replicas"] = json!(if self.makes(Mistake::SetWithReplicas) { self.replicas() } else { 0 });
        set["spec"]["persistentVolumeClaimRetentionPolicy"] = retain_claims();
        set
    }

    pub(super) fn service_in_b(&self, service: &Value) -> Value {
        let mut service = plain(service);
        service["metadata"]["namespace"] = json!(self.b.namespace);
        if text(&service, "/spec/clusterIP") != "None"
            && let Some(spec) = service["spec"].as_object_mut()
        {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        service
    }

    /// Returns the pair of the same template one ordinal further, in a ring.
    fn swapped(&self, pair: &Pair) -> &Pair {
        let per_ordinal = self.pairs_of(pair.ordinal).count();
        let pairs = &self.before.pairs;
        let place = pairs.iter().position(|other| other.claim_name() == pair.claim_name()).unwrap_or(0);
        &pairs[(place + per_ordinal) % pairs.len()]
    }
}
