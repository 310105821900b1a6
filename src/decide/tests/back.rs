//! Going back from odd places: what A holds already, what somebody removed in B, hundreds of volumes.

use serde_json::json;

use super::run::{Run, first_volume, stop};
use super::simulation::{Move, Place};
use crate::decide::{Action, Condition, Confirmation, Done, Goal, Next, Step, Stop, Until, Verb, decide};
use crate::fixtures;
use crate::plan::{MIGRATION_ANNOTATION, Order, VolumePlan};
use crate::record::{Direction, Outcome};
use crate::world::{Kind, Read, Side, Unknown, VolumeFacts, World};

fn volume(run: &Run, ordinal: usize) -> VolumePlan {
    run.simulation.plan.sets[0].ordinals[ordinal].volumes[0].clone()
}

/// Goes back although the pod of an ordinal cannot come up in A, and finds the set there all the same.
fn goes_back_without(mut run: Run, pod: &str) {
    run.goal = Goal::back();
    let waits = run.end();
    assert!(matches!(waits, Next::Wait(_)), "{pod} cannot come up: {waits:?}");
    assert_eq!(run.record(Side::Source).outcome, Some(Outcome::RolledBack), "{waits:?}");
    assert!(run.simulation.get(Side::Source, Kind::StatefulSet, fixtures::SET).is_some());
    assert_eq!(run.simulation.violation, None);
    run.held.clear();
    assert_eq!(run.end(), Next::Done(Done::RolledBack));
}

#[test]
fn a_volume_that_a_will_not_let_go_of_is_no_reason_to_stay() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Swing));
    run.held.push(Move::Available(volume(&run, 1).volume));
    let waits = run.end();
    assert!(matches!(waits, Next::Wait(_)), "the detach sticks: {waits:?}");
    assert_eq!(run.simulation.volumes[&volume(&run, 1).volume], Place::Detaching(Side::Source));
    goes_back_without(run, "web-1");
}

#[test]
fn a_pod_of_a_that_waits_for_its_free_volume_is_no_reason_to_stay() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Swing));
    run.held.push(Move::StartPod(Side::Source, "web-1".to_owned()));
    run.until_step(Step::Freeze);
    // Its node was replaced, and the new one does not come.
    let (id, name) = (volume(&run, 1).volume, volume(&run, 1).source_volume_name);
    run.simulation.volumes.insert(id.clone(), Place::Available);
    run.simulation.report(Side::Source, &id, false);
    let attachments = run.world();
    let attachments: Vec<String> = attachments
        .objects(Side::Source, Kind::VolumeAttachment)
        .filter(|found| found.text("/spec/source/persistentVolumeName") == Some(&name))
        .map(|found| found.name().to_owned())
        .collect();
    for attachment in attachments {
        run.simulation.remove(Side::Source, Kind::VolumeAttachment, &attachment);
    }
    run.simulation.edit(Side::Source, Kind::Pod, "web-1", |pod| pod["status"] = json!({ "phase": "Pending" }));
    goes_back_without(run, "web-1");
}

#[test]
fn a_set_that_somebody_removed_leaves_pods_to_be_stopped_first() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Swing));
    assert_eq!(run.end(), Next::Done(Done::Reached(Until::Swing)));
    // `kubectl delete --cascade=orphan`.
    run.simulation.orphan(Side::Destination, fixtures::SET);
    run.simulation.remove(Side::Destination, Kind::StatefulSet, fixtures::SET);
    run.goal = Goal::back();
    let deletes_claims = |action: &Action| {
        matches!(action.verb, Verb::Delete { kind: Kind::PersistentVolumeClaim, side: Side::Destination, .. })
    };
    let next = run.until(|next| matches!(next, Next::Act { actions, .. } if actions.iter().any(deletes_claims)));
    assert!(matches!(next, Next::Act { .. }), "{next:?}");
    for pod in ["web-0", "web-1"] {
        assert_eq!(run.simulation.get(Side::Destination, Kind::Pod, pod), None, "{pod} uses a claim that goes");
    }
    assert_eq!(run.end(), Next::Done(Done::RolledBack));
}

#[test]
fn a_pod_of_somebody_else_in_b_is_not_stopped() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Freeze));
    run.end();
    run.simulation.put(
        Side::Destination,
        Kind::Pod,
        json!({ "metadata": { "name": "web-1", "namespace": "shop" }, "spec": {}, "status": { "phase": "Running" } }),
    );
    run.goal = Goal::back();
    assert_eq!(stop(run.end()), Stop::ForeignData { kind: "Pod", name: "web-1".to_owned() });
}

/// Makes a list one that had no answer.
fn without_pods(run: &Run, side: Side) -> World {
    let mut world = run.world();
    world.seq += 1;
    let seq = world.seq;
    let unknown = Unknown { reason: "503".to_owned(), passing: true };
    world.shelf_mut(side, Kind::Pod).put_list_unknown(seq, unknown);
    world
}

#[test]
fn pods_that_cannot_be_listed_are_not_absent() {
    for (step, side) in [(Step::DeletePod, Side::Destination), (Step::DeletePod, Side::Source)] {
        let mut plan = fixtures::plan(2, 1);
        plan.choices.order = Order::Together;
        let mut run = Run::new(plan, Goal::forward(Until::Swing));
        run.until_step(step);
        let mut world = without_pods(&run, side);
        // What the single pods are is known all the same.
        for pod in ["web-0", "web-1"] {
            world.seq += 1;
            let seq = world.seq;
            world.shelf_mut(side, Kind::Pod).put(seq, pod, Ok(run.simulation.get(side, Kind::Pod, pod)));
        }
        let next = decide(&run.simulation.plan, &run.simulation.pairs, &run.goal, &world);
        assert!(!matches!(next, Next::Act { .. }), "{side}: {next:?}");
    }
    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Swing));
    run.end();
    run.goal = Goal::back();
    run.until_step(Step::Shrink);
    let mut world = without_pods(&run, Side::Destination);
    for pod in ["web-0", "web-1"] {
        world.seq += 1;
        let seq = world.seq;
        let found = run.simulation.get(Side::Destination, Kind::Pod, pod);
        world.shelf_mut(Side::Destination, Kind::Pod).put(seq, pod, Ok(found));
    }
    let next = decide(&run.simulation.plan, &run.simulation.pairs, &run.goal, &world);
    assert!(!matches!(next, Next::Act { .. }), "{next:?}");
}

#[test]
fn lost_records_do_not_spare_the_question() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.end();
    let name = run.simulation.plan.stem();
    for side in Side::BOTH {
        run.simulation.remove(side, Kind::ConfigMap, &name);
    }
    run.goal = Goal::back();
    run.until_step(Step::Shrink);
    assert!(run.questions.contains(&Confirmation::Rollback), "{:?}", run.questions);
    assert_eq!(run.record(Side::Source).direction, Direction::Back);
}

#[test]
fn a_set_in_b_that_was_scaled_before_the_freeze_is_met_before_it() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Prepare));
    run.end();
    run.simulation.edit(Side::Destination, Kind::StatefulSet, fixtures::SET, |set| set["spec"]["replicas"] = json!(1));
    run.goal = Goal::forward(Until::Freeze);
    assert_eq!(stop(run.next()), Stop::Scaled { replicas: 1, handed_over: 0 });
}

#[test]
fn a_node_of_b_that_went_since_is_no_stranger() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Swing));
    let stops = |action: &Action| matches!(&action.verb, Verb::Delete { kind: Kind::Pod, name, .. } if name == "web-1");
    run.until(|next| matches!(next, Next::Act { actions, .. } if actions.iter().any(stops)));
    // What EC2 said before names an instance whose node is gone; asked again it names the new one.
    let mut world = run.world();
    let id = volume(&run, 0).volume;
    let (seen, known) = match world.volumes[&id].latest() {
        Some(Ok((seen, Some(known)))) => (seen, known.clone()),
        other => panic!("EC2 has answered: {other:?}"),
    };
    let mut old = known;
    old.attachments[0].instance = "i-gone".to_owned();
    let facts: &mut VolumeFacts = world.volumes.entry(id.clone()).or_default();
    facts.put(seen, Ok(Some(old)));
    world.settled = world.seq;
    let next = decide(&run.simulation.plan, &run.simulation.pairs, &run.goal, &world);
    let asks = matches!(&next, Next::Look(reads) if reads.iter().any(|read| matches!(read, Read::Volumes(_))));
    assert!(asks, "{next:?}");
}

#[test]
fn back_from_every_step_gives_the_set_back() {
    let mut forward = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Cutover));
    assert_eq!(forward.end(), Next::Done(Done::Reached(Until::Cutover)));
    for cut in 0..forward.steps.len() {
        let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Cutover));
        let survivors = |run: &Run| -> Vec<String> {
            run.world().objects(Side::Source, Kind::Pod).map(|pod| pod.uid().to_owned()).collect()
        };
        while run.steps.len() < cut {
            let before = run.steps.len();
            run.until(|next| matches!(next, Next::Act { .. }));
            let Next::Act { actions, .. } = run.next() else { break };
            for action in actions.iter().take(cut - before) {
                run.steps.push(action.step);
                run.simulation.perform(action);
            }
        }
        let left: Vec<String> = run
            .world()
            .objects(Side::Source, Kind::Pod)
            .filter(|pod| !pod.is_terminating())
            .map(|pod| pod.uid().to_owned())
            .collect();
        run.goal = Goal::back();
        assert_eq!(run.end(), Next::Done(Done::RolledBack), "after {cut} steps: {:?}", run.steps);
        assert_eq!(run.simulation.violation, None, "after {cut} steps");
        let set = run.simulation.get(Side::Source, Kind::StatefulSet, fixtures::SET).expect("the set is back");
        assert_eq!(set.replicas(), 2);
        assert!(set.annotation(MIGRATION_ANNOTATION).is_none());
        assert_eq!(run.policy(Side::Source).as_deref(), Some("Delete"), "after {cut} steps");
        for kind in [
            Kind::StatefulSet,
            Kind::PersistentVolume,
            Kind::PersistentVolumeClaim,
            Kind::Service,
            Kind::ControllerRevision,
        ] {
            assert_eq!(run.world().objects(Side::Destination, kind).count(), 0, "{kind} left in B after {cut} steps");
        }
        for uid in left {
            assert!(survivors(&run).contains(&uid), "a survivor was restarted after {cut} steps");
        }
    }
}

#[test]
fn data_in_the_destination_that_is_not_ours_stops_the_way_back() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.end();
    let claim = json!({ "metadata": { "name": "data-web-7" }, "spec": { "volumeName": "pvc-new" } });
    run.simulation.put(Side::Destination, Kind::PersistentVolumeClaim, claim);
    run.goal = Goal::back();
    let expected = Stop::ForeignData { kind: "PersistentVolumeClaim", name: "data-web-7".to_owned() };
    assert_eq!(stop(run.end()), expected);
    assert!(!run.steps.contains(&Step::Shrink));
}

#[test]
fn a_service_that_another_set_has_come_to_use_stays_on_the_way_back() {
    let cases = [("web", json!({}), true), ("", fixtures::labels(), true), ("", json!({ "app": "other" }), false)];
    for (governing, labels, stays) in cases {
        let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
        run.end();
        let template = json!({ "metadata": { "labels": labels } });
        let spec = json!({ "replicas": 0, "serviceName": governing, "template": template });
        let reader = json!({ "metadata": { "name": "reader" }, "spec": spec });
        run.simulation.put(Side::Destination, Kind::StatefulSet, reader);
        run.goal = Goal::back();
        assert_eq!(run.end(), Next::Done(Done::RolledBack));
        let left = run.simulation.get(Side::Destination, Kind::Service, "web");
        assert_eq!(left.is_some(), stays, "{governing:?}, {labels}");
        assert!(
            left.is_none_or(|left| left.annotation(MIGRATION_ANNOTATION).is_none()),
            "it is nobody's to delete now"
        );
    }
}

#[test]
fn a_broken_pair_of_the_source_is_made_again() {
    for claim_too in [false, true] {
        let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
        run.end();
        let (name, _) = first_volume(&run.simulation.plan);
        run.simulation.remove(Side::Source, Kind::PersistentVolume, &name);
        if claim_too {
            run.simulation.remove(Side::Source, Kind::PersistentVolumeClaim, "data-web-0");
        }
        run.goal = Goal::back();
        assert_eq!(run.end(), Next::Done(Done::RolledBack));
        assert!(run.steps.contains(&Step::RecreateVolume) && run.steps.contains(&Step::RecreateClaim));
        assert_eq!(run.policy(Side::Source).as_deref(), Some("Delete"));
        assert_eq!(run.simulation.violation, None);
    }
}

#[test]
fn delete_is_not_written_back_while_a_twin_is_elsewhere() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Finalize));
    run.until_step(Step::DeleteSourceVolume);
    let (_, volume) = first_volume(&run.simulation.plan);
    let twin = json!({ "metadata": { "name": "twin" }, "spec": { "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": volume.0 } } });
    run.simulation.put(Side::Source, Kind::PersistentVolume, twin);
    assert_eq!(run.end(), Next::Done(Done::Completed));
    assert_eq!(run.policy(Side::Destination).as_deref(), Some("Retain"));
}

#[test]
fn a_claim_that_a_pod_of_the_destination_uses_does_not_go_back() {
    let mut run = Run::new(fixtures::claim_plan(), Goal::forward(Until::Cutover));
    run.end();
    let pod = json!({
        "metadata": { "name": "shell" },
        "spec": { "volumes": [{ "persistentVolumeClaim": { "claimName": "data-web-0" } }] },
        "status": { "phase": "Running" },
    });
    run.simulation.put(Side::Destination, Kind::Pod, pod);
    run.goal = Goal::back();
    let next = run.end();
    assert!(
        matches!(next, Next::Wait(wait) if matches!(&wait.on, Condition::ClaimUnused { pod, .. } if pod == "shell"))
    );
    assert!(run.simulation.get(Side::Destination, Kind::PersistentVolumeClaim, "data-web-0").is_some());
}

#[test]
fn the_set_does_not_come_back_while_the_destination_holds_a_volume() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.end();
    run.goal = Goal::back();
    run.until_step(Step::RecreateSet);
    let (_, volume) = first_volume(&run.simulation.plan);
    run.simulation.volumes.insert(volume, Place::Attached(Side::Destination));
    assert!(matches!(run.next(), Next::Wait(wait) if matches!(wait.on, Condition::Free { .. })));
}

/// Returns a rollback that waits for the first pod of A.
fn back_without_pods(replicas: i64) -> Run {
    let mut run = Run::new(fixtures::plan(replicas, 1), Goal::forward(Until::Swing));
    run.end();
    run.goal = Goal::back();
    run.until(
        |next| matches!(next, Next::Wait(wait) if matches!(wait.on, Condition::Available { side: Side::Source, .. })),
    );
    run
}

#[test]
fn it_is_rolled_back_before_the_pods_are_up() {
    let mut run = back_without_pods(1);
    for side in Side::BOTH {
        assert_eq!(run.record(side).outcome, Some(Outcome::RolledBack));
    }
    assert_eq!(run.policy(Side::Source).as_deref(), Some("Retain"), "the volume is not home yet");
    assert_eq!(run.end(), Next::Done(Done::RolledBack));
    assert_eq!(run.policy(Side::Source).as_deref(), Some("Delete"));
    assert_eq!(run.simulation.violation, None);
}

#[test]
fn a_pod_that_does_not_come_up_keeps_no_other_volume_from_its_policy() {
    let mut run = back_without_pods(2);
    let next = run.until(|next| {
        matches!(next, Next::Wait(wait) if matches!(wait.on, Condition::Available { side: Side::Source, available: 1, .. }))
    });
    let Next::Wait(wait) = next else { panic!("no wait but {next:?}") };
    let last = &run.simulation.plan.sets[0].ordinals[1].volumes[0];
    assert_eq!(wait.poll, [Read::Volumes(vec![last.volume.clone()])], "EC2 has no watch");
    assert_eq!(run.policy(Side::Source).as_deref(), Some("Delete"));
    let second = run.simulation.get(Side::Source, Kind::PersistentVolume, &last.source_volume_name);
    assert_eq!(second.expect("it stays").text("/spec/persistentVolumeReclaimPolicy"), Some("Retain"));
    assert_eq!(run.end(), Next::Done(Done::RolledBack));
}

#[test]
fn a_set_that_is_gone_again_does_not_keep_a_rollback_from_ending() {
    let mut run = back_without_pods(1);
    run.simulation.remove(Side::Source, Kind::StatefulSet, fixtures::SET);
    assert_eq!(run.end(), Next::Done(Done::RolledBack));
    assert_eq!(run.policy(Side::Source).as_deref(), Some("Retain"), "nobody holds it: that is no home");
}

#[test]
fn a_volume_on_its_way_home_is_waited_for_by_its_claim() {
    let mut run = back_without_pods(1);
    run.until(|next| matches!(next, Next::Act { actions, .. } if actions.iter().any(|action| action.step == Step::RestorePolicy)));
    // The pods are up, and EC2 still says what it said before.
    let (_, volume) = first_volume(&run.simulation.plan);
    run.simulation.volumes.insert(volume.clone(), Place::Available);
    let next = run.next();
    let Next::Wait(wait) = next else { panic!("no wait but {next:?}") };
    assert_eq!(wait.on.to_string(), format!("{volume} of claim data-web-0 to be attached in the source cluster"));
}

#[test]
fn a_set_of_somebody_else_in_b_is_named_before_its_pods_are_stopped() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Swing));
    run.end();
    // `kubectl replace`, or somebody's own set of that name.
    run.simulation.edit(Side::Destination, Kind::StatefulSet, fixtures::SET, |set| {
        set["metadata"]["annotations"] = json!({});
    });
    run.goal = Goal::back();
    let before = run.steps.len();
    let stop = stop(run.end());
    assert_eq!(stop, Stop::ForeignData { kind: "StatefulSet", name: fixtures::SET.to_owned() });
    assert!(!run.steps[before..].contains(&Step::DeletePod), "{:?}", run.steps);
}

#[test]
fn a_pod_of_a_that_uses_what_never_moved_is_no_reason_to_stay() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal::forward(Until::Freeze));
    run.end();
    let shell = json!({
        "metadata": { "name": "shell", "namespace": "shop" },
        "spec": { "volumes": [{ "name": "it", "persistentVolumeClaim": { "claimName": "data-web-1" } }] },
        "status": { "phase": "Running" },
    });
    run.simulation.put(Side::Source, Kind::Pod, shell);
    run.goal = Goal::back();
    assert_eq!(run.end(), Next::Done(Done::RolledBack));
}

#[test]
fn a_pod_of_a_on_what_the_destination_lets_go_of_is_waited_for_until_a_has_it() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.end();
    let shell = json!({
        "metadata": { "name": "shell", "namespace": "shop" },
        "spec": { "volumes": [{ "name": "it", "persistentVolumeClaim": { "claimName": "data-web-0" } }] },
        "status": { "phase": "Pending" },
    });
    run.simulation.put(Side::Source, Kind::Pod, shell);
    run.held.push(Move::StartPod(Side::Source, "shell".to_owned()));
    run.goal = Goal::back();
    let next = run.end();
    let Next::Wait(wait) = next else { panic!("{next:?}") };
    assert!(matches!(&wait.on, Condition::ClaimUnused { side: Side::Source, pod, .. } if pod == "shell"), "{wait:?}");
    assert_eq!(wait.poll, [Read::Volumes(vec![volume(&run, 0).volume])], "EC2 has no watch");
    assert!(run.simulation.get(Side::Source, Kind::StatefulSet, fixtures::SET).is_none());
    run.simulation.volumes.insert(volume(&run, 0).volume, Place::Attached(Side::Source));
    assert!(matches!(run.next(), Next::Act { .. }), "A has it: {:?}", run.next());
}

#[test]
fn another_claim_in_a_is_met_before_b_is_emptied() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.end();
    run.simulation.edit(Side::Source, Kind::PersistentVolumeClaim, "data-web-0", |claim| {
        claim["spec"]["volumeName"] = json!("pvc-another");
    });
    run.goal = Goal::back();
    let before = run.steps.len();
    let stop = stop(run.end());
    assert!(matches!(&stop, Stop::SourceReplaced { name, .. } if name == "data-web-0"), "{stop}");
    let writes_only_records = run.steps[before..].iter().all(|step| *step == Step::WriteRecord);
    assert!(writes_only_records, "{:?}", run.steps);
}

#[test]
fn a_broken_pair_waits_for_pods_that_cannot_be_listed() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Freeze));
    run.end();
    let (name, _) = first_volume(&run.simulation.plan);
    run.simulation.remove(Side::Source, Kind::PersistentVolume, &name);
    run.goal = Goal::back();
    let next = run.until(|next| matches!(next, Next::Wait(wait) if matches!(wait.on, Condition::ClaimUnused { .. })));
    assert!(matches!(next, Next::Wait(_)), "web-0 uses the claim: {next:?}");
    let world = without_pods(&run, Side::Source);
    let next = decide(&run.simulation.plan, &run.simulation.pairs, &run.goal, &world);
    assert!(!matches!(next, Next::Act { .. }), "{next:?}");
}
