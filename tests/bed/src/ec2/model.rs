//! What there is: volumes with their attachments and modifications, and instances.
//!
//! Plain data, as tests read it; how it changes is [`super::world`]'s.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::words::{AttachmentState, InstanceState, VolumeState};
use crate::facts::{AttachmentSeen, VolumeSeen};

/// A volume as it truly is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Volume id.
    pub volume: String,
    /// State.
    pub state: VolumeState,
    /// Size in GiB.
    pub size: i32,
    /// Availability zone.
    pub zone: String,
    /// `gp3`, `io2`, …
    pub volume_type: String,
    /// Provisioned IOPS.
    pub iops: Option<i32>,
    /// Throughput in MiB/s.
    pub throughput: Option<i32>,
    /// Encryption.
    pub encrypted: bool,
    /// KMS key.
    pub kms_key_id: Option<String>,
    /// Multi-attach.
    pub multi_attach: bool,
    /// Service that manages the volume.
    pub managed_by: Option<String>,
    /// Outpost on which the volume lies.
    pub outpost_arn: Option<String>,
    /// Snapshot from which it was made.
    pub snapshot_id: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Attachments.
    pub attachments: Vec<Attachment>,
    /// Latest modification.
    pub modification: Option<Modification>,
}

/// An attachment of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Instance id; none when a managed service has the volume.
    pub instance: Option<String>,
    /// Managed service's resource that has the volume.
    pub associated_resource: Option<String>,
    /// Device name.
    pub device: String,
    /// State.
    pub state: AttachmentState,
    /// When it was asked for.
    pub attached_at: Timestamp,
    /// Whether the volume dies with the instance.
    pub delete_on_termination: bool,
    /// Whether its detach waits for a test to release it.
    pub stuck: bool,
    /// Tells this attachment from an earlier one to the same instance.
    #[serde(default)]
    pub(super) generation: u64,
}

/// A modification of size or performance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Modification {
    /// `modifying`, `optimizing`, `completed`, `failed`.
    pub state: String,
    /// When it was asked for.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Size, type, IOPS and throughput before.
    pub original: Performance,
    /// Size, type, IOPS and throughput afterwards.
    pub target: Performance,
}

/// What a modification can change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Performance {
    /// Size in GiB.
    pub size: i32,
    /// Volume type.
    pub volume_type: String,
    /// Provisioned IOPS.
    pub iops: Option<i32>,
    /// Throughput in MiB/s.
    pub throughput: Option<i32>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Instance id.
    pub instance: String,
    /// Availability zone.
    pub zone: String,
    /// State.
    pub state: InstanceState,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// When it was made known.
    pub launched: Timestamp,
}

impl Volume {
    /// Returns the volume as the logs show it.
    pub(super) fn seen(&self) -> VolumeSeen {
        VolumeSeen {
            volume: self.volume.clone(),
            state: self.state.to_string(),
            attachments: self
                .attachments
                .iter()
                .map(|attachment| AttachmentSeen {
                    instance: attachment.instance.clone().unwrap_or_default(),
                    state: attachment.state.to_string(),
                })
                .collect(),
        }
    }

    /// Returns what a modification could change.
    pub(super) fn performance(&self) -> Performance {
        Performance {
            size: self.size,
            volume_type: self.volume_type.clone(),
            iops: self.iops,
            throughput: self.throughput,
        }
    }
}
