use serde_json::json;

use super::*;
use crate::fixtures;
use crate::world::{Unknown, VolumeFacts};

fn built(world: &World) -> Result<Plan> {
    build(&fixtures::request(), 1, world)
}

fn refusal(world: &World) -> String {
    format!("{:#}", built(world).expect_err("it must refuse"))
}

fn put(world: &mut World, side: Side, kind: Kind, object: Value) {
    let object = Object(object);
    let name = object.name().to_owned();
    world.shelf_mut(side, kind).put(2, &name, Ok(Some(object)));
}

fn unknown() -> Unknown {
    Unknown { reason: "Forbidden: no".to_owned(), passing: false }
}

/// Makes the sample set a single pod that uses one plain claim besides its templates' ones.
fn with_plain_claim(templates: usize, volume: impl FnOnce(&mut Value)) -> World {
    let mut world = fixtures::world(&fixtures::plan(1, templates));
    let mut set = world.object(Side::Source, Kind::StatefulSet, fixtures::SET).expect("it is there").0.clone();
    set["spec"]["template"]["spec"]["volumes"] = json!([
        { "name": "plain", "persistentVolumeClaim": { "claimName": "backup" } },
        { "name": "data", "persistentVolumeClaim": { "claimName": "replaced" } },
    ]);
    put(&mut world, Side::Source, Kind::StatefulSet, set);
    let plain = fixtures::volume_plan(9, 5);
    let mut claim = plain.claim_before.0.clone();
    claim["metadata"]["name"] = "backup".into();
    put(&mut world, Side::Source, Kind::PersistentVolumeClaim, claim);
    let mut pv = plain.volume_before.0.clone();
    volume(&mut pv);
    put(&mut world, Side::Source, Kind::PersistentVolume, pv);
    let mut facts = VolumeFacts::default();
    let sample = fixtures::volumes(&fixtures::plan(1, 1)).into_values().next().expect("there is one");
    facts.put(2, Ok(Some(sample)));
    world.volumes.insert(plain.volume, facts);
    world
}

fn claims(plan: &Plan) -> Vec<String> {
    plan.sets[0].ordinals.iter().flat_map(|ordinal| &ordinal.volumes).map(|volume| volume.claim.clone()).collect()
}

#[test]
fn the_plan_of_the_sample_world_is_the_sample_plan() {
    for (start, replicas, templates) in [(0, 1, 1), (0, 3, 2), (3, 2, 1), (0, 12, 3)] {
        let plan = fixtures::plan_from(start, replicas, templates);
        let built = built(&fixtures::world(&plan)).expect("nothing is missing");
        assert_eq!(built, plan, "{replicas} replicas from {start}, {templates} templates");
    }
}

#[test]
fn the_plan_of_a_single_claim_has_a_pair_and_no_set() {
    let planned = fixtures::claim_plan();
    let world = fixtures::world(&planned);
    let request = Request { subject: Subject::Claim, name: planned.name().to_owned(), ..fixtures::request() };
    let built = build(&request, 1, &world).expect("nothing is missing");
    // Another claim of the same name, made later, is another migration.
    let id = migration_id(&request.source, planned.sets[0].idle[0].claim_before.uid(), &request.destination);
    assert_eq!(built, Plan { id, ..planned });
    assert_eq!(built.subject(), Subject::Claim);
    assert_eq!(needed(&request, &world), []);
}

#[test]
fn a_given_id_and_the_attempt_are_kept() {
    let request = Request { id: Some("mine".to_owned()), order: Some(Order::Together), ..fixtures::request() };
    let plan = build(&request, 4, &fixtures::world(&fixtures::plan(2, 1))).expect("nothing is missing");
    assert_eq!((plan.id.as_str(), plan.attempt, plan.choices.order), ("mine", 4, Order::Together));
}

#[test]
fn reads_are_asked_for_until_nothing_is_missing() {
    let plan = fixtures::plan(2, 2);
    let mut world = World::default();
    let reads = needed(&fixtures::request(), &world);
    assert!(reads.iter().all(|read| matches!(read, Read::List(..))), "{reads:?}");
    let full = fixtures::world(&plan);
    for read in &reads {
        let Read::List(side, kind) = read else { continue };
        world.shelf_mut(*side, *kind).put_list(1, full.objects(*side, *kind).cloned());
    }
    let mut ids: Vec<VolumeId> = plan.volumes().map(|volume| volume.volume.clone()).collect();
    ids.sort();
    assert_eq!(needed(&fixtures::request(), &world), [Read::Volumes(ids)]);
    world.volumes = full.volumes;
    assert_eq!(needed(&fixtures::request(), &world), []);
    assert_eq!(built(&world).expect("all was read"), plan);
}

#[test]
fn an_answer_with_an_error_is_not_asked_for_again_and_names_what_is_missing() {
    let mut world = fixtures::world(&fixtures::plan(2, 1));
    world.shelf_mut(Side::Source, Kind::Deployment).put_list_unknown(2, unknown());
    assert_eq!(needed(&fixtures::request(), &world), []);
    assert_eq!(refusal(&world), "list Deployments in the source cluster: Forbidden: no");
}

#[test]
fn what_is_missing_is_named() {
    let plan = fixtures::plan(2, 1);
    let volume = plan.sets[0].ordinals[1].volumes[0].clone();
    let world = || fixtures::world(&plan);

    let mut without_set = world();
    without_set.shelf_mut(Side::Source, Kind::StatefulSet).put(2, "web", Ok(None));
    assert_eq!(refusal(&without_set), "there is no StatefulSet `web` in the source cluster");

    let mut without_claim = world();
    without_claim.shelf_mut(Side::Source, Kind::PersistentVolumeClaim).put(2, "data-web-1", Ok(None));
    assert_eq!(refusal(&without_claim), "there is no PersistentVolumeClaim `data-web-1` in the source cluster");

    let mut unknown_claim = world();
    unknown_claim.shelf_mut(Side::Source, Kind::PersistentVolumeClaim).put(2, "data-web-1", Err(unknown()));
    assert_eq!(refusal(&unknown_claim), "read PersistentVolumeClaim `data-web-1` in the source cluster: Forbidden: no");

    let mut unbound = world();
    let mut claim = volume.claim_before.0.clone();
    claim["spec"]["volumeName"] = "".into();
    put(&mut unbound, Side::Source, Kind::PersistentVolumeClaim, claim);
    assert_eq!(refusal(&unbound), "PersistentVolumeClaim `data-web-1` is not bound");

    let mut other_driver = world();
    let mut pv = volume.volume_before.0.clone();
    pv["spec"]["csi"] = json!({ "driver": "efs.csi.aws.com", "volumeHandle": "fs-1" });
    put(&mut other_driver, Side::Source, Kind::PersistentVolume, pv);
    assert_eq!(
        refusal(&other_driver),
        format!(
            "PersistentVolume `{}` of PersistentVolumeClaim `data-web-1` is no EBS volume",
            volume.source_volume_name
        )
    );

    let mut not_found = world();
    not_found.volumes.entry(volume.volume.clone()).or_default().put(2, Ok(None));
    assert!(refusal(&not_found).starts_with(&format!("EC2 knows no volume `{}`", volume.volume)));

    let mut twins = world();
    let mut pv = volume.volume_before.0.clone();
    pv["spec"]["csi"]["volumeHandle"] = plan.sets[0].ordinals[0].volumes[0].volume.0.clone().into();
    put(&mut twins, Side::Source, Kind::PersistentVolume, pv);
    assert!(refusal(&twins).starts_with("PersistentVolumeClaims `data-web-0` and `data-web-1` use one volume"));
}

#[test]
fn a_set_without_any_ebs_claim_is_refused() {
    assert!(refusal(&fixtures::world(&fixtures::plan(2, 0))).contains("nothing to hand over"));
}

#[test]
fn a_plain_claim_of_a_single_pod_is_part_of_its_ordinal() {
    let plan = built(&with_plain_claim(1, |_| ())).expect("nothing is missing");
    assert_eq!(claims(&plan), ["data-web-0", "backup"]);
    let plan = built(&with_plain_claim(0, |_| ()));
    let missing = format!("{:#}", plan.expect_err("without a template, `replaced` is a claim of its own"));
    assert_eq!(missing, "there is no PersistentVolumeClaim `replaced` in the source cluster");
}

#[test]
fn a_plain_claim_that_is_no_ebs_volume_does_not_move() {
    let world = with_plain_claim(1, |volume| {
        volume["spec"]["csi"] = json!({ "driver": "efs.csi.aws.com", "volumeHandle": "fs-1" });
    });
    assert_eq!(claims(&built(&world).expect("nothing is missing")), ["data-web-0"]);
}

#[test]
fn a_plain_claim_of_several_pods_is_nobodys() {
    let mut world = with_plain_claim(1, |_| ());
    let second = fixtures::world(&fixtures::plan(2, 1));
    for kind in [Kind::PersistentVolumeClaim, Kind::PersistentVolume] {
        for object in second.objects(Side::Source, kind) {
            put(&mut world, Side::Source, kind, object.0.clone());
        }
    }
    world.volumes.extend(second.volumes);
    let mut set = world.object(Side::Source, Kind::StatefulSet, fixtures::SET).expect("it is there").0.clone();
    set["spec"]["replicas"] = 2.into();
    put(&mut world, Side::Source, Kind::StatefulSet, set);
    assert_eq!(claims(&built(&world).expect("nothing is missing")), ["data-web-0", "data-web-1"]);
}

#[test]
fn idle_claims_move_only_by_choice() {
    let mut plan = fixtures::plan(2, 2);
    let ordinal = plan.sets[0].ordinals.pop().expect("there are two");
    plan.sets[0].before.0["spec"]["replicas"] = 1.into();
    plan.sets[0].idle = ordinal.volumes;
    let world = fixtures::world(&plan);
    for (choice, claims) in [
        (IdleClaims::Undecided, vec![]),
        (IdleClaims::Leave, vec![]),
        (IdleClaims::Include, vec!["data-web-1", "logs-web-1"]),
    ] {
        let request = Request { idle_claims: choice, ..fixtures::request() };
        let built = build(&request, 1, &world).expect("nothing is missing");
        let found: Vec<&str> = built.sets[0].idle.iter().map(|volume| volume.claim.as_str()).collect();
        assert_eq!(found, claims, "{choice:?}");
    }
}

#[test]
fn a_set_at_zero_whose_claims_are_all_idle_has_a_plan() {
    let mut plan = fixtures::plan(1, 1);
    let ordinal = plan.sets[0].ordinals.pop().expect("there is one");
    plan.sets[0].before.0["spec"]["replicas"] = 0.into();
    plan.sets[0].idle = ordinal.volumes;
    let built = built(&fixtures::world(&plan)).expect("that the choice is missing is a check's matter");
    assert_eq!((built.sets[0].replicas(), built.sets[0].idle.len()), (0, 0));
}

#[test]
fn a_volume_name_that_is_taken_in_the_destination_is_derived_alike_each_time() {
    let plan = fixtures::plan(1, 1);
    let name = plan.sets[0].ordinals[0].volumes[0].source_volume_name.clone();
    let mut world = fixtures::world(&plan);
    put(&mut world, Side::Destination, Kind::PersistentVolume, json!({ "metadata": { "name": name } }));
    let chosen = |world: &World| built(world).expect("nothing is missing").sets[0].ordinals[0].volumes[0].clone();
    let first = chosen(&world);
    assert_eq!(first.source_volume_name, name);
    assert!(first.destination_volume_name.starts_with(&format!("{name}-")), "{}", first.destination_volume_name);
    assert_eq!(chosen(&world), first);
    let taken_too = json!({ "metadata": { "name": first.destination_volume_name } });
    put(&mut world, Side::Destination, Kind::PersistentVolume, taken_too);
    assert_ne!(chosen(&world).destination_volume_name, first.destination_volume_name);
}

#[test]
fn the_noted_reclaim_policy_wins_over_the_retain_of_an_earlier_attempt() {
    let cases = [
        (Some("Delete"), None, "Delete"),
        (Some("Retain"), None, "Retain"),
        (None, None, "Retain"),
        (Some("Retain"), Some("Delete"), "Delete"),
        (Some("Retain"), Some("Retain"), "Retain"),
        (Some("Retain"), Some("nonsense"), "Retain"),
        (Some("Delete"), Some("Retain"), "Delete"),
    ];
    for (live, noted, expected) in cases {
        let mut volume = json!({ "metadata": { "annotations": {} }, "spec": {} });
        if let Some(live) = live {
            volume["spec"]["persistentVolumeReclaimPolicy"] = live.into();
        }
        if let Some(noted) = noted {
            volume["metadata"]["annotations"][RECLAIM_POLICY_ANNOTATION] = noted.into();
        }
        assert_eq!(reclaim_policy(&Object(volume)), expected, "{live:?}, noted {noted:?}");
    }
}

#[test]
fn only_revisions_that_the_set_owns_are_noted() {
    let plan = fixtures::plan(1, 1);
    let mut world = fixtures::world(&plan);
    let of = |name: &str, owner: &str| json!({ "metadata": { "name": name, "uid": name, "ownerReferences": [{ "uid": owner }] } });
    put(&mut world, Side::Source, Kind::ControllerRevision, of("web-api-1", "another"));
    put(&mut world, Side::Source, Kind::ControllerRevision, of("web-0", fixtures::SET_UID));
    let mut revisions = built(&world).expect("nothing is missing").sets[0].revisions.clone();
    revisions.sort();
    assert_eq!(revisions, [fixtures::REVISION_UID, "web-0"]);
}

#[test]
fn services_come_governing_first_and_those_of_the_same_meaning_are_used() {
    let plan = fixtures::plan(2, 1);
    let mut world = fixtures::world(&plan);
    let service = |name: &str, spec: Value| {
        let mut spec = spec;
        spec["selector"] = fixtures::labels();
        json!({ "metadata": { "name": name }, "spec": spec })
    };
    for side in Side::BOTH {
        put(&mut world, side, Kind::Service, service("a-same", json!({ "clusterIP": format!("{side}") })));
        let headless = if side == Side::Source { "None" } else { "10.0.0.1" };
        put(&mut world, side, Kind::Service, service("b-other", json!({ "clusterIP": headless })));
    }
    put(&mut world, Side::Source, Kind::Service, service("c-public", json!({ "externalIPs": ["10.0.0.9"] })));
    put(
        &mut world,
        Side::Source,
        Kind::Service,
        json!({ "metadata": { "name": "d-else" }, "spec": { "selector": { "x": "y" } } }),
    );
    let ingress = json!({
        "metadata": { "name": "a-host" },
        "spec": { "defaultBackend": { "service": { "name": "a-same", "port": { "number": 80 } } } },
    });
    put(&mut world, Side::Source, Kind::Ingress, ingress);
    let built = built(&world).expect("nothing is missing");
    let found: Vec<(&str, Kind, bool, bool)> = built.sets[0]
        .services
        .iter()
        .map(|service| (service.before.name(), service.kind(), service.at_cutover, service.existing))
        .collect();
    assert_eq!(
        found,
        [
            ("web", Kind::Service, false, false),
            ("a-same", Kind::Service, false, true),
            ("b-other", Kind::Service, false, false),
            ("c-public", Kind::Service, true, false),
            ("a-host", Kind::Ingress, true, false),
        ]
    );
}
