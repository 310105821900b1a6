//! The API servers' audit logs: what is logged, and how it is read back.
//!
//! The log is written in blocking mode: a request that was answered is in the file. It has every
//! write of everybody with its body (that of a delete, too), and the reads of those on whom tests
//! look: the tool, the restricted users and the admin, without bodies. Reads of the components,
//! events and their own leases would only make it large.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::users;

/// Returns the API servers' audit policy. The first rule that matches a request decides.
pub(crate) fn policy() -> Value {
    let writes = ["create", "update", "patch", "delete", "deletecollection"];
    let watched = [users::TOOLS, users::RESTRICTED];
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        // A watch that is still open must show: its start is an event of its own.
        "omitStages": ["RequestReceived"],
        "rules": [
            { "level": "Request", "userGroups": watched, "verbs": writes },
            { "level": "Metadata", "userGroups": watched },
            { "level": "None", "resources": [
                { "group": "", "resources": ["events"] },
                { "group": "events.k8s.io", "resources": ["events"] },
                { "group": "coordination.k8s.io", "resources": ["leases"] },
                { "group": "authentication.k8s.io" },
                { "group": "authorization.k8s.io" },
            ] },
            { "level": "Request", "verbs": writes },
            { "level": "Metadata", "users": [users::ADMIN] },
            { "level": "None" },
        ],
    })
}

/// A place in an audit log: what follows it is newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(u64);

/// Returns the present end of a log.
pub(crate) fn mark(log: &Path) -> Result<Mark> {
    let length = log.metadata().with_context(|| format!("look at {}", log.display()))?.len();
    Ok(Mark(length))
}

/// Returns the events of a log from a mark on, as the API server wrote them.
///
/// A line that is being written is left for the next read. One that was being written when the mark
/// was set is older than the mark: its rest is left out.
pub(crate) fn read(log: &Path, from: Mark) -> Result<Vec<Value>> {
    let mut file = File::open(log).with_context(|| format!("open {}", log.display()))?;
    // From the byte before the mark on: a newline, unless the mark is within a line.
    file.seek(SeekFrom::Start(from.0.saturating_sub(1)))?;
    let mut reader = BufReader::new(file);
    let mut events = Vec::new();
    let mut line = Vec::new();
    if from.0 > 0 {
        reader.read_until(b'\n', &mut line).with_context(|| format!("read {}", log.display()))?;
    }
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line).with_context(|| format!("read {}", log.display()))?;
        if line.last() != Some(&b'\n') {
            return Ok(events);
        }
        let event = serde_json::from_slice(&line)
            .with_context(|| format!("parse a line of {}: {}", log.display(), String::from_utf8_lossy(&line)))?;
        events.push(event);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn half_a_line_is_left_for_later() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("audit.log");
        fs::write(&log, "{\"verb\":\"get\"}\n{\"verb\":\"li").unwrap();
        let events = read(&log, Mark::default()).unwrap();
        assert_eq!(events, [json!({"verb": "get"})]);
    }

    #[test]
    fn a_mark_within_a_line_leaves_its_rest_out() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("audit.log");
        fs::write(&log, "{\"verb\":\"get\"}\n{\"verb\":\"li").unwrap();
        let mark = mark(&log).unwrap();
        assert!(read(&log, mark).unwrap().is_empty());
        fs::write(&log, "{\"verb\":\"get\"}\n{\"verb\":\"list\"}\n{\"verb\":\"watch\"}\n").unwrap();
        assert_eq!(read(&log, mark).unwrap(), [json!({"verb": "watch"})]);
    }

    #[test]
    fn only_what_follows_a_mark_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("audit.log");
        fs::write(&log, "{\"verb\":\"get\"}\n").unwrap();
        let mark = mark(&log).unwrap();
        fs::write(&log, "{\"verb\":\"get\"}\n{\"verb\":\"list\"}\n").unwrap();
        assert_eq!(read(&log, mark).unwrap(), [json!({"verb": "list"})]);
    }
}
