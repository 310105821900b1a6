//! A claim that moves alone: what is looked at, and whose claim it may not be.

use serde_json::{Value, json};

use super::{Bench, needed, pod};
use crate::checks::{Level, in_use, reads_in_use};
use crate::fixtures;
use crate::plan::{MIGRATION_ANNOTATION, Request};
use crate::record::Subject;
use crate::world::{Attachment, AttachmentState, Kind, Read, Side, VolumeState};

/// Name of the sample claim.
const CLAIM: &str = "data-web-0";

/// A claim that nothing uses, and no set.
fn bench() -> Bench {
    let request = Request { subject: Subject::Claim, name: CLAIM.to_owned(), ..fixtures::request() };
    Bench::asking(request, fixtures::world(&fixtures::claim_plan()))
}

fn asking_for(name: &str) -> Bench {
    let mut bench = bench();
    bench.request.name = name.to_owned();
    bench
}

fn set(replicas: i64) -> Value {
    fixtures::plan(replicas, 1).sets[0].before.0.clone()
}

#[test]
fn an_unused_claim_passes_and_nothing_of_sets_is_read() {
    bench().passes();
    let empty = Bench { world: fixtures::world(&fixtures::claim_plan()), ..bench() };
    assert!(needed(&bench().request, &empty.world).iter().all(|read| matches!(read, Read::Allowed(..))));
    assert!(needed(&bench().request, &bench().world).is_empty());
}

#[test]
fn a_slip_of_the_finger_is_one_finding_with_the_nearest_name() {
    assert!(asking_for("data-wbe-0").one("PF-7", Level::Blocks).what.contains("did you mean `data-web-0`?"));
}

#[test]
fn the_name_of_a_set_or_volume_leads_to_what_was_meant() {
    let mut bench = asking_for("web");
    bench.put(Side::Source, Kind::StatefulSet, set(1));
    assert!(bench.one("PF-7", Level::Blocks).remedy.contains("`sts-migrate run --src a --dst b -n shop"));
    let volume = bench.volume_name(CLAIM);
    let remedy = asking_for(&volume).one("PF-7", Level::Blocks).remedy;
    assert!(remedy.contains("`sts-migrate move-volume") && remedy.ends_with(" data-web-0`"), "{remedy}");
}

#[test]
fn the_claim_of_a_set_is_the_sets() {
    for (replicas, level, flag) in [(1, Level::Blocks, " web`"), (0, Level::Forceable, "--include-idle-claims web`")] {
        let mut bench = bench();
        bench.put(Side::Source, Kind::StatefulSet, set(replicas));
        let finding = bench.one("PF-7", level);
        assert!(finding.remedy.contains(flag), "{}", finding.remedy);
    }
    // Of an ordinal that it does not run now, it is the set's all the same.
    let mut bench = bench();
    let mut other = set(1);
    other["spec"]["ordinals"] = json!({ "start": 5 });
    bench.put(Side::Source, Kind::StatefulSet, other);
    assert!(bench.one("PF-7", Level::Blocks).remedy.contains("--include-idle-claims"));
    // `data-web-0` is none of set `web-0`, nor of one whose template is called otherwise.
    for (name, template) in [("web-0", "data"), ("web", "logs"), ("eb", "data-w")] {
        let mut bench = self::bench();
        let mut other = set(1);
        other["metadata"]["name"] = name.into();
        other["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] = template.into();
        bench.put(Side::Source, Kind::StatefulSet, other);
        bench.passes();
    }
}

#[test]
fn a_set_that_is_frozen_has_left_its_mark() {
    let mut bench = bench();
    bench.volume(CLAIM, |volume| volume["metadata"]["annotations"][MIGRATION_ANNOTATION] = "0123456789.1".into());
    assert!(bench.one("PF-4", Level::Blocks).what.contains("0123456789.1"));
}

#[test]
fn pods_block_and_say_how_to_wait() {
    for side in Side::BOTH {
        let mut bench = bench();
        bench.put(side, Kind::Pod, pod("shell", CLAIM));
        assert!(bench.one("PF-18", Level::Blocks).remedy.contains("`--wait`"));
        assert_eq!(in_use(&bench.request, &bench.world).len(), 1);
        bench.edit(side, Kind::Pod, "shell", |pod| pod["status"]["phase"] = "Succeeded".into());
        bench.passes();
        assert_eq!(in_use(&bench.request, &bench.world), []);
    }
}

#[test]
fn a_volume_that_a_node_of_the_source_still_has_is_in_use() {
    let mut bench = bench();
    let instance = fixtures::instance_id(Side::Source, 0);
    for state in [AttachmentState::Attached, AttachmentState::Detaching] {
        bench.ec2(CLAIM, |volume| {
            volume.state = VolumeState::InUse;
            volume.attachments = vec![Attachment { instance: instance.clone(), state, delete_on_termination: false }];
        });
        assert!(bench.one("PF-18", Level::Blocks).what.contains(&instance));
    }
    let reads = reads_in_use(&bench.request, &bench.world);
    assert!(reads.contains(&Read::Volumes(vec![bench.volume_id(CLAIM)])), "{reads:?}");
    // Held by anybody else, it will not pass by itself.
    bench.ec2(CLAIM, |volume| volume.attachments[0].instance = "i-0stranger".to_owned());
    bench.findings().iter().find(|finding| finding.code == "PF-22").expect("a stranger has it");
    assert_eq!(in_use(&bench.request, &bench.world), []);
}

#[test]
fn workloads_at_rest_can_be_forced_and_others_not() {
    let pods = json!({ "spec": { "volumes": [{ "name": "d", "persistentVolumeClaim": { "claimName": CLAIM } }] } });
    let named = |spec: Value| json!({ "metadata": { "name": "user", "namespace": "shop", "uid": "u" }, "spec": spec });
    for (kind, spec, level) in [
        (Kind::Deployment, json!({ "replicas": 0, "template": pods }), Level::Forceable),
        (Kind::StatefulSet, json!({ "replicas": 0, "template": pods }), Level::Forceable),
        (Kind::CronJob, json!({ "jobTemplate": { "spec": { "template": pods } } }), Level::Forceable),
        (Kind::Deployment, json!({ "replicas": 1, "template": pods }), Level::Blocks),
        (Kind::DaemonSet, json!({ "template": pods }), Level::Blocks),
        (Kind::Job, json!({ "template": pods }), Level::Blocks),
    ] {
        let mut bench = bench();
        bench.put(Side::Source, kind, named(spec));
        let finding = bench.one("PF-18", level);
        assert!(!finding.remedy.contains("move-volume"), "{}", finding.remedy);
    }
}

#[test]
fn a_claim_of_a_pod_or_of_a_custom_resource_is_not_free() {
    let owner = |kind: &str| json!([{ "kind": kind, "name": "x", "uid": "u", "controller": true }]);
    let mut bench = bench();
    let claim = Kind::PersistentVolumeClaim;
    bench.edit(Side::Source, claim, CLAIM, |claim| claim["metadata"]["ownerReferences"] = owner("Pod"));
    bench.one("PF-13", Level::Blocks);
    bench.edit(Side::Source, claim, CLAIM, |claim| claim["metadata"]["ownerReferences"] = owner("Database"));
    bench.one("PF-8", Level::Forceable);
}

#[test]
fn what_is_no_ebs_volume_is_not_moved() {
    let mut bench = bench();
    bench
        .volume(CLAIM, |volume| volume["spec"]["csi"] = json!({ "driver": "efs.csi.aws.com", "volumeHandle": "fs-1" }));
    bench.one("PF-15", Level::Blocks);
}

#[test]
fn a_claim_of_its_name_in_the_destination_is_in_the_way() {
    let mut bench = bench();
    bench.copy(Kind::PersistentVolumeClaim, CLAIM);
    bench.one("PF-20", Level::Blocks);
}

#[test]
fn workloads_that_could_not_be_listed_are_doubted() {
    let mut bench = bench();
    bench.refuse(Side::Source, Kind::CronJob);
    bench.one("PF-18", Level::Blocks);
}
