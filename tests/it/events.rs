//! Event logs: read back, and held against the table of `examples/events.md`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const TABLE: &str = include_str!("../../examples/events.md");

/// Returns the events of a log; an error when one is not what the table says, or times do not run forward.
pub(crate) fn documented(log: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    let all: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(!all.is_empty(), "{} is empty", log.display());
    let times: Vec<jiff::Timestamp> = all.iter().filter_map(|it| it["time"].as_str()?.parse().ok()).collect();
    ensure!(times.len() == all.len(), "every event has a time");
    ensure!(times.is_sorted(), "times run forward");
    for event in &all {
        ensure!(is_documented(event), "not in examples/events.md: {event}");
    }
    Ok(all)
}

/// Returns the events of one kind.
pub(crate) fn of<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|it| it["event"] == kind).collect()
}

/// Returns how the runs of a log ended.
pub(crate) fn ends(all: &[Value]) -> Vec<&str> {
    of(all, "end").into_iter().filter_map(|it| it["how"].as_str()).collect()
}

/// Returns whether the table has this kind of event with all of these fields, and with their values where
/// it lists all that there are.
fn is_documented(event: &Value) -> bool {
    let kind = event["event"].as_str().unwrap_or_default();
    let Some(row) = TABLE.lines().find(|line| line.starts_with(&format!("| `{kind}` |"))) else {
        return false;
    };
    let fields =
        event.as_object().into_iter().flatten().filter(|(name, _)| !["time", "event"].contains(&name.as_str()));
    fields.into_iter().all(|(name, value)| {
        let is_listed =
            |list: &str| value.as_str().is_some_and(|value| list.split(", ").any(|it| it.trim_matches('`') == value));
        // A list that begins in words says what else there is.
        match row.split_once(&format!("`{name}` (`")) {
            Some((_, rest)) => rest.split_once(')').is_some_and(|(list, _)| is_listed(list)),
            None => row.contains(&format!("`{name}`")),
        }
    })
}
