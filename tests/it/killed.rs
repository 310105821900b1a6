//! `kill -9` after each write: whatever instant it finds, the next run goes on, to the end or back.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bed::audit::Mark;
use bed::judge::Expected;
use bed::{Bed, Cluster, Tool};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::sleep;

use crate::interrupted::{TOUCHED, holders};
use crate::migration::usual;
use crate::move_volume::scene::Scene;
use crate::stage::Stage;
use crate::support::{KillOnDrop, Operator, on_bed};

/// How often to look for the write after which a run is killed: between two calls of a run, more or less.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// How often nothing new must be in the logs for the servers to be done, and how far apart.
const QUIET_LOOKS: u32 = 8;
const QUIET_EVERY: Duration = Duration::from_millis(25);

/// More runs than there are writes, those that only fence off the one before included.
const MOST: usize = 120;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("killed::after_each_write_a_set_arrives_and_is_finalized", forward),
        on_bed("killed::after_each_write_a_set_goes_back", back),
        on_bed("killed::after_each_write_a_claim_arrives_and_goes_back", claim),
    ]
}

/// After which of its writes a run is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The first that brings the migration on.
    Step,
    /// The first that fences off the run that was killed before.
    Touch,
    /// The first of the lock's.
    Lock,
}

/// The order of the kills: every other one is after a step, so that there is an end.
const TURNS: [After; 4] = [After::Step, After::Touch, After::Step, After::Lock];

async fn forward(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "kills", usual(2)).await?;
    let case = stage.case().await?;
    let flags = ["--order", "one-by-one", "--yes", "--finalize"];
    let kills = to_the_end(bed, &stage.tool, &stage.arguments("run", &flags)).await?;
    // PVs, claims, set and records here and there, twice a pod and a patch, and the deleting.
    ensure!(kills.len() > 20, "only {}: {kills:#?}", kills.len());
    ensure!(stage.ready_pods(Cluster::B).await? == 2);
    stage.end(case.expecting(Expected::Finalized)).await
}

async fn back(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "kills-back", usual(2)).await?;
    let case = stage.case().await?;
    let halfway = ["--order", "one-by-one", "--yes", "--pause-after", "0"];
    // Whatever there is but the lock, nothing stays.
    let first = killed(bed, &stage.tool, &stage.arguments("run", &halfway), After::Lock).await?;
    ensure!(first.is_some(), "it was not killed");
    stage.run("rollback", &["--yes"]).await?.expect_code(0);
    ensure!(holders(&stage).await? == [] as [String; 0], "a Lease is left");
    stage.run("run", &halfway).await?.expect_code(0);
    let kills = to_the_end(bed, &stage.tool, &stage.arguments("rollback", &["--yes"])).await?;
    ensure!(kills.len() > 10, "only {}: {kills:#?}", kills.len());
    ensure!(stage.ready_pods(Cluster::A).await? == 2 && stage.set(Cluster::B).await?.is_none());
    stage.end(case.expecting(Expected::RolledBack)).await
}

async fn claim(bed: &'static Bed) -> Result<()> {
    let scene = Scene::new(bed, "kills").await?;
    let case = scene.case().await?;
    let kills = to_the_end(bed, &scene.tool, &scene.arguments("move-volume", &["--yes"])).await?;
    ensure!(kills.len() > 5, "only {}: {kills:#?}", kills.len());
    scene.start(Cluster::B, "reader").await?;
    scene.stop(Cluster::B, "reader").await?;
    let kills = to_the_end(bed, &scene.tool, &scene.arguments("rollback", &["--yes"])).await?;
    ensure!(kills.len() > 5, "only {}: {kills:#?}", kills.len());
    scene.start(Cluster::A, "again").await?;
    scene.end(case.expecting(Expected::RolledBack)).await
}

/// Types a command again and again and kills it after a write, until one run comes to its end; returns after
/// what each of the others was killed.
async fn to_the_end(bed: &Bed, tool: &Tool, arguments: &[&str]) -> Result<Vec<String>> {
    let mut kills = Vec::new();
    for after in TURNS.into_iter().cycle().take(MOST) {
        match killed(bed, tool, arguments, after).await.with_context(|| format!("after {kills:#?}"))? {
            Some(write) => kills.push(format!("{after:?}: {write}")),
            None => return Ok(kills),
        }
    }
    bail!("no end after {MOST} runs: {kills:#?}")
}

/// Types a command with an empty home and kills it after a write; returns after which, or none when it came to
/// its end before.
async fn killed(bed: &Bed, tool: &Tool, arguments: &[&str], after: After) -> Result<Option<String>> {
    let operator = Operator::new(bed, tool)?;
    let log = operator.home().join("said");
    let marks = [(Cluster::A, bed.audit_mark(Cluster::A)?), (Cluster::B, bed.audit_mark(Cluster::B)?)];
    let mut command = operator.command(arguments);
    let mut run = KillOnDrop(command.stdout(Stdio::null()).stderr(fs::File::create(&log)?).spawn()?);
    loop {
        if let Some(status) = run.0.try_wait()? {
            ensure!(status.code() == Some(0), "{status}: {}", fs::read_to_string(&log)?);
            return Ok(None);
        }
        for (cluster, mark) in marks {
            let events = bed.audit_since(cluster, mark)?;
            if let Some(write) = events.iter().find_map(|event| write(event, cluster, &tool.user, after)) {
                kill_process(Pid::from_child(&run.0), Signal::STOP)?;
                answered(bed, &tool.user, &marks).await?;
                run.0.kill()?;
                run.0.wait()?;
                return Ok(Some(write));
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until the servers have no more to say to a run that is stopped: it dies without having read its answers.
///
/// Of a call whose client hangs up, the audit log says 504 although it was done, and the judge would be misled.
async fn answered(bed: &Bed, user: &str, marks: &[(Cluster, Mark); 2]) -> Result<()> {
    let (mut seen, mut looks) = (0, 0);
    while looks < QUIET_LOOKS {
        let mut now = 0;
        for (cluster, mark) in marks {
            let events = bed.audit_since(*cluster, *mark)?;
            now += events.iter().filter(|event| event["user"]["username"] == user).count();
        }
        looks = if now == seen { looks + 1 } else { 0 };
        seen = now;
        sleep(QUIET_EVERY).await;
    }
    Ok(())
}

/// Returns what was written, if this run is killed after it.
fn write(event: &Value, cluster: Cluster, user: &str, after: After) -> Option<String> {
    let (verb, object) = (event["verb"].as_str()?, &event["objectRef"]);
    let resource = object["resource"].as_str()?;
    let is_write = !matches!(verb, "get" | "list" | "watch") && resource != "selfsubjectaccessreviews";
    let is_done = event["responseStatus"]["code"].as_i64().is_some_and(|code| code < 300);
    if !is_write || !is_done || event["user"]["username"] != user {
        return None;
    }
    let annotations = event.pointer("/requestObject/metadata/annotations");
    let kind = match resource {
        "leases" => After::Lock,
        _ if annotations.is_some_and(|annotations| annotations.get(TOUCHED).is_some()) => After::Touch,
        _ => After::Step,
    };
    // Where nothing is left to be fenced off, the first step will do.
    let is_late = kind == After::Step && after == After::Touch;
    (kind == after || is_late)
        .then(|| format!("{} {verb} {resource} {}", cluster.name(), object["name"].as_str().unwrap_or_default()))
}
