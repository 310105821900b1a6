//! The loop: observe, decide, confirm, act; with clocks, events and signals.
//!
//! It knows no Kubernetes rules. What it remembers is the confirmations that were given, the clocks
//! that run and the commands that ended; everything else is looked at again.

use std::collections::{BTreeSet, HashSet};
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use tokio::time::Instant;

use crate::connect::Endpoints;
use crate::decide::{Action, Confirmation, Done, Goal, Next, Stop, Wait, decide};
use crate::events::{Event, Events};
use crate::observe::{self, Watches};
use crate::plan::Plan;
use crate::record::{Cutover, Direction, LastFailure, Record};
use crate::store::{self, Gained, HeldBy, Lock, LockError, LockProgress, Untidy};
use crate::translate::Pairs;
use crate::ui::Ui;
use crate::world::{Answer as Known, CLUSTER_NAMESPACE, Kind, Read, Side, World};

mod acting;
mod clocks;
mod command;
mod signals;
mod waiting;

use acting::Attempts;
use clocks::Clocks;
pub(crate) use signals::Signals;
use waiting::Polls;

/// How many looks in a row without an act or a wait are too many: `decide` asks for what it has.
const LOOKS: usize = 500;

/// How long the several waits may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// `--detach-timeout`.
    pub(crate) detach: Duration,
    /// `--ready-timeout`.
    pub(crate) ready: Duration,
    /// `--command-timeout`.
    pub(crate) command: Duration,
}

/// Commands of the operator's, as given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandLines {
    /// `--before-pod-command`.
    pub(crate) before_pod: Option<String>,
    /// `--verify-command`.
    pub(crate) verify: Option<String>,
    /// `--cutover-command`.
    pub(crate) cutover: Option<String>,
}

/// How a run is to be made; unlike the plan's choices, each run may say otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Time-outs.
    pub(crate) timeouts: Timeouts,
    /// Commands of the operator's.
    pub(crate) commands: CommandLines,
}

/// What one process works with: endpoints, and what it saw there.
pub(crate) struct Session {
    /// Everything that is talked to.
    pub(crate) endpoints: Endpoints,
    /// What was seen.
    pub(crate) world: World,
    /// Where events go.
    pub(crate) events: Events,
}

impl Session {
    /// Returns a session that has seen nothing yet.
    pub(crate) fn new(endpoints: Endpoints, events: Events) -> Session {
        Session { endpoints, world: World::default(), events }
    }

    /// Performs reads.
    pub(crate) async fn look(&mut self, reads: impl IntoIterator<Item = Read>) {
        observe::look(&self.endpoints, &mut self.world, &mut self.events, reads).await;
    }

    /// Forgets what was seen; sequence numbers go on.
    fn forget(&mut self) {
        let seq = self.world.seq;
        self.world = World::default();
        self.world.seq = seq;
        self.world.settled = seq;
    }
}

/// What a person answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Do it.
    Yes,
    /// Do it, and ask no more about the same kind of step.
    All,
    /// Pause here.
    No,
}

/// What the loop is doing, for bars and lines.
pub(crate) enum Progress<'a> {
    /// Another run's Lease is watched.
    Locked(LockProgress),
    /// The clusters are being looked at.
    Looking,
    /// These calls are about to be made.
    Acting(&'a [Action]),
    /// A line of output of a command of the operator's.
    Output(&'a str),
    /// Somebody else's move is waited for.
    Waiting {
        /// What for.
        wait: &'a Wait,
        /// For how long already.
        elapsed: Duration,
        /// How long at most.
        limit: Duration,
        /// What is seen meanwhile.
        world: &'a World,
    },
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The goal is reached.
    Done(Done),
    /// Nothing more may be touched.
    Stopped(Stop),
    /// A person said no.
    Declined(Confirmation),
    /// A signal of this name came.
    Interrupted(&'static str),
    /// Another run holds the lock.
    Locked(HeldBy),
    /// The lock could not be had or kept: a server refuses, or has no answer.
    LockFailed(anyhow::Error),
}

/// Drives a migration to its goal, or to where it must pause.
///
/// Takes the lock first and gives it back in the end. What is written before that lock: nothing.
pub(crate) async fn drive(
    session: &mut Session,
    plan: &Plan,
    goal: &Goal,
    options: &Options,
    signals: &mut Signals,
    ui: &mut Ui,
) -> Ended {
    session.events.write(Event::begin(plan, goal));
    let ended = under_lock(session, plan, goal, options, signals, ui).await;
    session.events.write(Event::end(&ended));
    ended
}

async fn under_lock(
    session: &mut Session,
    plan: &Plan,
    goal: &Goal,
    options: &Options,
    signals: &mut Signals,
    ui: &mut Ui,
) -> Ended {
    if let Some(stop) = other_cluster(session, plan).await {
        return Ended::Stopped(stop);
    }
    let (lock, gained) = match lock(session, plan, signals, ui).await {
        Ok(gained) => gained,
        Err(ended) => return ended,
    };
    if let Err(ended) = make_ready(session, plan, &lock, gained).await {
        lock.release().await;
        return ended;
    }
    let mut run = Run {
        session,
        plan,
        pairs: Pairs::of(plan),
        goal,
        options,
        signals,
        ui,
        lock,
        watches: None,
        granted: HashSet::new(),
        granted_kinds: HashSet::new(),
        clocks: Clocks::default(),
        attempts: Attempts::default(),
        known: BTreeSet::new(),
        is_resumed: false,
        polls: Polls::default(),
        fallback: None,
        woken: None,
        last_outcome: None,
    };
    // What was seen before the lock was had may be another run's half of a step.
    run.session.forget();
    let ended = match run.turns().await {
        Ok(done) => Ended::Done(done),
        Err(ended) => ended,
    };
    run.finish(&ended).await;
    ended
}

/// Compares the clusters with those of the plan before anything is written, the Lease included (TL-5).
async fn other_cluster(session: &mut Session, plan: &Plan) -> Option<Stop> {
    session.look(Side::BOTH.map(|side| Read::Get(side, Kind::Namespace, CLUSTER_NAMESPACE.to_owned()))).await;
    for side in Side::BOTH {
        let planned = plan.place(side).cluster_uid.clone();
        match session.world.get(side, Kind::Namespace, CLUSTER_NAMESPACE) {
            Known::Present { object, .. } if object.uid() == planned => {}
            Known::Present { object, .. } => {
                return Some(Stop::OtherCluster { side, planned, found: object.uid().to_owned() });
            }
            Known::Unknown(unknown) => {
                let read = format!("Namespace {CLUSTER_NAMESPACE} in the {side} cluster");
                return Some(Stop::Refused { read, reason: unknown.reason.clone() });
            }
            Known::Absent { .. } | Known::Unread => {
                return Some(Stop::OtherCluster { side, planned, found: "none".to_owned() });
            }
        }
    }
    None
}

/// Takes the lock; a signal meanwhile ends the run.
async fn lock(session: &Session, plan: &Plan, signals: &mut Signals, ui: &mut Ui) -> Result<(Lock, Gained), Ended> {
    let name = plan.stem();
    let endpoints = &session.endpoints;
    let namespace = async {
        if plan.choices.create_namespace { store::ensure_namespace(&endpoints.destination).await } else { Ok(()) }
    };
    let mut progress = |seen| ui.progress(Progress::Locked(seen));
    let lock = Lock::new(endpoints, &name).map_err(Ended::LockFailed)?;
    let acquired = tokio::select! {
        acquired = lock.acquire(namespace, &mut progress) => acquired.map_err(|error| match error {
            LockError::Held(held_by) => Ended::Locked(held_by),
            LockError::Failed(error) => Ended::LockFailed(error),
        }),
        signal = signals.caught() => Err(Ended::Interrupted(signal)),
    };
    match acquired {
        Ok(gained) => Ok((lock, gained)),
        Err(ended) => {
            lock.release().await;
            Err(ended)
        }
    }
}

/// Fences off a former holder that may be asleep, and clears away what killed runs left of plans.
async fn make_ready(session: &Session, plan: &Plan, lock: &Lock, gained: Gained) -> Result<(), Ended> {
    if gained == Gained::TakenOver {
        store::fence(&session.endpoints, plan).await.map_err(Ended::LockFailed)?;
        lock.fenced();
    }
    store::tidy(&session.endpoints, plan).await.map_err(|untidy| match untidy {
        Untidy::OtherPlan(side) => Ended::Stopped(Stop::OtherPlan { side }),
        Untidy::Failed(error) => Ended::LockFailed(error),
    })
}

/// One run of the loop.
struct Run<'a> {
    session: &'a mut Session,
    plan: &'a Plan,
    pairs: Pairs,
    goal: &'a Goal,
    options: &'a Options,
    signals: &'a mut Signals,
    ui: &'a mut Ui,
    lock: Lock,
    /// Started when the loop first waits.
    watches: Option<Watches>,
    granted: HashSet<Confirmation>,
    granted_kinds: HashSet<Discriminant<Confirmation>>,
    clocks: Clocks,
    attempts: Attempts,
    /// What was ever looked at, to be looked at again when everything must be.
    known: BTreeSet<Read>,
    /// Whether the last run's pause was taken back.
    is_resumed: bool,
    /// Back-off of what is polled in the current wait.
    polls: Polls,
    /// When everything is looked at although no watch said so.
    fallback: Option<Instant>,
    /// When the last wait ended.
    woken: Option<Instant>,
    /// What the last call that was not done came to.
    last_outcome: Option<String>,
}

impl Run<'_> {
    async fn turns(&mut self) -> Result<Done, Ended> {
        let mut looks = 0;
        let mut is_verified = false;
        loop {
            if let Some(signal) = self.signals.was_caught() {
                return Err(Ended::Interrupted(signal));
            }
            self.session.world.clock = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            match decide(self.plan, &self.pairs, self.goal, &self.session.world) {
                Next::Look(reads) => {
                    looks += 1;
                    if looks > LOOKS {
                        return Err(Ended::Stopped(Stop::Stuck { reads: format!("{reads:?}") }));
                    }
                    self.ui.progress(Progress::Looking);
                    self.look(reads).await;
                    continue;
                }
                // A question alone changes nothing, nor why the last run failed.
                Next::Act { needs: Some(needs), .. } if !self.is_granted(&needs) => self.ask(needs).await?,
                Next::Act { .. } | Next::Wait(_) if !self.is_resumed => self.resume().await,
                Next::Act { actions, .. } => self.act(actions).await?,
                Next::Wait(wait) => self.wait(wait).await?,
                // Watches bring single facts: a stop may rest on half of what another run has done.
                Next::Stop(_) if !is_verified => {
                    is_verified = true;
                    if self.lock.is_firm() {
                        self.look_again().await
                    } else {
                        self.regain().await?
                    }
                    continue;
                }
                Next::Stop(stop) => return Err(Ended::Stopped(stop)),
                Next::Done(done) => return Ok(done),
            }
            (looks, is_verified) = (0, false);
        }
    }

    /// Performs reads and remembers what was read.
    async fn look(&mut self, reads: Vec<Read>) {
        let again = reads.iter().filter(|read| matches!(read, Read::List(..) | Read::Get(..)));
        self.known.extend(again.cloned());
        self.session.look(reads).await;
    }

    /// Looks at everything again. Nothing that was seen before counts as fresh any more.
    async fn look_again(&mut self) {
        self.session.world.settled = self.session.world.seq;
        let is_listed = |side: Side, kind: Kind| self.known.contains(&Read::List(side, kind));
        let reads: Vec<Read> = self
            .known
            .iter()
            .filter(|read| !matches!(read, Read::Get(side, kind, _) if is_listed(*side, *kind)))
            .cloned()
            .collect();
        self.session.look(reads).await;
    }

    /// Takes back what the last run left in the record: this one goes on.
    async fn resume(&mut self) {
        self.is_resumed = true;
        let amended = store::amend(&self.session.endpoints, self.plan, |record| {
            record.paused = false;
            record.last_failure = None;
        });
        if let Err(error) = amended.await {
            tracing::warn!(%error, "the last pause was not taken back");
        }
        self.session.world.settled = self.session.world.seq;
        let name = self.plan.stem();
        self.look(Side::BOTH.map(|side| Read::Get(side, Kind::ConfigMap, name.clone())).to_vec()).await;
    }

    fn is_granted(&self, confirmation: &Confirmation) -> bool {
        self.granted.contains(confirmation) || self.granted_kinds.contains(&discriminant(confirmation))
    }

    /// Asks a person; after the answer the world is looked at again.
    async fn ask(&mut self, confirmation: Confirmation) -> Result<(), Ended> {
        let answer = tokio::select! {
            answer = self.ui.confirm(&confirmation, self.plan, &self.session.world) => answer,
            signal = self.signals.caught() => return Err(Ended::Interrupted(signal)),
        };
        self.session.events.write(Event::answer(&confirmation, answer));
        match answer {
            Answer::No => return Err(Ended::Declined(confirmation)),
            Answer::All => {
                self.granted_kinds.insert(discriminant(&confirmation));
            }
            Answer::Yes => {
                self.granted.insert(confirmation);
            }
        }
        self.look_again().await;
        Ok(())
    }

    /// Gets the lock again; afterwards everything is looked at again.
    async fn regain(&mut self) -> Result<(), Ended> {
        let ui = &mut *self.ui;
        let mut progress = |seen| ui.progress(Progress::Locked(seen));
        let gained = tokio::select! {
            gained = self.lock.regain(&mut progress) => gained,
            signal = self.signals.caught() => return Err(Ended::Interrupted(signal)),
        };
        match gained {
            Ok(Gained::Freely) => {}
            Ok(Gained::TakenOver) => {
                store::fence(&self.session.endpoints, self.plan).await.map_err(Ended::LockFailed)?;
                self.lock.fenced();
            }
            Err(LockError::Held(held_by)) => return Err(Ended::Locked(held_by)),
            Err(LockError::Failed(error)) => return Err(Ended::LockFailed(error)),
        }
        self.look_again().await;
        Ok(())
    }

    /// Says in the record why the run ended, as far as that is possible, and gives the lock back.
    async fn finish(&mut self, ended: &Ended) {
        let pause = match ended {
            Ended::Done(Done::Completed | Done::RolledBack) => {
                // The outcome is in both records: from here on the plan is history.
                if let Err(error) = store::drop_plan(&self.session.endpoints, self.plan).await {
                    tracing::warn!(%error, "the plan was not deleted");
                }
                self.lock.remove().await;
                return;
            }
            Ended::Stopped(Stop::Ended { .. }) => {
                self.lock.remove().await;
                return;
            }
            Ended::Done(Done::PausedAfter(_)) | Ended::Declined(_) | Ended::Interrupted(_) => Pause::Asked,
            Ended::Stopped(stop) if !stop.is_refusal() => Pause::Failed(stop.to_string()),
            Ended::LockFailed(error) => Pause::Failed(format!("{error:#}")),
            Ended::Done(Done::Reached(_)) | Ended::Stopped(_) | Ended::Locked(_) => Pause::None,
        };
        // Only under the lock: a record that another run writes is not ours to amend.
        if self.lock.is_firm() {
            let at = self.session.world.clock.clone();
            let step = self.phase();
            let amended = match pause {
                Pause::None => Ok(()),
                Pause::Asked => store::amend(&self.session.endpoints, self.plan, |record| record.paused = true).await,
                Pause::Failed(reason) => {
                    store::amend(&self.session.endpoints, self.plan, |record| {
                        let (step, reason, at) = (step.to_owned(), reason.clone(), at.clone());
                        record.last_failure = Some(LastFailure { step, reason, at });
                    })
                    .await
                }
            };
            if let Err(error) = amended {
                tracing::warn!(%error, "the record does not say why the run ended");
            }
        }
        self.lock.release().await;
    }

    /// Returns the phase that the migration is in, for people.
    fn phase(&self) -> &'static str {
        let config_map = self.session.world.object(Side::Source, Kind::ConfigMap, &self.plan.stem());
        let Some(record) = config_map.and_then(|object| Record::read(object).ok()) else {
            return "prepare";
        };
        let is_frozen = self.session.world.object(Side::Source, Kind::StatefulSet, self.plan.name()).is_none();
        match record {
            record if record.direction == Direction::Back => "rollback",
            record if record.deleting => "finalize",
            record if record.cutover != Cutover::NotBegun => "cutover",
            record if record.frozen_at.is_some() && is_frozen => "swing",
            record if record.frozen_at.is_some() => "freeze",
            _ => "prepare",
        }
    }
}

/// What the record shall say of the end of a run.
enum Pause {
    None,
    Asked,
    Failed(String),
}
