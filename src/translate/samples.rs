//! Arbitrary objects of A for the property tests: what provisioners, users and older versions make.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::metadata::BIND_ANNOTATIONS;
use crate::fixtures;
use crate::plan::{Plan, ServicePlan, SetPlan, VolumePlan};
use crate::world::{CLASS_ANNOTATION, Object};

/// Labels and annotations that users set, and that must arrive.
pub(super) const KEPT_KEYS: [&str; 6] = [
    "example.org/note",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "meta.helm.sh/release-name",
    "karpenter.sh/do-not-disrupt",
    "argocd.example.org/like",
];

/// Labels and annotations that must not arrive in B.
pub(super) const DROPPED_KEYS: [&str; 6] = [
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/instance",
    "kustomize.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/namespace",
    "sts-migrate.io/migration",
    "sts-migrate.io/reclaim-policy",
];

/// Returns any JSON value, as a newer API version might bring it.
fn unknown_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        select(vec!["", "a", "text"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(select(vec!["a", "b"]), inner, 0..3)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Value>()),
        ]
    })
}

/// Returns fields that no struct of today knows.
pub(super) fn unknown_fields() -> impl Strategy<Value = Map<String, Value>> {
    let keys = select(vec!["unknownField", "unknownList", "unknownMap"]);
    btree_map(keys, unknown_value(), 0..3)
        .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn class() -> impl Strategy<Value = Option<&'static str>> {
    option::of(select(vec!["", "gp2", "gp3", "io2"]))
}

/// Returns metadata as the API server shows it, with all that must not be carried along.
fn metadata(name: String, namespace: Option<&'static str>) -> impl Strategy<Value = Value> {
    let keys = || {
        let all: Vec<&str> = KEPT_KEYS.into_iter().chain(DROPPED_KEYS).collect();
        subsequence(all, 0..=KEPT_KEYS.len() + DROPPED_KEYS.len())
    };
    let bind = subsequence(BIND_ANNOTATIONS.to_vec(), 0..=BIND_ANNOTATIONS.len());
    let last_applied = any::<bool>();
    (keys(), keys(), bind, any::<bool>(), last_applied, any::<bool>(), unknown_fields()).prop_map(
        move |(labels, annotations, bind, owned, last_applied, is_terminating, unknown)| {
            let pairs = |keys: Vec<&str>| keys.into_iter().map(|key| (key.to_owned(), Value::from("v"))).collect();
            let mut annotations: Map<String, Value> = pairs(annotations);
            annotations.extend(pairs(bind));
            if last_applied {
                annotations.insert("kubectl.kubernetes.io/last-applied-configuration".to_owned(), "{}".into());
            }
            let labels: Map<String, Value> = pairs(labels);
            let mut metadata = json!({
                "name": name,
                "uid": "uid-of-a",
                "resourceVersion": "77",
                "generation": 4,
                "creationTimestamp": "2025-01-02T03:04:05Z",
                "managedFields": [{ "manager": "x" }],
                "selfLink": "/api/v1/x",
                "labels": labels,
                "annotations": annotations,
            });
            if let Some(namespace) = namespace {
                metadata["namespace"] = namespace.into();
            }
            if owned {
                metadata["ownerReferences"] =
                    json!([{ "kind": "Widget", "name": "w", "uid": "u", "controller": true }]);
                metadata["finalizers"] = json!(["kubernetes.io/pv-protection", "example.org/hold"]);
            }
            if is_terminating {
                metadata["deletionTimestamp"] = "2025-01-02T03:04:05Z".into();
                metadata["deletionGracePeriodSeconds"] = 0.into();
            }
            metadata.as_object_mut().expect("it is a map").extend(unknown);
            metadata
        },
    )
}

/// Returns the source of a PV's data: the CSI form, or the in-tree one.
fn source() -> impl Strategy<Value = (&'static str, Value)> {
    let file_system = option::of(select(vec!["ext4", "xfs", ""]));
    let attributes = btree_map(
        select(vec!["partition", "blocksize", "inodesize", "encrypted"]),
        select(vec!["0", "1", "4096"]),
        0..4,
    );
    let csi = (file_system.clone(), option::of(any::<bool>()), option::of(attributes), any::<bool>(), unknown_fields())
        .prop_map(|(file_system, read_only, attributes, identity, unknown)| {
            let mut csi = json!({ "driver": "ebs.csi.aws.com", "volumeHandle": "vol-0123456789abcdef0" });
            if let Some(attributes) = attributes {
                csi["volumeAttributes"] = json!(attributes);
                if identity {
                    csi["volumeAttributes"]["storage.kubernetes.io/csiProvisionerIdentity"] = "1-ebs".into();
                }
            }
            csi["nodeStageSecretRef"] = json!({ "name": "key", "namespace": "storage" });
            common_source(csi, file_system, read_only, unknown)
        })
        .prop_map(|csi| ("csi", csi));
    let handle =
        select(vec!["vol-0123456789abcdef0", "aws://eu-west-1a/vol-0123456789abcdef0", "aws:///vol-0123456789abcdef0"]);
    let in_tree = (file_system, option::of(any::<bool>()), handle, option::of(0..5_i64))
        .prop_map(|(file_system, read_only, handle, partition)| {
            let mut source = json!({ "volumeID": handle });
            if let Some(partition) = partition {
                source["partition"] = partition.into();
            }
            common_source(source, file_system, read_only, Map::new())
        })
        .prop_map(|source| ("awsElasticBlockStore", source));
    prop_oneof![3 => csi, 1 => in_tree]
}

fn common_source(
    mut source: Value,
    file_system: Option<&str>,
    read_only: Option<bool>,
    unknown: Map<String, Value>,
) -> Value {
    if let Some(file_system) = file_system {
        source["fsType"] = file_system.into();
    }
    if let Some(read_only) = read_only {
        source["readOnly"] = read_only.into();
    }
    source.as_object_mut().expect("it is a map").extend(unknown);
    source
}

/// Returns a volume of a plan with arbitrary PV and claim.
pub(super) fn volume_plan() -> impl Strategy<Value = VolumePlan> {
    let pv = (
        metadata("pvc-1".to_owned(), None),
        source(),
        option::of(select(vec!["Filesystem", "Block"])),
        select(vec!["ReadWriteOnce", "ReadWriteOncePod"]),
        option::of(vec(select(vec!["noatime", "discard", "ro"]), 0..3)),
        class(),
        class(),
        select(vec!["topology.kubernetes.io/zone", "topology.ebs.csi.aws.com/zone"]),
        unknown_fields(),
    )
        .prop_map(|(metadata, source, mode, access, options, class, annotation, topology, unknown)| {
            let mut pv = json!({
                "metadata": metadata,
                "spec": {
                    "accessModes": [access],
                    "capacity": { "storage": "10Gi" },
                    "persistentVolumeReclaimPolicy": "Delete",
                    "claimRef": { "kind": "PersistentVolumeClaim", "name": "data-web-0", "namespace": "shop", "uid": "c", "resourceVersion": "3" },
                    "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                        { "key": topology, "operator": "In", "values": ["eu-west-1c"] },
                    ] }] } },
                    "volumeAttributesClassName": "fast",
                },
                "status": { "phase": "Bound" },
            });
            pv["metadata"]["labels"]["failure-domain.beta.kubernetes.io/zone"] = "eu-west-1a".into();
            pv["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] = "ebs.csi.aws.com".into();
            pv["metadata"]["annotations"]["pv.kubernetes.io/migrated-to"] = "ebs.csi.aws.com".into();
            pv["spec"][source.0] = source.1;
            spec_options(&mut pv, mode, class, annotation, unknown);
            if let Some(options) = options {
                pv["spec"]["mountOptions"] = json!(options);
            }
            pv
        });
    let claim = (
        metadata("data-web-0".to_owned(), Some("shop")),
        option::of(select(vec!["Filesystem", "Block"])),
        select(vec!["ReadWriteOnce", "ReadWriteOncePod"]),
        class(),
        class(),
        option::of(select(vec!["1Gi", "10Gi", "20Gi", "10G", "nonsense"])),
        unknown_fields(),
    )
        .prop_map(|(metadata, mode, access, class, annotation, request, unknown)| {
            let mut claim = json!({
                "metadata": metadata,
                "spec": {
                    "accessModes": [access],
                    "resources": {},
                    "volumeName": "pvc-1",
                    "selector": { "matchLabels": { "a": "b" } },
                    "dataSource": { "kind": "VolumeSnapshot", "name": "s" },
                    "dataSourceRef": { "kind": "VolumeSnapshot", "name": "s" },
                    "volumeAttributesClassName": "fast",
                },
                "status": { "phase": "Bound", "capacity": { "storage": "10Gi" } },
            });
            spec_options(&mut claim, mode, class, annotation, unknown);
            if let Some(request) = request {
                claim["spec"]["resources"]["requests"] = json!({ "storage": request });
            }
            claim
        });
    (pv, claim, select(vec!["eu-west-1a", "eu-west-1b"]), 8..40_i64, any::<bool>()).prop_map(
        |(pv, claim, zone, size_gib, renamed)| VolumePlan {
            claim: "data-web-0".to_owned(),
            volume: Object(pv.clone()).volume_id().expect("it is an EBS volume"),
            source_volume_name: "pvc-1".to_owned(),
            destination_volume_name: if renamed { "pvc-1-0123456789" } else { "pvc-1" }.to_owned(),
            zone: zone.to_owned(),
            size_gib,
            claim_before: Object(claim),
            volume_before: Object(pv),
            reclaim_policy: "Delete".to_owned(),
        },
    )
}

fn spec_options(
    object: &mut Value,
    mode: Option<&str>,
    class: Option<&str>,
    annotation: Option<&str>,
    unknown: Map<String, Value>,
) {
    if let Some(mode) = mode {
        object["spec"]["volumeMode"] = mode.into();
    }
    if let Some(class) = class {
        object["spec"]["storageClassName"] = class.into();
    }
    if let Some(class) = annotation {
        object["metadata"]["annotations"][CLASS_ANNOTATION] = class.into();
    }
    object["spec"].as_object_mut().expect("it is a map").extend(unknown);
}

/// Returns a plan with an arbitrary class map, none of whose targets is mapped on.
pub(super) fn plan() -> impl Strategy<Value = Plan> {
    let map = btree_map(select(vec!["", "gp2", "gp3", "io2"]), select(vec!["fast", "slow"]), 0..3);
    map.prop_map(|map| {
        let mut plan = fixtures::plan(1, 1);
        plan.choices.storage_class_map = map.into_iter().map(|(old, new)| (old.to_owned(), new.to_owned())).collect();
        plan
    })
}

/// Returns a set with arbitrary metadata, claim templates and spec.
pub(super) fn set_plan() -> impl Strategy<Value = SetPlan> {
    let template = (class(), class(), any::<bool>(), unknown_fields()).prop_map(|(class, annotation, odd, unknown)| {
        let mut template = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": { "name": "data", "creationTimestamp": null, "annotations": { "example.org/note": "v" } },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
            "status": { "phase": "Pending" },
        });
        if odd {
            template["metadata"]["ownerReferences"] = json!([{ "uid": "u" }]);
            template["metadata"]["labels"] = json!({ "a": "b" });
            template["spec"]["volumeName"] = "pvc-1".into();
            template["spec"]["selector"] = json!({ "matchLabels": { "a": "b" } });
            template["spec"]["dataSource"] = json!({ "kind": "VolumeSnapshot", "name": "s" });
            template["spec"]["dataSourceRef"] = json!({ "kind": "VolumeSnapshot", "name": "s" });
        }
        spec_options(&mut template, None, class, annotation, unknown);
        template
    });
    let retention = prop_oneof![
        Just(Value::Null),
        select(vec!["Retain", "Delete"]).prop_map(|policy| json!({ "whenDeleted": policy, "whenScaled": policy })),
    ];
    (metadata(fixtures::SET.to_owned(), Some("shop")), vec(template, 0..3), retention, 0..5_i64, unknown_fields())
        .prop_map(|(metadata, templates, retention, start, unknown)| {
            let mut plan = fixtures::plan_from(start, 3, 1).sets.remove(0);
            let set = &mut plan.before.0;
            set["metadata"] = metadata;
            set["spec"]["volumeClaimTemplates"] = templates.into();
            match retention {
                Value::Null => {
                    set["spec"]
                        .as_object_mut()
                        .expect("it is a map")
                        .shift_remove("persistentVolumeClaimRetentionPolicy");
                }
                policy => set["spec"]["persistentVolumeClaimRetentionPolicy"] = policy,
            }
            set["spec"]["template"]["spec"].as_object_mut().expect("it is a map").extend(unknown.clone());
            set["spec"]["template"]["metadata"]["annotations"] = json!({ "kubectl.kubernetes.io/restartedAt": "x" });
            set["spec"].as_object_mut().expect("it is a map").extend(unknown);
            plan
        })
}

/// Returns a Service with arbitrary metadata and addresses.
pub(super) fn service_plan() -> impl Strategy<Value = ServicePlan> {
    let addresses = select(vec![json!(["None"]), json!(["10.0.0.1"]), json!(["10.0.0.1", "fd00::1"]), Value::Null]);
    let policy = option::of(select(vec!["SingleStack", "PreferDualStack", "RequireDualStack"]));
    let kind = select(vec!["ClusterIP", "NodePort", "LoadBalancer"]);
    (metadata("web".to_owned(), Some("shop")), addresses, policy, kind, any::<bool>(), unknown_fields()).prop_map(
        |(metadata, addresses, policy, kind, at_cutover, unknown)| {
            let mut service = json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {
                    "type": kind,
                    "selector": fixtures::labels(),
                    "ports": [{ "name": "http", "port": 80, "nodePort": 30_080, "unknownField": true }],
                    "healthCheckNodePort": 30_081,
                    "ipFamilies": ["IPv4"],
                    "publishNotReadyAddresses": true,
                },
                "status": { "loadBalancer": { "ingress": [{ "hostname": "a.elb" }] } },
            });
            if addresses.is_array() {
                service["spec"]["clusterIP"] = addresses[0].clone();
                service["spec"]["clusterIPs"] = addresses;
            }
            if let Some(policy) = policy {
                service["spec"]["ipFamilyPolicy"] = policy.into();
            }
            service["spec"].as_object_mut().expect("it is a map").extend(unknown);
            ServicePlan { before: Object(service), at_cutover, existing: false, taken_node_ports: Vec::new() }
        },
    )
}
