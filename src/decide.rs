//! World in, next action out: the only place that knows the order of things.
//!
//! [`decide`] is pure. Resume after a crash, on any laptop, is: look at the world, read plan and
//! record from the clusters, call `decide`. Rollback is the other direction of the same function.

use crate::plan::{OrdinalPlan, Plan, SetPlan};
use crate::record::{Direction, Record, Subject};
use crate::translate::Pairs;
use crate::world::{Kind, Read, Side, World};

mod action;
mod back;
mod cutover;
mod facts;
mod finalize;
mod freeze;
mod gate;
mod ours;
mod prepare;
mod records;
mod stop;
mod swing;
mod wait;

#[cfg(test)]
mod tests;

pub use action::{Action, Command, Step, Verb};
pub use ours::{Ownership, ownership};
pub use stop::Stop;
pub(crate) use wait::ASKING_EC2;
pub use wait::{Clock, Condition, Wait};

/// How far a run shall go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Until {
    /// Everything is ready in B, nothing is down.
    Prepare,
    /// The set object in A is deleted, its pods run on.
    Freeze,
    /// All ordinals run in B.
    Swing,
    /// What publishes exists in B.
    Cutover,
    /// A is cleaned up.
    Finalize,
}

impl std::fmt::Display for Until {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Until::Prepare => "prepare",
            Until::Freeze => "freeze",
            Until::Swing => "swing",
            Until::Cutover => "cutover",
            Until::Finalize => "finalize",
        })
    }
}

/// What the operator wants of this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Forward, or back.
    pub direction: Direction,
    /// How far forward; going back always goes all the way.
    pub until: Until,
    /// The canary: stop after this ordinal.
    pub pause_after: Option<i64>,
    /// Nodes of which the operator says that they are off: they no longer hold what they last
    /// reported in `volumesInUse` (EC-5).
    pub accept_unclean_detach: Vec<String>,
    /// Which commands of the operator's there are to run.
    pub commands: Commands,
}

/// Which commands of the operator's there are to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// `--before-pod-command`.
    pub before_pod: bool,
    /// `--verify-command`.
    pub verify: bool,
    /// `--cutover-command`.
    pub cutover: bool,
}

impl Goal {
    /// Returns the goal to go forward up to a phase.
    pub fn forward(until: Until) -> Goal {
        Goal {
            direction: Direction::Forward,
            until,
            pause_after: None,
            accept_unclean_detach: Vec::new(),
            commands: Commands::default(),
        }
    }

    /// Returns the goal to undo everything.
    pub fn back() -> Goal {
        Goal { direction: Direction::Back, ..Goal::forward(Until::Finalize) }
    }
}

/// What a person must say yes to before an act.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Confirmation {
    /// From here on nothing heals A's pods.
    Freeze,
    /// The pod of this ordinal goes down.
    Pod(i64),
    /// All pods go down (`--order together`).
    AllPods,
    /// What publishes is created in B.
    Cutover,
    /// A's claims and PVs are deleted: the point of no return; asks for the set's name.
    Deleting,
    /// B is emptied and A gets the set back.
    Rollback,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Something must be looked at first, or again.
    Look(Vec<Read>),
    /// Calls that do not hang on each other: after a crash any subset of them is done.
    Act {
        /// The calls.
        actions: Vec<Action>,
        /// What must be confirmed before.
        needs: Option<Confirmation>,
    },
    /// Somebody else's move.
    Wait(Wait),
    /// Nothing more may be touched.
    Stop(Stop),
    /// The goal is reached.
    Done(Done),
}

/// Which goal is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The phase asked for is complete.
    Reached(Until),
    /// The ordinal asked for is moved and proven (`--pause-after`).
    PausedAfter(i64),
    /// The migration has ended: A is cleaned up.
    Completed,
    /// The migration is undone.
    RolledBack,
}

/// Returns the value, or what has to happen before it can be known.
type Flow<T> = Result<T, Next>;

/// What one decision looks at.
struct Decision<'a> {
    plan: &'a Plan,
    pairs: &'a Pairs,
    set: &'a SetPlan,
    goal: &'a Goal,
    world: &'a World,
    record: Record,
}

/// Decides what comes next.
///
/// `pairs` are those of the plan. Never does I/O and remembers nothing: the same plan, goal and world
/// give the same answer.
pub fn decide(plan: &Plan, pairs: &Pairs, goal: &Goal, world: &World) -> Next {
    match next(plan, pairs, goal, world) {
        Ok(done) => Next::Done(done),
        Err(next) => next,
    }
}

fn next(plan: &Plan, pairs: &Pairs, goal: &Goal, world: &World) -> Flow<Done> {
    let [set] = plan.sets.as_slice() else {
        return Err(Next::Stop(Stop::SeveralSets));
    };
    facts::base(plan, set, world)?;
    facts::same_clusters(plan, world)?;
    let record = records::settle(plan, goal, world)?;
    let decision = Decision { plan, pairs, set, goal, world, record };
    match goal.direction {
        Direction::Back => decision.back(),
        Direction::Forward => decision.forward(),
    }
}

impl Decision<'_> {
    /// Goes forward, and changes nothing on the strength of an old look at the sets.
    ///
    /// While something is waited for, watches say when a set changes. Whatever else is looked at, the
    /// sets are looked at side by side with it, since an act is likely to follow.
    fn forward(&self) -> Flow<Done> {
        let next = self.onward();
        let sets = match self.has_set() {
            true => Side::BOTH.map(|side| Read::Get(side, Kind::StatefulSet, self.set.name.clone())).to_vec(),
            false => Vec::new(),
        };
        match (next, facts::refresh(self.world, sets)) {
            (Err(Next::Look(mut reads)), Err(Next::Look(sets))) => {
                reads.extend(sets);
                Err(Next::Look(reads))
            }
            (Err(Next::Act { .. }) | Ok(_), Err(look)) => Err(look),
            (next, _) => next,
        }
    }

    fn onward(&self) -> Flow<Done> {
        if self.record.direction == Direction::Back {
            return Err(Next::Stop(Stop::RollbackBegun));
        }
        if self.record.deleting {
            return self.finalize();
        }
        self.prepare()?;
        if !self.has_set() {
            // A claim has nothing to freeze, no pod to start, and nothing that publishes it.
            self.all_home()?;
            return match self.goal.until {
                Until::Finalize => self.finalize(),
                until => Ok(Done::Reached(until)),
            };
        }
        if self.goal.until == Until::Prepare {
            return Ok(Done::Reached(Until::Prepare));
        }
        self.freeze()?;
        if self.goal.until == Until::Freeze {
            return Ok(Done::Reached(Until::Freeze));
        }
        if let Some(paused) = self.swing()? {
            return Ok(paused);
        }
        if self.goal.until == Until::Swing {
            return Ok(Done::Reached(Until::Swing));
        }
        self.cutover()?;
        if self.goal.until == Until::Cutover {
            return Ok(Done::Reached(Until::Cutover));
        }
        self.finalize()
    }

    /// Returns whether a set is moved, and not a single claim, for which there is nothing to freeze and
    /// no pod to start.
    fn has_set(&self) -> bool {
        self.plan.subject() == Subject::Set
    }

    /// Returns the ordinals that B's set has been grown to.
    fn handed_over(&self, replicas: i64) -> &[OrdinalPlan] {
        &self.set.ordinals[..(replicas.max(0) as usize).min(self.set.ordinals.len())]
    }
}
