//! EC2 or an API server that does not answer, met while nothing has gone down for it yet.

use serde_json::json;

use super::run::{Run, stop};
use crate::decide::{Done, Goal, Next, Step, Stop, Until, decide};
use crate::fixtures;
use crate::plan::{Order, TOUCHED_ANNOTATION};
use crate::world::{Ec2Volume, Kind, Side, Unknown, World};

fn refused() -> Unknown {
    Unknown { reason: "403".to_owned(), passing: false }
}

/// Returns what comes next when every look is followed by `disturb`.
fn next_while(run: &Run, disturb: impl Fn(&mut World)) -> Next {
    let mut world = run.world();
    loop {
        disturb(&mut world);
        match decide(&run.simulation.plan, &run.simulation.pairs, &run.goal, &world) {
            Next::Look(_) => run.simulation.world(&mut world),
            next => return next,
        }
    }
}

/// Acts and waits while EC2 gives the same answer for all volumes; returns the stop and the steps.
fn while_ec2_says(mut run: Run, answer: &Result<Option<Ec2Volume>, Unknown>) -> (Stop, Vec<Step>) {
    let before = run.steps.len();
    loop {
        let next = next_while(&run, |world| {
            world.seq += 1;
            for facts in world.volumes.values_mut() {
                facts.put(world.seq, answer.clone());
            }
        });
        if !run.follow(&next) {
            return (stop(next), run.steps.split_off(before));
        }
    }
}

/// Credentials that have run out, a wrong region: nothing goes down for what would be met at the gate.
#[test]
fn no_pod_goes_down_before_ec2_has_answered() {
    for order in [Order::OneByOne, Order::Together] {
        for (way, goal) in [(Until::Freeze, Goal::forward(Until::Swing)), (Until::Swing, Goal::back())] {
            for answer in [Err(refused()), Ok(None)] {
                let mut plan = fixtures::plan(2, 1);
                plan.choices.order = order;
                let mut run = Run::new(plan, Goal::forward(way));
                assert_eq!(run.end(), Next::Done(Done::Reached(way)));
                run.goal = goal.clone();
                let (stop, steps) = while_ec2_says(run, &answer);
                let is_named =
                    matches!((&stop, &answer), (Stop::Refused { .. }, Err(_)) | (Stop::VolumeLost { .. }, _));
                assert!(is_named, "{order} {goal:?}: {stop}");
                assert!(steps.iter().all(|step| *step == Step::WriteRecord), "{order} {goal:?}: {steps:?}");
            }
        }
    }
}

/// The same of what the gate looks at in B.
#[test]
fn nothing_goes_back_before_b_has_answered() {
    for kind in [Kind::Pod, Kind::Node, Kind::VolumeAttachment] {
        let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
        run.end();
        run.goal = Goal::back();
        run.until(|next| !matches!(next, Next::Act { actions, .. } if actions[0].step == Step::WriteRecord));
        let next = next_while(&run, |world| {
            world.seq += 1;
            let seq = world.seq;
            world.shelf_mut(Side::Destination, kind).put_list_unknown(seq, refused());
        });
        assert!(matches!(next, Next::Stop(Stop::Refused { .. })), "{kind}: {next:?}");
    }
}

/// An ending that took them for somebody else's would leave them `Retain` and marked for ever.
#[test]
fn no_ending_passes_over_volumes_that_are_not_known() {
    for (way, goal, side) in [
        (Until::Cutover, Goal::forward(Until::Finalize), Side::Destination),
        (Until::Swing, Goal::back(), Side::Source),
    ] {
        let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(way));
        run.end();
        run.goal = goal;
        run.until_step(Step::RestorePolicy);
        let next = next_while(&run, |world| {
            world.seq += 1;
            let seq = world.seq;
            world.shelf_mut(side, Kind::PersistentVolume).put_list_unknown(seq, refused());
        });
        assert!(matches!(next, Next::Stop(Stop::Refused { .. })), "{side}: {next:?}");
    }
}

/// Claims of an earlier set of that name stay where they are, as Kubernetes leaves them.
#[test]
fn what_b_had_before_its_set_keeps_nobody_from_going_back() {
    for (created, goes_back) in [("2025-01-01T00:00:00Z", true), ("2025-01-03T00:00:00Z", false)] {
        let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
        run.end();
        run.simulation.edit(Side::Destination, Kind::StatefulSet, fixtures::SET, |set| {
            set["metadata"]["creationTimestamp"] = json!("2025-01-02T00:00:00Z");
        });
        for (kind, name) in [(Kind::PersistentVolumeClaim, "data-web-7"), (Kind::Pod, "web-7")] {
            let old = json!({ "metadata": { "name": name, "namespace": "market", "creationTimestamp": created } });
            run.simulation.put(Side::Destination, kind, old);
            run.simulation.edit(Side::Destination, kind, name, |it| {
                it["metadata"]["creationTimestamp"] = json!(created);
            });
        }
        run.goal = Goal::back();
        let next = run.until(|next| matches!(next, Next::Stop(_) | Next::Act { .. }) && !is_record(next));
        let refuses = matches!(next, Next::Stop(Stop::ForeignData { .. }));
        assert_eq!(refuses, !goes_back, "{next:?}");
    }
}

fn is_record(next: &Next) -> bool {
    matches!(next, Next::Act { actions, .. } if actions[0].step == Step::WriteRecord)
}

/// A mark of our own fencing that a conflict left behind is no change of the set.
#[test]
fn a_touched_set_is_the_same_set() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Prepare));
    run.end();
    run.simulation.edit(Side::Source, Kind::StatefulSet, fixtures::SET, |set| {
        set["metadata"]["annotations"][TOUCHED_ANNOTATION] = json!("2025-01-02T03:04:05Z");
    });
    run.goal = Goal::forward(Until::Freeze);
    assert_eq!(run.end(), Next::Done(Done::Reached(Until::Freeze)));
}
