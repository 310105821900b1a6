//! Preflight: every reason why the move could stop half-way or do harm, looked for before anything
//! is written.
//!
//! Pure: `&World` in, findings out; one function and one stable code each (the catalogue's PF-n).
//! *Unknown* (403, 5xx, time-out, partial list) is its own answer: it blocks where absence could
//! cost data. What a check needs to be read is said by [`needed`].

use serde::Serialize;

use crate::plan::Request;
use crate::world::World;

mod autoscale;
mod case;
mod claims;
mod classes;
mod clusters;
mod dependencies;
mod differences;
mod driver;
mod gitops;
mod lock;
mod names;
mod namespace;
mod needed;
mod operators;
pub mod order;
pub mod rights;
mod scope;
mod services;
mod set;
mod storage;
mod twins;
mod users;
mod volumes;

pub use needed::needed;

use case::Case;
use scope::Scope;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// The move is refused.
    Blocks,
    /// The move is refused unless `--force` is given.
    Forceable,
    /// The move goes on; somebody should look at it.
    Warns,
    /// For information.
    Tells,
}

impl std::fmt::Display for Level {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Level::Blocks => "blocks",
            Level::Forceable => "blocks unless --force is given",
            Level::Warns => "warning",
            Level::Tells => "note",
        })
    }
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable code of the check, such as `PF-13`.
    pub code: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What it is about, such as `PersistentVolumeClaim data-web-1 (source)`.
    pub subject: String,
    /// What is wrong, one sentence.
    pub what: String,
    /// What to type or do, commands in backticks.
    pub remedy: String,
}

/// Runs all checks; the findings are sorted by level, then by code as the catalogue counts.
pub fn preflight(request: &Request, world: &World) -> Vec<Finding> {
    let scope = Scope { request, world };
    let mut findings = clusters::reachable(&scope);
    if findings.is_empty() {
        findings = clusters::distinct(&scope);
    }
    // Nothing else can be said of clusters that do not answer, or of one cluster twice.
    if findings.is_empty() {
        findings.extend(rights::check(&scope));
        findings.extend(lock::check(&scope));
        findings.extend(clusters::namespaces(&scope));
        findings.extend(set::exists(&scope));
        if let Some(case) = Case::new(scope) {
            for check in CHECKS {
                findings.extend(check(&case));
            }
            if !blocks(&findings, true) {
                findings.extend(storage::planned(&case));
            }
        }
    }
    findings.sort_by_key(|finding| (finding.level, number(finding.code)));
    findings
}

/// Returns whether these findings refuse the move.
pub fn blocks(findings: &[Finding], force: bool) -> bool {
    findings.iter().any(|finding| match finding.level {
        Level::Blocks => true,
        Level::Forceable => !force,
        Level::Warns | Level::Tells => false,
    })
}

/// The checks that look at a set that was found.
const CHECKS: &[fn(&Case<'_>) -> Vec<Finding>] = &[
    set::whole,
    operators::check,
    gitops::check,
    autoscale::check,
    set::at_rest,
    set::healthy,
    claims::bound,
    claims::policies,
    claims::idle,
    storage::kinds,
    storage::access,
    storage::translatable,
    users::check,
    twins::handles,
    twins::destination,
    claims::resizes,
    volumes::placed,
    volumes::attached,
    volumes::readable,
    volumes::tags,
    driver::check,
    classes::check,
    dependencies::check,
    differences::contents,
    differences::rights,
    differences::networks,
    namespace::check,
    services::governing,
    services::labelled,
    services::taken,
    order::check,
    order::siblings,
    storage::left_behind,
];

fn number(code: &str) -> u32 {
    code.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
