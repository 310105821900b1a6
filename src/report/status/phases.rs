//! How far a migration is, and what comes next.

use super::places::is_bound;
use super::{Lock, Next, Phase};
use crate::decide::Until;
use crate::plan::Plan;
use crate::record::{Cutover, Direction, Outcome, Record, Subject};
use crate::world::{Answer, Kind, Object, Side, World};

/// Returns the phase in the words of the document.
pub(super) fn phase(plan: Option<&Plan>, record: Option<&Record>, world: &World, is_locked: bool) -> Phase {
    let Some(record) = record else {
        return if is_locked { Phase::PreFlightChecks } else { Phase::Pending };
    };
    match record.outcome {
        Some(Outcome::Completed) => return Phase::Completed,
        Some(Outcome::RolledBack) => return Phase::RolledBack,
        None => {}
    }
    if record.last_failure.is_some() && !is_locked {
        return Phase::Failed;
    }
    if record.direction == Direction::Back {
        return Phase::RollingBack;
    }
    match reached(plan, record, world) {
        Some(Until::Swing | Until::Cutover | Until::Finalize) => Phase::Finalizing,
        Some(Until::Freeze) => Phase::MigratingPods,
        Some(Until::Prepare) | None => Phase::FreezingSource,
    }
}

/// Returns the last phase that is complete, going forward, as far as that can be seen.
pub(crate) fn reached(plan: Option<&Plan>, record: &Record, world: &World) -> Option<Until> {
    if record.cutover == Cutover::Done || record.deleting {
        return Some(Until::Cutover);
    }
    let plan = plan?;
    let set = plan.sets.first()?;
    if plan.subject() == Subject::Claim {
        let is_there = set.idle.iter().all(|volume| is_bound(volume, Side::Destination, world));
        return is_there.then_some(Until::Cutover);
    }
    let in_destination = world.object(Side::Destination, Kind::StatefulSet, &set.name);
    let are_up = in_destination.is_some_and(|found| set.replicas() > 0 && available(found) >= set.replicas());
    if are_up && !record.verifying {
        return Some(Until::Swing);
    }
    let is_gone = matches!(world.get(Side::Source, Kind::StatefulSet, &set.name), Answer::Absent { .. });
    if record.frozen_at.is_some() && is_gone {
        return Some(if set.replicas() == 0 { Until::Swing } else { Until::Freeze });
    }
    in_destination.map(|_| Until::Prepare)
}

fn available(set: &Object) -> i64 {
    set.number("/status/availableReplicas").unwrap_or_default().min(set.replicas())
}

/// Returns what comes next and what to type.
pub(super) fn next(
    subject: Subject,
    plan: Option<&Plan>,
    record: Option<&Record>,
    world: &World,
    lock: Option<&Lock>,
    type_in: &impl Fn(&str) -> String,
) -> Next {
    let what = match subject {
        Subject::Set => "the set",
        Subject::Claim => "the claim",
    };
    let says = |what: &str, commands: &[&str]| Next {
        what: what.to_owned(),
        commands: commands.iter().map(|command| type_in(command)).collect(),
    };
    if let Some(lock) = lock {
        return says(&format!("{} is at work on it; look again", lock.holder), &["status"]);
    }
    let Some(record) = record else {
        return says("nothing was done yet", &["run"]);
    };
    match record.outcome {
        // The plan goes last: while it is there, the ending is not complete.
        Some(Outcome::Completed) if plan.is_some() => return says("finish the ending", &["finalize"]),
        Some(Outcome::Completed) => return says(&format!("nothing, {what} lives in the destination cluster"), &[]),
        Some(Outcome::RolledBack) if plan.is_some() => {
            let what = match subject {
                Subject::Set => "see that the pods in the source cluster come up, then finish the rollback",
                Subject::Claim => "finish the rollback",
            };
            return says(what, &["rollback"]);
        }
        Some(Outcome::RolledBack) => return says(&format!("nothing, {what} lives in the source cluster"), &["run"]),
        None => {}
    }
    if record.direction == Direction::Back {
        return says("finish the rollback", &["rollback"]);
    }
    if record.deleting {
        return says("finish deleting in the source cluster; there is no way back", &["finalize"]);
    }
    match reached(plan, record, world) {
        Some(Until::Cutover | Until::Finalize) => {
            says("delete what is left in the source cluster, or go back", &["finalize", "rollback"])
        }
        Some(Until::Swing) => says("cut over, then finalize; or go back", &["run", "rollback"]),
        Some(Until::Freeze) if record.verifying => Next {
            what: "move and verify the pods that are left, or go back".to_owned(),
            commands: vec![format!("{} --verify-command COMMAND", type_in("run")), type_in("rollback")],
        },
        Some(Until::Freeze) => says("move the pods that are left, or go back", &["run", "rollback"]),
        Some(Until::Prepare) => says("freeze the source, or go back", &["run", "rollback"]),
        None if subject == Subject::Claim => says("move the claim, or go back", &["run", "rollback"]),
        None => says("prepare, or go back", &["run", "rollback"]),
    }
}
