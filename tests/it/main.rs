//! The tests that need the bed: the shipped binary against two real control planes.
//!
//! One bed is started for all of them, when the first one asks; tests run side by side in namespaces
//! of their own. One module per area, each with its `trials()`.

use std::process::ExitCode;

use ::bed::toolchain::Binaries;
use libtest_mimic::Arguments;

mod bed;
mod charts;
mod cli;
mod cutover;
mod events;
mod guide;
mod interrupted;
mod judge_proof;
mod killed;
mod kinds;
mod migration;
mod move_volume;
mod node;
mod outage;
mod phases;
mod place;
mod preflight;
mod prompts;
mod readiness;
mod readme;
mod screen;
mod shapes;
mod silent;
mod stage;
mod status;
mod support;

/// Tests side by side, unless `--test-threads` says otherwise: they mostly wait.
const THREADS: usize = 4;

fn main() -> ExitCode {
    ::bed::supervise_if_asked();
    support::hold_a_bed_if_asked();

    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let trials = [
        // First what waits longest, beside all others.
        silent::trials(),
        bed::trials(),
        charts::trials(),
        cli::trials(),
        cutover::trials(),
        guide::trials(),
        interrupted::trials(),
        judge_proof::trials(),
        killed::trials(),
        kinds::trials(),
        migration::trials(),
        move_volume::trials(),
        node::trials(),
        outage::trials(),
        phases::trials(),
        preflight::trials(),
        prompts::trials(),
        readiness::trials(),
        readme::trials(),
        shapes::trials(),
        status::trials(),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();

    let needs_bed = trials.iter().any(|trial| {
        trial.kind() == support::NEEDS_BED && !arguments.is_filtered_out(trial) && !arguments.is_ignored(trial)
    });
    if needs_bed && !arguments.list {
        // Built before the first line of a test, so that its bar has the terminal to itself.
        if let Err(error) = Binaries::find_or_build() {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    support::end_shared_bed();
    conclusion.exit_code()
}
