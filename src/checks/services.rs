//! The governing Service (PF-33), and Services and Ingresses in B under names that are needed (PF-20).

use super::case::Case;
use super::scope::subject;
use super::twins;
use super::{Finding, Level};
use crate::names::some;
use crate::plan::{ServiceKinship, kinship, labels_of_others, node_ports, same_meaning};
use crate::world::{Kind, Object, Side};

/// PF-33: the governing Service is in A, and in B either absent (prepare makes it) or the same.
pub(super) fn governing(case: &Case<'_>) -> Vec<Finding> {
    let name = case.set.text("/spec/serviceName").unwrap_or_default();
    let kubectl = case.source(Kind::Service);
    let mut findings =
        case.scope.doubts("PF-33", Level::Blocks, &[Kind::Service], "whether the governing Service is right");
    if !findings.is_empty() {
        return findings;
    }
    if name.is_empty() {
        findings.push(
            case.finding(
                "PF-33",
                Level::Warns,
                "it has no governing Service (`spec.serviceName` is empty): its pods have no names of their own in DNS"
                    .to_owned(),
                format!("nothing is to be done if they run without; `{kubectl} get services`"),
            ),
        );
        return findings;
    }
    let there = case.world().object(Side::Destination, Kind::Service, name);
    match (case.world().object(Side::Source, Kind::Service, name), there) {
        (None, _) => findings.push(Finding {
            code: "PF-33",
            level: Level::Warns,
            subject: subject(Side::Source, Kind::Service, name),
            what: "the set names it as its governing Service, but it is not there: pods have no names of their own in DNS, here and there".to_owned(),
            remedy: format!("nothing is to be done if they run without; `{kubectl} get services`"),
        }),
        (Some(source), Some(found)) if !case.is_ours(found) && !same_meaning(source, found) => findings.push(Finding {
            code: "PF-33",
            level: Level::Blocks,
            subject: subject(Side::Destination, Kind::Service, name),
            what: "it is there, but means something else than the set's governing Service in the source (cluster IP or none, selector, ports, publishNotReadyAddresses)".to_owned(),
            remedy: format!(
                "compare `{kubectl} get service {name} -o yaml` with `{} get service {name} -o yaml`; make it the same, or delete it if nobody needs it",
                case.destination(Kind::Service)
            ),
        }),
        (Some(_), _) => {}
    }
    findings
}

/// PF-33: a Service whose selector needs a label that the pods get from somebody else (a role, set by
/// a sidecar or an operator) is empty in B until somebody does the same there.
pub(super) fn labelled(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for service in case.world().objects(Side::Source, Kind::Service) {
        let is_own = matches!(
            kinship(case.set, service, case.world()),
            ServiceKinship::OwnQuiet | ServiceKinship::OwnPublishing
        );
        let labels = labels_of_others(case.set, service);
        if is_own && !labels.is_empty() {
            findings.push(Finding {
                code: "PF-33",
                level: Level::Warns,
                subject: subject(Side::Source, Kind::Service, service.name()),
                what: format!(
                    "it selects by {}, which the set's template does not give: in the destination it leads to no pod until somebody labels one there",
                    some(&labels)
                ),
                remedy: format!(
                    "see to it that what sets the label works there too (a sidecar, an operator); `{} get pods --show-labels`",
                    case.source(Kind::Pod)
                ),
            });
        }
    }
    findings
}

/// PF-20: what is carried over is absent in B, or there with the same meaning; what several share is
/// named, and stays.
pub(super) fn taken(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = case.scope.doubts("PF-20", Level::Blocks, &[Kind::Ingress], "whether the names are free");
    let governing = case.set.text("/spec/serviceName").unwrap_or_default();
    let mut shared = Vec::new();
    for kind in [Kind::Service, Kind::Ingress] {
        for object in case.world().objects(Side::Source, kind) {
            match kinship(case.set, object, case.world()) {
                ServiceKinship::Unrelated => continue,
                ServiceKinship::Shared => {
                    shared.push(format!("{kind} {}", object.name()));
                    continue;
                }
                ServiceKinship::OwnQuiet | ServiceKinship::OwnPublishing => {}
            }
            let found = case.world().object(Side::Destination, kind, object.name());
            let is_governing = kind == Kind::Service && object.name() == governing;
            findings.extend(node_ports_taken(case, object, found));
            if let Some(found) = found.filter(|found| !is_governing && clashes(case, object, found)) {
                findings.push(twins::taken(
                    case,
                    kind,
                    found,
                    "one of that name is there already, and means something else",
                ));
            }
        }
    }
    if !shared.is_empty() {
        findings.push(Finding {
            code: "PF-20",
            level: Level::Tells,
            subject: format!("{} (source)", some(&shared)),
            what: "they select the set's pods and others', so they are not carried over".to_owned(),
            remedy: format!(
                "make them in the destination yourself where they are needed; `{} get services,ingresses -o wide`",
                case.source(Kind::Service)
            ),
        });
    }
    findings
}

/// Node ports are what clients know of a NodePort Service, and each is one Service's only.
fn node_ports_taken(case: &Case<'_>, source: &Object, found: Option<&Object>) -> Option<Finding> {
    if found.is_some() || node_ports(source).next().is_none() {
        return None;
    }
    let subject = subject(Side::Source, Kind::Service, source.name());
    let kubectl = format!("kubectl --context {} get services -A", case.scope.place(Side::Destination).context);
    if let Some(Err(unknown)) = &case.world().node_ports {
        return Some(Finding {
            code: "PF-20",
            level: Level::Warns,
            subject,
            what: format!("whether its node ports are free in the destination is not known ({})", unknown.reason),
            remedy: format!("look yourself, with somebody who may: `{kubectl}`"),
        });
    }
    let taken: Vec<String> = node_ports(source)
        .filter_map(|port| Some(format!("{port} by Service {}", case.world().node_port_holder(port)?)))
        .collect();
    (!taken.is_empty()).then(|| Finding {
        code: "PF-20",
        level: Level::Forceable,
        subject,
        what: format!("node ports of it are taken in the destination: {}", some(&taken)),
        remedy: format!("free them (`{kubectl}`), or let the destination choose others, which clients must learn"),
    })
}

fn clashes(case: &Case<'_>, source: &Object, found: &Object) -> bool {
    !case.is_ours(found) && !same_meaning(source, found)
}
