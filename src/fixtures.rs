//! Sample objects for tests: a set `web` in cluster A as its API server would show it, and its plan.
//!
//! Everything hangs on the plan: [`plan`] makes it, the other functions show the world that it was
//! made from.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::plan::{
    Choices, IdleClaims, Order, OrdinalPlan, PLAN_VERSION, Place, Plan, Request, ServicePlan, SetPlan, VolumePlan,
    migration_id,
};
use crate::record::Subject;
use crate::world::{
    Attachment, AttachmentState, Ec2Volume, Kind, Object, Side, VolumeFacts, VolumeId, VolumeState, World,
};

mod objects;

use objects::{
    attachment_json, csi_driver_json, csi_node_json, governing_service_json, namespace_json, nodes, pod_json,
    revision_json, set_json, storage_class_json,
};
pub(crate) use objects::{claim_json, labels, volume_json};

/// Name of the set.
pub(crate) const SET: &str = "web";

/// Uid of the set in A.
pub(crate) const SET_UID: &str = "5e700000-0000-4000-8000-000000000001";

/// Uid of its only ControllerRevision in A.
pub(crate) const REVISION_UID: &str = "4e700000-0000-4000-8000-000000000001";

/// Name of that revision, and the pods' label `controller-revision-hash`.
pub(crate) const REVISION: &str = "web-7d9f5c8b6";

/// Uid of `kube-system` in A.
pub(crate) const CLUSTER_A: &str = "a0000000-0000-4000-8000-000000000001";

/// Uid of `kube-system` in B.
pub(crate) const CLUSTER_B: &str = "b0000000-0000-4000-8000-000000000001";

/// Namespace in A.
pub(crate) const NAMESPACE_A: &str = "shop";

/// Namespace in B; another one, so that a mix-up shows.
pub(crate) const NAMESPACE_B: &str = "market";

/// StorageClass of the claims, in both clusters.
pub(crate) const CLASS: &str = "gp3";

/// Returns the request that [`plan`] answers.
pub(crate) fn request() -> Request {
    let place = |uid: &str, context: &str, namespace: &str| Place {
        cluster_uid: uid.to_owned(),
        context: context.to_owned(),
        namespace: namespace.to_owned(),
    };
    Request {
        id: None,
        subject: Subject::Set,
        name: SET.to_owned(),
        source: place(CLUSTER_A, "a", NAMESPACE_A),
        destination: place(CLUSTER_B, "b", NAMESPACE_B),
        order: Some(Order::OneByOne),
        storage_class_map: BTreeMap::new(),
        force: false,
        create_namespace: false,
        idle_claims: IdleClaims::Undecided,
    }
}

/// Returns the plan for a set with so many replicas and claim templates, one by one.
pub(crate) fn plan(replicas: i64, templates: usize) -> Plan {
    plan_from(0, replicas, templates)
}

/// Returns the same with another first ordinal.
pub(crate) fn plan_from(start: i64, replicas: i64, templates: usize) -> Plan {
    let request = request();
    let ordinals = (start..start + replicas)
        .map(|ordinal| OrdinalPlan {
            ordinal,
            volumes: (0..templates).map(|template| volume_plan(ordinal, template)).collect(),
        })
        .collect();
    Plan {
        version: PLAN_VERSION,
        id: migration_id(&request.source, SET_UID, &request.destination),
        attempt: 1,
        source: request.source,
        destination: request.destination,
        choices: Choices {
            order: Order::OneByOne,
            storage_class_map: BTreeMap::new(),
            force: false,
            create_namespace: false,
            idle_claims: IdleClaims::Undecided,
        },
        sets: vec![SetPlan {
            name: SET.to_owned(),
            before: Object(set_json(start, replicas, templates)),
            start,
            ordinals,
            idle: Vec::new(),
            services: vec![ServicePlan {
                before: Object(governing_service_json()),
                at_cutover: false,
                existing: false,
                taken_node_ports: Vec::new(),
            }],
            revisions: vec![REVISION_UID.to_owned()],
        }],
    }
}

/// Returns the plan for a single claim that no set owns.
pub(crate) fn claim_plan() -> Plan {
    let mut plan = plan(1, 1);
    let set = &mut plan.sets[0];
    set.idle = std::mem::take(&mut set.ordinals).remove(0).volumes;
    set.name = set.idle[0].claim.clone();
    set.before = Object(Value::Null);
    set.services.clear();
    set.revisions.clear();
    plan
}

/// Returns what A's API server shows before anything is done: namespaces, nodes, the set, its
/// revision, Service, pods, claims, PVs and VolumeAttachments.
pub(crate) fn source_objects(plan: &Plan) -> Vec<(Kind, Object)> {
    let mut objects = vec![
        (Kind::Namespace, namespace_json("kube-system", CLUSTER_A)),
        (Kind::Namespace, namespace_json(&plan.source.namespace, "a0000000-0000-4000-8000-000000000002")),
        (Kind::StorageClass, storage_class_json(CLASS)),
    ];
    objects.extend(nodes(Side::Source));
    for set in &plan.sets {
        if plan.subject() == Subject::Set {
            objects.push((Kind::StatefulSet, set.before.0.clone()));
            objects.push((Kind::ControllerRevision, revision_json(set.uid())));
        }
        for service in &set.services {
            let kind = match service.before.text("/kind") {
                Some("Ingress") => Kind::Ingress,
                _ => Kind::Service,
            };
            objects.push((kind, service.before.0.clone()));
        }
        for ordinal in &set.ordinals {
            objects.push((Kind::Pod, pod_json(set, ordinal.ordinal)));
        }
        for volume in set.volumes() {
            objects.push((Kind::PersistentVolumeClaim, volume.claim_before.0.clone()));
            objects.push((Kind::PersistentVolume, volume.volume_before.0.clone()));
        }
        for ordinal in &set.ordinals {
            let node = node_name(Side::Source, ordinal.ordinal);
            for volume in &ordinal.volumes {
                objects.push((Kind::VolumeAttachment, attachment_json(&volume.source_volume_name, &node)));
            }
        }
    }
    objects.into_iter().map(|(kind, value)| (kind, Object(value))).collect()
}

/// Returns what B's API server shows before anything is done.
pub(crate) fn destination_objects(plan: &Plan) -> Vec<(Kind, Object)> {
    let mut objects = vec![
        (Kind::Namespace, namespace_json("kube-system", CLUSTER_B)),
        (Kind::Namespace, namespace_json(&plan.destination.namespace, "b0000000-0000-4000-8000-000000000002")),
        (Kind::StorageClass, storage_class_json(CLASS)),
    ];
    objects.extend(nodes(Side::Destination));
    objects.push((Kind::CsiDriver, csi_driver_json("ebs.csi.aws.com")));
    objects.extend([0, 1].map(|number| (Kind::CsiNode, csi_node_json(&node_name(Side::Destination, number)))));
    objects.into_iter().map(|(kind, value)| (kind, Object(value))).collect()
}

/// Returns what EC2 says of the volumes before anything is done: those of the ordinals attached to
/// their nodes in A, idle ones available.
pub(crate) fn volumes(plan: &Plan) -> BTreeMap<VolumeId, Ec2Volume> {
    let mut volumes = BTreeMap::new();
    for set in &plan.sets {
        for ordinal in &set.ordinals {
            for volume in &ordinal.volumes {
                let instance = instance_id(Side::Source, ordinal.ordinal);
                volumes.insert(volume.volume.clone(), ec2_volume(volume, Some(instance)));
            }
        }
        for volume in &set.idle {
            volumes.insert(volume.volume.clone(), ec2_volume(volume, None));
        }
    }
    volumes
}

/// Returns the world before anything is done, every kind completely listed on both sides.
pub(crate) fn world(plan: &Plan) -> World {
    let mut world = World::default();
    world.seq = 1;
    for (side, objects) in [(Side::Source, source_objects(plan)), (Side::Destination, destination_objects(plan))] {
        for kind in ALL_KINDS {
            let of_kind = objects.iter().filter(|(found, _)| *found == kind).map(|(_, object)| object.clone());
            world.shelf_mut(side, kind).put_list(1, of_kind);
        }
    }
    for (id, volume) in volumes(plan) {
        let mut facts = VolumeFacts::default();
        facts.put(1, Ok(Some(volume)));
        world.volumes.insert(id, facts);
    }
    world
}

/// All kinds that a world may hold.
pub(crate) const ALL_KINDS: [Kind; 32] = [
    Kind::Application,
    Kind::ConfigMap,
    Kind::ControllerRevision,
    Kind::CronJob,
    Kind::CsiDriver,
    Kind::CsiNode,
    Kind::DaemonSet,
    Kind::Deployment,
    Kind::HelmRelease,
    Kind::HorizontalPodAutoscaler,
    Kind::Ingress,
    Kind::Job,
    Kind::Kustomization,
    Kind::Lease,
    Kind::Namespace,
    Kind::NetworkPolicy,
    Kind::Node,
    Kind::PersistentVolume,
    Kind::PersistentVolumeClaim,
    Kind::Pod,
    Kind::PodDisruptionBudget,
    Kind::PriorityClass,
    Kind::RoleBinding,
    Kind::RuntimeClass,
    Kind::ScaledObject,
    Kind::Secret,
    Kind::Service,
    Kind::ServiceAccount,
    Kind::StatefulSet,
    Kind::StorageClass,
    Kind::VerticalPodAutoscaler,
    Kind::VolumeAttachment,
];

/// Returns the name of a claim template: `data`, `logs`, then `extra-2`, …
pub(crate) fn template_name(template: usize) -> String {
    match template {
        0 => "data".to_owned(),
        1 => "logs".to_owned(),
        more => format!("extra-{more}"),
    }
}

/// Returns the volume of an ordinal and template as a plan has it.
pub(crate) fn volume_plan(ordinal: i64, template: usize) -> VolumePlan {
    let claim = format!("{}-{SET}-{ordinal}", template_name(template));
    let volume = VolumeId(format!("vol-0{template:08x}{ordinal:08x}"));
    let name = format!("pvc-{}", claim_uid(ordinal, template));
    VolumePlan {
        claim_before: Object(claim_json(ordinal, template)),
        volume_before: Object(volume_json(ordinal, template)),
        claim,
        volume,
        source_volume_name: name.clone(),
        destination_volume_name: name,
        zone: zone(ordinal).to_owned(),
        size_gib: 10,
        reclaim_policy: "Delete".to_owned(),
    }
}

/// Returns the zone of an ordinal: even ones in the first, odd ones in the second.
pub(crate) fn zone(ordinal: i64) -> &'static str {
    if ordinal % 2 == 0 { "eu-west-1a" } else { "eu-west-1b" }
}

/// Returns the node that an ordinal's pod runs on, on a side.
pub(crate) fn node_name(side: Side, ordinal: i64) -> String {
    format!("node-{}-{}-1", letter(side), zone(ordinal).trim_start_matches("eu-west-"))
}

/// Returns the instance id of that node.
pub(crate) fn instance_id(side: Side, ordinal: i64) -> String {
    let half = if ordinal % 2 == 0 { "a" } else { "b" };
    format!("i-0{}{half}{:014x}", letter(side), 1)
}

/// Returns uid of the pod of an ordinal in A.
pub(crate) fn pod_uid(ordinal: i64) -> String {
    format!("90d00000-0000-4000-8000-{ordinal:012x}")
}

fn letter(side: Side) -> &'static str {
    match side {
        Side::Source => "a",
        Side::Destination => "b",
    }
}

fn claim_uid(ordinal: i64, template: usize) -> String {
    format!("c1a00000-0000-4000-8{template:03x}-{ordinal:012x}")
}

fn ec2_volume(volume: &VolumePlan, instance: Option<String>) -> Ec2Volume {
    let attachments: Vec<Attachment> = instance
        .into_iter()
        .map(|instance| Attachment { instance, state: AttachmentState::Attached, delete_on_termination: false })
        .collect();
    Ec2Volume {
        state: if attachments.is_empty() { VolumeState::Available } else { VolumeState::InUse },
        attachments,
        zone: volume.zone.clone(),
        size_gib: volume.size_gib,
        volume_type: "gp3".to_owned(),
        multi_attach: false,
        kms_key: None,
        managed: false,
        outpost: None,
        tags: BTreeMap::from([("ebs.csi.aws.com/cluster".to_owned(), "true".to_owned())]),
    }
}
