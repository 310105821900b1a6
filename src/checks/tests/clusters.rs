//! PF-1 to PF-6.

use serde_json::json;

use super::{Bench, forbidden};
use crate::checks::Level;
use crate::fixtures;
use crate::record::{Record, Subject, stem};
use crate::world::{Kind, Side};

#[test]
fn a_cluster_that_does_not_answer_blocks_and_nothing_else_is_said() {
    for side in Side::BOTH {
        let mut bench = Bench::fine();
        bench.world.shelf_mut(side, Kind::Namespace).put_list_unknown(3, forbidden());
        let finding = bench.one("PF-1", Level::Blocks);
        assert!(finding.subject.contains(&side.to_string()), "{finding:?}");
        assert!(finding.what.contains("403"), "{finding:?}");
    }
}

#[test]
fn one_cluster_twice_blocks_even_when_forced() {
    let mut bench = Bench::fine();
    bench.request.force = true;
    bench.edit(Side::Destination, Kind::Namespace, "kube-system", |namespace| {
        namespace["metadata"]["uid"] = fixtures::CLUSTER_A.into();
    });
    let finding = bench.one("PF-2", Level::Blocks);
    assert!(finding.what.contains("same cluster"), "{finding:?}");
}

#[test]
fn each_right_that_is_missing_or_in_doubt_blocks() {
    let keys: Vec<_> = Bench::fine().world.allowed.keys().copied().collect();
    assert!(keys.len() > 80, "only {} rights are asked for", keys.len());
    for key in keys {
        let mut bench = Bench::fine();
        bench.world.allowed.insert(key, Ok(false));
        let finding = bench.one("PF-3", Level::Blocks);
        assert!(finding.what.contains(key.1) && finding.subject.contains(key.2.plural()), "{finding:?}");
        bench.world.allowed.insert(key, Err(forbidden()));
        assert!(bench.one("PF-3", Level::Blocks).what.contains("not known"));
        bench.world.allowed.remove(&key);
        bench.one("PF-3", Level::Blocks);
    }
}

#[test]
fn creating_the_namespace_asks_for_that_right() {
    let mut bench = Bench::fine();
    bench.request.create_namespace = true;
    let finding = bench.one("PF-3", Level::Blocks);
    assert!(finding.what.contains("create") && finding.subject.contains("namespaces"), "{finding:?}");
}

#[test]
fn an_open_record_blocks_and_an_ended_one_does_not() {
    let name = stem(Subject::Set, "web");
    let config_map = |record: &Record| json!({ "metadata": { "name": name, "namespace": "shop" }, "data": { "record.yaml": record.to_yaml() } });
    let open = Record::first(&fixtures::plan(3, 2));
    for side in Side::BOTH {
        let mut bench = Bench::fine();
        bench.put(side, Kind::ConfigMap, config_map(&open));
        let finding = bench.one("PF-4", Level::Blocks);
        assert!(finding.what.contains(&open.id) && finding.remedy.contains("sts-migrate run"), "{finding:?}");
        let ended = open.next(|record| record.outcome = Some(crate::record::Outcome::RolledBack));
        bench.put(side, Kind::ConfigMap, config_map(&ended));
        bench.passes();
        bench.put(side, Kind::ConfigMap, json!({ "metadata": { "name": name }, "data": {} }));
        bench.one("PF-4", Level::Blocks);
    }
}

#[test]
fn a_held_lease_warns_and_a_released_one_does_not() {
    let name = stem(Subject::Set, "web");
    let mut bench = Bench::fine();
    bench.put(
        Side::Destination,
        Kind::Lease,
        json!({ "metadata": { "name": name }, "spec": { "holderIdentity": "eve@laptop/1/2/3/4" } }),
    );
    assert!(bench.one("PF-4", Level::Warns).what.contains("eve@laptop"));
    bench.put(
        Side::Destination,
        Kind::Lease,
        json!({ "metadata": { "name": name }, "spec": { "holderIdentity": "" } }),
    );
    bench.passes();
}

#[test]
fn a_record_or_lease_that_cannot_be_read_blocks() {
    for kind in [Kind::ConfigMap, Kind::Lease] {
        let mut bench = Bench::fine();
        bench.world.shelf_mut(Side::Source, kind).put(3, &stem(Subject::Set, "web"), Err(forbidden()));
        bench.one("PF-4", Level::Blocks);
    }
}

#[test]
fn a_missing_namespace_in_the_source_blocks_with_the_nearest_name() {
    let mut bench = Bench::fine();
    bench.request.source.namespace = "shpo".to_owned();
    let finding = bench.told("PF-6");
    assert_eq!(finding.level, Level::Blocks);
    assert!(finding.what.contains("did you mean `shop`?"), "{finding:?}");
}

#[test]
fn a_missing_namespace_in_the_destination_blocks_with_the_nearest_name() {
    let mut bench = Bench::fine();
    bench.request.destination.namespace = "markte".to_owned();
    let finding = bench.told("PF-6");
    assert_eq!(finding.level, Level::Blocks);
    assert!(finding.what.contains("did you mean `market`?"), "{finding:?}");
}

#[test]
fn a_missing_namespace_in_the_destination_blocks_unless_it_may_be_created() {
    let mut bench = Bench::fine();
    bench.remove(Side::Destination, Kind::Namespace, "market");
    let finding = bench.one("PF-6", Level::Blocks);
    assert!(finding.remedy.contains("--create-namespace"), "{finding:?}");
    bench.request.create_namespace = true;
    bench.world.allowed.insert((Side::Destination, "create", Kind::Namespace), Ok(true));
    bench.passes();
}

#[test]
fn a_namespace_that_is_being_deleted_blocks() {
    for (side, name) in [(Side::Source, "shop"), (Side::Destination, "market")] {
        let mut bench = Bench::fine();
        bench.edit(side, Kind::Namespace, name, |namespace| namespace["status"]["phase"] = "Terminating".into());
        bench.one("PF-6", Level::Blocks);
        bench.world.shelf_mut(side, Kind::Namespace).put(3, name, Err(forbidden()));
        assert!(bench.one("PF-6", Level::Blocks).what.contains("not known"));
    }
}
