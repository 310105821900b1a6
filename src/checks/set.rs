//! The set itself: there and whole (PF-7), at rest (PF-11), healthy (PF-12).

use std::collections::BTreeSet;

use super::case::Case;
use super::scope::Scope;
use super::{Finding, Level};
use crate::names::{some, there_are};
use crate::world::{Answer, Kind, Object, Side};

/// Taints and such by which autoscalers announce that a node will be deleted.
const DOOMED_TAINTS: &[&str] = &[
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "DeletionCandidateOfClusterAutoscaler",
];

/// PF-7: there is such a set.
pub(super) fn exists(scope: &Scope<'_>) -> Vec<Finding> {
    let (side, kind, name) = (Side::Source, Kind::StatefulSet, scope.request.name.as_str());
    match scope.world.get(side, kind, name) {
        Answer::Present { .. } => return Vec::new(),
        Answer::Unread | Answer::Unknown(_) => {
            return scope.doubt_one("PF-7", Level::Blocks, side, kind, name).into_iter().collect();
        }
        Answer::Absent { .. } => {}
    }
    let namespace = &scope.request.source.namespace;
    let names = scope.world.objects(side, kind).map(Object::name);
    let mut what = format!("there is no such set in namespace {namespace}; {}", there_are("StatefulSets", name, names));
    // OpenKruise and others have a StatefulSet of their own group, with the same pod names.
    if let Some(owner) = foreign_owner(scope, name) {
        what.push_str(&format!("; pods of that name belong to {owner}, and only apps/v1 StatefulSets can be moved"));
    }
    vec![Finding {
        code: "PF-7",
        level: Level::Blocks,
        subject: super::scope::subject(side, kind, name),
        what,
        remedy: format!("`{} get statefulsets.apps` lists what there is", scope.kubectl(side, kind)),
    }]
}

fn foreign_owner(scope: &Scope<'_>, name: &str) -> Option<String> {
    let pod = scope.world.object(Side::Source, Kind::Pod, &format!("{name}-0"))?;
    let owner = pod.controller()?;
    Some(format!("{} {}", owner.kind, owner.name))
}

/// PF-7: nothing holds the set or is deleting it.
pub(super) fn whole(case: &Case<'_>) -> Vec<Finding> {
    let get = format!("`{} get statefulset {} -o yaml`", case.source(Kind::StatefulSet), case.set.name());
    let mut findings = Vec::new();
    if case.set.is_terminating() {
        findings.push(case.finding(
            "PF-7",
            Level::Blocks,
            "it is being deleted".to_owned(),
            format!("let the deletion end; {get} shows what holds it"),
        ));
    }
    let finalizers: Vec<String> = case.set.finalizers().map(str::to_owned).collect();
    if !finalizers.is_empty() {
        findings.push(case.finding(
            "PF-7",
            Level::Blocks,
            format!("it has finalizers ({}), so its deletion in the freeze would hang", some(&finalizers)),
            format!("find out who put them there and let that let go; {get}"),
        ));
    }
    findings
}

/// PF-11: no roll-out, no scaling, nothing of it Terminating. A fresh set starts every pod from the
/// template: a pod of another revision would jump versions on real data (SS-3).
pub(super) fn at_rest(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let kubectl = case.source(Kind::StatefulSet);
    let name = case.set.name();
    let rollout = format!("`{kubectl} rollout status statefulset {name}`");
    let mut blocks = |what: String, remedy: String| findings.push(case.finding("PF-11", Level::Blocks, what, remedy));

    let generation = case.set.number("/metadata/generation").unwrap_or(0);
    let observed = case.set.number("/status/observedGeneration").unwrap_or(0);
    if observed < generation {
        blocks(
            format!("its controller has not yet seen its newest change (generation {generation}, observed {observed})"),
            format!("wait until it has ({rollout}), then run this again"),
        );
    }
    let (wanted, running) = (case.set.replicas(), case.set.number("/status/replicas").unwrap_or(0));
    if running > wanted {
        blocks(
            format!("it is being scaled down: {running} pods are there, {wanted} are wanted"),
            format!("wait until the others are gone (`{kubectl} get statefulset {name} --watch`), then run this again"),
        );
    }
    if let Some(doubt) = case.scope.doubt("PF-11", Level::Blocks, Side::Source, Kind::Pod, "whether the set is at rest")
    {
        findings.push(doubt);
        return findings;
    }
    let mut blocks = |what: String, remedy: String| findings.push(case.finding("PF-11", Level::Blocks, what, remedy));
    let names: BTreeSet<String> = case.ordinals.clone().map(|ordinal| case.pod_name(ordinal)).collect();
    let update = case.set.text("/status/updateRevision").unwrap_or_default();
    let (mut mixed, mut ending, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
    for pod in case.world().objects(Side::Source, Kind::Pod) {
        if !pod.owners().any(|owner| owner.uid == case.set.uid()) {
            continue;
        }
        if pod.is_terminating() {
            ending.push(pod.name().to_owned());
        } else if !names.contains(pod.name()) {
            beyond.push(pod.name().to_owned());
        } else if pod.label("controller-revision-hash") != Some(update) {
            mixed.push(pod.name().to_owned());
        }
    }
    if !mixed.is_empty() {
        blocks(
            format!(
                "its pods are of mixed revisions: {} do not run the template as it stands ({update}), and would in the destination",
                some(&mixed)
            ),
            format!(
                "finish the roll-out ({rollout}; mind `partition` and `OnDelete`), or undo it with `{kubectl} rollout undo statefulset {name}`"
            ),
        );
    }
    if !ending.is_empty() {
        blocks(
            format!("pods of it are Terminating: {}", some(&ending)),
            format!("wait until `{} get pods` shows them running again", case.source(Kind::Pod)),
        );
    }
    if !beyond.is_empty() && running <= wanted {
        blocks(
            format!("it has pods out of its range: {}", some(&beyond)),
            format!("wait until they are gone (`{} get pods`)", case.source(Kind::Pod)),
        );
    }
    findings
}

/// PF-12: every pod Running and Ready, on a node that is and stays there.
pub(super) fn healthy(case: &Case<'_>) -> Vec<Finding> {
    if case.scope.list_unknown(Side::Source, Kind::Pod).is_some() {
        // PF-11 says so, and blocks.
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut unwell: Vec<String> = Vec::new();
    for ordinal in case.ordinals.clone() {
        let name = case.pod_name(ordinal);
        match case.pod(ordinal) {
            None => unwell.push(format!("{name} is missing")),
            Some(pod) if pod.is_terminating() => {}
            Some(pod) => {
                let phase = pod.text("/status/phase").unwrap_or("Pending");
                if phase != "Running" {
                    unwell.push(format!("{name} is {phase}"));
                } else if pod.condition("Ready") != Some("True") {
                    unwell.push(format!("{name} is not Ready"));
                }
            }
        }
    }
    if !unwell.is_empty() {
        findings.push(case.finding(
            "PF-12",
            Level::Forceable,
            format!(
                "not all its pods are healthy: {}; if one does not start in the destination, nobody can tell why",
                some(&unwell)
            ),
            format!("`{} describe pods`; mend them, or add `--force`", case.source(Kind::Pod)),
        ));
    }
    findings.extend(nodes(case));
    findings
}

fn nodes(case: &Case<'_>) -> Vec<Finding> {
    if let Some(doubt) =
        case.scope.doubt("PF-12", Level::Blocks, Side::Source, Kind::Node, "whether the nodes of the pods are Ready")
    {
        return vec![doubt];
    }
    let mut findings = Vec::new();
    let mut names: Vec<&str> = case
        .ordinals
        .clone()
        .filter_map(|ordinal| case.pod(ordinal))
        .filter(|pod| !pod.is_finished_pod())
        .filter_map(|pod| pod.text("/spec/nodeName"))
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let doom = |node: &Object| {
            let keys = node.array("/spec/taints").iter().filter_map(|taint| taint["key"].as_str());
            keys.into_iter().find(|key| DOOMED_TAINTS.contains(key)).map(str::to_owned)
        };
        let what = match case.world().object(Side::Source, Kind::Node, name) {
            None => "a pod of the set runs on it, but it is not there".to_owned(),
            Some(node) if node.is_terminating() => "it is being deleted".to_owned(),
            Some(node) => match (node.condition("Ready"), doom(node)) {
                (Some("True"), None) => continue,
                (Some("True"), Some(taint)) => format!("it is about to be removed (taint {taint})"),
                _ => "it is not Ready: a pod on it could not be stopped cleanly".to_owned(),
            },
        };
        let kubectl = case.source(Kind::Node);
        findings.push(Finding {
            code: "PF-12",
            level: Level::Forceable,
            subject: super::scope::subject(Side::Source, Kind::Node, name),
            what,
            remedy: format!(
                "`{kubectl} describe node {name}`; bring it back or let the pod be moved off it, or add `--force`"
            ),
        });
    }
    findings
}
