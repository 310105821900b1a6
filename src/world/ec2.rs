//! What EC2 says of a volume (`DescribeVolumes`).

use std::collections::BTreeMap;

use super::{Seq, Unknown};

/// State of a volume, as EC2 documents it; anything newer is `Other` and never free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the variants are EC2's own words")]
pub enum VolumeState {
    Creating,
    Available,
    InUse,
    Deleting,
    Deleted,
    Error,
    Other,
}

/// State of an attachment; anything newer is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are EC2's own words")]
pub enum AttachmentState {
    Attaching,
    Attached,
    Detaching,
    Detached,
    Busy,
    Other,
}

/// One attachment of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// Instance id; empty when a managed service holds it.
    pub instance: String,
    /// Where the attachment is.
    pub state: AttachmentState,
    /// Whether terminating the instance deletes the volume.
    pub delete_on_termination: bool,
}

/// One volume as `DescribeVolumes` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ec2Volume {
    /// State of the volume.
    pub state: VolumeState,
    /// Attachments that are not `detached`.
    pub attachments: Vec<Attachment>,
    /// Availability zone, such as `eu-west-1a`.
    pub zone: String,
    /// Size in GiB.
    pub size_gib: i64,
    /// Volume type, such as `gp3`.
    pub volume_type: String,
    /// Whether several instances may attach it at once.
    pub multi_attach: bool,
    /// KMS key of an encrypted volume.
    pub kms_key: Option<String>,
    /// Whether a managed service operates it (`Operator.Managed`).
    pub managed: bool,
    /// Outpost that it lives on.
    pub outpost: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

impl Ec2Volume {
    /// Returns whether it is `available` with no attachment left.
    pub fn is_free(&self) -> bool {
        self.state == VolumeState::Available && self.attachments.is_empty()
    }
}

/// One answer: the volume, `None` for `InvalidVolume.NotFound`, or no answer.
pub type VolumeAnswer = Result<Option<Ec2Volume>, Unknown>;

/// The newest two answers for one volume: the gate needs two in a row (EC-2).
#[derive(Clone, Debug, Default)]
pub struct VolumeFacts {
    answers: Vec<(Seq, VolumeAnswer)>,
}

impl VolumeFacts {
    /// Takes in an answer whose read began at `seq`.
    pub fn put(&mut self, seq: Seq, answer: VolumeAnswer) {
        if self.answers.len() == 2 {
            let _oldest = self.answers.remove(0);
        }
        self.answers.push((seq, answer));
    }

    /// Returns the newest answer and when its read began.
    pub fn latest(&self) -> Option<Result<(Seq, Option<&Ec2Volume>), &Unknown>> {
        self.answers.last().map(|(seq, answer)| match answer {
            Ok(volume) => Ok((*seq, volume.as_ref())),
            Err(unknown) => Err(unknown),
        })
    }

    /// Returns how many of the newest answers in a row, all begun after `after`, found it free.
    pub fn free_reads_after(&self, after: Seq) -> usize {
        self.answers
            .iter()
            .rev()
            .take_while(|(seq, answer)| *seq > after && matches!(answer, Ok(Some(volume)) if volume.is_free()))
            .count()
    }
}
