//! Stops that no situation of the other tables meets.

use serde_json::json;

use super::run::{Run, first_volume, stop};
use super::simulation::Place;
use crate::decide::{Commands, Done, Goal, Next, Step, Stop, Until, decide};
use crate::fixtures;
use crate::record::RECORD_KEY;
use crate::world::{Attachment, AttachmentState, Kind, Side, VolumeState, World};

/// Returns what comes next when every look is followed by a look at EC2 that shows the first volume so.
fn next_with_attachment(run: &Run, instance: &str) -> Next {
    let (_, id) = first_volume(&run.simulation.plan);
    let disturb = |world: &mut World| {
        world.seq += 1;
        let facts = world.volumes.entry(id.clone()).or_default();
        let Some(Ok((_, Some(known)))) = facts.latest() else { return };
        let mut volume = known.clone();
        volume.state = VolumeState::InUse;
        let instance = instance.to_owned();
        volume.attachments =
            vec![Attachment { instance, state: AttachmentState::Attached, delete_on_termination: false }];
        facts.put(world.seq, Ok(Some(volume)));
    };
    let mut world = run.world();
    loop {
        disturb(&mut world);
        match decide(&run.simulation.plan, &run.simulation.pairs, &run.goal, &world) {
            Next::Look(_) => run.simulation.world(&mut world),
            next => return next,
        }
    }
}

/// An instance of neither cluster may write to the volume: it is handed to nobody.
#[test]
fn a_volume_in_strange_hands_stops_all_ways() {
    for (way, goal) in [
        (Until::Freeze, Goal::forward(Until::Swing)),
        (Until::Swing, Goal::forward(Until::Finalize)),
        (Until::Swing, Goal::back()),
    ] {
        let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(way));
        assert_eq!(run.end(), Next::Done(Done::Reached(way)));
        run.goal = goal.clone();
        let (_, id) = first_volume(&run.simulation.plan);
        let before = run.steps.len();
        let found = loop {
            let next = next_with_attachment(&run, "i-0stranger");
            if !run.follow(&next) {
                break stop(next);
            }
        };
        let expected = Stop::HeldByOther { volume: id.to_string(), instance: "i-0stranger".to_owned() };
        assert_eq!(found, expected, "{goal:?}");
        assert!(run.steps[before..].iter().all(|step| *step == Step::WriteRecord), "{goal:?}: {:?}", run.steps);
    }
}

/// The same behind a pod that has just ended.
#[test]
fn a_volume_in_strange_hands_passes_no_gate() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.until_step(Step::Grow);
    let (_, id) = first_volume(&run.simulation.plan);
    assert_eq!(run.simulation.volumes[&id], Place::Available);
    assert!(matches!(stop(next_with_attachment(&run, "i-0stranger")), Stop::HeldByOther { .. }));
}

#[test]
fn a_record_that_cannot_be_read_stops() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Freeze));
    run.end();
    let name = run.simulation.plan.stem();
    run.simulation
        .edit(Side::Destination, Kind::ConfigMap, &name, |map| map["data"][RECORD_KEY] = json!("version: 999"));
    for goal in [Goal::forward(Until::Swing), Goal::back()] {
        run.goal = goal;
        assert!(matches!(stop(run.next()), Stop::Record { side: Side::Destination, .. }));
    }
}

/// GC-10: what is created in a namespace that ends goes with it.
#[test]
fn a_namespace_that_ends_or_is_gone_stops() {
    for (side, name) in [(Side::Source, fixtures::NAMESPACE_A), (Side::Destination, fixtures::NAMESPACE_B)] {
        let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
        run.until_step(Step::CreateVolume);
        run.simulation.edit(side, Kind::Namespace, name, |it| {
            it["metadata"]["deletionTimestamp"] = json!("2025-01-02T03:04:05Z")
        });
        let ends = stop(run.next());
        assert!(matches!(&ends, Stop::Namespace { state: "being deleted", .. }), "{ends}");
        run.simulation.remove(side, Kind::Namespace, name);
        let gone = stop(run.next());
        assert!(matches!(&gone, Stop::Namespace { state: "not there", .. }), "{gone}");
    }
}

/// Of ours, but somebody pointed it elsewhere: no pod runs on it, and it is not deleted for ours either.
#[test]
fn a_volume_of_ours_that_was_changed_stops_both_ways() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Freeze));
    run.end();
    let name = run.simulation.plan.sets[0].ordinals[0].volumes[0].destination_volume_name.clone();
    run.simulation.edit(Side::Destination, Kind::PersistentVolume, &name, |volume| {
        volume["spec"]["csi"]["volumeHandle"] = json!("vol-0another");
    });
    for goal in [Goal::forward(Until::Swing), Goal::back()] {
        run.goal = goal;
        let stop = stop(run.end());
        assert!(
            matches!(&stop, Stop::Changed { differences, .. } if differences[0].contains("vol-0another")),
            "{stop}"
        );
        assert!(!run.steps.contains(&Step::DeletePod) && !run.steps.contains(&Step::DeleteOurs), "{:?}", run.steps);
    }
}

/// What the command did to clients is its own to finish, and to take back.
#[test]
fn a_cutover_that_was_begun_with_a_command_stops_without_one() {
    let mut goal = Goal::forward(Until::Cutover);
    goal.commands = Commands { cutover: true, ..Commands::default() };
    let mut run = Run::new(fixtures::plan(1, 1), goal);
    run.until_step(Step::RunCommand);
    for goal in [Goal::forward(Until::Cutover), Goal::back()] {
        run.goal = goal;
        assert_eq!(stop(run.next()), Stop::CutoverCommandMissing);
    }
}

/// Their order among each other is nobody's to know.
#[test]
fn a_plan_of_several_sets_stops() {
    let mut plan = fixtures::plan(1, 1);
    plan.sets.push(plan.sets[0].clone());
    let run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    let next = decide(&plan, &run.simulation.pairs, &run.goal, &run.world());
    assert_eq!(stop(next), Stop::SeveralSets);
}
