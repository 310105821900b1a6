//! What is looked at again after a wait, and what is not.

use std::collections::BTreeSet;

use super::run::Run;
use crate::decide::{Condition, Goal, Next, Step, Until, decide};
use crate::fixtures;
use crate::plan::Order;
use crate::world::{Kind, Read, Side};

/// Returns the decision on what was all seen before the last wait.
fn after_a_wait(run: &Run) -> Next {
    let mut world = run.world();
    world.settled = world.seq;
    decide(&run.simulation.plan, &run.simulation.pairs, &run.goal, &world)
}

fn looks(next: Next) -> BTreeSet<Read> {
    match next {
        Next::Look(reads) => reads.into_iter().collect(),
        other => panic!("no look but {other:?}"),
    }
}

fn on_both(read: impl Fn(Side) -> Read) -> BTreeSet<Read> {
    Side::BOTH.into_iter().map(read).collect()
}

fn sets() -> BTreeSet<Read> {
    on_both(|side| Read::Get(side, Kind::StatefulSet, fixtures::SET.to_owned()))
}

#[test]
fn nothing_is_changed_on_an_old_look_at_the_sets() {
    for step in [Step::RetainVolume, Step::CreateClaim, Step::Freeze, Step::DeletePod, Step::Grow] {
        let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Swing));
        run.until_step(step);
        assert!(sets().is_subset(&looks(after_a_wait(&run))), "{step:?}");
    }
}

#[test]
fn the_gate_looks_at_pods_and_sets_side_by_side() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Swing));
    run.until_step(Step::Grow);
    assert_eq!(looks(after_a_wait(&run)), &sets() | &on_both(|side| Read::List(side, Kind::Pod)));
}

#[test]
fn progress_starts_the_clock_of_many_anew() {
    let mut run = Run::new(fixtures::plan(3, 1), Goal::forward(Until::Prepare));
    let is_bound = |next: &Next| matches!(next, Next::Wait(wait) if matches!(wait.on, Condition::Bound { .. }));
    let clock = |next: Next| match next {
        Next::Wait(wait) => wait.clock,
        other => panic!("no wait but {other:?}"),
    };
    let before = run.until(is_bound);
    run.follow(&before);
    assert_ne!(clock(run.next()), clock(before));
}

/// Its watch says when it has gone, and then the gate asks for everything.
#[test]
fn what_is_known_to_be_in_the_way_is_waited_for_without_asking_again() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Swing));
    let is_attached = |next: &Next| matches!(next, Next::Wait(wait) if matches!(wait.on, Condition::Detached { .. }));
    let waits = run.until(is_attached);
    assert!(is_attached(&waits), "{waits:?}");
    assert_eq!(after_a_wait(&run), waits);
}

/// Answers only what is asked for, as the program does; returns how often it was asked in a row.
fn looks_in_a_row(run: &Run) -> usize {
    let mut world = run.world();
    world.settled = world.seq;
    for count in 0.. {
        let next = decide(&run.simulation.plan, &run.simulation.pairs, &run.goal, &world);
        let Next::Look(reads) = next else { return count };
        assert!(count < 100, "there is no end of looks: {reads:?}");
        for read in reads {
            match read {
                Read::List(side, kind) => {
                    let all: Vec<_> = run.world().objects(side, kind).cloned().collect();
                    world.seq += 1;
                    let seq = world.seq;
                    world.shelf_mut(side, kind).put_list(seq, all);
                }
                Read::Get(side, kind, name) => {
                    world.seq += 1;
                    let seq = world.seq;
                    let found = run.simulation.get(side, kind, &name);
                    world.shelf_mut(side, kind).put(seq, &name, Ok(found));
                }
                Read::Volumes(_) => run.simulation.describe(&mut world),
                other => panic!("nobody asks for {other:?} here"),
            }
        }
    }
    unreachable!("the count has no end")
}

#[test]
fn hundreds_of_volumes_are_looked_at_together() {
    let mut plan = fixtures::plan(12, 1);
    plan.choices.order = Order::Together;
    let goals = [Goal::forward(Until::Swing), Goal::back(), Goal::forward(Until::Finalize)];
    for way in [&goals[..2], &goals[2..]] {
        let mut run = Run::new(plan.clone(), way[0].clone());
        for goal in way {
            run.goal = goal.clone();
            let end = loop {
                let next = run.next();
                if matches!(next, Next::Act { .. }) {
                    let looks = looks_in_a_row(&run);
                    assert!(looks <= 10, "{looks} looks in a row before {next:?}");
                }
                if !run.follow(&next) {
                    break next;
                }
            };
            assert!(matches!(end, Next::Done(_)), "{end:?}");
        }
    }
}
