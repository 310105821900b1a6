//! PF-19, PF-20, PF-26, PF-27, PF-31, PF-33: what is, and is not, in B.

use serde_json::{Value, json};

use super::{Bench, forbidden, pod};
use crate::checks::Level;
use crate::fixtures;
use crate::plan::MIGRATION_ANNOTATION;
use crate::world::{Kind, Side};

#[test]
fn another_volume_of_the_same_handle_blocks_on_both_sides() {
    for side in Side::BOTH {
        for in_tree in [false, true] {
            let mut bench = Bench::fine();
            let id = bench.volume_id("data-web-1").to_string();
            let source = match in_tree {
                true => json!({ "awsElasticBlockStore": { "volumeID": format!("aws://eu-west-1b/{id}") } }),
                false => json!({ "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": id } }),
            };
            // Its name sorts before the set's own.
            bench.put(side, Kind::PersistentVolume, json!({ "metadata": { "name": "a-twin" }, "spec": source }));
            let finding = bench.one("PF-19", Level::Blocks);
            assert!(finding.subject.contains("a-twin"), "{finding:?}");
        }
    }
}

#[test]
fn a_pod_that_names_the_volume_itself_blocks() {
    let mut bench = Bench::fine();
    let id = bench.volume_id("data-web-1").to_string();
    let mut inline = pod("inline", "nothing");
    inline["spec"]["volumes"] = json!([{ "name": "x", "awsElasticBlockStore": { "volumeID": id } }]);
    bench.put(Side::Destination, Kind::Pod, inline);
    bench.one("PF-19", Level::Blocks);
}

#[test]
fn another_volume_under_the_same_name_gets_out_of_the_way() {
    let mut bench = Bench::fine();
    let name = bench.volume_name("data-web-1");
    let other = json!({ "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": "vol-0fffffffffffffff0" } });
    bench.put(Side::Destination, Kind::PersistentVolume, json!({ "metadata": { "name": name }, "spec": other }));
    bench.passes();
}

#[test]
fn foreign_objects_under_the_names_block() {
    for (kind, name) in [(Kind::StatefulSet, "web"), (Kind::PersistentVolumeClaim, "data-web-1")] {
        let mut bench = Bench::fine();
        bench.copy(kind, name);
        let finding = bench.only("PF-20", Level::Blocks).remove(0);
        assert!(finding.subject.contains(name), "{finding:?}");
    }
}

#[test]
fn claims_that_a_later_scale_up_would_find_warn_together() {
    let mut bench = Bench::fine();
    let claim = |name: &str| json!({ "metadata": { "name": name, "uid": name } });
    for name in ["data-web-3", "logs-web-7", "data-web-x", "other-web-3", "data-web-api-3"] {
        bench.put(Side::Destination, Kind::PersistentVolumeClaim, claim(name));
    }
    let finding = bench.one("PF-20", Level::Warns);
    assert_eq!(finding.subject, "PersistentVolumeClaims data-web-3, logs-web-7 (destination)");
    assert!(finding.remedy.ends_with("delete persistentvolumeclaim data-web-3 logs-web-7`"), "{finding:?}");
}

#[test]
fn objects_of_this_migration_do_not_block() {
    let plan = fixtures::plan(3, 2);
    let mut bench = Bench::of(&plan);
    bench.copy(Kind::PersistentVolumeClaim, "data-web-1");
    let volume = bench.volume_name("data-web-1");
    bench.copy(Kind::PersistentVolume, &volume);
    for (kind, name) in [(Kind::PersistentVolumeClaim, "data-web-1"), (Kind::PersistentVolume, volume.as_str())] {
        bench.edit(Side::Destination, kind, name, |object| {
            object["metadata"]["annotations"][MIGRATION_ANNOTATION] = plan.mark().into();
        });
    }
    bench.passes();
}

#[test]
fn a_stray_pod_with_a_name_of_the_sets_blocks() {
    for side in Side::BOTH {
        let mut bench = Bench::fine();
        let mut stray = pod("web-1", "nothing");
        stray["spec"]["volumes"] = json!([]);
        if side == Side::Source {
            for claim in ["data-web-1", "logs-web-1"] {
                bench.ec2(claim, |volume| {
                    volume.attachments.clear();
                    volume.state = crate::world::VolumeState::Available;
                });
            }
        }
        bench.put(side, Kind::Pod, stray);
        let findings = bench.findings();
        let found = findings.iter().any(|finding| finding.code == "PF-20" && finding.level == Level::Blocks);
        assert!(found, "{findings:#?}");
    }
}

#[test]
fn an_own_service_or_ingress_that_means_something_else_blocks() {
    let mut bench = Bench::fine();
    let mut service = bench.world.object(Side::Source, Kind::Service, "web").expect("it is there").0.clone();
    service["metadata"]["name"] = "web-read".into();
    service["spec"]["clusterIP"] = "10.0.0.1".into();
    bench.put(Side::Source, Kind::Service, service.clone());
    bench.passes();
    service["spec"]["clusterIP"] = "10.9.9.9".into();
    bench.put(Side::Destination, Kind::Service, service.clone());
    bench.passes();
    service["spec"]["ports"][0]["port"] = 81.into();
    bench.put(Side::Destination, Kind::Service, service);
    bench.one("PF-20", Level::Blocks);
}

#[test]
fn a_service_that_others_share_is_told() {
    let mut bench = Bench::fine();
    let mut service = bench.world.object(Side::Source, Kind::Service, "web").expect("it is there").0.clone();
    service["metadata"]["name"] = "all".into();
    service["spec"]["selector"] = json!({ "app.kubernetes.io/instance": "shop" });
    bench.put(Side::Source, Kind::Service, service);
    let labels = json!({ "app.kubernetes.io/instance": "shop" });
    bench.put(
        Side::Source,
        Kind::Deployment,
        json!({
            "metadata": { "name": "front" },
            "spec": { "template": { "metadata": { "labels": labels }, "spec": {} } },
        }),
    );
    bench.passes();
    let told: Vec<_> = bench.findings().into_iter().filter(|finding| finding.code == "PF-20").collect();
    assert!(told[0].subject.contains("Service all"), "{told:?}");
}

#[test]
fn a_missing_driver_blocks() {
    let mut bench = Bench::fine();
    bench.remove(Side::Destination, Kind::CsiDriver, "ebs.csi.aws.com");
    bench.one("PF-26", Level::Blocks);
    // Auto Mode's driver cannot mount these PVs.
    bench.put(Side::Destination, Kind::CsiDriver, json!({ "metadata": { "name": "ebs.csi.eks.amazonaws.com" } }));
    assert!(bench.one("PF-26", Level::Blocks).what.contains("ebs.csi.eks.amazonaws.com"));
    for kind in [Kind::CsiDriver, Kind::CsiNode] {
        let mut bench = Bench::fine();
        bench.refuse(Side::Destination, kind);
        bench.one("PF-26", Level::Blocks);
    }
}

#[test]
fn a_driver_that_is_on_no_node_of_a_zone_or_too_old_blocks() {
    let node = fixtures::node_name(Side::Destination, 1);
    let mut bench = Bench::fine();
    bench.edit(Side::Destination, Kind::CsiNode, &node, |node| node["spec"]["drivers"] = json!([]));
    assert!(bench.one("PF-26", Level::Blocks).what.contains("eu-west-1b"));
    let mut bench = Bench::fine();
    bench.edit(Side::Destination, Kind::CsiNode, &node, |node| {
        node["spec"]["drivers"][0]["topologyKeys"] = json!(["topology.ebs.csi.aws.com/zone"]);
    });
    assert!(bench.one("PF-26", Level::Blocks).what.contains("1.28"));
}

#[test]
fn a_missing_class_blocks_until_it_is_mapped() {
    let mut bench = Bench::fine();
    let mut class = bench.world.object(Side::Source, Kind::StorageClass, "gp3").expect("it is there").0.clone();
    class["metadata"]["name"] = "gp3-encrypted".into();
    bench.put(Side::Destination, Kind::StorageClass, class);
    bench.remove(Side::Destination, Kind::StorageClass, "gp3");
    let finding = bench.one("PF-27", Level::Blocks);
    assert!(finding.what.contains("did you mean `gp3-encrypted`?"), "{finding:?}");
    assert!(finding.remedy.contains("--storage-class-map gp3=NAME"), "{finding:?}");
    bench.request.storage_class_map.insert("gp3".into(), "gp3-encrypted".into());
    bench.passes();
    bench.request.storage_class_map.insert("pg3".into(), "gp3-encrypted".into());
    assert!(bench.one("PF-27", Level::Warns).what.contains("did you mean `gp3`?"));
}

#[test]
fn a_class_that_is_nowhere_is_only_a_word() {
    let mut bench = Bench::fine();
    for side in Side::BOTH {
        bench.remove(side, Kind::StorageClass, "gp3");
    }
    bench.one("PF-27", Level::Warns);
    bench.refuse(Side::Source, Kind::StorageClass);
    bench.one("PF-27", Level::Blocks);
}

#[test]
fn another_provisioner_blocks_and_other_parameters_warn() {
    let edit = |change: fn(&mut Value)| {
        let mut bench = Bench::fine();
        bench.edit(Side::Destination, Kind::StorageClass, "gp3", change);
        bench
    };
    edit(|class| class["provisioner"] = "efs.csi.aws.com".into()).one("PF-27", Level::Blocks);
    edit(|class| class["provisioner"] = "kubernetes.io/aws-ebs".into()).passes();
    let mut bench = edit(|class| class["parameters"]["csi.storage.k8s.io/fstype"] = "xfs".into());
    bench.edit(Side::Source, Kind::StorageClass, "gp3", |class| class["parameters"]["fsType"] = "xfs".into());
    bench.passes();
    let bench = edit(|class| class["parameters"]["encrypted"] = "true".into());
    assert!(bench.one("PF-27", Level::Warns).what.contains("encrypted true instead of nothing"));
    let mut bench = Bench::fine();
    bench.refuse(Side::Destination, Kind::StorageClass);
    bench.one("PF-27", Level::Blocks);
}

#[test]
fn each_thing_that_the_pods_need_blocks_when_it_is_missing() {
    let env = |source: Value| json!([{ "name": "X", "valueFrom": source }]);
    let needs: Vec<(Kind, &str, &str, Value)> = vec![
        (Kind::ServiceAccount, "needed", "/serviceAccountName", json!("needed")),
        (Kind::Secret, "needed", "/imagePullSecrets", json!([{ "name": "needed" }])),
        (Kind::PriorityClass, "needed", "/priorityClassName", json!("needed")),
        (Kind::RuntimeClass, "needed", "/runtimeClassName", json!("needed")),
        (Kind::Secret, "needed", "/containers/0/env", env(json!({ "secretKeyRef": { "name": "needed", "key": "k" } }))),
        (
            Kind::ConfigMap,
            "needed",
            "/containers/0/env",
            env(json!({ "configMapKeyRef": { "name": "needed", "key": "k" } })),
        ),
        (Kind::Secret, "needed", "/containers/0/envFrom", json!([{ "secretRef": { "name": "needed" } }])),
        (Kind::ConfigMap, "needed", "/containers/0/envFrom", json!([{ "configMapRef": { "name": "needed" } }])),
        (Kind::Secret, "needed", "/volumes", json!([{ "name": "v", "secret": { "secretName": "needed" } }])),
        (Kind::ConfigMap, "needed", "/volumes", json!([{ "name": "v", "configMap": { "name": "needed" } }])),
        (
            Kind::Secret,
            "needed",
            "/volumes",
            json!([{ "name": "v", "projected": { "sources": [{ "secret": { "name": "needed" } }] } }]),
        ),
        (
            Kind::ConfigMap,
            "needed",
            "/volumes",
            json!([{ "name": "v", "projected": { "sources": [{ "configMap": { "name": "needed" } }] } }]),
        ),
        (
            Kind::ConfigMap,
            "needed",
            "/initContainers",
            json!([{ "name": "i", "envFrom": [{ "configMapRef": { "name": "needed" } }] }]),
        ),
    ];
    for (kind, name, pointer, value) in needs {
        let mut bench = Bench::fine();
        bench.set(|set| {
            let spec = set.pointer_mut("/spec/template/spec").expect("it has one");
            let (parent, key) = pointer.rsplit_once('/').expect("it is a pointer");
            spec.pointer_mut(parent).expect("it is there")[key] = value;
        });
        let finding = bench.one("PF-31", Level::Blocks);
        assert!(finding.subject.starts_with(&format!("{kind} {name}")), "{pointer}: {finding:?}");
        bench.put(Side::Destination, kind, json!({ "metadata": { "name": name } }));
        bench.passes();
        bench.world.shelf_mut(Side::Destination, kind).put(3, name, Err(forbidden()));
        assert!(bench.one("PF-31", Level::Blocks).what.contains("not known"), "{pointer}");
    }
}

#[test]
fn a_secret_of_other_content_can_be_forced_and_a_config_map_warns() {
    for (kind, key, level) in
        [(Kind::Secret, "secretRef", Level::Forceable), (Kind::ConfigMap, "configMapRef", Level::Warns)]
    {
        let mut bench = Bench::fine();
        bench.set(|set| {
            set["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{ key: { "name": "it" } }])
        });
        let object = |value: &str| json!({ "metadata": { "name": "it" }, "data": { "password": value } });
        bench.put(Side::Source, kind, object("hunter1"));
        bench.put(Side::Destination, kind, object("hunter1"));
        bench.passes();
        bench.put(Side::Destination, kind, object("hunter2"));
        let finding = bench.one("PF-31", level);
        assert!(!format!("{finding:?}").contains("hunter"), "{finding:?}");
        bench.world.shelf_mut(Side::Source, kind).put(3, "it", Err(forbidden()));
        bench.one("PF-31", Level::Warns);
    }
}

#[test]
fn a_role_binding_that_is_missing_warns() {
    let mut bench = Bench::fine();
    let binding = |namespace: &str| {
        json!({
            "metadata": { "name": "locks" },
            "roleRef": { "kind": "Role", "name": "locks" },
            "subjects": [{ "kind": "ServiceAccount", "name": "default", "namespace": namespace }],
        })
    };
    bench.put(Side::Source, Kind::RoleBinding, binding("elsewhere"));
    bench.passes();
    bench.put(Side::Source, Kind::RoleBinding, binding("shop"));
    assert!(bench.one("PF-31", Level::Warns).what.contains("locks"));
    bench.put(Side::Destination, Kind::RoleBinding, binding("market"));
    bench.passes();
    bench.refuse(Side::Destination, Kind::RoleBinding);
    bench.one("PF-31", Level::Warns);
}

#[test]
fn a_network_policy_that_is_missing_warns() {
    let mut bench = Bench::fine();
    let policy = |labels: Value| json!({ "metadata": { "name": "guard" }, "spec": { "podSelector": { "matchLabels": labels } } });
    bench.put(Side::Source, Kind::NetworkPolicy, policy(json!({ "app": "other" })));
    bench.passes();
    bench.put(Side::Source, Kind::NetworkPolicy, policy(fixtures::labels()));
    assert!(bench.one("PF-31", Level::Warns).what.contains("guard"));
    bench.copy(Kind::NetworkPolicy, "guard");
    bench.passes();
    bench.refuse(Side::Source, Kind::NetworkPolicy);
    bench.one("PF-31", Level::Warns);
}

#[test]
fn a_set_that_spells_out_its_namespace_can_be_forced_into_another() {
    let spoils: [fn(&mut Value); 3] = [
        |spec| spec["containers"][0]["args"] = json!(["--peers=a.web.shop.svc"]),
        |spec| {
            spec["containers"][0]["env"] =
                json!([{ "name": "NS", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } }])
        },
        |spec| spec["volumes"] = json!([{ "name": "me", "downwardAPI": { "items": [{ "path": "ns", "fieldRef": { "fieldPath": "metadata.namespace" } }] } }]),
    ];
    for spoil in spoils {
        let mut bench = Bench::fine();
        bench.set(|set| spoil(&mut set["spec"]["template"]["spec"]));
        bench.one("PF-43", Level::Forceable);
        bench.request.destination.namespace = "shop".to_owned();
        bench.edit(Side::Destination, Kind::Namespace, "market", |namespace| {
            namespace["metadata"]["name"] = "shop".into()
        });
        bench.passes();
    }
    let mut bench = Bench::fine();
    bench
        .set(|set| set["spec"]["template"]["spec"]["volumes"] = json!([{ "name": "c", "configMap": { "name": "c" } }]));
    for side in Side::BOTH {
        bench.put(side, Kind::ConfigMap, json!({ "metadata": { "name": "c" }, "data": { "f": "web.shop:80" } }));
    }
    assert!(bench.one("PF-43", Level::Forceable).what.contains("ConfigMap c"));
}

#[test]
fn optional_things_and_those_of_every_cluster_may_be_missing() {
    let mut bench = Bench::fine();
    bench.set(|set| {
        let spec = &mut set["spec"]["template"]["spec"];
        spec["serviceAccountName"] = "default".into();
        spec["priorityClassName"] = "system-cluster-critical".into();
        spec["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "maybe", "optional": true } }]);
        spec["volumes"] = json!([
            { "name": "a", "configMap": { "name": "maybe", "optional": true } },
            { "name": "b", "projected": { "sources": [{ "configMap": { "name": "kube-root-ca.crt" } }] } },
        ]);
    });
    bench.passes();
}

#[test]
fn the_pull_secrets_of_the_service_account_are_needed_too() {
    let mut bench = Bench::fine();
    bench.set(|set| set["spec"]["template"]["spec"]["serviceAccountName"] = "web".into());
    bench.put(
        Side::Destination,
        Kind::ServiceAccount,
        json!({
            "metadata": { "name": "web" },
            "imagePullSecrets": [{ "name": "registry" }],
        }),
    );
    assert!(bench.one("PF-31", Level::Blocks).subject.contains("Secret registry"));
}

#[test]
fn a_governing_service_of_another_meaning_blocks_and_an_equal_one_passes() {
    let mut bench = Bench::fine();
    bench.copy(Kind::Service, "web");
    bench.passes();
    bench.edit(Side::Destination, Kind::Service, "web", |service| {
        service["spec"]["publishNotReadyAddresses"] = false.into();
    });
    bench.one("PF-33", Level::Blocks);
}

#[test]
fn a_set_without_governing_service_warns() {
    let mut bench = Bench::fine();
    bench.remove(Side::Source, Kind::Service, "web");
    bench.one("PF-33", Level::Warns);
    let mut bench = Bench::fine();
    bench.set(|set| set["spec"]["serviceName"] = "".into());
    bench.one("PF-33", Level::Warns);
}

#[test]
fn a_service_by_a_label_that_somebody_else_sets_warns() {
    let service =
        |name: &str, selector: Value| json!({ "metadata": { "name": name }, "spec": { "selector": selector } });
    let mut bench = Bench::fine();
    bench.put(Side::Source, Kind::Service, service("web-1", json!({ "statefulset.kubernetes.io/pod-name": "web-1" })));
    bench.put(Side::Source, Kind::Service, service("elsewhere", json!({ "role": "leader" })));
    bench.passes();
    bench.put(Side::Source, Kind::Service, service("leader", json!({ "role": "leader" })));
    bench.remove(Side::Source, Kind::Service, "elsewhere");
    bench.edit(Side::Source, Kind::Pod, "web-1", |pod| pod["metadata"]["labels"]["role"] = "leader".into());
    let finding = bench.one("PF-33", Level::Warns);
    assert!(finding.subject.contains("leader") && finding.what.contains("role=leader"), "{finding:?}");
}

#[test]
fn services_that_cannot_be_listed_block() {
    for side in Side::BOTH {
        let mut bench = Bench::fine();
        bench.refuse(side, Kind::Service);
        bench.one("PF-33", Level::Blocks);
        let mut bench = Bench::fine();
        bench.refuse(side, Kind::Ingress);
        bench.one("PF-20", Level::Blocks);
    }
}

#[test]
fn a_node_port_that_another_service_of_the_destination_holds_blocks_unless_forced() {
    let mut bench = Bench::fine();
    bench.put(
        Side::Source,
        Kind::Service,
        json!({
            "kind": "Service",
            "metadata": { "name": "web-node" },
            "spec": { "type": "NodePort", "selector": fixtures::labels(), "ports": [{ "port": 80, "nodePort": 30080 }] },
        }),
    );
    bench.world.node_ports = Some(Ok([(30081, "shop/other".to_owned())].into()));
    bench.passes();
    bench.world.node_ports = Some(Ok([(30080, "shop/other".to_owned())].into()));
    assert!(bench.one("PF-20", Level::Forceable).what.ends_with("30080 by Service shop/other"));
    bench.world.node_ports = Some(Err(forbidden()));
    bench.one("PF-20", Level::Warns);
}
