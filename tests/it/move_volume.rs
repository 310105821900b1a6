//! `move-volume`: one claim moves without a set, there and back, and the judge has nothing to say.
//!
//! A pod in A writes on the volume before, pods on both sides start on it afterwards: the volume's own
//! history says what each found there.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use bed::judge::{Case, Expected};
use bed::workload::{
    Class, USUAL_CLASS, Workload, absent, apply, bound_claim, exists, namespace, remove_namespace, until, volume_of,
};
use bed::{Bed, Cluster, ec2};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, ResourceQuota, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use libtest_mimic::Trial;
use serde_json::json;

use crate::events;
use crate::migration::writes_of;
use crate::screen::Screen;
use crate::support::{KillOnDrop, Operator, eventually, on_bed};

pub(crate) mod scene;

use scene::{CLAIM, PATIENT, Scene};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("move_volume::there_and_finalized", finalized),
        on_bed("move_volume::there_and_back", there_and_back),
        on_bed("move_volume::refuses_a_claim_in_use_and_waits_when_asked", in_use),
        on_bed("move_volume::goes_back_or_on_from_an_empty_home_after_a_kill", killed),
        on_bed("move_volume::pauses_when_the_claim_is_refused_and_goes_back_or_on", refused_claim),
        on_bed("move_volume::asks_before_deleting_and_keeps_others_out", asked),
        on_bed("move_volume::names_the_command_for_the_claims_of_a_set", of_a_set),
        on_bed("move_volume::wants_force_while_a_cron_job_names_it", cron_job),
        on_bed("move_volume::moves_a_raw_device_to_a_class_and_namespace_of_another_name_and_back", block),
        on_bed("move_volume::moves_an_in_tree_volume_back_and_for_good", in_tree),
        on_bed("move_volume::refuses_what_is_no_ebs_volume_and_names_what_was_meant", refusals),
    ]
}

async fn finalized(bed: &'static Bed) -> Result<()> {
    let scene = Scene::new(bed, "finalized").await?;
    let case = scene.case().await?;
    let volume = volume_of(&scene.a, &scene.source, CLAIM).await?;
    // Neither a terminal nor consent.
    let said = scene.refuses(2, &scene.arguments("move-volume", &[])).await?;
    ensure!(said.contains("--yes"), "{said}");
    ensure!(scene.run("status", &[]).await?.expect_code(1).stderr.contains("there is no migration of claim uploads"));
    let ended = scene.run("finalize", &["--yes"]).await?.expect_code(4);
    ensure!(ended.stderr.contains("`sts-migrate move-volume"), "{}", ended.stderr);
    let said = scene.refuses(0, &scene.arguments("preflight", &[])).await?;
    ensure!(said.contains("ready to move"), "{said}");
    let said = scene.refuses(0, &scene.arguments("plan", &[])).await?;
    for words in ["PersistentVolumeClaim uploads:", &format!("wait until {volume} is free"), "finalize (no way back)"] {
        ensure!(said.contains(words), "no `{words}` in {said}");
    }

    let ended = scene.run("move-volume", &["--yes"]).await?.expect_code(0);
    ensure!(ended.stderr.contains(&format!("moved: claim uploads is Bound to {volume}")), "{}", ended.stderr);
    for next in ["next: sts-migrate finalize", "undo: sts-migrate rollback"] {
        ensure!(ended.stderr.contains(next), "no `{next}` in {}", ended.stderr);
    }
    ensure!(scene.policy(Cluster::A).await? == "Retain" && scene.policy(Cluster::B).await? == "Retain");
    let claim = scene.claims(Cluster::B).get(CLAIM).await?;
    ensure!(claim.metadata.labels.unwrap_or_default().get("team").map(String::as_str) == Some("media"));
    let (phase, pair) = scene.status().await?;
    ensure!(phase == "Finalizing" && pair["volume"] == volume.as_str(), "{phase} {pair}");
    ensure!(pair["boundIn"] == json!(["source", "destination"]) && pair["heldBy"] == "nobody", "{pair}");
    // The one open migration needs no name; again is the same.
    let nameless = ["status", "--src", "a", "--dst", "b", "-n", &scene.source];
    let ended = scene.operator.run(nameless).await?.expect_code(0);
    ensure!(ended.stdout.contains("claim uploads: a/claim-finalized → b/claim-finalized-new"), "{}", ended.stdout);
    ensure!(ended.stdout.contains("sts-migrate finalize") && ended.stdout.contains("--claim uploads"));
    // Commands for sets do not take it for theirs, but say where it is.
    let said = scene.refuses(2, &["run", "--src", "a", "--dst", "b", "-n", &scene.source, "--yes"]).await?;
    ensure!(said.contains("NAME is missing") && said.contains("--claim uploads`"), "{said}");
    scene.run("move-volume", &["--yes"]).await?.expect_code(0);

    // Used in B already, it is finalized all the same.
    scene.start(Cluster::B, "reader").await?;
    scene.run("finalize", &["--yes"]).await?.expect_code(0);
    ensure!(scene.volumes(Cluster::A).await? == 0 && scene.claims(Cluster::A).get_opt(CLAIM).await?.is_none());
    ensure!(scene.policy(Cluster::B).await? == "Delete", "A's policy arrives in B");
    ensure!(scene.starts(&volume).await? == ["writer in a", "reader in b"]);
    ensure!(scene.status().await?.0 == "Completed");
    let ended = scene.run("move-volume", &["--yes"]).await?.expect_code(0);
    ensure!(ended.stderr.contains("claim uploads was moved already"), "{}", ended.stderr);
    scene.run("rollback", &["--yes"]).await?.expect_code(4);
    scene.end(case.expecting(Expected::Finalized)).await
}

async fn there_and_back(bed: &'static Bed) -> Result<()> {
    let scene = Scene::new(bed, "back").await?;
    let case = scene.case().await?;
    let volume = volume_of(&scene.a, &scene.source, CLAIM).await?;
    let events = ["--yes", "--events", "events.jsonl"];
    scene.run("move-volume", &events).await?.expect_code(0);
    scene.start(Cluster::B, "reader").await?;
    // B's pod is not taken its volume away.
    let hasty = [&events[..], &["--detach-timeout", "2s"]].concat();
    let ended = scene.run("rollback", &hasty).await?.expect_code(1);
    ensure!(ended.stderr.contains("pod reader in the destination cluster"), "{}", ended.stderr);
    ensure!(scene.status().await?.0 == "Failed");
    let ended = scene.run("move-volume", &["--yes"]).await?.expect_code(4);
    ensure!(ended.stderr.contains("`sts-migrate rollback"), "{}", ended.stderr);
    scene.stop(Cluster::B, "reader").await?;
    let ended = scene.run("rollback", &events).await?.expect_code(0);
    ensure!(ended.stderr.contains("rolled back: uploads lives in a/claim-back again"), "{}", ended.stderr);
    ensure!(scene.volumes(Cluster::B).await? == 0 && scene.claims(Cluster::B).get_opt(CLAIM).await?.is_none());
    ensure!(scene.policy(Cluster::A).await? == "Delete");
    ensure!(scene.status().await?.0 == "RolledBack");
    scene.start(Cluster::A, "again").await?;
    ensure!(scene.starts(&volume).await? == ["writer in a", "reader in b", "again in a"]);
    case.expecting(Expected::RolledBack).assert_clean(bed).await?;
    // And forward again, in one go.
    scene.stop(Cluster::A, "again").await?;
    let case = scene.case().await?;
    scene.run("move-volume", &[&events[..], &["--finalize"]].concat()).await?.expect_code(0);
    ensure!(scene.volumes(Cluster::A).await? == 0);
    let log = events::documented(&scene.operator.home().join("events.jsonl"))?;
    ensure!(events::ends(&log) == ["reached", "stopped", "rolledBack", "completed"], "{log:?}");
    let begun = events::of(&log, "begin");
    ensure!(begun.iter().all(|it| it["claim"] == CLAIM && it["set"].is_null()), "{begun:?}");
    ensure!(begun.iter().map(|it| &it["direction"]).eq(["forward", "back", "back", "forward"]), "{begun:?}");
    let states = events::of(&log, "volume");
    ensure!(states.iter().all(|it| it["volume"] == volume.as_str()) && !states.is_empty(), "{states:?}");
    scene.end(case.expecting(Expected::Finalized)).await
}

async fn in_use(bed: &'static Bed) -> Result<()> {
    let scene = Scene::empty(bed, "used").await?;
    scene.claim(json!({})).await?;
    scene.start(Cluster::A, "writer").await?;
    let case = scene.case().await?.excusing_pod("writer");
    let said = scene.refuses(3, &scene.arguments("move-volume", &["--yes", "--force"])).await?;
    ensure!(said.contains("PF-18 blocks: Pod writer (source)") && said.contains("`--wait`"), "{said}");
    let said = scene.refuses(3, &scene.arguments("move-volume", &["--yes", "--wait=1s"])).await?;
    ensure!(said.contains("wait until the claim is not used: Pod writer (source)"), "{said}");
    // What will not pass is said before the wait.
    let map = ["--yes", "--wait", "--storage-class-map", "gp3=nowhere"];
    let said = scene.refuses(3, &scene.arguments("move-volume", &map)).await?;
    ensure!(said.contains("PF-27 blocks") && !said.contains("wait until the claim is not used"), "{said}");
    ensure!(said.matches(" blocks: ").count() == 2, "the pod, and what will not pass: {said}");

    let before = writes_of(bed, &scene.tool.user)?;
    let log = scene.operator.home().join("said");
    let mut command = scene.operator.command(scene.arguments("move-volume", &["--yes", "--wait"]));
    let child = command.stdout(Stdio::null()).stderr(std::fs::File::create(&log)?).spawn()?;
    let mut child = KillOnDrop(child);
    eventually("it to wait", PATIENT, async || {
        Ok(std::fs::read_to_string(&log)?.contains("wait until the claim is not used").then_some(()))
    })
    .await?;
    ensure!(before == writes_of(bed, &scene.tool.user)?, "it waits without having changed anything");
    scene.pods(Cluster::A).delete("writer", &DeleteParams::default()).await?;
    let status = tokio::task::spawn_blocking(move || child.0.wait()).await??;
    ensure!(status.code() == Some(0), "{status}: {}", std::fs::read_to_string(&log)?);
    scene.start(Cluster::B, "reader").await?;
    scene.end(case.expecting(Expected::Moved)).await
}

/// Moves the claim and kills the tool as soon as the plan is in B.
async fn kill(scene: &Scene) -> Result<()> {
    let mut command = scene.operator.command(scene.arguments("move-volume", &["--yes"]));
    let mut child = KillOnDrop(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let secrets: Api<Secret> = Api::namespaced(scene.b.clone(), &scene.destination);
    eventually("the plan in B", PATIENT, async || {
        let all = secrets.list(&ListParams::default()).await?;
        Ok((!all.items.is_empty()).then_some(()))
    })
    .await?;
    child.0.kill()?;
    child.0.wait()?;
    Ok(())
}

async fn killed(bed: &'static Bed) -> Result<()> {
    let scene = Scene::new(bed, "killed").await?;
    let case = scene.case().await?;
    kill(&scene).await?;
    // An empty home: nothing of the first run is there but what the clusters keep.
    let operator = Operator::new(bed, &scene.tool)?;
    scene.back(&operator, case).await?;
    let case = scene.case().await?;
    kill(&scene).await?;
    let ended = operator.run(scene.arguments("status", &[])).await?.expect_code(0);
    ensure!(ended.stdout.contains("claim uploads"), "{}", ended.stdout);
    operator.run(scene.arguments("move-volume", &["--yes"])).await?.expect_code(0);
    operator.run(scene.arguments("finalize", &["--yes"])).await?.expect_code(0);
    scene.start(Cluster::B, "reader").await?;
    scene.end(case.expecting(Expected::Finalized)).await
}

async fn refused_claim(bed: &'static Bed) -> Result<()> {
    let scene = Scene::new(bed, "quota").await?;
    let case = scene.case().await?;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "none", "namespace": scene.destination },
        "spec": { "hard": { "persistentvolumeclaims": "0" } },
    });
    apply(&scene.b, quota).await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(scene.b.clone(), &scene.destination);
    until(quotas.clone(), "none", PATIENT, "counted", |quota| {
        quota.is_some_and(|quota| quota.status.as_ref().is_some_and(|status| status.hard.is_some()))
    })
    .await?;
    let ended = scene.run("move-volume", &["--yes"]).await?.expect_code(1);
    ensure!(ended.stderr.contains("exceeded quota"), "{}", ended.stderr);
    ensure!(ended.stderr.contains("to go on: `sts-migrate move-volume"), "{}", ended.stderr);
    ensure!(ended.stderr.contains("left behind: claim uploads is Bound in the source cluster"), "{}", ended.stderr);
    let (phase, pair) = scene.status().await?;
    ensure!(phase == "Failed" && pair["boundIn"] == json!(["source"]), "{phase} {pair}");
    // It is not the turn of finalize.
    let ended = scene.run("finalize", &["--yes"]).await?.expect_code(4);
    ensure!(ended.stderr.contains("`sts-migrate move-volume"), "{}", ended.stderr);
    // Where a name is wrong, the claim that is on its way is named.
    for (command, flags, code) in [("status", &[][..], 1), ("finalize", &["--yes"], 4), ("rollback", &["--yes"], 4)] {
        let mut arguments = scene.arguments(command, flags);
        *arguments.last_mut().context("the claim")? = "uplaods";
        let ended = scene.operator.run(arguments).await?.expect_code(code);
        ensure!(ended.stderr.contains("of the open migrations: did you mean `uploads`?"), "{}", ended.stderr);
    }
    // Other choices than at first.
    let ended = scene.run("move-volume", &["--yes", "--force"]).await?.expect_code(2);
    ensure!(ended.stderr.contains("--force"), "{}", ended.stderr);
    scene.back(&scene.operator, case).await?;
    let case = scene.case().await?;
    scene.run("move-volume", &["--yes"]).await?.expect_code(1);
    quotas.delete("none", &DeleteParams::default()).await?;
    scene.run("move-volume", &["--yes"]).await?.expect_code(0);
    ensure!(scene.status().await?.0 == "Finalizing");
    scene.end(case.expecting(Expected::Moved)).await
}

async fn asked(bed: &'static Bed) -> Result<()> {
    let scene = Scene::new(bed, "asked").await?;
    let case = scene.case().await?;
    let mut screen = Screen::open(&scene.operator, &scene.arguments("move-volume", &[]))?;
    let shown = screen.wait_for("to delete; anything else pauses:").await?;
    ensure!(shown.contains("THERE IS NO WAY BACK") && shown.contains("type the claim's name, uploads"), "{shown}");
    // The lock is held at the question: a second tool changes nothing.
    let second = bed.take_tool();
    let other = Operator::new(bed, &second)?;
    for command in ["move-volume", "rollback", "finalize"] {
        other.run(scene.arguments(command, &["--yes"])).await?.expect_code(4);
    }
    ensure!(writes_of(bed, &second.user)? == [] as [String; 0], "the second one changed something");
    let status = scene.whole_status().await?;
    let holder = status["lockedBy"]["holder"].as_str().context("somebody is asked")?;
    let process = screen.process().context("a process")?;
    ensure!(holder.contains(&format!("(process {process})")), "{holder} is not process {process}");
    ensure!(status["next"]["what"] == format!("{holder} is at work on it; look again"), "{status:#}");
    screen.type_line("yes")?;
    let said = screen.ends_with(1).await?;
    ensure!(said.contains("paused before deleting in the source cluster"), "{said}");
    ensure!(scene.volumes(Cluster::A).await? == 1);
    ensure!(scene.whole_status().await?["lockedBy"].is_null(), "nobody is at work");
    // kill -9 at the question leaves the lock. On the same host the holder is known dead, and not waited for.
    let mut screen = Screen::open(&scene.operator, &scene.arguments("finalize", &[]))?;
    screen.wait_for("to delete; anything else pauses:").await?;
    screen.kill().await?;
    let operator = Operator::new(bed, &scene.tool)?;
    let mut screen = Screen::open(&operator, &scene.arguments("finalize", &[]))?;
    screen.wait_for("to delete; anything else pauses:").await?;
    // Somebody else's PersistentVolume of the same volume: `Delete` in B would take it from them.
    let twin = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": "claim-asked-twin" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" }, "storageClassName": "none",
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": volume_of(&scene.a, &scene.source, CLAIM).await? },
        },
    });
    apply(&scene.a, twin).await?;
    screen.type_line(CLAIM)?;
    let said = screen.ends_with(0).await?;
    let kept = scene.volume(Cluster::B).await?.metadata.name.unwrap_or_default();
    ensure!(said.contains("kept at Retain in the destination cluster"), "{said}");
    ensure!(said.lines().any(|line| line == format!("  PersistentVolume {kept}")), "{said}");
    ensure!(scene.policy(Cluster::B).await? == "Retain");
    // What the person then does who was told.
    Api::<PersistentVolume>::all(scene.a.clone()).delete("claim-asked-twin", &DeleteParams::default()).await?;
    let original = json!({
        "metadata": { "annotations": { "sts-migrate.io/reclaim-policy": null } },
        "spec": { "persistentVolumeReclaimPolicy": "Delete" },
    });
    let volumes: Api<PersistentVolume> = Api::all(scene.b.clone());
    volumes.patch(&kept, &PatchParams::default(), &Patch::Merge(original)).await?;
    ensure!(scene.volumes(Cluster::A).await? == 0);
    scene.end(case.expecting(Expected::Finalized)).await
}

async fn of_a_set(bed: &'static Bed) -> Result<()> {
    let scene = Scene::empty(bed, "set").await?;
    let set = Workload::new(&scene.source, "web").claim("data", "1Gi", USUAL_CLASS).grace_seconds(1);
    set.apply(&scene.a).await?;
    set.wait_ready(&scene.a).await?;
    let arguments = |more: &[&'static str]| {
        let mut arguments = scene.arguments("move-volume", more);
        arguments.pop();
        arguments.push("data-web-0");
        arguments
    };
    let said = scene.refuses(3, &arguments(&["--yes", "--force"])).await?;
    let command = "`sts-migrate run --src a --dst b -n claim-set --dst-namespace claim-set-new web`";
    ensure!(said.contains("it is a claim of StatefulSet web, which runs on it") && said.contains(command), "{said}");
    ensure!(said.matches(" blocks: ").count() == 1, "one message: {said}");
    // Its object frozen, the set is not there to be seen; its claims are not free for all that.
    let run = ["run", "--src", "a", "--dst", "b", "-n", &scene.source, "--dst-namespace", &scene.destination];
    scene.operator.run(run.iter().chain(&["web", "--yes", "--until", "freeze"])).await?.expect_code(0);
    let said = scene.refuses(4, &arguments(&["--yes", "--force"])).await?;
    ensure!(said.contains("PF-4 blocks: PersistentVolume"), "{said}");
    let back = ["rollback", "--src", "a", "--dst", "b", "-n", &scene.source, "web", "--yes"];
    scene.operator.run(back).await?.expect_code(0);

    let volume = volume_of(&scene.a, &scene.source, "data-web-0").await?;
    let sets: Api<StatefulSet> = Api::namespaced(scene.a.clone(), &scene.source);
    let at_rest = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    sets.patch("web", &PatchParams::default(), &at_rest).await?;
    absent(scene.pods(Cluster::A), "web-0", PATIENT).await?;
    ec2::Control::new(bed.ec2_url()).await_available(&volume, PATIENT).await?;
    scene.detached(Cluster::A, "data-web-0").await?;
    let said = scene.refuses(3, &arguments(&["--yes"])).await?;
    ensure!(said.contains("PF-7 blocks unless --force is given") && said.contains("--include-idle-claims"), "{said}");
    let case = Case::for_claim(bed, &scene.tool, &scene.source, "data-web-0", &scene.destination).await?;
    scene.operator.run(arguments(&["--yes", "--force", "--finalize"])).await?.expect_code(0);
    scene.end(case.expecting(Expected::Finalized)).await
}

async fn cron_job(bed: &'static Bed) -> Result<()> {
    let scene = Scene::new(bed, "cron").await?;
    let pod = json!({
        "restartPolicy": "Never",
        "containers": [{ "name": "main", "image": "registry.example/shell:1" }],
        "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": CLAIM } }],
    });
    let job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": { "name": "nightly", "namespace": scene.source },
        // The thirtieth of February never comes.
        "spec": { "schedule": "0 0 30 2 *", "jobTemplate": { "spec": { "template": { "spec": pod } } } },
    });
    apply(&scene.a, job).await?;
    let case = scene.case().await?;
    let said = scene.refuses(3, &scene.arguments("move-volume", &["--yes"])).await?;
    ensure!(said.contains("PF-18 blocks unless --force is given: CronJob nightly (source)"), "{said}");
    scene.run("move-volume", &["--yes", "--force"]).await?.expect_code(0);
    scene.end(case.expecting(Expected::Moved)).await
}

async fn block(bed: &'static Bed) -> Result<()> {
    let scene = Scene::empty(bed, "block").await?;
    let (old, new) = (Class::new("claim-block-old").retain(), Class::new("claim-block-new").retain());
    apply(&scene.a, old.manifest()).await?;
    apply(&scene.b, new.manifest()).await?;
    scene.claim(json!({ "volumeMode": "Block", "storageClassName": "claim-block-old" })).await?;
    scene.start(Cluster::A, "writer").await?;
    scene.stop(Cluster::A, "writer").await?;
    let scene = Scene { destination: "claim-block-made".to_owned(), ..scene };
    let case = scene.case().await?.with_class("claim-block-old", "claim-block-new");
    let map = ["--yes", "--storage-class-map", "claim-block-old=claim-block-new"];
    let said = scene.refuses(3, &scene.arguments("move-volume", &map)).await?;
    ensure!(said.contains("PF-6 blocks: Namespace claim-block-made") && said.contains("--create-namespace"), "{said}");
    let create = [&map[..], &["--create-namespace"]].concat();
    scene.run("move-volume", &create).await?.expect_code(0);
    exists(Api::<Namespace>::all(scene.b.clone()), &scene.destination, PATIENT).await?;
    // What an administrator puts into a namespace, and pods need.
    namespace(&scene.b, &scene.destination).await?;
    scene.start(Cluster::B, "reader").await?;
    scene.stop(Cluster::B, "reader").await?;
    scene.back(&scene.operator, case).await?;
    exists(Api::<Namespace>::all(scene.b.clone()), &scene.destination, PATIENT).await?;
    let claim = scene.claims(Cluster::A).get(CLAIM).await?.spec.context("a claim has a spec")?;
    ensure!(claim.storage_class_name.as_deref() == Some("claim-block-old"));
    scene.start(Cluster::A, "again").await?;
    scene.stop(Cluster::A, "again").await?;

    let case = scene.case().await?.with_class("claim-block-old", "claim-block-new");
    scene.run("move-volume", &[&map[..], &["--finalize"]].concat()).await?.expect_code(0);
    let claim = scene.claims(Cluster::B).get(CLAIM).await?.spec.context("a claim has a spec")?;
    ensure!(claim.volume_mode.as_deref() == Some("Block"));
    ensure!(claim.storage_class_name.as_deref() == Some("claim-block-new"));
    ensure!(scene.policy(Cluster::B).await? == "Retain", "A's policy was Retain");
    scene.start(Cluster::B, "last").await?;
    let volume = volume_of(&scene.b, &scene.destination, CLAIM).await?;
    ensure!(scene.starts(&volume).await? == ["writer in a", "reader in b", "again in a", "last in b"]);
    remove_namespace(&scene.b, "claim-block-new").await?;
    scene.end(case.expecting(Expected::Finalized)).await
}

async fn in_tree(bed: &'static Bed) -> Result<()> {
    let scene = Scene::empty(bed, "in-tree").await?;
    let control = ec2::Control::new(bed.ec2_url());
    let tags = [("kubernetes.io/created-for/pvc/name".to_owned(), CLAIM.to_owned())].into();
    let made = control.create_volume(&ec2::NewVolume { tags, ..ec2::NewVolume::default() }).await?;
    let (volume, zone) = (made.volume.clone(), made.zone.clone());
    let old = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": "claim-in-tree", "labels": { "topology.kubernetes.io/zone": zone } },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": { "storage": "1Gi" },
            "storageClassName": USUAL_CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "awsElasticBlockStore": { "volumeID": format!("aws://{zone}/{volume}"), "fsType": "ext4" },
            "claimRef": { "namespace": scene.source, "name": CLAIM },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone] },
            ] }] } },
        },
    });
    apply(&scene.a, old).await?;
    scene.claim(json!({ "volumeName": "claim-in-tree" })).await?;
    scene.start(Cluster::A, "writer").await?;
    scene.stop(Cluster::A, "writer").await?;
    let case = scene.case().await?;
    let ended = scene.run("move-volume", &["--yes"]).await?.expect_code(0);
    ensure!(ended.stderr.contains("becomes the CSI form"), "{}", ended.stderr);
    let source = scene.volume(Cluster::B).await?.spec.and_then(|spec| spec.csi).context("B's is of the CSI form")?;
    ensure!(source.volume_handle == volume && source.driver == "ebs.csi.aws.com", "{source:?}");
    scene.start(Cluster::B, "reader").await?;
    scene.stop(Cluster::B, "reader").await?;
    scene.back(&scene.operator, case).await?;
    scene.start(Cluster::A, "again").await?;
    scene.stop(Cluster::A, "again").await?;
    let case = scene.case().await?;
    scene.run("move-volume", &["--yes", "--finalize"]).await?.expect_code(0);
    ensure!(scene.volumes(Cluster::A).await? == 0 && scene.claims(Cluster::A).get_opt(CLAIM).await?.is_none());
    scene.start(Cluster::B, "last").await?;
    ensure!(scene.starts(&volume).await? == ["writer in a", "reader in b", "again in a", "last in b"]);
    scene.end(case.expecting(Expected::Finalized)).await
}

async fn refusals(bed: &'static Bed) -> Result<()> {
    let mut scene = Scene::empty(bed, "refused").await?;
    bound_claim(&scene.a, &scene.source, CLAIM, &json!({ "hostPath": { "path": "/srv" } })).await?;
    for arguments in [scene.arguments("move-volume", &["--yes", "--force"]), scene.arguments("preflight", &["--force"])]
    {
        let said = scene.refuses(3, &arguments).await?;
        ensure!(said.contains("PF-15 blocks: PersistentVolume claim-refused-uploads"), "{said}");
        ensure!(said.matches(" blocks: ").count() == 1, "one message: {said}");
    }
    let said = scene.refuses(2, &scene.arguments("plan", &["--order", "together"])).await?;
    ensure!(said.contains("--order") && said.contains("--claim"), "{said}");
    let named = |name: &'static str| {
        let mut arguments = scene.arguments("move-volume", &["--yes"]);
        arguments.pop();
        arguments.push(name);
        arguments
    };
    let said = scene.refuses(3, &named("uplaods")).await?;
    ensure!(said.contains("PF-7 blocks") && said.contains("did you mean `uploads`?"), "{said}");
    ensure!(said.matches(" blocks: ").count() == 1, "one message: {said}");
    let said = scene.refuses(3, &named("claim-refused-uploads")).await?;
    ensure!(said.contains("is bound to claim uploads") && said.contains("claim-refused-new uploads`"), "{said}");
    // A claim and a set at once.
    let both = ["status", "--src", "a", "--dst", "b", "-n", &scene.source, "--claim", CLAIM, "web"];
    let said = scene.refuses(2, &both).await?;
    ensure!(said.contains("--claim"), "{said}");
    let same = ["move-volume", "--src", "a", "--dst", "a", "-n", &scene.source, "--yes", "--force", CLAIM];
    let said = scene.refuses(3, &same).await?;
    ensure!(said.contains("PF-2 blocks"), "{said}");

    // Nothing says the region: neither the operator nor the volume's zone.
    let made = ec2::Control::new(bed.ec2_url()).create_volume(&ec2::NewVolume::default()).await?;
    let source = json!({ "driver": "ebs.csi.aws.com", "volumeHandle": made.volume });
    bound_claim(&scene.a, &scene.source, "zoneless", &json!({ "csi": source })).await?;
    scene.operator.unset("AWS_REGION");
    let mut arguments = scene.arguments("move-volume", &["--yes"]);
    arguments.pop();
    arguments.push("zoneless");
    let said = scene.refuses(2, &arguments).await?;
    ensure!(said.contains("error: no AWS region is known") && said.contains("hint: name it with `--region "), "{said}");
    scene.clear().await
}
