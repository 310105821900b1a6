//! What the API server says about attachments: the VolumeAttachments of the cluster.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

/// Names of the VolumeAttachments that are attached now.
#[derive(Default)]
pub(super) struct Attachments {
    attached: Mutex<HashSet<String>>,
    /// Names seen since a watch began anew.
    listed: Mutex<HashSet<String>>,
    changed: watch::Sender<u64>,
}

impl Attachments {
    /// Returns a receiver that is told of every change.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether all of these exist, are attached and are not about to go.
    pub(super) fn has_all(&self, names: &[String]) -> bool {
        let attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().all(|name| attached.contains(name))
    }

    /// Takes note of what the watch says.
    pub(super) fn apply(&self, event: Event<VolumeAttachment>) {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(attachment) => {
                if let Some(name) = name_if_attached(&attachment) {
                    listed.insert(name);
                }
            }
            Event::InitDone => *attached = std::mem::take(&mut *listed),
            Event::Apply(attachment) => {
                if let Some(name) = name_if_attached(&attachment) {
                    attached.insert(name);
                } else {
                    attached.remove(attachment.metadata.name.as_deref().unwrap_or_default());
                }
            }
            Event::Delete(attachment) => {
                attached.remove(attachment.metadata.name.as_deref().unwrap_or_default());
            }
        }
        self.changed.send_modify(|changes| *changes += 1);
    }
}

fn name_if_attached(attachment: &VolumeAttachment) -> Option<String> {
    let attached = attachment.status.as_ref().is_some_and(|status| status.attached);
    let stays = attachment.metadata.deletion_timestamp.is_none();
    attachment.metadata.name.clone().filter(|_| attached && stays)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attachment(attached: bool, deletion: Option<&str>) -> VolumeAttachment {
        serde_json::from_value(json!({
            "metadata": {"name": "csi-1", "deletionTimestamp": deletion},
            "spec": {"attacher": "ebs.csi.aws.com", "nodeName": "node-1", "source": {}},
            "status": {"attached": attached},
        }))
        .expect("an attachment")
    }

    #[test]
    fn an_attachment_counts_from_attached_until_its_deletion() {
        let attachments = Attachments::default();
        let names = ["csi-1".to_owned()];
        attachments.apply(Event::Apply(attachment(false, None)));
        assert!(!attachments.has_all(&names));
        attachments.apply(Event::Apply(attachment(true, None)));
        assert!(attachments.has_all(&names));
        attachments.apply(Event::Apply(attachment(true, Some("2026-01-01T00:00:00Z"))));
        assert!(!attachments.has_all(&names));
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let attachments = Attachments::default();
        let names = ["csi-1".to_owned()];
        attachments.apply(Event::Apply(attachment(true, None)));
        attachments.apply(Event::Init);
        assert!(attachments.has_all(&names));
        attachments.apply(Event::InitDone);
        assert!(!attachments.has_all(&names));
    }
}
