//! The record of a migration: the little that the objects themselves cannot say.
//!
//! One ConfigMap per cluster that people can read. Two clusters cannot be written atomically, so the
//! order of two records is a rule here: the higher `seq` wins, at equal `seq` Back beats Forward.
//! Pure; `store` reads and writes it.

use serde::{Deserialize, Serialize};

use crate::plan::{Plan, short_hash};
use crate::world::Object;

pub mod lease;
pub mod secrets;

/// Key of the ConfigMap's data that holds the record as YAML.
pub const RECORD_KEY: &str = "record.yaml";

/// Label on Lease, plan and record, by which an open migration is found without a name.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "sts-migrate";

/// Version of the stored record; a reader refuses a larger one.
pub const RECORD_VERSION: u32 = 1;

/// Which way a migration goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// From A to B.
    Forward,
    /// Back to A.
    Back,
}

/// How a migration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The set lives in B, A is cleaned up.
    Completed,
    /// The set lives in A again, B is cleaned up.
    RolledBack,
}

/// How far the cutover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cutover {
    /// Nothing that publishes was created, no command was run.
    NotBegun,
    /// It was begun: the command may have run.
    Begun,
    /// It is done.
    Done,
}

/// Why the last run paused; for people, nothing is decided from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastFailure {
    /// The step in which it paused.
    #[serde(rename = "in")]
    pub step: String,
    /// The reason.
    pub reason: String,
    /// When, by the clock of the machine that ran it.
    pub at: String,
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// Format version, [`RECORD_VERSION`].
    pub version: u32,
    /// Id of the migration.
    pub id: String,
    /// Attempt under this id.
    pub attempt: u32,
    /// Grows with every write; orders the records of the two clusters.
    pub seq: u64,
    /// Which way it goes.
    pub direction: Direction,
    /// When the freeze began (RFC 3339), for people: since then A's pods have no controller. Its
    /// presence says that prepare was complete and the freeze was confirmed.
    pub frozen_at: Option<String>,
    /// Whether somebody asked for a pause.
    pub paused: bool,
    /// How far the cutover is.
    pub cutover: Cutover,
    /// Whether A's claims and PVs are being deleted: the point of no return.
    pub deleting: bool,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why the last run paused.
    pub last_failure: Option<LastFailure>,
}

impl Record {
    /// Returns the first record of a plan.
    pub fn first(plan: &Plan) -> Record {
        Record {
            version: RECORD_VERSION,
            id: plan.id.clone(),
            attempt: plan.attempt,
            seq: 1,
            direction: Direction::Forward,
            frozen_at: None,
            paused: false,
            cutover: Cutover::NotBegun,
            deleting: false,
            outcome: None,
            last_failure: None,
        }
    }

    /// Returns the record after a change: the same with a higher `seq`.
    pub fn next(&self, change: impl FnOnce(&mut Record)) -> Record {
        let mut next = self.clone();
        next.seq += 1;
        change(&mut next);
        next
    }

    /// Returns whether the migration has not ended.
    pub fn is_open(&self) -> bool {
        self.outcome.is_none()
    }

    /// Returns whether both are of one migration.
    pub fn is_same_migration(&self, other: &Record) -> bool {
        self.id == other.id && self.attempt == other.attempt
    }

    /// Reads the record out of its ConfigMap.
    ///
    /// # Errors
    /// The text is no record, or one of a newer program.
    pub fn read(config_map: &Object) -> anyhow::Result<Record> {
        let text = config_map
            .at("/data")
            .and_then(|data| data.get(RECORD_KEY))
            .and_then(serde_json::Value::as_str)
            .ok_or_else(|| anyhow::anyhow!("ConfigMap `{}` has no key {RECORD_KEY}", config_map.name()))?;
        let record: Record = serde_yaml::from_str(text)
            .map_err(|error| anyhow::anyhow!("ConfigMap `{}` holds no readable record: {error}", config_map.name()))?;
        anyhow::ensure!(
            record.version <= RECORD_VERSION,
            "the record in ConfigMap `{}` was written by a newer sts-migrate (format {})",
            config_map.name(),
            record.version
        );
        Ok(record)
    }

    /// Returns the record as the YAML that its ConfigMap holds.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("a record is plain data")
    }
}

/// Returns which of two records of one migration is in force (§3.1): higher `seq`, then Back.
pub fn in_force<'a>(left: &'a Record, right: &'a Record) -> &'a Record {
    let rank = |record: &Record| (record.seq, record.direction);
    if rank(left) >= rank(right) { left } else { right }
}

/// What kind of thing is moved; part of the names of Lease, plan and record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A StatefulSet.
    Set,
    /// A single claim.
    Claim,
}

/// Returns the common name of Lease and record, and the stem of the plan's Secrets, for one subject.
///
/// The hash keeps `set web` and `claim web` apart, and long names within Kubernetes' limit.
pub fn stem(subject: Subject, name: &str) -> String {
    let kind = match subject {
        Subject::Set => "set",
        Subject::Claim => "claim",
    };
    let short: String = name.chars().take(40).collect();
    format!("sts-migrate-{kind}-{}-{}", short.trim_end_matches(['-', '.']), short_hash(&[kind, name]))
}
