//! The world: both clusters and EC2 as one plain value.
//!
//! Every fact carries the sequence number at which its read *began*, so that "looked at after" is a
//! comparison of numbers. An answer that could not be had (403, 5xx, time-out, partial list) is
//! [`Answer::Unknown`] and never absence. This module does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod claims;
mod ec2;
mod kind;
mod object;
mod quantity;

pub(crate) use claims::template_claims;
pub use claims::{CLASS_ANNOTATION, claim_name, idle_claims};
pub use ec2::{Attachment, AttachmentState, Ec2Volume, VolumeAnswer, VolumeFacts, VolumeState};
pub use kind::Kind;
pub use object::{Object, OwnerReference};
pub use quantity::{GIB, gib_quantity, quantity_bytes};

/// The namespace whose uid identifies a cluster.
pub const CLUSTER_NAMESPACE: &str = "kube-system";

/// Position of a read in the order of all reads of this process; later reads have larger numbers.
pub type Seq = u64;

/// One of the two clusters of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// Cluster A, where the set runs today.
    Source,
    /// Cluster B, where it shall run.
    Destination,
}

impl Side {
    /// Both sides, source first.
    pub const BOTH: [Side; 2] = [Side::Source, Side::Destination];

    /// Returns the opposite side.
    pub fn other(self) -> Side {
        match self {
            Side::Source => Side::Destination,
            Side::Destination => Side::Source,
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Side::Source => "source",
            Side::Destination => "destination",
        })
    }
}

/// Id of an EBS volume in its bare form, `vol-…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct VolumeId(pub String);

impl std::fmt::Display for VolumeId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why an answer could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unknown {
    /// What the server or the transport said, for people.
    pub reason: String,
    /// Whether asking again may help (time-outs, 5xx, throttling), unlike a 403.
    pub passing: bool,
}

/// One read to be made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Read {
    /// All objects of a kind: of the migration's namespace when namespaced, else of the cluster.
    List(Side, Kind),
    /// One object by name.
    Get(Side, Kind, String),
    /// These volumes, in one `DescribeVolumes`.
    Volumes(Vec<VolumeId>),
    /// Whether this user may do this verb on this kind (SelfSubjectAccessReview), in the migration's
    /// namespace when the kind is namespaced.
    Allowed(Side, &'static str, Kind),
    /// Custom resources of any kind that have this name, in the migration's namespace.
    Namesakes(Side, String),
    /// Which node ports Services of all namespaces hold in B.
    NodePorts,
}

/// Custom resources of one name, whatever their kind: an operator's resource is often called like the
/// set that it makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namesakes {
    /// What was found, as `Kind.group`.
    pub found: Vec<String>,
    /// Why there may be more, when something could not be read.
    pub unknown: Option<Unknown>,
}

/// What is known of one object.
#[derive(Clone, Debug)]
pub enum Answer<'a> {
    /// It is there.
    Present {
        /// The object.
        object: &'a Object,
        /// When the newest read that saw it began.
        seen: Seq,
    },
    /// It is not there.
    Absent {
        /// When the first of the unbroken row of reads that did not find it began.
        since: Seq,
        /// When the newest of them began.
        seen: Seq,
    },
    /// It was never looked for.
    Unread,
    /// It was looked for without an answer.
    Unknown(&'a Unknown),
}

#[derive(Clone, Debug)]
enum State {
    Present(Arc<Object>),
    Absent { since: Seq },
    Unknown(Unknown),
}

#[derive(Clone, Debug)]
struct Entry {
    seen: Seq,
    state: State,
    /// Whether an object of this name was gone once and came back while this process looked.
    returned: bool,
}

impl Entry {
    fn comes_back(&self) -> bool {
        self.returned || matches!(self.state, State::Absent { .. })
    }
}

/// All that is known of one kind in one cluster.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// The newest complete list: when it began.
    listed: Option<Seq>,
    /// The first of the unbroken row of complete lists up to the newest: a name without an entry was in
    /// none of them.
    listed_since: Option<Seq>,
    /// The newest list that failed, if it is newer than the last complete one.
    failed: Option<Unknown>,
    /// Whether objects of several namespaces are here, under `namespace/name`.
    everywhere: bool,
    entries: BTreeMap<String, Entry>,
}

impl Shelf {
    /// Takes in a complete list whose read began at `seq`.
    pub fn put_list(&mut self, seq: Seq, objects: impl IntoIterator<Item = Object>) {
        // A single read that began after this list knows better than the list.
        let (newer, mut old): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.entries).into_iter().partition(|(_, entry)| entry.seen > seq);
        for object in objects {
            let name = match self.everywhere {
                true => format!("{}/{}", object.namespace(), object.name()),
                false => object.name().to_owned(),
            };
            let returned = old.remove(&name).is_some_and(|entry| entry.comes_back());
            self.entries.insert(name, Entry { seen: seq, state: State::Present(Arc::new(object)), returned });
        }
        for (name, entry) in old {
            let since = match entry.state {
                State::Absent { since } => since,
                State::Present(_) | State::Unknown(_) => seq,
            };
            let state = State::Absent { since };
            self.entries.insert(name, Entry { seen: seq, state, returned: entry.returned });
        }
        self.entries.extend(newer);
        self.listed = Some(seq);
        self.listed_since.get_or_insert(seq);
        self.failed = None;
    }

    /// Takes in a list that had no answer. What was known of single objects is no longer relied on.
    pub fn put_list_unknown(&mut self, seq: Seq, unknown: Unknown) {
        self.listed = None;
        self.listed_since = None;
        for entry in self.entries.values_mut().filter(|entry| entry.seen < seq) {
            entry.seen = seq;
            entry.state = State::Unknown(unknown.clone());
        }
        self.failed = Some(unknown);
    }

    /// Takes in the answer for one object, `None` being a 404 that names it.
    pub fn put(&mut self, seq: Seq, name: &str, answer: Result<Option<Object>, Unknown>) {
        let old = self.entries.get(name);
        let mut returned = old.is_some_and(|entry| entry.returned);
        let state = match answer {
            Ok(Some(object)) => {
                returned |= old.map_or(self.listed.is_some(), Entry::comes_back);
                State::Present(Arc::new(object))
            }
            Ok(None) => {
                let since = match old {
                    Some(Entry { state: State::Absent { since }, .. }) => *since,
                    Some(_) => seq,
                    None => self.listed_since.unwrap_or(seq),
                };
                State::Absent { since }
            }
            Err(unknown) => State::Unknown(unknown),
        };
        self.entries.insert(name.to_owned(), Entry { seen: seq, state, returned });
    }

    /// Returns what is known of the object of that name.
    pub fn get(&self, name: &str) -> Answer<'_> {
        match (self.entries.get(name), self.listed, &self.failed) {
            (Some(entry), _, _) => match &entry.state {
                State::Present(object) => Answer::Present { object, seen: entry.seen },
                State::Absent { since } => Answer::Absent { since: *since, seen: entry.seen },
                State::Unknown(unknown) => Answer::Unknown(unknown),
            },
            (None, Some(listed), _) => Answer::Absent { since: self.listed_since.unwrap_or(listed), seen: listed },
            (None, None, Some(unknown)) => Answer::Unknown(unknown),
            (None, None, None) => Answer::Unread,
        }
    }

    /// Returns whether the object of that name was gone once and is there again.
    pub fn has_returned(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.returned && matches!(entry.state, State::Present(_)))
    }

    /// Returns all objects that are known to be there; complete only when [`Shelf::listed`] says so.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.entries.values().filter_map(|entry| match &entry.state {
            State::Present(object) => Some(object.as_ref()),
            State::Absent { .. } | State::Unknown(_) => None,
        })
    }

    /// Returns when the newest complete list began, the reason when the newest list failed, or
    /// `None` when none was made.
    pub fn listed(&self) -> Option<Result<Seq, &Unknown>> {
        match (&self.failed, self.listed) {
            (Some(unknown), _) => Some(Err(unknown)),
            (None, Some(seq)) => Some(Ok(seq)),
            (None, None) => None,
        }
    }
}

/// Both clusters and EC2, as far as they were looked at.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The newest sequence number given out.
    pub seq: Seq,
    /// The sequence number at the end of the last wait. A mutation that relies on absence needs
    /// reads that began after it.
    pub settled: Seq,
    shelves: BTreeMap<(Side, Kind), Shelf>,
    /// What EC2 said of the volumes.
    pub volumes: BTreeMap<VolumeId, VolumeFacts>,
    /// What this user may do, by side, verb and kind.
    pub allowed: BTreeMap<(Side, &'static str, Kind), Result<bool, Unknown>>,
    /// Custom resources by side and name.
    pub namesakes: BTreeMap<(Side, String), Namesakes>,
    /// Which Service of B holds which node port, as `namespace/name`; unread at first.
    pub node_ports: Option<Result<BTreeMap<i64, String>, Unknown>>,
    /// Commands of the operator's that this process has run to their end.
    pub commands_done: BTreeSet<crate::decide::Command>,
    /// The wall clock of this machine as RFC 3339, for people who read the record; nothing is decided from it.
    pub clock: String,
}

impl World {
    /// Returns what is known of a kind on a side, to be filled.
    pub fn shelf_mut(&mut self, side: Side, kind: Kind) -> &mut Shelf {
        let shelf = self.shelves.entry((side, kind)).or_default();
        shelf.everywhere = kind.is_everywhere();
        shelf
    }

    /// Returns what is known of a kind on a side, if it was ever looked at.
    pub fn shelf(&self, side: Side, kind: Kind) -> Option<&Shelf> {
        self.shelves.get(&(side, kind))
    }

    /// Returns what is known of one object.
    pub fn get(&self, side: Side, kind: Kind, name: &str) -> Answer<'_> {
        self.shelf(side, kind).map_or(Answer::Unread, |shelf| shelf.get(name))
    }

    /// Returns the object if it is known to be there.
    pub fn object(&self, side: Side, kind: Kind, name: &str) -> Option<&Object> {
        match self.get(side, kind, name) {
            Answer::Present { object, .. } => Some(object),
            Answer::Absent { .. } | Answer::Unread | Answer::Unknown(_) => None,
        }
    }

    /// Returns the Service of B that is known to hold a node port.
    pub fn node_port_holder(&self, port: i64) -> Option<&str> {
        self.node_ports.as_ref()?.as_ref().ok()?.get(&port).map(String::as_str)
    }

    /// Returns all objects of a kind that are known to be there.
    pub fn objects(&self, side: Side, kind: Kind) -> impl Iterator<Item = &Object> {
        self.shelf(side, kind).into_iter().flat_map(Shelf::objects)
    }

    /// Returns the side whose node runs on this EC2 instance (by `spec.providerID`).
    pub fn side_of_instance(&self, instance: &str) -> Option<Side> {
        Side::BOTH
            .into_iter()
            .find(|side| self.objects(*side, Kind::Node).any(|node| node.instance_id() == Some(instance)))
    }

    /// Returns who holds a volume, from EC2's newest answer and the nodes' provider ids (§3).
    pub fn holder(&self, volume: &VolumeId) -> Holder {
        let Some(Ok((_, Some(facts)))) = self.volumes.get(volume).and_then(VolumeFacts::latest) else {
            return Holder::Unknown;
        };
        match (facts.state, facts.attachments.as_slice()) {
            (VolumeState::Available, []) => Holder::Free,
            (VolumeState::InUse, [only]) if only.state == AttachmentState::Attached => {
                match self.side_of_instance(&only.instance) {
                    Some(side) => Holder::Side(side),
                    None => Holder::Other(only.instance.clone()),
                }
            }
            (VolumeState::InUse | VolumeState::Available, [.., last]) => match self.side_of_instance(&last.instance) {
                Some(side) => Holder::Moving(side),
                None => Holder::Other(last.instance.clone()),
            },
            _ => Holder::Unknown,
        }
    }
}

/// Who holds a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Attached to a node of that side.
    Side(Side),
    /// `available`, with no attachment.
    Free,
    /// Being attached to or detached from a node of that side.
    Moving(Side),
    /// Attached to an instance that is a node of neither cluster.
    Other(String),
    /// EC2 has not answered, or said something that this program does not know.
    Unknown,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str) -> Object {
        Object(json!({ "metadata": { "name": name } }))
    }

    /// Else whoever waits for "looked at after it was gone" looks for ever.
    #[test]
    fn absence_counts_from_the_first_list_without_the_name() {
        let mut shelf = Shelf::default();
        shelf.put_list(3, []);
        shelf.put_list(7, []);
        assert!(matches!(shelf.get("web-0"), Answer::Absent { since: 3, seen: 7 }));
        shelf.put(9, "web-0", Ok(None));
        assert!(matches!(shelf.get("web-0"), Answer::Absent { since: 3, seen: 9 }));
    }

    #[test]
    fn an_unknown_answer_is_neither_presence_nor_absence() {
        let mut shelf = Shelf::default();
        shelf.put_list(1, [pod("web-0")]);
        shelf.put_list_unknown(2, Unknown { reason: "503".into(), passing: true });
        assert!(matches!(shelf.get("web-0"), Answer::Unknown(_)));
        assert!(matches!(shelf.get("web-1"), Answer::Unknown(_)));
        assert_eq!(shelf.objects().count(), 0);
        shelf.put_list(3, []);
        assert!(matches!(shelf.get("web-0"), Answer::Absent { since: 3, .. }));
    }

    #[test]
    fn a_single_read_knows_better_than_an_older_list() {
        let mut shelf = Shelf::default();
        shelf.put(5, "web-0", Ok(None));
        shelf.put_list(4, [pod("web-1")]);
        assert!(matches!(shelf.get("web-0"), Answer::Absent { since: 5, seen: 5 }));
        shelf.put_list(4, [pod("web-0")]);
        assert!(matches!(shelf.get("web-0"), Answer::Absent { since: 5, seen: 5 }), "even if the list still has it");
    }

    #[test]
    fn what_was_gone_and_is_there_again_has_returned() {
        let mut shelf = Shelf::default();
        shelf.put_list(1, [pod("web-0")]);
        assert!(!shelf.has_returned("web-0"));
        shelf.put(2, "web-0", Ok(None));
        shelf.put_list(3, [pod("web-0"), pod("web-9")]);
        assert!(shelf.has_returned("web-0"));
        assert!(!shelf.has_returned("web-9"), "an unnamed one may just be new");
    }
}
