//! The log of requests: who asked what when, and what a read was told.

use jiff::Timestamp;

use super::keys::Key;
use super::params::Params;
use super::world::World;
use crate::facts::{Ec2Call, VolumeSeen};

/// What the log says of a request beside its frame.
#[derive(Default)]
pub(super) struct Notes {
    volumes: Vec<String>,
    instance: Option<String>,
    /// What DescribeVolumes has said of each volume.
    pub(super) seen: Vec<VolumeSeen>,
}

impl Notes {
    /// Notes the resources that the parameters name.
    pub(super) fn of(&mut self, params: &Params) {
        let listed = ["VolumeId", "ResourceId"].into_iter().flat_map(|name| params.list(name));
        self.volumes =
            listed.chain(params.get("VolumeId")).filter(|id| id.starts_with("vol-")).map(str::to_owned).collect();
        let listed = ["InstanceId", "ResourceId"].into_iter().flat_map(|name| params.list(name));
        self.instance =
            params.get("InstanceId").into_iter().chain(listed).find(|id| id.starts_with("i-")).map(str::to_owned);
    }

    /// Notes a volume that the request has made.
    pub(super) fn made(&mut self, id: &str) {
        self.volumes.push(id.to_owned());
    }
}

impl World {
    /// Returns what is known of an access key; none for an unknown one.
    pub(super) fn key(&self, key: &str) -> Option<Key> {
        self.keys.get(key).cloned().or_else(|| Key::of_tool(key))
    }

    /// Appends a request to the log.
    pub(super) fn log(&mut self, received: Timestamp, key: &str, action: &str, notes: Notes, error: Option<String>) {
        self.calls.push(Ec2Call {
            seq: self.calls.len() as u64,
            received,
            answered: Timestamp::now(),
            key: key.to_owned(),
            action: action.to_owned(),
            volumes: notes.volumes,
            instance: notes.instance,
            error,
            seen: notes.seen,
        });
    }
}
