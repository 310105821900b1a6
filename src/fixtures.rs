//! Sample objects for tests: a set `web` in cluster A as its API server would show it, and its plan.
//!
//! Everything hangs on the plan: [`plan`] makes it, the other functions show the world that it was
//! made from.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::plan::{
    Choices, IdleClaims, Order, OrdinalPlan, PLAN_VERSION, Place, Plan, Request, ServicePlan, SetPlan, VolumePlan,
    migration_id,
};
use crate::record::Subject;
use crate::world::{
    Attachment, AttachmentState, Ec2Volume, Kind, Object, Side, VolumeFacts, VolumeId, VolumeState, World,
};

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

/// Returns what the API server adds to the metadata of every object.
fn metadata(name: &str, namespace: Option<&str>, uid: &str, more: Value) -> Value {
    let mut metadata = json!({
        "name": name,
        "uid": uid,
        "resourceVersion": "1000",
        "creationTimestamp": "2025-01-02T03:04:05Z",
        "managedFields": [{ "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1" }],
    });
    let fields = metadata.as_object_mut().expect("it is a map");
    if let Some(namespace) = namespace {
        fields.insert("namespace".into(), namespace.into());
    }
    fields.extend(more.as_object().cloned().unwrap_or_default());
    metadata
}

fn namespace_json(name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": metadata(name, None, uid, json!({})),
        "spec": { "finalizers": ["kubernetes"] },
        "status": { "phase": "Active" },
    })
}

fn storage_class_json(name: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": metadata(name, None, "5c000000-0000-4000-8000-000000000001", json!({})),
        "provisioner": "ebs.csi.aws.com",
        "parameters": { "type": "gp3" },
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

/// Returns the nodes of a side, one per zone.
fn nodes(side: Side) -> impl Iterator<Item = (Kind, Value)> {
    [0, 1].into_iter().map(move |number| {
        let name = node_name(side, number);
        let uid = format!("40de0000-0000-4000-8000-{}{number:011x}", letter(side));
        let labels = json!({ "labels": { "topology.kubernetes.io/zone": zone(number) } });
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": metadata(&name, None, &uid, labels),
            "spec": { "providerID": format!("aws:///{}/{}", zone(number), instance_id(side, number)) },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }], "volumesInUse": [] },
        });
        (Kind::Node, node)
    })
}

fn csi_driver_json(name: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": metadata(name, None, "c51d0000-0000-4000-8000-000000000001", json!({})),
        "spec": { "attachRequired": true, "fsGroupPolicy": "File", "podInfoOnMount": false },
    })
}

fn csi_node_json(node: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": metadata(node, None, &format!("c510de00-{node}"), json!({})),
        "spec": { "drivers": [{
            "name": "ebs.csi.aws.com",
            "nodeID": node,
            "topologyKeys": ["kubernetes.io/os", "topology.ebs.csi.aws.com/zone", "topology.kubernetes.io/zone"],
            "allocatable": { "count": 25 },
        }] },
    })
}

/// Returns the labels by which the set selects its pods.
pub(crate) fn labels() -> Value {
    json!({ "app.kubernetes.io/name": "web", "app.kubernetes.io/instance": "shop" })
}

fn set_json(start: i64, replicas: i64, templates: usize) -> Value {
    let claim_templates: Vec<Value> = (0..templates)
        .map(|template| {
            json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": { "name": template_name(template), "creationTimestamp": null },
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": { "requests": { "storage": "10Gi" } },
                    "storageClassName": CLASS,
                    "volumeMode": "Filesystem",
                },
                "status": { "phase": "Pending" },
            })
        })
        .collect();
    let mounts: Vec<Value> = (0..templates)
        .map(
            |template| json!({ "name": template_name(template), "mountPath": format!("/{}", template_name(template)) }),
        )
        .collect();
    let mut set = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(SET, Some(NAMESPACE_A), SET_UID, json!({
            "generation": 3,
            "labels": labels(),
            "annotations": {
                "meta.helm.sh/release-name": "shop",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "argocd.argoproj.io/tracking-id": "shop:apps/StatefulSet:shop/web",
            },
        })),
        "spec": {
            "replicas": replicas,
            "serviceName": SET,
            "podManagementPolicy": "OrderedReady",
            "revisionHistoryLimit": 10,
            "selector": { "matchLabels": labels() },
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } },
            "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Retain", "whenScaled": "Delete" },
            "template": {
                "metadata": { "labels": labels() },
                "spec": {
                    "containers": [{ "name": "web", "image": "example.org/web:1", "volumeMounts": mounts }],
                    "terminationGracePeriodSeconds": 30,
                },
            },
            "volumeClaimTemplates": claim_templates,
        },
        "status": {
            "observedGeneration": 3,
            "replicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "currentReplicas": replicas,
            "updatedReplicas": replicas,
            "currentRevision": REVISION,
            "updateRevision": REVISION,
        },
    });
    if start != 0 {
        set["spec"]["ordinals"] = json!({ "start": start });
    }
    set
}

fn owner_json(uid: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": SET,
        "uid": uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

fn revision_json(set_uid: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata(REVISION, Some(NAMESPACE_A), REVISION_UID, json!({
            "labels": labels(),
            "ownerReferences": [owner_json(set_uid)],
        })),
        "revision": 1,
        "data": { "spec": { "template": {} } },
    })
}

fn governing_service_json() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(SET, Some(NAMESPACE_A), "5e4c0000-0000-4000-8000-000000000001", json!({ "labels": labels() })),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "clusterIPs": ["None"],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080 }],
            "publishNotReadyAddresses": true,
            "selector": labels(),
            "sessionAffinity": "None",
        },
        "status": { "loadBalancer": {} },
    })
}

fn pod_json(set: &SetPlan, ordinal: i64) -> Value {
    let name = set.pod_name(ordinal);
    let mut labels = labels();
    labels["apps.kubernetes.io/pod-index"] = ordinal.to_string().into();
    labels["statefulset.kubernetes.io/pod-name"] = name.clone().into();
    labels["controller-revision-hash"] = REVISION.into();
    let volumes: Vec<Value> = set
        .before
        .array("/spec/volumeClaimTemplates")
        .iter()
        .map(|template| {
            let template = template["metadata"]["name"].as_str().expect("templates have names");
            let claim = format!("{template}-{}-{ordinal}", set.name);
            json!({ "name": template, "persistentVolumeClaim": { "claimName": claim } })
        })
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(&name, Some(NAMESPACE_A), &pod_uid(ordinal), json!({
            "labels": labels,
            "ownerReferences": [owner_json(set.uid())],
        })),
        "spec": {
            "nodeName": node_name(Side::Source, ordinal),
            "hostname": name,
            "subdomain": SET,
            "terminationGracePeriodSeconds": 30,
            "containers": [{ "name": "web", "image": "example.org/web:1" }],
            "volumes": volumes,
        },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

/// Returns A's claim of an ordinal and template.
pub(crate) fn claim_json(ordinal: i64, template: usize) -> Value {
    let name = format!("{}-{SET}-{ordinal}", template_name(template));
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(&name, Some(NAMESPACE_A), &claim_uid(ordinal, template), json!({
            "labels": labels(),
            "annotations": {
                "pv.kubernetes.io/bind-completed": "yes",
                "pv.kubernetes.io/bound-by-controller": "yes",
                "volume.kubernetes.io/storage-provisioner": "ebs.csi.aws.com",
                "volume.beta.kubernetes.io/storage-provisioner": "ebs.csi.aws.com",
                "volume.kubernetes.io/selected-node": node_name(Side::Source, ordinal),
                "example.org/note": "kept",
            },
            "finalizers": ["kubernetes.io/pvc-protection"],
        })),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "10Gi" } },
            "storageClassName": CLASS,
            "volumeMode": "Filesystem",
            "volumeName": format!("pvc-{}", claim_uid(ordinal, template)),
        },
        "status": {
            "phase": "Bound",
            "accessModes": ["ReadWriteOnce"],
            "capacity": { "storage": "10Gi" },
        },
    })
}

/// Returns A's PersistentVolume of an ordinal and template, as the CSI provisioner makes it.
pub(crate) fn volume_json(ordinal: i64, template: usize) -> Value {
    let claim = format!("{}-{SET}-{ordinal}", template_name(template));
    let uid = format!("97000000-0000-4000-8{template:03x}-{ordinal:012x}");
    let name = format!("pvc-{}", claim_uid(ordinal, template));
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": metadata(&name, None, &uid, json!({
            "annotations": {
                "pv.kubernetes.io/provisioned-by": "ebs.csi.aws.com",
                "volume.kubernetes.io/provisioner-deletion-secret-name": "",
                "volume.kubernetes.io/provisioner-deletion-secret-namespace": "",
                "example.org/note": "kept",
            },
            "finalizers": [
                "external-provisioner.volume.kubernetes.io/finalizer",
                "kubernetes.io/pv-protection",
                "external-attacher/ebs-csi-aws-com",
            ],
        })),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": { "storage": "10Gi" },
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": claim,
                "namespace": NAMESPACE_A,
                "resourceVersion": "900",
                "uid": claim_uid(ordinal, template),
            },
            "csi": {
                "driver": "ebs.csi.aws.com",
                "fsType": "ext4",
                "volumeAttributes": {
                    "storage.kubernetes.io/csiProvisionerIdentity": "1735787045000-1-ebs.csi.aws.com",
                },
                "volumeHandle": format!("vol-0{template:08x}{ordinal:08x}"),
            },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone(ordinal)] },
            ] }] } },
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "volumeMode": "Filesystem",
        },
        "status": { "phase": "Bound" },
    })
}

fn attachment_json(volume: &str, node: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": metadata(&format!("csi-{volume}"), None, &format!("va-{volume}"), json!({})),
        "spec": { "attacher": "ebs.csi.aws.com", "nodeName": node, "source": { "persistentVolumeName": volume } },
        "status": { "attached": true },
    })
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
