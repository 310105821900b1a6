//! How a run ended, for the person: what is done, what is left behind, what to type.

use super::opened::Opened;
use super::stops::{Contexts, advice};
use crate::decide::{Confirmation, Done, Until};
use crate::drive::Ended;
use crate::failure::{Exit, Failure, NOTHING};
use crate::plan::{Plan, RECLAIM_POLICY_ANNOTATION};
use crate::record::{Outcome, Subject};
use crate::report::{Status, left_in_source, left_lines, left_needed, names, reached, record_in_force, status_needed};
use crate::ui::Ui;
use crate::world::{Kind, Read, Side};

/// Turns the end of a run into words and an exit code.
///
/// # Errors
/// The run did not reach its goal.
pub(super) async fn conclude(
    opened: &mut Opened,
    plan: &Plan,
    subcommand: &str,
    ended: Ended,
    ui: &mut Ui,
) -> Result<Exit, Failure> {
    ui.finish();
    match ended {
        Ended::Done(done) => {
            say_done(opened, plan, &done, ui).await;
            Ok(Exit::Done)
        }
        Ended::Locked(held_by) => {
            let mut failure = Failure::harmless(
                Exit::Refused,
                held_by.to_string(),
                format!("let it end; {} shows what it does", opened.typed.hint("status")),
            );
            // The lock may have been lost with half of it done.
            failure.left_behind = vec!["everything as it stands: this run changes nothing more".to_owned()];
            Err(failure)
        }
        other => Err(failure(opened, plan, subcommand, other).await),
    }
}

async fn failure(opened: &mut Opened, plan: &Plan, subcommand: &str, ended: Ended) -> Failure {
    let typed = opened.typed.clone();
    let contexts = Contexts {
        source: opened.cluster(Side::Source).context.clone(),
        destination: opened.cluster(Side::Destination).context.clone(),
    };
    let (reason, advice) = match ended {
        Ended::Stopped(stop) => (format!("paused: {stop}"), Some(advice(&stop, plan, &typed, &contexts))),
        Ended::Declined(confirmation) => {
            (format!("paused before {}: the answer was no", before(&confirmation, plan)), None)
        }
        Ended::Interrupted(signal) => (format!("paused by {signal}"), None),
        Ended::LockFailed(error) => (format!("paused: the lock could not be held: {error:#}"), None),
        Ended::Done(_) | Ended::Locked(_) => unreachable!("both were answered by the caller"),
    };
    let is_interrupted = reason.starts_with("paused by ");
    let exit = match &advice {
        Some(advice) => advice.exit,
        None if is_interrupted => Exit::Interrupted,
        None => Exit::Failed,
    };
    // A refusal is no pause of the migration's: it was not this command's turn.
    let mut reason = if exit == Exit::Refused { reason.trim_start_matches("paused: ").to_owned() } else { reason };
    let status = look(opened, plan).await;
    let record = record_in_force(&opened.session.world, plan.subject(), plan.name());
    let mut left_behind = status.left_behind();
    match &record {
        Some(record) if record.is_open() => {
            let lock = match &status.locked_by {
                Some(lock) => format!("the lock is held by {}", lock.holder),
                None => "the lock is given back".to_owned(),
            };
            left_behind.push(format!("plan and record in both clusters: any machine can go on; {lock}"));
        }
        // The set stands again; what is missing are its pods, and what is done once they are up.
        Some(record) if record.outcome == Some(Outcome::RolledBack) => {
            reason = reason.replacen("paused: ", "rolled back, but not everything is up: ", 1);
            left_behind.push(format!(
                "{} in the source cluster, the destination emptied; PersistentVolumes of pods that are not up stay \
                 `Retain`, and the plan is kept, until `rollback` has ended",
                plan.name()
            ));
        }
        Some(_) => {}
        None => left_behind = vec![NOTHING.to_owned()],
    }
    let mut hints = advice.as_ref().map(|advice| advice.hints.clone()).unwrap_or_default();
    let can_go_on = advice.as_ref().is_none_or(|advice| advice.can_go_on);
    let is_back = subcommand == "rollback";
    let is_deleting = record.as_ref().is_some_and(|record| record.deleting);
    let can_go_back = !is_back && !is_deleting && advice.as_ref().is_none_or(|advice| advice.can_go_back);
    if can_go_on {
        hints.push(format!("to go on: `{}`", typed.again(subcommand)));
    }
    if can_go_back && record.is_some() {
        hints.push(format!("to undo everything: {}", typed.hint("rollback")));
    }
    hints.push(format!("to see where everything is: {}", typed.hint("status")));
    Failure { exit, reason, details: Vec::new(), left_behind, hints }
}

fn before(confirmation: &Confirmation, plan: &Plan) -> String {
    match confirmation {
        Confirmation::Freeze => "the freeze".to_owned(),
        Confirmation::Pod(ordinal) => {
            format!("pod {}", plan.sets.first().map(|set| set.pod_name(*ordinal)).unwrap_or_default())
        }
        Confirmation::AllPods => "stopping all pods".to_owned(),
        Confirmation::Cutover => "the cutover".to_owned(),
        Confirmation::Deleting => "deleting in the source cluster".to_owned(),
        Confirmation::Rollback => "the rollback".to_owned(),
    }
}

/// Looks at where everything is now.
async fn look(opened: &mut Opened, plan: &Plan) -> Status {
    let (subject, name) = (plan.subject(), plan.name());
    opened.session.look(status_needed(Some(plan), subject, name)).await;
    let record = record_in_force(&opened.session.world, subject, name);
    let typed = opened.typed.clone();
    Status::new(subject, name, Some(plan), record.as_ref(), &opened.session.world, |subcommand| {
        typed.command(subcommand)
    })
}

async fn say_done(opened: &mut Opened, plan: &Plan, done: &Done, ui: &mut Ui) {
    let typed = opened.typed.clone();
    let set_names: Vec<&str> = plan.sets.iter().map(|set| set.name.as_str()).collect();
    let set = set_names.join(", ");
    let destination = format!("{}/{}", plan.destination.context, plan.destination.namespace);
    match done {
        Done::Reached(_) if plan.subject() == Subject::Claim => {
            let volumes: Vec<&str> = plan.volumes().map(|volume| volume.volume.0.as_str()).collect();
            ui.say(&format!(
                "moved: claim {set} is Bound to {} in {destination}, free to be used there",
                names(&volumes)
            ));
            ui.say("the source still has its claim and PersistentVolume, which must not be used any more");
            ui.say(&format!("next: {}", typed.command("finalize")));
            ui.say(&format!("undo: {}", typed.command("rollback")));
        }
        Done::Reached(until) => {
            let status = look(opened, plan).await;
            let record = record_in_force(&opened.session.world, plan.subject(), plan.name());
            let furthest = record.and_then(|record| reached(Some(plan), &record, &opened.session.world));
            match until {
                _ if furthest > Some(*until) => {
                    let furthest = furthest.unwrap_or(*until);
                    ui.say(&format!("{until} was complete already; the last complete phase is {furthest}"));
                }
                Until::Prepare => {
                    ui.say(&format!("prepared: everything stands ready in {destination}, nothing is down"))
                }
                Until::Freeze => {
                    ui.say(&format!("frozen: StatefulSet {set} is gone from the source as an object, its pods run on"))
                }
                Until::Swing => ui.say(&format!("moved: all pods of {set} run in {destination}")),
                Until::Cutover | Until::Finalize => {
                    ui.say(&format!(
                        "cut over: {set} lives in {destination}; the source still has its claims and PersistentVolumes"
                    ));
                }
            }
            if matches!(until, Until::Prepare | Until::Swing | Until::Cutover | Until::Finalize) {
                say_addresses(&status, ui);
            }
            if let Some(warning) = status.without_controller() {
                ui.say(&format!("warning: {warning}"));
            }
            let next = if *until >= Until::Cutover { "finalize" } else { "run" };
            ui.say(&format!("next: {}", typed.command(next)));
            ui.say(&format!("undo: {}", typed.command("rollback")));
        }
        Done::PausedAfter(ordinal) => {
            ui.say(&format!("paused after ordinal {ordinal}, as asked: it runs in {destination} on its volumes"));
            if let Some(warning) = look(opened, plan).await.without_controller() {
                ui.say(&format!("warning: {warning}"));
            }
            ui.say(&format!("next: {}", typed.command("run")));
            ui.say(&format!("undo: {}", typed.command("rollback")));
        }
        Done::Completed => {
            ui.say(&format!("completed: {set} lives in {destination}"));
            say_kept(opened, plan, Side::Destination, ui).await;
            if plan.subject() == Subject::Claim {
                return;
            }
            say_addresses(&look(opened, plan).await, ui);
            opened.session.look(left_needed()).await;
            let left = plan.sets.iter().flat_map(|set| left_in_source(&set.before, &opened.session.world));
            for line in left_lines(&left.collect::<Vec<_>>()) {
                ui.say(&line);
            }
        }
        Done::RolledBack => {
            ui.say(&format!("rolled back: {set} lives in {}/{} again", plan.source.context, plan.source.namespace));
            say_kept(opened, plan, Side::Source, ui).await;
        }
    }
}

/// Says which PVs stay `Retain` at the end although they were `Delete`: it was not safe to write that back.
async fn say_kept(opened: &mut Opened, plan: &Plan, side: Side, ui: &mut Ui) {
    let volumes: Vec<&str> = plan.volumes().map(|volume| volume.volume_name(side)).collect();
    let reads = volumes.iter().map(|name| Read::Get(side, Kind::PersistentVolume, (*name).to_owned()));
    opened.session.look(reads).await;
    let world = &opened.session.world;
    let mut kept = volumes
        .into_iter()
        .filter(|name| {
            let found = world.object(side, Kind::PersistentVolume, name);
            found.is_some_and(|found| found.annotation(RECLAIM_POLICY_ANNOTATION).is_some())
        })
        .peekable();
    if kept.peek().is_some() {
        ui.say(&format!(
            "kept at Retain in the {side} cluster, since it was not certain that nobody else uses the volume; look at \
             each, then set the policy yourself (annotation {RECLAIM_POLICY_ANNOTATION} has the original):"
        ));
    }
    for name in kept {
        ui.say(&format!("  PersistentVolume {name}"));
    }
}

/// Says where clients find the set, old → new.
fn say_addresses(status: &Status, ui: &mut Ui) {
    for address in &status.addresses {
        ui.say(&format!("  {address}"));
    }
}
