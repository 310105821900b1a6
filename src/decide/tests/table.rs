//! A table of situations: every phase boundary, and most reasons to stop.

use std::time::Duration;

use serde_json::json;

use super::run::{Run, first_volume, set_policy, stop};
use super::simulation::Place;
use crate::decide::{Command, Condition, Confirmation, Done, Goal, Next, Step, Stop, Until, decide};
use crate::fixtures;
use crate::plan::{MIGRATION_ANNOTATION, Order};
use crate::record::{Subject, stem};
use crate::world::{Kind, Side, Unknown};

#[test]
fn each_phase_ends_where_it_should() {
    let mut run = Run::new(fixtures::plan(2, 2), Goal::forward(Until::Prepare));
    assert_eq!(run.end(), Next::Done(Done::Reached(Until::Prepare)));
    assert_eq!(run.questions, [], "nothing is down yet, nothing is asked");
    assert!(run.simulation.get(Side::Source, Kind::StatefulSet, fixtures::SET).is_some());
    let set = run.simulation.get(Side::Destination, Kind::StatefulSet, fixtures::SET).expect("made in prepare");
    assert_eq!(set.replicas(), 0);
    assert_eq!(run.policy(Side::Source).as_deref(), Some("Retain"));

    run.goal.until = Until::Freeze;
    assert_eq!(run.end(), Next::Done(Done::Reached(Until::Freeze)));
    assert_eq!(run.questions, [Confirmation::Freeze]);
    assert!(run.record(Side::Destination).frozen_at.is_some());
    assert!(run.simulation.get(Side::Source, Kind::Pod, "web-1").is_some(), "pods run on");

    run.goal.until = Until::Swing;
    run.goal.pause_after = Some(0);
    assert_eq!(run.end(), Next::Done(Done::PausedAfter(0)));
    assert!(run.simulation.get(Side::Source, Kind::Pod, "web-1").is_some());
    run.goal.pause_after = None;
    assert_eq!(run.end(), Next::Done(Done::Reached(Until::Swing)));
    assert_eq!(run.questions[1..], [Confirmation::Pod(0), Confirmation::Pod(1)]);

    run.goal.until = Until::Cutover;
    assert_eq!(run.end(), Next::Done(Done::Reached(Until::Cutover)));
    assert_eq!(run.policy(Side::Destination).as_deref(), Some("Retain"));

    run.goal.until = Until::Finalize;
    assert_eq!(run.end(), Next::Done(Done::Completed));
    assert_eq!(run.questions[3..], [Confirmation::Deleting]);
    assert_eq!(run.policy(Side::Destination).as_deref(), Some("Delete"), "A's value has come to B");
    assert_eq!(run.policy(Side::Source), None);
    for kind in [Kind::PersistentVolumeClaim, Kind::PersistentVolume, Kind::StatefulSet, Kind::Service] {
        for side in Side::BOTH {
            let world = run.world();
            let marked = world.objects(side, kind).find(|object| object.annotation(MIGRATION_ANNOTATION).is_some());
            assert!(marked.is_none(), "{kind} {:?} keeps our mark", marked.map(|object| object.name().to_owned()));
        }
    }
}

/// With the last ordinal too: behind it come the cutover, and the deleting.
#[test]
fn the_canary_pauses_at_any_ordinal() {
    for (replicas, pause, order) in
        [(1, 0, Order::OneByOne), (3, 1, Order::OneByOne), (3, 2, Order::OneByOne), (3, 2, Order::Together)]
    {
        let mut plan = fixtures::plan(replicas, 1);
        plan.choices.order = order;
        let mut run = Run::new(plan, Goal { pause_after: Some(pause), ..Goal::forward(Until::Finalize) });
        for _ in 0..2 {
            assert_eq!(run.end(), Next::Done(Done::PausedAfter(pause)), "{pause} of {replicas}, {order}");
            let set = run.simulation.get(Side::Destination, Kind::StatefulSet, fixtures::SET).expect("it is there");
            assert_eq!(set.replicas(), pause + 1);
            assert!(!run.questions.iter().any(|it| matches!(it, Confirmation::Cutover | Confirmation::Deleting)));
        }
        run.goal.pause_after = None;
        assert_eq!(run.end(), Next::Done(Done::Completed));
    }
}

#[test]
fn a_start_ordinal_counts_replicas_from_it() {
    let mut run = Run::new(fixtures::plan_from(3, 2, 1), Goal::forward(Until::Swing));
    assert_eq!(run.end(), Next::Done(Done::Reached(Until::Swing)));
    let set = run.simulation.get(Side::Destination, Kind::StatefulSet, fixtures::SET).expect("it is there");
    assert_eq!(set.replicas(), 2);
    assert!(run.simulation.get(Side::Destination, Kind::Pod, "web-4").is_some());
}

#[test]
fn together_grows_once_after_all_are_down() {
    let mut plan = fixtures::plan(3, 1);
    plan.choices.order = Order::Together;
    let mut run = Run::new(plan, Goal::forward(Until::Swing));
    assert_eq!(run.end(), Next::Done(Done::Reached(Until::Swing)));
    let grown = run.steps.iter().filter(|step| **step == Step::Grow).count();
    assert_eq!(grown, 1);
    let last_stop = run.steps.iter().rposition(|step| *step == Step::DeletePod);
    assert!(last_stop < run.steps.iter().position(|step| *step == Step::Grow));
    assert_eq!(run.questions, [Confirmation::Freeze, Confirmation::AllPods]);
}

#[test]
fn together_stops_the_highest_first_and_waits_for_it() {
    let mut plan = fixtures::plan(3, 1);
    plan.choices.order = Order::Together;
    let mut run = Run::new(plan, Goal::forward(Until::Swing));
    let Next::Act { actions, .. } = run.until_step(Step::DeletePod) else { panic!("no delete") };
    assert_eq!(actions.len(), 1);
    assert_eq!(actions[0].target(), Some((Side::Source, Kind::Pod, "web-2")));
    for action in &actions {
        run.simulation.perform(action);
    }
    assert!(
        matches!(run.next(), Next::Wait(wait) if matches!(&wait.on, Condition::PodGone { pod, .. } if pod == "web-2"))
    );
}

#[test]
fn a_pod_has_its_grace_period_and_a_minute_to_end() {
    let mut plan = fixtures::plan(1, 1);
    plan.sets[0].before.0["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(600);
    let mut run = Run::new(plan, Goal::forward(Until::Swing));
    // Whatever is said of the rest of the gate.
    let limit = |next: Next| match next {
        Next::Wait(wait) => wait.clock.limit(Duration::from_secs(5), Duration::from_secs(7)).as_secs(),
        other => panic!("no wait but {other:?}"),
    };
    let ends = run.until(|next| matches!(next, Next::Wait(wait) if matches!(wait.on, Condition::PodGone { .. })));
    assert_eq!(limit(ends), 660);
    let detaches = run.until(|next| matches!(next, Next::Wait(wait) if !matches!(wait.on, Condition::PodGone { .. })));
    assert_eq!(limit(detaches), 5);
}

#[test]
fn commands_run_in_their_places() {
    let mut goal = Goal::forward(Until::Cutover);
    goal.commands = crate::decide::Commands { before_pod: true, verify: true, cutover: true };
    let mut run = Run::new(fixtures::plan(2, 1), goal);
    assert_eq!(run.end(), Next::Done(Done::Reached(Until::Cutover)));
    let expected =
        [Command::BeforePod(0), Command::Verify(0), Command::BeforePod(1), Command::Verify(1), Command::Cutover];
    assert_eq!(run.commands, expected);
    run.goal.direction = crate::record::Direction::Back;
    assert_eq!(run.end(), Next::Done(Done::RolledBack));
    assert_eq!(run.commands.last(), Some(&Command::CutoverBack));
}

#[test]
fn what_is_not_verified_is_not_passed_over() {
    for order in [Order::OneByOne, Order::Together] {
        let mut plan = fixtures::plan(2, 1);
        plan.choices.order = order;
        let mut goal = Goal::forward(Until::Finalize);
        goal.commands.verify = true;
        let mut run = Run::new(plan, goal);
        run.until_step(Step::RunCommand);
        // Crashed or failed there: another run that has no command neither goes on nor deletes.
        run.commands.clear();
        run.goal.commands.verify = false;
        assert_eq!(stop(run.next()), Stop::VerifyCommandMissing);
        run.goal.until = Until::Freeze;
        assert_eq!(run.end(), Next::Done(Done::Reached(Until::Freeze)), "what came before stands");
        run.goal = Goal::forward(Until::Swing);
        run.goal.commands.verify = true;
        assert_eq!(run.end(), Next::Done(Done::Reached(Until::Swing)));
        assert_eq!(run.commands, [Command::Verify(0), Command::Verify(1)]);
        run.goal = Goal::forward(Until::Finalize);
        assert_eq!(run.end(), Next::Done(Done::Completed), "all have passed");
    }
}

#[test]
fn what_failed_to_be_verified_can_be_taken_back() {
    let mut goal = Goal::forward(Until::Finalize);
    goal.commands.verify = true;
    let mut run = Run::new(fixtures::plan(2, 1), goal);
    run.until_step(Step::RunCommand);
    run.goal = Goal::back();
    assert_eq!(run.end(), Next::Done(Done::RolledBack));
}

#[test]
fn forward_is_refused_once_it_went_back() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Freeze));
    run.end();
    run.goal = Goal::back();
    run.until_step(Step::DeleteOurs);
    run.goal = Goal::forward(Until::Finalize);
    assert_eq!(stop(run.next()), Stop::RollbackBegun);
}

#[test]
fn back_is_refused_after_the_point_of_no_return() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Finalize));
    run.until_step(Step::DeleteSourceClaim);
    run.goal = Goal::back();
    assert_eq!(stop(run.next()), Stop::PointOfNoReturn);
    run.goal = Goal::forward(Until::Finalize);
    assert_eq!(run.end(), Next::Done(Done::Completed));
    run.goal = Goal::back();
    assert_eq!(stop(run.next()), Stop::Ended { outcome: "Completed" });
}

#[test]
fn another_cluster_under_a_context_stops() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Finalize));
    run.simulation.edit(Side::Source, Kind::Namespace, "kube-system", |it| it["metadata"]["uid"] = json!("other"));
    assert!(matches!(stop(run.next()), Stop::OtherCluster { side: Side::Source, .. }));
}

#[test]
fn an_open_record_of_another_migration_stops() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Prepare));
    run.end();
    let mut plan = fixtures::plan(1, 1);
    plan.attempt = 2;
    run.simulation.plan = std::sync::Arc::new(plan);
    assert!(matches!(stop(run.next()), Stop::OtherMigration { .. }));
}

#[test]
fn a_lost_plan_stops_once_something_is_prepared() {
    let index = crate::record::secrets::index_name(&stem(Subject::Set, fixtures::SET));
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Prepare));
    run.until_step(Step::RetainVolume);
    run.simulation.remove(Side::Source, Kind::Secret, &index);
    assert!(matches!(run.next(), Next::Act { actions, .. } if actions[0].step == Step::StorePlan), "it is copied");
    assert_eq!(run.end(), Next::Done(Done::Reached(Until::Prepare)));
    run.simulation.remove(Side::Source, Kind::Secret, &index);
    assert_eq!(stop(run.next()), Stop::PlanMissing { side: Side::Source });
}

#[test]
fn the_record_that_is_further_wins_and_is_copied() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Freeze));
    run.end();
    let newer = run.record(Side::Source).next(|record| record.direction = crate::record::Direction::Back);
    let name = stem(Subject::Set, fixtures::SET);
    run.simulation
        .edit(Side::Destination, Kind::ConfigMap, &name, |it| it["data"]["record.yaml"] = json!(newer.to_yaml()));
    let Next::Act { actions, .. } = run.next() else { panic!("the records differ") };
    assert_eq!(actions[0].target(), Some((Side::Source, Kind::ConfigMap, name.as_str())));
}

#[test]
fn foreign_objects_in_the_way_stop() {
    let cases = [
        (Kind::StatefulSet, fixtures::SET.to_owned()),
        (Kind::PersistentVolumeClaim, "data-web-0".to_owned()),
        (Kind::PersistentVolume, first_volume(&fixtures::plan(1, 1)).0),
    ];
    for (kind, name) in cases {
        let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Freeze));
        let object = json!({
            "apiVersion": kind.api_version(), "kind": kind.name(), "metadata": { "name": name },
            "spec": { "volumeName": run.simulation.plan.sets[0].ordinals[0].volumes[0].destination_volume_name },
        });
        run.simulation.put(Side::Destination, kind, object);
        let expected = Stop::Foreign { side: Side::Destination, kind: kind.name(), name: name.clone() };
        assert_eq!(stop(run.end()), expected);
        assert!(!run.steps.contains(&Step::Freeze));
    }
}

#[test]
fn a_twin_of_the_handle_stops() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Freeze));
    let (_, volume) = first_volume(&run.simulation.plan);
    let twin = json!({ "metadata": { "name": "twin" }, "spec": { "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": volume.0 } } });
    run.simulation.put(Side::Destination, Kind::PersistentVolume, twin);
    assert!(matches!(stop(run.end()), Stop::Foreign { name, .. } if name == "twin"));
}

#[test]
fn a_policy_that_somebody_flips_stops_before_anything_is_destroyed() {
    for side in Side::BOTH {
        for step in [Step::DeletePod, Step::DeleteSourceClaim] {
            let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Finalize));
            run.until_step(step);
            if side == Side::Destination && step == Step::DeleteSourceClaim {
                continue;
            }
            let name = run.simulation.plan.sets[0].ordinals[0].volumes[0].volume_name(side).to_owned();
            run.simulation.edit(side, Kind::PersistentVolume, &name, set_policy("Delete"));
            assert!(
                matches!(stop(run.next()), Stop::NotRetained { side: found, .. } if found == side),
                "{side} {step:?}"
            );
        }
    }
}

#[test]
fn a_set_that_changed_since_the_plan_stops_before_the_freeze() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Freeze));
    run.until_step(Step::CreateSet);
    run.simulation.edit(Side::Source, Kind::StatefulSet, fixtures::SET, |set| {
        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other");
    });
    assert_eq!(stop(run.end()), Stop::SetChanged { differences: vec!["spec.template".to_owned()] });
}

#[test]
fn a_set_that_somebody_deletes_or_brings_back_stops() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Freeze));
    run.until_step(Step::CreateSet);
    run.simulation.remove(Side::Source, Kind::StatefulSet, fixtures::SET);
    assert_eq!(stop(run.next()), Stop::SetVanished);

    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Swing));
    run.until_step(Step::DeletePod);
    let set = run.simulation.plan.sets[0].before.0.clone();
    run.simulation.put(Side::Source, Kind::StatefulSet, set);
    assert!(matches!(stop(run.next()), Stop::SetReturned { .. }));
}

#[test]
fn a_pair_of_the_source_that_is_gone_or_another_stops() {
    let (name, _) = first_volume(&fixtures::plan(1, 1));
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.until_step(Step::DeletePod);
    run.simulation.edit(Side::Source, Kind::PersistentVolume, &name, |it| it["metadata"]["uid"] = json!("new"));
    assert!(matches!(stop(run.next()), Stop::SourceChanged { .. }));
    run.simulation.remove(Side::Source, Kind::PersistentVolume, &name);
    assert!(matches!(stop(run.next()), Stop::Missing { side: Side::Source, .. }));
}

#[test]
fn scaling_by_somebody_else_stops() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Swing));
    run.until_step(Step::DeletePod);
    run.simulation.edit(Side::Destination, Kind::StatefulSet, fixtures::SET, |set| set["spec"]["replicas"] = json!(2));
    assert_eq!(stop(run.next()), Stop::Scaled { replicas: 2, handed_over: 0 });
}

#[test]
fn a_pod_behind_a_moved_ordinal_stops() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal { pause_after: Some(0), ..Goal::forward(Until::Swing) });
    run.end();
    let stray = json!({
        "metadata": { "name": "backup" },
        "spec": { "volumes": [{ "persistentVolumeClaim": { "claimName": "data-web-0" } }] },
        "status": { "phase": "Pending" },
    });
    run.simulation.put(Side::Source, Kind::Pod, stray);
    run.goal.pause_after = None;
    assert!(matches!(stop(run.next()), Stop::UsedBehind { side: Side::Source, what, .. } if what == "pod backup"));
}

#[test]
fn another_pod_on_the_claim_stops_before_the_pod_goes_down() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.until_step(Step::DeletePod);
    let stray = json!({
        "metadata": { "name": "debug" },
        "spec": { "volumes": [{ "persistentVolumeClaim": { "claimName": "data-web-0" } }] },
        "status": { "phase": "Running" },
    });
    run.simulation.put(Side::Source, Kind::Pod, stray);
    assert!(matches!(stop(run.next()), Stop::UsedBehind { what, .. } if what == "pod debug"));
}

#[test]
fn a_node_that_is_not_ready_stops_before_its_pod_goes_down() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.until_step(Step::DeletePod);
    let node = fixtures::node_name(Side::Source, 0);
    run.simulation.edit(Side::Source, Kind::Node, &node, |it| {
        it["status"]["conditions"] = json!([{ "type": "Ready", "status": "Unknown" }])
    });
    assert_eq!(stop(run.next()), Stop::NodeNotReady { node, pod: "web-0".to_owned() });
}

#[test]
fn a_pod_that_came_back_in_the_source_stops() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.until_step(Step::DeletePod);
    let mut world = run.world();
    let pod = run.simulation.get(Side::Source, Kind::Pod, "web-0").expect("it runs");
    world.seq += 1;
    let seq = world.seq;
    world.shelf_mut(Side::Source, Kind::Pod).put(seq, "web-0", Ok(None));
    world.seq += 1;
    let seq = world.seq;
    world.shelf_mut(Side::Source, Kind::Pod).put(seq, "web-0", Ok(Some(pod)));
    let next = decide(&run.simulation.plan, &run.simulation.pairs, &run.goal, &world);
    assert!(matches!(stop(next), Stop::PodReturned { .. }));
}

#[test]
fn a_lost_volume_stops() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.until(|next| matches!(next, Next::Wait(wait) if matches!(wait.on, Condition::PodGone { .. })));
    let (_, volume) = first_volume(&run.simulation.plan);
    run.simulation.remove(Side::Source, Kind::Pod, "web-0");
    let node = fixtures::node_name(Side::Source, 0);
    run.simulation.edit(Side::Source, Kind::Node, &node, |it| it["status"]["volumesInUse"] = json!([]));
    let attachment = format!("csi-{}", first_volume(&run.simulation.plan).0);
    run.simulation.remove(Side::Source, Kind::VolumeAttachment, &attachment);
    run.simulation.volumes.insert(volume, Place::Deleted);
    assert!(matches!(stop(run.next()), Stop::VolumeLost { state, .. } if state == "not found"));
}

#[test]
fn a_pod_in_the_destination_on_another_claim_is_no_proof() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal { pause_after: Some(0), ..Goal::forward(Until::Swing) });
    run.end();
    run.simulation.edit(Side::Destination, Kind::Pod, "web-0", |pod| {
        pod["spec"]["volumes"] = json!([{ "persistentVolumeClaim": { "claimName": "empty" } }]);
    });
    assert!(matches!(stop(run.next()), Stop::WrongVolume { .. }));
}

#[test]
fn a_refused_read_stops_and_a_passing_one_waits() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.until_step(Step::RetainVolume);
    for (passing, reason) in [(false, "403"), (true, "503")] {
        let mut world = run.world();
        world.seq += 1;
        let seq = world.seq;
        let unknown = Unknown { reason: reason.to_owned(), passing };
        world.shelf_mut(Side::Source, Kind::PersistentVolume).put_list_unknown(seq, unknown);
        let next = decide(&run.simulation.plan, &run.simulation.pairs, &run.goal, &world);
        match passing {
            false => assert!(matches!(stop(next), Stop::Refused { .. })),
            true => assert!(matches!(next, Next::Wait(wait) if matches!(wait.on, Condition::Answer { .. }))),
        }
    }
}

#[test]
fn a_single_claim_moves_without_a_pod_and_back() {
    let mut run = Run::new(fixtures::claim_plan(), Goal::forward(Until::Cutover));
    assert_eq!(run.end(), Next::Done(Done::Reached(Until::Cutover)));
    assert_eq!(run.questions, []);
    assert_eq!(run.policy(Side::Source).as_deref(), Some("Retain"));
    let mut back = Run {
        simulation: run.simulation.clone(),
        goal: Goal::back(),
        ..Run::new(fixtures::claim_plan(), Goal::back())
    };
    assert_eq!(back.end(), Next::Done(Done::RolledBack));
    assert_eq!(back.policy(Side::Source).as_deref(), Some("Delete"));
    assert_eq!(back.policy(Side::Destination), None);

    run.goal = Goal::forward(Until::Finalize);
    assert_eq!(run.end(), Next::Done(Done::Completed));
    assert_eq!(run.policy(Side::Destination).as_deref(), Some("Delete"));
    assert_eq!(run.policy(Side::Source), None);
    assert_eq!(run.simulation.violation, None);
}

#[test]
fn a_claim_is_not_there_while_the_source_takes_its_volume_back() {
    let mut run = Run::new(fixtures::claim_plan(), Goal::forward(Until::Cutover));
    run.end();
    let volume = run.simulation.plan.sets[0].idle[0].volume.clone();
    run.simulation.volumes.insert(volume, Place::Attached(Side::Source));
    assert!(matches!(run.end(), Next::Wait(wait) if matches!(wait.on, Condition::Home { .. })));
}

#[test]
fn no_pod_goes_down_while_a_lower_ordinal_is_attached_but_not_available() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal { pause_after: Some(0), ..Goal::forward(Until::Swing) });
    assert_eq!(run.end(), Next::Done(Done::PausedAfter(0)));
    run.goal.pause_after = None;
    run.simulation.edit(Side::Destination, Kind::StatefulSet, fixtures::SET, |set| {
        set["status"]["availableReplicas"] = json!(0);
    });
    assert!(matches!(run.next(), Next::Wait(wait) if matches!(wait.on, Condition::Available { wanted: 1, .. })));
}
