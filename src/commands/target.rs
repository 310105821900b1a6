//! Which migration is meant, and what the clusters keep of it.

use std::collections::BTreeSet;

use super::opened::Opened;
use crate::failure::{Exit, Failure};
use crate::names::did_you_mean;
use crate::plan::Plan;
use crate::record::{Outcome, Record, Subject, in_force};
use crate::store;
use crate::ui::Ui;
use crate::world::Side;

/// Which migrations are meant when nothing is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Open ones of sets: for commands that move no claim.
    OpenSet,
    /// Open ones.
    Open,
    /// Open ones, or else those that have ended.
    Any,
}

impl Which {
    fn may_be(self, moved: &(Subject, String)) -> bool {
        self != Which::OpenSet || moved.0 == Subject::Set
    }
}

/// What the clusters keep of the migration of one set or claim.
#[derive(Debug)]
pub(super) struct Target {
    /// Whether it is a set or a claim.
    pub(super) subject: Subject,
    /// Its name.
    pub(super) name: String,
    /// The record in force.
    pub(super) record: Option<Record>,
    /// The plan.
    pub(super) plan: Option<Plan>,
    /// What could not be read.
    pub(super) unread: Vec<String>,
    /// Highest attempt that any record names; 0 when there is none.
    pub(super) attempts: u32,
}

impl Target {
    /// Returns whether there is a migration that has not ended, or whose ending was interrupted.
    pub(super) fn is_unfinished(&self) -> bool {
        self.plan.is_some() || self.record.as_ref().is_some_and(Record::is_open)
    }

    /// Returns how the migration ended, if it did.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.record.as_ref().and_then(|record| record.outcome)
    }

    /// Passes when what is known of this migration is all that there is to know, or enough to go on with.
    ///
    /// # Errors
    /// A cluster had no answer, and the other knows of nothing open: that is no sign that nothing is.
    pub(super) fn is_certain(&self) -> Result<(), Failure> {
        if self.unread.is_empty() || self.is_unfinished() {
            return Ok(());
        }
        let claim = if self.subject == Subject::Claim { "claim " } else { "" };
        Err(uncertain(&format!("a migration of {claim}{} is open", self.name), &self.unread))
    }

    /// Returns the plan of an unfinished migration.
    ///
    /// # Errors
    /// It could not be read in either cluster.
    pub(super) fn planned(&self, opened: &Opened) -> Result<Plan, Failure> {
        self.plan.clone().ok_or_else(|| {
            let id = self.record.as_ref().map(|record| format!(" ({})", record.id)).unwrap_or_default();
            let mut failure = Failure::harmless(
                Exit::Refused,
                format!(
                    "there is an open migration of {}{id}, but its plan could not be read in either cluster",
                    self.name
                ),
                format!("give it back to a cluster from a backup of its Secrets, then {}", opened.typed.hint("status")),
            );
            failure.details.extend(self.unread.iter().cloned());
            failure
        })
    }
}

/// Finds the migration that is meant: by name, or the one open migration, or a person's choice.
///
/// # Errors
/// Nothing names the set or claim.
pub(super) async fn find(opened: &mut Opened, ui: &mut Ui, which: Which) -> Result<Target, Failure> {
    let (subject, name) = match (opened.spec.claim.clone(), opened.spec.stateful_set_name.clone()) {
        (Some(claim), _) => (Subject::Claim, claim),
        (None, Some(name)) => (Subject::Set, name),
        (None, None) => choose(opened, ui, which).await?,
    };
    opened.typed.named(subject, &name);
    let mut unread = Vec::new();
    let mut plan: Option<Plan> = None;
    let mut records: Vec<Record> = Vec::new();
    for side in Side::BOTH {
        // A's plan says in which namespace of B to look, unless the user said otherwise.
        if let Some(plan) = plan.as_ref().filter(|_| opened.spec.dest_namespace.is_none()) {
            let namespace = plan.destination.namespace.clone();
            opened.enter_destination(&namespace).await?;
        }
        match store::find(opened.cluster(side), subject, &name).await {
            Ok(found) => {
                match found.record {
                    Some(Ok(record)) => records.push(record),
                    Some(Err(reason)) => unread.push(format!("record in the {side} cluster: {reason}")),
                    None => {}
                }
                match found.plan {
                    Some(Ok(found)) => plan = plan.or(Some(found)),
                    Some(Err(reason)) => unread.push(format!("plan in the {side} cluster: {reason}")),
                    None => {}
                }
            }
            Err(unknown) => unread.push(format!("{side} cluster: {}", unknown.reason)),
        }
    }
    let attempts = records.iter().map(|record| record.attempt).max().unwrap_or_default();
    // The plan's own record counts; without a plan an open one, then the later attempt.
    let record = match &plan {
        Some(plan) => {
            let own: Vec<&Record> =
                records.iter().filter(|record| record.id == plan.id && record.attempt == plan.attempt).collect();
            match own.as_slice() {
                [left, right] => Some(in_force(left, right).clone()),
                [only] => Some((*only).clone()),
                _ => None,
            }
        }
        None => records.into_iter().max_by_key(|record| (record.is_open(), record.attempt, record.seq)),
    };
    Ok(Target { subject, name, record, plan, unread, attempts })
}

/// Returns which migrations are open where this one was looked for, the nearest by name; none if that is
/// not known.
pub(super) async fn open_here(opened: &Opened, subject: Subject, name: &str) -> Option<String> {
    let mut names = BTreeSet::new();
    for side in Side::BOTH {
        for found in store::list(opened.cluster(side), false).await.ok()? {
            let is_open = found.record.is_ok_and(|record| record.is_open());
            if let Some((_, name)) = found.subject.filter(|(of, _)| is_open && *of == subject) {
                names.insert(name);
            }
        }
    }
    (!names.is_empty())
        .then(|| format!("of the open migrations: {}", did_you_mean(name, names.iter().map(String::as_str))))
}

/// Chooses among the open migrations; for commands that only look, among ended ones if none is open.
async fn choose(opened: &Opened, ui: &mut Ui, which: Which) -> Result<(Subject, String), Failure> {
    let mut open = BTreeSet::new();
    let mut ended = BTreeSet::new();
    let mut unread = Vec::new();
    for side in Side::BOTH {
        match store::list(opened.cluster(side), false).await {
            Ok(listed) => {
                for found in listed {
                    let Some(moved) = found.subject.filter(|moved| which.may_be(moved)) else { continue };
                    let is_ended = found.record.is_ok_and(|record| !record.is_open());
                    if is_ended { &mut ended } else { &mut open }.insert(moved);
                }
            }
            Err(unknown) => unread.push(format!("{side} cluster: {}", unknown.reason)),
        }
    }
    let found: Vec<(Subject, String)> =
        if open.is_empty() && which == Which::Any { ended } else { open }.into_iter().collect();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] if unread.is_empty() => Err(none(opened, which).await),
        [] => Err(uncertain("a migration is open", &unread)),
        several if ui.can_ask() => match ui.choose("which migration is meant?", &titles(several)).await {
            Some(index) => Ok(several[index].clone()),
            None => Err(ambiguous(opened, several)),
        },
        several => Err(ambiguous(opened, several)),
    }
}

/// Returns the failure that it is not known whether something is so.
fn uncertain(what: &str, unread: &[String]) -> Failure {
    let mut failure = Failure::harmless(
        Exit::Failed,
        format!("it is not known whether {what}: a cluster had no answer"),
        "see that both clusters can be read, then run the same command again",
    );
    failure.details = unread.to_vec();
    failure.left_behind = vec!["everything as it was: this call changed nothing".to_owned()];
    failure
}

/// Returns the failure that nothing is open here, with what is open in other namespaces.
async fn none(opened: &Opened, which: Which) -> Failure {
    let source = opened.cluster(Side::Source);
    let hint = format!("name the StatefulSet: `{} NAME`", opened.typed.beginning("run"));
    let mut failure = match which {
        // The answer of a command that only looks.
        Which::Any => {
            let reason = format!("there is no migration in namespace {}", source.namespace);
            Failure::harmless(Exit::Failed, reason, hint)
        }
        Which::Open | Which::OpenSet => {
            let reason = format!("NAME is missing, and no migration is open in namespace {}", source.namespace);
            Failure::usage(reason, hint)
        }
    };
    // Rights that end at a namespace are no reason to fail in another way.
    for listed in store::list(source, true).await.unwrap_or_default() {
        if let Some((subject, name)) = &listed.subject
            && listed.record.as_ref().is_ok_and(Record::is_open)
        {
            let mut typed = opened.typed.clone().in_namespace(&listed.namespace);
            typed.named(*subject, name);
            failure.hints.push(format!("one is open in namespace {}: {}", listed.namespace, typed.hint("status")));
        }
    }
    failure
}

fn ambiguous(opened: &Opened, several: &[(Subject, String)]) -> Failure {
    let mut typed = opened.typed.clone();
    typed.named(several[0].0, &several[0].1);
    Failure::usage(
        format!("NAME is missing, and several migrations are there: {}", titles(several).join(", ")),
        format!("name one of them: {}", typed.hint("status")),
    )
}

/// Returns how sets and claims are listed: sets by their names alone.
fn titles(several: &[(Subject, String)]) -> Vec<String> {
    let title = |(subject, name): &(Subject, String)| match subject {
        Subject::Set => name.clone(),
        Subject::Claim => format!("claim {name}"),
    };
    several.iter().map(title).collect()
}
