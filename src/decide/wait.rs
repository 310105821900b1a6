//! Waits: what for, on whose clock, and who is in the way.

use std::time::Duration;

use crate::world::{Read, Side};

/// A wait for somebody else's move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What is waited for.
    pub on: Condition,
    /// The clock that ends the wait with a pause.
    pub clock: Clock,
    /// What has no watch and must be read again, with back-off 0.2 → 5 s.
    pub poll: Vec<Read>,
}

/// A clock, by what it measures: it runs on while waits name the same one, and starts anew with
/// every process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clock {
    /// A pod's grace period + 60 s.
    Termination {
        /// The pod.
        pod: String,
        /// Its grace period in seconds.
        grace_seconds: u64,
    },
    /// `--detach-timeout` over the rest of the gate.
    Detach {
        /// What is being detached, such as the pods' names.
        what: String,
    },
    /// `--ready-timeout` until the set in B (going back: in A) is available and proven.
    Ready {
        /// Up to which replica.
        what: String,
    },
    /// 60 s for every other answer of a cluster.
    Cluster {
        /// What for.
        what: String,
    },
}

impl Clock {
    /// Returns when the clock is up.
    pub fn limit(&self, detach_timeout: Duration, ready_timeout: Duration) -> Duration {
        // A minute more than the pod's own time covers the kubelet's last status and delete calls.
        const CLUSTER: Duration = Duration::from_secs(60);
        match self {
            Clock::Termination { grace_seconds, .. } => Duration::from_secs(*grace_seconds) + CLUSTER,
            Clock::Detach { .. } => detach_timeout,
            Clock::Ready { .. } => ready_timeout,
            Clock::Cluster { .. } => CLUSTER,
        }
    }
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named by Display below")]
pub enum Condition {
    /// A read that had no answer is asked again.
    Answer { read: Read, reason: String },
    /// A PV's `Retain`, or the set's retention policy, is not yet seen live.
    Retained { side: Side, what: String },
    /// Claims still have an owner.
    OwnersGone { claims: Vec<String> },
    /// PV and claim are not yet bound to each other.
    Bound { side: Side, claims: Vec<String> },
    /// An object is still there.
    Gone { side: Side, kind: &'static str, names: Vec<String>, finalizers: Vec<String> },
    /// Gate (1): a pod is still there.
    PodGone { side: Side, pod: String, node: String, node_ready: bool },
    /// Gate (2): another pod uses a claim.
    ClaimUnused { side: Side, claim: String, pod: String },
    /// Gate (3): a node still reports a volume in use.
    NotInUse { side: Side, node: String, node_ready: bool, volume: String },
    /// Gate (4): a VolumeAttachment is still there.
    Detached { side: Side, attachment: String, node: String, volume: String, error: Option<String> },
    /// Gate (5): EC2 does not call a volume free yet.
    Free { volume: String, state: String },
    /// The set has not yet as many available replicas.
    Available { side: Side, set: String, available: i64, wanted: i64, detail: Vec<String> },
    /// The chain pod → claim → PV → handle → attachment → instance is not yet closed.
    Proven { pod: String, missing: String },
    /// A volume is not yet attached where it belongs.
    Home { side: Side, claim: String, volume: String },
    /// A Service or Ingress has no address yet.
    Address { kind: &'static str, name: String },
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Condition::Answer { read, reason } => write!(f, "an answer for {}: {reason}", describe(read)),
            Condition::Retained { side, what } => write!(f, "{what} to keep volumes (Retain) in the {side} cluster"),
            Condition::OwnersGone { claims } => write!(f, "the set to let go of claims {}", claims.join(", ")),
            Condition::Bound { side, claims } => {
                write!(f, "claims {} to be Bound in the {side} cluster", claims.join(", "))
            }
            Condition::Gone { side, kind, names, finalizers } => {
                write!(f, "{kind} {} to be gone from the {side} cluster", names.join(", "))?;
                if !finalizers.is_empty() {
                    write!(f, " (held by finalizers {})", finalizers.join(", "))?;
                }
                Ok(())
            }
            Condition::PodGone { side, pod, node, node_ready } => {
                write!(f, "pod {pod} to end in the {side} cluster, on node {node}")?;
                if !node_ready {
                    write!(f, ", which is not Ready")?;
                }
                Ok(())
            }
            Condition::ClaimUnused { side, claim, pod } => {
                write!(f, "pod {pod} in the {side} cluster to stop using claim {claim}")
            }
            Condition::NotInUse { side, node, node_ready, volume } => {
                let but = if *node_ready { "" } else { ", which is not Ready," };
                write!(f, "node {node} in the {side} cluster{but} to unmount {volume}")
            }
            Condition::Detached { side, attachment, node, volume, error } => {
                write!(
                    f,
                    "{volume} to be detached from node {node} in the {side} cluster (VolumeAttachment {attachment})"
                )?;
                if let Some(error) = error {
                    write!(f, ": {error}")?;
                }
                Ok(())
            }
            Condition::Free { volume, state } => write!(f, "{volume} to be available in EC2 (now {state})"),
            Condition::Available { side, set, available, wanted, detail } => {
                let noun = if *wanted == 1 { "replica" } else { "replicas" };
                write!(f, "set {set} in the {side} cluster to have {wanted} available {noun} (now {available})")?;
                for line in detail {
                    write!(f, "; {line}")?;
                }
                Ok(())
            }
            Condition::Proven { pod, missing } => write!(f, "proof that pod {pod} runs on the same volumes: {missing}"),
            Condition::Home { side, claim, volume } => {
                write!(f, "{volume} of claim {claim} to be attached in the {side} cluster")
            }
            Condition::Address { kind, name } => {
                write!(f, "{kind} {name} in the destination cluster to get an address")
            }
        }
    }
}

/// How a read of EC2 is called.
pub(crate) const ASKING_EC2: &str = "DescribeVolumes in EC2";

/// Returns a read in words.
pub(crate) fn describe(read: &Read) -> String {
    match read {
        Read::List(side, kind) => format!("the list of {} in the {side} cluster", kind.plural()),
        Read::Get(side, kind, name) => format!("{kind} {name} in the {side} cluster"),
        Read::Volumes(_) => ASKING_EC2.to_owned(),
        Read::Namesakes(side, name) => format!("custom resources named {name} in the {side} cluster"),
        Read::NodePorts => "Services of all namespaces in the destination cluster".to_owned(),
        Read::Allowed(side, verb, kind) => format!("the right to {verb} {} in the {side} cluster", kind.plural()),
    }
}
