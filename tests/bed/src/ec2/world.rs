//! The truth: volumes, attachments and instances, and how they change.
//!
//! No clock is waited for in here. What takes time leaves a [`Step`] behind, which [`super::Ec2`]
//! brings back to [`World::settle`] when its delay is over. A step that no longer fits (the test has
//! forced another state, the volume was attached anew) does nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::Rng;

use super::keys::Key;
use super::knobs::{Jitter, Knobs, NewVolume, Timings, draw};
use super::model::{Attachment, Instance, Modification, Performance, Volume};
use super::words::{AttachmentState, InstanceState, VolumeState};
use crate::facts::{Ec2Call, HistoryEntry, VolumeChange};

/// A change that is due after a delay.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) after: Duration,
    volume: String,
    generation: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Created,
    Attached,
    AttachRejected,
    Detached,
    Deleted,
    Optimizing,
    Modified,
}

/// A volume with everything that only the stand-in knows of it.
pub(super) struct Record {
    pub(super) volume: Volume,
    pub(super) knobs: Knobs,
    /// Every version of the volume: stale reads answer from here.
    past: Vec<(Instant, Volume)>,
    /// Everything that was ever written on it.
    pub(super) history: Vec<HistoryEntry>,
    /// Where what is still on the volume begins in `history`.
    pub(super) content_from: usize,
    /// Starts of what is mounted now.
    pub(super) mounts: Vec<HistoryEntry>,
}

/// Everything.
pub(super) struct World {
    timings: Timings,
    pub(super) defaults: Knobs,
    pub(super) volumes: BTreeMap<String, Record>,
    pub(super) instances: BTreeMap<String, Instance>,
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) calls: Vec<Ec2Call>,
    pub(super) changes: Vec<VolumeChange>,
    /// Client tokens of CreateVolume: what was asked for and what came of it.
    pub(super) tokens: BTreeMap<String, (String, String)>,
    steps: Vec<Step>,
    /// Number of the latest attachment.
    pub(super) generation: u64,
    version: u64,
}

impl World {
    pub(super) fn new(timings: Timings) -> Self {
        Self {
            timings,
            defaults: Knobs::default(),
            volumes: BTreeMap::new(),
            instances: BTreeMap::new(),
            keys: Key::built_in(),
            calls: Vec::new(),
            changes: Vec::new(),
            tokens: BTreeMap::new(),
            steps: Vec::new(),
            generation: 0,
            version: 0,
        }
    }

    /// Hands over the steps that were asked for since the last time.
    pub(super) fn take_steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    /// Returns a number that grows with every change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn register_instance(&mut self, instance: &str, zone: &str) {
        self.instances.entry(instance.to_owned()).or_insert_with(|| Instance {
            instance: instance.to_owned(),
            zone: zone.to_owned(),
            state: InstanceState::Running,
            tags: BTreeMap::new(),
            launched: Timestamp::now(),
        });
    }

    /// Makes a volume. Ids are never used twice, not even those of deleted volumes.
    pub(super) fn add_volume(&mut self, new: NewVolume) -> Volume {
        let id = loop {
            let id = format!("vol-0{:016x}", rand::rng().random::<u64>());
            if !self.volumes.contains_key(&id) {
                break id;
            }
        };
        let iops = new.iops.or(match new.volume_type.as_str() {
            "gp3" => Some(3000),
            "gp2" => Some((new.size * 3).clamp(100, 16000)),
            _ => None,
        });
        let throughput = new.throughput.or((new.volume_type == "gp3").then_some(125));
        let creating = new.state == VolumeState::Creating;
        let volume = Volume {
            volume: id.clone(),
            state: new.state,
            size: new.size,
            zone: new.zone,
            volume_type: new.volume_type,
            iops,
            throughput,
            encrypted: new.encrypted || new.kms_key_id.is_some(),
            kms_key_id: new.kms_key_id,
            multi_attach: new.multi_attach,
            managed_by: new.managed_by,
            outpost_arn: new.outpost_arn,
            snapshot_id: new.snapshot_id,
            created: Timestamp::now(),
            tags: new.tags,
            attachments: Vec::new(),
            modification: None,
        };
        let record = Record {
            volume: volume.clone(),
            knobs: Knobs::default(),
            past: Vec::new(),
            history: Vec::new(),
            content_from: 0,
            mounts: Vec::new(),
        };
        self.volumes.insert(id.clone(), record);
        self.note(&id);
        if creating {
            self.later(&id, 0, |knobs| knobs.create_ms, |timings| timings.create_ms, What::Created);
        }
        volume
    }

    /// Starts an attachment; the caller has checked that EC2 allows it.
    pub(super) fn begin_attach(&mut self, id: &str, instance: &str, device: &str) {
        self.generation += 1;
        let generation = self.generation;
        let rejected = self.knob(id, |knobs| knobs.reject_attach_async).unwrap_or(false);
        let delete_on_termination = self.knob(id, |knobs| knobs.delete_on_termination).unwrap_or(false);
        let Some(record) = self.volumes.get_mut(id) else {
            return;
        };
        record.volume.attachments.push(Attachment {
            instance: Some(instance.to_owned()),
            associated_resource: None,
            device: device.to_owned(),
            state: AttachmentState::Attaching,
            attached_at: Timestamp::now(),
            delete_on_termination,
            stuck: false,
            generation,
        });
        record.volume.state = VolumeState::InUse;
        self.note(id);
        let what = if rejected { What::AttachRejected } else { What::Attached };
        self.later(id, generation, |knobs| knobs.attach_ms, |timings| timings.attach_ms, what);
    }

    /// Starts a detach. A volume that is mounted there, or made to stick, becomes `busy`.
    pub(super) fn begin_detach(&mut self, id: &str, instance: &str, force: bool) {
        let sticks = self.knob(id, |knobs| knobs.detach_sticks).unwrap_or(false);
        let Some(record) = self.volumes.get_mut(id) else {
            return;
        };
        if force {
            // Whoever writes there is not asked: its mounts are torn away.
            record.mounts.retain(|mount| mount.instance != instance);
        }
        let mounted = record.mounts.iter().any(|mount| mount.instance == instance);
        let Some(attachment) = record.attachment_mut(instance) else {
            return;
        };
        attachment.stuck = sticks && !force;
        if attachment.stuck || mounted {
            attachment.state = AttachmentState::Busy;
            self.note(id);
        } else {
            self.let_go(id, instance);
        }
    }

    /// Lets a detach go on that nothing holds up any more.
    pub(super) fn let_go(&mut self, id: &str, instance: &str) {
        let Some(record) = self.volumes.get_mut(id) else {
            return;
        };
        if record.mounts.iter().any(|mount| mount.instance == instance) {
            return;
        }
        let Some(attachment) = record.attachment_mut(instance).filter(|attachment| !attachment.stuck) else {
            return;
        };
        attachment.state = AttachmentState::Detaching;
        let generation = attachment.generation;
        self.note(id);
        self.later(id, generation, |knobs| knobs.detach_ms, |timings| timings.detach_ms, What::Detached);
    }

    /// Ends the sticking of a volume's detaches, those to come and the one under way.
    pub(super) fn release(&mut self, id: &str) {
        let Some(record) = self.volumes.get_mut(id) else {
            return;
        };
        record.knobs.detach_sticks = Some(false);
        let mut waiting = Vec::new();
        for attachment in &mut record.volume.attachments {
            if std::mem::take(&mut attachment.stuck) {
                waiting.extend(attachment.instance.clone());
            }
        }
        for instance in waiting {
            self.let_go(id, &instance);
        }
    }

    /// Starts the end of a volume.
    pub(super) fn begin_delete(&mut self, id: &str) {
        let Some(record) = self.volumes.get_mut(id) else {
            return;
        };
        record.volume.state = VolumeState::Deleting;
        record.content_from = record.history.len();
        self.note(id);
        self.later(id, 0, |knobs| knobs.delete_ms, |timings| timings.delete_ms, What::Deleted);
    }

    /// Starts a modification.
    pub(super) fn begin_modify(&mut self, id: &str, target: Performance) {
        let Some(record) = self.volumes.get_mut(id) else {
            return;
        };
        record.volume.modification = Some(Modification {
            state: "modifying".to_owned(),
            started: Timestamp::now(),
            ended: None,
            original: record.volume.performance(),
            target,
        });
        self.note(id);
        self.later(id, 0, |knobs| knobs.modify_ms, |timings| timings.modify_ms, What::Optimizing);
    }

    /// Does what a step has waited for, if it still fits.
    pub(super) fn settle(&mut self, step: &Step) {
        let Some(record) = self.volumes.get_mut(&step.volume) else {
            return;
        };
        let volume = &mut record.volume;
        let attachment = volume.attachments.iter().position(|attachment| attachment.generation == step.generation);
        let is = |state: AttachmentState| attachment.filter(|at| volume.attachments[*at].state == state);
        match step.what {
            What::Created if volume.state == VolumeState::Creating => volume.state = VolumeState::Available,
            What::Deleted if volume.state == VolumeState::Deleting => volume.state = VolumeState::Deleted,
            What::Attached => match is(AttachmentState::Attaching) {
                Some(at) => volume.attachments[at].state = AttachmentState::Attached,
                None => return,
            },
            What::AttachRejected | What::Detached => {
                let expected = match step.what {
                    What::Detached => AttachmentState::Detaching,
                    _ => AttachmentState::Attaching,
                };
                let Some(at) = is(expected) else { return };
                volume.attachments.remove(at);
                if volume.attachments.is_empty() {
                    volume.state = VolumeState::Available;
                }
            }
            What::Optimizing | What::Modified => {
                let Some(modification) = &mut volume.modification else {
                    return;
                };
                let (before, after) = match step.what {
                    What::Optimizing => ("modifying", "optimizing"),
                    _ => ("optimizing", "completed"),
                };
                if modification.state != before {
                    return;
                }
                modification.state = after.to_owned();
                if after == "completed" {
                    modification.ended = Some(Timestamp::now());
                }
                let target = modification.target.clone();
                volume.size = target.size;
                volume.volume_type = target.volume_type;
                volume.iops = target.iops;
                volume.throughput = target.throughput;
                if after == "optimizing" {
                    self.later(&step.volume, 0, |knobs| knobs.modify_ms, |timings| timings.modify_ms, What::Modified);
                }
            }
            _ => return,
        }
        self.note(&step.volume);
    }

    /// Returns a volume as a reader sees it who is told the world of `stale` ago.
    pub(super) fn read(&self, id: &str, stale: Duration) -> Option<&Volume> {
        let record = self.volumes.get(id)?;
        let own = self.knob(id, |knobs| knobs.stale_read_ms).map_or(Duration::ZERO, Duration::from_millis);
        let stale = stale.max(own);
        let volume = if stale.is_zero() {
            &record.volume
        } else {
            let then = Instant::now().checked_sub(stale)?;
            &record.past.iter().rev().find(|(since, _)| *since <= then)?.1
        };
        (volume.state != VolumeState::Deleted).then_some(volume)
    }

    /// Returns what a volume's knobs say, or else what the default says.
    pub(super) fn knob<T>(&self, id: &str, pick: impl Fn(&Knobs) -> Option<T>) -> Option<T> {
        self.volumes.get(id).and_then(|record| pick(&record.knobs)).or_else(|| pick(&self.defaults))
    }

    /// Writes down that a volume has changed.
    pub(super) fn note(&mut self, id: &str) {
        self.version += 1;
        let Some(record) = self.volumes.get_mut(id) else {
            return;
        };
        let now = record.volume.seen();
        let before = record.past.last().map(|(_, volume)| volume.seen());
        record.past.push((Instant::now(), record.volume.clone()));
        if before.as_ref() != Some(&now) {
            self.changes.push(VolumeChange { at: Timestamp::now(), now });
        }
    }

    fn later(
        &mut self,
        id: &str,
        generation: u64,
        knob: impl Fn(&Knobs) -> Option<Jitter>,
        timing: impl Fn(&Timings) -> Jitter,
        what: What,
    ) {
        let range = self.knob(id, knob).unwrap_or_else(|| timing(&self.timings));
        self.steps.push(Step { after: draw(range), volume: id.to_owned(), generation, what });
    }
}

impl Record {
    /// Returns the attachment to an instance.
    pub(super) fn attachment(&self, instance: &str) -> Option<&Attachment> {
        self.volume.attachments.iter().find(|attachment| attachment.instance.as_deref() == Some(instance))
    }

    fn attachment_mut(&mut self, instance: &str) -> Option<&mut Attachment> {
        self.volume.attachments.iter_mut().find(|attachment| attachment.instance.as_deref() == Some(instance))
    }
}
