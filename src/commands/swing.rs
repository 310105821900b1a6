//! `swing`: move the pods, after the freeze.

use super::forward::{self, Forward};
use super::{Context, Typed};
use crate::cli::{PauseArgs, RunArgs, SubjectArgs};
use crate::decide::Until;
use crate::failure::{Exit, Failure};
use crate::spec::Spec;

/// Move the pods to the destination, in the order that was chosen
///
/// Refuses (exit 4) before the freeze.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    #[command(flatten)]
    pause: PauseArgs,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: Args) -> Result<Exit, Failure> {
    let mut flags = Spec { pause_after: args.pause.pause_after, ..Spec::default() };
    args.subject.fill(&mut flags);
    args.run.fill(&mut flags);
    let forward = Forward {
        subcommand: "swing",
        until: Until::Swing,
        after: Some(Until::Freeze),
        covers_deleting: false,
        wait: None,
    };
    let typed = Typed::new(&context.program, &args.subject)
        .with_limits(None, args.pause.pause_after, false)
        .with_run(&args.run);
    forward::run(context, typed, &args.subject, &flags, &args.run, &forward).await
}
