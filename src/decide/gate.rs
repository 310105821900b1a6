//! The gate: when is a volume free? (§5)
//!
//! Five facts, each looked at after the one before, in one go without a wait in between:
//! ```text
//! (1) pod gone ─▶ (2) no other pod in A or B on the claims ─▶ (3) no node lists it in volumesInUse
//!     ─▶ (4) no VolumeAttachment names the PV ─▶ (5) EC2: available, no attachment, twice in a row
//! ```
//! It is passed only when volumes *leave* a side. On the way back A may hold some, or have the set's own pods
//! wait for them: that B has let go of these is (1) to (4) in B, and EC2 naming an instance of A.

use std::collections::BTreeSet;

use super::facts::{all_listed, listed, refresh, volumes};
use super::{Clock, Condition, Decision, Flow, Next, Stop, Wait};
use crate::plan::VolumePlan;
use crate::world::{Answer, AttachmentState, Ec2Volume, Holder, Kind, Object, Read, Seq, Side, VolumeId, VolumeState};

/// How many reads in a row must call a volume free: EC2's API is eventually consistent.
const READS: usize = 2;

impl Decision<'_> {
    /// Passes when these volumes are let go of by `leaving`, whose `pods` are known to be gone.
    pub(super) fn gate(&self, leaving: Side, pods: &[String], volumes: &[&VolumePlan]) -> Flow<()> {
        let claims = || volumes.iter().map(|volume| volume.claim.as_str()).collect::<Vec<_>>().join(", ");
        let clock = Clock::Detach { what: if pods.is_empty() { claims() } else { pods.join(", ") } };
        let clear = |in_the_way: Option<Condition>| match in_the_way {
            Some(on) => {
                // Of a pod of A going back, EC2 says whether the volume has come home.
                let is_of_a = matches!(on, Condition::ClaimUnused { side: Side::Source, .. });
                let asks = leaving == Side::Destination && is_of_a;
                let poll = if asks { vec![Read::Volumes(ids(volumes))] } else { Vec::new() };
                Err(Next::Wait(Wait { on, clock: clock.clone(), poll }))
            }
            None => Ok(()),
        };
        let user = || self.user(leaving, volumes);
        let reporter = || self.reporter(leaving, volumes);
        let attachment = || self.attachment(leaving, volumes);
        // What is known to be in the way need not be asked for again: its watch says when it has gone.
        clear(user().or_else(reporter).or_else(attachment))?;
        let mut after = self.world.settled;
        for pod in pods {
            if let Answer::Absent { since, .. } = self.world.get(leaving, Kind::Pod, pod) {
                after = after.max(since);
            }
        }
        let after = all_listed(self.world, &Side::BOTH.map(|side| (side, Kind::Pod)), after)?;
        clear(user())?;
        let after = all_listed(self.world, &[(leaving, Kind::Node)], after)?;
        clear(reporter())?;
        let after = all_listed(self.world, &[(leaving, Kind::VolumeAttachment)], after)?;
        clear(attachment())?;
        self.free(leaving, volumes, after, clock)
    }

    /// (2): returns a pod that uses one of the claims. Going back, A's own pods are where they belong, and so
    /// is whoever uses what A holds.
    pub(super) fn user(&self, leaving: Side, volumes: &[&VolumePlan]) -> Option<Condition> {
        Side::BOTH.into_iter().find_map(|side| {
            let is_home = side == Side::Source && leaving == Side::Destination;
            let in_the_way = volumes.iter().filter(|volume| !is_home || !self.is_home(leaving, &volume.volume));
            let claims: BTreeSet<&str> = in_the_way.map(|volume| volume.claim.as_str()).collect();
            let pods = self.world.objects(side, Kind::Pod).filter(|pod| !pod.is_finished_pod());
            pods.filter(|pod| !is_home || !self.is_planned(pod)).find_map(|pod| {
                let claim = pod.claim_names().find(|claim| claims.contains(claim))?.to_owned();
                Some(Condition::ClaimUnused { side, claim, pod: pod.name().to_owned() })
            })
        })
    }

    /// Returns whether a pod has the name of one of the set's.
    fn is_planned(&self, pod: &Object) -> bool {
        self.set.ordinals.iter().any(|ordinal| self.set.pod_name(ordinal.ordinal) == pod.name())
    }

    /// Returns whether A holds a volume that goes back, be it to go or to come: it cannot be B's, and is A's
    /// own to see to.
    fn is_home(&self, leaving: Side, volume: &VolumeId) -> bool {
        let home = Side::Source;
        leaving != home && [Holder::Side(home), Holder::Moving(home)].contains(&self.world.holder(volume))
    }

    /// (3): returns a node that reports one of the volumes in use.
    ///
    /// What a node last reported that the operator says is off counts no more. One that is Ready is not
    /// off, whatever was said: it still has the volume mounted.
    fn reporter(&self, side: Side, volumes: &[&VolumePlan]) -> Option<Condition> {
        let is_ready = |node: &Object| node.condition("Ready") == Some("True");
        let is_off =
            |node: &Object| self.goal.accept_unclean_detach.iter().any(|off| off == node.name()) && !is_ready(node);
        self.world.objects(side, Kind::Node).filter(|node| !is_off(node)).find_map(|node| {
            let mut used = node.array("/status/volumesInUse").iter().filter_map(|used| used.as_str());
            used.find_map(|used| {
                // `kubernetes.io/csi/ebs.csi.aws.com^vol-…`, in-tree `kubernetes.io/aws-ebs/aws://zone/vol-…`.
                let handle = used.rsplit(['^', '/']).next().unwrap_or_default();
                let volume = volumes.iter().find(|volume| volume.volume.0 == handle)?.volume.to_string();
                Some(Condition::NotInUse { side, node: node.name().to_owned(), node_ready: is_ready(node), volume })
            })
        })
    }

    /// (4): returns a VolumeAttachment of one of the volumes.
    fn attachment(&self, side: Side, volumes: &[&VolumePlan]) -> Option<Condition> {
        self.world.objects(side, Kind::VolumeAttachment).find_map(|found| {
            let attached = attached_volume(found)?;
            let volume = volumes.iter().find(|volume| volume.volume_name(side) == attached)?;
            Some(Condition::Detached {
                side,
                attachment: found.name().to_owned(),
                node: found.text("/spec/nodeName").unwrap_or_default().to_owned(),
                volume: volume.volume.to_string(),
                error: found.text("/status/detachError/message").map(str::to_owned),
            })
        })
    }

    /// (5)
    fn free(&self, leaving: Side, planned: &[&VolumePlan], after: Seq, clock: Clock) -> Flow<()> {
        let mut ids = ids(planned);
        volumes(self.world, &ids, after)?;
        ids.retain(|id| !self.is_home(leaving, id));
        let mut once = false;
        for id in &ids {
            let Some(facts) = self.world.volumes.get(id) else { continue };
            let Some(Ok((_, latest))) = facts.latest() else { continue };
            let volume = self.usable(id, latest)?;
            match facts.free_reads_after(after) {
                0 => {
                    let on = Condition::Free { volume: id.to_string(), state: describe(volume) };
                    return Err(Next::Wait(Wait { on, clock, poll: vec![Read::Volumes(ids)] }));
                }
                reads => once |= reads < READS,
            }
        }
        if once { Err(Next::Look(vec![Read::Volumes(ids)])) } else { Ok(()) }
    }

    /// Passes when EC2 has answered for these volumes in this run, and none of them is lost or in strange
    /// hands: what would be met at the gate, with the pods down, is met before.
    pub(super) fn answered(&self, planned: &[&VolumePlan]) -> Flow<()> {
        let ids = ids(planned);
        for side in Side::BOTH {
            listed(self.world, side, Kind::Node, 0)?;
        }
        volumes(self.world, &ids, 0)?;
        for id in &ids {
            let Some(Ok((_, latest))) = self.world.volumes.get(id).and_then(|facts| facts.latest()) else { continue };
            if let Err(stop) = self.usable(id, latest) {
                // What EC2 said long ago may name a node that is gone since: asked again first.
                refresh(self.world, [Read::Volumes(ids.clone())])?;
                return Err(stop);
            }
        }
        Ok(())
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
