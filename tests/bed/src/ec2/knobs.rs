//! What a test can set: delays and behaviours that last ([`Knobs`]), facts of one volume that are
//! made true at once ([`VolumePatch`]), and volumes from nothing ([`NewVolume`]).

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::words::{AttachmentState, VolumeState};

/// A delay between two bounds in milliseconds, drawn anew for each use.
pub type Jitter = [u64; 2];

/// Default delays of the state changes, each a range in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timings {
    /// `creating` to `available`.
    pub create_ms: Jitter,
    /// `attaching` to `attached`.
    pub attach_ms: Jitter,
    /// `detaching` to no attachment.
    pub detach_ms: Jitter,
    /// `deleting` to gone.
    pub delete_ms: Jitter,
    /// `modifying` to `optimizing`, and again `optimizing` to `completed`.
    pub modify_ms: Jitter,
}

impl Default for Timings {
    /// Quicker than EC2 (seconds), slow enough that every state can be seen by a reader.
    fn default() -> Self {
        Self {
            create_ms: [50, 150],
            attach_ms: [100, 400],
            detach_ms: [100, 400],
            delete_ms: [50, 150],
            modify_ms: [200, 400],
        }
    }
}

/// Draws a delay from a range.
pub(super) fn draw(range: Jitter) -> Duration {
    let [low, high] = range;
    Duration::from_millis(if high > low { rand::rng().random_range(low..=high) } else { low })
}

/// Behaviours of one volume, or of all volumes that do not say otherwise (`volume` is none).
///
/// Fields that are none leave what was set before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Knobs {
    /// The volume; none sets the default of all volumes.
    pub volume: Option<String>,
    /// Delay of `creating`.
    pub create_ms: Option<Jitter>,
    /// Delay of `attaching`.
    pub attach_ms: Option<Jitter>,
    /// Delay of `detaching`.
    pub detach_ms: Option<Jitter>,
    /// Delay of `deleting`.
    pub delete_ms: Option<Jitter>,
    /// Delay of each of `modifying` and `optimizing`.
    pub modify_ms: Option<Jitter>,
    /// A detach becomes `busy` and stays so until [`super::Control::release`].
    pub detach_sticks: Option<bool>,
    /// An attach is accepted (`attaching`), then the volume is `available` again.
    pub reject_attach_async: Option<bool>,
    /// DescribeVolumes answers as the world was that many milliseconds ago.
    pub stale_read_ms: Option<u64>,
    /// DeleteOnTermination of attachments that are made from now on.
    pub delete_on_termination: Option<bool>,
}

impl Knobs {
    /// Takes over what `news` says.
    pub(super) fn merge(&mut self, news: &Knobs) {
        macro_rules! take {
            ($($field:ident),+) => { $(if news.$field.is_some() { self.$field = news.$field; })+ };
        }
        take!(
            create_ms,
            attach_ms,
            detach_ms,
            delete_ms,
            modify_ms,
            detach_sticks,
            reject_attach_async,
            stale_read_ms,
            delete_on_termination
        );
    }
}

/// Facts of one volume that a test makes true at once; none leaves a fact as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct VolumePatch {
    /// Its state, known word or not. Nothing that was under way changes it afterwards.
    pub state: Option<VolumeState>,
    /// All its attachments.
    pub attachments: Option<Vec<ForcedAttachment>>,
    /// DeleteOnTermination of all its attachments.
    pub delete_on_termination: Option<bool>,
    /// State of its latest modification (one is made up when there was none).
    pub modification_state: Option<String>,
    /// Size in GiB.
    pub size: Option<i32>,
    /// Availability zone.
    pub zone: Option<String>,
    /// Multi-attach.
    pub multi_attach: Option<bool>,
    /// Encryption.
    pub encrypted: Option<bool>,
    /// KMS key; also sets encryption.
    pub kms_key_id: Option<String>,
    /// Service that manages the volume (`Operator.Managed`).
    pub managed_by: Option<String>,
    /// Outpost on which the volume lies.
    pub outpost_arn: Option<String>,
    /// Tags to set, `aws:` ones too.
    pub tags: BTreeMap<String, String>,
    /// Tags to remove.
    pub remove_tags: Vec<String>,
}

/// An attachment that a test puts on a volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForcedAttachment {
    /// Instance id, known or not; none for an attachment to something that is no instance.
    pub instance: Option<String>,
    /// State, known word or not.
    pub state: AttachmentState,
    /// The resource of a managed service that has the volume instead of an instance.
    #[serde(default)]
    pub associated_resource: Option<String>,
    /// Whether the volume dies with the instance.
    #[serde(default)]
    pub delete_on_termination: bool,
}

/// A volume that a test makes without asking EC2: it is there at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NewVolume {
    /// Size in GiB.
    pub size: i32,
    /// Availability zone.
    pub zone: String,
    /// `gp3`, `io2`, …
    pub volume_type: String,
    /// Provisioned IOPS; none is the type's default.
    pub iops: Option<i32>,
    /// Throughput in MiB/s; none is the type's default.
    pub throughput: Option<i32>,
    /// Encryption.
    pub encrypted: bool,
    /// KMS key; also sets encryption.
    pub kms_key_id: Option<String>,
    /// Multi-attach.
    pub multi_attach: bool,
    /// Service that manages the volume.
    pub managed_by: Option<String>,
    /// Outpost on which the volume lies.
    pub outpost_arn: Option<String>,
    /// Snapshot from which it was made.
    pub snapshot_id: Option<String>,
    /// State in which it is.
    pub state: VolumeState,
    /// Tags, `aws:` ones too.
    pub tags: BTreeMap<String, String>,
}

impl Default for NewVolume {
    fn default() -> Self {
        Self {
            size: 1,
            zone: super::ZONES[0].to_owned(),
            volume_type: "gp3".to_owned(),
            iops: None,
            throughput: None,
            encrypted: false,
            kms_key_id: None,
            multi_attach: false,
            managed_by: None,
            outpost_arn: None,
            snapshot_id: None,
            state: VolumeState::Available,
            tags: BTreeMap::new(),
        }
    }
}
