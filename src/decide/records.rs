//! Plan and records in both clusters: the order of the first writes, and who is right when they differ.
//!
//! Order (§3.1): plan A, plan B, record A, record B. The Leases were taken before.

use super::facts::present;
use super::{Action, Confirmation, Flow, Goal, Next, Step, Stop};
use crate::plan::{MIGRATION_ANNOTATION, Plan, RECLAIM_POLICY_ANNOTATION};
use crate::record::secrets::{index_name, to_secrets};
use crate::record::{Direction, Outcome, Record, in_force};
use crate::world::{Kind, Object, Side, World};

/// Returns the record in force, once plan and record are the same in both clusters.
pub(super) fn settle(plan: &Plan, goal: &Goal, world: &World) -> Flow<Record> {
    let records = [own_record(plan, world, Side::Source)?, own_record(plan, world, Side::Destination)?];
    let record = match (&records[0], &records[1]) {
        (Some(left), Some(right)) => in_force(left, right).clone(),
        (Some(only), None) | (None, Some(only)) => only.clone(),
        // Forward, also when both were lost: that it goes back is for a person to confirm.
        (None, None) => Record::first(plan),
    };
    if record.outcome.is_none() {
        store_plan(plan, world, &records)?;
    }
    for (side, found) in Side::BOTH.into_iter().zip(&records) {
        if found.as_ref() != Some(&record) {
            // A before B: a record in B says that one in A exists.
            return Err(write(plan, world, &record, &[side], None)?);
        }
    }
    turn(plan, goal, world, record)
}

/// Turns a migration back, or refuses to.
fn turn(plan: &Plan, goal: &Goal, world: &World, record: Record) -> Flow<Record> {
    match (goal.direction, record.outcome) {
        (Direction::Back, Some(Outcome::Completed)) => Err(Next::Stop(Stop::Ended { outcome: "Completed" })),
        (Direction::Forward, Some(Outcome::RolledBack)) => Err(Next::Stop(Stop::Ended { outcome: "RolledBack" })),
        (Direction::Back, None) if record.deleting => Err(Next::Stop(Stop::PointOfNoReturn)),
        // What the command did to clients is its own to take back.
        (Direction::Back, None) if record.cutover_command && !goal.commands.cutover => {
            Err(Next::Stop(Stop::CutoverCommandMissing))
        }
        (Direction::Back, None) if record.direction == Direction::Forward => {
            let back = record.next(|next| {
                next.direction = Direction::Back;
                next.last_failure = None;
            });
            Err(write(plan, world, &back, &Side::BOTH, Some(Confirmation::Rollback))?)
        }
        _ => Ok(record),
    }
}

/// Returns the act that writes a record on these sides.
pub(super) fn write(
    plan: &Plan,
    world: &World,
    record: &Record,
    sides: &[Side],
    needs: Option<Confirmation>,
) -> Flow<Next> {
    let name = plan.stem();
    let mut actions = Vec::new();
    for side in sides {
        let seen = present(world, *side, Kind::ConfigMap, &name)?;
        actions.push(Action::record(plan, *side, &name, record, seen));
    }
    Ok(Next::Act { actions, needs })
}

/// Returns this migration's record on a side; one of an ended migration is history and counts as none.
fn own_record(plan: &Plan, world: &World, side: Side) -> Flow<Option<Record>> {
    let name = plan.stem();
    let Some(config_map) = present(world, side, Kind::ConfigMap, &name)? else {
        return Ok(None);
    };
    let record =
        Record::read(config_map).map_err(|error| Next::Stop(Stop::Record { side, reason: error.to_string() }))?;
    if record.id == plan.id && record.attempt == plan.attempt {
        Ok(Some(record))
    } else if record.is_open() {
        Err(Next::Stop(Stop::OtherMigration { side, id: record.id }))
    } else {
        Ok(None)
    }
}

/// Stores the plan where it is missing, as long as nothing is prepared (TL-12).
fn store_plan(plan: &Plan, world: &World, records: &[Option<Record>; 2]) -> Flow<()> {
    let stem = plan.stem();
    for side in Side::BOTH {
        let index = present(world, side, Kind::Secret, &index_name(&stem))?;
        match index {
            Some(index) if index.annotation(MIGRATION_ANNOTATION) == Some(&plan.mark()) => continue,
            Some(index) => {
                let (kind, name) = (Kind::Secret.name(), index.name().to_owned());
                return Err(Next::Stop(Stop::Foreign { side, kind, name }));
            }
            None => {}
        }
        if records.iter().any(Option::is_some) && is_prepared(plan, world)? {
            return Err(Next::Stop(Stop::PlanMissing { side }));
        }
        let secrets = to_secrets(plan, &stem, &plan.place(side).namespace);
        let (index, parts) = secrets.split_last().expect("there is always an index");
        let create = |secret: &serde_json::Value| Action::create(Step::StorePlan, side, Kind::Secret, secret.clone());
        let mut missing = Vec::new();
        for part in parts {
            let name = part["metadata"]["name"].as_str().unwrap_or_default();
            if present(world, side, Kind::Secret, name)?.is_none() {
                missing.push(create(part));
            }
        }
        // The index says that all parts are there: it comes last.
        let actions = if missing.is_empty() { vec![create(index)] } else { missing };
        return Err(Next::Act { actions, needs: None });
    }
    Ok(())
}

/// Returns whether anything of this migration was done to a set, claim or volume.
fn is_prepared(plan: &Plan, world: &World) -> Flow<bool> {
    let mark = plan.mark();
    let is_marked = |object: Option<&Object>| {
        object.is_some_and(|object| object.annotation(MIGRATION_ANNOTATION) == Some(mark.as_str()))
    };
    for volume in plan.volumes() {
        for side in Side::BOTH {
            let found = present(world, side, Kind::PersistentVolume, volume.volume_name(side))?;
            if is_marked(found) && found.is_some_and(|found| found.annotation(RECLAIM_POLICY_ANNOTATION).is_some()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
