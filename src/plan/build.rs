//! From the world to the plan.
//!
//! Everything is found by name, uid and owner, never by label (SS-11). What could not be read is never
//! taken as absent: the plan is not made then.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::services::WORKLOADS;
use super::{
    Choices, IdleClaims, MIGRATION_ANNOTATION, Order, OrdinalPlan, PLAN_VERSION, Plan, RECLAIM_POLICY_ANNOTATION,
    Request, ServiceKinship, ServicePlan, SetPlan, VolumePlan, kinship, migration_id, node_ports, same_meaning,
    short_hash,
};
use crate::record::Subject;
use crate::world::{Answer, Ec2Volume, Kind, Object, Read, Side, VolumeId, World, claim_name, idle_claims};

/// Kinds of A that a plan is made of, besides the workloads that kinship looks at.
const SOURCE_KINDS: [Kind; 7] = [
    Kind::PersistentVolumeClaim,
    Kind::PersistentVolume,
    Kind::Pod,
    Kind::Service,
    Kind::Ingress,
    Kind::ControllerRevision,
    Kind::Node,
];

/// Kinds of B that a plan is made of.
const DESTINATION_KINDS: [Kind; 4] = [Kind::PersistentVolume, Kind::Service, Kind::Ingress, Kind::Node];

/// Longest name that an object may have.
const NAME_LIMIT: usize = 253;

/// Kinds of A and B that the plan of a single claim is made of.
const CLAIM_KINDS: [(Side, Kind); 3] = [
    (Side::Source, Kind::PersistentVolumeClaim),
    (Side::Source, Kind::PersistentVolume),
    (Side::Destination, Kind::PersistentVolume),
];

/// Returns the reads that [`build`] still needs, empty when all are there or were answered with an error.
pub fn needed(request: &Request, world: &World) -> Vec<Read> {
    let mut reads: Vec<Read> = lists(request.subject)
        .into_iter()
        .filter(|(side, kind)| world.shelf(*side, *kind).and_then(|shelf| shelf.listed()).is_none())
        .map(|(side, kind)| Read::List(side, kind))
        .collect();
    let Some(moved) = world.object(Side::Source, request.subject.kind(), &request.name) else { return reads };
    let has_node_ports = world.objects(Side::Source, Kind::Service).any(|service| node_ports(service).next().is_some());
    if has_node_ports && world.node_ports.is_none() {
        reads.push(Read::NodePorts);
    }
    let claims = match request.subject {
        Subject::Set => claims_to_read(moved, world),
        Subject::Claim => vec![moved],
    };
    let unread: BTreeSet<VolumeId> = claims
        .iter()
        .filter_map(|claim| volume_of(claim, world)?.volume_id())
        .filter(|id| world.volumes.get(id).is_none_or(|facts| facts.latest().is_none()))
        .collect();
    if !unread.is_empty() {
        reads.push(Read::Volumes(unread.into_iter().collect()));
    }
    reads
}

fn lists(subject: Subject) -> Vec<(Side, Kind)> {
    match subject {
        Subject::Claim => CLAIM_KINDS.to_vec(),
        Subject::Set => {
            let source = WORKLOADS.into_iter().chain(SOURCE_KINDS).map(|kind| (Side::Source, kind));
            source.chain(DESTINATION_KINDS.into_iter().map(|kind| (Side::Destination, kind))).collect()
        }
    }
}

/// Makes the plan of a migration.
///
/// # Errors
/// Something is missing or cannot be translated; preflight finds the same and says what to type.
pub fn build(request: &Request, attempt: u32, world: &World) -> Result<Plan> {
    for (side, kind) in lists(request.subject) {
        match world.shelf(side, kind).and_then(|shelf| shelf.listed()) {
            Some(Ok(_)) => {}
            Some(Err(unknown)) => bail!("list {kind}s in the {side} cluster: {}", unknown.reason),
            None => bail!("{kind}s in the {side} cluster were not listed"),
        }
    }
    let moved = expect(world, Side::Source, request.subject.kind(), &request.name)?;
    let id = request.id.clone().unwrap_or_else(|| migration_id(&request.source, moved.uid(), &request.destination));
    let mut plan = Plan {
        version: PLAN_VERSION,
        id,
        attempt,
        source: request.source.clone(),
        destination: request.destination.clone(),
        choices: Choices {
            // That a person chooses is preflight's to ask for (PF-34).
            order: request.order.unwrap_or(Order::OneByOne),
            storage_class_map: request.storage_class_map.clone(),
            force: request.force,
            create_namespace: request.create_namespace,
            idle_claims: request.idle_claims,
        },
        sets: Vec::new(),
    };
    let set = match request.subject {
        Subject::Set => set_plan(&plan, moved, world)?,
        Subject::Claim => claim_plan(&plan, moved.name(), world)?,
    };
    plan.sets.push(set);
    Ok(plan)
}

/// Returns the part of the plan for a single claim: no set, and the claim as an idle one.
fn claim_plan(plan: &Plan, claim: &str, world: &World) -> Result<SetPlan> {
    Ok(SetPlan {
        name: claim.to_owned(),
        before: Object(Value::Null),
        start: 0,
        ordinals: Vec::new(),
        idle: vec![volume_plan(plan, claim, world)?],
        services: Vec::new(),
        revisions: Vec::new(),
    })
}

fn set_plan(plan: &Plan, set: &Object, world: &World) -> Result<SetPlan> {
    let start = set.first_ordinal();
    let ordinals = (start..start + set.replicas())
        .map(|ordinal| {
            let names = ordinal_claims(set, ordinal, world)?;
            let volumes = names.iter().map(|name| volume_plan(plan, name, world)).collect::<Result<_>>()?;
            Ok(OrdinalPlan { ordinal, volumes })
        })
        .collect::<Result<Vec<_>>>()?;
    let found_idle = idle_claims(set, Side::Source, world);
    let idle = match plan.choices.idle_claims {
        IdleClaims::Include => {
            found_idle.iter().map(|claim| volume_plan(plan, claim.name(), world)).collect::<Result<_>>()?
        }
        IdleClaims::Undecided | IdleClaims::Leave => Vec::new(),
    };
    ensure!(
        ordinals.iter().any(|ordinal| !ordinal.volumes.is_empty()) || !found_idle.is_empty(),
        "StatefulSet `{}` has no claim on an EBS volume: there is nothing to hand over, its manifest can be applied \
         in the destination as it is",
        set.name()
    );
    let set_plan = SetPlan {
        name: set.name().to_owned(),
        before: image(Kind::StatefulSet, set),
        start,
        ordinals,
        idle,
        services: services(plan, set, world),
        revisions: world
            .objects(Side::Source, Kind::ControllerRevision)
            .filter(|revision| revision.owners().any(|owner| owner.uid == set.uid()))
            .map(|revision| revision.uid().to_owned())
            .collect(),
    };
    refuse_twins(&set_plan)?;
    Ok(set_plan)
}

/// Returns the claims of one ordinal: of every template, then, of a set with one replica, those that the
/// pod template names itself, if they are EBS (§1.3).
fn ordinal_claims(set: &Object, ordinal: i64, world: &World) -> Result<Vec<String>> {
    let mut names: Vec<String> =
        set.claim_templates().map(|template| claim_name(template, set.name(), ordinal)).collect();
    if set.replicas() != 1 {
        return Ok(names);
    }
    for name in set.plain_claims() {
        let claim = expect(world, Side::Source, Kind::PersistentVolumeClaim, name)?;
        let volume = bound_volume(claim, world)?;
        if volume.volume_id().is_some() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Returns the claims that may become part of the plan, as far as they are there.
fn claims_to_read<'a>(set: &'a Object, world: &'a World) -> Vec<&'a Object> {
    let start = set.first_ordinal();
    let in_range = (start..start + set.replicas())
        .flat_map(|ordinal| set.claim_templates().map(move |template| claim_name(template, set.name(), ordinal)));
    let plain = set.plain_claims().into_iter().filter(|_| set.replicas() == 1).map(str::to_owned);
    let mut claims: Vec<&Object> = in_range
        .chain(plain)
        .filter_map(|name| world.object(Side::Source, Kind::PersistentVolumeClaim, &name))
        .collect();
    claims.extend(idle_claims(set, Side::Source, world));
    claims
}

fn volume_of<'a>(claim: &Object, world: &'a World) -> Option<&'a Object> {
    world.object(Side::Source, Kind::PersistentVolume, claim.text("/spec/volumeName")?)
}

fn bound_volume<'a>(claim: &Object, world: &'a World) -> Result<&'a Object> {
    let name = claim
        .text("/spec/volumeName")
        .filter(|name| !name.is_empty())
        .with_context(|| format!("PersistentVolumeClaim `{}` is not bound", claim.name()))?;
    expect(world, Side::Source, Kind::PersistentVolume, name)
        .with_context(|| format!("find the volume of PersistentVolumeClaim `{}`", claim.name()))
}

fn volume_plan(plan: &Plan, claim: &str, world: &World) -> Result<VolumePlan> {
    let claim = expect(world, Side::Source, Kind::PersistentVolumeClaim, claim)?;
    let volume = bound_volume(claim, world)?;
    let id = volume.volume_id().with_context(|| {
        format!("PersistentVolume `{}` of PersistentVolumeClaim `{}` is no EBS volume", volume.name(), claim.name())
    })?;
    let ec2 = ec2_volume(&id, volume.name(), world)?;
    Ok(VolumePlan {
        claim: claim.name().to_owned(),
        source_volume_name: volume.name().to_owned(),
        destination_volume_name: destination_name(plan, volume.name(), world),
        zone: ec2.zone.clone(),
        size_gib: ec2.size_gib,
        volume: id,
        claim_before: image(Kind::PersistentVolumeClaim, claim),
        volume_before: image(Kind::PersistentVolume, volume),
        reclaim_policy: reclaim_policy(volume).to_owned(),
    })
}

fn ec2_volume<'a>(id: &VolumeId, volume: &str, world: &'a World) -> Result<&'a Ec2Volume> {
    match world.volumes.get(id).and_then(|facts| facts.latest()) {
        Some(Ok((_, Some(found)))) => Ok(found),
        Some(Ok((_, None))) => Err(anyhow!("EC2 knows no volume `{id}`, that of PersistentVolume `{volume}`")),
        Some(Err(unknown)) => Err(anyhow!("describe volume `{id}` of PersistentVolume `{volume}`: {}", unknown.reason)),
        None => Err(anyhow!("volume `{id}` of PersistentVolume `{volume}` was not described")),
    }
}

/// Returns the PV's reclaim policy before any migration: an earlier attempt may have left `Retain`, and
/// then says in an annotation what was there before (§3.1).
fn reclaim_policy(volume: &Object) -> &str {
    // Who creates a PV and names no policy gets `Retain`.
    let live = volume.text("/spec/persistentVolumeReclaimPolicy").unwrap_or("Retain");
    let noted = volume.annotation(RECLAIM_POLICY_ANNOTATION).filter(|noted| ["Delete", "Retain"].contains(noted));
    noted.filter(|_| live == "Retain").unwrap_or(live)
}

/// Returns the PV's name in B: the same if it is free there, else one that any laptop derives alike (PV-7).
fn destination_name(plan: &Plan, name: &str, world: &World) -> String {
    let is_free = |candidate: &str| {
        let found = world.object(Side::Destination, Kind::PersistentVolume, candidate);
        found.is_none_or(|found| found.annotation(MIGRATION_ANNOTATION) == Some(plan.mark().as_str()))
    };
    if is_free(name) {
        return name.to_owned();
    }
    let derived = |number: u32| {
        let hash = short_hash(&[&plan.id, name, &number.to_string()]);
        let stem: String = name.chars().take(NAME_LIMIT - 1 - hash.len()).collect();
        format!("{}-{hash}", stem.trim_end_matches(['-', '.']))
    };
    (0..).map(derived).find(|candidate| is_free(candidate)).expect("B has finitely many volumes")
}

/// Returns the Services and Ingresses to carry over, the governing one first.
fn services(plan: &Plan, set: &Object, world: &World) -> Vec<ServicePlan> {
    let mut found: Vec<ServicePlan> = [Kind::Service, Kind::Ingress]
        .into_iter()
        .flat_map(|kind| world.objects(Side::Source, kind).map(move |object| image(kind, object)))
        .filter(|object| !object.is_terminating())
        .filter_map(|before| {
            let at_cutover = match kinship(set, &before, world) {
                ServiceKinship::OwnQuiet => false,
                ServiceKinship::OwnPublishing => true,
                ServiceKinship::Shared | ServiceKinship::Unrelated => return None,
            };
            let mut service = ServicePlan { before, at_cutover, existing: false, taken_node_ports: Vec::new() };
            service.existing = world
                .object(Side::Destination, service.kind(), service.before.name())
                .filter(|there| !there.is_terminating())
                .filter(|there| there.annotation(MIGRATION_ANNOTATION) != Some(plan.mark().as_str()))
                .is_some_and(|there| same_meaning(&service.before, there));
            if plan.choices.force && !service.existing {
                let is_taken = |port: &i64| world.node_port_holder(*port).is_some();
                service.taken_node_ports = node_ports(&service.before).filter(is_taken).collect();
            }
            Some(service)
        })
        .collect();
    let governing = set.text("/spec/serviceName").unwrap_or_default();
    found.sort_by_key(|service| service.kind() != Kind::Service || service.before.name() != governing);
    found
}

/// Two claims on one volume cannot move apart, and EC2's single attach would not tell them apart (PV-6).
fn refuse_twins(set: &SetPlan) -> Result<()> {
    let mut claims: BTreeMap<&VolumeId, &str> = BTreeMap::new();
    for volume in set.volumes() {
        if let Some(other) = claims.insert(&volume.volume, &volume.claim) {
            bail!("PersistentVolumeClaims `{other}` and `{}` use one volume, `{}`", volume.claim, volume.volume);
        }
    }
    Ok(())
}

/// Returns an object as the plan keeps it: items of a list do not always say what they are.
fn image(kind: Kind, object: &Object) -> Object {
    let mut image = object.clone();
    if let Some(fields) = image.0.as_object_mut() {
        fields.insert("apiVersion".to_owned(), Value::from(kind.api_version()));
        fields.insert("kind".to_owned(), Value::from(kind.name()));
    }
    image
}

fn expect<'a>(world: &'a World, side: Side, kind: Kind, name: &str) -> Result<&'a Object> {
    match world.get(side, kind, name) {
        Answer::Present { object, .. } => Ok(object),
        Answer::Absent { .. } => Err(anyhow!("there is no {kind} `{name}` in the {side} cluster")),
        Answer::Unread => Err(anyhow!("{kind} `{name}` in the {side} cluster was not read")),
        Answer::Unknown(unknown) => Err(anyhow!("read {kind} `{name}` in the {side} cluster: {}", unknown.reason)),
    }
}

#[cfg(test)]
mod tests;
