//! Reasons to touch nothing more.

use super::Condition;
use crate::world::Side;

/// Why nothing more may be touched. Each is a fact that a person must look at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named by Display below")]
pub enum Stop {
    /// The plan holds several sets, which this version cannot move.
    SeveralSets,
    /// A context now leads to another cluster than the plan says (TL-5).
    OtherCluster { side: Side, planned: String, found: String },
    /// A read was refused: waiting does not help.
    Refused { read: String, reason: String },
    /// A record cannot be read.
    Record { side: Side, reason: String },
    /// There is an open record of another migration.
    OtherMigration { side: Side, id: String },
    /// The plan is missing on a side although something was done already (TL-12).
    PlanMissing { side: Side },
    /// Another run stored another plan of the same migration meanwhile.
    OtherPlan { side: Side },
    /// `rollback` was begun and is not finished.
    RollbackBegun,
    /// A's claims are being deleted: there is no way back.
    PointOfNoReturn,
    /// The migration has ended.
    Ended { outcome: &'static str },
    /// The namespace is not usable.
    Namespace { side: Side, namespace: String, state: &'static str },
    /// An object of that name is not ours.
    Foreign { side: Side, kind: &'static str, name: String },
    /// An object of ours differs in what safety hangs on.
    Changed { side: Side, kind: &'static str, name: String, differences: Vec<String> },
    /// An object of A that the move rests on is gone.
    Missing { side: Side, kind: &'static str, name: String },
    /// A PV or claim of A is not what the plan says (TL-11).
    SourceChanged { kind: &'static str, name: String, differences: Vec<String> },
    /// Going back or ending: a PV or claim of A is another one under the same name.
    SourceReplaced { kind: &'static str, name: String, difference: String },
    /// The set in A changed since the plan was made.
    SetChanged { differences: Vec<String> },
    /// The set in A was deleted by somebody else.
    SetVanished,
    /// A set of that name is in A again.
    SetReturned { uid: String },
    /// A pod is in A again although its ordinal is being moved.
    PodReturned { pod: String, uid: String },
    /// Somebody else set a PV's policy to something but `Retain`.
    NotRetained { side: Side, volume: String, policy: String },
    /// B's set was scaled by somebody else.
    Scaled { replicas: i64, handed_over: i64 },
    /// A pod or VolumeAttachment of A uses a volume that has moved.
    UsedBehind { side: Side, what: String, volume: String },
    /// A volume is held by an instance of neither cluster.
    HeldByOther { volume: String, instance: String },
    /// A volume is on its way to deletion, gone, or in error.
    VolumeLost { volume: String, state: String },
    /// The node of the pod that is next is not Ready: its pod would stay Terminating.
    NodeNotReady { node: String, pod: String },
    /// A pod in B runs on something else than the moved volume.
    WrongVolume { pod: String, what: String },
    /// Going back: an object in B holds data that is not ours to delete.
    ForeignData { kind: &'static str, name: String },
    /// A clock is up.
    TimedOut { on: Condition, seconds: u64 },
    /// The server says no to a call.
    ActRefused { what: String, reason: String },
    /// A call was made again and again without effect.
    ActUnheeded { what: String, times: u32, reason: String },
    /// A cutover command was run, or was to be, and now none is given.
    CutoverCommandMissing,
    /// A verify command was run and has not passed for all that moves, and now none is given.
    VerifyCommandMissing,
    /// A command of the operator's failed.
    CommandFailed { command: String, reason: String },
    /// The same reads were asked for without end: a defect of this program.
    Stuck { reads: String },
}

impl Stop {
    /// Returns whether it says that this command is not for this migration or its turn: nothing is
    /// written then, the record's last failure included (I-21).
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Stop::SeveralSets
                | Stop::OtherCluster { .. }
                | Stop::Record { .. }
                | Stop::OtherMigration { .. }
                | Stop::OtherPlan { .. }
                | Stop::RollbackBegun
                | Stop::PointOfNoReturn
                | Stop::Ended { .. }
                | Stop::CutoverCommandMissing
                | Stop::VerifyCommandMissing
        )
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stop::SeveralSets => write!(f, "the plan holds several sets; this version moves one"),
            Stop::OtherCluster { side, planned, found } => write!(
                f,
                "the {side} context leads to another cluster (kube-system uid {found}) than the plan says ({planned})"
            ),
            Stop::Refused { read, reason } => write!(f, "{read} could not be read: {reason}"),
            Stop::Record { side, reason } => write!(f, "the record in the {side} cluster cannot be read: {reason}"),
            Stop::OtherMigration { side, id } => {
                write!(f, "the {side} cluster has an open record of another migration, {id}")
            }
            Stop::PlanMissing { side } => {
                write!(f, "the plan is missing in the {side} cluster although the move has begun")
            }
            Stop::OtherPlan { side } => {
                write!(f, "another run stored its plan in the {side} cluster since this one looked")
            }
            Stop::RollbackBegun => write!(f, "a rollback has begun and is not finished"),
            Stop::PointOfNoReturn => {
                write!(f, "the claims in the source cluster are being deleted: there is no way back any more")
            }
            Stop::Ended { outcome } => write!(f, "the migration has ended: {outcome}"),
            Stop::Namespace { side, namespace, state } => {
                write!(f, "namespace {namespace} in the {side} cluster is {state}")
            }
            Stop::Foreign { side, kind, name } => {
                write!(f, "{kind} {name} in the {side} cluster is not of this migration")
            }
            Stop::Changed { side, kind, name, differences } => {
                write!(f, "{kind} {name} in the {side} cluster was changed: {}", differences.join("; "))
            }
            Stop::Missing { side, kind, name } => write!(f, "{kind} {name} is gone from the {side} cluster"),
            Stop::SourceReplaced { kind, name, difference } => {
                write!(f, "{kind} {name} in the source cluster is another one than was moved: {difference}")
            }
            Stop::SourceChanged { kind, name, differences } => {
                write!(f, "{kind} {name} in the source cluster is not what was planned: {}", differences.join("; "))
            }
            Stop::SetChanged { differences } => {
                write!(f, "the set in the source cluster changed since the plan was made: {}", differences.join("; "))
            }
            Stop::SetVanished => write!(f, "the set in the source cluster was deleted by somebody else"),
            Stop::SetReturned { uid } => {
                write!(f, "somebody created the set in the source cluster again (uid {uid})")
            }
            Stop::PodReturned { pod, uid } => {
                write!(f, "pod {pod} is in the source cluster again (uid {uid}) although its ordinal is moving")
            }
            Stop::NotRetained { side, volume, policy } => {
                write!(f, "somebody set PersistentVolume {volume} in the {side} cluster to {policy}")
            }
            Stop::Scaled { replicas, handed_over } => write!(
                f,
                "the set in the destination cluster has {replicas} replicas, but only {handed_over} were handed over: somebody scaled it"
            ),
            Stop::UsedBehind { side, what, volume } => {
                write!(f, "{what} in the {side} cluster uses {volume}, which is not its any more")
            }
            Stop::HeldByOther { volume, instance } => {
                write!(f, "{volume} is attached to instance {instance}, a node of neither cluster")
            }
            Stop::VolumeLost { volume, state } => write!(f, "EC2 says that {volume} is {state}"),
            Stop::NodeNotReady { node, pod } => {
                write!(f, "node {node} is not Ready: pod {pod} could not be stopped cleanly")
            }
            Stop::WrongVolume { pod, what } => {
                write!(f, "pod {pod} in the destination cluster does not run on the moved volume: {what}")
            }
            Stop::ForeignData { kind, name } => {
                write!(f, "{kind} {name} in the destination cluster is not of this migration and may hold data")
            }
            Stop::TimedOut { on, seconds } => write!(f, "waited {seconds} s for {on}"),
            Stop::ActRefused { what, reason } => write!(f, "the API server refuses to {what}: {reason}"),
            Stop::ActUnheeded { what, times, reason } => {
                write!(f, "{times} attempts to {what} were without effect: {reason}")
            }
            Stop::CutoverCommandMissing => {
                write!(f, "the cutover was begun with a command, and this run has no --cutover-command")
            }
            Stop::VerifyCommandMissing => {
                write!(
                    f,
                    "pods were verified by a command that has not passed for all, and this run has no --verify-command"
                )
            }
            Stop::CommandFailed { command, reason } => write!(f, "{command} failed: {reason}"),
            Stop::Stuck { reads } => write!(f, "the same is looked at without end, a defect of sts-migrate: {reads}"),
        }
    }
}
