//! Events for people and reports: one JSON line per fact that changed, act, wait and answer. Their kinds
//! and fields are documented in `examples/events.md`: whoever changes one here changes it there.
//!
//! Nothing is decided from them, and no values of objects are in them (TL-18): only who, what, when.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::act::Outcome;
use crate::decide::{Action, Confirmation, Done, Goal};
use crate::drive::{Answer, Ended};
use crate::plan::Plan;
use crate::record::{Direction, Subject};
use crate::world::{Ec2Volume, Kind, Side, Unknown, VolumeAnswer, VolumeFacts, VolumeId};

/// Where events go.
#[derive(Default)]
pub(crate) struct Events {
    file: Option<File>,
}

/// One event.
pub(crate) struct Event(Value);

impl Events {
    /// Returns events that are appended to a file, or go nowhere.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn new(file: Option<&Path>) -> anyhow::Result<Events> {
        let file = match file {
            Some(path) => Some(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .with_context(|| format!("open events file `{}`", path.display()))?,
            ),
            None => None,
        };
        Ok(Events { file })
    }

    /// Returns whether somebody wants them.
    pub(crate) fn is_on(&self) -> bool {
        self.file.is_some()
    }

    /// Appends an event with the time of now. A full disk stops the events and not the migration.
    pub(crate) fn write(&mut self, event: Event) {
        let Some(file) = &mut self.file else {
            return;
        };
        let Value::Object(fields) = event.0 else {
            return;
        };
        let mut whole = serde_json::Map::new();
        whole.insert("time".to_owned(), json!(jiff::Timestamp::now().to_string()));
        whole.extend(fields);
        let mut line = Value::Object(whole).to_string();
        line.push('\n');
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::warn!(%error, "events cannot be written");
            self.file = None;
        }
    }

    /// Appends an event if there is one.
    pub(crate) fn write_if(&mut self, event: Option<Event>) {
        if let Some(event) = event {
            self.write(event);
        }
    }
}

impl Event {
    /// An object that was seen, has changed, is gone.
    pub(crate) fn object(side: Side, kind: Kind, name: &str, change: &str) -> Event {
        Event::of("fact", json!({ "side": side, "kind": kind.name(), "name": name, "change": change }))
    }

    /// A read without an answer.
    pub(crate) fn unanswered(side: Side, kind: Kind, name: Option<&str>, unknown: &Unknown) -> Event {
        Event::of("unknown", json!({ "side": side, "kind": kind.name(), "name": name, "reason": unknown.reason }))
    }

    /// What EC2 said of a volume, none when that is what it said last.
    pub(crate) fn volume(id: &VolumeId, known: Option<&VolumeFacts>, answer: &VolumeAnswer) -> Option<Event> {
        let said = |answer: Result<Option<&Ec2Volume>, &Unknown>| match answer {
            Ok(Some(volume)) => json!({
                "state": volume.state,
                "instances": volume.attachments.iter().map(|attachment| &attachment.instance).collect::<Vec<_>>(),
            }),
            Ok(None) => json!({ "state": "not-found", "instances": [] }),
            Err(unknown) => json!({ "state": "unknown", "reason": unknown.reason }),
        };
        let before = known.and_then(VolumeFacts::latest).map(|latest| said(latest.map(|(_, volume)| volume)));
        let now = said(answer.as_ref().map(Option::as_ref));
        if before.as_ref() == Some(&now) {
            return None;
        }
        let mut fields = json!({ "volume": id });
        if let (Value::Object(fields), Value::Object(now)) = (&mut fields, now) {
            fields.extend(now);
        }
        Some(Event::of("volume", fields))
    }

    /// An answer to a question.
    pub(crate) fn answer(asked: &Confirmation, answer: Answer) -> Event {
        let (question, ordinal) = question(asked);
        let answer = match answer {
            Answer::Yes => "yes",
            Answer::All => "all",
            Answer::No => "no",
        };
        Event::of("answer", json!({ "question": question, "ordinal": ordinal, "answer": answer }))
    }

    /// A call, and what it came to.
    pub(crate) fn act(action: &Action, outcome: &Outcome) -> Event {
        let target = action.target();
        let (outcome, reason) = match outcome {
            Outcome::Done => ("done", None),
            Outcome::Overtaken(reason) => ("overtaken", Some(reason)),
            Outcome::Unknown(reason) => ("unknown", Some(reason)),
            Outcome::Refused(reason) => ("refused", Some(reason)),
        };
        Event::of(
            "act",
            json!({
                "step": action.step,
                "side": target.map(|(side, ..)| side),
                "kind": target.map(|(_, kind, _)| kind.name()),
                "name": target.map(|(.., name)| name),
                "outcome": outcome,
                "reason": reason,
            }),
        )
    }

    /// The beginning of a run.
    pub(crate) fn begin(plan: &Plan, goal: &Goal) -> Event {
        let is_back = goal.direction == Direction::Back;
        let subject = match plan.subject() {
            Subject::Set => "set",
            Subject::Claim => "claim",
        };
        Event::of(
            "begin",
            json!({
                "version": env!("CARGO_PKG_VERSION"),
                "migration": plan.mark(),
                subject: plan.name(),
                "direction": if is_back { "back" } else { "forward" },
                "until": (!is_back).then(|| goal.until.to_string()),
            }),
        )
    }

    /// The end of a run.
    pub(crate) fn end(ended: &Ended) -> Event {
        let (how, reason) = match ended {
            Ended::Done(Done::Reached(until)) => ("reached", Some(until.to_string())),
            Ended::Done(Done::PausedAfter(ordinal)) => ("pausedAfter", Some(ordinal.to_string())),
            Ended::Done(Done::Completed) => ("completed", None),
            Ended::Done(Done::RolledBack) => ("rolledBack", None),
            Ended::Stopped(stop) => ("stopped", Some(stop.to_string())),
            Ended::Declined(asked) => ("declined", Some(question(asked).0.to_owned())),
            Ended::Interrupted(signal) => ("interrupted", Some((*signal).to_owned())),
            Ended::Locked(held_by) => ("locked", Some(held_by.to_string())),
            Ended::LockFailed(error) => ("lockFailed", Some(format!("{error:#}"))),
        };
        Event::of("end", json!({ "how": how, "reason": reason }))
    }

    /// Anything else, by its kind of event. Fields that are null are left out.
    pub(crate) fn of(event: &str, fields: Value) -> Event {
        let mut whole = serde_json::Map::new();
        whole.insert("event".to_owned(), json!(event));
        if let Value::Object(fields) = fields {
            whole.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
        }
        Event(Value::Object(whole))
    }
}

/// Returns what was asked, and about which ordinal.
fn question(asked: &Confirmation) -> (&'static str, Option<i64>) {
    match asked {
        Confirmation::Freeze => ("freeze", None),
        Confirmation::Pod(ordinal) => ("pod", Some(*ordinal)),
        Confirmation::AllPods => ("allPods", None),
        Confirmation::Cutover => ("cutover", None),
        Confirmation::Deleting => ("deleting", None),
        Confirmation::Rollback => ("rollback", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines_of_json_with_a_time() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("events.jsonl");
        for name in ["web-0", "web-1"] {
            let mut events = Events::new(Some(&path)).expect("the file opens");
            events.write(Event::object(Side::Source, Kind::Pod, name, "gone"));
        }
        let text = std::fs::read_to_string(&path).expect("the file was written");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["name"], "web-1");
        assert!(lines[0]["time"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()));
    }
}
