//! The model: the shipped `decide`, explored exhaustively with stateright.
//!
//! The tool remembers nothing in it: before every single call it reads the world anew, so that a
//! crash between any two calls, a lost reply, and a subset of calls sent side by side are all in the
//! state space. One call may be sent late (a process that slept), and the operator may turn back once.

use std::hash::{Hash, Hasher};

use stateright::{Checker, Model, Property};

use super::simulation::{Move, Place, Simulation};
use crate::decide::{Action, Done, Goal, Next, Step, Until, Verb, decide};
use crate::fixtures;
use crate::plan::{Order, OrdinalPlan, Plan, VolumePlan};
use crate::world::{Kind, Side, World};

/// A migration to explore.
struct Migration {
    plan: Plan,
    /// Whether the operator may turn back.
    may_turn: bool,
    /// Whether one call may be delivered late.
    may_be_late: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct State {
    simulation: Simulation,
    back: bool,
    /// A call of a process that slept, not yet delivered.
    late: Option<Action>,
    late_used: bool,
    end: Option<String>,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.simulation.hash(state);
        self.back.hash(state);
        format!("{:?}", self.late).hash(state);
        self.late_used.hash(state);
        self.end.hash(state);
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Act {
    /// The tool makes the n-th of the calls that it may make now.
    Call(Action),
    /// The tool sends a call and dies; the call arrives later.
    SendLate(Action),
    /// The late call arrives.
    Deliver,
    /// Somebody else moves.
    Move(Move),
    /// The operator starts `rollback`.
    Turn,
    /// The tool says that it is done, or that it stops.
    End(String),
}

impl State {
    fn next(&self) -> Next {
        let goal = if self.back { Goal::back() } else { Goal::forward(Until::Finalize) };
        let mut world = World::default();
        world.clock = "2025-01-02T03:04:05Z".to_owned();
        let mut wanted = Vec::new();
        for _ in 0..20 {
            self.simulation.world(&mut world);
            match decide(&self.simulation.plan, &self.simulation.pairs, &goal, &world) {
                Next::Look(reads) => wanted = reads,
                next => return next,
            }
        }
        panic!("it looks and looks: {wanted:?}");
    }

    /// What must be true of a call at the moment when it is made.
    fn check(&mut self, action: &Action) {
        let plan = std::sync::Arc::clone(&self.simulation.plan);
        let simulation = &self.simulation;
        let is_retained = |side, volume: &VolumePlan| {
            simulation
                .get(side, Kind::PersistentVolume, volume.volume_name(side))
                .is_some_and(|it| it.text("/spec/persistentVolumeReclaimPolicy") == Some("Retain"))
        };
        let is_held = |side, volume: &VolumePlan| {
            simulation.volumes.get(&volume.volume) != Some(&Place::Available)
                || simulation.get(side, Kind::VolumeAttachment, &format!("csi-{}", volume.volume_name(side))).is_some()
        };
        let set = &plan.sets[0];
        let is_ready = |ordinal: &OrdinalPlan| {
            let pod = simulation.get(Side::Destination, Kind::Pod, &set.pod_name(ordinal.ordinal));
            pod.is_some_and(|pod| pod.condition("Ready") == Some("True"))
        };
        let unretained = || {
            plan.volumes()
                .find(|volume| !is_retained(Side::Source, volume) || !is_retained(Side::Destination, volume))
                .map(|volume| format!("{:?} while {} is not Retain", action.step, volume.claim))
        };
        let violation = match (action.step, &action.verb) {
            (Step::Freeze, _) => unretained(),
            (Step::DeletePod, Verb::Delete { side: Side::Source, name, .. }) => unretained().or_else(|| {
                let lower = set.ordinals.iter().take_while(|ordinal| set.pod_name(ordinal.ordinal) != *name);
                let waits = plan.choices.order == Order::OneByOne && !lower.clone().all(is_ready);
                waits.then(|| format!("{name} stopped while a lower ordinal is not ready in B"))
            }),
            (Step::Grow, Verb::Patch { patch, .. }) => {
                let replicas = patch["spec"]["replicas"].as_i64().unwrap_or_default() as usize;
                set.ordinals[..replicas].iter().filter(|ordinal| !is_ready(ordinal)).find_map(|ordinal| {
                    let name = set.pod_name(ordinal.ordinal);
                    let is_in_source = simulation.get(Side::Source, Kind::Pod, &name).is_some();
                    (is_in_source || ordinal.volumes.iter().any(|volume| is_held(Side::Source, volume)))
                        .then(|| format!("grown while {name} or its volumes are in A"))
                })
            }
            (Step::RecreateSet, _) => plan.volumes().find_map(|volume| {
                let is_in_destination =
                    simulation.volumes.get(&volume.volume) == Some(&Place::Attached(Side::Destination));
                is_in_destination.then(|| format!("set recreated in A while B holds {}", volume.volume))
            }),
            _ => None,
        };
        if self.simulation.violation.is_none() {
            self.simulation.violation = violation;
        }
    }
}

impl Model for Migration {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        let simulation = Simulation::new(self.plan.clone());
        vec![State { simulation, back: false, late: None, late_used: false, end: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Act>) {
        if state.end.is_some() || state.simulation.violation.is_some() {
            return;
        }
        actions.extend(state.simulation.moves().into_iter().map(Act::Move));
        match state.next() {
            Next::Act { actions: calls, .. } => {
                for call in calls {
                    if self.may_be_late && !state.late_used && !matches!(call.verb, Verb::Create { .. }) {
                        actions.push(Act::SendLate(call.clone()));
                    }
                    actions.push(Act::Call(call));
                }
            }
            Next::Stop(stop) => actions.push(Act::End(format!("stopped: {stop}"))),
            Next::Done(Done::Completed | Done::RolledBack) => actions.push(Act::End("done".to_owned())),
            Next::Done(other) => actions.push(Act::End(format!("{other:?}"))),
            Next::Wait(_) | Next::Look(_) => {}
        }
        if state.late.is_some() {
            actions.push(Act::Deliver);
        }
        let record = state.simulation.get(Side::Source, Kind::ConfigMap, &record_name(&self.plan));
        let is_deleting = record.is_some_and(|record| {
            record.0["data"]["record.yaml"].as_str().is_some_and(|text| text.contains("deleting: true"))
        });
        let other = state.simulation.get(Side::Destination, Kind::ConfigMap, &record_name(&self.plan));
        let other_deleting = other.is_some_and(|record| {
            record.0["data"]["record.yaml"].as_str().is_some_and(|text| text.contains("deleting: true"))
        });
        if self.may_turn && !state.back && !is_deleting && !other_deleting {
            actions.push(Act::Turn);
        }
    }

    fn next_state(&self, state: &State, act: Act) -> Option<State> {
        let mut next = state.clone();
        match act {
            Act::Call(action) => {
                next.check(&action);
                next.simulation.perform(&action);
            }
            Act::SendLate(action) => {
                next.late = Some(action);
                next.late_used = true;
            }
            Act::Deliver => {
                let action = next.late.take()?;
                next.simulation.perform(&action);
            }
            Act::Move(step) => next.simulation.make(&step),
            Act::Turn => next.back = true,
            Act::End(end) => next.end = Some(end),
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no harm", |_, state: &State| state.simulation.violation.is_none()),
            Property::always("never stops", |model: &Migration, state: &State| {
                // A late call may be what somebody must look at; without one, nothing is.
                state.end.as_ref().is_none_or(|end| end == "done" || (model.may_be_late && state.late_used))
            }),
            Property::always("never stuck", |model: &Migration, state: &State| {
                let mut actions = Vec::new();
                model.actions(state, &mut actions);
                state.end.is_some() || state.simulation.violation.is_some() || !actions.is_empty()
            }),
            Property::eventually("ends", |_, state: &State| state.end.is_some()),
            Property::sometimes("completes", |_, state: &State| state.end.is_some() && !state.back),
        ]
    }
}

fn record_name(plan: &Plan) -> String {
    plan.stem()
}

fn explore(model: Migration) {
    let checker = model.checker().threads(2).spawn_bfs().join();
    for (name, path) in checker.discoveries() {
        if checker
            .model()
            .properties()
            .iter()
            .any(|it| it.name == name && it.expectation != stateright::Expectation::Sometimes)
        {
            let steps: Vec<String> = path.clone().into_actions().iter().map(brief).collect();
            let last = path.into_states().pop();
            let last = last.map(|state| (state.simulation.violation, state.end));
            panic!("{name} fails after\n  {}\n{last:?}", steps.join("\n  "));
        }
    }
    checker.assert_properties();
}

fn brief(act: &Act) -> String {
    match act {
        Act::Call(action) | Act::SendLate(action) => {
            let late = if matches!(act, Act::SendLate(_)) { " LATE" } else { "" };
            format!("{:?} {:?}{late}", action.step, action.target())
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn one_by_one_forward_with_crashes() {
    explore(Migration { plan: fixtures::plan(2, 1), may_turn: false, may_be_late: false });
}

#[test]
fn one_by_one_and_back_from_anywhere() {
    explore(Migration { plan: fixtures::plan(2, 1), may_turn: true, may_be_late: false });
}

#[test]
fn a_late_call_does_no_harm() {
    explore(Migration { plan: fixtures::plan(1, 1), may_turn: true, may_be_late: true });
}

#[test]
fn a_single_claim_and_back_from_anywhere() {
    explore(Migration { plan: fixtures::claim_plan(), may_turn: true, may_be_late: false });
}

#[test]
fn together_and_back_from_anywhere() {
    let mut plan = fixtures::plan(2, 1);
    plan.choices.order = Order::Together;
    explore(Migration { plan, may_turn: true, may_be_late: false });
}
