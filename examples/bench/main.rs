//! The bench: how long each pod is down while its set moves, and how much of that is the mover's fault.
//!
//! ```text
//! cargo run --release --example bench                      # 30 ordinals, then 6 with a runbook
//! cargo run --release --example bench -- --ordinals 300    # as quick as the bed can, in rows of 100
//! ```
//! Everything is taken from the servers' logs, not from what a mover says of itself. The last line is
//! one JSON object. It judges nothing: it exits 0 when it could measure.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bed::judge::{Case, Evidence};
use bed::workload::{USUAL_CLASS, Workload};
use bed::{Bed, BedOptions, Cluster, ec2, node, users};
use tokio::runtime::Runtime;

mod logs;
mod program;
mod runbook;
#[path = "../shipped/mod.rs"]
mod shipped;
mod table;

use logs::Move;

/// Name of the set that moves.
const SET: &str = "web";

/// How many ordinals the program moves when nothing else is said.
const ORDINALS: i32 = 30;

/// How many ordinals the runbook moves: it takes seven seconds for each.
const RUNBOOK_ORDINALS: i32 = 6;

const USAGE: &str = "usage: cargo run --release --example bench -- [--ordinals N]
  --ordinals N  move N ordinals with the smallest delays, and show whether time, calls and memory
                grow; without it 30 are moved at the pace of the bed, and 6 more with a runbook";

fn main() -> ExitCode {
    bed::supervise_if_asked();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ordinals = match arguments.as_slice() {
        [] => None,
        ["-h" | "--help"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        ["--ordinals", number] if number.parse::<i32>().is_ok_and(|number| number > 0) => number.parse().ok(),
        _ => {
            eprintln!("error: these arguments are not understood: {}\n{USAGE}", arguments.join(" "));
            return ExitCode::from(2);
        }
    };
    match bench(ordinals) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: nothing was measured: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(ordinals: Option<i32>) -> Result<()> {
    say("building sts-migrate");
    let program = shipped::build()?;
    say("starting two clusters");
    // As for the tests: the logs are kept in this directory.
    let keep_logs = env::var_os("STS_MIGRATE_BED_LOGS").map(Into::into);
    let options = BedOptions { keep_logs, ..BedOptions::default() };
    let bed = Bed::start(if ordinals.is_some() { quickest(options) } else { options })?;
    let runtime = Runtime::new().context("start the runtime")?;
    let measured = runtime.block_on(async {
        match ordinals {
            None => compare(&bed, &program).await,
            Some(ordinals) => grow(&bed, &program, ordinals).await,
        }
    });
    bed.end();
    measured
}

/// Returns the options with everything as quick as the bed can.
fn quickest(options: BedOptions) -> BedOptions {
    let ec2 = ec2::Timings {
        create_ms: [0, 0],
        attach_ms: [0, 0],
        detach_ms: [0, 0],
        delete_ms: [0, 0],
        ..ec2::Timings::default()
    };
    let node = node::Timings { exit: std::time::Duration::ZERO, ..node::Timings::default() };
    BedOptions { ec2, node, ..options }
}

/// Moves one set with the program and one with the runbook.
async fn compare(bed: &Bed, program: &Path) -> Result<()> {
    let workload = put_up(bed, "bench", ORDINALS).await?;
    let (moved, run) = with_program(bed, program, &workload).await?;
    let workload = put_up(bed, "runbook", RUNBOOK_ORDINALS).await?;
    say(format_args!("moving {RUNBOOK_ORDINALS} ordinals with kubectl, looking every 5 s"));
    let tool = bed.take_tool();
    let case = Case::for_workload(bed, &tool, &workload, workload.namespace()).await?;
    runbook::run(bed, &tool, &case).await?;
    let runbook = logs::read(&Evidence::collect(bed, &case).await?, &case)?;
    table::downtimes(&[("sts-migrate", &moved), ("runbook", &runbook)]);
    table::calls(&moved, &run);
    println!("{}", table::json(&moved, Some(&runbook), &run));
    Ok(())
}

/// Moves one large set with the program.
async fn grow(bed: &Bed, program: &Path, ordinals: i32) -> Result<()> {
    let workload = put_up(bed, "bench", ordinals).await?;
    let (moved, run) = with_program(bed, program, &workload).await?;
    table::downtimes(&[("sts-migrate", &moved)]);
    table::growth(&moved, &run);
    table::calls(&moved, &run);
    println!("{}", table::json(&moved, None, &run));
    Ok(())
}

async fn with_program(bed: &Bed, program: &Path, workload: &Workload) -> Result<(Move, program::Run)> {
    say(format_args!("moving {} ordinals with sts-migrate", workload.pods().len()));
    let tool = bed.take_tool();
    let namespace = workload.namespace();
    let case = Case::for_workload(bed, &tool, workload, namespace).await?;
    let arguments = [
        "run",
        "--src",
        "a",
        "--dst",
        "b",
        "--namespace",
        namespace,
        "--create-namespace",
        "--order",
        "one-by-one",
        "--yes",
        "--finalize",
        workload.name(),
    ];
    let run = program::run(shipped::command(program, bed, &tool, &arguments)?).await?;
    Ok((logs::read(&Evidence::collect(bed, &case).await?, &case)?, run))
}

/// Puts a set with one volume per replica into A.
async fn put_up(bed: &Bed, namespace: &str, replicas: i32) -> Result<Workload> {
    say(format_args!("putting {replicas} replicas with a volume each into cluster a"));
    // Parallel, so that it is up soon; it moves one by one all the same.
    let workload = Workload::new(namespace, SET).replicas(replicas).claim("data", "1Gi", USUAL_CLASS).parallel();
    let admin = bed.client(Cluster::A, users::ADMIN).await?;
    workload.apply(&admin).await?;
    workload.wait_ready(&admin).await?;
    Ok(workload)
}

fn say(line: impl std::fmt::Display) {
    eprintln!("bench: {line}");
}
