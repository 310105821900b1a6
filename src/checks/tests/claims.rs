//! PF-13 to PF-17, PF-21, PF-36: claims and PVs.

use serde_json::{Value, json};

use super::{Bench, pod};
use crate::checks::Level;
use crate::fixtures;
use crate::plan::IdleClaims;
use crate::world::{Kind, Side, VolumeState};

const CLAIM: Kind = Kind::PersistentVolumeClaim;

#[test]
fn a_missing_claim_blocks() {
    let mut bench = Bench::fine();
    bench.remove(Side::Source, CLAIM, "logs-web-1");
    let finding = bench.one("PF-13", Level::Blocks);
    assert!(finding.what.contains("web-1"), "{finding:?}");
}

#[test]
fn claims_and_volumes_that_are_not_bound_to_each_other_block() {
    let spoils: [fn(&mut Bench); 6] = [
        |bench| bench.edit(Side::Source, CLAIM, "data-web-0", |claim| claim["status"]["phase"] = "Lost".into()),
        |bench| bench.edit(Side::Source, CLAIM, "data-web-0", |claim| claim["spec"]["volumeName"] = "nothing".into()),
        |bench| bench.edit(Side::Source, CLAIM, "data-web-0", |claim| claim["spec"]["volumeName"] = Value::Null),
        |bench| bench.volume("data-web-0", |volume| volume["status"]["phase"] = "Released".into()),
        |bench| bench.volume("data-web-0", |volume| volume["spec"]["claimRef"]["uid"] = "of-a-deleted-claim".into()),
        |bench| {
            let name = bench.volume_name("data-web-0");
            bench.remove(Side::Source, Kind::PersistentVolume, &name);
        },
    ];
    for spoil in spoils {
        let mut bench = Bench::fine();
        spoil(&mut bench);
        bench.one("PF-13", Level::Blocks);
    }
}

#[test]
fn a_claim_or_volume_that_is_being_deleted_blocks() {
    let mut bench = Bench::fine();
    bench.edit(Side::Source, CLAIM, "data-web-0", |claim| claim["metadata"]["deletionTimestamp"] = "now".into());
    bench.one("PF-13", Level::Blocks);
    let mut bench = Bench::fine();
    bench.volume("data-web-0", |volume| volume["metadata"]["deletionTimestamp"] = "now".into());
    bench.one("PF-13", Level::Blocks);
}

#[test]
fn a_claim_owned_by_a_pod_blocks() {
    let mut bench = Bench::fine();
    bench.edit(Side::Source, CLAIM, "data-web-2", |claim| {
        claim["metadata"]["ownerReferences"] = json!([{ "kind": "Pod", "name": "web-2", "uid": "u" }]);
    });
    assert!(bench.one("PF-13", Level::Blocks).what.contains("pod web-2"));
}

#[test]
fn claims_and_volumes_that_cannot_be_listed_block() {
    for kind in [CLAIM, Kind::PersistentVolume] {
        for side in Side::BOTH {
            let mut bench = Bench::fine();
            bench.refuse(side, kind);
            let findings = bench.findings();
            let wanted = match (side, kind) {
                (Side::Source, _) => "PF-13",
                (Side::Destination, CLAIM) => "PF-20",
                (Side::Destination, _) => "PF-19",
            };
            let found = findings.iter().any(|finding| finding.code == wanted && finding.level == Level::Blocks);
            assert!(found, "{side} {kind}: {findings:#?}");
        }
    }
}

#[test]
fn policies_that_change_for_a_while_are_told() {
    let bench = Bench::fine();
    let told: Vec<_> = bench.findings().into_iter().filter(|finding| finding.code == "PF-14").collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told.iter().all(|finding| finding.level == Level::Tells));
    assert!(told[1].what.contains("whenScaled Delete"), "{told:?}");
}

#[test]
fn a_volume_that_is_not_ebs_blocks() {
    let spoils: [fn(&mut Value); 5] = [
        |volume| volume["spec"]["csi"]["driver"] = "efs.csi.aws.com".into(),
        |volume| volume["spec"]["csi"]["volumeHandle"] = "local-ebs://vol-0123456789abcdef0".into(),
        |volume| volume["spec"]["csi"]["volumeHandle"] = "vol-xyz".into(),
        |volume| volume["spec"]["csi"] = Value::Null,
        |volume| {
            volume["spec"]["csi"] = Value::Null;
            volume["spec"]["hostPath"] = json!({ "path": "/data" });
        },
    ];
    for spoil in spoils {
        let mut bench = Bench::fine();
        bench.volume("logs-web-1", spoil);
        bench.one("PF-15", Level::Blocks);
    }
}

#[test]
fn in_tree_volumes_pass() {
    for prefix in ["aws://eu-west-1a/", "aws:///", ""] {
        let mut bench = Bench::of(&fixtures::plan(1, 1));
        let id = bench.volume_id("data-web-0");
        bench.volume("data-web-0", |volume| {
            volume["spec"]["csi"] = Value::Null;
            volume["spec"]["awsElasticBlockStore"] = json!({ "volumeID": format!("{prefix}{id}"), "fsType": "ext4" });
            volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"] = json!([
                { "key": "failure-domain.beta.kubernetes.io/zone", "operator": "In", "values": ["eu-west-1a__eu-west-1b"] },
                { "key": "failure-domain.beta.kubernetes.io/region", "operator": "In", "values": ["eu-west-1"] },
            ]);
        });
        bench.passes();
    }
}

#[test]
fn a_set_without_ebs_claims_has_nothing_to_hand_over() {
    let bench = Bench::of(&fixtures::plan(3, 0));
    let finding = bench.one("PF-15", Level::Blocks);
    assert!(finding.what.contains("nothing to hand over"), "{finding:?}");
}

/// A claim `own` with its volume, named in the pod template.
fn with_plain_claim(replicas: i64, templates: usize) -> Bench {
    let mut bench = Bench::of(&fixtures::plan(replicas, templates));
    let mut claim = fixtures::claim_json(50, 0);
    claim["metadata"]["name"] = "own".into();
    let mut volume = fixtures::volume_json(50, 0);
    volume["spec"]["claimRef"]["name"] = "own".into();
    bench.put(Side::Source, CLAIM, claim);
    bench.put(Side::Source, Kind::PersistentVolume, volume);
    bench.set(|set| {
        set["spec"]["template"]["spec"]["volumes"] =
            json!([{ "name": "state", "persistentVolumeClaim": { "claimName": "own" } }]);
    });
    let id = bench.volume_id("own");
    let facts = fixtures::volumes(&fixtures::plan(1, 1)).into_values().next().expect("there is one");
    bench.answer(&id, Ok(Some(facts)));
    bench.edit(Side::Source, Kind::Pod, "web-0", |pod| {
        let volumes = pod["spec"]["volumes"].as_array_mut().expect("it has volumes");
        volumes.push(json!({ "name": "state", "persistentVolumeClaim": { "claimName": "own" } }));
    });
    bench
}

#[test]
fn a_plain_claim_of_a_single_pod_moves_with_it() {
    with_plain_claim(1, 0).passes();
    with_plain_claim(1, 1).passes();
    let mut bench = with_plain_claim(1, 0);
    bench.ec2("own", |volume| volume.multi_attach = true);
    bench.one("PF-16", Level::Blocks);
}

#[test]
fn a_plain_claim_that_something_else_uses_blocks() {
    let mut bench = with_plain_claim(1, 0);
    let spec = json!({ "template": { "spec": pod("x", "own")["spec"] } });
    bench.put(
        Side::Source,
        Kind::CronJob,
        json!({ "metadata": { "name": "backup" }, "spec": { "jobTemplate": { "spec": spec } } }),
    );
    let finding = bench.one("PF-18", Level::Blocks);
    assert!(
        finding.remedy.contains("sts-migrate move-volume --src a --dst b -n shop --dst-namespace market own"),
        "{finding:?}"
    );
}

#[test]
fn a_plain_claim_of_several_pods_blocks_with_the_commands_that_help() {
    let bench = with_plain_claim(3, 1);
    let findings = bench.findings();
    let finding = findings.iter().find(|finding| finding.code == "PF-15").expect("it blocks");
    assert_eq!(finding.level, Level::Blocks);
    assert!(finding.remedy.contains("--replicas=1") && finding.remedy.contains("move-volume"), "{finding:?}");
}

#[test]
fn a_plain_claim_that_is_not_there_blocks() {
    let mut bench = with_plain_claim(1, 0);
    bench.remove(Side::Source, CLAIM, "own");
    bench.one("PF-13", Level::Blocks);
}

#[test]
fn a_pod_volume_with_the_name_of_a_claim_template_names_nothing() {
    let mut bench = Bench::fine();
    bench.set(|set| {
        set["spec"]["template"]["spec"]["volumes"] =
            json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "is-not-there" } }]);
    });
    bench.passes();
}

#[test]
fn a_shared_file_system_must_be_in_the_destination_too() {
    let mut bench = Bench::fine();
    bench.put(Side::Source, CLAIM, json!({ "metadata": { "name": "files" }, "spec": { "volumeName": "efs" } }));
    bench.put(Side::Source, Kind::PersistentVolume, json!({
        "metadata": { "name": "efs" },
        "spec": { "csi": { "driver": "efs.csi.aws.com", "volumeHandle": "fs-1" }, "accessModes": ["ReadWriteMany"] },
    }));
    bench.set(|set| {
        set["spec"]["template"]["spec"]["volumes"] =
            json!([{ "name": "files", "persistentVolumeClaim": { "claimName": "files" } }]);
    });
    assert!(bench.one("PF-31", Level::Blocks).subject.contains("files (destination)"));
    bench.put(Side::Destination, CLAIM, json!({ "metadata": { "name": "files" } }));
    bench.passes();
}

#[test]
fn access_by_several_nodes_blocks() {
    let mut bench = Bench::fine();
    bench.edit(Side::Source, CLAIM, "data-web-1", |claim| claim["spec"]["accessModes"] = json!(["ReadWriteMany"]));
    bench.one("PF-16", Level::Blocks);
    let mut bench = Bench::fine();
    bench.volume("data-web-1", |volume| volume["spec"]["accessModes"] = json!(["ReadWriteOnce", "ReadOnlyMany"]));
    bench.one("PF-16", Level::Blocks);
    let mut bench = Bench::fine();
    bench.ec2("data-web-1", |volume| volume.multi_attach = true);
    assert!(bench.one("PF-16", Level::Blocks).remedy.contains("--no-multi-attach-enabled"));
    let mut bench = Bench::fine();
    bench.edit(Side::Source, CLAIM, "data-web-1", |claim| claim["spec"]["accessModes"] = json!(["ReadWriteOncePod"]));
    bench.volume("data-web-1", |volume| volume["spec"]["accessModes"] = json!(["ReadWriteOncePod"]));
    bench.passes();
}

#[test]
fn volume_modes_that_disagree_block() {
    let mut bench = Bench::fine();
    bench.volume("data-web-1", |volume| volume["spec"]["volumeMode"] = "Block".into());
    assert!(bench.one("PF-17", Level::Blocks).what.contains("Block"));
    bench.edit(Side::Source, CLAIM, "data-web-1", |claim| claim["spec"]["volumeMode"] = "Block".into());
    bench.passes();
}

#[test]
fn a_zone_that_ec2_denies_and_an_unknown_topology_block() {
    let affinity = |volume: &mut Value, key: &str, value: &str| {
        volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"] =
            json!([{ "key": key, "operator": "In", "values": [value] }]);
    };
    let mut bench = Bench::fine();
    bench.volume("data-web-0", |volume| affinity(volume, "topology.ebs.csi.aws.com/zone", "eu-west-1a"));
    bench.passes();
    bench.volume("data-web-0", |volume| affinity(volume, "topology.kubernetes.io/zone", "eu-west-1b"));
    bench.one("PF-17", Level::Blocks);
    bench.volume("data-web-0", |volume| affinity(volume, "topology.ebs.csi.aws.com/outpost-id", "op-1"));
    bench.one("PF-17", Level::Blocks);
}

#[test]
fn what_is_not_carried_over_or_needs_a_secret_warns() {
    let mut bench = Bench::fine();
    bench.edit(Side::Source, CLAIM, "data-web-1", |claim| claim["spec"]["volumeAttributesClassName"] = "fast".into());
    bench.one("PF-17", Level::Warns);
    let mut bench = Bench::fine();
    bench.volume("data-web-1", |volume| {
        volume["spec"]["csi"]["nodeStageSecretRef"] = json!({ "name": "key", "namespace": "shop" });
    });
    bench.one("PF-17", Level::Warns);
    let mut bench = Bench::fine();
    bench.volume("data-web-1", |volume| {
        volume["spec"]["csi"]["volumeAttributes"]["blockattachuntilinitialized"] = "true".into()
    });
    bench.one("PF-17", Level::Warns);
}

#[test]
fn a_resize_or_modification_under_way_blocks() {
    let spoils: [fn(&mut Value); 5] = [
        |claim| claim["status"]["conditions"] = json!([{ "type": "Resizing", "status": "True" }]),
        |claim| claim["status"]["conditions"] = json!([{ "type": "FileSystemResizePending", "status": "True" }]),
        |claim| claim["status"]["allocatedResourceStatuses"] = json!({ "storage": "ControllerResizeInProgress" }),
        |claim| claim["status"]["modifyVolumeStatus"] = json!({ "status": "InProgress" }),
        |claim| claim["spec"]["resources"]["requests"]["storage"] = "20Gi".into(),
    ];
    for spoil in spoils {
        let mut bench = Bench::fine();
        bench.edit(Side::Source, CLAIM, "data-web-1", spoil);
        bench.one("PF-21", Level::Blocks);
    }
    let mut bench = Bench::fine();
    bench.volume("data-web-1", |volume| {
        volume["metadata"]["annotations"]["volume.alpha.kubernetes.io/pre-resize-capacity"] = "5Gi".into();
    });
    bench.one("PF-21", Level::Blocks);
}

#[test]
fn another_size_in_ec2_warns() {
    let mut bench = Bench::fine();
    bench.ec2("data-web-1", |volume| volume.size_gib = 11);
    assert!(bench.one("PF-21", Level::Warns).what.contains("11 GiB"));
}

/// A claim `data-web-7` from before a scale-down, its volume available.
fn with_idle_claim(replicas: i64) -> Bench {
    let mut bench = Bench::of(&fixtures::plan(replicas, 1));
    bench.put(Side::Source, CLAIM, fixtures::claim_json(7, 0));
    bench.put(Side::Source, Kind::PersistentVolume, fixtures::volume_json(7, 0));
    let id = bench.volume_id("data-web-7");
    let mut facts = fixtures::volumes(&fixtures::plan_from(7, 1, 1)).into_values().next().expect("there is one");
    facts.attachments.clear();
    facts.state = VolumeState::Available;
    bench.answer(&id, Ok(Some(facts)));
    bench
}

#[test]
fn idle_claims_block_until_somebody_chooses() {
    for replicas in [0, 2] {
        let mut bench = with_idle_claim(replicas);
        let finding = bench.one("PF-36", Level::Blocks);
        assert!(finding.subject.contains("data-web-7"), "{finding:?}");
        assert!(finding.remedy.contains("--include-idle-claims") && finding.remedy.contains("--leave-idle-claims"));
        bench.request.idle_claims = IdleClaims::Include;
        bench.passes();
    }
}

#[test]
fn idle_claims_that_stay_are_not_looked_at() {
    let mut bench = with_idle_claim(2);
    bench.request.idle_claims = IdleClaims::Leave;
    bench.edit(Side::Source, CLAIM, "data-web-7", |claim| claim["status"]["phase"] = "Lost".into());
    bench.passes();
    assert_eq!(bench.told("PF-36").level, Level::Tells);
    let mut bench = with_idle_claim(0);
    bench.request.idle_claims = IdleClaims::Leave;
    bench.one("PF-15", Level::Blocks);
}

#[test]
fn an_included_idle_claim_must_be_available_and_bound() {
    let mut bench = with_idle_claim(2);
    bench.request.idle_claims = IdleClaims::Include;
    let node = fixtures::instance_id(Side::Source, 1);
    bench.ec2("data-web-7", |volume| {
        volume.state = VolumeState::InUse;
        volume.attachments = vec![crate::world::Attachment {
            instance: node,
            state: crate::world::AttachmentState::Attached,
            delete_on_termination: false,
        }];
    });
    bench.one("PF-23", Level::Blocks);
    let mut bench = with_idle_claim(2);
    bench.request.idle_claims = IdleClaims::Include;
    bench.edit(Side::Source, CLAIM, "data-web-7", |claim| claim["status"]["phase"] = "Lost".into());
    bench.one("PF-13", Level::Blocks);
}

#[test]
fn data_outside_claims_warns_and_scratch_is_told() {
    let mut bench = Bench::fine();
    bench.set(|set| {
        set["spec"]["template"]["spec"]["volumes"] = json!([
            { "name": "host", "hostPath": { "path": "/var/lib/x" } },
            { "name": "cache", "ephemeral": { "volumeClaimTemplate": { "spec": { "resources": { "requests": { "storage": "5Gi" } } } } } },
        ]);
    });
    let finding = bench.one("PF-36", Level::Warns);
    assert!(finding.what.contains("/var/lib/x") && finding.what.contains("5Gi"), "{finding:?}");
    let mut bench = Bench::fine();
    bench.set(|set| set["spec"]["template"]["spec"]["volumes"] = json!([{ "name": "tmp", "emptyDir": {} }]));
    bench.passes();
    assert!(bench.told("PF-36").what.contains("tmp"));
}
