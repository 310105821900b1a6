//! Events for people and reports: one JSON line per fact that changed, act, wait and answer.
//!
//! Nothing is decided from them, and no values of objects are in them (TL-18): only who, what, when.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::world::{Kind, Side, Unknown, VolumeAnswer, VolumeId};

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
        Event(json!({ "event": "fact", "side": side, "kind": kind.name(), "name": name, "change": change }))
    }

    /// A read without an answer.
    pub(crate) fn unanswered(side: Side, kind: Kind, name: Option<&str>, unknown: &Unknown) -> Event {
        Event(json!({ "event": "unknown", "side": side, "kind": kind.name(), "name": name, "reason": unknown.reason }))
    }

    /// What EC2 said of a volume.
    pub(crate) fn volume(id: &VolumeId, answer: &VolumeAnswer) -> Event {
        let said = match answer {
            Ok(Some(volume)) => json!({
                "state": format!("{:?}", volume.state),
                "instances": volume.attachments.iter().map(|attachment| &attachment.instance).collect::<Vec<_>>(),
            }),
            Ok(None) => json!({ "state": "NotFound" }),
            Err(unknown) => json!({ "unknown": unknown.reason }),
        };
        Event(json!({ "event": "volume", "volume": id, "said": said }))
    }

    /// Anything else, by its kind of event.
    pub(crate) fn of(event: &str, fields: Value) -> Event {
        let mut whole = serde_json::Map::new();
        whole.insert("event".to_owned(), json!(event));
        if let Value::Object(fields) = fields {
            whole.extend(fields);
        }
        Event(Value::Object(whole))
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
