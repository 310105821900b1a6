//! What is in B under the names that the pods use, but is something else than in A: PF-31, content.
//!
//! Charts make new passwords at every render, so a Secret of the same name with another content is how
//! a database starts on its old data with a password that does not open it. Only whether contents are
//! equal is ever said, never what they are.

use serde_json::Value;

use super::case::Case;
use super::dependencies::{COMPARED, account, needs};
use super::order::selects;
use super::scope::subject;
use super::{Finding, Level};
use crate::names::some;
use crate::world::{Answer, Kind, Object, Side};

/// PF-31: Secrets and ConfigMaps that the pods use have the same content on both sides.
pub(super) fn contents(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for need in needs(case).into_keys().filter(|need| COMPARED.contains(&need.kind)) {
        let Some(there) = case.world().object(Side::Destination, need.kind, &need.name) else { continue };
        let source = match case.world().get(Side::Source, need.kind, &need.name) {
            Answer::Present { object, .. } => object,
            Answer::Absent { .. } => continue,
            Answer::Unread | Answer::Unknown(_) => {
                findings.extend(case.scope.doubt_one("PF-31", Level::Warns, Side::Source, need.kind, &need.name));
                continue;
            }
        };
        if same_content(source, there) {
            continue;
        }
        let resource = need.kind.name().to_lowercase();
        let is_secret = need.kind == Kind::Secret;
        let force = if is_secret { ", or add `--force` if it is meant to differ" } else { "" };
        findings.push(Finding {
            code: "PF-31",
            level: if is_secret { Level::Forceable } else { Level::Warns },
            subject: subject(Side::Destination, need.kind, &need.name),
            what: "its content is not that of the source's, and the pods start on the data of the source".to_owned(),
            remedy: format!(
                "compare `{} get {resource} {} -o yaml` with `{} get {resource} {} -o yaml`, and carry the right one over{force}",
                case.source(need.kind),
                need.name,
                case.destination(need.kind),
                need.name
            ),
        });
    }
    findings
}

fn same_content(source: &Object, there: &Object) -> bool {
    let content =
        |object: &Object, field: &str| object.at(field).cloned().unwrap_or_else(|| Value::Object(Default::default()));
    // Tokens are every cluster's own.
    source.text("/type") == Some("kubernetes.io/service-account-token")
        || ["/data", "/binaryData"].iter().all(|field| content(source, field) == content(there, field))
}

/// PF-31: the pods' ServiceAccount has the Roles in B that it has in A; many sets write with them
/// (leader locks, labels).
pub(super) fn rights(case: &Case<'_>) -> Vec<Finding> {
    let mut findings =
        case.scope.doubts("PF-31", Level::Warns, &[Kind::RoleBinding], "whether the pods have their rights");
    if !findings.is_empty() {
        return findings;
    }
    let account = account(case);
    let bound = |side: Side| {
        let namespace = &case.scope.place(side).namespace;
        case.world().objects(side, Kind::RoleBinding).filter(move |binding| {
            binding.array("/subjects").iter().any(|subject| {
                subject["kind"] == "ServiceAccount"
                    && subject["name"] == account
                    && subject["namespace"].as_str().is_none_or(|of| of == namespace)
            })
        })
    };
    let role = |binding: &Object| binding.at("/roleRef/name").cloned();
    let there: Vec<Option<Value>> = bound(Side::Destination).map(role).collect();
    let missing: Vec<String> = bound(Side::Source)
        .filter(|binding| !there.contains(&role(binding)))
        .map(|binding| binding.name().to_owned())
        .collect();
    if !missing.is_empty() {
        findings.push(Finding {
            code: "PF-31",
            level: Level::Warns,
            subject: subject(Side::Destination, Kind::ServiceAccount, account),
            what: format!("RoleBindings that it has in the source have none like them: {}", some(&missing)),
            remedy: format!(
                "carry them over with their Roles if the pods need them; `{} get rolebindings,roles -o yaml`",
                case.source(Kind::RoleBinding)
            ),
        });
    }
    findings
}

/// PF-31: NetworkPolicies over the pods are in B too.
pub(super) fn networks(case: &Case<'_>) -> Vec<Finding> {
    let kind = Kind::NetworkPolicy;
    let mut findings = case.scope.doubts("PF-31", Level::Warns, &[kind], "whether the pods' network is guarded");
    if !findings.is_empty() {
        return findings;
    }
    let labels = case.set.at("/spec/template/metadata/labels");
    let missing: Vec<String> = case
        .world()
        .objects(Side::Source, kind)
        .filter(|policy| selects(policy.at("/spec/podSelector"), labels))
        .filter(|policy| case.world().object(Side::Destination, kind, policy.name()).is_none())
        .map(|policy| policy.name().to_owned())
        .collect();
    if !missing.is_empty() {
        findings.push(case.finding(
            "PF-31",
            Level::Warns,
            format!("NetworkPolicies over its pods are not in the destination: {}", some(&missing)),
            format!("carry them over if they are needed there; `{} get networkpolicies -o yaml`", case.source(kind)),
        ));
    }
    findings
}
