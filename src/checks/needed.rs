//! Which reads the checks still need.
//!
//! Asked again and again until nothing is needed: first the clusters, then lists, then what these
//! name. A read that failed counts as made, so it ends; the check then says *unknown*.

use std::collections::BTreeSet;

use super::case::Case;
use super::scope::Scope;
use super::users::WORKLOADS;
use super::{clusters, dependencies, gitops, operators, order, rights};
use crate::plan::{self, Request};
use crate::record::{Subject, stem};
use crate::world::{Answer, CLUSTER_NAMESPACE, Kind, Read, Side, VolumeId, World};

/// Kinds that are listed on both sides for a set, besides those for a claim.
const OF_SET: [Kind; 7] = [
    Kind::HorizontalPodAutoscaler,
    Kind::Ingress,
    Kind::NetworkPolicy,
    Kind::RoleBinding,
    Kind::ScaledObject,
    Kind::Service,
    Kind::VerticalPodAutoscaler,
];

/// Kinds that are listed on both sides, besides workloads.
const BOTH: [Kind; 5] =
    [Kind::Node, Kind::PersistentVolume, Kind::PersistentVolumeClaim, Kind::Pod, Kind::StorageClass];

/// Returns the reads that [`preflight`](super::preflight) still needs, empty when all were made.
pub fn needed(request: &Request, world: &World) -> Vec<Read> {
    let scope = Scope { request, world };
    let made = |reads: Vec<Read>| -> Vec<Read> {
        let reads: BTreeSet<Read> = reads.into_iter().collect();
        reads.into_iter().filter_map(|read| unmade(world, read)).collect()
    };
    let first = made(Side::BOTH.map(|side| Read::Get(side, Kind::Namespace, CLUSTER_NAMESPACE.to_owned())).to_vec());
    let is_hopeless = !clusters::reachable(&scope).is_empty() || !clusters::distinct(&scope).is_empty();
    if !first.is_empty() || is_hopeless {
        return first;
    }
    let second = made(broad(&scope));
    if !second.is_empty() {
        return second;
    }
    let mut reads = namespaces(&scope);
    let Some(case) = Case::new(scope) else { return made(reads) };
    reads.extend(gitops::reads(&case));
    if request.subject == Subject::Set {
        reads.extend(dependencies::reads(&case));
        reads.extend(order::reads(&case));
        let (side, name) = operators::read(&case);
        reads.push(Read::Namesakes(side, name));
    }
    // Of what the plan is made, too; but only volumes whose ids are ids, as one bad id spoils the call.
    reads.extend(plan::needed(request, world).into_iter().filter(|read| !matches!(read, Read::Volumes(_))));
    let volumes: BTreeSet<VolumeId> = case.claims.iter().filter_map(|claim| claim.id.clone()).collect();
    reads.push(Read::Volumes(volumes.into_iter().collect()));
    made(reads)
}

/// What is read before anything is known.
fn broad(scope: &Scope<'_>) -> Vec<Read> {
    let is_set = scope.request.subject == Subject::Set;
    let name = stem(scope.request.subject, &scope.request.name);
    let mut reads: Vec<Read> = rights::reads(scope).collect();
    for side in Side::BOTH {
        let of_set: &[Kind] = if is_set { &OF_SET } else { &[] };
        let kinds = BOTH.iter().chain(&WORKLOADS).chain(of_set);
        reads.extend(kinds.map(|kind| Read::List(side, *kind)));
        reads.push(Read::Get(side, Kind::Namespace, scope.place(side).namespace.clone()));
        reads.push(Read::Get(side, Kind::ConfigMap, name.clone()));
        reads.push(Read::Get(side, Kind::Lease, name.clone()));
    }
    if is_set {
        reads.push(Read::List(Side::Source, Kind::PodDisruptionBudget));
    }
    reads.push(Read::List(Side::Destination, Kind::CsiDriver));
    reads.push(Read::List(Side::Destination, Kind::CsiNode));
    reads
}

/// Where a namespace is not there, those that are: for the nearest name.
///
/// The rights that README lists have `get` of them only. A list that is refused would take back what was
/// read of single ones.
fn namespaces(scope: &Scope<'_>) -> Vec<Read> {
    let mut reads = Vec::new();
    for side in Side::BOTH {
        let found = scope.world.get(side, Kind::Namespace, &scope.place(side).namespace);
        if !matches!(found, Answer::Absent { .. }) {
            continue;
        }
        reads.push(Read::Allowed(side, "list", Kind::Namespace));
        if let Some(Ok(true)) = scope.world.allowed.get(&(side, "list", Kind::Namespace)) {
            reads.push(Read::List(side, Kind::Namespace));
        }
    }
    reads
}

/// Returns what of a read was not made yet.
fn unmade(world: &World, read: Read) -> Option<Read> {
    match read {
        Read::List(side, kind) => {
            let is_made = world.shelf(side, kind).is_some_and(|shelf| shelf.listed().is_some());
            (!is_made).then_some(Read::List(side, kind))
        }
        Read::Get(side, kind, name) => {
            let is_made = !matches!(world.get(side, kind, &name), Answer::Unread);
            (!is_made).then_some(Read::Get(side, kind, name))
        }
        Read::Volumes(ids) => {
            let is_unmade = |id: &VolumeId| world.volumes.get(id).is_none_or(|facts| facts.latest().is_none());
            let ids: Vec<VolumeId> = ids.into_iter().filter(is_unmade).collect();
            (!ids.is_empty()).then_some(Read::Volumes(ids))
        }
        Read::Namesakes(side, name) => {
            let is_made = world.namesakes.contains_key(&(side, name.clone()));
            (!is_made).then_some(Read::Namesakes(side, name))
        }
        Read::NodePorts => world.node_ports.is_none().then_some(Read::NodePorts),
        Read::Allowed(side, verb, kind) => {
            let is_made = world.allowed.contains_key(&(side, verb, kind));
            (!is_made).then_some(Read::Allowed(side, verb, kind))
        }
    }
}
