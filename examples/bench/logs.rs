//! What the servers' logs say of a move: where each pod's downtime went, and which calls were made.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bed::facts::{VolumeChange, VolumeSeen};
use bed::judge::{Case, Event, Evidence};
use bed::{Cluster, users};
use jiff::Timestamp;

/// What one mover did.
pub(crate) struct Move {
    /// Lowest ordinal first.
    pub(crate) downtimes: Vec<Downtime>,
    /// Its calls that change something, Lease renewals apart.
    pub(crate) mutating: Vec<Call>,
    /// Its reads, watches apart.
    pub(crate) reads: Vec<Timestamp>,
    /// Its calls to EC2.
    pub(crate) ec2_calls: Vec<Timestamp>,
}

/// A call that changes something.
pub(crate) struct Call {
    /// When it arrived.
    pub(crate) at: Timestamp,
    /// Whether it is about a claim or a PersistentVolume.
    pub(crate) is_of_volume: bool,
}

/// Where the time of one pod went, in milliseconds.
pub(crate) struct Downtime {
    /// When the mover deleted the pod in A.
    pub(crate) begin: Timestamp,
    /// When the pod was Ready in B.
    pub(crate) end: Timestamp,
    /// From the delete until the containers have ended.
    pub(crate) grace: f64,
    /// Until the pod object is gone, its volumes being unmounted and no longer reported in use.
    pub(crate) unmount: f64,
    /// Until the volume is free: VolumeAttachment 404 and EC2 `available`, whichever is later.
    pub(crate) detach: f64,
    /// Until the scale-up reaches B's API server: what the mover adds.
    pub(crate) added: f64,
    /// The part of `added` in which EC2 was being asked.
    pub(crate) asking_ec2: f64,
    /// From the scale-up until EC2 has attached the volume in B.
    pub(crate) attach: f64,
    /// Until the pod is Ready.
    pub(crate) start: f64,
}

impl Downtime {
    /// Returns all of it.
    pub(crate) fn whole(&self) -> f64 {
        milliseconds(self.begin, self.end)
    }
}

/// Reads a move out of the logs.
///
/// # Errors
/// The logs lack a moment of one of the pods, which says that it was not moved.
pub(crate) fn read(evidence: &Evidence, case: &Case) -> Result<Move> {
    let logs = Logs { evidence, case };
    let ordinals = case.start..case.start + case.replicas;
    let downtimes: Result<Vec<Downtime>> = ordinals.map(|ordinal| logs.downtime(ordinal)).collect();
    let is_lease = |event: &&Event| event.resource == "leases";
    let mutating = logs.own().filter(|event| event.is_write() && !is_lease(event)).map(|event| Call {
        at: event.received,
        is_of_volume: matches!(event.resource.as_str(), "persistentvolumes" | "persistentvolumeclaims"),
    });
    let reads = logs.own().filter(|event| matches!(event.verb.as_str(), "get" | "list") && !is_lease(event));
    Ok(Move {
        downtimes: downtimes?,
        mutating: mutating.collect(),
        reads: reads.map(|event| event.received).collect(),
        ec2_calls: evidence.calls.iter().map(|call| call.received).collect(),
    })
}

struct Logs<'a> {
    evidence: &'a Evidence,
    case: &'a Case,
}

impl<'a> Logs<'a> {
    fn downtime(&self, ordinal: i64) -> Result<Downtime> {
        let pod = format!("{}-{ordinal}", self.case.set);
        let of_pod = |event: &&Event| event.resource == "pods" && event.name == pod;
        let by_agent = |event: &&Event| event.user == users::NODE_AGENT && of_pod(event);
        let missing = |what: &str| format!("the logs do not show {what} of pod {pod}");

        let stop = self.own().find(|event| of_pod(event) && is_done(event, Cluster::A, "delete"));
        let begin = stop.with_context(|| missing("the delete"))?.received;
        let ended = self.after(begin).filter(by_agent).find(|event| event.cluster == Cluster::A && has_ended(event));
        let ended = ended.with_context(|| missing("the end of the containers"))?.received;
        let gone = self.after(ended).filter(by_agent).find(|event| is_done(event, Cluster::A, "delete"));
        let gone = gone.with_context(|| missing("the removal"))?.completed;

        let wanted = ordinal - self.case.start + 1;
        let grow = self.own().find(|event| {
            event.cluster == Cluster::B && event.succeeded() && event.replicas().is_some_and(|now| now >= wanted)
        });
        let grow = grow.with_context(|| missing("the scale-up"))?.received;
        let free = self.free(ordinal, begin, grow).with_context(|| missing("the detach"))?;
        let attached = self.attached(ordinal, grow).with_context(|| missing("the attach"))?;
        let ready = self.after(grow).filter(by_agent).find(|event| event.cluster == Cluster::B && is_ready(event));
        let end = ready.with_context(|| missing("the readiness"))?.completed;
        Ok(Downtime {
            begin,
            end,
            grace: milliseconds(begin, ended),
            unmount: milliseconds(ended, gone),
            detach: milliseconds(gone, free),
            added: milliseconds(free, grow),
            asking_ec2: self.asking_ec2(free, grow),
            attach: milliseconds(grow, attached),
            start: milliseconds(attached, end),
        })
    }

    /// Returns when all volumes of an ordinal were free, between the pod's delete and the scale-up.
    fn free(&self, ordinal: i64, begin: Timestamp, grow: Timestamp) -> Option<Timestamp> {
        let mut free = begin;
        for volume in self.case.volumes.iter().filter(|volume| volume.ordinal == ordinal) {
            let attachments: Vec<&str> = self
                .case
                .before
                .of(Cluster::A, "volumeattachments")
                .filter(|attachment| attachment.text("/spec/source/persistentVolumeName") == volume.volume)
                .map(|attachment| attachment.name())
                .collect();
            // The last write on it is the one that took its last finalizer away.
            let removed = self
                .after(begin)
                .take_while(|event| event.received < grow)
                .filter(|event| event.cluster == Cluster::A && event.resource == "volumeattachments")
                .filter(|event| event.is_write() && event.succeeded() && attachments.contains(&event.name.as_str()))
                .last()?
                .completed;
            let available = self.changes(&volume.handle).take_while(|change| change.at < grow).last()?;
            free = free.max(removed).max(is_free(&available.now).then_some(available.at)?);
        }
        Some(free)
    }

    /// Returns when EC2 had attached all volumes of an ordinal after the scale-up.
    fn attached(&self, ordinal: i64, grow: Timestamp) -> Option<Timestamp> {
        let volumes = self.case.volumes.iter().filter(|volume| volume.ordinal == ordinal);
        let attached = volumes.map(|volume| {
            let mut changes = self.changes(&volume.handle).skip_while(|change| change.at < grow);
            Some(changes.find(|change| change.now.attachments.iter().any(|held| held.state == "attached"))?.at)
        });
        attached.collect::<Option<Vec<Timestamp>>>()?.into_iter().max()
    }

    /// Returns how long the mover was asking EC2: from the last answer of an API server before a row
    /// of calls to EC2 until the first request after it.
    fn asking_ec2(&self, free: Timestamp, grow: Timestamp) -> f64 {
        let mut rows: BTreeMap<Timestamp, Timestamp> = BTreeMap::new();
        for call in self.evidence.calls.iter().filter(|call| (free..grow).contains(&call.received)) {
            let own = || self.own().filter(|event| event.resource != "leases" && event.verb != "watch");
            let before = own().map(|event| event.completed).filter(|at| *at <= call.received).max();
            let after = own().map(|event| event.received).filter(|at| *at >= call.answered).min();
            rows.insert(before.map_or(free, |at| at.max(free)), after.map_or(grow, |at| at.min(grow)));
        }
        rows.into_iter().fold(0.0, |sum, (begin, end)| sum + milliseconds(begin, end))
    }

    fn changes(&self, handle: &str) -> impl Iterator<Item = &'a VolumeChange> {
        self.evidence.changes.get(handle).into_iter().flatten()
    }

    /// Returns the mover's own requests.
    fn own(&self) -> impl Iterator<Item = &'a Event> {
        let users = &self.case.users;
        self.evidence.events.iter().filter(|event| users.contains(&event.user))
    }

    fn after(&self, at: Timestamp) -> impl Iterator<Item = &'a Event> {
        let first = self.evidence.events.partition_point(|event| event.received < at);
        self.evidence.events[first..].iter()
    }
}

fn is_done(event: &Event, cluster: Cluster, verb: &str) -> bool {
    event.cluster == cluster && event.verb == verb && event.succeeded()
}

/// Returns whether a status says that the containers have ended.
fn has_ended(event: &Event) -> bool {
    event.subresource == "status"
        && event.body.pointer("/status/containerStatuses/0/state/terminated").is_some_and(|state| !state.is_null())
}

/// Returns whether a status says that the pod is Ready.
fn is_ready(event: &Event) -> bool {
    let conditions = event.body.pointer("/status/conditions").and_then(|conditions| conditions.as_array());
    event.subresource == "status"
        && conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn is_free(volume: &VolumeSeen) -> bool {
    volume.state == "available" && volume.attachments.is_empty()
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}
