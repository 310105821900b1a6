//! A run on the simulation: the tool acts, the clusters move.

use serde_json::{Value, json};

use super::simulation::{Move, Simulation};
use crate::decide::{Command, Confirmation, Goal, Next, Step, Stop, decide};
use crate::plan::Plan;
use crate::record::Record;
use crate::world::{Kind, Side, VolumeId, World};

/// A run without faults: the tool acts whenever it may, the clusters move whenever it waits.
pub(super) struct Run {
    pub(super) simulation: Simulation,
    pub(super) goal: Goal,
    /// What the clusters do not get done.
    pub(super) held: Vec<Move>,
    pub(super) steps: Vec<Step>,
    pub(super) questions: Vec<Confirmation>,
    pub(super) commands: Vec<Command>,
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
