//! The clusters themselves: reachable (PF-1), two of them (PF-2), with their namespaces (PF-6).

use super::scope::{Scope, subject};
use super::{Finding, Level};
use crate::names::there_are;
use crate::world::{Answer, CLUSTER_NAMESPACE, Kind, Object, Side};

/// PF-1: both API servers answer.
pub(super) fn reachable(scope: &Scope<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for side in Side::BOTH {
        let context = &scope.place(side).context;
        let what = match scope.world.get(side, Kind::Namespace, CLUSTER_NAMESPACE) {
            Answer::Present { .. } => continue,
            Answer::Absent { .. } => "it has no namespace kube-system, by whose uid clusters are told apart".to_owned(),
            Answer::Unread => "it was not asked".to_owned(),
            Answer::Unknown(unknown) => format!("namespace kube-system could not be read: {}", unknown.reason),
        };
        findings.push(Finding {
            code: "PF-1",
            level: Level::Blocks,
            subject: format!("{side} cluster (context {context})"),
            what,
            remedy: format!("see what `kubectl --context {context} get namespace kube-system` says, and mend that"),
        });
    }
    findings
}

/// PF-2: they are two clusters. Never forceable: the set would be moved onto itself.
pub(super) fn distinct(scope: &Scope<'_>) -> Vec<Finding> {
    let uid = |side| scope.world.object(side, Kind::Namespace, CLUSTER_NAMESPACE).map(Object::uid);
    let (source, destination) = (uid(Side::Source), uid(Side::Destination));
    if source.is_none() || source != destination {
        return Vec::new();
    }
    let (source_context, destination_context) = (&scope.request.source.context, &scope.request.destination.context);
    vec![Finding {
        code: "PF-2",
        level: Level::Blocks,
        subject: format!("contexts {source_context} and {destination_context}"),
        what: format!("both lead to the same cluster (kube-system uid {})", source.unwrap_or_default()),
        remedy: "give two clusters with `--src` and `--dst`; `kubectl config get-contexts` lists what there is"
            .to_owned(),
    }]
}

/// PF-6: the namespaces are there and Active; B's may be missing when it may be created.
pub(super) fn namespaces(scope: &Scope<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for side in Side::BOTH {
        let name = &scope.place(side).namespace;
        let kubectl = scope.kubectl(side, Kind::Namespace);
        let (what, remedy) = match scope.world.get(side, Kind::Namespace, name) {
            Answer::Present { object, .. } if is_active(object) => continue,
            Answer::Present { .. } => (
                "it is being deleted".to_owned(),
                format!("see what holds it: `{kubectl} get namespace {name} -o yaml`"),
            ),
            Answer::Absent { .. } if side == Side::Destination && scope.request.create_namespace => continue,
            Answer::Absent { .. } => (
                not_there(scope, side, name),
                match side {
                    Side::Source => format!("give another with `-n`; `{kubectl} get namespaces`"),
                    Side::Destination => format!(
                        "add `--create-namespace`, type `{kubectl} create namespace {name}`, or give another with \
                         `--dst-namespace`"
                    ),
                },
            ),
            Answer::Unread | Answer::Unknown(_) => {
                findings.extend(scope.doubt_one("PF-6", Level::Blocks, side, Kind::Namespace, name));
                continue;
            }
        };
        findings.push(Finding {
            code: "PF-6",
            level: Level::Blocks,
            subject: subject(side, Kind::Namespace, name),
            what,
            remedy,
        });
    }
    findings
}

/// Returns that a namespace is not there, with the nearest that is as far as they may be listed.
fn not_there(scope: &Scope<'_>, side: Side, name: &str) -> String {
    let is_listed = scope.world.shelf(side, Kind::Namespace).is_some_and(|shelf| matches!(shelf.listed(), Some(Ok(_))));
    if !is_listed {
        return "it is not there".to_owned();
    }
    let names = scope.world.objects(side, Kind::Namespace).map(Object::name);
    format!("it is not there; {}", there_are("namespaces", name, names))
}

fn is_active(namespace: &Object) -> bool {
    !namespace.is_terminating() && namespace.text("/status/phase") != Some("Terminating")
}
