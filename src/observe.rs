//! Fills the [`World`]: performs reads, and nothing else.
//!
//! One call of [`look`] is one batch: its cluster reads carry one sequence number, since none of them
//! is known to have begun after another; its EC2 reads begin when those have answered and carry the
//! next. So "begun after" is a comparison of numbers that never flatters. An answer that could not be
//! had is unknown, never absence (I-22). Reads are most recent: no `resourceVersion` is ever given.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use futures::stream;

use crate::connect::Endpoints;
use crate::events::{Event, Events};
use crate::world::{Answer, Kind, Namesakes, Object, Read, Seq, Side, Unknown, VolumeId, World};

mod kubernetes;
mod namesakes;
mod volumes;
mod watch;

pub(crate) use kubernetes::{get, list, list_everywhere};
pub(crate) use watch::Watches;

/// How many requests run side by side: enough for a set of a thousand replicas, gentle for an API server.
pub(crate) const PARALLEL: usize = 32;

/// What one cluster read found.
enum Finding {
    List(Result<Vec<Object>, Unknown>),
    Object(Result<Option<Object>, Unknown>),
    Allowed(Result<bool, Unknown>),
    Namesakes(Namesakes),
    Services(Result<Vec<Object>, Unknown>),
}

/// Performs reads and takes the answers into the world.
pub(crate) async fn look(
    endpoints: &Endpoints,
    world: &mut World,
    events: &mut Events,
    reads: impl IntoIterator<Item = Read>,
) {
    let mut volumes: BTreeSet<VolumeId> = BTreeSet::new();
    let mut others: BTreeSet<Read> = BTreeSet::new();
    for read in reads {
        match read {
            Read::Volumes(ids) => volumes.extend(ids),
            other => {
                others.insert(other);
            }
        }
    }
    if !others.is_empty() {
        world.seq += 1;
        let seq = world.seq;
        let mut answers = stream::iter(others)
            .map(|read| async move {
                let finding = perform(endpoints, &read).await;
                (read, finding)
            })
            .buffer_unordered(PARALLEL);
        while let Some((read, finding)) = answers.next().await {
            take_in(world, events, seq, read, finding);
        }
    }
    if !volumes.is_empty() {
        suggest_zones(endpoints, world, &volumes);
        world.seq += 1;
        let seq = world.seq;
        let ids: Vec<VolumeId> = volumes.into_iter().collect();
        for (id, answer) in volumes::describe(&endpoints.ec2, &ids).await {
            events.write_if(Event::volume(&id, world.volumes.get(&id), &answer));
            world.volumes.entry(id).or_default().put(seq, answer);
        }
    }
}

async fn perform(endpoints: &Endpoints, read: &Read) -> Finding {
    match read {
        Read::List(side, kind) => Finding::List(list(endpoints.cluster(*side), *kind, None).await),
        Read::Get(side, kind, name) => Finding::Object(get(endpoints.cluster(*side), *kind, name).await),
        Read::Allowed(side, verb, kind) => {
            Finding::Allowed(kubernetes::allowed(endpoints.cluster(*side), verb, *kind).await)
        }
        Read::Namesakes(side, name) => Finding::Namesakes(namesakes::find(endpoints.cluster(*side), name).await),
        Read::NodePorts => {
            let services = kubernetes::list_everywhere(&endpoints.destination, Kind::Service, None);
            Finding::Services(services.await)
        }
        Read::Volumes(_) => unreachable!("volumes are described in one call of their own"),
    }
}

fn take_in(world: &mut World, events: &mut Events, seq: Seq, read: Read, finding: Finding) {
    match (read, finding) {
        (Read::List(side, kind), Finding::List(answer)) => {
            if events.is_on() {
                changes_of_list(world, events, side, kind, &answer);
            }
            let shelf = world.shelf_mut(side, kind);
            match answer {
                Ok(objects) => shelf.put_list(seq, objects),
                Err(unknown) => shelf.put_list_unknown(seq, unknown),
            }
        }
        (Read::Get(side, kind, name), Finding::Object(answer)) => {
            if events.is_on() {
                let event = match &answer {
                    Ok(object) => change(world, side, kind, &name, object.as_ref()),
                    Err(unknown) => Some(Event::unanswered(side, kind, Some(&name), unknown)),
                };
                events.write_if(event);
            }
            let shelf = world.shelf_mut(side, kind);
            match answer {
                // One object of a list that cannot be read makes the list partial, and a partial list
                // must not pass for a complete one.
                Err(unknown) if matches!(shelf.listed(), Some(Ok(_))) => shelf.put_list_unknown(seq, unknown),
                answer => shelf.put(seq, &name, answer),
            }
        }
        (Read::Allowed(side, verb, kind), Finding::Allowed(answer)) => {
            world.allowed.insert((side, verb, kind), answer);
        }
        (Read::Namesakes(side, name), Finding::Namesakes(answer)) => {
            world.namesakes.insert((side, name), answer);
        }
        (Read::NodePorts, Finding::Services(answer)) => {
            world.node_ports = Some(answer.map(|services| held_node_ports(&services)));
        }
        (read, _) => unreachable!("{read:?} has an answer of its own shape"),
    }
}

fn changes_of_list(world: &World, events: &mut Events, side: Side, kind: Kind, answer: &Result<Vec<Object>, Unknown>) {
    match answer {
        Ok(objects) => {
            for object in objects {
                events.write_if(change(world, side, kind, object.name(), Some(object)));
            }
            let listed: BTreeSet<&str> = objects.iter().map(Object::name).collect();
            for gone in world.objects(side, kind).filter(|known| !listed.contains(known.name())) {
                events.write(Event::object(side, kind, gone.name(), "gone"));
            }
        }
        Err(unknown) => events.write(Event::unanswered(side, kind, None, unknown)),
    }
}

/// Returns who holds which node port, as `namespace/name`; load balancers hold some too.
fn held_node_ports(services: &[Object]) -> BTreeMap<i64, String> {
    let holder =
        |service: &Object| format!("{}/{}", service.text("/metadata/namespace").unwrap_or_default(), service.name());
    let ports = |service: &Object| -> Vec<i64> {
        let health = service.at("/spec/healthCheckNodePort").and_then(serde_json::Value::as_i64);
        let ports = service.array("/spec/ports").iter().filter_map(|port| port["nodePort"].as_i64());
        ports.chain(health).collect()
    };
    services.iter().flat_map(|service| ports(service).into_iter().map(|port| (port, holder(service)))).collect()
}

/// Returns the event of a fact that changed, none when it is what was known.
fn change(world: &World, side: Side, kind: Kind, name: &str, found: Option<&Object>) -> Option<Event> {
    let what = match (world.get(side, kind, name), found) {
        (Answer::Present { object, .. }, Some(found)) if object.uid() != found.uid() => "replaced",
        (Answer::Present { object, .. }, Some(found)) if object.resource_version() != found.resource_version() => {
            "changed"
        }
        (Answer::Present { .. }, Some(_)) | (Answer::Absent { .. }, None) => return None,
        (Answer::Present { .. }, None) => "gone",
        (_, Some(_)) => "seen",
        (_, None) => "absent",
    };
    Some(Event::object(side, kind, name, what))
}

/// Tells EC2 the zones that the volumes' PersistentVolumes name, in case that nothing else says the region.
fn suggest_zones(endpoints: &Endpoints, world: &World, ids: &BTreeSet<VolumeId>) {
    const ZONE: &str = "topology.kubernetes.io/zone";
    for side in Side::BOTH {
        for volume in world.objects(side, Kind::PersistentVolume) {
            if !volume.volume_id().is_some_and(|id| ids.contains(&id)) {
                continue;
            }
            let terms = volume.array("/spec/nodeAffinity/required/nodeSelectorTerms").iter();
            let expressions = terms.filter_map(|term| term["matchExpressions"].as_array()).flatten();
            let affine = expressions
                .filter(|expression| expression["key"].as_str().is_some_and(|key| key.ends_with("/zone")))
                .find_map(|expression| expression["values"][0].as_str());
            let in_tree = volume.text("/spec/awsElasticBlockStore/volumeID");
            let in_tree = in_tree.and_then(|id| id.strip_prefix("aws://")?.split('/').next());
            if let Some(zone) = affine.or_else(|| volume.label(ZONE)).or(in_tree) {
                endpoints.ec2.suggest_zone(zone);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_single_read_that_fails_does_not_leave_a_list_that_looks_complete() {
        let mut world = World::default();
        let mut events = Events::default();
        let pod = Object(json!({ "metadata": { "name": "web-0", "uid": "u" } }));
        let side = Side::Source;
        take_in(&mut world, &mut events, 1, Read::List(side, Kind::Pod), Finding::List(Ok(vec![pod])));
        let unknown = Unknown { reason: "HTTP 500".to_owned(), passing: true };
        let read = Read::Get(side, Kind::Pod, "web-0".to_owned());
        take_in(&mut world, &mut events, 2, read, Finding::Object(Err(unknown.clone())));
        assert!(matches!(world.get(side, Kind::Pod, "web-0"), Answer::Unknown(_)));
        assert_eq!(world.shelf(side, Kind::Pod).and_then(crate::world::Shelf::listed), Some(Err(&unknown)));
    }
}
