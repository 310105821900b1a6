//! One by one, or all together? (PF-34) A person chooses; here is the evidence, and who else is
//! part of the same system.

use std::collections::BTreeSet;

use serde_json::Value;

use super::case::Case;
use super::dependencies::{config_maps, containers, items};
use super::scope::Scope;
use super::{Finding, Level};
use crate::names::some;
use crate::plan::Request;
use crate::report::count;
use crate::world::{Kind, Object, Read, Side, World};

/// Returns what speaks for `together`: signs that the set's members need each other (SS-14). Empty
/// when there are none, or the set is not known.
pub fn evidence(request: &Request, world: &World) -> Vec<String> {
    Case::new(Scope { request, world }).map_or_else(Vec::new, |case| of(&case))
}

/// Returns the reads that [`evidence`] needs.
pub(super) fn reads(case: &Case<'_>) -> Vec<Read> {
    let names = config_maps(case.pod_spec()).into_iter();
    names.map(|name| Read::Get(Side::Source, Kind::ConfigMap, name.to_owned())).collect()
}

/// PF-34: with more than one replica, somebody has chosen.
pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    if case.set.replicas() <= 1 || case.scope.request.order.is_some() {
        return Vec::new();
    }
    let evidence = of(case);
    let signs = match evidence.as_slice() {
        [] => "no sign was found that its members need each other, but that is no proof".to_owned(),
        signs => format!("signs that its members need each other: {}", some(signs)),
    };
    vec![case.finding(
        "PF-34",
        Level::Blocks,
        format!("it has {} replicas, and nobody has chosen how they move; {signs}", case.set.replicas()),
        format!(
            "`{}` keeps all but one up, for members that do without each other; `{}` stops all and starts all, for those that do not (a quorum, a primary with replicas)",
            case.scope.command("run", "--order one-by-one"),
            case.scope.command("run", "--order together")
        ),
    )]
}

fn of(case: &Case<'_>) -> Vec<String> {
    let mut evidence = Vec::new();
    evidence.extend(peer_names(case));
    let governing = case.set.text("/spec/serviceName").unwrap_or_default();
    if let Some(service) = case.world().object(Side::Source, Kind::Service, governing)
        && service.at("/spec/publishNotReadyAddresses") == Some(&Value::Bool(true))
    {
        evidence.push(format!("Service {governing} publishes addresses of pods that are not Ready, so that members find each other at the start"));
    }
    if case.set.text("/spec/podManagementPolicy") == Some("Parallel") {
        evidence.push("podManagementPolicy is Parallel: members start at once".to_owned());
    }
    for budget in budgets(case) {
        evidence.push(format!("PodDisruptionBudget {} keeps {}", budget.name(), allowance(budget)));
    }
    let spreads = items(&case.pod_spec()["topologySpreadConstraints"])
        .filter(|spread| spread["whenUnsatisfiable"] == "DoNotSchedule")
        .filter_map(|spread| spread["topologyKey"].as_str());
    for key in spreads {
        evidence.push(format!("a required topology spread over {key}, which pinned zones may satisfy only as a whole"));
    }
    evidence
}

/// Places that spell out a pod's own name in DNS, `web-0.`, or its ordinal with any number, `web-`.
fn peer_names(case: &Case<'_>) -> Vec<String> {
    let stem = format!("{}-", case.set.name());
    let names_peer = |text: &str| -> Option<String> {
        text.match_indices(&stem).find_map(|(at, _)| {
            // Not in the middle of another name, such as `my-web-0.`.
            let is_start =
                text[..at].chars().next_back().is_none_or(|before| !before.is_ascii_alphanumeric() && before != '-');
            let rest = &text[at + stem.len()..];
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            (is_start && digits > 0 && rest[digits..].starts_with('.')).then(|| format!("{stem}{}", &rest[..digits]))
        })
    };
    let mut places = Vec::new();
    for container in containers(case.pod_spec()) {
        let name = container["name"].as_str().unwrap_or_default();
        let arguments =
            ["command", "args"].into_iter().flat_map(|key| items(&container[key])).filter_map(Value::as_str);
        if let Some(peer) = arguments.into_iter().find_map(names_peer) {
            places.push(format!("container {name} names {peer} in its arguments"));
        }
        for variable in items(&container["env"]) {
            if let Some(peer) = variable["value"].as_str().and_then(names_peer) {
                let variable = variable["name"].as_str().unwrap_or_default();
                places.push(format!("container {name} names {peer} in its variable {variable}"));
            }
        }
    }
    for name in config_maps(case.pod_spec()) {
        let Some(map) = case.world().object(Side::Source, Kind::ConfigMap, name) else { continue };
        let values = map.at("/data").and_then(Value::as_object).into_iter().flatten();
        for (key, value) in values {
            if let Some(peer) = value.as_str().and_then(names_peer) {
                places.push(format!("ConfigMap {name} names {peer} in {key}"));
            }
        }
    }
    places
}

/// Returns the budgets over the set's pods.
fn budgets<'a>(case: &Case<'a>) -> impl Iterator<Item = &'a Object> {
    let labels = case.set.at("/spec/template/metadata/labels");
    case.world()
        .objects(Side::Source, Kind::PodDisruptionBudget)
        .filter(move |budget| selects(budget.at("/spec/selector"), labels))
}

fn allowance(budget: &Object) -> String {
    let value = |key: &str| budget.at(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    match (value("/spec/minAvailable"), value("/spec/maxUnavailable")) {
        (Some(least), _) => format!("{least} pods available"),
        (None, Some(most)) => format!("at most {most} unavailable"),
        (None, None) => "pods available".to_owned(),
    }
}

/// Returns whether a label selector selects these labels.
pub(super) fn selects(selector: Option<&Value>, labels: Option<&Value>) -> bool {
    let (Some(selector), Some(labels)) = (selector, labels) else { return false };
    let label = |key: &Value| labels.get(key.as_str().unwrap_or_default()).and_then(Value::as_str);
    let equal =
        selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let expressions = items(&selector["matchExpressions"]).all(|expression| {
        let found = label(&expression["key"]);
        let is_listed = || items(&expression["values"]).any(|value| value.as_str() == found);
        match expression["operator"].as_str() {
            Some("In") => found.is_some() && is_listed(),
            Some("NotIn") => found.is_none() || !is_listed(),
            Some("Exists") => found.is_some(),
            Some("DoesNotExist") => found.is_none(),
            _ => false,
        }
    });
    equal && expressions
}

/// PF-34: other sets that seem to be parts of the same system are named, and what budgets over the
/// pods allow once no controller stands behind them (GC-9).
pub(super) fn siblings(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut names: BTreeSet<String> = BTreeSet::new();
    for other in case.world().objects(Side::Source, Kind::StatefulSet).filter(|other| other.name() != case.set.name()) {
        let reasons = kinship_reasons(case, other);
        if !reasons.is_empty() {
            names.insert(format!("{} ({})", other.name(), reasons.join(", ")));
        }
    }
    if !names.is_empty() {
        let names: Vec<String> = names.into_iter().collect();
        findings.push(case.finding(
            "PF-34",
            Level::Tells,
            format!("other sets seem to be parts of the same system, and are not moved with it: {}", some(&names)),
            format!(
                "move them too, each with its own `run`; `{} get statefulsets` lists them",
                case.source(Kind::StatefulSet)
            ),
        ));
    }
    for budget in budgets(case) {
        findings.push(Finding {
            code: "PF-34",
            level: Level::Tells,
            subject: super::scope::subject(Side::Source, Kind::PodDisruptionBudget, budget.name()),
            what: after_the_freeze(case, budget),
            remedy: format!(
                "drain no node of the set during the move; `{} get pdb`",
                case.source(Kind::PodDisruptionBudget)
            ),
        });
    }
    findings
}

/// Returns what a budget over the set's pods will allow once these have no controller. Its own
/// controller reckons a share from the size of the workloads that it finds behind the pods, so ownerless
/// pods count as healthy, but not as wanted (GC-9).
fn after_the_freeze(case: &Case<'_>, budget: &Object) -> String {
    if budget.at("/spec/minAvailable").is_some_and(Value::is_number) {
        return format!(
            "it keeps {} after the freeze as before, and counts only those in the source: each pod that has moved is one less to be evicted",
            allowance(budget)
        );
    }
    let pods: Vec<&Object> = case
        .world()
        .objects(Side::Source, Kind::Pod)
        .filter(|pod| !pod.is_finished_pod() && selects(budget.at("/spec/selector"), pod.at("/metadata/labels")))
        .collect();
    let others =
        pods.iter().filter(|pod| pod.controller().is_some_and(|owner| owner.uid != case.set.uid())).count() as i64;
    if others == 0 {
        return format!(
            "after the freeze the set's pods have no controller, and `{}` cannot be counted then: it allows no eviction, drains of their nodes in the source hang",
            allowance(budget)
        );
    }
    let healthy =
        pods.iter().filter(|pod| pod.condition("Ready") == Some("True") && !pod.is_terminating()).count() as i64;
    let wanted = match (budget.at("/spec/minAvailable"), budget.at("/spec/maxUnavailable")) {
        (Some(least), _) => share(least, others),
        (None, Some(most)) => others - share(most, others),
        (None, None) => others,
    };
    format!(
        "after the freeze it reckons `{}` from the {others} pods that still have a controller, while all {healthy} healthy ones count: it then allows {} at once, of the set's pods too, which nobody makes again",
        allowance(budget),
        count((healthy - wanted.max(0)).max(0) as usize, "eviction")
    )
}

/// Returns a number or a percentage of a whole, rounded up as Kubernetes does for budgets.
fn share(value: &Value, whole: i64) -> i64 {
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok());
    match percent {
        Some(percent) => (whole * percent + 99) / 100,
        None => value.as_i64().unwrap_or_default(),
    }
}

fn kinship_reasons(case: &Case<'_>, other: &Object) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    let service = |set: &Object| set.text("/spec/serviceName").filter(|name| !name.is_empty()).map(str::to_owned);
    if service(case.set).is_some() && service(case.set) == service(other) {
        reasons.push("same governing Service");
    }
    let labels = other.at("/spec/template/metadata/labels");
    if budgets(case).any(|budget| selects(budget.at("/spec/selector"), labels)) {
        reasons.push("same PodDisruptionBudget");
    }
    let own = case.set.at("/spec/template/metadata/labels");
    let is_shared = |service: &Object| {
        let Some(selector) =
            service.at("/spec/selector").filter(|map| map.as_object().is_some_and(|map| !map.is_empty()))
        else {
            return false;
        };
        let selector = serde_json::json!({ "matchLabels": selector });
        selects(Some(&selector), own) && selects(Some(&selector), labels)
    };
    if case.world().objects(Side::Source, Kind::Service).any(is_shared) {
        reasons.push("same Service");
    }
    let release = |set: &Object| {
        set.annotation("meta.helm.sh/release-name").or(set.label("app.kubernetes.io/instance")).map(str::to_owned)
    };
    if release(case.set).is_some() && release(case.set) == release(other) {
        reasons.push("same release");
    }
    reasons
}
