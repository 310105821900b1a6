//! The content of volumes: who has used them, in the order of the writes.
//!
//! A mount is what a kubelet does after the attach. It finds what earlier users left behind, so that a
//! wrong volume (somebody else's entries) or an empty one (no entries) shows. The whole history stays
//! readable for the judge; what a mount finds begins anew when the content is lost.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::words::{AttachmentState, InstanceState};
use super::world::{Record, World};
use crate::facts::{HistoryEntry, HistoryKind};

impl World {
    pub(super) fn mount(
        &mut self,
        volume: &str,
        instance: &str,
        mut entry: HistoryEntry,
    ) -> Result<Vec<HistoryEntry>, String> {
        match self.instances.get(instance) {
            Some(found) if found.state == InstanceState::Running => {}
            Some(found) => return Err(format!("instance {instance} is {}", found.state)),
            None => return Err(format!("instance {instance} is unknown")),
        }
        let record = self.volumes.get_mut(volume).ok_or_else(|| format!("volume {volume} does not exist"))?;
        match record.attachment(instance) {
            Some(attachment) if attachment.state == AttachmentState::Attached => {}
            Some(attachment) => {
                return Err(format!("volume {volume} is {} on instance {instance}, not attached", attachment.state));
            }
            None => {
                return Err(format!("volume {volume} is not attached to instance {instance}"));
            }
        }
        if record.mounts.iter().any(|mount| mount.instance == instance && mount.pod_uid == entry.pod_uid) {
            return Err(format!("volume {volume} is already mounted for pod {}", entry.pod));
        }
        let found = record.history[record.content_from..].to_vec();
        entry.at = Timestamp::now();
        entry.kind = HistoryKind::Start;
        instance.clone_into(&mut entry.instance);
        entry.found = found.len();
        record.history.push(entry.clone());
        record.mounts.push(entry);
        Ok(found)
    }

    pub(super) fn unmount(&mut self, volume: &str, instance: &str, mut entry: HistoryEntry) -> Result<(), String> {
        let record = self.volumes.get_mut(volume).ok_or_else(|| format!("volume {volume} does not exist"))?;
        let mount = record
            .mounts
            .iter()
            .position(|mount| mount.instance == instance && mount.pod_uid == entry.pod_uid)
            .ok_or_else(|| format!("volume {volume} is not mounted on instance {instance} for pod {}", entry.pod))?;
        let start = record.mounts.remove(mount);
        entry.at = Timestamp::now();
        entry.kind = HistoryKind::End;
        instance.clone_into(&mut entry.instance);
        entry.found = start.found;
        record.history.push(entry);
        if record.attachment(instance).is_some_and(|attachment| attachment.state == AttachmentState::Busy) {
            self.let_go(volume, instance);
        }
        Ok(())
    }

    pub(super) fn contents(&self) -> BTreeMap<String, Vec<HistoryEntry>> {
        let content = |record: &Record| record.history[record.content_from..].to_vec();
        self.volumes.iter().map(|(id, record)| (id.clone(), content(record))).collect()
    }

    /// Ends every mount of an instance that has lost its power: nothing writes there any more.
    pub(super) fn end_mounts(&mut self, instance: &str) {
        let mut ended = Vec::new();
        for (id, record) in &mut self.volumes {
            let (here, elsewhere) =
                std::mem::take(&mut record.mounts).into_iter().partition(|mount| mount.instance == instance);
            record.mounts = elsewhere;
            let here: Vec<HistoryEntry> = here;
            if here.is_empty() {
                continue;
            }
            record.history.extend(here.into_iter().map(|start| HistoryEntry {
                at: Timestamp::now(),
                kind: HistoryKind::End,
                ..start
            }));
            if record.attachment(instance).is_some_and(|attachment| attachment.state == AttachmentState::Busy) {
                ended.push(id.clone());
            }
        }
        for id in ended {
            self.let_go(&id, instance);
        }
    }

    /// Loses the content of a volume, as a mistaken mkfs would.
    pub(super) fn wipe(&mut self, volume: &str) -> bool {
        let Some(record) = self.volumes.get_mut(volume) else {
            return false;
        };
        record.content_from = record.history.len();
        true
    }
}
