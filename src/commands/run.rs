//! `run`: the whole migration, or up to a phase; run again to resume.

use super::forward::{self, Forward};
use super::{Context, Typed};
use crate::cli::{ChoiceArgs, PauseArgs, RunArgs, SubjectArgs, UntilArgs};
use crate::decide::Until;
use crate::failure::{Exit, Failure};
use crate::spec::Spec;

/// Move a StatefulSet, or go on where the last run stopped
///
/// Does preflight, prepare, freeze, swing, cutover and finalize, and asks before every step that
/// takes something down or cannot be undone: `y`, `a` (all of this kind), `n` (pause here). Before
/// anything is deleted in the source it asks for the set's name. With --yes it asks nothing, and ends
/// after the cutover with the set in the destination; `finalize` is left then, unless --finalize is given.
///
/// Stopped by whatever, the same command goes on. Choices of the first run (order, namespace, class
/// map, force) are kept in the clusters and need not be repeated.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    #[command(flatten)]
    choices: ChoiceArgs,
    #[command(flatten)]
    until: UntilArgs,
    #[command(flatten)]
    pause: PauseArgs,
    /// Let --yes answer the question before deleting in the source too
    #[arg(long, conflicts_with = "until", help_heading = "How far")]
    finalize: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: Args) -> Result<Exit, Failure> {
    let mut flags = Spec { until: args.until.until, pause_after: args.pause.pause_after, ..Spec::default() };
    args.subject.fill(&mut flags);
    args.choices.fill(&mut flags);
    args.run.fill(&mut flags);
    // The document may say how far, too.
    let until = super::opened::spec(&args.subject, &flags)?.until.map(Until::from);
    if args.finalize && until.is_some() {
        return Err(Failure::usage("--finalize contradicts `spec.until` of the document", "leave one of them out"));
    }
    let furthest = if args.run.volumes.yes && !args.finalize { Until::Cutover } else { Until::Finalize };
    let forward = Forward {
        subcommand: "run",
        until: until.unwrap_or(furthest),
        after: None,
        covers_deleting: args.finalize,
        wait: None,
    };
    let typed = Typed::new(&context.program, &args.subject)
        .with_choices(&args.choices)
        .with_limits(args.until.until, args.pause.pause_after, args.finalize)
        .with_run(&args.run);
    forward::run(context, typed, &args.subject, &flags, &args.run, &forward).await
}
