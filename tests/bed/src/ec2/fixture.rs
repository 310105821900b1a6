//! What a test does to the world without asking EC2: power, death, and facts out of nothing.

use jiff::Timestamp;

use super::knobs::VolumePatch;
use super::model::{Attachment, Modification};
use super::words::{AttachmentState, InstanceState, VolumeState};
use super::world::World;

impl World {
    /// Switches an instance off; what ran there has ended, its volumes stay attached.
    pub(super) fn stop_instance(&mut self, instance: &str) -> bool {
        let Some(found) = self.instances.get_mut(instance) else {
            return false;
        };
        if found.state == InstanceState::Terminated {
            return false;
        }
        found.state = InstanceState::Stopped;
        self.end_mounts(instance);
        true
    }

    /// Switches a stopped instance on.
    pub(super) fn start_instance(&mut self, instance: &str) -> bool {
        match self.instances.get_mut(instance) {
            Some(found) if found.state != InstanceState::Terminated => {
                found.state = InstanceState::Running;
                true
            }
            _ => false,
        }
    }

    /// Terminates an instance: its volumes are detached, those with DeleteOnTermination deleted.
    pub(super) fn terminate_instance(&mut self, instance: &str) -> bool {
        let Some(found) = self.instances.get_mut(instance) else {
            return false;
        };
        found.state = InstanceState::Terminated;
        self.end_mounts(instance);
        let attached: Vec<(String, bool)> = self
            .volumes
            .values()
            .filter_map(|record| {
                Some((record.volume.volume.clone(), record.attachment(instance)?.delete_on_termination))
            })
            .collect();
        for (id, delete) in attached {
            let Some(record) = self.volumes.get_mut(&id) else {
                continue;
            };
            record.volume.attachments.retain(|attachment| attachment.instance.as_deref() != Some(instance));
            if !record.volume.attachments.is_empty() {
                self.note(&id);
                continue;
            }
            record.volume.state = VolumeState::Available;
            self.note(&id);
            if delete {
                self.begin_delete(&id);
            }
        }
        true
    }

    /// Makes facts of a volume true.
    pub(super) fn patch(&mut self, id: &str, patch: VolumePatch) -> bool {
        let Some(record) = self.volumes.get_mut(id) else {
            return false;
        };
        let volume = &mut record.volume;
        if let Some(attachments) = patch.attachments {
            volume.attachments = attachments
                .into_iter()
                .map(|forced| {
                    self.generation += 1;
                    Attachment {
                        instance: forced.instance,
                        associated_resource: forced.associated_resource,
                        device: format!("/dev/xvdz{}", char::from(b'a' + (self.generation % 26) as u8)),
                        // A detach that a test has forced goes on only when the test says so.
                        stuck: matches!(forced.state, AttachmentState::Busy | AttachmentState::Detaching),
                        state: forced.state,
                        attached_at: Timestamp::now(),
                        delete_on_termination: forced.delete_on_termination,
                        generation: self.generation,
                    }
                })
                .collect();
        }
        if let Some(delete) = patch.delete_on_termination {
            volume.attachments.iter_mut().for_each(|attachment| attachment.delete_on_termination = delete);
        }
        if let Some(state) = patch.modification_state {
            let performance = volume.performance();
            let modification = volume.modification.get_or_insert_with(|| Modification {
                state: String::new(),
                started: Timestamp::now(),
                ended: None,
                original: performance.clone(),
                target: performance,
            });
            modification.ended = matches!(state.as_str(), "completed" | "failed").then(Timestamp::now);
            modification.state = state;
        }
        macro_rules! take {
            ($($field:ident),+) => { $(if let Some(value) = patch.$field { volume.$field = value; })+ };
        }
        take!(state, size, zone, multi_attach, encrypted);
        if patch.kms_key_id.is_some() {
            volume.kms_key_id = patch.kms_key_id;
            volume.encrypted = true;
        }
        volume.managed_by = patch.managed_by.or(volume.managed_by.take());
        volume.outpost_arn = patch.outpost_arn.or(volume.outpost_arn.take());
        volume.tags.extend(patch.tags);
        volume.tags.retain(|key, _| !patch.remove_tags.contains(key));
        if volume.state == VolumeState::Deleted {
            record.content_from = record.history.len();
        }
        self.note(id);
        true
    }
}
