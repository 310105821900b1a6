//! Does anything else use the claims? (PF-18, OP-6)
//!
//! Another pod keeps the volume attached when the set's pod is gone, or takes it back whenever the
//! destination lets go of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::case::{Case, Role};
use super::scope::subject;
use super::{Finding, Level};
use crate::record::Subject;
use crate::world::{Kind, Object, Side, claim_name};

/// Kinds whose pod templates may name a claim.
pub(super) const WORKLOADS: [Kind; 5] =
    [Kind::StatefulSet, Kind::Deployment, Kind::DaemonSet, Kind::Job, Kind::CronJob];

/// PF-18: no other pod and no other workload uses the claims, in A or under their names in B.
pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = case.scope.doubts("PF-18", Level::Blocks, &[Kind::Pod], "whether another pod uses the claims");
    findings.extend(case.scope.doubts("PF-18", Level::Blocks, &WORKLOADS, "whether another workload uses the claims"));
    // The claims, each with the only pod that may use it.
    let claims: BTreeMap<&str, Option<String>> = case
        .claims
        .iter()
        .map(|claim| {
            let pod = match claim.role {
                Role::Ordinal(ordinal) | Role::Plain(ordinal) => Some(case.pod_name(ordinal)),
                Role::Idle | Role::Alone => None,
            };
            (claim.name.as_str(), pod)
        })
        .collect();
    for side in Side::BOTH {
        pods(case, side, &claims, &mut findings);
        for kind in WORKLOADS {
            workloads(case, side, kind, &claims, &mut findings);
        }
        sets(case, side, &claims, &mut findings);
    }
    findings
}

fn pods(case: &Case<'_>, side: Side, claims: &BTreeMap<&str, Option<String>>, findings: &mut Vec<Finding>) {
    for pod in case.world().objects(side, Kind::Pod).filter(|pod| !pod.is_finished_pod()) {
        for name in pod.claim_names() {
            let Some(own) = claims.get(name) else { continue };
            let is_own = side == Side::Source
                && own.as_deref() == Some(pod.name())
                && pod.owners().any(|owner| owner.uid == case.set.uid());
            if is_own {
                continue;
            }
            let kubectl = case.scope.kubectl(side, Kind::Pod);
            findings.push(Finding {
                code: "PF-18",
                level: Level::Blocks,
                subject: subject(side, Kind::Pod, pod.name()),
                what: format!(
                    "it uses claim {name}{}, and would keep or take the volume",
                    if is_alone(case) { "" } else { " too" }
                ),
                remedy: format!(
                    "`{kubectl} delete pod {}` and stop what makes it, then run this again{}",
                    pod.name(),
                    if is_alone(case) { "; or let it end: `--wait` waits for that" } else { "" }
                ),
            });
        }
    }
}

/// Workloads whose templates name a claim, whether or not a pod runs at the moment.
fn workloads(
    case: &Case<'_>,
    side: Side,
    kind: Kind,
    claims: &BTreeMap<&str, Option<String>>,
    findings: &mut Vec<Finding>,
) {
    for workload in case.world().objects(side, kind) {
        let is_this = kind == Kind::StatefulSet && workload.name() == case.set.name();
        if is_this || is_over(kind, workload) {
            continue;
        }
        let named: BTreeSet<&str> =
            template_claims(workload).into_iter().filter(|name| claims.contains_key(name)).collect();
        for name in named {
            findings.push(in_use(case, side, kind, workload, name));
        }
    }
}

/// Other sets whose constructed claim names are among ours (set `web`, template `data-web` and set
/// `web-web`, template `data`).
fn sets(case: &Case<'_>, side: Side, claims: &BTreeMap<&str, Option<String>>, findings: &mut Vec<Finding>) {
    for set in case.world().objects(side, Kind::StatefulSet).filter(|set| set.name() != case.set.name()) {
        let first = set.first_ordinal();
        for template in set.claim_templates() {
            let stem = format!("{template}-{}-", set.name());
            let candidates = claims.range(stem.as_str()..).take_while(|(name, _)| name.starts_with(&stem));
            for (name, _) in candidates {
                let ordinal = name[stem.len()..].parse::<i64>().unwrap_or(-1);
                let is_used = (first..first + set.replicas()).contains(&ordinal)
                    && claim_name(template, set.name(), ordinal) == *name;
                if is_used {
                    findings.push(in_use(case, side, Kind::StatefulSet, set, name));
                }
            }
        }
    }
}

fn in_use(case: &Case<'_>, side: Side, kind: Kind, workload: &Object, claim: &str) -> Finding {
    let (kubectl, name) = (case.scope.kubectl(side, kind), workload.name());
    let resource = kind.name().to_lowercase();
    // A claim alone may move between two runs of a CronJob (§2): the gate sees a pod that starts.
    let is_at_rest = is_at_rest(kind, workload) || (is_alone(case) && kind == Kind::CronJob);
    let (level, state) = match is_at_rest {
        true => (Level::Forceable, "it is at rest now, but its pod template names"),
        false => (Level::Blocks, "its pod template names"),
    };
    let stop = match kind {
        Kind::CronJob => format!("`{kubectl} patch cronjob {name} -p '{{\"spec\":{{\"suspend\":true}}}}'`"),
        Kind::Deployment | Kind::StatefulSet => format!("`{kubectl} scale {resource} {name} --replicas=0`"),
        _ => format!("`{kubectl} delete {resource} {name}`"),
    };
    let move_alone = match side {
        Side::Source if is_alone(case) && kind == Kind::StatefulSet => {
            format!("; or move the set with it: `{}`", case.scope.of_set(name, ""))
        }
        Side::Source if !is_alone(case) => {
            format!("; or stop this set too and move the claim alone: `{}`", case.scope.of_claim(claim))
        }
        Side::Source | Side::Destination => String::new(),
    };
    Finding {
        code: "PF-18",
        level,
        subject: subject(side, kind, name),
        what: format!("{state} claim {claim}: its pods would keep or take the volume"),
        remedy: match level {
            Level::Blocks => format!("stop it: {stop}, then add `--force`{move_alone}"),
            _ => format!("leave it at rest, or take the claim out of it, and add `--force`{move_alone}"),
        },
    }
}

fn is_alone(case: &Case<'_>) -> bool {
    case.scope.request.subject == Subject::Claim
}

fn is_at_rest(kind: Kind, workload: &Object) -> bool {
    match kind {
        Kind::CronJob => workload.at("/spec/suspend") == Some(&Value::Bool(true)),
        Kind::Deployment | Kind::StatefulSet => workload.number("/spec/replicas") == Some(0),
        Kind::Job => workload.at("/spec/suspend") == Some(&Value::Bool(true)),
        _ => false,
    }
}

/// Jobs that ended start no pod any more.
fn is_over(kind: Kind, workload: &Object) -> bool {
    kind == Kind::Job && ["Complete", "Failed"].iter().any(|end| workload.condition(end) == Some("True"))
}

/// Returns the claims that the pod template of a workload names; a volume with the name of a claim
/// template names nothing.
fn template_claims(workload: &Object) -> Vec<&str> {
    let templates: Vec<&str> = workload.claim_templates().collect();
    workload
        .pod_template()
        .and_then(|template| template.pointer("/spec/volumes")?.as_array())
        .into_iter()
        .flatten()
        .filter(|volume| !volume["name"].as_str().is_some_and(|name| templates.contains(&name)))
        .filter_map(|volume| volume.pointer("/persistentVolumeClaim/claimName")?.as_str())
        .collect()
}
