//! May this user do everything, forward, back and at the end? (PF-3)
//!
//! One table says what the program does to which kind; the README's RBAC rules come from it too. A
//! right that is missing in the middle of a move leaves pods down, so all are asked for before.

use std::collections::BTreeMap;

use serde::Serialize;

use super::scope::Scope;
use super::{Finding, Level};
use crate::world::{Kind, Read, Side};

/// What one side needs of a kind.
struct Right {
    side: Side,
    kind: Kind,
    verbs: &'static [&'static str],
}

/// To look at, and to be woken by.
const LOOK: &[&str] = &["get", "list", "watch"];
/// To look at once, before the start.
const READ: &[&str] = &["list"];
/// To look at by name, before the start.
const GET: &[&str] = &["get"];
/// To be created, changed and taken away again.
const OWN: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
/// To be changed and deleted.
const END: &[&str] = &["get", "list", "watch", "patch", "delete"];

const fn right(side: Side, kind: Kind, verbs: &'static [&'static str]) -> Right {
    Right { side, kind, verbs }
}

/// Everything that the program does, read by [`needed`](super::needed), `check` and [`rules`].
const RIGHTS: &[Right] = &[
    // Lock, plan and record.
    right(Side::Source, Kind::Lease, &["get", "create", "patch", "delete"]),
    right(Side::Source, Kind::Secret, &["get", "list", "create", "delete"]),
    right(Side::Source, Kind::ConfigMap, &["get", "list", "create", "patch"]),
    right(Side::Destination, Kind::Lease, &["get", "create", "patch", "delete"]),
    right(Side::Destination, Kind::Secret, &["get", "list", "create", "delete"]),
    right(Side::Destination, Kind::ConfigMap, &["get", "list", "create", "patch"]),
    // Forward in A: Retain, freeze, owner references, pods; at the end claims, PVs, revisions; going
    // back the set, and PVs and claims that somebody broke. What a call of another run could hit is
    // patched before a lock is taken over, pods on both sides too.
    right(Side::Source, Kind::StatefulSet, OWN),
    right(Side::Source, Kind::PersistentVolume, OWN),
    right(Side::Source, Kind::PersistentVolumeClaim, OWN),
    right(Side::Source, Kind::Pod, END),
    right(Side::Source, Kind::ControllerRevision, END),
    right(Side::Source, Kind::Service, LOOK),
    right(Side::Source, Kind::VolumeAttachment, LOOK),
    right(Side::Source, Kind::Node, LOOK),
    right(Side::Source, Kind::Namespace, GET),
    // In B: created forward, deleted going back.
    right(Side::Destination, Kind::StatefulSet, OWN),
    right(Side::Destination, Kind::PersistentVolume, OWN),
    right(Side::Destination, Kind::PersistentVolumeClaim, OWN),
    right(Side::Destination, Kind::Service, OWN),
    right(Side::Destination, Kind::Ingress, OWN),
    right(Side::Destination, Kind::Pod, END),
    right(Side::Destination, Kind::ControllerRevision, END),
    right(Side::Destination, Kind::VolumeAttachment, LOOK),
    right(Side::Destination, Kind::Node, LOOK),
    right(Side::Destination, Kind::Namespace, GET),
    // Preflight only.
    right(Side::Source, Kind::Ingress, READ),
    right(Side::Source, Kind::StorageClass, READ),
    right(Side::Source, Kind::PodDisruptionBudget, READ),
    right(Side::Source, Kind::NetworkPolicy, READ),
    right(Side::Source, Kind::RoleBinding, READ),
    right(Side::Source, Kind::Deployment, READ),
    right(Side::Source, Kind::DaemonSet, READ),
    right(Side::Source, Kind::Job, READ),
    right(Side::Source, Kind::CronJob, READ),
    right(Side::Source, Kind::HorizontalPodAutoscaler, READ),
    right(Side::Source, Kind::ScaledObject, READ),
    right(Side::Source, Kind::VerticalPodAutoscaler, READ),
    right(Side::Destination, Kind::StorageClass, READ),
    right(Side::Destination, Kind::NetworkPolicy, READ),
    right(Side::Destination, Kind::RoleBinding, READ),
    right(Side::Destination, Kind::CsiDriver, READ),
    right(Side::Destination, Kind::CsiNode, READ),
    right(Side::Destination, Kind::Deployment, READ),
    right(Side::Destination, Kind::DaemonSet, READ),
    right(Side::Destination, Kind::Job, READ),
    right(Side::Destination, Kind::CronJob, READ),
    right(Side::Destination, Kind::HorizontalPodAutoscaler, READ),
    right(Side::Destination, Kind::ScaledObject, READ),
    right(Side::Destination, Kind::VerticalPodAutoscaler, READ),
    right(Side::Destination, Kind::ServiceAccount, GET),
    right(Side::Destination, Kind::PriorityClass, GET),
    right(Side::Destination, Kind::RuntimeClass, GET),
];

/// A rule of a ClusterRole, as Kubernetes writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// API groups.
    pub api_groups: Vec<&'static str>,
    /// Plurals.
    pub resources: Vec<&'static str>,
    /// Verbs.
    pub verbs: Vec<&'static str>,
}

/// Returns the rules that are enough on a side: the "exact smaller list" beside cluster-admin.
/// `create_namespace` adds what `--create-namespace` needs in B.
pub fn rules(side: Side, create_namespace: bool) -> Vec<Rule> {
    let mut rules: BTreeMap<(&str, Vec<&'static str>), Vec<&'static str>> = BTreeMap::new();
    for (kind, verbs) in wanted(side, create_namespace) {
        rules.entry((kind.group(), verbs)).or_default().push(kind.plural());
    }
    rules.into_iter().map(|((group, verbs), resources)| Rule { api_groups: vec![group], resources, verbs }).collect()
}

/// Returns the questions whose answers `check` needs.
pub(super) fn reads(scope: &Scope<'_>) -> impl Iterator<Item = Read> {
    let create_namespace = scope.request.create_namespace;
    Side::BOTH.into_iter().flat_map(move |side| {
        wanted(side, create_namespace)
            .flat_map(move |(kind, verbs)| verbs.into_iter().map(move |verb| Read::Allowed(side, verb, kind)))
    })
}

fn wanted(side: Side, create_namespace: bool) -> impl Iterator<Item = (Kind, Vec<&'static str>)> {
    RIGHTS.iter().filter(move |right| right.side == side).map(move |right| {
        let mut verbs = right.verbs.to_vec();
        if create_namespace && side == Side::Destination && right.kind == Kind::Namespace {
            verbs.push("create");
        }
        (right.kind, verbs)
    })
}

/// PF-3: every verb is allowed, in both clusters.
pub(super) fn check(scope: &Scope<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for side in Side::BOTH {
        for (kind, verbs) in wanted(side, scope.request.create_namespace) {
            let (mut denied, mut doubted, mut reason) = (Vec::new(), Vec::new(), "it was not asked");
            for verb in verbs {
                match scope.world.allowed.get(&(side, verb, kind)) {
                    Some(Ok(true)) => {}
                    Some(Ok(false)) => denied.push(verb),
                    Some(Err(unknown)) => {
                        doubted.push(verb);
                        reason = &unknown.reason;
                    }
                    None => doubted.push(verb),
                }
            }
            let group = if kind.group().is_empty() { String::new() } else { format!(".{}", kind.group()) };
            let resource = format!("{}{group}", kind.plural());
            let what = match (denied.as_slice(), doubted.as_slice()) {
                ([], []) => continue,
                ([], doubted) => format!("whether this user may {} is not known: {reason}", doubted.join(", ")),
                (denied, _) => format!("this user may not {} {resource}", denied.join(", ")),
            };
            let verb = denied.first().or(doubted.first()).copied().unwrap_or("get");
            findings.push(Finding {
                code: "PF-3",
                level: Level::Blocks,
                subject: format!("right to {resource} ({side})"),
                what,
                remedy: format!(
                    "cluster-admin is enough, the README has the exact rules; `{} auth can-i {verb} {resource}` must say yes",
                    scope.kubectl(side, kind)
                ),
            });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_side_and_kind_stands_in_the_table_once() {
        let mut seen = BTreeSet::new();
        for right in RIGHTS {
            assert!(seen.insert((right.side, right.kind)), "{} {} twice", right.side, right.kind);
            let verbs: BTreeSet<_> = right.verbs.iter().collect();
            assert_eq!(verbs.len(), right.verbs.len(), "{} {}", right.side, right.kind);
        }
    }

    #[test]
    fn rules_name_no_more_than_the_table() {
        let rules = rules(Side::Destination, true);
        let namespaces = rules.iter().find(|rule| rule.resources.contains(&"namespaces")).expect("there is one");
        assert_eq!(namespaces.verbs, ["get", "create"]);
        assert!(rules.iter().all(|rule| !rule.verbs.contains(&"*") && !rule.resources.contains(&"*")));
    }
}
