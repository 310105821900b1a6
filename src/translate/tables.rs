//! Table tests: single cases worth seeing.

use serde_json::{Value, json};

use super::{claim, remarks, service, set, set_again, volume};
use crate::fixtures;
use crate::plan::{Plan, ServicePlan, VolumePlan};
use crate::world::{CLASS_ANNOTATION, Object};

fn sample() -> (Plan, VolumePlan) {
    let plan = fixtures::plan(1, 1);
    let volume = plan.sets[0].ordinals[0].volumes[0].clone();
    (plan, volume)
}

#[test]
fn the_sample_volume_in_the_destination() {
    let (plan, planned) = sample();
    let made = volume(&plan, &planned);
    assert_eq!(
        made,
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": planned.source_volume_name,
                "annotations": {
                    "pv.kubernetes.io/provisioned-by": "ebs.csi.aws.com",
                    "volume.kubernetes.io/provisioner-deletion-secret-name": "",
                    "volume.kubernetes.io/provisioner-deletion-secret-namespace": "",
                    "example.org/note": "kept",
                    "sts-migrate.io/migration": plan.mark(),
                    "sts-migrate.io/reclaim-policy": "Delete",
                },
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": { "storage": "10Gi" },
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": "market",
                    "name": "data-web-0",
                },
                "csi": {
                    "driver": "ebs.csi.aws.com",
                    "fsType": "ext4",
                    "volumeAttributes": {},
                    "volumeHandle": planned.volume.0,
                },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                    { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["eu-west-1a"] },
                ] }] } },
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "gp3",
                "volumeMode": "Filesystem",
            },
        })
    );
}

#[test]
fn the_sample_claim_in_the_destination() {
    let (plan, planned) = sample();
    assert_eq!(
        claim(&plan, &planned),
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": "data-web-0",
                "namespace": "market",
                "labels": fixtures::labels(),
                "annotations": { "example.org/note": "kept", "sts-migrate.io/migration": plan.mark() },
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": "10Gi" } },
                "storageClassName": "gp3",
                "volumeMode": "Filesystem",
                "volumeName": planned.destination_volume_name,
            },
        })
    );
}

#[test]
fn tracking_ids_go_and_the_labels_that_selectors_hang_on_stay() {
    let (plan, _) = sample();
    let made = set(&plan, &plan.sets[0]);
    assert_eq!(made["metadata"]["labels"], fixtures::labels());
    assert_eq!(
        made["metadata"]["annotations"],
        json!({ "meta.helm.sh/release-name": "shop", "sts-migrate.io/migration": plan.mark() })
    );
    let again = set_again(&plan, &plan.sets[0]);
    assert_eq!(again["metadata"]["annotations"], plan.sets[0].before.0["metadata"]["annotations"]);
}

/// The cases of Kubernetes' own translation of `awsElasticBlockStore`.
#[test]
fn in_tree_volumes_become_what_kubernetes_makes_of_them() {
    let id = "vol-0123456789abcdef0";
    let csi = |more: Value| {
        let mut csi = json!({ "driver": "ebs.csi.aws.com", "volumeHandle": id });
        csi.as_object_mut().expect("it is a map").extend(more.as_object().cloned().unwrap_or_default());
        csi
    };
    let cases = [
        (json!({ "volumeID": id }), csi(json!({}))),
        (json!({ "volumeID": format!("aws:///{id}") }), csi(json!({}))),
        (json!({ "volumeID": format!("aws://eu-west-1a/{id}") }), csi(json!({}))),
        (json!({ "volumeID": id, "fsType": "xfs" }), csi(json!({ "fsType": "xfs" }))),
        (json!({ "volumeID": id, "readOnly": true }), csi(json!({ "readOnly": true }))),
        (json!({ "volumeID": id, "partition": 0 }), csi(json!({}))),
        (json!({ "volumeID": id, "partition": 2 }), csi(json!({ "volumeAttributes": { "partition": "2" } }))),
    ];
    for (in_tree, expected) in cases {
        let (plan, mut planned) = sample();
        let before = &mut planned.volume_before.0;
        before["spec"].as_object_mut().expect("it is a map").shift_remove("csi");
        before["spec"]["awsElasticBlockStore"] = in_tree.clone();
        before["metadata"]["annotations"] = json!({
            "pv.kubernetes.io/provisioned-by": "kubernetes.io/aws-ebs",
            "pv.kubernetes.io/migrated-to": "ebs.csi.aws.com",
        });
        before["metadata"]["labels"] = json!({
            "failure-domain.beta.kubernetes.io/region": "eu-west-1",
            "failure-domain.beta.kubernetes.io/zone": "eu-west-1a",
            "topology.kubernetes.io/zone": "eu-west-1a",
        });
        planned.volume = planned.volume_before.volume_id().expect("it is an EBS volume");
        let made = volume(&plan, &planned);
        assert_eq!(made["spec"]["csi"], expected, "{in_tree}");
        assert_eq!(made["spec"].get("awsElasticBlockStore"), None);
        assert_eq!(made["metadata"]["labels"], json!({ "topology.kubernetes.io/zone": "eu-west-1a" }));
        let annotations = json!({
            "pv.kubernetes.io/provisioned-by": "ebs.csi.aws.com",
            "sts-migrate.io/migration": plan.mark(),
            "sts-migrate.io/reclaim-policy": "Delete",
        });
        assert_eq!(made["metadata"]["annotations"], annotations);
        assert_eq!(super::volume_again(&plan, &planned)["spec"]["awsElasticBlockStore"], in_tree);
    }
}

/// All 256 ways in which claim and PV can name their class: by field, by annotation, empty, not at all.
#[test]
fn the_class_is_found_in_kubernetes_own_order() {
    let ways = [None, Some(""), Some("gp2"), Some("gp3")];
    let name = |object: &mut Value, field: Option<&str>, annotation: Option<&str>| {
        object["spec"].as_object_mut().expect("it is a map").shift_remove("storageClassName");
        if let Some(class) = field {
            object["spec"]["storageClassName"] = class.into();
        }
        if let Some(class) = annotation {
            object["metadata"]["annotations"][CLASS_ANNOTATION] = class.into();
        }
    };
    let mut cases = 0;
    for claim_field in ways {
        for claim_annotation in ways {
            for volume_field in ways {
                for volume_annotation in ways {
                    let (mut plan, mut planned) = sample();
                    plan.choices.storage_class_map.insert("gp2".to_owned(), "fast".to_owned());
                    name(&mut planned.claim_before.0, claim_field, claim_annotation);
                    name(&mut planned.volume_before.0, volume_field, volume_annotation);
                    let found = claim_annotation.or(claim_field).or(volume_annotation).or(volume_field);
                    let expected = if found == Some("gp2") { "fast" } else { found.unwrap_or("") };
                    let case = (claim_field, claim_annotation, volume_field, volume_annotation);
                    let (claim, volume) = (claim(&plan, &planned), volume(&plan, &planned));
                    assert_eq!(claim["spec"]["storageClassName"], expected, "{case:?}");
                    let of_volume = volume["spec"].get("storageClassName").and_then(Value::as_str);
                    assert_eq!(of_volume.unwrap_or_default(), expected, "{case:?}");
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 256);
}

#[test]
fn an_ingress_keeps_all_but_its_status() {
    let (plan, _) = sample();
    let spec = json!({
        "ingressClassName": "alb",
        "rules": [{ "host": "web.example.org" }],
        "tls": [{ "hosts": ["web.example.org"], "secretName": "web-tls" }],
        "unknownField": 1,
    });
    let planned = ServicePlan {
        before: Object(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": { "name": "web", "namespace": "shop", "finalizers": ["ingress.k8s.aws/resources"] },
            "spec": spec,
            "status": { "loadBalancer": {} },
        })),
        at_cutover: true,
        existing: false,
        taken_node_ports: Vec::new(),
    };
    assert_eq!(
        service(&plan, &planned),
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {
                "name": "web",
                "namespace": "market",
                "annotations": { "sts-migrate.io/migration": plan.mark() },
            },
            "spec": spec,
        })
    );
}

#[test]
fn a_plain_set_has_only_its_tracking_id_to_remark() {
    let (plan, _) = sample();
    assert_eq!(remarks(&plan), ["StatefulSet `web`: tracking ids of Argo CD are dropped"]);
}

#[test]
fn every_loss_is_remarked_once_for_all_that_have_it() {
    let mut plan = fixtures::plan(5, 1);
    let set = &mut plan.sets[0];
    set.before.0["metadata"].as_object_mut().expect("it is a map").shift_remove("annotations");
    set.before.0["metadata"]["ownerReferences"] = json!([{ "kind": "Widget", "name": "shop", "uid": "w" }]);
    set.before.0["metadata"]["finalizers"] = json!(["example.org/hold"]);
    let template = &mut set.before.0["spec"]["volumeClaimTemplates"][0];
    template["spec"].as_object_mut().expect("it is a map").shift_remove("storageClassName");
    template["spec"]["dataSource"] = json!({ "kind": "VolumeSnapshot", "name": "s" });
    for ordinal in &mut set.ordinals {
        let volume = &mut ordinal.volumes[0];
        volume.claim_before.0["spec"]["volumeAttributesClassName"] = "fast".into();
        volume.claim_before.0["metadata"]["ownerReferences"] =
            json!([{ "kind": "StatefulSet", "name": "web", "uid": fixtures::SET_UID }]);
    }
    let first = &mut set.ordinals[0].volumes[0];
    first.size_gib = 8;
    first.destination_volume_name = "other".to_owned();
    first.volume_before.0["spec"]["csi"]["nodeStageSecretRef"] = json!({ "name": "key", "namespace": "storage" });
    let name = first.source_volume_name.clone();
    set.services[0].before.0["spec"]["externalIPs"] = json!(["10.0.0.9"]);
    assert_eq!(
        remarks(&plan),
        [
            "StatefulSet `web`: its owner, Widget `shop`, stays behind".to_owned(),
            "StatefulSet `web`: finalizer `example.org/hold` is dropped".to_owned(),
            "StatefulSet `web`: `dataSource` of claim template `data` is dropped, it would reach later claims".to_owned(),
            "StatefulSet `web`: claim template `data` names no StorageClass and stays so: the destination's default \
             decides for later scale-ups"
                .to_owned(),
            format!("PersistentVolume `{name}`: is called `other` in the destination, its name is taken there"),
            format!("PersistentVolume `{name}`: `nodeStageSecretRef` needs Secret `storage/key` in the destination"),
            "PersistentVolumeClaim `data-web-0`, `data-web-1`, `data-web-2` and 2 more: VolumeAttributesClass `fast` is \
             dropped"
                .to_owned(),
            "PersistentVolumeClaim `data-web-0`: request of `10Gi` is lowered to the volume's size, `8Gi`".to_owned(),
            "Service `web`: governs the set and so must be there before its pods: what it publishes, it publishes from \
             then on"
                .to_owned(),
        ]
    );
}
