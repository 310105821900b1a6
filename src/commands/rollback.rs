//! `rollback`: undo from any point before the deleting.

use super::Context;
use super::Typed;
use super::endings::conclude;
use super::forward::{can_ask_or_may, drive_to, listen, same_choices, stopped_early};
use super::leftover;
use super::opened::{open, spec};
use super::target::{Which, find, open_here};
use crate::cli::{ClaimArgs, RunArgs, SubjectArgs};
use crate::decide::Until;
use crate::failure::{Exit, Failure};
use crate::record::{Direction, Outcome, Subject};
use crate::report::headline;
use crate::spec::Spec;
use crate::ui::{Consent, Ui};

/// Undo a migration: empty the destination, give the source back what it had, as it was
///
/// Possible at any time before anything was deleted in the source. What the pods wrote in the
/// destination stays on the volumes. Pods in the source that never moved are not restarted.
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
    let spec = spec(&args.subject, &flags)?;
    let mut ui = Ui::new(Consent { is_general: args.run.volumes.yes, covers_deleting: false }, context.is_verbose);
    let typed = Typed::new(&context.program, &args.subject).with_claim(args.claim.claim.as_deref()).with_run(&args.run);
    can_ask_or_may(&ui, args.run.volumes.yes, &typed.command("rollback"))?;
    let mut signals = listen()?;
    let mut interrupted = signals.clone();
    let found = async {
        let mut opened = open(typed, spec, args.run.volumes.events.as_deref()).await?;
        let target = find(&mut opened, &mut ui, Which::Open).await?;
        target.is_certain()?;
        let may_be_left = !target.is_unfinished() && target.outcome() != Some(Outcome::Completed);
        let had_lock = may_be_left && leftover::clear(&opened, &target, &mut ui).await;
        Ok::<_, Failure>((opened, target, had_lock))
    };
    let (mut opened, target, had_lock) = tokio::select! {
        found = found => found?,
        signal = interrupted.caught() => return Err(stopped_early(signal)),
    };
    match target.outcome() {
        Some(Outcome::RolledBack) if target.plan.is_none() => {
            ui.say(&format!("the migration of {} is RolledBack already; nothing is left to do", target.name));
            return Ok(Exit::Done);
        }
        Some(Outcome::Completed) => {
            return Err(Failure::harmless(
                Exit::Refused,
                format!("the migration of {} is complete: there is nothing left to go back to", target.name),
                match target.subject {
                    Subject::Set => "move the set the other way: `run` with --src and --dst swapped",
                    Subject::Claim => "move the claim the other way: `move-volume` with --src and --dst swapped",
                },
            ));
        }
        Some(Outcome::RolledBack) | None => {}
    }
    if !target.is_unfinished() {
        if had_lock {
            ui.say(&format!("nothing else is left of a migration of {}: nothing was moved", target.name));
            return Ok(Exit::Done);
        }
        let mut failure = Failure::harmless(
            Exit::Refused,
            format!("there is no migration of {} to undo", target.name),
            format!("{} shows what there is", opened.typed.hint("status")),
        );
        failure.hints.extend(open_here(&opened, target.subject, &target.name).await);
        return Err(failure);
    }
    let plan = target.planned(&opened)?;
    same_choices(&opened.spec, &plan, &opened.typed)?;
    for line in headline(&plan) {
        ui.say(&line);
    }
    ui.follow(&plan);
    let goal = opened.spec.goal(Direction::Back, Until::Finalize);
    let ended = drive_to(&mut opened, &plan, &goal, &mut signals, &mut ui).await?;
    conclude(&mut opened, &plan, "rollback", ended, &mut ui).await
}
