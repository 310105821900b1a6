//! A table of situations: every phase boundary, and every reason to stop.

use serde_json::{Value, json};

use super::simulation::{Move, Place, Simulation};
use crate::decide::{Command, Condition, Confirmation, Done, Goal, Next, Step, Stop, Until, decide};
use crate::fixtures;
use crate::plan::{MIGRATION_ANNOTATION, Order, Plan};
use crate::record::{Outcome, Record, Subject, stem};
use crate::world::{Kind, Read, Side, Unknown, VolumeId, World};

/// A run without faults: the tool acts whenever it may, the clusters move whenever it waits.
pub(super) struct Run {
    pub(super) simulation: Simulation,
    pub(super) goal: Goal,
    /// What the clusters do not get done.
    pub(super) held: Vec<Move>,
    pub(super) steps: Vec<Step>,
    pub(super) questions: Vec<Confirmation>,
    commands: Vec<Command>,
}

impl Run {
    pub(super) fn new(plan: Plan, goal: Goal) -> Run {
        Run {
            simulation: Simulation::new(plan),
            goal,
            held: Vec::new(),
            steps: Vec::new(),
            questions: Vec::new(),
            commands: Vec::new(),
        }
    }

    pub(super) fn world(&self) -> World {
        let mut world = World::default();
        world.clock = "2025-01-02T03:04:05Z".to_owned();
        world.commands_done = self.commands.iter().cloned().collect();
        self.simulation.world(&mut world);
        world
    }

    pub(super) fn next(&self) -> Next {
        let mut world = self.world();
        loop {
            match decide(&self.simulation.plan, &self.simulation.pairs, &self.goal, &world) {
                Next::Look(_) => self.simulation.world(&mut world),
                next => return next,
            }
        }
    }

    /// Goes on until `stop` says so, or the end.
    pub(super) fn until(&mut self, stop: impl Fn(&Next) -> bool) -> Next {
        for _ in 0..500 {
            let next = self.next();
            if stop(&next) || !self.follow(&next) {
                return next;
            }
        }
        panic!("no end in sight after {:?}", self.steps);
    }

    /// Acts, or lets the clusters move; returns whether there was something to do.
    pub(super) fn follow(&mut self, next: &Next) -> bool {
        match next {
            Next::Act { actions, needs } => {
                self.questions.extend(needs.clone().filter(|question| self.questions.last() != Some(question)));
                for action in actions {
                    self.steps.push(action.step);
                    if let crate::decide::Verb::Run(command) = &action.verb {
                        self.commands.push(command.clone());
                    }
                    self.simulation.perform(action);
                }
                true
            }
            Next::Wait(_) => match self.simulation.moves().into_iter().find(|step| !self.held.contains(step)) {
                Some(step) => {
                    self.simulation.make(&step);
                    true
                }
                None => false,
            },
            Next::Stop(_) | Next::Done(_) => false,
            Next::Look(_) => unreachable!("looks are done in next"),
        }
    }

    pub(super) fn end(&mut self) -> Next {
        self.until(|_| false)
    }

    pub(super) fn until_step(&mut self, step: Step) -> Next {
        self.until(|next| matches!(next, Next::Act { actions, .. } if actions.iter().any(|action| action.step == step)))
    }

    pub(super) fn record(&self, side: Side) -> Record {
        let name = self.simulation.plan.stem();
        Record::read(&self.simulation.get(side, Kind::ConfigMap, &name).expect("a record")).expect("a readable one")
    }

    pub(super) fn policy(&self, side: Side) -> Option<String> {
        let name = self.simulation.plan.volumes().next()?.volume_name(side).to_owned();
        let volume = self.simulation.get(side, Kind::PersistentVolume, &name)?;
        volume.text("/spec/persistentVolumeReclaimPolicy").map(str::to_owned)
    }
}

pub(super) fn stop(next: Next) -> Stop {
    match next {
        Next::Stop(stop) => stop,
        other => panic!("no stop but {other:?}"),
    }
}

pub(super) fn set_policy(policy: &str) -> impl FnOnce(&mut Value) {
    move |volume| volume["spec"]["persistentVolumeReclaimPolicy"] = json!(policy)
}

pub(super) fn first_volume(plan: &Plan) -> (String, VolumeId) {
    let volume = &plan.sets[0].ordinals[0].volumes[0];
    (volume.source_volume_name.clone(), volume.volume.clone())
}

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
fn no_pod_goes_down_while_a_lower_ordinal_is_attached_but_not_available() {
    let mut run = Run::new(fixtures::plan(2, 1), Goal { pause_after: Some(0), ..Goal::forward(Until::Swing) });
    assert_eq!(run.end(), Next::Done(Done::PausedAfter(0)));
    run.goal.pause_after = None;
    run.simulation.edit(Side::Destination, Kind::StatefulSet, fixtures::SET, |set| {
        set["status"]["availableReplicas"] = json!(0);
    });
    assert!(matches!(run.next(), Next::Wait(wait) if matches!(wait.on, Condition::Available { wanted: 1, .. })));
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
