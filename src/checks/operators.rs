//! Does something else hold the set, and would make it again? (PF-8, OP-5)
//!
//! An operator that finds its set gone creates it within seconds, in the middle of the move. The
//! signs are owner references, labels, field managers and readiness gates.

use serde_json::Value;

use super::case::Case;
use super::{Finding, Level};
use crate::names::some;
use crate::world::{Kind, Object, Side};

/// Prefixes of label and annotation keys that only operators set.
const OPERATOR_MARKS: &[&str] = &[
    "acid.zalan.do/",
    "cnpg.io/",
    "common.k8s.elastic.co/",
    "crdb.io/",
    "k8ssandra.io/",
    "operator.prometheus.io/",
    "postgres-operator.crunchydata.com/",
    "strimzi.io/",
];

/// API groups (or their ends) whose resources are often called like a set but never make one.
const BYSTANDERS: &[&str] = &[
    "argoproj.io",
    "autoscaling.k8s.io",
    "bitnami.com",
    "cert-manager.io",
    "cilium.io",
    "external-secrets.io",
    "externaldns.k8s.io",
    "gateway.networking.k8s.io",
    "istio.io",
    "k8s.aws",
    "keda.sh",
    "kyverno.io",
    "projectcalico.org",
    "secrets-store.csi.x-k8s.io",
    "snapshot.storage.k8s.io",
    "toolkit.fluxcd.io",
    "traefik.io",
    "velero.io",
];

/// Kinds of monitoring.coreos.com that only watch; the others (Prometheus, Alertmanager) make sets.
const MONITORS: &[&str] = &["PodMonitor", "Probe", "PrometheusRule", "ScrapeConfig", "ServiceMonitor"];

/// Managers of fields whose names sound like an operator's, but which only carry manifests over or
/// are Kubernetes' own.
const CARRIERS: &[&str] = &[
    "argocd-application-controller",
    "argocd-controller",
    "fleet-controller",
    "helm-controller",
    "kapp-controller",
    "kube-controller-manager",
    "kustomize-controller",
];

/// PF-8: no operator owns the set, as far as signs tell.
pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut signs = signs(case.set);
    let namesakes = case.world().namesakes.get(&read(case));
    let found = namesakes.map_or(&[][..], |namesakes| namesakes.found.as_slice());
    signs.extend(found.iter().filter(|title| makes_sets(title)).map(|title| format!("there is a {title} of its name")));
    if !signs.is_empty() {
        findings.push(case.finding(
            "PF-8",
            Level::Forceable,
            format!("something else seems to hold it and may create it again in the middle of the move: {}", some(&signs)),
            format!(
                "stop the operator first (such as `{} scale deployment OPERATOR --replicas=0` in its namespace), then add `--force`",
                case.source(Kind::Namespace)
            ),
        ));
    }
    // Operators show in other ways too, and a set that is made again stops the move before a pod goes.
    if let Some(unknown) = namesakes.and_then(|namesakes| namesakes.unknown.as_ref()) {
        findings.push(case.finding(
            "PF-8",
            Level::Warns,
            format!(
                "custom resources of its name could not all be read ({}), so whether an operator makes it is not known",
                unknown.reason
            ),
            format!("look yourself: `{} get crd`", case.source(Kind::Namespace)),
        ));
    }
    findings
}

/// PF-8: nothing but the set and its pods owns a claim.
pub(super) fn owners(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for claim in &case.claims {
        let Some(object) = claim.claim else { continue };
        // Owner references to the set or its pods are retention policies at work (PF-13).
        let owners: Vec<String> = object
            .owners()
            .filter(|owner| owner.kind != "Pod" && owner.uid != case.set.uid())
            .map(|owner| format!("{} {}", owner.kind, owner.name))
            .collect();
        if !owners.is_empty() {
            findings.push(Finding {
                code: "PF-8",
                level: Level::Forceable,
                subject: claim.subject(),
                what: format!("it belongs to {}: the claim is deleted when that is", some(&owners)),
                remedy: format!(
                    "look at it (`{} get pvc {} -o yaml`), stop what made it, then add `--force`",
                    case.source(Kind::PersistentVolumeClaim),
                    claim.name
                ),
            });
        }
    }
    findings
}

/// Returns the read that tells of custom resources of the set's name.
pub(super) fn read(case: &Case<'_>) -> (Side, String) {
    (Side::Source, case.set.name().to_owned())
}

fn makes_sets(title: &str) -> bool {
    let (kind, group) = title.split_once('.').unwrap_or((title, ""));
    let is_of = |end: &str| group == end || group.ends_with(&format!(".{end}"));
    let is_monitor = group == "monitoring.coreos.com" && MONITORS.contains(&kind);
    !is_monitor && !BYSTANDERS.iter().any(|end| is_of(end))
}

fn signs(set: &Object) -> Vec<String> {
    let mut signs = Vec::new();
    if let Some(owner) = set.controller() {
        signs.push(format!("it is owned by {} {}", owner.kind, owner.name));
    }
    for (key, value) in set.marks() {
        if OPERATOR_MARKS.iter().any(|mark| key.starts_with(mark)) {
            signs.push(format!("{key}: {value}"));
        }
    }
    if let Some(manager) = set.label("app.kubernetes.io/managed-by").filter(|manager| sounds_like_operator(manager)) {
        signs.push(format!("label app.kubernetes.io/managed-by: {manager}"));
    }
    let mut managers: Vec<&str> = set
        .array("/metadata/managedFields")
        .iter()
        // Writers of the status only, such as the set's own controller, hold nothing.
        .filter(|entry| entry["subresource"].as_str().unwrap_or_default().is_empty())
        .filter_map(|entry| entry["manager"].as_str())
        .filter(|manager| sounds_like_operator(manager))
        .collect();
    managers.sort_unstable();
    managers.dedup();
    signs.extend(managers.into_iter().map(|manager| format!("fields of it were written by {manager}")));
    for gate in set.array("/spec/template/spec/readinessGates") {
        let gate = gate.get("conditionType").and_then(Value::as_str).unwrap_or_default();
        signs.push(format!("its pods have the readiness gate {gate}, which only something else can set"));
    }
    signs
}

fn sounds_like_operator(manager: &str) -> bool {
    let manager = manager.to_ascii_lowercase();
    let sounds = manager.contains("operator") || manager.ends_with("-controller") || manager == "manager";
    sounds && !CARRIERS.contains(&manager.as_str())
}
