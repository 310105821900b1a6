//! The record of a migration: the little that the objects themselves cannot say.
//!
//! One ConfigMap per cluster that people can read. Two clusters cannot be written atomically, so the
//! order of two records is a rule here: the higher `seq` wins, at equal `seq` Back beats Forward.
//! Pure; `store` reads and writes it.

use serde::{Deserialize, Serialize};

use crate::plan::{Plan, short_hash};
use crate::world::{Kind, Object};

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
    /// Whether a command of the operator's belongs to the cutover: it may have run.
    #[serde(default)]
    pub cutover_command: bool,
    /// Whether a check of the operator's belongs to the swing, and has not passed yet for all that moves.
    #[serde(default)]
    pub verifying: bool,
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
            cutover_command: false,
            verifying: false,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A StatefulSet.
    Set,
    /// A single claim.
    Claim,
}

impl Subject {
    /// Returns the kind of what is moved.
    pub fn kind(self) -> Kind {
        match self {
            Subject::Set => Kind::StatefulSet,
            Subject::Claim => Kind::PersistentVolumeClaim,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Subject::Set => "StatefulSet",
            Subject::Claim => "claim",
        })
    }
}

/// Returns the common name of Lease and record, and the stem of the plan's Secrets, for one subject.
///
/// The hash keeps `set web` and `claim web` apart, and long names within Kubernetes' limit.
pub fn stem(subject: Subject, name: &str) -> String {
    let kind = match subject {
        Subject::Set => "set",
        Subject::Claim => "claim",
    };
    // Names of objects may have 253 characters; kind, hash and the parts' numbers come on top.
    let short: String = name.chars().take(200).collect();
    format!("sts-migrate-{kind}-{}-{}", short.trim_end_matches(['-', '.']), short_hash(&[kind, name]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, ProptestConfig, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use serde_json::json;

    use super::*;
    use crate::fixtures;

    fn record(seq: u64, direction: Direction) -> Record {
        Record { seq, direction, ..Record::first(&fixtures::plan(1, 1)) }
    }

    fn records() -> impl Strategy<Value = Record> {
        (1..4_u64, prop_oneof![Just(Direction::Forward), Just(Direction::Back)])
            .prop_map(|(seq, direction)| record(seq, direction))
    }

    fn config_map(text: &str) -> Object {
        Object(json!({ "metadata": { "name": "sts-migrate-set-web" }, "data": { RECORD_KEY: text } }))
    }

    #[test]
    fn at_equal_seq_back_beats_forward() {
        let (forward, back) = (record(3, Direction::Forward), record(3, Direction::Back));
        assert_eq!(in_force(&forward, &back), &back);
        assert_eq!(in_force(&back, &forward), &back);
        let later = record(4, Direction::Forward);
        assert_eq!(in_force(&back, &later), &later);
    }

    #[test]
    fn a_record_reads_back_from_its_config_map() {
        let written = record(2, Direction::Back).next(|next| {
            next.frozen_at = Some("2025-01-02T03:04:05Z".to_owned());
            next.cutover = Cutover::Begun;
            next.last_failure = Some(LastFailure {
                step: "swing".to_owned(),
                reason: "pod `web-1` is: not \"Ready\"\n".to_owned(),
                at: "2025-01-02T03:04:06Z".to_owned(),
            });
        });
        assert_eq!(written.seq, 3);
        assert_eq!(Record::read(&config_map(&written.to_yaml())).expect("it is a record"), written);
    }

    #[test]
    fn what_is_no_record_or_a_newer_one_is_refused() {
        for text in ["", "nonsense", "version: 1"] {
            let error = Record::read(&config_map(text)).expect_err("it is no record");
            assert!(error.to_string().contains("sts-migrate-set-web"), "{error}");
        }
        let newer = Record { version: RECORD_VERSION + 1, ..record(1, Direction::Forward) };
        let error = Record::read(&config_map(&newer.to_yaml())).expect_err("it is newer");
        assert!(error.to_string().contains("newer sts-migrate"), "{error}");
        assert!(Record::read(&Object(json!({ "metadata": { "name": "empty" } }))).is_err());
    }

    #[test]
    fn stems_tell_subjects_apart_and_leave_room_for_the_parts() {
        assert_ne!(stem(Subject::Set, "web"), stem(Subject::Claim, "web"));
        let long = |last: &str| stem(Subject::Set, &format!("{}{last}", "a".repeat(252)));
        assert_ne!(long("x"), long("y"));
        assert!(secrets::part_name(&long("x"), 9999).len() <= 253, "{}", long("x"));
        assert!(!stem(Subject::Set, &format!("{}-b", "a".repeat(199))).contains("--"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn both_clusters_agree_on_the_record_in_force(left in records(), right in records(), third in records()) {
            let chosen = in_force(&left, &right);
            prop_assert_eq!(chosen, in_force(&right, &left));
            prop_assert!(chosen.seq == left.seq.max(right.seq));
            prop_assert_eq!(in_force(in_force(&left, &right), &third), in_force(&left, in_force(&right, &third)));
        }

        #[test]
        fn what_is_written_next_is_in_force(before in records(), direction in records()) {
            let next = before.next(|next| next.direction = direction.direction);
            prop_assert_eq!(in_force(&before, &next), &next);
            prop_assert_eq!(in_force(&next, &before), &next);
        }
    }
}
