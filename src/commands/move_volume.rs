//! `move-volume`: one claim that no set owns; the same machine with no pods.

use super::forward::{self, Forward};
use super::{Context, Typed};
use crate::cli::{ChoiceArgs, PlaceArgs, RunArgs, SubjectArgs, VolumeChoiceArgs, VolumeRunArgs};
use crate::decide::Until;
use crate::failure::{Exit, Failure};
use crate::spec::{Span, Spec};

/// Move one claim that no StatefulSet owns, with its EBS volume
///
/// For claims of Deployments, Jobs and people, while nothing uses them. Refuses while a pod uses the
/// claim; --wait waits for it to end. The claims of a StatefulSet move with it: `run`.
///
/// The volume is let go by the source, claim and PersistentVolume are created in the destination and
/// bound to each other. Then it asks for the claim's name before it removes the source's pair. With
/// --yes that pair stays, kept by the policy Retain, until `finalize --claim CLAIM`, unless --finalize
/// is given; `rollback --claim CLAIM` undoes the move until then. Stopped by whatever, the same command
/// goes on.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the PersistentVolumeClaim
    #[arg(value_name = "CLAIM", help_heading = "What and where")]
    claim: String,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    choices: VolumeChoiceArgs,
    /// Wait until no pod uses the claim [default: 1h]
    ///
    /// Nothing is changed meanwhile. A limit is given as `--wait=8h`.
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1h",
        help_heading = "This run"
    )]
    wait: Option<Span>,
    /// Let --yes answer the question before deleting in the source too
    #[arg(long, help_heading = "This run")]
    finalize: bool,
    #[command(flatten)]
    run: VolumeRunArgs,
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: Args) -> Result<Exit, Failure> {
    let Args { claim, place, choices, wait, finalize, run } = args;
    let until = if run.yes && !finalize { Until::Cutover } else { Until::Finalize };
    let forward = Forward {
        subcommand: "move-volume",
        until,
        after: None,
        covers_deleting: finalize,
        wait: wait.map(|span| span.0),
    };
    let subject = SubjectArgs { name: None, file: None, place };
    let choices = ChoiceArgs { volumes: choices, ..ChoiceArgs::default() };
    let run = RunArgs { volumes: run, ..RunArgs::default() };
    let typed = Typed::new(&context.program, &subject)
        .with_claim(Some(&claim))
        .with_choices(&choices)
        .with_limits(None, None, finalize)
        .with_wait(wait)
        .with_run(&run);
    let mut flags = Spec { claim: Some(claim), ..Spec::default() };
    subject.fill(&mut flags);
    choices.fill(&mut flags);
    run.fill(&mut flags);
    forward::run(context, typed, &subject, &flags, &run, &forward).await
}
