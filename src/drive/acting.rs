//! Acting: calls side by side, each only while the lock is firm, and none repeated for ever.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::time::Instant;

use super::waiting::backoff;
use super::{Ended, Progress, Run};
use crate::act::{self, Outcome};
use crate::decide::{Action, Stop, Verb};
use crate::events::Event;
use crate::observe::PARALLEL;
use crate::world::{Kind, Read, Side};

/// How often the same call may be decided on before it is made with a pause, and then for how long
/// it is tried: an API server that is overloaded, a controller that undoes what was done.
const QUICKLY: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// More objects than this of one kind are looked at by one list after an act.
const NAMES_PER_KIND: usize = 32;

/// How often each call was made.
#[derive(Default)]
pub(super) struct Attempts {
    made: HashMap<String, (u32, Instant)>,
}

impl Attempts {
    /// Counts a call; returns how often it was made before, and since when.
    fn count(&mut self, action: &Action) -> (u32, Duration) {
        let entry = self.made.entry(key(action)).or_insert_with(|| (0, Instant::now()));
        let before = (entry.0, entry.1.elapsed());
        entry.0 += 1;
        before
    }
}

/// Returns what makes two calls the same: everything but the resourceVersion.
fn key(action: &Action) -> String {
    match &action.verb {
        Verb::Patch { side, kind, name, uid, patch, .. } => {
            format!("{:?} {side} {kind} {name} {uid} {patch}", action.step)
        }
        Verb::Delete { side, kind, name, uid, .. } => format!("{:?} {side} {kind} {name} {uid}", action.step),
        Verb::Create { .. } => format!("{:?} {:?}", action.step, action.target()),
        Verb::Run(command) => format!("{command:?}"),
    }
}

impl Run<'_> {
    /// Makes calls, then looks at what they touched.
    pub(super) async fn act(&mut self, actions: Vec<Action>) -> Result<(), Ended> {
        if !self.lock.is_firm() {
            // What was decided before the lock was gained again is not acted on.
            return self.regain().await;
        }
        self.hold_back(&actions).await?;
        self.ui.progress(Progress::Acting(&actions));
        let (commands, calls): (Vec<Action>, Vec<Action>) =
            actions.into_iter().partition(|action| matches!(action.verb, Verb::Run(_)));
        for command in &commands {
            self.run_command(command).await?;
        }
        let outcomes = self.send(&calls).await;
        // What follows was read after the calls; what was seen before them is stale.
        self.session.world.settled = self.session.world.seq;
        let result = self.judge(outcomes);
        self.look(touched(&calls)).await;
        result
    }

    /// Pauses before calls that did not help so far, and gives up on them in the end.
    async fn hold_back(&mut self, actions: &[Action]) -> Result<(), Ended> {
        let mut pause = Duration::ZERO;
        for action in actions {
            let (made, since) = self.attempts.count(action);
            if made > QUICKLY && since > PATIENCE {
                let reason = self.last_outcome.clone().unwrap_or_else(|| "somebody undoes it".to_owned());
                return Err(Ended::Stopped(Stop::ActUnheeded { what: name(action), times: made, reason }));
            }
            if made >= QUICKLY {
                pause = pause.max(backoff(made - QUICKLY, 0));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            signal = self.signals.caught() => Err(Ended::Interrupted(signal)),
        }
    }

    /// Makes the calls side by side. A signal or a weak lock keeps back those that were not begun.
    async fn send(&mut self, calls: &[Action]) -> Vec<(Action, Option<Outcome>)> {
        let (lock, signals, endpoints) = (&self.lock, &self.signals, &self.session.endpoints);
        let mut outcomes = stream::iter(calls.iter().cloned())
            .map(|action| async move {
                if signals.was_caught().is_some() || !lock.is_firm() {
                    return (action, None);
                }
                let outcome = act::perform(endpoints, &action.verb).await;
                (action, Some(outcome))
            })
            .buffer_unordered(PARALLEL);
        let mut all = Vec::with_capacity(calls.len());
        while let Some((action, outcome)) = outcomes.next().await {
            all.push((action, outcome));
        }
        all
    }

    /// Returns what the outcomes mean for the run: only a refusal ends it.
    fn judge(&mut self, outcomes: Vec<(Action, Option<Outcome>)>) -> Result<(), Ended> {
        let mut result = Ok(());
        for (action, outcome) in outcomes {
            let Some(outcome) = outcome else { continue };
            self.session.events.write(Event::act(&action, &outcome));
            match outcome {
                Outcome::Done => {}
                Outcome::Overtaken(reason) | Outcome::Unknown(reason) => {
                    tracing::info!(step = ?action.step, %reason, "the call is decided anew");
                    self.last_outcome = Some(reason);
                }
                Outcome::Refused(reason) => {
                    result = Err(Ended::Stopped(Stop::ActRefused { what: name(&action), reason }));
                }
            }
        }
        result
    }
}

/// Returns the reads of what calls touched.
fn touched(calls: &[Action]) -> Vec<Read> {
    let mut names: BTreeMap<(Side, Kind), Vec<String>> = BTreeMap::new();
    for (side, kind, name) in calls.iter().filter_map(Action::target) {
        names.entry((side, kind)).or_default().push(name.to_owned());
    }
    names
        .into_iter()
        .flat_map(|((side, kind), names)| {
            if names.len() > NAMES_PER_KIND {
                vec![Read::List(side, kind)]
            } else {
                names.into_iter().map(|name| Read::Get(side, kind, name)).collect()
            }
        })
        .collect()
}

/// Returns a call in words.
fn name(action: &Action) -> String {
    let verb = match &action.verb {
        Verb::Create { .. } => "create",
        Verb::Patch { .. } => "patch",
        Verb::Delete { .. } => "delete",
        Verb::Run(_) => "run",
    };
    match action.target() {
        Some((side, kind, name)) => format!("{verb} {kind} {name} in the {side} cluster"),
        None => format!("{verb} a command"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decide::Step;
    use crate::world::Object;

    #[test]
    fn the_same_patch_on_a_newer_version_is_the_same_call() {
        let patch = |version: &str, replicas: i64| {
            let seen = Object(json!({ "metadata": { "name": "web", "uid": "u", "resourceVersion": version } }));
            let change = json!({ "spec": { "replicas": replicas } });
            Action::patch(Step::Grow, Side::Destination, Kind::StatefulSet, &seen, change)
        };
        let mut attempts = Attempts::default();
        assert_eq!(attempts.count(&patch("1", 1)).0, 0);
        assert_eq!(attempts.count(&patch("2", 1)).0, 1);
        assert_eq!(attempts.count(&patch("2", 2)).0, 0);
    }

    #[test]
    fn many_touched_objects_are_listed() {
        let create = |number: usize| {
            let object = json!({ "metadata": { "name": format!("pv-{number}") } });
            Action::create(Step::CreateVolume, Side::Destination, Kind::PersistentVolume, object)
        };
        let few: Vec<Action> = (0..2).map(create).collect();
        assert_eq!(touched(&few).len(), 2);
        let many: Vec<Action> = (0..33).map(create).collect();
        assert_eq!(touched(&many), [Read::List(Side::Destination, Kind::PersistentVolume)]);
    }
}
