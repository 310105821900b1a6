//! PF-7, PF-11, PF-12.

use serde_json::json;

use super::{Bench, forbidden, pod};
use crate::checks::Level;
use crate::fixtures;
use crate::world::{Kind, Side};

#[test]
fn a_set_that_is_not_there_blocks_with_the_nearest_name() {
    let mut bench = Bench::fine();
    bench.request.name = "wbe".to_owned();
    let finding = bench.one("PF-7", Level::Blocks);
    assert!(finding.what.contains("did you mean `web`?"), "{finding:?}");
    assert!(finding.remedy.contains("kubectl --context a -n shop get statefulsets"), "{finding:?}");
}

#[test]
fn a_set_of_another_api_group_is_named() {
    let mut bench = Bench::fine();
    bench.request.name = "cache".to_owned();
    let mut other = pod("cache-0", "data-cache-0");
    other["metadata"]["ownerReferences"] =
        json!([{ "kind": "StatefulSet", "name": "cache", "uid": "x", "controller": true }]);
    bench.put(Side::Source, Kind::Pod, other);
    assert!(bench.one("PF-7", Level::Blocks).what.contains("apps/v1"));
}

#[test]
fn a_set_that_cannot_be_read_blocks() {
    let mut bench = Bench::fine();
    bench.refuse(Side::Source, Kind::StatefulSet);
    assert!(bench.one("PF-7", Level::Blocks).what.contains("not known"));
}

#[test]
fn a_set_with_finalizers_or_being_deleted_blocks() {
    let mut bench = Bench::fine();
    bench.set(|set| set["metadata"]["finalizers"] = json!(["example.org/hold"]));
    assert!(bench.one("PF-7", Level::Blocks).what.contains("example.org/hold"));
    let mut bench = Bench::fine();
    bench.set(|set| set["metadata"]["deletionTimestamp"] = "2025-01-01T00:00:00Z".into());
    bench.one("PF-7", Level::Blocks);
}

#[test]
fn a_change_that_its_controller_has_not_seen_blocks() {
    let mut bench = Bench::fine();
    bench.set(|set| set["metadata"]["generation"] = 4.into());
    bench.one("PF-11", Level::Blocks);
    bench.set(|set| set["status"] = json!({}));
    bench.only("PF-11", Level::Blocks);
}

#[test]
fn mixed_revisions_block() {
    let mut bench = Bench::fine();
    bench.edit(Side::Source, Kind::Pod, "web-2", |pod| {
        pod["metadata"]["labels"]["controller-revision-hash"] = "web-old".into();
    });
    let finding = bench.one("PF-11", Level::Blocks);
    assert!(finding.what.contains("web-2") && finding.what.contains("mixed revisions"), "{finding:?}");
}

#[test]
fn a_held_set_of_one_revision_is_at_rest() {
    let mut bench = Bench::fine();
    bench.set(|set| {
        set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 3.into();
        set["status"]["currentRevision"] = "web-older".into();
    });
    bench.passes();
}

#[test]
fn a_terminating_pod_blocks() {
    let mut bench = Bench::fine();
    bench.edit(Side::Source, Kind::Pod, "web-1", |pod| pod["metadata"]["deletionTimestamp"] = "now".into());
    assert!(bench.one("PF-11", Level::Blocks).what.contains("web-1"));
}

#[test]
fn a_set_that_is_being_scaled_down_blocks() {
    let mut bench = Bench::fine();
    bench.set(|set| set["status"]["replicas"] = 4.into());
    bench.one("PF-11", Level::Blocks);
    // The same, seen from the pods.
    let mut bench = Bench::fine();
    let mut condemned = bench.world.object(Side::Source, Kind::Pod, "web-2").expect("it is there").0.clone();
    condemned["metadata"]["name"] = "web-3".into();
    condemned["spec"]["volumes"] = json!([]);
    bench.put(Side::Source, Kind::Pod, condemned);
    assert!(bench.one("PF-11", Level::Blocks).what.contains("web-3"));
}

#[test]
fn a_pod_that_is_not_ready_can_be_forced() {
    let mut bench = Bench::fine();
    bench.edit(Side::Source, Kind::Pod, "web-0", |pod| pod["status"]["conditions"][0]["status"] = "False".into());
    let finding = bench.one("PF-12", Level::Forceable);
    assert!(finding.what.contains("web-0 is not Ready") && finding.remedy.contains("--force"), "{finding:?}");
}

#[test]
fn a_missing_or_failed_pod_can_be_forced_when_its_volumes_are_free() {
    let free = |bench: &mut Bench| {
        for claim in ["data-web-1", "logs-web-1"] {
            bench.ec2(claim, |volume| {
                volume.attachments.clear();
                volume.state = crate::world::VolumeState::Available;
            });
        }
    };
    let mut bench = Bench::fine();
    bench.remove(Side::Source, Kind::Pod, "web-1");
    free(&mut bench);
    assert!(bench.one("PF-12", Level::Forceable).what.contains("web-1 is missing"));
    let mut bench = Bench::fine();
    bench.edit(Side::Source, Kind::Pod, "web-1", |pod| pod["status"]["phase"] = "Failed".into());
    free(&mut bench);
    assert!(bench.one("PF-12", Level::Forceable).what.contains("web-1 is Failed"));
}

#[test]
fn a_node_that_is_not_ready_or_doomed_can_be_forced() {
    let node = fixtures::node_name(Side::Source, 0);
    let mut bench = Bench::fine();
    bench.edit(Side::Source, Kind::Node, &node, |node| node["status"]["conditions"][0]["status"] = "Unknown".into());
    assert!(bench.one("PF-12", Level::Forceable).subject.contains(&node));
    let mut bench = Bench::fine();
    bench.edit(Side::Source, Kind::Node, &node, |node| {
        node["spec"]["taints"] = json!([{ "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" }]);
    });
    bench.one("PF-12", Level::Forceable);
}

#[test]
fn pods_that_cannot_be_listed_block() {
    let mut bench = Bench::fine();
    bench.refuse(Side::Source, Kind::Pod);
    let codes: Vec<&str> =
        bench.findings().iter().filter(|finding| finding.level == Level::Blocks).map(|finding| finding.code).collect();
    assert!(codes.contains(&"PF-11") && codes.contains(&"PF-18"), "{codes:?}");
    let mut bench = Bench::fine();
    bench.world.shelf_mut(Side::Source, Kind::Pod).put(3, "web-1", Err(forbidden()));
    assert!(bench.told("PF-12").what.contains("web-1"));
}
