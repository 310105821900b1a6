//! Preflight: every reason why the move could stop half-way or do harm, looked for before anything
//! is written.
//!
//! Pure: `&World` in, findings out; one function and one stable code each (the catalogue's PF-n).
//! *Unknown* (403, 5xx, time-out, partial list) is its own answer: it blocks where absence could
//! cost data. What a check needs to be read is said by [`needed`].

use serde::Serialize;

use crate::plan::Request;
use crate::record::Subject;
use crate::world::{Kind, Read, Side, World};

mod alone;
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
        let checks = match request.subject {
            Subject::Set => CHECKS,
            Subject::Claim => CHECKS_OF_CLAIM,
        };
        findings.extend(match request.subject {
            Subject::Set => set::exists(&scope),
            Subject::Claim => alone::exists(&scope),
        });
        if let Some(case) = Case::new(scope) {
            // The claim of a set is the set's: what else could be said of it leads astray.
            let owned = alone::of_a_set(&case);
            let is_a_sets = blocks(&owned, true);
            findings.extend(owned);
            for check in checks.iter().filter(|_| !is_a_sets) {
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
    operators::owners,
    lock::marks,
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

/// The checks that look at a single claim that was found.
const CHECKS_OF_CLAIM: &[fn(&Case<'_>) -> Vec<Finding>] = &[
    operators::owners,
    lock::marks,
    gitops::check,
    claims::bound,
    claims::policies,
    storage::kinds,
    storage::access,
    storage::translatable,
    users::check,
    alone::held,
    twins::handles,
    twins::destination,
    claims::resizes,
    volumes::placed,
    volumes::attached,
    volumes::readable,
    volumes::tags,
    driver::check,
    classes::check,
];

/// Returns what uses a single claim, if anything does: findings that pass when that ends.
pub(crate) fn in_use(request: &Request, world: &World) -> Vec<Finding> {
    let Some(case) = Case::new(Scope { request, world }) else { return Vec::new() };
    let found = users::check(&case).into_iter().chain(alone::held(&case));
    found.filter(is_in_use).collect()
}

/// Returns the reads that [`in_use`] rests on.
pub(crate) fn reads_in_use(request: &Request, world: &World) -> Vec<Read> {
    let lists = users::WORKLOADS.into_iter().chain([Kind::Pod]);
    let mut reads: Vec<Read> =
        Side::BOTH.into_iter().flat_map(|side| lists.clone().map(move |kind| Read::List(side, kind))).collect();
    let claims = Case::new(Scope { request, world }).map(|case| case.claims).unwrap_or_default();
    reads.push(Read::Volumes(claims.into_iter().filter_map(|claim| claim.id).collect()));
    reads
}

/// Returns whether a finding says that something uses a claim now.
pub(crate) fn is_in_use(finding: &Finding) -> bool {
    finding.code == "PF-18" && finding.level == Level::Blocks
}

fn number(code: &str) -> u32 {
    code.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
