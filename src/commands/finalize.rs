//! `finalize`: the cutover if it is not done, then the point of no return.

use super::forward::{self, Forward};
use super::{Context, Typed};
use crate::cli::{ClaimArgs, RunArgs, SubjectArgs};
use crate::decide::Until;
use crate::failure::{Exit, Failure};
use crate::spec::Spec;

/// Delete the set's claims and PersistentVolumes in the source; the volumes stay
///
/// Does the cutover first if it is not done. There is no way back from here; it asks for the set's
/// (or the claim's) name, unless --yes is given. Refuses (exit 4) before all pods run in the destination. What else
/// stays in the source (Services, load balancers, a Helm release) is listed at the end.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    #[command(flatten)]
    claim: ClaimArgs,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: Args) -> Result<Exit, Failure> {
    let mut flags = Spec { claim: args.claim.claim.clone(), ..Spec::default() };
    args.subject.fill(&mut flags);
    args.run.fill(&mut flags);
    let forward = Forward {
        subcommand: "finalize",
        until: Until::Finalize,
        after: Some(Until::Swing),
        covers_deleting: true,
        wait: None,
    };
    let typed = Typed::new(&context.program, &args.subject).with_claim(args.claim.claim.as_deref()).with_run(&args.run);
    forward::run(context, typed, &args.subject, &flags, &args.run, &forward).await
}
