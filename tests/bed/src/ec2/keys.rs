//! Access keys: who may call what, on volumes with which tags, and what goes wrong for whom.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::knobs::Jitter;
use super::{ACCOUNT, ADMIN_KEY, csi_key};
use crate::Cluster;

/// One access key and what its owner meets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Key {
    /// Access key id.
    pub key: String,
    /// User name in the caller's ARN.
    pub user: String,
    /// Account of the caller; any but [`ACCOUNT`] has no volumes and no instances.
    pub account: String,
    /// Actions that are allowed: `DescribeVolumes`, `Describe*`, `*`. Tags given to a volume at its
    /// creation need `CreateTags` or `CreateTags:CreateVolume` (tags on create only).
    pub allow: Vec<String>,
    /// Actions that are denied whatever is allowed.
    pub deny: Vec<String>,
    /// Tags that a volume must have for some actions; all conditions that name the action must hold.
    pub tag_conditions: Vec<TagCondition>,
    /// Share of the calls, 0 to 1, that is answered `RequestLimitExceeded`.
    pub throttle: f64,
    /// Errors to answer, by action (or `*`).
    pub errors: BTreeMap<String, ErrorAnswer>,
    /// DescribeVolumes answers this key as the world was that many milliseconds ago.
    pub stale_read_ms: u64,
    /// Time that each call takes.
    pub latency_ms: Jitter,
}

/// A condition on the tags of the volume that an action is about (`aws:ResourceTag`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TagCondition {
    /// Actions (with `*`) to which it applies.
    pub actions: Vec<String>,
    /// One of these must match.
    pub any_of: Vec<TagMatch>,
}

/// A tag that has to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TagMatch {
    /// Key of the tag.
    pub key: String,
    /// Its value; none for any.
    pub value: Option<String>,
}

/// An error that a test wants to see answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ErrorAnswer {
    /// HTTP status.
    pub status: u16,
    /// EC2 error code.
    pub code: String,
    /// Text of the error.
    pub message: String,
    /// How many times it is answered; none for ever.
    pub times: Option<u32>,
}

impl Default for Key {
    fn default() -> Self {
        Self {
            key: String::new(),
            user: "somebody".to_owned(),
            account: ACCOUNT.to_owned(),
            allow: Vec::new(),
            deny: Vec::new(),
            tag_conditions: Vec::new(),
            throttle: 0.0,
            errors: BTreeMap::new(),
            stale_read_ms: 0,
            latency_ms: [0, 0],
        }
    }
}

impl Key {
    /// Returns the keys that exist from the start, beside those of the tools.
    pub(super) fn built_in() -> BTreeMap<String, Key> {
        let mut keys: Vec<Key> = Cluster::BOTH
            .into_iter()
            .map(|cluster| Key {
                key: csi_key(cluster).to_owned(),
                user: format!("csi-driver-{}", cluster.name()),
                allow: [
                    "Describe*",
                    "CreateVolume",
                    "DeleteVolume",
                    "AttachVolume",
                    "DetachVolume",
                    "ModifyVolume",
                    "CreateTags:CreateVolume",
                ]
                .map(str::to_owned)
                .to_vec(),
                ..Key::default()
            })
            .collect();
        keys.push(Key {
            key: ADMIN_KEY.to_owned(),
            user: "admin".to_owned(),
            allow: vec!["*".to_owned()],
            ..Key::default()
        });
        keys.into_iter().map(|key| (key.key.clone(), key)).collect()
    }

    /// Returns the rights of a tool's key, or none when the id is none of a tool's.
    pub(super) fn of_tool(key: &str) -> Option<Key> {
        let number = key.strip_prefix("AKIATOOL").filter(|number| number.len() == 12)?;
        let number: u64 = number.parse().ok()?;
        Some(Key {
            key: key.to_owned(),
            user: format!("tool-{number}"),
            allow: vec!["Describe*".to_owned()],
            ..Key::default()
        })
    }

    /// Returns whether the action is allowed at all.
    pub(super) fn allows(&self, action: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, action));
        any(&self.allow) && !any(&self.deny)
    }

    /// Returns whether the action is allowed on a volume with these tags.
    pub(super) fn allows_on(&self, action: &str, tags: &BTreeMap<String, String>) -> bool {
        self.tag_conditions
            .iter()
            .filter(|condition| condition.actions.iter().any(|pattern| matches(pattern, action)))
            .all(|condition| {
                condition.any_of.iter().any(|wanted| match (tags.get(&wanted.key), &wanted.value) {
                    (Some(found), Some(value)) => found == value,
                    (Some(_), None) => true,
                    (None, _) => false,
                })
            })
    }

    /// Takes one of the errors that are to be answered to an action, if there is one left.
    pub(super) fn take_error(&mut self, action: &str) -> Option<ErrorAnswer> {
        let name = [action, "*"].into_iter().find(|name| self.errors.contains_key(*name))?;
        let answer = self.errors.get_mut(name)?;
        match &mut answer.times {
            None => Some(answer.clone()),
            Some(0) => None,
            Some(left) => {
                *left -= 1;
                Some(answer.clone())
            }
        }
    }

    /// Returns the caller's ARN.
    pub(super) fn arn(&self) -> String {
        format!("arn:aws:iam::{}:user/{}", self.account, self.user)
    }
}

/// Returns whether a text matches a pattern in which `*` stands for any text and `?` for any character.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = text.chars();
    let mut wanted = pattern.chars();
    loop {
        match wanted.next() {
            None => return rest.next().is_none(),
            Some('*') => {
                let tail = wanted.as_str();
                let remaining = rest.as_str();
                return remaining
                    .char_indices()
                    .map(|(at, _)| at)
                    .chain([remaining.len()])
                    .any(|at| matches(tail, &remaining[at..]));
            }
            Some(character) => match rest.next() {
                Some(found) if character == '?' || found == character => {}
                _ => return false,
            },
        }
    }
}
