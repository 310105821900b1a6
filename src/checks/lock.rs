//! Is somebody else at work on this set or claim? (PF-4; looks only, the lock itself is taken later.)

use super::case::Case;
use super::scope::{Scope, subject};
use super::{Finding, Level};
use crate::plan::MIGRATION_ANNOTATION;
use crate::record::{Record, stem};
use crate::world::{Answer, Kind, Side};

/// PF-4: no open record, and no Lease that somebody holds.
pub(super) fn check(scope: &Scope<'_>) -> Vec<Finding> {
    let name = stem(scope.request.subject, &scope.request.name);
    let mut findings = Vec::new();
    for side in Side::BOTH {
        findings.extend(record(scope, side, &name));
        findings.extend(lease(scope, side, &name));
    }
    findings
}

/// PF-4: no PV carries the mark of another migration, such as that of a set whose object is frozen: its
/// claims look like nobody's then.
pub(super) fn marks(case: &Case<'_>) -> Vec<Finding> {
    let volumes = case.claims.iter().filter_map(|claim| claim.volume);
    volumes
        .filter(|volume| !case.is_ours(volume))
        .filter_map(|volume| {
            let mark = volume.annotation(MIGRATION_ANNOTATION)?;
            let kubectl = case.source(Kind::PersistentVolume);
            Some(Finding {
                code: "PF-4",
                level: Level::Blocks,
                subject: subject(Side::Source, Kind::PersistentVolume, volume.name()),
                what: format!("it is in the hands of another migration, {mark}"),
                remedy: format!(
                    "finish that one first: `sts-migrate status --src {} --dst {} -n {}` shows what is open; if there is none any more, `{kubectl} annotate pv {} {MIGRATION_ANNOTATION}-`",
                    case.scope.request.source.context,
                    case.scope.request.destination.context,
                    case.scope.request.source.namespace,
                    volume.name()
                ),
            })
        })
        .collect()
}

fn record(scope: &Scope<'_>, side: Side, name: &str) -> Option<Finding> {
    let Answer::Present { object, .. } = scope.world.get(side, Kind::ConfigMap, name) else {
        return scope.doubt_one("PF-4", Level::Blocks, side, Kind::ConfigMap, name);
    };
    let (what, remedy) = match Record::read(object) {
        Ok(record) if !record.is_open() => return None,
        Ok(record) => (
            format!("it is the record of an open migration (id {}, attempt {})", record.id, record.attempt),
            format!(
                "`{}` shows where it is; `{}` goes on with it, `{}` undoes it",
                scope.command("status", ""),
                scope.command("run", ""),
                scope.command("rollback", "")
            ),
        ),
        Err(error) => (
            format!("it cannot be read: {error:#}"),
            format!(
                "look at it with `{} get configmap {name} -o yaml`, and use the sts-migrate that wrote it",
                scope.kubectl(side, Kind::ConfigMap)
            ),
        ),
    };
    Some(Finding { code: "PF-4", level: Level::Blocks, subject: subject(side, Kind::ConfigMap, name), what, remedy })
}

/// Whether a holder still lives is found out by watching its Lease, which takes time: `run` does.
fn lease(scope: &Scope<'_>, side: Side, name: &str) -> Option<Finding> {
    let Answer::Present { object, .. } = scope.world.get(side, Kind::Lease, name) else {
        return scope.doubt_one("PF-4", Level::Blocks, side, Kind::Lease, name);
    };
    let holder = object.text("/spec/holderIdentity").filter(|holder| !holder.is_empty())?;
    Some(Finding {
        code: "PF-4",
        level: Level::Warns,
        subject: subject(side, Kind::Lease, name),
        what: format!("{holder} holds the lock, or died holding it"),
        remedy: format!(
            "let it end; `run` takes the lock over when it is not renewed any more. `{}` says who holds it",
            scope.command("status", "")
        ),
    })
}
