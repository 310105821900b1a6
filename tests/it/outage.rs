//! Networks that break: a laptop whose wires are cut, for a moment or for long, while it looks or acts.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bed::judge::Expected;
use bed::node::PodKnobs;
use bed::workload::exists;
use bed::{Bed, Cluster, node};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::io::{copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::interrupted::{hold_from_elsewhere, leases, nobody_holds};
use crate::migration::{usual, writes_of};
use crate::stage::{PATIENT, Stage};
use crate::status::{end_of, shown};
use crate::support::{KillOnDrop, Operator, eventually, on_bed};

/// How long the wires of a bad network are whole, and how long they are cut.
const WHOLE: Duration = Duration::from_millis(1500);
const CUT: Duration = Duration::from_millis(300);

/// How long a server does not see that a wire is cut.
const UNNOTICED: Duration = Duration::from_secs(5);

/// Runs that a bad network may take.
const RUNS: usize = 20;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("outage::status_watch_outlives_clusters_that_do_not_answer", watched),
        on_bed("outage::a_network_that_flaps_loses_nothing_there_and_back", flapping),
        on_bed("outage::who_lost_the_lock_meanwhile_changes_nothing", lost),
    ]
}

/// A wire to an API server, which can be cut and mended.
struct Wire {
    near: SocketAddr,
    is_cut: watch::Sender<bool>,
}

impl Wire {
    async fn to(far: String) -> Result<Wire> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let near = listener.local_addr()?;
        let (is_cut, cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (far, mut cut) = (far.clone(), cut.clone());
                if *cut.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(far).await else { return };
                    tokio::select! {
                        _ended = copy_bidirectional(&mut near, &mut far) => return,
                        _cut = cut.wait_for(|cut| *cut) => {}
                    }
                    drop(near);
                    // Far away nobody notices at once: what was asked for is done, and answered to nobody.
                    let _unheard = timeout(UNNOTICED, copy(&mut far, &mut sink())).await;
                });
            }
        });
        Ok(Wire { near, is_cut })
    }
}

/// A laptop that reaches both clusters and EC2 by wires.
struct Laptop {
    operator: Operator,
    /// To A, to B, to EC2.
    wires: [Wire; 3],
}

impl Laptop {
    async fn new(stage: &Stage) -> Result<Laptop> {
        let mut operator = Operator::new(stage.bed, &stage.tool)?;
        let whole = fs::read_to_string(stage.bed.kubeconfig(&stage.tool.user)?)?;
        let mut kubeconfig: Value = serde_yaml::from_str(&whole)?;
        let mut wires = Vec::new();
        for cluster in kubeconfig["clusters"].as_array_mut().context("a kubeconfig has clusters")? {
            let server = cluster["cluster"]["server"].as_str().context("a cluster has a server")?;
            let wire = Wire::to(server.trim_start_matches("https://").to_owned()).await?;
            cluster["cluster"]["server"] = format!("https://{}", wire.near).into();
            wires.push(wire);
        }
        let file = operator.home().join("kubeconfig");
        fs::write(&file, serde_yaml::to_string(&kubeconfig)?)?;
        operator.set("KUBECONFIG", file);
        let wire = Wire::to(stage.bed.ec2_url().trim_start_matches("http://").to_owned()).await?;
        operator.set("AWS_ENDPOINT_URL", format!("http://{}", wire.near));
        wires.push(wire);
        let wires = <[Wire; 3]>::try_from(wires).map_err(|_| anyhow::anyhow!("a bed has two clusters"))?;
        Ok(Laptop { operator, wires })
    }

    fn cut(&self, is_cut: bool) {
        for wire in &self.wires {
            wire.is_cut.send_replace(is_cut);
        }
    }

    /// Cuts all wires again and again.
    async fn flap(&self) {
        loop {
            sleep(WHOLE).await;
            self.cut(true);
            sleep(CUT).await;
            self.cut(false);
        }
    }

    /// Types a command on a bad network until it says that it is done.
    async fn insist(&self, stage: &Stage, subcommand: &str, flags: &[&str]) -> Result<()> {
        for _ in 0..RUNS {
            let run = self.operator.run(stage.arguments(subcommand, flags));
            let ended = tokio::select! {
                ended = run => ended?,
                () = self.flap() => unreachable!("it flaps for ever"),
            };
            self.cut(false);
            match ended.code() {
                Some(0) => return Ok(()),
                // An answer that is not known pauses, or keeps it from beginning.
                Some(1) => ensure!(ended.stderr.contains("hint: "), "{}", ended.stderr),
                code => anyhow::bail!("{subcommand} ended with {code:?}: {}", ended.stderr),
            }
        }
        anyhow::bail!("{subcommand} does not come to its end")
    }
}

async fn flapping(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "flapping", usual(2)).await?;
    let laptop = Laptop::new(&stage).await?;
    let case = stage.case().await?;
    let begin = ["--order", "one-by-one", "--yes", "--until", "prepare"];
    laptop.operator.run(stage.arguments("run", &begin)).await?.expect_code(0);
    laptop.insist(&stage, "run", &["--yes"]).await?;
    ensure!(stage.ready_pods(Cluster::B).await? == 2);
    case.clone().expecting(Expected::Moved).assert_clean(bed).await?;
    laptop.insist(&stage, "rollback", &["--yes"]).await?;
    ensure!(stage.ready_pods(Cluster::A).await? == 2 && stage.set(Cluster::B).await?.is_none());
    stage.end(case.expecting(Expected::RolledBack)).await
}

/// Its network gone for long, another machine has taken over: what the first one decides after that is void.
async fn lost(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "lost", usual(2)).await?;
    let laptop = Laptop::new(&stage).await?;
    let case = stage.case().await?;
    let nodes = node::Control::new(bed.ec2_url());
    let never = PodKnobs { never_ready: true, ..PodKnobs::default() };
    nodes.pod_knobs(Some(Cluster::B), &stage.destination, "web-0", never).await?;
    let talk = laptop.operator.home().join("talk");
    let mut run = laptop.operator.command(stage.arguments("run", &["--order", "one-by-one", "--yes"]));
    let mut run = KillOnDrop(run.stdout(Stdio::null()).stderr(fs::File::create(&talk)?).spawn()?);
    let pods: Api<Pod> = Api::namespaced(stage.b.clone(), &stage.destination);
    exists(pods, "web-0", PATIENT).await?;
    laptop.cut(true);
    // As long as every other machine would have waited.
    eventually("the Leases to be old", PATIENT, async || Ok(are_old(&stage).await?.then_some(()))).await?;
    for cluster in Cluster::BOTH {
        hold_from_elsewhere(&stage, cluster, 3600).await?;
    }
    let before = changes(bed, &stage)?;
    // The next pod's turn has come, as soon as it can be seen.
    nodes.pod_knobs(Some(Cluster::B), &stage.destination, "web-0", PodKnobs::default()).await?;
    eventually("the first pod", PATIENT, async || Ok((stage.ready_pods(Cluster::B).await? == 1).then_some(()))).await?;
    laptop.cut(false);
    shown(&talk, "is held by dba@bastion (process 4242); taken over when not renewed for 3600 s").await?;
    ensure!(changes(bed, &stage)? == before, "without the lock it went on");
    ensure!(run.0.try_wait()?.is_none(), "it waits for the lock");
    // Given back, it was somebody's who is alive: the next word is a person's.
    nobody_holds(&stage).await?;
    ensure!(end_of(&mut run).await? == Some(4), "{}", fs::read_to_string(&talk)?);
    let said = fs::read_to_string(&talk)?;
    ensure!(said.contains("left behind: everything as it stands: this run changes nothing more"), "{said}");
    ensure!(changes(bed, &stage)? == before, "without the lock it went on");
    stage.run("run", &["--yes"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::B).await? == 2);
    stage.end(case.expecting(Expected::Moved)).await
}

/// Returns whether the Leases of both clusters were not renewed for as long as they are good for.
async fn are_old(stage: &Stage) -> Result<bool> {
    for cluster in Cluster::BOTH {
        for lease in leases(stage, cluster).list(&ListParams::default()).await? {
            let spec = lease.spec.context("a Lease has a spec")?;
            let (renewed, seconds) = spec.renew_time.zip(spec.lease_duration_seconds).context("it was renewed")?;
            if Timestamp::now().duration_since(renewed.0) < SignedDuration::from_secs(seconds.into()) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Returns what the tool has changed, its lock apart.
fn changes(bed: &Bed, stage: &Stage) -> Result<Vec<String>> {
    Ok(writes_of(bed, &stage.tool.user)?.into_iter().filter(|write| !write.contains(" leases ")).collect())
}

async fn watched(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "outage", usual(1)).await?;
    let case = stage.case().await?;
    stage.run("run", &["--yes", "--until", "prepare"]).await?.expect_code(0);

    let laptop = Laptop::new(&stage).await?;
    let (elsewhere, [source, destination, _]) = (&laptop.operator, &laptop.wires);
    let (seen, talk) = (elsewhere.home().join("seen"), elsewhere.home().join("talk"));
    let mut watch = elsewhere.command(stage.arguments("status", &["--watch"]));
    let mut watch = KillOnDrop(watch.stdout(fs::File::create(&seen)?).stderr(fs::File::create(&talk)?).spawn()?);
    shown(&seen, "phase: FreezingSource").await?;
    // One that is left has the record too; what the other would say is unknown, not gone.
    destination.is_cut.send_replace(true);
    shown(&seen, "remark: destination cluster: ").await?;
    source.is_cut.send_replace(true);
    shown(&talk, "it is not known whether a migration of web is open: a cluster had no answer").await?;
    shown(&talk, "looking again every 2 seconds").await?;
    stage.run("rollback", &["--yes"]).await?.expect_code(0);
    ensure!(watch.0.try_wait()?.is_none(), "it looks no more: {}", fs::read_to_string(&talk)?);
    laptop.cut(false);
    shown(&seen, "phase: RolledBack").await?;
    ensure!(end_of(&mut watch).await? == Some(0));
    stage.end(case.expecting(Expected::RolledBack)).await
}
