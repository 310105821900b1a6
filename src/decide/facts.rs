//! Facts, or the read that gets them.
//!
//! Every helper answers with the fact, or with what has to happen first: a look, a wait for a server
//! that does not answer, a stop where it refuses. Unknown is never absence (I-22).

use super::wait::describe;
use super::{Clock, Condition, Flow, Next, Stop, Wait};
use crate::plan::{Plan, SetPlan};
use crate::record::Subject;
use crate::record::secrets::index_name;
use crate::world::{Answer, CLUSTER_NAMESPACE, Kind, Object, Read, Seq, Shelf, Side, Unknown, VolumeId, World};

/// Returns what has to happen when a read had no answer.
fn unknown(read: Read, unknown: &Unknown) -> Next {
    if unknown.passing {
        let clock = Clock::Cluster { what: describe(&read) };
        let on = Condition::Answer { read: read.clone(), reason: unknown.reason.clone() };
        Next::Wait(Wait { on, clock, poll: vec![read] })
    } else {
        Next::Stop(Stop::Refused { read: describe(&read), reason: unknown.reason.clone() })
    }
}

/// Looks at all at once what was never looked at.
pub(super) fn require(world: &World, reads: impl IntoIterator<Item = Read>) -> Flow<()> {
    let missing: Vec<Read> = reads.into_iter().filter(|read| is_older_than(world, read, 1)).collect();
    if missing.is_empty() { Ok(()) } else { Err(Next::Look(missing)) }
}

/// Looks at all at once what was not looked at since the last wait, mutation or question.
pub(super) fn refresh(world: &World, reads: impl IntoIterator<Item = Read>) -> Flow<()> {
    let stale: Vec<Read> = reads.into_iter().filter(|read| is_older_than(world, read, world.settled + 1)).collect();
    if stale.is_empty() { Ok(()) } else { Err(Next::Look(stale)) }
}

/// Returns whether the newest answer of a read began before `seq`. A read without an answer is not
/// old: whoever needs it meets the unknown.
fn is_older_than(world: &World, read: &Read, seq: Seq) -> bool {
    match read {
        Read::List(side, kind) => match world.shelf(*side, *kind).and_then(Shelf::listed) {
            Some(Ok(listed)) => listed < seq,
            Some(Err(_)) => false,
            None => true,
        },
        Read::Get(side, kind, name) => match world.get(*side, *kind, name) {
            Answer::Present { seen, .. } | Answer::Absent { seen, .. } => seen < seq,
            Answer::Unread => true,
            Answer::Unknown(_) => false,
        },
        Read::Volumes(ids) => ids.iter().any(|id| match world.volumes.get(id).and_then(|facts| facts.latest()) {
            Some(Ok((seen, _))) => seen < seq,
            Some(Err(_)) => false,
            None => true,
        }),
        Read::Allowed(..) | Read::Namesakes(..) | Read::NodePorts => false,
    }
}

/// Returns the object, or that it is not there.
pub(super) fn present<'a>(world: &'a World, side: Side, kind: Kind, name: &str) -> Flow<Option<&'a Object>> {
    let read = || Read::Get(side, kind, name.to_owned());
    match world.get(side, kind, name) {
        Answer::Present { object, .. } => Ok(Some(object)),
        Answer::Absent { .. } => Ok(None),
        Answer::Unread => Err(Next::Look(vec![read()])),
        Answer::Unknown(reason) => Err(unknown(read(), reason)),
    }
}

/// Returns the object as seen since the last wait, mutation or question.
pub(super) fn fresh<'a>(world: &'a World, side: Side, kind: Kind, name: &str) -> Flow<Option<&'a Object>> {
    refresh(world, [Read::Get(side, kind, name.to_owned())])?;
    present(world, side, kind, name)
}

/// Returns all objects of a kind; the list began after `after`.
pub(super) fn listed(world: &World, side: Side, kind: Kind, after: Seq) -> Flow<&Shelf> {
    let read = Read::List(side, kind);
    let Some(shelf) = world.shelf(side, kind) else {
        return Err(Next::Look(vec![read]));
    };
    match shelf.listed() {
        Some(Ok(seq)) if seq > after => Ok(shelf),
        Some(Err(reason)) => Err(unknown(read, reason)),
        Some(Ok(_)) | None => Err(Next::Look(vec![read])),
    }
}

/// Returns when the newest of these lists began, which all began after `after`. Those that did not are
/// looked at side by side.
pub(super) fn all_listed(world: &World, lists: &[(Side, Kind)], after: Seq) -> Flow<Seq> {
    let (mut newest, mut old) = (after, Vec::new());
    for (side, kind) in lists {
        match listed(world, *side, *kind, after) {
            Ok(shelf) => newest = newest.max(shelf.listed().and_then(Result::ok).unwrap_or_default()),
            Err(Next::Look(reads)) => old.extend(reads),
            Err(next) => return Err(next),
        }
    }
    if old.is_empty() { Ok(newest) } else { Err(Next::Look(old)) }
}

/// Looks at EC2 when its newest answer for one of the volumes began at or before `after`.
pub(super) fn volumes(world: &World, ids: &[VolumeId], after: Seq) -> Flow<()> {
    let read = Read::Volumes(ids.to_vec());
    if is_older_than(world, &read, after + 1) {
        return Err(Next::Look(vec![read]));
    }
    for id in ids {
        if let Some(Err(reason)) = world.volumes.get(id).and_then(|facts| facts.latest()) {
            return Err(unknown(read, reason));
        }
    }
    Ok(())
}

/// Looks once at everything that a migration rests on.
pub(super) fn base(plan: &Plan, set: &SetPlan, world: &World) -> Flow<()> {
    let stem = plan.stem();
    let mut reads = Vec::new();
    for side in Side::BOTH {
        reads.push(Read::Get(side, Kind::Namespace, CLUSTER_NAMESPACE.to_owned()));
        reads.push(Read::Get(side, Kind::Namespace, plan.place(side).namespace.clone()));
        reads.push(Read::Get(side, Kind::ConfigMap, stem.clone()));
        reads.push(Read::Get(side, Kind::Secret, index_name(&stem)));
        if plan.subject() == Subject::Set {
            reads.push(Read::Get(side, Kind::StatefulSet, set.name.clone()));
        }
        for kind in [
            Kind::Pod,
            Kind::PersistentVolumeClaim,
            Kind::PersistentVolume,
            Kind::VolumeAttachment,
            Kind::Node,
            Kind::ControllerRevision,
        ] {
            reads.push(Read::List(side, kind));
        }
    }
    for service in &set.services {
        let kind = service.kind();
        reads.push(Read::Get(Side::Destination, kind, service.before.name().to_owned()));
    }
    require(world, reads)
}

/// Stops when a context leads to another cluster than the plan says (TL-5).
pub(super) fn same_clusters(plan: &Plan, world: &World) -> Flow<()> {
    for side in Side::BOTH {
        let found = present(world, side, Kind::Namespace, CLUSTER_NAMESPACE)?.map_or("", Object::uid);
        let planned = &plan.place(side).cluster_uid;
        if found != planned {
            let (planned, found) = (planned.clone(), found.to_owned());
            return Err(Next::Stop(Stop::OtherCluster { side, planned, found }));
        }
    }
    Ok(())
}
