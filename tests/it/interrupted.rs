//! Runs that end in the middle, by a signal, `kill -9`, a limit or somebody's hand: what they say, whose the lock
//! is afterwards, and how the next one goes on, or back.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bed::judge::Expected;
use bed::workload::{USUAL_CLASS, Workload};
use bed::{Bed, Cluster, ec2};
use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::events;
use crate::migration::{spawn, usual, writes_of};
use crate::screen::{GO_ON, Screen};
use crate::stage::{PATIENT, Stage};
use crate::support::{KillOnDrop, Operator, eventually, on_bed};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("interrupted::another_machine_waits_for_the_lock_of_a_killed_run_and_fences", killed),
        on_bed("interrupted::signals_a_lost_terminal_and_a_detach_that_sticks_there_and_back", stuck_detach),
        on_bed("interrupted::gives_up_on_a_set_that_somebody_keeps_small", kept_small),
    ]
}

/// Returns who holds the locks of the one migration of a stage, in A and in B.
pub(crate) async fn holders(stage: &Stage) -> Result<Vec<String>> {
    let mut holders = Vec::new();
    for cluster in Cluster::BOTH {
        let leases = leases(stage, cluster).list(&ListParams::default()).await?;
        holders.extend(leases.into_iter().map(|it| it.spec.and_then(|spec| spec.holder_identity).unwrap_or_default()));
    }
    Ok(holders)
}

pub(crate) fn leases(stage: &Stage, cluster: Cluster) -> Api<Lease> {
    Api::namespaced(stage.client(cluster).clone(), stage.namespace(cluster))
}

async fn killed(bed: &'static Bed) -> Result<()> {
    /// How long the other machine's Leases are good for: less than usual, to be waited for here.
    const SECONDS: u64 = 8;

    let stage = Stage::new(bed, "killed", usual(2)).await?;
    let case = stage.case().await?;
    let mut child = KillOnDrop(spawn(&stage, &["--order", "one-by-one", "--yes"])?);
    let pods: Api<Pod> = Api::namespaced(stage.a.clone(), &stage.source);
    eventually("the first pod to go down", PATIENT, async || {
        let pod = pods.get_opt("web-0").await?;
        Ok(pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()).then_some(()))
    })
    .await?;
    child.0.kill()?;
    child.0.wait()?;
    // Half of it from elsewhere: who gives up meanwhile keeps nothing.
    hold_from_elsewhere(&stage, Cluster::B, 3600).await?;
    let said = interrupted(&stage, "taken over when not renewed for 3600 s", Signal::TERM, "SIGTERM").await?;
    ensure!(said.contains("any machine can go on; the lock is held by dba@bastion (process 4242)"), "{said}");
    let held = holders(&stage).await?;
    ensure!(held[0].is_empty() && held[1].starts_with("dba@bastion/"), "{held:?}");

    for cluster in Cluster::BOTH {
        hold_from_elsewhere(&stage, cluster, SECONDS).await?;
    }
    let expected = there(&stage).await?;
    let marks = Cluster::BOTH.map(|cluster| (cluster, bed.audit_mark(cluster)));

    let operator = Operator::new(bed, &stage.tool)?;
    let ended = operator.run(stage.arguments("status", &[])).await?.expect_code(0);
    ensure!(ended.stdout.contains("locked by: dba@bastion (process 4242)"), "{}", ended.stdout);
    let begun = Instant::now();
    let ended = operator.run(stage.arguments("run", &["--yes"])).await?.expect_code(0);
    ensure!(
        begun.elapsed() >= Duration::from_secs(SECONDS),
        "by a clock that is not its own, it was taken over at once"
    );
    let held =
        "the lock in the source cluster is held by dba@bastion (process 4242); taken over when not renewed for 8 s";
    ensure!(ended.stderr.contains(held), "{}", ended.stderr);
    ensure!(stage.ready_pods(Cluster::B).await? == 2);
    let mut fenced = BTreeSet::new();
    for (cluster, mark) in marks {
        fenced.extend(touched(&bed.audit_since(cluster, mark?)?, cluster, &stage.tool.user)?);
    }
    let missed: Vec<&String> = expected.difference(&fenced).collect();
    ensure!(missed.is_empty(), "a late call could still hit {missed:?}; touched were {fenced:?}");
    for volume in [stage.volumes(Cluster::A).await?, stage.volumes(Cluster::B).await?].concat() {
        ensure!(!volume.annotations().contains_key(TOUCHED), "{} keeps a mark", volume.name_any());
    }
    stage.end(case.expecting(Expected::Moved)).await
}

/// Gives the Lease of a cluster to a run on another machine: no process that can be looked up, and a
/// clock years behind.
pub(crate) async fn hold_from_elsewhere(stage: &Stage, cluster: Cluster, seconds: u64) -> Result<()> {
    let leases = leases(stage, cluster);
    for lease in leases.list(&ListParams::default()).await? {
        let spec = json!({
            "holderIdentity": "dba@bastion/5ca1ab1e-0000-4000-8000-000000000001/pid:[4026531836]/4242/99",
            "leaseDurationSeconds": seconds,
            "renewTime": "2020-01-02T03:04:05.000000Z",
        });
        let patch = Patch::Merge(json!({ "spec": spec }));
        leases.patch(&lease.name_any(), &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

/// Gives both Leases back, as whoever holds them would.
pub(crate) async fn nobody_holds(stage: &Stage) -> Result<()> {
    for cluster in Cluster::BOTH {
        let leases = leases(stage, cluster);
        for lease in leases.list(&ListParams::default()).await? {
            let nobody = Patch::Merge(json!({ "spec": { "holderIdentity": "" } }));
            leases.patch(&lease.name_any(), &PatchParams::default(), &nobody).await?;
        }
    }
    Ok(())
}

/// The annotation that is set and taken away again, so that a late call on an older object fails.
pub(crate) const TOUCHED: &str = "sts-migrate.io/touched";

/// Returns what a late call of the killed run could change or delete.
async fn there(stage: &Stage) -> Result<BTreeSet<String>> {
    let mut objects = BTreeSet::from(["a pods web-1", "b statefulsets web", "b services web"].map(str::to_owned));
    for cluster in Cluster::BOTH {
        let place = cluster.name();
        objects.extend(stage.workload.claims().iter().map(|claim| format!("{place} persistentvolumeclaims {claim}")));
        let volumes = stage.volumes(cluster).await?;
        objects.extend(volumes.iter().map(|volume| format!("{place} persistentvolumes {}", volume.name_any())));
        // Record and Leases are called alike.
        let leases = leases(stage, cluster).list(&ListParams::default()).await?;
        objects.extend(leases.iter().map(|lease| format!("{place} configmaps {}", lease.name_any())));
    }
    Ok(objects)
}

/// Returns what a user has touched; an error unless that was before anything else was changed.
fn touched(events: &[Value], cluster: Cluster, user: &str) -> Result<BTreeSet<String>> {
    let mut touched = BTreeSet::new();
    let mut changed = None;
    for event in events.iter().filter(|event| event["user"]["username"] == user) {
        let (verb, object) = (event["verb"].as_str().unwrap_or_default(), &event["objectRef"]);
        let resource = object["resource"].as_str().unwrap_or_default();
        if matches!(verb, "get" | "list" | "watch") || matches!(resource, "leases" | "selfsubjectaccessreviews") {
            continue;
        }
        let name = format!("{} {resource} {}", cluster.name(), object["name"].as_str().unwrap_or_default());
        let annotations = event.pointer("/requestObject/metadata/annotations");
        if annotations.is_none_or(|annotations| annotations.get(TOUCHED).is_none()) {
            changed.get_or_insert(format!("{verb} {name}"));
        } else {
            ensure!(changed.is_none(), "{name} is touched only after {changed:?}");
            touched.insert(name);
        }
    }
    ensure!(changed.is_some(), "the run changed nothing in {}", cluster.name());
    Ok(touched)
}

async fn stuck_detach(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "stuck", usual(2)).await?;
    let case = stage.case().await?;
    let control = ec2::Control::new(bed.ec2_url());
    let (_, volume) = stage.workload.volumes(&stage.a).await?.remove(0);
    let stick =
        |sticks| ec2::Knobs { volume: Some(volume.clone()), detach_sticks: Some(sticks), ..ec2::Knobs::default() };
    control.knobs(&stick(true)).await?;
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::HUP, "SIGHUP")] {
        let said = interrupted(&stage, &format!("wait for {volume} "), signal, name).await?;
        for words in [
            "left behind: pod web-0 running in neither cluster",
            "left behind: pod web-1 in the source cluster",
            "has no controller that would heal it",
            "any machine can go on; the lock is given back",
            "hint: to go on: `sts-migrate run ",
            "hint: to undo everything: `sts-migrate rollback ",
        ] {
            ensure!(said.contains(words), "{name}: no `{words}` in {said}");
        }
        ensure!(holders(&stage).await? == ["", ""], "{name}: the locks were not given back");
        let status = stage.run("status", &["-o", "json"]).await?.expect_code(0);
        let status: Value = serde_json::from_str(&status.stdout)?;
        let status = &status["status"];
        ensure!(status["paused"] == true && status["phase"] == "MigratingPods", "{name}: {status:#}");
    }
    // As under `nohup`: a hangup is nothing, and it ends for another reason.
    let flags = ["--order", "one-by-one", "--yes", "--detach-timeout", "5s", "--events", "events.jsonl"];
    let file = stage.operator.home().join("deaf");
    let mut deaf = hearing(&stage, "--ignore-signal=HUP", &flags);
    let mut deaf = KillOnDrop(deaf.stdout(Stdio::null()).stderr(fs::File::create(&file)?).spawn()?);
    let said = || fs::read_to_string(&file).context("read what it said");
    let waits = format!("wait for {volume} ");
    eventually(&waits, PATIENT, async || Ok(said()?.contains(&waits).then_some(()))).await?;
    kill_process(Pid::from_child(&deaf.0), Signal::HUP)?;
    let status = eventually("its end", PATIENT, async || Ok(deaf.0.try_wait()?)).await?;
    let said = said()?;
    ensure!(status.code() == Some(1) && said.contains("error: paused: waited 5 s for "), "{status}: {said}");
    let log = events::documented(&stage.operator.home().join("events.jsonl"))?;
    let end = *events::of(&log, "end").last().context("an end")?;
    ensure!(end["how"] == "stopped" && end["reason"].as_str().is_some_and(|it| it.contains(&volume)), "{end}");
    ensure!(said.contains(&volume), "it names the volume: {said}");
    ensure!(said.contains("sts-migrate run"), "it says what to type: {said}");
    ensure!(said.contains("rollback"), "it says how to go back: {said}");
    let status = stage.run("status", &[]).await?.expect_code(0);
    ensure!(status.stdout.contains("Failed") && status.stdout.contains(&volume), "{}", status.stdout);
    // Somebody asks and thinks better of it: why it stands still is known all the same.
    let mut screen = Screen::open(&stage.operator, &stage.arguments("rollback", &[]))?;
    screen.wait_for(GO_ON).await?;
    screen.type_line("n")?;
    screen.ends_with(1).await?;
    let status = stage.run("status", &[]).await?.expect_code(0);
    ensure!(status.stdout.contains("Failed") && status.stdout.contains(&volume), "{}", status.stdout);
    // Its terminal lost meanwhile, it goes on all the same.
    let arguments = stage.arguments("run", &["--yes"]);
    let mut child = Screen::lose(&stage.operator, &arguments, format!("wait for {volume} ")).await?;
    control.knobs(&stick(false)).await?;
    control.release(&volume).await?;
    let status = eventually("the end without a terminal", PATIENT, async || Ok(child.try_wait()?)).await?;
    ensure!(status.exit_code() == 0, "without its terminal: {status}");
    ensure!(stage.ready_pods(Cluster::B).await? == 2);
    case.clone().expecting(Expected::Moved).assert_clean(bed).await?;

    // Held half-way back, nothing goes forward.
    control.knobs(&stick(true)).await?;
    let said = stage.run("rollback", &["--yes", "--detach-timeout", "2s"]).await?.expect_code(1).stderr;
    ensure!(said.contains("hint: to go on: `sts-migrate rollback "), "{said}");
    let before = writes_of(bed, &stage.tool.user)?;
    for command in ["run", "freeze", "swing", "finalize"] {
        let said = stage.run(command, &["--yes"]).await?.expect_code(4).stderr;
        ensure!(said.contains("refused: the migration of web is being rolled back"), "{command}: {said}");
        ensure!(said.contains("hint: finish it first: `sts-migrate rollback "), "{command}: {said}");
    }
    ensure!(writes_of(bed, &stage.tool.user)? == before, "a refusal changed something");
    control.knobs(&stick(false)).await?;
    control.release(&volume).await?;
    stage.back(case).await?;
    stage.leave().await
}

/// An admission policy of B's keeps the set at no replica: nothing is tried for ever.
async fn kept_small(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "kept-small", |set| set.claim("data", "1Gi", USUAL_CLASS)).await?;
    let case = stage.case().await?;
    stage.run("freeze", &["--yes"]).await?.expect_code(0);
    let name = stage.destination.clone();
    let policies: Api<MutatingAdmissionPolicy> = Api::all(stage.b.clone());
    let policy = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } },
                "resourceRules": [{
                    "apiGroups": ["apps"], "apiVersions": ["v1"],
                    "operations": ["UPDATE"], "resources": ["statefulsets"],
                }],
            },
            "mutations": [{ "patchType": "JSONPatch", "jsonPatch": {
                "expression": r#"[JSONPatch{op: "replace", path: "/spec/replicas", value: 0}]"#,
            } }],
        },
    }))?;
    policies.create(&PostParams::default(), &policy).await?;
    let bindings: Api<MutatingAdmissionPolicyBinding> = Api::all(stage.b.clone());
    let binding = json!({ "metadata": { "name": name }, "spec": { "policyName": name } });
    bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
    // Another set shows when it is in force, and when no longer.
    let probe = Workload::new(&name, "probe").replicas(0);
    probe.apply(&stage.b).await?;
    let sets: Api<StatefulSet> = Api::namespaced(stage.b.clone(), &name);
    let kept_at = async |replicas: i32, what: &str| {
        let change = Patch::Merge(json!({ "spec": { "replicas": 1 } }));
        eventually(what, PATIENT, async || {
            let changed = sets.patch("probe", &PatchParams::default(), &change).await?;
            Ok((changed.spec.replicas == Some(replicas)).then_some(()))
        })
        .await
    };
    kept_at(0, "the policy to be in force").await?;

    let said = stage.run("swing", &["--yes"]).await?.expect_code(1).stderr;
    let reason = "attempts to patch StatefulSet web in the destination cluster were without effect: somebody undoes it";
    ensure!(said.contains(reason) && said.contains("hint: find out what changes it back"), "{said}");
    ensure!(said.contains("left behind: pod web-0 running in neither cluster"), "{said}");
    let status = stage.run("status", &[]).await?.expect_code(0).stdout;
    ensure!(status.contains("Failed") && status.contains(reason), "{status}");
    bindings.delete(&name, &DeleteParams::default()).await?;
    policies.delete(&name, &DeleteParams::default()).await?;
    kept_at(1, "the policy to be gone").await?;
    stage.run("swing", &["--yes"]).await?.expect_code(0);
    stage.end(case.expecting(Expected::Moved)).await
}

/// Runs until it says `words`, sends a signal, and returns all that was said.
async fn interrupted(stage: &Stage, words: &str, signal: Signal, name: &str) -> Result<String> {
    let log = stage.operator.home().join(name);
    // Tests that run under `nohup` have SIGHUP ignored, and would hand that down.
    let mut command = hearing(stage, "--default-signal=HUP", &["--order", "one-by-one", "--yes"]);
    let mut child = KillOnDrop(command.stdout(Stdio::null()).stderr(fs::File::create(&log)?).spawn()?);
    let said = || fs::read_to_string(&log).context("read what it said");
    eventually(format!("`{words}`"), PATIENT, async || Ok(said()?.contains(words).then_some(())))
        .await
        .with_context(|| said().unwrap_or_default())?;
    kill_process(Pid::from_child(&child.0), signal)?;
    let status = eventually("its end", PATIENT, async || Ok(child.0.try_wait()?)).await?;
    let said = said()?;
    ensure!(status.code() == Some(130), "{name}: {status}: {said}");
    ensure!(said.contains(&format!("interrupted: paused by {name}")), "{said}");
    Ok(said)
}

/// Returns a run in whose process SIGHUP is what `env` makes of it.
fn hearing(stage: &Stage, how: &str, flags: &[&str]) -> Command {
    let program = stage.operator.command(stage.arguments("run", flags));
    let mut command = Command::new("/usr/bin/env");
    command.arg(how).arg(program.get_program()).args(program.get_args()).env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(stage.operator.home()).stdin(Stdio::null());
    command
}
