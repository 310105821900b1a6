//! A sandbox: two real clusters on this machine, a set with data, and the real `sts-migrate`.
//!
//! ```text
//! cargo run --example sandbox              # asks and shows, as on real clusters
//! cargo run --example sandbox -- --yes     # asks nothing
//! cargo run --example sandbox -- --keep    # only starts everything, and says what to type
//! ```
//! Nothing of it needs AWS or a cluster; everything is gone when it ends.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fmt};

use anyhow::{Context, Result, bail, ensure};
use bed::facts::HistoryKind;
use bed::workload::{self, Workload};
use bed::{Bed, BedOptions, Cluster, Tool};
use serde_json::json;
use tokio::runtime::Runtime;

#[path = "shipped/mod.rs"]
mod shipped;

/// Namespace of the set, the same in both clusters.
const NAMESPACE: &str = "shop";

/// Name of the set.
const SET: &str = "web";

/// Name of a claim that no set owns.
const CLAIM: &str = "uploads";

/// Class of the claims; the bed has it in both clusters.
const CLASS: &str = "gp3";

/// User who puts the set up.
const ADMIN: &str = "admin";

const USAGE: &str = "usage: cargo run --example sandbox -- [--yes] [--keep]
  --yes   let the migration ask nothing
  --keep  leave everything running until Ctrl-C, and say what to export and type;
          without --yes the set stays in the source cluster, to try every command by hand";

/// What was asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    yes: bool,
    keep: bool,
}

fn main() -> ExitCode {
    bed::supervise_if_asked();
    let mut options = Options::default();
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--yes" => options.yes = true,
            "--keep" => options.keep = true,
            "-h" | "--help" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("error: no such option: {other}\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match sandbox(options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn sandbox(options: Options) -> Result<ExitCode> {
    say("building sts-migrate");
    let program = shipped::build()?;
    say("starting two clusters; the first time, their programs are compiled from source");
    let begun = Instant::now();
    let bed = Bed::start(BedOptions::default())?;
    say(format_args!("both are up after {:.1} s", begun.elapsed().as_secs_f64()));
    let runtime = Runtime::new().context("start the runtime")?;
    let code = runtime.block_on(play(&bed, &program, options));
    bed.end();
    code
}

async fn play(bed: &Bed, program: &Path, options: Options) -> Result<ExitCode> {
    let workload = workload();
    let admin = bed.client(Cluster::A, ADMIN).await?;
    say(format_args!("putting StatefulSet {SET} into namespace {NAMESPACE} of cluster a: 3 replicas, 2 claims each"));
    workload.apply(&admin).await?;
    workload.wait_ready(&admin).await?;
    workload::lone_claim(&admin, NAMESPACE, CLAIM).await?;
    let mut volumes = Vec::new();
    for claim in workload.claims() {
        let volume = workload::volume_of(&admin, NAMESPACE, &claim).await?;
        volumes.push((claim, volume));
    }
    show(bed, &volumes).await?;

    let tool = bed.take_tool();
    let terminal = Terminal { bed, program, tool: &tool };
    let mut code = ExitCode::SUCCESS;
    let mut keep = options.keep;
    if options.yes {
        let run = [
            "run",
            "--src",
            "a",
            "--dst",
            "b",
            "-n",
            NAMESPACE,
            "--create-namespace",
            "--order",
            "one-by-one",
            "--yes",
            SET,
        ];
        terminal.hand_over(&run).await?.success()?;
        terminal
            .hand_over(&["finalize", "--src", "a", "--dst", "b", "-n", NAMESPACE, "--yes", SET])
            .await?
            .success()?;
        show(bed, &volumes).await?;
        moved(bed, &volumes).await?;
        say("every volume has what was written in cluster a, and is used in cluster b");
    } else if !keep {
        let ended = terminal
            .hand_over(&["run", "--src", "a", "--dst", "b", "-n", NAMESPACE, "--create-namespace", SET])
            .await?;
        show(bed, &volumes).await?;
        if ended.success().is_err() {
            // Paused: the person wants to go on, or back.
            code = ExitCode::from(ended.0);
            keep = true;
        }
    }
    if keep {
        terminal.invite()?;
        tokio::signal::ctrl_c().await.context("wait for Ctrl-C")?;
    }
    Ok(code)
}

/// The set: with its governing Service, one for clients inside, and one that publishes.
fn workload() -> Workload {
    Workload::new(NAMESPACE, SET)
        .replicas(3)
        .claim("data", "10Gi", CLASS)
        .claim("log", "1Gi", CLASS)
        .grace_seconds(10)
        .service("web-inside", json!({}))
        .service("web-public", json!({ "type": "LoadBalancer" }))
}

/// How the program ended.
struct Ended(u8);

impl Ended {
    fn success(&self) -> Result<()> {
        ensure!(self.0 == 0, "sts-migrate ended with exit code {}", self.0);
        Ok(())
    }
}

/// The operator's terminal.
struct Terminal<'a> {
    bed: &'a Bed,
    program: &'a Path,
    tool: &'a Tool,
}

impl Terminal<'_> {
    /// Runs the program on this very terminal.
    async fn hand_over(&self, arguments: &[&str]) -> Result<Ended> {
        println!("\n$ sts-migrate {}", arguments.join(" "));
        let command = shipped::command(self.program, self.bed, self.tool, arguments)?;
        let mut child = tokio::process::Command::from(command).spawn().context("start sts-migrate")?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.context("wait for sts-migrate")?,
                // The terminal sends Ctrl-C to both: it is meant for the program, which pauses.
                caught = tokio::signal::ctrl_c() => caught.context("catch Ctrl-C")?,
            }
        };
        println!();
        Ok(Ended(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
    }

    /// Says what to export and what to type in another terminal.
    fn invite(&self) -> Result<()> {
        say("everything runs until Ctrl-C; in another terminal:\n");
        for (name, value) in shipped::environment(self.bed, self.tool)? {
            println!("export {name}={value}");
        }
        let directories = [self.program.parent().map(Path::to_owned), self.bed.kubectl().parent().map(Path::to_owned)];
        let directories: Vec<String> =
            directories.into_iter().flatten().map(|path| path.display().to_string()).collect();
        println!("export PATH={}:$PATH\n", directories.join(":"));
        let place = format!("--src a --dst b -n {NAMESPACE}");
        let subject = format!("{place} {SET}");
        for (command, what) in [
            (format!("preflight --create-namespace --order one-by-one {subject}"), "look for what is in the way"),
            (format!("plan --create-namespace --order one-by-one {subject}"), "see what would be done"),
            (format!("run --create-namespace --order one-by-one --pause-after 0 {subject}"), "move the canary"),
            (format!("status {subject}"), "see where everything is"),
            (format!("rollback {subject}"), "undo"),
            (format!("run --create-namespace --until prepare {subject}"), "begin anew; nothing is down yet"),
            (format!("freeze {subject}"), "from here on nothing heals the pods in a"),
            (format!("swing {subject}"), "move all pods"),
            (format!("finalize {subject}"), "clean up the source"),
            (format!("preflight {place} --claim {CLAIM}"), "look at a claim that no set owns"),
            (format!("plan {place} --claim {CLAIM}"), "see what would be done"),
            (format!("move-volume --yes {place} {CLAIM}"), "move it"),
            (format!("status {place} --claim {CLAIM}"), "see where that is"),
            (format!("rollback {place} --claim {CLAIM}"), "undo that"),
            (format!("move-volume --yes {place} {CLAIM}"), "move it again"),
            (format!("finalize {place} --claim {CLAIM}"), "clean up the source"),
            ("schema".to_owned(), "what may stand in a document for -f"),
            ("completions bash".to_owned(), "what a shell reads to complete commands"),
            ("man run".to_owned(), "the manual of a command, or of all"),
        ] {
            println!("sts-migrate {command}   # {what}");
        }
        println!("kubectl --context b -n {NAMESPACE} get pods,pvc   # what runs there\n");
        Ok(())
    }
}

/// Shows who used the volumes, from their own histories.
async fn show(bed: &Bed, volumes: &[(String, String)]) -> Result<()> {
    say("what is written on the volumes:");
    for (claim, volume) in volumes {
        println!("  {claim} on {volume}");
        for entry in bed.ec2().history(volume).await? {
            let time = entry.at.strftime("%H:%M:%S");
            let (pod, cluster) = (&entry.pod, entry.cluster.name());
            match entry.kind {
                HistoryKind::Start => {
                    let found = match entry.found {
                        0 => "empty".to_owned(),
                        1 => "with 1 entry".to_owned(),
                        found => format!("with {found} entries"),
                    };
                    println!("    {time}  {pod} in cluster {cluster} starts to write; it found the volume {found}");
                }
                HistoryKind::End => println!("    {time}  {pod} in cluster {cluster} has ended"),
            }
        }
    }
    Ok(())
}

/// Checks that each volume was written in A, and is used in B by a pod that found all of it.
async fn moved(bed: &Bed, volumes: &[(String, String)]) -> Result<()> {
    for (claim, volume) in volumes {
        let history = bed.ec2().history(volume).await?;
        let Some(last) = history.last() else { bail!("nothing was ever written on {volume}") };
        let is_in_use = last.kind == HistoryKind::Start && last.cluster == Cluster::B;
        ensure!(is_in_use, "{claim} on {volume} is not used in cluster b");
        ensure!(last.found + 1 == history.len(), "{claim} on {volume} lost what was written before");
        ensure!(history[0].cluster == Cluster::A, "{claim} on {volume} was not written in cluster a");
    }
    Ok(())
}

fn say(line: impl fmt::Display) {
    println!("sandbox: {line}");
}
