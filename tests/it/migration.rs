//! The main job: a set moves by the shipped binary, forward and back, and the judge has nothing to say.

use std::fs;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use bed::judge::{Expected, Order};
use bed::node::PodKnobs;
use bed::workload::{Class, USUAL_CLASS, Workload, absent};
use bed::{Bed, Cluster, ec2, node, users};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::events;
use crate::screen::Screen;
use crate::stage::{PATIENT, Stage};
use crate::support::{KillOnDrop, Operator, on_bed};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("migration::moves_three_replicas_of_two_claims_into_another_namespace", one_by_one),
        on_bed("migration::moves_all_together", together),
        on_bed("migration::moves_a_set_that_starts_at_three", start_ordinal),
        on_bed("migration::moves_a_parallel_set_with_min_ready_seconds", parallel),
        on_bed("migration::moves_a_parallel_set_together", parallel_together),
        on_bed("migration::keeps_labels_annotations_options_and_maps_the_class", dressed),
        on_bed("migration::goes_back_while_a_detach_sticks_in_the_source", back_from_stuck_detach),
        on_bed("migration::pauses_when_a_pod_is_never_ready_and_resumes", never_ready),
        on_bed("migration::rolls_back_before_any_ordinal", |bed| rolled_back(bed, "back-none", "freeze", None)),
        on_bed("migration::rolls_back_after_one_ordinal", |bed| rolled_back(bed, "back-one", "swing", Some("0"))),
        on_bed("migration::rolls_back_after_all_ordinals", |bed| rolled_back(bed, "back-all", "cutover", None)),
        on_bed("migration::rolls_back_from_prepare", |bed| rolled_back(bed, "back-prepare", "prepare", None)),
        on_bed("migration::rolls_back_over_pairs_that_somebody_deletes", deleted_pairs),
        on_bed("migration::is_finalized_over_a_claim_that_somebody_deleted", deleted_claim),
        on_bed("migration::is_rolled_back_although_a_pod_cannot_be_scheduled", unschedulable),
        on_bed("migration::goes_forward_again_after_a_rollback", forward_again),
        on_bed("migration::stops_no_pod_while_ec2_refuses_to_answer", no_answer_of_ec2),
        on_bed("migration::refuses_a_second_tool_at_once", two_tools),
        on_bed("migration::refuses_without_a_terminal_and_without_yes", no_terminal),
        on_bed("migration::refuses_other_choices_on_resume", other_choices),
    ]
}

pub(crate) fn usual(replicas: i32) -> impl FnOnce(Workload) -> Workload {
    move |workload| workload.replicas(replicas).claim("data", "1Gi", USUAL_CLASS).claim("log", "1Gi", USUAL_CLASS)
}

async fn one_by_one(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "one-by-one", |set| usual(3)(set).retention("Delete", "Delete")).await?;
    let case = stage.case().await?;
    let policies = stage.policies(Cluster::A).await?;
    ensure!(policies == ["Delete"; 6], "the class says Delete: {policies:?}");
    let ended = stage.run("run", &["--order", "one-by-one", "--yes"]).await?.expect_code(0);
    ensure!(ended.stderr.contains("finalize"), "it says what is left: {}", ended.stderr);
    ensure!(stage.ready_pods(Cluster::B).await? == 3);
    ensure!(stage.policies(Cluster::B).await? == ["Retain"; 6], "Retain until finalize");
    stage.run("finalize", &["--yes"]).await?.expect_code(0);
    ensure!(stage.policies(Cluster::B).await? == ["Delete"; 6], "A's policies arrive in B");
    let set = stage.set(Cluster::B).await?.context("the set is in B")?;
    let policy = set.spec.persistent_volume_claim_retention_policy.unwrap_or_default();
    ensure!(policy.when_deleted.as_deref() == Some("Delete") && policy.when_scaled.as_deref() == Some("Delete"));
    let status = stage.run("status", &[]).await?.expect_code(0);
    ensure!(status.stdout.contains("Completed"), "{}", status.stdout);
    stage.end(case.expecting(Expected::Finalized)).await
}

async fn together(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "together", usual(3)).await?;
    let case = stage.case().await?.ordered(Order::Together);
    let flags = ["--order", "together", "--yes", "--finalize", "--events", "events.jsonl"];
    stage.run("run", &flags).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::B).await? == 3);
    let log = events::documented(&stage.operator.home().join("events.jsonl"))?;
    ensure!(events::ends(&log) == ["completed"], "{log:?}");
    let asked: Vec<&Value> = events::of(&log, "answer").into_iter().map(|it| &it["question"]).collect();
    ensure!(asked == ["freeze", "allPods", "deleting"], "{asked:?}");
    stage.end(case.expecting(Expected::Finalized)).await
}

async fn start_ordinal(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "start", |set| usual(2)(set).start_ordinal(3)).await?;
    let case = stage.case().await?;
    stage.run("run", &["--order", "one-by-one", "--yes", "--finalize"]).await?.expect_code(0);
    let set = stage.set(Cluster::B).await?.context("the set is in B")?;
    ensure!(set.spec.replicas == Some(2) && set.spec.ordinals.and_then(|it| it.start) == Some(3));
    ensure!(stage.ready_pods(Cluster::B).await? == 2);
    stage.end(case.expecting(Expected::Finalized)).await
}

async fn parallel(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "parallel", |set| usual(2)(set).parallel().min_ready_seconds(2)).await?;
    let case = stage.case().await?;
    stage.run("run", &["--order", "one-by-one", "--yes"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::B).await? == 2);
    stage.end(case.expecting(Expected::Moved)).await
}

async fn parallel_together(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "parallel-all", |set| usual(3)(set).parallel()).await?;
    let case = stage.case().await?.ordered(Order::Together);
    stage.run("run", &["--order", "together", "--yes"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::B).await? == 3);
    stage.end(case.expecting(Expected::Moved)).await
}

async fn dressed(bed: &'static Bed) -> Result<()> {
    let old = Class::new("move-dressed-old").mount_options(&["noatime"]).file_system("xfs");
    let new = Class::new("move-dressed-new").mount_options(&["noatime"]).file_system("xfs");
    let manifest = new.manifest();
    let dress = |set: Workload| {
        set.replicas(1)
            .class(old)
            .claim("data", "2Gi", "move-dressed-old")
            .label("team", "payments")
            .annotation("example.org/owner", "dba")
            .pod_label("tier", "db")
            .edit(|set| {
                set["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"] = serde_json::json!({ "backup": "daily" });
                set["spec"]["volumeClaimTemplates"][0]["metadata"]["annotations"] =
                    serde_json::json!({ "example.org/tier": "gold" });
            })
    };
    let stage = Stage::new(bed, "dressed", dress).await?;
    bed::workload::apply(&stage.b, manifest).await?;
    let case = stage.case().await?.with_class("move-dressed-old", "move-dressed-new");
    let map = ["--storage-class-map", "move-dressed-old=move-dressed-new", "--yes", "--finalize"];
    stage.run("run", &map).await?.expect_code(0);
    let set = serde_json::to_value(stage.set(Cluster::B).await?.context("the set is in B")?)?;
    let at = |pointer: &str| set.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    ensure!(at("/metadata/labels/team") == "payments" && at("/metadata/annotations/example.org~1owner") == "dba");
    ensure!(at("/spec/volumeClaimTemplates/0/spec/storageClassName") == "move-dressed-new");
    let volume = stage.volumes(Cluster::B).await?.remove(0).spec.context("a PV has a spec")?;
    ensure!(volume.mount_options.unwrap_or_default() == ["noatime"]);
    ensure!(volume.csi.and_then(|csi| csi.fs_type).as_deref() == Some("xfs"));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(stage.b.clone(), &stage.destination);
    let claim = claims.get("data-web-0").await?;
    ensure!(claim.metadata.labels.unwrap_or_default().get("backup").map(String::as_str) == Some("daily"));
    let annotations = claim.metadata.annotations.unwrap_or_default();
    ensure!(annotations.get("example.org/tier").map(String::as_str) == Some("gold"), "{annotations:?}");
    stage.end(case.expecting(Expected::Finalized)).await
}

async fn back_from_stuck_detach(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "stuck-back", usual(2)).await?;
    let case = stage.case().await?;
    let control = ec2::Control::new(bed.ec2_url());
    let volumes = stage.workload.volumes(&stage.a).await?;
    let (_, volume) = volumes.into_iter().find(|(claim, _)| claim == "data-web-1").context("a volume of web-1")?;
    let stick =
        |sticks| ec2::Knobs { volume: Some(volume.clone()), detach_sticks: Some(sticks), ..ec2::Knobs::default() };
    control.knobs(&stick(true)).await?;
    let ended = stage.run("run", &["--order", "one-by-one", "--yes", "--detach-timeout", "3s"]).await?.expect_code(1);
    ensure!(ended.stderr.contains(&volume) && stage.ready_pods(Cluster::B).await? == 1, "{}", ended.stderr);
    // A holds it still: no reason to leave A without its set, and web-0 without a pod.
    let ended = stage.run("rollback", &["--yes", "--ready-timeout", "8s"]).await?.expect_code(1);
    ensure!(ended.stderr.contains("rolled back, but not everything is up: "), "{}", ended.stderr);
    ensure!(stage.set(Cluster::A).await?.is_some() && stage.set(Cluster::B).await?.is_none());
    control.knobs(&stick(false)).await?;
    control.release(&volume).await?;
    stage.run("rollback", &["--yes"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::A).await? == 2);
    stage.end(case.expecting(Expected::RolledBack)).await
}

async fn never_ready(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "never-ready", usual(2)).await?;
    let case = stage.case().await?;
    let knobs = node::Control::new(bed.ec2_url());
    let never = PodKnobs { never_ready: true, ..PodKnobs::default() };
    knobs.pod_knobs(Some(Cluster::B), &stage.destination, "web-0", never).await?;
    let ended = stage.run("run", &["--order", "one-by-one", "--yes", "--ready-timeout", "8s"]).await?.expect_code(1);
    ensure!(ended.stderr.contains("web-0"), "it names the pod: {}", ended.stderr);
    ensure!(stage.ready_pods(Cluster::A).await? == 1, "the next pod still runs in A");
    knobs.pod_knobs(Some(Cluster::B), &stage.destination, "web-0", PodKnobs::default()).await?;
    stage.run("run", &["--yes"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::B).await? == 2);
    stage.end(case.expecting(Expected::Moved)).await
}

pub(crate) fn spawn(stage: &Stage, arguments: &[&str]) -> Result<Child> {
    let mut command = stage.operator.command(stage.arguments("run", arguments));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start sts-migrate")
}

async fn rolled_back(bed: &'static Bed, name: &str, until: &str, pause_after: Option<&str>) -> Result<()> {
    let stage = Stage::new(bed, name, |set| usual(2)(set).retention("Delete", "Retain")).await?;
    let case = stage.case().await?;
    let mut arguments = vec!["--order", "one-by-one", "--yes", "--until", until];
    if let Some(ordinal) = pause_after {
        arguments.extend(["--pause-after", ordinal]);
    }
    stage.run("run", &arguments).await?.expect_code(0);
    let changed = if until == "cutover" { change_destination(&stage).await? } else { Vec::new() };
    let ended = stage.run("rollback", &["--yes", "--events", "events.jsonl"]).await?.expect_code(0);
    let diff: Vec<&str> = ended.stderr.lines().map(str::trim).filter(|line| line.contains('→')).collect();
    ensure!(diff == changed, "{}", ended.stderr);
    let log = events::documented(&stage.operator.home().join("events.jsonl"))?;
    ensure!(events::ends(&log) == ["rolledBack"], "{log:?}");
    let begun = events::of(&log, "begin");
    ensure!(begun.len() == 1 && begun[0]["direction"] == "back" && begun[0]["set"] == "web", "{begun:?}");
    let answers = events::of(&log, "answer");
    ensure!(answers.len() == 1 && answers[0]["question"] == "rollback", "{answers:?}");
    ensure!(stage.ready_pods(Cluster::A).await? == 2, "{}", ended.stderr);
    let set = stage.set(Cluster::A).await?.context("the set is back in A")?;
    let policy = set.spec.persistent_volume_claim_retention_policy.unwrap_or_default();
    ensure!(policy.when_deleted.as_deref() == Some("Delete"), "{policy:?}");
    ensure!(stage.policies(Cluster::A).await? == ["Delete"; 4]);
    ensure!(stage.set(Cluster::B).await?.is_none());
    let status = stage.run("status", &[]).await?.expect_code(0);
    ensure!(status.stdout.contains("RolledBack"), "{}", status.stdout);
    stage.end(case.expecting(Expected::RolledBack)).await
}

/// Changes the set and its Service in B, as somebody may between a move and its rollback; returns how that
/// is shown.
async fn change_destination(stage: &Stage) -> Result<Vec<&'static str>> {
    let namespace = &stage.destination;
    let sets: Api<StatefulSet> = Api::namespaced(stage.b.clone(), namespace);
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "tier": "gold" } }, "spec": { "minReadySeconds": 1 } }));
    sets.patch(stage.workload.name(), &PatchParams::default(), &patch).await?;
    let services: Api<Service> = Api::namespaced(stage.b.clone(), namespace);
    let patch = Patch::Merge(json!({ "spec": { "publishNotReadyAddresses": true } }));
    services.patch(stage.workload.name(), &PatchParams::default(), &patch).await?;
    Ok(vec![
        "StatefulSet web in the destination is not as it was made (was → is):",
        "metadata.labels.tier: nothing → \"gold\"",
        "spec.minReadySeconds: nothing → 1",
        "Service web in the destination is not as it was made (was → is):",
        "spec.publishNotReadyAddresses: nothing → true",
    ])
}

/// Credentials that have run out overnight are met while all pods run, on both ways.
async fn no_answer_of_ec2(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "no-ec2", usual(2)).await?;
    let case = stage.case().await?.ordered(Order::Together);
    let key = bed.ec2().key(&stage.tool.access_key).await?;
    let mut without = key.clone();
    without.allow.clear();
    let refused = async |command: &str, side: Cluster| -> Result<()> {
        bed.ec2().set_key(&without).await?;
        let said = stage.run(command, &["--yes"]).await?.expect_code(1).stderr;
        ensure!(said.contains("DescribeVolumes in EC2") && said.contains("`aws sts get-caller-identity`"), "{said}");
        ensure!(stage.ready_pods(side).await? == 2, "{command} stopped a pod: {said}");
        bed.ec2().set_key(&key).await
    };
    stage.run("freeze", &["--yes", "--order", "together"]).await?.expect_code(0);
    refused("swing", Cluster::A).await?;
    refused("rollback", Cluster::A).await?;
    stage.back(case).await?;
    let case = stage.case().await?.ordered(Order::Together);
    stage.run("run", &["--yes", "--order", "together"]).await?.expect_code(0);
    refused("rollback", Cluster::B).await?;
    stage.back(case).await?;
    stage.leave().await
}

/// Behind the move somebody tidies up in A: nothing forward needs what is gone.
async fn deleted_claim(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "deleted-claim", usual(1)).await?;
    let case = stage.case().await?;
    stage.run("run", &["--yes"]).await?.expect_code(0);
    stage.claims(Cluster::A).delete("log-web-0", &DeleteParams::default()).await?;
    absent(stage.claims(Cluster::A), "log-web-0", PATIENT).await?;
    stage.run("finalize", &["--yes"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::B).await? == 1);
    stage.end(case.expecting(Expected::Finalized)).await
}

/// Behind the move somebody tidies up in A: what is Terminating there, or gone, is made again.
async fn deleted_pairs(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "deleted-pairs", usual(1)).await?;
    let case = stage.case().await?;
    stage.run("run", &["--yes"]).await?.expect_code(0);
    let before = stage.volumes(Cluster::A).await?;
    let volumes: Api<PersistentVolume> = Api::all(stage.a.clone());
    volumes.delete(&before[0].name_any(), &DeleteParams::default()).await?;
    ensure!(volumes.get(&before[0].name_any()).await?.metadata.deletion_timestamp.is_some(), "its claim protects it");
    stage.claims(Cluster::A).delete("log-web-0", &DeleteParams::default()).await?;
    absent(stage.claims(Cluster::A), "log-web-0", PATIENT).await?;
    // Not retained, its volume would be deleted as soon as B lets go of it.
    let patch = Patch::Merge(json!({ "spec": { "persistentVolumeReclaimPolicy": "Delete" } }));
    volumes.patch(&before[1].name_any(), &PatchParams::default(), &patch).await?;
    let named = format!("somebody set PersistentVolume {} in the source cluster to Delete", before[1].name_any());
    let said = stage.run("rollback", &["--yes"]).await?.expect_code(1).stderr;
    ensure!(said.contains(&named) && said.contains(&format!("patch pv {}", before[1].name_any())), "{said}");
    ensure!(stage.ready_pods(Cluster::B).await? == 1, "B had to let go: {said}");
    let warned = async || {
        let status = stage.status_elsewhere().await?["status"]["remarks"].clone();
        let remarks = status.as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok::<_, anyhow::Error>(remarks.filter(|it| it.starts_with(&named)).map(str::to_owned).collect::<Vec<_>>())
    };
    let warning = warned().await?.pop().context("status warns too")?;
    let command = warning.split('`').nth(1).context("a command to type")?;
    // As somebody else: what this user writes the judge holds the tool to.
    let admin = Operator::with(bed, users::ADMIN, &stage.tool.access_key)?;
    Screen::shell(&admin, command)?.agree(0).await?;
    ensure!(warned().await?.is_empty(), "`{command}` did not help");
    stage.back(case).await?;
    for (before, after) in before.iter().zip(stage.volumes(Cluster::A).await?) {
        ensure!(after.name_any() == before.name_any() && after.uid() != before.uid(), "{}", after.name_any());
        ensure!(after.metadata.deletion_timestamp.is_none());
    }
    ensure!(stage.policies(Cluster::A).await? == ["Delete"; 2]);
    stage.leave().await
}

/// No node of A takes the pods any more: the migration is undone all the same, and says what is missing.
async fn unschedulable(bed: &'static Bed) -> Result<()> {
    const LABEL: &str = "move-unschedulable";
    let label_nodes = async |client: &Client, value: Option<&str>| -> Result<()> {
        let nodes: Api<Node> = Api::all(client.clone());
        for node in nodes.list(&ListParams::default()).await? {
            let patch = json!({ "metadata": { "labels": { LABEL: value } } });
            nodes.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        Ok(())
    };
    for cluster in Cluster::BOTH {
        label_nodes(&bed.client(cluster, users::ADMIN).await?, Some("yes")).await?;
    }
    let stage = Stage::new(bed, "unschedulable", |set| usual(2)(set).node_selector(LABEL, "yes")).await?;
    let case = stage.case().await?;
    stage.run("run", &["--order", "one-by-one", "--yes"]).await?.expect_code(0);
    label_nodes(&stage.a, None).await?;
    let ended = stage.run("rollback", &["--yes", "--ready-timeout", "2s"]).await?.expect_code(1);
    ensure!(ended.stderr.contains("rolled back, but") && ended.stderr.contains("web-0: 0/"), "{}", ended.stderr);
    let status = stage.run("status", &[]).await?.expect_code(0);
    ensure!(status.stdout.contains("RolledBack") && status.stdout.contains(" rollback "), "{}", status.stdout);
    ensure!(stage.policies(Cluster::A).await? == ["Retain"; 4], "none of the volumes is home");
    label_nodes(&stage.a, Some("yes")).await?;
    stage.run("rollback", &["--yes"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::A).await? == 2);
    ensure!(stage.policies(Cluster::A).await? == ["Delete"; 4]);
    let status = stage.run("status", &[]).await?.expect_code(0);
    ensure!(!status.stdout.contains(" rollback "), "nothing is left to finish: {}", status.stdout);
    stage.end(case.expecting(Expected::RolledBack)).await
}

async fn forward_again(bed: &'static Bed) -> Result<()> {
    let mut stage = Stage::new(bed, "again", usual(1)).await?;
    let case = stage.case().await?;
    // The volumes' zone says the region, and a profile whose the credentials are.
    let credentials =
        format!("[night]\naws_access_key_id = {}\naws_secret_access_key = never-verified\n", stage.tool.access_key);
    fs::create_dir(stage.operator.home().join(".aws"))?;
    fs::write(stage.operator.home().join(".aws/credentials"), credentials)?;
    for name in ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        stage.operator.unset(name);
    }
    let said = stage.run("run", &["--yes", "--profile", "night"]).await?.expect_code(0).stderr;
    ensure!(said.contains(" --profile night"), "what to type next is for the same profile: {said}");
    stage.run("rollback", &["--yes", "--profile", "night"]).await?.expect_code(0);
    stage.operator = Operator::new(bed, &stage.tool)?;
    case.expecting(Expected::RolledBack).assert_clean(bed).await?;
    let again = stage.case().await?;
    stage.run("run", &["--yes", "--finalize"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::B).await? == 1);
    stage.end(again.expecting(Expected::Finalized)).await
}

/// Returns what a user has changed, by the audit logs; asking for one's own rights changes nothing.
pub(crate) fn writes_of(bed: &Bed, user: &str) -> Result<Vec<String>> {
    let mut writes = Vec::new();
    for cluster in Cluster::BOTH {
        for event in bed.audit(cluster)? {
            let verb = event["verb"].as_str().unwrap_or_default();
            let resource = event["objectRef"]["resource"].as_str().unwrap_or_default();
            let is_read = matches!(verb, "get" | "list" | "watch") || resource == "selfsubjectaccessreviews";
            if event["user"]["username"] == user && !is_read {
                writes.push(format!("{verb} {resource} {}", event["objectRef"]["name"]));
            }
        }
    }
    Ok(writes)
}

async fn two_tools(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "two", usual(2)).await?;
    let case = stage.case().await?;
    let knobs = node::Control::new(bed.ec2_url());
    let never = PodKnobs { never_ready: true, ..PodKnobs::default() };
    knobs.pod_knobs(Some(Cluster::B), &stage.destination, "web-0", never).await?;
    let mut first = KillOnDrop(spawn(&stage, &["--order", "one-by-one", "--yes"])?);
    let pods: Api<Pod> = Api::namespaced(stage.b.clone(), &stage.destination);
    bed::workload::exists(pods, "web-0", PATIENT).await?;
    let second = bed.take_tool();
    let other = Operator::new(bed, &second)?;
    for command in [&["run", "--yes"][..], &["rollback", "--yes"]] {
        let ended = other.run(stage.arguments(command[0], &command[1..])).await?.expect_code(4);
        ensure!(ended.stderr.contains("lock") || ended.stderr.contains("holds"), "{}", ended.stderr);
    }
    ensure!(writes_of(bed, &second.user)? == [] as [String; 0], "the second one changed something");
    knobs.pod_knobs(Some(Cluster::B), &stage.destination, "web-0", PodKnobs::default()).await?;
    let status = tokio::task::spawn_blocking(move || first.0.wait()).await??;
    ensure!(status.code() == Some(0), "the first one goes on: {status}");
    ensure!(stage.ready_pods(Cluster::B).await? == 2);
    stage.end(case.expecting(Expected::Moved)).await
}

async fn no_terminal(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "no-terminal", usual(2)).await?;
    let case = stage.case().await?;
    let ended = stage.run("run", &["--order", "one-by-one"]).await?.expect_code(2);
    ensure!(ended.stderr.contains("--yes"), "{}", ended.stderr);
    // `--yes` does not choose the order.
    let ended = stage.run("run", &["--yes"]).await?.expect_code(2);
    ensure!(ended.stderr.contains("--order"), "{}", ended.stderr);
    stage.end(case.expecting(Expected::Untouched)).await
}

async fn other_choices(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "choices", usual(2)).await?;
    let case = stage.case().await?;
    stage.run("run", &["--order", "one-by-one", "--yes", "--until", "prepare"]).await?.expect_code(0);
    let ended = stage.run("run", &["--order", "together", "--yes"]).await?.expect_code(2);
    ensure!(ended.stderr.contains("together") && ended.stderr.contains("one-by-one"), "{}", ended.stderr);
    stage.run("rollback", &["--yes"]).await?.expect_code(0);
    let ended = stage.run("rollback", &["--yes"]).await?;
    ensure!(ended.code() != Some(0) || ended.stderr.contains("RolledBack"), "{}", ended.stderr);
    stage.end(case.expecting(Expected::RolledBack)).await
}
