//! The gate: when is a volume free? (§5)
//!
//! Five facts, each looked at after the one before, in one go without a wait in between:
//! ```text
//! (1) pod gone ─▶ (2) no other pod in A or B on the claims ─▶ (3) no node lists it in volumesInUse
//!     ─▶ (4) no VolumeAttachment names the PV ─▶ (5) EC2: available, no attachment, twice in a row
//! ```
//! It is passed only when volumes *leave* a side.

use std::collections::BTreeSet;

use super::facts::{listed, volumes};
use super::{Clock, Condition, Decision, Flow, Next, Stop, Wait};
use crate::plan::VolumePlan;
use crate::world::{Answer, AttachmentState, Ec2Volume, Kind, Object, Seq, Side, VolumeId, VolumeState};

/// How many reads in a row must call a volume free: EC2's API is eventually consistent.
const READS: usize = 2;

impl Decision<'_> {
    /// Passes when these volumes are let go of by `leaving`, whose `pods` are known to be gone.
    pub(super) fn gate(&self, leaving: Side, pods: &[String], leaving_volumes: &[&VolumePlan]) -> Flow<()> {
        let claims = || leaving_volumes.iter().map(|volume| volume.claim.as_str()).collect::<Vec<_>>().join(", ");
        let clock = Clock::Detach { what: if pods.is_empty() { claims() } else { pods.join(", ") } };
        let mut after = self.world.settled;
        for pod in pods {
            if let Answer::Absent { since, .. } = self.world.get(leaving, Kind::Pod, pod) {
                after = after.max(since);
            }
        }
        let after = self.claims_unused(leaving_volumes, after, &clock)?;
        let after = self.not_in_use(leaving, leaving_volumes, after, &clock)?;
        let after = self.detached(leaving, leaving_volumes, after, &clock)?;
        self.free(leaving_volumes, after, clock)
    }

    /// (2): returns when the newer of both lists of pods began.
    fn claims_unused(&self, leaving: &[&VolumePlan], after: Seq, clock: &Clock) -> Flow<Seq> {
        let claims: BTreeSet<&str> = leaving.iter().map(|volume| volume.claim.as_str()).collect();
        let mut newest = after;
        for side in Side::BOTH {
            let shelf = listed(self.world, side, Kind::Pod, after)?;
            newest = newest.max(shelf.listed().and_then(Result::ok).unwrap_or_default());
            for pod in shelf.objects().filter(|pod| !pod.is_finished_pod()) {
                if let Some(claim) = pod.claim_names().find(|claim| claims.contains(claim)) {
                    let (claim, pod) = (claim.to_owned(), pod.name().to_owned());
                    let on = Condition::ClaimUnused { side, claim, pod };
                    return Err(Next::Wait(Wait { on, clock: clock.clone(), poll: Vec::new() }));
                }
            }
        }
        Ok(newest)
    }

    /// (3): returns when the list of nodes began.
    fn not_in_use(&self, side: Side, leaving: &[&VolumePlan], after: Seq, clock: &Clock) -> Flow<Seq> {
        let shelf = listed(self.world, side, Kind::Node, after)?;
        for node in shelf.objects().filter(|node| !self.goal.accept_unclean_detach.iter().any(|off| off == node.name()))
        {
            for used in node.array("/status/volumesInUse").iter().filter_map(|used| used.as_str()) {
                // `kubernetes.io/csi/ebs.csi.aws.com^vol-…`, in-tree `kubernetes.io/aws-ebs/aws://zone/vol-…`.
                let handle = used.rsplit(['^', '/']).next().unwrap_or_default();
                if leaving.iter().any(|volume| volume.volume.0 == handle) {
                    let (node, volume) = (node.name().to_owned(), handle.to_owned());
                    let on = Condition::NotInUse { side, node, volume };
                    return Err(Next::Wait(Wait { on, clock: clock.clone(), poll: Vec::new() }));
                }
            }
        }
        Ok(shelf.listed().and_then(Result::ok).unwrap_or_default())
    }

    /// (4): returns when the list of VolumeAttachments began.
    fn detached(&self, side: Side, leaving: &[&VolumePlan], after: Seq, clock: &Clock) -> Flow<Seq> {
        let shelf = listed(self.world, side, Kind::VolumeAttachment, after)?;
        for attachment in shelf.objects() {
            let volume = attached_volume(attachment);
            if let Some(volume) = leaving.iter().find(|leaving| volume == Some(leaving.volume_name(side))) {
                let on = Condition::Detached {
                    side,
                    attachment: attachment.name().to_owned(),
                    node: attachment.text("/spec/nodeName").unwrap_or_default().to_owned(),
                    volume: volume.volume.to_string(),
                    error: attachment.text("/status/detachError/message").map(str::to_owned),
                };
                return Err(Next::Wait(Wait { on, clock: clock.clone(), poll: Vec::new() }));
            }
        }
        Ok(shelf.listed().and_then(Result::ok).unwrap_or_default())
    }

    /// (5)
    fn free(&self, leaving: &[&VolumePlan], after: Seq, clock: Clock) -> Flow<()> {
        let ids = ids(leaving);
        volumes(self.world, &ids, after)?;
        let mut once = false;
        for id in &ids {
            let Some(facts) = self.world.volumes.get(id) else { continue };
            let Some(Ok((_, latest))) = facts.latest() else { continue };
            let volume = self.usable(id, latest)?;
            match facts.free_reads_after(after) {
                0 => {
                    let on = Condition::Free { volume: id.to_string(), state: describe(volume) };
                    return Err(Next::Wait(Wait { on, clock, poll: vec![super::Read::Volumes(ids)] }));
                }
                reads => once |= reads < READS,
            }
        }
        if once { Err(Next::Look(vec![super::Read::Volumes(ids)])) } else { Ok(()) }
    }

    /// Returns the volume as EC2 has it, unless it is lost or in strange hands.
    pub(super) fn usable<'v>(&self, id: &VolumeId, volume: Option<&'v Ec2Volume>) -> Flow<&'v Ec2Volume> {
        let lost = |state: &str| Next::Stop(Stop::VolumeLost { volume: id.to_string(), state: state.to_owned() });
        let volume = volume.ok_or_else(|| lost("not found"))?;
        match volume.state {
            VolumeState::Deleting => return Err(lost("being deleted")),
            VolumeState::Deleted => return Err(lost("deleted")),
            VolumeState::Error => return Err(lost("in error")),
            VolumeState::Creating | VolumeState::Available | VolumeState::InUse | VolumeState::Other => {}
        }
        let stranger = volume.attachments.iter().find(|held| self.world.side_of_instance(&held.instance).is_none());
        match stranger {
            Some(held) => {
                let (volume, instance) = (id.to_string(), held.instance.clone());
                Err(Next::Stop(Stop::HeldByOther { volume, instance }))
            }
            None => Ok(volume),
        }
    }
}

/// Returns the volume ids of some planned volumes.
pub(super) fn ids(volumes: &[&VolumePlan]) -> Vec<VolumeId> {
    volumes.iter().map(|volume| volume.volume.clone()).collect()
}

/// Returns the name of the PV that a VolumeAttachment is for.
pub(super) fn attached_volume(attachment: &Object) -> Option<&str> {
    attachment.text("/spec/source/persistentVolumeName")
}

/// Returns a volume's state in words.
fn describe(volume: &Ec2Volume) -> String {
    let state = match volume.state {
        VolumeState::Creating => "creating",
        VolumeState::Available => "available",
        VolumeState::InUse => "in-use",
        VolumeState::Deleting => "deleting",
        VolumeState::Deleted => "deleted",
        VolumeState::Error => "in error",
        VolumeState::Other => "in a state that this version does not know",
    };
    let attachments: Vec<String> = volume
        .attachments
        .iter()
        .map(|held| {
            let state = match held.state {
                AttachmentState::Attaching => "attaching to",
                AttachmentState::Attached => "attached to",
                AttachmentState::Detaching => "detaching from",
                AttachmentState::Detached => "detached from",
                AttachmentState::Busy => "busy (still mounted) on",
                AttachmentState::Other => "in an unknown state on",
            };
            format!("{state} {}", held.instance)
        })
        .collect();
    if attachments.is_empty() { state.to_owned() } else { format!("{state}, {}", attachments.join(", ")) }
}
