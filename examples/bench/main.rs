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

/// What is measured.
#[derive(Clone, Copy)]
enum Mode {
    /// So many ordinals with the program at the pace of the bed, then so many with a runbook.
    Compare(i32, i32),
    /// So many ordinals with the program, with the smallest delays.
    Grow(i32),
}

/// What is measured when nothing else is said; the runbook takes seven seconds for each.
const USUAL: Mode = Mode::Compare(30, 6);

/// As few as show that everything can be measured.
const FEW: Mode = Mode::Compare(3, 1);

const USAGE: &str = "usage: cargo run --release --example bench -- [--few | --ordinals N]
  without       move 30 ordinals at the pace of the bed, and 6 more with a runbook
  --few         the same with 3 and 1: numbers from so few say little
  --ordinals N  move N ordinals with the smallest delays, and show whether time, calls and memory grow";

fn main() -> ExitCode {
    bed::supervise_if_asked();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mode = match arguments.as_slice() {
        [] => USUAL,
        ["--few"] => FEW,
        ["-h" | "--help"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        arguments => match ordinals(arguments) {
            Some(ordinals) => Mode::Grow(ordinals),
            None => {
                eprintln!("error: these arguments are not understood: {}\n{USAGE}", arguments.join(" "));
                return ExitCode::from(2);
            }
        },
    };
    match bench(mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: nothing was measured: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn ordinals(arguments: &[&str]) -> Option<i32> {
    let ["--ordinals", number] = arguments else { return None };
    number.parse().ok().filter(|number| *number > 0)
}

fn bench(mode: Mode) -> Result<()> {
    say("building sts-migrate");
    let program = shipped::build()?;
    say("starting two clusters");
    // As for the tests: the logs are kept in this directory.
    let keep_logs = env::var_os("STS_MIGRATE_BED_LOGS").map(Into::into);
    let options = BedOptions { keep_logs, ..BedOptions::default() };
    let options = if matches!(mode, Mode::Grow(_)) { quickest(options) } else { options };
    let bed = Bed::start(options)?;
    let runtime = Runtime::new().context("start the runtime")?;
    let measured = runtime.block_on(async {
        match mode {
            Mode::Compare(own, runbook) => compare(&bed, &program, own, runbook).await,
            Mode::Grow(ordinals) => grow(&bed, &program, ordinals).await,
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
async fn compare(bed: &Bed, program: &Path, own: i32, by_hand: i32) -> Result<()> {
    let workload = put_up(bed, "bench", own).await?;
    let (moved, run) = with_program(bed, program, &workload).await?;
    let workload = put_up(bed, "runbook", by_hand).await?;
    say(format_args!("moving {by_hand} ordinals with kubectl, looking every 5 s"));
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
