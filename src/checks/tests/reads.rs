//! `needed`: every read that a check relies on, and an end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{Bench, forbidden, needed};
use crate::checks::{blocks, preflight};
use crate::plan::Request;
use crate::world::{Answer, Kind, Namesakes, Read, Side, VolumeFacts, World};

/// Performs reads on an empty world as the full one answers them, until none is needed; counts rounds.
fn read_all(request: &Request, full: &World, refused: impl Fn(&Read) -> bool) -> (World, Vec<Vec<Read>>) {
    let mut world = World::default();
    let mut rounds = Vec::new();
    loop {
        let reads = needed(request, &world);
        if reads.is_empty() {
            return (world, rounds);
        }
        assert!(rounds.len() < 10, "it does not end: {reads:?}");
        for read in &reads {
            perform(read, full, &mut world, refused(read));
        }
        rounds.push(reads);
    }
}

fn perform(read: &Read, full: &World, world: &mut World, is_refused: bool) {
    match read {
        Read::List(side, kind) if is_refused => world.shelf_mut(*side, *kind).put_list_unknown(1, forbidden()),
        Read::List(side, kind) => {
            let all: Vec<_> = full.objects(*side, *kind).cloned().collect();
            world.shelf_mut(*side, *kind).put_list(1, all);
        }
        Read::Get(side, kind, name) => {
            let answer = match full.get(*side, *kind, name) {
                _ if is_refused => Err(forbidden()),
                Answer::Present { object, .. } => Ok(Some(object.clone())),
                _ => Ok(None),
            };
            world.shelf_mut(*side, *kind).put(1, name, answer);
        }
        Read::Volumes(ids) => {
            for id in ids {
                let mut facts = VolumeFacts::default();
                let known = full.volumes.get(id).and_then(VolumeFacts::latest);
                let answer = known.and_then(Result::ok).and_then(|(_, volume)| volume.cloned());
                facts.put(1, if is_refused { Err(forbidden()) } else { Ok(answer) });
                world.volumes.insert(id.clone(), facts);
            }
        }
        Read::Namesakes(side, name) => {
            let answer = Namesakes { found: Vec::new(), unknown: is_refused.then(forbidden) };
            world.namesakes.insert((*side, name.clone()), answer);
        }
        Read::NodePorts => {
            world.node_ports = Some(if is_refused { Err(forbidden()) } else { Ok(BTreeMap::new()) });
        }
        Read::Allowed(side, verb, kind) => {
            let answer = if is_refused { Err(forbidden()) } else { Ok(true) };
            world.allowed.insert((*side, verb, *kind), answer);
        }
    }
}

/// A set that has something of everything.
fn rich() -> Bench {
    let mut bench = Bench::fine();
    bench.set(|set| {
        set["metadata"]["annotations"] = json!({ "argocd.argoproj.io/tracking-id": "shop:x" });
        set["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] = "apps".into();
        let spec = &mut set["spec"]["template"]["spec"];
        spec["serviceAccountName"] = "web".into();
        spec["volumes"] = json!([{ "name": "c", "configMap": { "name": "settings" } }]);
    });
    let account = json!({ "metadata": { "name": "web" }, "imagePullSecrets": [{ "name": "registry" }] });
    bench.put(Side::Destination, Kind::ServiceAccount, account);
    for side in Side::BOTH {
        bench.put(side, Kind::ConfigMap, json!({ "metadata": { "name": "settings" }, "data": { "x": "web-1.web" } }));
    }
    bench.put(Side::Destination, Kind::Secret, json!({ "metadata": { "name": "registry" } }));
    bench
}

#[test]
fn what_was_read_is_all_that_the_checks_look_at() {
    let bench = rich();
    let (world, rounds) = read_all(&bench.request, &bench.world, |_| false);
    assert_eq!(preflight(&bench.request, &world), bench.findings());
    let all: BTreeSet<&Read> = rounds.iter().flatten().collect();
    assert_eq!(all.len(), rounds.iter().map(Vec::len).sum::<usize>(), "a read was asked for twice");
    assert!(all.contains(&Read::Get(Side::Destination, Kind::Secret, "registry".into())));
    assert!(all.contains(&Read::List(Side::Source, Kind::Application)));
    assert!(rounds.len() <= 5, "{}", rounds.len());
}

/// With the rights that README lists, no cluster is said not to answer because of a wrong name.
#[test]
fn where_namespaces_may_not_be_listed_a_wrong_one_is_told_all_the_same() {
    for side in Side::BOTH {
        let mut bench = Bench::fine();
        let place = if side == Side::Source { &mut bench.request.source } else { &mut bench.request.destination };
        place.namespace = "shpo".to_owned();
        let told = |may_list: bool| {
            let refused = |read: &Read| !may_list && *read == Read::Allowed(side, "list", Kind::Namespace);
            let (world, rounds) = read_all(&bench.request, &bench.world, refused);
            let is_listed = rounds.iter().flatten().any(|read| *read == Read::List(side, Kind::Namespace));
            assert_eq!(is_listed, may_list);
            let findings = preflight(&bench.request, &world);
            let found = findings.iter().find(|finding| finding.code == "PF-6");
            found.unwrap_or_else(|| panic!("no PF-6 in {findings:#?}")).what.clone()
        };
        assert!(told(true).starts_with("it is not there; "), "{side}");
        assert_eq!(told(false), "it is not there", "{side}");
    }
}

#[test]
fn each_read_that_is_refused_ends_and_is_never_taken_for_good() {
    let bench = rich();
    let (_, rounds) = read_all(&bench.request, &bench.world, |_| false);
    let sure = bench.findings();
    for refused in rounds.into_iter().flatten() {
        let (world, _) = read_all(&bench.request, &bench.world, |read| *read == refused);
        let findings = preflight(&bench.request, &world);
        match &refused {
            // Absence costs no data here: the answer is a warning, or the worse of two.
            Read::List(
                _,
                Kind::VerticalPodAutoscaler
                | Kind::Application
                | Kind::Kustomization
                | Kind::RoleBinding
                | Kind::NetworkPolicy,
            )
            | Read::Get(Side::Source, Kind::Secret, _) => {
                assert!(blocks(&findings, false), "{refused:?}");
            }
            Read::Namesakes(..) => assert!(findings.iter().any(|finding| finding.what.contains("operator"))),
            // For people only.
            Read::Get(Side::Source, Kind::ConfigMap, name) if name == "settings" => {}
            Read::List(Side::Source, Kind::PodDisruptionBudget | Kind::ControllerRevision | Kind::StorageClass) => {}
            _ => {
                let is_new = findings.iter().any(|finding| !sure.contains(finding));
                assert!(is_new && blocks(&findings, true), "{refused:?} refused: {findings:#?}");
            }
        }
    }
}

#[test]
fn everything_refused_ends_at_once() {
    let bench = rich();
    let (world, rounds) = read_all(&bench.request, &bench.world, |_| true);
    assert_eq!(rounds.len(), 1);
    assert!(preflight(&bench.request, &world).iter().all(|finding| finding.code == "PF-1"));
}

#[test]
fn a_typo_in_the_namespace_lists_the_namespaces() {
    let mut bench = Bench::fine();
    bench.request.source.namespace = "shpo".to_owned();
    bench.request.name = "wbe".to_owned();
    let (_, rounds) = read_all(&bench.request, &bench.world, |_| false);
    assert_eq!(rounds.last(), Some(&vec![Read::List(Side::Source, Kind::Namespace)]));
}
