//! What a test was about: whose requests count, which set and volumes move, what was there before.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::Cluster;
use crate::audit::Mark;
use crate::facts::HistoryEntry;

use super::Snapshot;

/// In which order the ordinals move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Lowest first, each available in the destination before the next is stopped.
    OneByOne,
    /// All are stopped, then all are started.
    Together,
}

/// Where the test leaves the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing was changed by the tool.
    Untouched,
    /// Somewhere in the middle: prepared, frozen, paused or failed.
    Midway,
    /// All ordinals run in the destination; the source still has claims and volumes.
    Moved,
    /// Finished; the source has nothing of the set's volumes any more.
    Finalized,
    /// The set runs in the source as before.
    RolledBack,
}

/// One volume of the set.
#[derive(Clone, Debug)]
pub struct SetVolume {
    /// EC2 volume id.
    pub handle: String,
    /// Availability zone that EC2 reports.
    pub zone: String,
    /// Ordinal of the pod that uses it.
    pub ordinal: i64,
    /// Name of its claim, the same in both clusters.
    pub claim: String,
    /// Name of its PersistentVolume in the source.
    pub volume: String,
}

/// One test as the judge needs to know it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The users under which the tool ran.
    pub users: BTreeSet<String>,
    /// The EC2 access key ids with which the tool ran.
    pub keys: BTreeSet<String>,
    /// Namespace in the source cluster.
    pub source: String,
    /// Namespace in the destination cluster.
    pub destination: String,
    /// Name of the set, or of the claim that moves alone.
    pub set: String,
    /// Whether a claim moves alone: its users are pods of any name, which the test makes.
    pub alone: bool,
    /// First ordinal.
    pub start: i64,
    /// Number of replicas.
    pub replicas: i64,
    /// Order of the move.
    pub order: Order,
    /// The set's volumes that move.
    pub volumes: Vec<SetVolume>,
    /// Names of the Services and Ingresses that belong to the set.
    pub services: BTreeSet<String>,
    /// Storage classes that get another name in the destination.
    pub classes: BTreeMap<String, String>,
    /// Nodes of which the operator said that they are off: what they last reported proves nothing.
    pub excused_nodes: BTreeSet<String>,
    /// Pods that the test itself disturbs: their deaths and restarts prove nothing.
    pub excused_pods: BTreeSet<String>,
    /// Other sets of the namespace that the test moves, too: their objects are no bystanders.
    pub other_sets: BTreeSet<String>,
    /// The objects of both clusters before the tool's first call.
    pub before: Snapshot,
    /// The volumes' histories before the tool's first call.
    pub histories: BTreeMap<String, Vec<HistoryEntry>>,
    /// When `before` was looked at.
    pub since: Timestamp,
    /// The ends of the audit logs at that time.
    pub marks: Vec<(Cluster, Mark)>,
    /// Where the test leaves the migration.
    pub expected: Expected,
}

impl Case {
    /// Returns the case with another expectation of the end.
    pub fn expecting(mut self, expected: Expected) -> Case {
        self.expected = expected;
        self
    }

    /// Returns the case for a move in another order.
    pub fn ordered(mut self, order: Order) -> Case {
        self.order = order;
        self
    }

    /// Returns the case with a node that the operator says is off (`--accept-unclean-detach`).
    pub fn excusing_node(mut self, node: &str) -> Case {
        self.excused_nodes.insert(node.to_owned());
        self
    }

    /// Returns the case with a class that is called otherwise in the destination.
    pub fn with_class(mut self, source: &str, destination: &str) -> Case {
        self.classes.insert(source.to_owned(), destination.to_owned());
        self
    }

    /// Returns the case with a pod that the test itself disturbs.
    pub fn excusing_pod(mut self, pod: &str) -> Case {
        self.excused_pods.insert(pod.to_owned());
        self
    }

    /// Returns the case with another set of the namespace that the test moves, too.
    pub fn beside(mut self, set: &str) -> Case {
        self.other_sets.insert(set.to_owned());
        self
    }

    /// Returns the case as seen by another user and key, such as a second tool that must do nothing.
    pub fn for_tool(mut self, user: &str, key: &str) -> Case {
        self.users = BTreeSet::from([user.to_owned()]);
        self.keys = BTreeSet::from([key.to_owned()]);
        self
    }

    /// Returns the case with one more user and key, such as those of a second tool that takes over.
    pub fn and_tool(mut self, user: &str, key: &str) -> Case {
        self.users.insert(user.to_owned());
        self.keys.insert(key.to_owned());
        self
    }

    /// Returns the set's namespace in a cluster.
    pub fn namespace(&self, cluster: Cluster) -> &str {
        match cluster {
            Cluster::A => &self.source,
            Cluster::B => &self.destination,
        }
    }

    /// Returns the ordinals of the set's pods.
    pub fn ordinals(&self) -> std::ops::Range<i64> {
        self.start..self.start + self.replicas
    }

    /// Returns the name of the pod of an ordinal.
    pub fn pod(&self, ordinal: i64) -> String {
        format!("{}-{ordinal}", self.set)
    }

    /// Returns the ordinal of one of the set's pods; none for other names.
    pub fn ordinal_of(&self, pod: &str) -> Option<i64> {
        self.ordinals().find(|&ordinal| self.pod(ordinal) == pod)
    }

    /// Returns the volumes of an ordinal.
    pub fn volumes_of(&self, ordinal: i64) -> impl Iterator<Item = &SetVolume> {
        self.volumes.iter().filter(move |volume| volume.ordinal == ordinal)
    }

    /// Returns the volumes of pods, without those of idle claims.
    pub fn used_volumes(&self) -> impl Iterator<Item = &SetVolume> {
        let ordinals = self.ordinals();
        self.volumes.iter().filter(move |volume| ordinals.contains(&volume.ordinal))
    }

    /// Returns whether a volume moves without a pod.
    pub fn is_idle(&self, volume: &SetVolume) -> bool {
        !self.ordinals().contains(&volume.ordinal)
    }

    /// Returns the volume of a claim.
    pub fn volume_of_claim(&self, claim: &str) -> Option<&SetVolume> {
        self.volumes.iter().find(|volume| volume.claim == claim)
    }

    /// Returns the volume with a handle.
    pub fn volume(&self, handle: &str) -> Option<&SetVolume> {
        self.volumes.iter().find(|volume| volume.handle == handle)
    }

    /// Returns the uid that the set had in the source before.
    pub fn old_set(&self) -> &str {
        self.before.get(Cluster::A, "statefulsets", &self.source, &self.set).map_or("", |set| set.uid())
    }
}
