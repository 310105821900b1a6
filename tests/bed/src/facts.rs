//! The facts that the bed writes down while a test runs, and that the judge reads afterwards.
//!
//! Plain data: the EC2 stand-in and the node agent fill it, tests and the judge read it as JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Cluster;

/// One request that the EC2 stand-in answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ec2Call {
    /// Position in the log; grows by one per request.
    pub seq: u64,
    /// When the request arrived.
    pub received: Timestamp,
    /// When the answer was sent.
    pub answered: Timestamp,
    /// Access key id of the caller.
    pub key: String,
    /// EC2 or STS action, such as `DescribeVolumes`.
    pub action: String,
    /// Volume ids named by the request.
    pub volumes: Vec<String>,
    /// Instance id named by the request.
    pub instance: Option<String>,
    /// EC2 error code of the answer, such as `InvalidVolume.NotFound`; none when it succeeded.
    pub error: Option<String>,
    /// What a successful `DescribeVolumes` said of each volume (stale reads say the stale thing).
    pub seen: Vec<VolumeSeen>,
}

/// One volume as an answer of `DescribeVolumes` showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSeen {
    /// Volume id, `vol-…`.
    pub volume: String,
    /// `creating`, `available`, `in-use`, `deleting`, `deleted`, `error`.
    pub state: String,
    /// Instance id and attachment state of each attachment.
    pub attachments: Vec<AttachmentSeen>,
}

/// One attachment of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentSeen {
    /// Instance id, `i-…`.
    pub instance: String,
    /// `attaching`, `attached`, `detaching`, `detached`, `busy`.
    pub state: String,
}

/// One change of a volume's true state in EC2, whoever caused it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeChange {
    /// When it became true.
    pub at: Timestamp,
    /// The volume after the change.
    pub now: VolumeSeen,
}

/// What a process wrote on a volume: the bytes that must survive the move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// When it was written.
    pub at: Timestamp,
    /// A process starts to use the volume, or has ended (the volume is unmounted).
    pub kind: HistoryKind,
    /// The cluster in which the pod ran.
    pub cluster: Cluster,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Uid of the pod.
    pub pod_uid: String,
    /// Claim through which the pod uses the volume.
    pub claim: String,
    /// Node of the pod.
    pub node: String,
    /// EC2 instance of the node.
    pub instance: String,
    /// How many entries the process found on the volume when it started (0 for an empty volume).
    pub found: usize,
}

/// Start or end of a use of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HistoryKind {
    /// The pod's process started and read what was there before.
    Start,
    /// The volume was unmounted after the process ended.
    End,
}
