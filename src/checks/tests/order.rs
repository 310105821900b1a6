//! PF-34: order, evidence, siblings.

use serde_json::{Value, json};

use super::Bench;
use crate::checks::{Level, order::evidence};
use crate::fixtures;
use crate::world::{Kind, Side};

fn undecided() -> Bench {
    let mut bench = Bench::fine();
    bench.request.order = None;
    bench
}

#[test]
fn several_replicas_need_somebody_who_chooses() {
    let finding = undecided().one("PF-34", Level::Blocks);
    assert!(
        finding.remedy.contains("--order one-by-one web") && finding.remedy.contains("--order together web"),
        "{finding:?}"
    );
    let mut bench = Bench::of(&fixtures::plan(1, 1));
    bench.request.order = None;
    bench.passes();
}

#[test]
fn each_sign_is_evidence() {
    type Sign = (&'static str, fn(&mut Bench));
    let signs: [Sign; 6] = [
        ("container web names web-0 in its arguments", |bench| {
            bench
                .set(|set| set["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["--join=web-0.web:7000"]));
        }),
        ("variable PEERS", |bench| {
            bench.set(|set| {
                set["spec"]["template"]["spec"]["containers"][0]["env"] =
                    json!([{ "name": "PEERS", "value": "http://web-12.web" }]);
            });
        }),
        ("ConfigMap settings names web-1 in peers.conf", |bench| {
            bench.set(|set| {
                set["spec"]["template"]["spec"]["volumes"] =
                    json!([{ "name": "c", "configMap": { "name": "settings" } }])
            });
            let map = json!({ "metadata": { "name": "settings" }, "data": { "peers.conf": "a\nweb-1.web\n" } });
            bench.put(Side::Source, Kind::ConfigMap, map.clone());
            bench.put(Side::Destination, Kind::ConfigMap, map);
        }),
        ("Parallel", |bench| bench.set(|set| set["spec"]["podManagementPolicy"] = "Parallel".into())),
        ("PodDisruptionBudget quorum keeps 2 pods available", |bench| {
            bench.put(Side::Source, Kind::PodDisruptionBudget, budget(json!(2)))
        }),
        ("topology spread over topology.kubernetes.io/zone", |bench| {
            bench.set(|set| {
                set["spec"]["template"]["spec"]["topologySpreadConstraints"] = json!([
                    { "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1 },
                    { "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1 },
                ]);
            });
        }),
    ];
    for (wanted, sign) in signs {
        let mut bench = undecided();
        sign(&mut bench);
        let found = evidence(&bench.request, &bench.world);
        assert!(found.iter().any(|text| text.contains(wanted)), "{wanted}: {found:#?}");
        assert_eq!(found.len(), 2, "the governing Service's unready addresses, and this: {found:#?}");
        assert!(bench.one("PF-34", Level::Blocks).what.contains(wanted));
    }
}

#[test]
fn names_that_only_look_like_peers_are_no_evidence() {
    let mut bench = undecided();
    bench
        .edit(Side::Source, Kind::Service, "web", |service| service["spec"]["publishNotReadyAddresses"] = false.into());
    bench.set(|set| {
        set["spec"]["template"]["spec"]["containers"][0]["args"] =
            json!(["my-web-0.other", "web-.x", "web-0", "fooweb-1.x", "web-config.yaml"]);
    });
    assert_eq!(evidence(&bench.request, &bench.world), Vec::<String>::new());
    assert!(bench.one("PF-34", Level::Blocks).what.contains("no proof"));
}

fn budget(least: Value) -> Value {
    let selector = json!({ "matchLabels": { "app.kubernetes.io/instance": "shop" } });
    json!({ "metadata": { "name": "quorum" }, "spec": { "selector": selector, "minAvailable": least } })
}

#[test]
fn a_budget_is_told_with_what_it_will_allow() {
    let mut bench = Bench::fine();
    bench.put(Side::Source, Kind::PodDisruptionBudget, budget(json!(2)));
    bench.passes();
    assert!(bench.told("PF-34").what.contains("as before"));
    bench.put(Side::Source, Kind::PodDisruptionBudget, budget(json!("50%")));
    bench.passes();
    assert!(bench.told("PF-34").what.contains("allows no eviction"));
}

/// Tried on the bed: over two sets, one of them frozen, `maxUnavailable: 1` goes from 1 to 4 - 1 + 1.
#[test]
fn a_budget_over_another_set_too_is_told_to_open() {
    let with = |field: &str, value: Value| {
        let mut bench = Bench::fine();
        for ordinal in 0..2 {
            let owner = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "readers", "uid": "r", "controller": true });
            let metadata = json!({ "name": format!("readers-{ordinal}"), "labels": fixtures::labels(), "ownerReferences": [owner] });
            let status = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
            bench.put(Side::Source, Kind::Pod, json!({ "metadata": metadata, "status": status }));
        }
        let mut budget = budget(json!(2));
        budget["spec"].as_object_mut().expect("a map").remove("minAvailable");
        budget["spec"][field] = value;
        bench.put(Side::Source, Kind::PodDisruptionBudget, budget);
        bench.findings().into_iter().find(|finding| finding.subject.contains("quorum")).expect("it is told").what
    };
    for (field, value, wanted) in [
        ("maxUnavailable", json!(1), "allows 4 evictions at once"),
        ("maxUnavailable", json!("30%"), "allows 4 evictions at once"),
        ("minAvailable", json!("100%"), "allows 3 evictions at once"),
        ("maxUnavailable", json!(9), "allows 5 evictions at once"),
    ] {
        let what = with(field, value);
        assert!(what.contains(wanted) && what.contains("from the 2 pods that still have a controller"), "{what}");
    }
    assert!(with("minAvailable", json!(4)).contains("keeps 4 pods available after the freeze as before"));
}

#[test]
fn siblings_are_told_with_what_makes_them_siblings() {
    let mut bench = Bench::fine();
    bench.put(
        Side::Source,
        Kind::StatefulSet,
        json!({
            "metadata": { "name": "stranger" },
            "spec": { "serviceName": "stranger", "template": { "metadata": { "labels": { "app": "stranger" } } } },
        }),
    );
    bench.passes();
    assert!(!bench.findings().iter().any(|finding| finding.code == "PF-34"));
    bench.put(
        Side::Source,
        Kind::StatefulSet,
        json!({
            "metadata": { "name": "readers", "labels": fixtures::labels() },
            "spec": { "serviceName": "web", "template": { "metadata": { "labels": fixtures::labels() } } },
        }),
    );
    let finding = bench.told("PF-34");
    assert_eq!(finding.level, Level::Tells);
    assert!(finding.what.contains("readers (same governing Service, same Service, same release)"), "{finding:?}");
    assert!(!finding.what.contains("stranger"), "{finding:?}");
}
