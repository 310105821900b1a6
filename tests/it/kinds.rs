//! Kinds of claims, volumes and surroundings: idle claims, in-tree PVs, raw devices, a namespace that is
//! still to be made, and Services that belong to several.

use anyhow::{Context, Result, ensure};
use bed::facts::HistoryKind;
use bed::judge::{Case, Expected};
use bed::workload::{
    Class, IN_TREE_CLASS, USUAL_CLASS, Workload, apply, in_tree_claim, in_tree_class, namespace, snapshot, until,
    volume_of,
};
use bed::{Bed, Cluster, users};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, Service};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::stage::{PATIENT, SET, Stage};
use crate::support::{Ended, Operator, eventually, on_bed};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("kinds::idle_claims_move_too_when_asked", idle_included),
        on_bed("kinds::idle_claims_stay_untouched_when_asked", idle_left),
        on_bed("kinds::a_set_at_zero_moves_its_idle_claims", idle_only),
        on_bed("kinds::in_tree_claims_become_csi_ones_and_back", in_tree),
        on_bed("kinds::raw_devices_stay_raw", block),
        on_bed("kinds::a_missing_namespace_is_made_when_asked", created_namespace),
        on_bed("kinds::services_of_several_are_told_and_not_touched", shared_services),
    ]
}

/// Scales the set in a cluster, and waits until its controller and EC2 are at rest.
async fn scale(stage: &Stage, cluster: Cluster, replicas: i32) -> Result<()> {
    let sets: Api<StatefulSet> = Api::namespaced(stage.client(cluster).clone(), stage.namespace(cluster));
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    sets.patch(SET, &PatchParams::default(), &patch).await?;
    until(sets, SET, PATIENT, "scaled", |set| {
        set.and_then(|set| set.status.as_ref())
            .is_some_and(|status| status.replicas == replicas && status.available_replicas.unwrap_or(0) == replicas)
    })
    .await?;
    for claim in stage.workload.claims().split_off(usize::try_from(replicas)?) {
        let volume = volume_of(stage.client(cluster), stage.namespace(cluster), &claim).await?;
        stage.bed.ec2().await_available(&volume, PATIENT).await?;
        // The attacher removes its object only after EC2 has detached.
        let name = stage.volume(cluster, &claim).await?.metadata.name;
        let attachments: Api<VolumeAttachment> = Api::all(stage.client(cluster).clone());
        eventually("the VolumeAttachment to be gone", PATIENT, async || {
            let all = attachments.list(&Default::default()).await?;
            Ok(all.items.iter().all(|it| it.spec.source.persistent_volume_name != name).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// A set of two that was scaled down; the claim of the last ordinal is idle.
async fn scaled_down(bed: &'static Bed, name: &str, replicas: i32, when_deleted: &str) -> Result<Stage> {
    let dress = |set: Workload| set.replicas(2).claim("data", "1Gi", USUAL_CLASS).retention(when_deleted, "Retain");
    let stage = Stage::new(bed, name, dress).await?;
    scale(&stage, Cluster::A, replicas).await?;
    Ok(stage)
}

async fn idle_included(bed: &'static Bed) -> Result<()> {
    // With `Delete` the idle claim belongs to the set: it must not go with it.
    let stage = scaled_down(bed, "idle", 1, "Delete").await?;
    let idle = volume_of(&stage.a, &stage.source, "data-web-1").await?;
    let case = stage.case().await?.with_claim(bed, "data-web-1", 1).await?;
    let ended = stage.run("run", &["--yes"]).await?.expect_code(3);
    ensure!(ended.stderr.contains("PF-36") && ended.stderr.contains("--include-idle-claims"), "{}", ended.stderr);
    stage.there_and_back(case, &["--include-idle-claims"]).await?;
    ensure!(stage.policies(Cluster::A).await? == ["Delete"; 2]);

    let case = stage.case().await?.with_claim(bed, "data-web-1", 1).await?;
    stage.run("run", &["--include-idle-claims", "--yes", "--finalize"]).await?.expect_code(0);
    ensure!(volume_of(&stage.b, &stage.destination, "data-web-1").await? == idle);
    ensure!(stage.policies(Cluster::B).await? == ["Delete"; 2], "the idle volume got its policy back too");
    case.expecting(Expected::Finalized).assert_clean(bed).await?;
    // What it was kept for: a scale-up finds the old data.
    scale(&stage, Cluster::B, 2).await?;
    let history = bed.ec2().history(&idle).await?;
    let found = history.iter().rev().find(|entry| entry.cluster == Cluster::B && entry.kind == HistoryKind::Start);
    ensure!(found.is_some_and(|entry| entry.pod == "web-1" && entry.found > 0), "{history:?}");
    stage.leave().await
}

async fn idle_left(bed: &'static Bed) -> Result<()> {
    let stage = scaled_down(bed, "idle-left", 1, "Retain").await?;
    let volume = stage.volume(Cluster::A, "data-web-1").await?.metadata.name.unwrap_or_default();
    let is_idle = |name: &str| name.ends_with("/data-web-1") || name.ends_with(&format!("/{volume}"));
    let before = snapshot(&stage.a, &stage.source).await?.only(is_idle);
    ensure!(before.objects.len() == 2, "{before:?}");
    let case = stage.case().await?;
    stage.there_and_back(case, &["--leave-idle-claims"]).await?;
    let case = stage.case().await?;
    let ended = stage.run("run", &["--leave-idle-claims", "--yes", "--finalize"]).await?.expect_code(0);
    ensure!(ended.stderr.contains("PersistentVolumeClaim data-web-1"), "what stays is told: {}", ended.stderr);
    let status = stage.run("status", &[]).await?.expect_code(0);
    ensure!(status.stdout.contains("PersistentVolumeClaim data-web-1"), "{}", status.stdout);
    let after = snapshot(&stage.a, &stage.source).await?.only(is_idle);
    let differences = before.differences(&after);
    ensure!(differences.is_empty(), "what was to stay changed: {differences:?}");
    ensure!(stage.claims(Cluster::B).get_opt("data-web-1").await?.is_none(), "it did not move");
    stage.end(case.expecting(Expected::Finalized)).await
}

async fn idle_only(bed: &'static Bed) -> Result<()> {
    let stage = scaled_down(bed, "idle-only", 0, "Retain").await?;
    let case = |stage| async move {
        let case = Stage::case(stage).await?.with_claim(bed, "data-web-0", 0).await?;
        case.with_claim(bed, "data-web-1", 1).await
    };
    let ended = stage.run("run", &["--leave-idle-claims", "--yes"]).await?.expect_code(3);
    ensure!(ended.stderr.contains("PF-15"), "nothing would be handed over: {}", ended.stderr);
    stage.there_and_back(case(&stage).await?, &["--include-idle-claims"]).await?;
    ensure!(stage.policies(Cluster::A).await? == ["Delete"; 2]);
    let last = case(&stage).await?;
    stage.run("run", &["--include-idle-claims", "--yes", "--finalize"]).await?.expect_code(0);
    ensure!(stage.policies(Cluster::B).await? == ["Delete"; 2]);
    let set = stage.set(Cluster::B).await?.context("the set is in B")?;
    ensure!(set.spec.replicas == Some(0), "{:?}", set.spec.replicas);
    stage.end(last.expecting(Expected::Finalized)).await
}

fn is_in_tree(volume: &PersistentVolume) -> bool {
    volume.spec.as_ref().is_some_and(|spec| spec.aws_elastic_block_store.is_some() && spec.csi.is_none())
}

async fn in_tree(bed: &'static Bed) -> Result<()> {
    let a = bed.client(Cluster::A, users::ADMIN).await?;
    let b = bed.client(Cluster::B, users::ADMIN).await?;
    // The old class is nowhere but in A; in B its name stands for the CSI driver's own.
    apply(&b, Class::new(IN_TREE_CLASS).manifest()).await?;
    namespace(&a, "move-in-tree").await?;
    let id = in_tree_claim(bed, &a, "move-in-tree", "data-web-0", "Filesystem").await?;
    let dress = |set: Workload| {
        set.class(in_tree_class()).claim("data", "1Gi", IN_TREE_CLASS).claim("log", "1Gi", IN_TREE_CLASS)
    };
    let stage = Stage::new(bed, "in-tree", dress).await?;
    let before = stage.volumes(Cluster::A).await?;
    for volume in &before {
        let migrated = volume.metadata.annotations.iter().flatten().find(|(key, _)| key.ends_with("/migrated-to"));
        ensure!(is_in_tree(volume) && migrated.is_some(), "an in-tree PV, served through CSI: {volume:?}");
    }
    ensure!(volume_of(&a, &stage.source, "data-web-0").await? == id);

    let case = stage.case().await?;
    let ended = stage.run("run", &["--yes"]).await?.expect_code(0);
    ensure!(ended.stderr.contains("becomes the CSI form"), "{}", ended.stderr);
    for volume in stage.volumes(Cluster::B).await? {
        let spec = volume.spec.context("a PV has a spec")?;
        let csi = spec.csi.context("the CSI form")?;
        ensure!(csi.driver == "ebs.csi.aws.com" && csi.volume_handle.starts_with("vol-"), "{csi:?}");
        ensure!(spec.aws_elastic_block_store.is_none());
        let annotations = volume.metadata.annotations.unwrap_or_default();
        let provisioner = annotations.get("pv.kubernetes.io/provisioned-by").map(String::as_str);
        ensure!(provisioner == Some("ebs.csi.aws.com"), "{annotations:?}");
        ensure!(!annotations.contains_key("pv.kubernetes.io/migrated-to"), "{annotations:?}");
    }
    case.clone().expecting(Expected::Moved).assert_clean(bed).await?;
    stage.back(case).await?;
    let after = stage.volumes(Cluster::A).await?;
    let uids = |volumes: &[PersistentVolume]| volumes.iter().map(|it| it.metadata.uid.clone()).collect::<Vec<_>>();
    ensure!(uids(&before) == uids(&after) && after.iter().all(is_in_tree), "A's PVs are what they were: {after:?}");
    ensure!(stage.policies(Cluster::A).await? == ["Delete"; 2]);

    let case = stage.case().await?;
    stage.run("run", &["--yes", "--finalize"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::B).await? == 1);
    ensure!(stage.policies(Cluster::B).await? == ["Delete"; 2]);
    stage.end(case.expecting(Expected::Finalized)).await
}

async fn block(bed: &'static Bed) -> Result<()> {
    let a = bed.client(Cluster::A, users::ADMIN).await?;
    apply(&bed.client(Cluster::B, users::ADMIN).await?, Class::new(IN_TREE_CLASS).manifest()).await?;
    namespace(&a, "move-block").await?;
    in_tree_claim(bed, &a, "move-block", "old-web-0", "Block").await?;
    let dress = |set: Workload| {
        set.class(in_tree_class()).block_claim("raw", "1Gi", USUAL_CLASS).block_claim("old", "1Gi", IN_TREE_CLASS)
    };
    let stage = Stage::new(bed, "block", dress).await?;
    let case = stage.case().await?;
    stage.run("run", &["--yes"]).await?.expect_code(0);
    for volume in stage.volumes(Cluster::B).await? {
        let mode = volume.spec.and_then(|spec| spec.volume_mode);
        ensure!(mode.as_deref() == Some("Block"), "{mode:?}");
    }
    case.clone().expecting(Expected::Moved).assert_clean(bed).await?;
    stage.back(case).await?;
    let case = stage.case().await?;
    stage.run("run", &["--yes", "--finalize"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::B).await? == 1);
    stage.end(case.expecting(Expected::Finalized)).await
}

async fn created_namespace(bed: &'static Bed) -> Result<()> {
    let mut stage = Stage::new(bed, "create-ns", |set| set.claim("data", "1Gi", USUAL_CLASS)).await?;
    stage.destination = "move-create-ns-fresh".to_owned();
    let namespaces: Api<Namespace> = Api::all(stage.b.clone());
    let ended = stage.run("run", &["--yes"]).await?.expect_code(3);
    ensure!(ended.stderr.contains("PF-6") && ended.stderr.contains("--create-namespace"), "{}", ended.stderr);
    ensure!(namespaces.get_opt(&stage.destination).await?.is_none(), "a refusal makes nothing");
    let case = stage.case().await?;
    stage.there_and_back(case, &["--create-namespace"]).await?;
    ensure!(namespaces.get_opt(&stage.destination).await?.is_some(), "a namespace is never deleted");
    // Now it is there, and the flag is idle.
    let case = stage.case().await?;
    stage.run("run", &["--create-namespace", "--yes", "--finalize"]).await?.expect_code(0);
    stage.end(case.expecting(Expected::Finalized)).await
}

/// Objects of a release: one governing Service for two sets, and what others have.
fn release(set: Workload) -> Workload {
    let meta = |name: &str| json!({ "name": name });
    let service = |name: &str, spec: Value| json!({ "apiVersion": "v1", "kind": "Service", "metadata": meta(name), "spec": spec });
    let port = json!([{ "port": 80 }]);
    let backend = |name: &str| json!({ "service": { "name": name, "port": { "number": 80 } } });
    let path = |name: &str| json!({ "path": format!("/{name}"), "pathType": "Prefix", "backend": backend(name) });
    let front = json!({ "app": "front" });
    let pod = json!({ "containers": [{ "name": "main", "image": "registry.example/front:1" }] });
    set.claim("data", "1Gi", USUAL_CLASS)
        .pod_label("release", "shop")
        .without_governing_service()
        .object(service(SET, json!({ "clusterIP": "None", "selector": { "release": "shop" }, "ports": port })))
        .object(service("all", json!({ "selector": { "release": "shop" }, "ports": port })))
        .object(service("front", json!({ "selector": front, "ports": port })))
        .object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("front"),
            "spec": {
                "replicas": 1,
                "selector": { "matchLabels": front },
                "template": { "metadata": { "labels": front }, "spec": pod },
            },
        }))
        .object(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta("mixed"),
            "spec": { "rules": [{ "host": "shop.example", "http": { "paths": [path(SET), path("front")] } }] },
        }))
}

async fn shared_services(bed: &'static Bed) -> Result<()> {
    const READER: &str = "web-reader";
    let stage = Stage::new(bed, "shared", release).await?;
    let reader = Workload::new(&stage.source, READER)
        .claim("data", "1Gi", USUAL_CLASS)
        .grace_seconds(5)
        .pod_label("release", "shop")
        .without_governing_service()
        .edit(|set| set["spec"]["serviceName"] = json!(SET));
    reader.apply(&stage.a).await?;
    reader.wait_ready(&stage.a).await?;
    let published = |name: &str| name.starts_with("Service/") || name.starts_with("Ingress/");
    let before = snapshot(&stage.a, &stage.source).await?.only(published);

    let case = stage.case().await?;
    let ended = stage.run("run", &["--yes"]).await?.expect_code(0);
    for told in ["Service all", "Ingress mixed", READER] {
        ensure!(ended.stderr.contains(told), "it names {told}: {}", ended.stderr);
    }
    case.clone().expecting(Expected::Moved).assert_clean(bed).await?;
    let services: Api<Service> = Api::namespaced(stage.b.clone(), &stage.destination);
    let ingresses: Api<Ingress> = Api::namespaced(stage.b.clone(), &stage.destination);
    let names = async || -> Result<Vec<String>> {
        let found = services.list(&Default::default()).await?.items;
        Ok(found.into_iter().filter_map(|service| service.metadata.name).collect())
    };
    ensure!(names().await? == [SET] && ingresses.list(&Default::default()).await?.items.is_empty());

    // The second set finds its governing Service there and uses it. What led to both is now its own alone.
    let tool = bed.take_tool();
    let operator = Operator::new(bed, &tool)?;
    let of_reader = Case::for_set(bed, &tool, &stage.source, READER, &stage.destination).await?;
    let reader = async |command: &str| -> Result<Ended> {
        let place = ["--src", "a", "--dst", "b", "-n", &stage.source, "--dst-namespace", &stage.destination];
        operator.run([&[command, READER, "--yes"], &place[..]].concat()).await
    };
    reader("run").await?.expect_code(0);
    of_reader.clone().expecting(Expected::Moved).assert_clean(bed).await?;
    ensure!(names().await? == ["all", SET]);

    // The second one goes back: what leads to the first one's pods too stays, and is told.
    let ended = reader("rollback").await?.expect_code(0);
    ensure!(ended.stderr.contains("leave Service all in the destination cluster"), "{}", ended.stderr);
    ensure!(names().await? == ["all", SET], "one is used, the other never was the second one's");
    of_reader.expecting(Expected::RolledBack).assert_clean(bed).await?;
    stage.back(case.beside(READER)).await?;
    ensure!(names().await? == ["all"], "{:?}", names().await?);
    let differences = before.differences(&snapshot(&stage.a, &stage.source).await?.only(published));
    ensure!(differences.is_empty(), "A's Services and Ingresses are never changed: {differences:?}");
    stage.leave().await
}
