//! `status`: what a laptop sees that has never seen the migration, at every phase.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use bed::judge::Expected;
use bed::workload::until;
use bed::{Bed, Cluster, ec2};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use libtest_mimic::Trial;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::interrupted::hold_from_elsewhere;
use crate::migration::usual;
use crate::screen::{CTRL_C, GO_ON, Screen};
use crate::stage::{PATIENT, Stage};
use crate::support::{KillOnDrop, Operator, eventually, on_bed};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("status::tells_from_elsewhere_of_each_phase_at_work_and_paused", every_phase),
        on_bed("status::tells_from_elsewhere_of_a_run_that_never_came_to_its_record", before_the_record),
        on_bed("status::watch_shows_a_run_from_elsewhere_to_its_end", watched),
    ]
}

impl Stage {
    /// Returns the status that a laptop sees which has never seen the migration.
    pub(crate) async fn status_elsewhere(&self) -> Result<Value> {
        let elsewhere = Operator::new(self.bed, &self.tool)?;
        let json = elsewhere.run(self.arguments("status", &["-o", "json"])).await?.expect_code(0);
        let yaml = elsewhere.run(self.arguments("status", &["-o", "yaml"])).await?.expect_code(0);
        let status: Value = serde_json::from_str(&json.stdout)?;
        let mut same: Value = serde_yaml::from_str(&yaml.stdout)?;
        // Whoever is at work renews the lock between the two looks.
        if let Some(renewed) = same.pointer_mut("/status/lockedBy/renewedAt") {
            ensure!(renewed.is_string(), "no time of the last renewal: {}", yaml.stdout);
            renewed.clone_from(&status["status"]["lockedBy"]["renewedAt"]);
        }
        ensure!(status == same, "YAML says another thing:\n{}\n{}", json.stdout, yaml.stdout);
        Ok(status)
    }

    /// Fails unless a laptop elsewhere sees this phase with somebody at work on it.
    async fn expect_at_work(&self, phase: &str, direction: &str) -> Result<()> {
        let status = self.status_elsewhere().await?["status"].clone();
        ensure!(status["phase"] == phase && status["direction"] == direction, "not {phase} {direction}: {status:#}");
        let holder = status["lockedBy"]["holder"].as_str().context("somebody is at work")?;
        ensure!(status["next"]["what"] == format!("{holder} is at work on it; look again"), "{status:#}");
        let text = Operator::new(self.bed, &self.tool)?.run(self.arguments("status", &[])).await?.expect_code(0).stdout;
        ensure!(text.contains(&format!("\nlocked by: {holder} (renewed ")), "{text}");
        Ok(())
    }

    /// Fails unless a laptop elsewhere sees this phase, nobody at work, and these commands for next.
    async fn expect_at_rest(&self, phase: &str, direction: &str, paused: bool, next: &[&str]) -> Result<()> {
        let status = self.status_elsewhere().await?["status"].clone();
        ensure!(status["direction"] == direction, "not {direction}: {status:#}");
        self.expect_phase(phase, paused, next).await
    }
}

async fn every_phase(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "each-phase", usual(1)).await?;
    let case = stage.case().await?;
    let mut screen = Screen::open(&stage.operator, &stage.arguments("run", &[]))?;
    screen.wait_for(GO_ON).await?;
    stage.expect_at_work("FreezingSource", "Forward").await?;
    screen.type_line("n")?;
    screen.ends_with(1).await?;
    stage.expect_at_rest("FreezingSource", "Forward", true, &["run", "rollback"]).await?;

    let mut screen = Screen::open(&stage.operator, &stage.arguments("run", &[]))?;
    screen.wait_for(GO_ON).await?;
    screen.type_line("y")?;
    screen.wait_for(GO_ON).await?;
    stage.expect_at_work("MigratingPods", "Forward").await?;
    screen.press(CTRL_C)?;
    screen.ends_with(130).await?;
    stage.expect_at_rest("MigratingPods", "Forward", true, &["run", "rollback"]).await?;

    let mut screen = Screen::open(&stage.operator, &stage.arguments("run", &[]))?;
    screen.wait_for(GO_ON).await?;
    screen.type_line("y")?;
    screen.wait_for("to delete; anything else pauses:").await?;
    stage.expect_at_work("Finalizing", "Forward").await?;
    screen.type_line("n")?;
    screen.ends_with(1).await?;
    stage.expect_at_rest("Finalizing", "Forward", true, &["finalize", "rollback"]).await?;

    // Back: held up by a detach from B that sticks.
    let (_, volume) = stage.workload.volumes(&stage.a).await?.remove(0);
    let control = ec2::Control::new(bed.ec2_url());
    let stick =
        |sticks| ec2::Knobs { volume: Some(volume.clone()), detach_sticks: Some(sticks), ..ec2::Knobs::default() };
    control.knobs(&stick(true)).await?;
    let mut screen = Screen::open(&stage.operator, &stage.arguments("rollback", &[]))?;
    screen.wait_for(GO_ON).await?;
    stage.expect_at_work("Finalizing", "Forward").await?;
    screen.type_line("y")?;
    let is_detaching = async || {
        let status = stage.status_elsewhere().await?["status"].clone();
        let held = status["ordinals"][0]["volumes"].as_array().into_iter().flatten();
        let moving = held
            .filter(|it| it["volume"] == volume)
            .all(|it| it["heldBy"] == "destination cluster, attaching or detaching");
        Ok((status["ordinals"][0]["location"] == "neither" && moving).then_some(()))
    };
    eventually("a detach that sticks", PATIENT, is_detaching).await?;
    stage.expect_at_work("RollingBack", "Back").await?;
    screen.press(CTRL_C)?;
    screen.ends_with(130).await?;
    stage.expect_at_rest("RollingBack", "Back", true, &["rollback"]).await?;
    stage.run("rollback", &["--yes", "--detach-timeout", "1s"]).await?.expect_code(1);
    stage.expect_at_rest("Failed", "Back", false, &["rollback"]).await?;
    let failure = stage.status_elsewhere().await?["status"]["lastFailure"].clone();
    ensure!(failure["reason"].as_str().is_some_and(|reason| reason.contains(&volume)), "{failure}");
    control.knobs(&stick(false)).await?;
    control.release(&volume).await?;
    stage.run("rollback", &["--yes"]).await?.expect_code(0);
    stage.expect_at_rest("RolledBack", "Back", false, &["run"]).await?;
    stage.end(case.expecting(Expected::RolledBack)).await
}

/// Quotas in both clusters let no record be written: lock and plan are all that there is.
async fn before_the_record(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "no-record", usual(1)).await?;
    let case = stage.case().await?;
    let quotas = Cluster::BOTH.map(|cluster| -> Api<ResourceQuota> {
        Api::namespaced(stage.client(cluster).clone(), stage.namespace(cluster))
    });
    for api in &quotas {
        let quota = json!({ "metadata": { "name": "no-more" }, "spec": { "hard": { "configmaps": "0" } } });
        api.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
        until(api.clone(), "no-more", PATIENT, "counted", |quota| {
            quota.is_some_and(|quota| quota.status.as_ref().is_some_and(|status| status.hard.is_some()))
        })
        .await?;
    }
    let said = stage.run("run", &["--yes"]).await?.expect_code(1).stderr;
    ensure!(said.contains("exceeded quota") && said.contains("hint: to go on: `sts-migrate run "), "{said}");
    stage.expect_at_rest("Pending", "Forward", false, &["run"]).await?;
    for cluster in Cluster::BOTH {
        hold_from_elsewhere(&stage, cluster, 1).await?;
    }
    stage.expect_at_work("PreFlightChecks", "Forward").await?;
    for api in &quotas {
        api.delete("no-more", &DeleteParams::default()).await?;
    }
    stage.run("run", &["--yes", "--until", "prepare"]).await?.expect_code(0);
    stage.expect_at_rest("FreezingSource", "Forward", false, &["run", "rollback"]).await?;
    stage.back(case).await?;
    stage.leave().await
}

async fn watched(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "watched", usual(1)).await?;
    let case = stage.case().await?;
    let go_on = stage.operator.home().join("go-on");
    let command = "until test -e go-on; do sleep 0.1; done";
    let arguments = stage.arguments("run", &["--yes", "--finalize", "--verify-command", command]);
    let mut run = stage.operator.command(arguments);
    let mut run = KillOnDrop(run.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let elsewhere = Operator::new(bed, &stage.tool)?;
    let seen = elsewhere.home().join("seen");
    eventually("a migration to watch", PATIENT, async || {
        Ok((elsewhere.run(stage.arguments("status", &[])).await?.code() == Some(0)).then_some(()))
    })
    .await?;
    let watch = |file: &Path, more: &[&str]| -> Result<KillOnDrop> {
        let mut watch = elsewhere.command(stage.arguments("status", &[&["--watch"], more].concat()));
        Ok(KillOnDrop(watch.stdout(fs::File::create(file)?).stderr(Stdio::null()).spawn()?))
    };
    let documents = elsewhere.home().join("documents");
    let (mut watch, mut other) = (watch(&seen, &[])?, watch(&documents, &["-o", "yaml"])?);
    let shows = async |words: &str| shown(&seen, words).await;
    shows("phase: MigratingPods").await?;
    let verifying = async || {
        let status = stage.status_elsewhere().await?;
        Ok((status["status"]["ordinals"][0]["location"] == "destination").then_some(()))
    };
    eventually("the pod's move", PATIENT, verifying).await?;
    let status = stage.status_elsewhere().await?["status"].clone();
    let holder = status["lockedBy"]["holder"].as_str().context("somebody is at work")?.to_owned();
    ensure!(holder.contains(&format!("(process {})", run.0.id())), "{holder} is not process {}", run.0.id());
    ensure!(status["next"]["what"] == format!("{holder} is at work on it; look again"), "{status:#}");
    shows(&format!("locked by: {holder}")).await?;
    fs::write(&go_on, "")?;
    shows("phase: Completed").await?;
    shows("left in the source cluster, yours to remove:\n  Service web\n").await?;
    for child in [&mut run, &mut watch, &mut other] {
        ensure!(end_of(child).await? == Some(0));
    }
    // One YAML document after the other, each of them whole.
    let documents = fs::read_to_string(&documents)?;
    let documents: Vec<Value> =
        serde_yaml::Deserializer::from_str(&documents).map(Value::deserialize).collect::<Result<_, _>>()?;
    ensure!(documents.iter().all(|it| it["kind"] == "StatefulSetMigration") && documents.len() > 1, "{documents:#?}");
    ensure!(documents.last().is_some_and(|it| it["status"]["phase"] == "Completed"), "{documents:#?}");
    stage.end(case.expecting(Expected::Finalized)).await
}

/// Waits until a file holds these words.
pub(crate) async fn shown(file: &Path, words: &str) -> Result<()> {
    eventually(format!("`{words}`"), PATIENT, async || Ok(fs::read_to_string(file)?.contains(words).then_some(())))
        .await
        .with_context(|| fs::read_to_string(file).unwrap_or_default())
}

/// Waits until a program has ended, and returns its exit code.
pub(crate) async fn end_of(program: &mut KillOnDrop) -> Result<Option<i32>> {
    Ok(eventually("an end", PATIENT, async || Ok(program.0.try_wait()?)).await?.code())
}
