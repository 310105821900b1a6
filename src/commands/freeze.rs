//! `freeze`: prepare and freeze, and nothing more.

use super::forward::{self, Forward};
use super::{Context, Typed};
use crate::cli::{ChoiceArgs, RunArgs, SubjectArgs};
use crate::decide::Until;
use crate::failure::{Exit, Failure};
use crate::spec::Spec;

/// Prepare the destination, delete the StatefulSet object in the source; its pods run on
///
/// The same as `run --until freeze`. From then on no controller heals the pods in the source until
/// they have moved or `rollback` was run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    #[command(flatten)]
    choices: ChoiceArgs,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: Args) -> Result<Exit, Failure> {
    let mut flags = Spec::default();
    args.subject.fill(&mut flags);
    args.choices.fill(&mut flags);
    args.run.fill(&mut flags);
    let forward =
        Forward { subcommand: "freeze", until: Until::Freeze, after: None, covers_deleting: false, wait: None };
    let typed = Typed::new(&context.program, &args.subject).with_choices(&args.choices).with_run(&args.run);
    forward::run(context, typed, &args.subject, &flags, &args.run, &forward).await
}
