//! The calls that the program makes, one API request each.

use serde_json::{Value, json};

use crate::plan::{MIGRATION_ANNOTATION, Plan};
use crate::record::{MANAGED_BY, MANAGED_BY_LABEL, RECORD_KEY, Record};
use crate::world::{Kind, Object, Side};

/// One call and what it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// What it is for, for people and events.
    pub step: Step,
    /// The call.
    pub verb: Verb,
}

/// A mutating call. Updates and deletes carry uid and resourceVersion: a call that was overtaken
/// fails with 409 and is decided anew (I-9).
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Create an object.
    Create {
        /// Where.
        side: Side,
        /// Its kind.
        kind: Kind,
        /// The object.
        object: Value,
    },
    /// Merge-patch an object (RFC 7386) with preconditions.
    Patch {
        /// Where.
        side: Side,
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Precondition: `metadata.uid`.
        uid: String,
        /// Precondition: `metadata.resourceVersion`.
        resource_version: String,
        /// The change, without the preconditions.
        patch: Value,
    },
    /// Delete an object with preconditions, with the object's own grace period.
    Delete {
        /// Where.
        side: Side,
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Precondition: `metadata.uid`.
        uid: String,
        /// Precondition: `metadata.resourceVersion`.
        resource_version: String,
        /// Whether dependents stay (`propagationPolicy: Orphan`); always so for sets (GC-1).
        orphan: bool,
    },
    /// Run a command of the operator's.
    Run(Command),
}

/// A command of the operator's; run at least once, again after a crash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Command {
    /// `--before-pod-command` for an ordinal.
    BeforePod(i64),
    /// `--verify-command` for an ordinal.
    Verify(i64),
    /// `--cutover-command`.
    Cutover,
    /// `--cutover-command` with `back`.
    CutoverBack,
}

impl std::fmt::Display for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Command::BeforePod(ordinal) => write!(formatter, "--before-pod-command for ordinal {ordinal}"),
            Command::Verify(ordinal) => write!(formatter, "--verify-command for ordinal {ordinal}"),
            Command::Cutover => formatter.write_str("--cutover-command"),
            Command::CutoverBack => formatter.write_str("--cutover-command with `back`"),
        }
    }
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Store the plan.
    StorePlan,
    /// Write the record.
    WriteRecord,
    /// Set a PV to `Retain`.
    RetainVolume,
    /// Set a set's claim retention policy to Retain/Retain.
    RetainClaims,
    /// Carry a Service or Ingress over.
    CreateService,
    /// Create a PV in B.
    CreateVolume,
    /// Create a claim in B.
    CreateClaim,
    /// Create the set in B with 0 replicas.
    CreateSet,
    /// Delete the set object in A, its pods stay.
    Freeze,
    /// Remove an owner reference to the deleted set.
    RemoveOwner,
    /// Delete a pod whose ordinal moves.
    DeletePod,
    /// Grow the set in B.
    Grow,
    /// Delete a claim of A at the end.
    DeleteSourceClaim,
    /// Delete a PV of A at the end.
    DeleteSourceVolume,
    /// Delete a ControllerRevision of the set.
    DeleteRevision,
    /// Give a PV or set its own policy back, and take our annotations off.
    RestorePolicy,
    /// Take our annotations off.
    RemoveMark,
    /// Going back: take them off a Service in B that stays, as another set uses it.
    LeaveService,
    /// Delete the stored plan.
    DropPlan,
    /// Going back: set B's replicas to 0.
    Shrink,
    /// Going back: mark a ControllerRevision of B's set, to be found when the set is gone.
    MarkRevision,
    /// Going back: delete an object of ours in B.
    DeleteOurs,
    /// Going back: delete a claim of A that can no longer be bound.
    DeleteBrokenClaim,
    /// Going back: recreate a PV of A.
    RecreateVolume,
    /// Going back: recreate a claim of A.
    RecreateClaim,
    /// Going back: recreate the set in A.
    RecreateSet,
    /// Run a command of the operator's.
    RunCommand,
}

impl Action {
    /// Returns a create.
    pub(crate) fn create(step: Step, side: Side, kind: Kind, object: Value) -> Action {
        Action { step, verb: Verb::Create { side, kind, object } }
    }

    /// Returns a merge patch of an object as it was seen.
    pub(crate) fn patch(step: Step, side: Side, kind: Kind, seen: &Object, patch: Value) -> Action {
        Action {
            step,
            verb: Verb::Patch {
                side,
                kind,
                name: seen.name().to_owned(),
                uid: seen.uid().to_owned(),
                resource_version: seen.resource_version().to_owned(),
                patch,
            },
        }
    }

    /// Returns a delete of an object as it was seen.
    pub(crate) fn delete(step: Step, side: Side, kind: Kind, seen: &Object) -> Action {
        Action {
            step,
            verb: Verb::Delete {
                side,
                kind,
                name: seen.name().to_owned(),
                uid: seen.uid().to_owned(),
                resource_version: seen.resource_version().to_owned(),
                orphan: kind == Kind::StatefulSet,
            },
        }
    }

    /// Returns the write of a record, over the ConfigMap that was seen or as a new one.
    pub(crate) fn record(plan: &Plan, side: Side, name: &str, record: &Record, seen: Option<&Object>) -> Action {
        let data = json!({ RECORD_KEY: record.to_yaml() });
        let mark = json!({ MIGRATION_ANNOTATION: plan.mark() });
        match seen {
            Some(seen) => {
                let patch = json!({ "metadata": { "annotations": mark }, "data": data });
                Action::patch(Step::WriteRecord, side, Kind::ConfigMap, seen, patch)
            }
            None => Action::create(
                Step::WriteRecord,
                side,
                Kind::ConfigMap,
                json!({
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {
                        "name": name,
                        "namespace": plan.place(side).namespace,
                        "labels": { MANAGED_BY_LABEL: MANAGED_BY },
                        "annotations": mark,
                    },
                    "data": data,
                }),
            ),
        }
    }

    /// Returns the object that the call is about: side, kind and name; none for commands.
    pub fn target(&self) -> Option<(Side, Kind, &str)> {
        match &self.verb {
            Verb::Create { side, kind, object } => {
                Some((*side, *kind, object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()))
            }
            Verb::Patch { side, kind, name, .. } | Verb::Delete { side, kind, name, .. } => Some((*side, *kind, name)),
            Verb::Run(_) => None,
        }
    }
}
