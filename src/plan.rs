//! The plan: what one migration is about, with every before-image.
//!
//! Written to both clusters before the first change, and immutable from then on: rollback needs no
//! inference. Before-images are raw JSON, as the API server sent them. No I/O here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::{Subject, stem};
use crate::world::{Kind, Object, Side, VolumeId};

mod build;
mod services;

pub use build::{build, needed};
pub use services::{ServiceKinship, kinship, node_ports, same_meaning};
pub(crate) use services::{labels_of_others, publishes};

/// Annotation on every object that the program created or patched: id and attempt of its migration.
pub const MIGRATION_ANNOTATION: &str = "sts-migrate.io/migration";

/// Annotation on PVs of both sides: the reclaim policy that A's PV had, restored at the end.
pub const RECLAIM_POLICY_ANNOTATION: &str = "sts-migrate.io/reclaim-policy";

/// Annotation that is set and taken away again, so that an object is written (fencing).
pub(crate) const TOUCHED_ANNOTATION: &str = "sts-migrate.io/touched";

/// Annotations that are ours, or that any `kubectl apply` writes: where they differ nobody has changed anything.
pub(crate) const UNHEEDED_ANNOTATIONS: [&str; 3] =
    [MIGRATION_ANNOTATION, TOUCHED_ANNOTATION, "kubectl.kubernetes.io/last-applied-configuration"];

/// The only reclaim policy under which data outlives objects (I-2).
pub(crate) const RETAIN: &str = "Retain";

/// What a person gives to `kubectl patch pv NAME -p` for that.
pub(crate) const RETAIN_PATCH: &str = r#"'{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}'"#;

/// Version of the stored plan; a reader refuses a larger one.
pub const PLAN_VERSION: u32 = 1;

/// What is moved, from where to where, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// Format version, [`PLAN_VERSION`].
    pub version: u32,
    /// Id of the migration: `migrationId`, or the hash of [`migration_id`].
    pub id: String,
    /// Attempt under this id, from 1; a migration after an ended one counts up.
    pub attempt: u32,
    /// Cluster A.
    pub source: Place,
    /// Cluster B.
    pub destination: Place,
    /// What the first run chose.
    pub choices: Choices,
    /// The sets to move; today one.
    pub sets: Vec<SetPlan>,
}

/// What an operator asks for, before anything is known of the set or claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `migrationId`, if given.
    pub id: Option<String>,
    /// Whether a set is moved, or a single claim.
    pub subject: Subject,
    /// Its name.
    pub name: String,
    /// Cluster A.
    pub source: Place,
    /// Cluster B.
    pub destination: Place,
    /// `--order`, if given.
    pub order: Option<Order>,
    /// StorageClass names in A → in B.
    pub storage_class_map: BTreeMap<String, String>,
    /// Whether findings that may be forced are.
    pub force: bool,
    /// Whether B's namespace may be created.
    pub create_namespace: bool,
    /// `--include-idle-claims`, `--leave-idle-claims`.
    pub idle_claims: IdleClaims,
}

/// A cluster and a namespace in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Place {
    /// Uid of the namespace `kube-system`, which identifies the cluster.
    pub cluster_uid: String,
    /// Kubeconfig context of the first run; for people only, another laptop may call it otherwise.
    pub context: String,
    /// Namespace.
    pub namespace: String,
}

/// Order in which the ordinals move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Lowest ordinal first, each available in the destination before the next goes down.
    OneByOne,
    /// All down, then all up by one patch of `replicas`.
    Together,
}

impl std::fmt::Display for Order {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Order::OneByOne => "one-by-one",
            Order::Together => "together",
        })
    }
}

/// What the first run chose; a later run that says otherwise is refused (exit 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Choices {
    /// Order of the ordinals.
    pub order: Order,
    /// StorageClass names in A → in B.
    pub storage_class_map: BTreeMap<String, String>,
    /// Whether findings that may be forced were.
    pub force: bool,
    /// Whether B's namespace may be created.
    pub create_namespace: bool,
    /// What happens to claims of ordinals out of range.
    pub idle_claims: IdleClaims,
}

/// What happens to claims of the set's templates at ordinals out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum IdleClaims {
    /// There are none, or nobody has chosen yet.
    Undecided,
    /// They are moved as pairs without a pod.
    Include,
    /// Nothing of theirs is touched.
    Leave,
}

/// One StatefulSet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetPlan {
    /// Name, the same in both clusters.
    pub name: String,
    /// The set in A before the first change; null for a single claim, which is then in `idle`.
    pub before: Object,
    /// First ordinal (`spec.ordinals.start`).
    pub start: i64,
    /// The ordinals in range, ascending.
    pub ordinals: Vec<OrdinalPlan>,
    /// Claims that move as pairs without a pod: out of range (`--include-idle-claims`), or the single claim.
    pub idle: Vec<VolumePlan>,
    /// Services and Ingresses to carry over.
    pub services: Vec<ServicePlan>,
    /// Uids of the set's ControllerRevisions in A, which go at finalize.
    pub revisions: Vec<String>,
}

/// A Service or Ingress that is carried over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicePlan {
    /// The object in A before the first change; its kind is in it.
    pub before: Object,
    /// Whether it publishes something and so waits for the cutover (§1.2).
    pub at_cutover: bool,
    /// Whether one with the same meaning was in B already: used, and not ours to delete.
    pub existing: bool,
    /// Node ports that another Service holds in B: B chooses others, which was forced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_node_ports: Vec<i64>,
}

/// One ordinal: a pod with its volumes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrdinalPlan {
    /// The ordinal.
    pub ordinal: i64,
    /// Its volumes, in the order of the claim templates.
    pub volumes: Vec<VolumePlan>,
}

/// One claim with its PV and EBS volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumePlan {
    /// Name of the claim, the same in both clusters.
    pub claim: String,
    /// The EBS volume.
    pub volume: VolumeId,
    /// Name of the PV in A.
    pub source_volume_name: String,
    /// Name of the PV in B: the same if free there (PV-7).
    pub destination_volume_name: String,
    /// Zone, as EC2 reports it.
    pub zone: String,
    /// Size in GiB, as EC2 reports it.
    pub size_gib: i64,
    /// The claim in A before the first change.
    pub claim_before: Object,
    /// The PV in A before the first change.
    pub volume_before: Object,
    /// Reclaim policy to restore at the end: the PV's annotation of an earlier attempt wins over its spec.
    pub reclaim_policy: String,
}

impl ServicePlan {
    /// Returns whether it is a Service or an Ingress.
    pub fn kind(&self) -> Kind {
        if self.before.text("/kind") == Some("Ingress") { Kind::Ingress } else { Kind::Service }
    }
}

impl VolumePlan {
    /// Returns the PV's name on a side.
    pub fn volume_name(&self, side: Side) -> &str {
        match side {
            Side::Source => &self.source_volume_name,
            Side::Destination => &self.destination_volume_name,
        }
    }
}

impl SetPlan {
    /// Returns the number of replicas to move.
    pub fn replicas(&self) -> i64 {
        self.ordinals.len() as i64
    }

    /// Returns the name of the pod of an ordinal.
    pub fn pod_name(&self, ordinal: i64) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// Returns the uid of the set in A.
    pub fn uid(&self) -> &str {
        self.before.uid()
    }

    /// Returns whether the controller starts and stops pods side by side.
    pub fn is_parallel(&self) -> bool {
        self.before.text("/spec/podManagementPolicy") == Some("Parallel")
    }

    /// Returns the grace period of its pods in seconds; Kubernetes' default is 30.
    pub fn grace_seconds(&self) -> u64 {
        self.before
            .at("/spec/template/spec/terminationGracePeriodSeconds")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(30)
    }

    /// Returns all volumes, of the ordinals and idle ones.
    pub fn volumes(&self) -> impl Iterator<Item = &VolumePlan> {
        self.ordinals.iter().flat_map(|ordinal| &ordinal.volumes).chain(&self.idle)
    }
}

impl Plan {
    /// Returns the place on a side.
    pub fn place(&self, side: Side) -> &Place {
        match side {
            Side::Source => &self.source,
            Side::Destination => &self.destination,
        }
    }

    /// Returns the value of [`MIGRATION_ANNOTATION`] on this migration's objects.
    pub fn mark(&self) -> String {
        format!("{}.{}", self.id, self.attempt)
    }

    /// Returns what is moved: a set, or a single claim that no set owns.
    pub fn subject(&self) -> Subject {
        if self.sets.iter().any(|set| set.before.0.is_null()) { Subject::Claim } else { Subject::Set }
    }

    /// Returns the name of what is moved.
    pub fn name(&self) -> &str {
        self.sets.first().map_or("", |set| &set.name)
    }

    /// Returns the name of Lease and record, and the stem of the plan's Secrets.
    pub fn stem(&self) -> String {
        stem(self.subject(), self.name())
    }

    /// Returns all volumes of all sets.
    pub fn volumes(&self) -> impl Iterator<Item = &VolumePlan> {
        self.sets.iter().flat_map(SetPlan::volumes)
    }
}

/// Returns the default id of a migration: a hash of who is moved and where to, so that the same
/// command on another laptop finds the same migration.
pub fn migration_id(source: &Place, set_uid: &str, destination: &Place) -> String {
    short_hash(&[&source.cluster_uid, set_uid, &destination.cluster_uid, &destination.namespace])
}

/// Returns the first ten hexadecimal digits of a hash over the parts; enough to tell migrations
/// apart, short enough for names.
pub(crate) fn short_hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}
