//! What the pods need to be there in B: PF-31, existence.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::case::{Case, is_ebs};
use super::scope::subject;
use super::{Finding, Level};
use crate::world::{Answer, Kind, Read, Side};

/// ConfigMap that every namespace has of its own.
const ROOT_CERTIFICATES: &str = "kube-root-ca.crt";

/// Kinds whose content is compared with A's.
pub(super) const COMPARED: [Kind; 2] = [Kind::Secret, Kind::ConfigMap];

/// Something that a pod names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    /// Its kind.
    pub(super) kind: Kind,
    /// Its name.
    pub(super) name: String,
}

/// Returns the reads that `check` needs.
pub(super) fn reads(case: &Case<'_>) -> Vec<Read> {
    let needs = needs(case);
    let destination = needs.keys().map(|need| Read::Get(Side::Destination, need.kind, need.name.clone()));
    let compared = needs.keys().filter(|need| COMPARED.contains(&need.kind));
    let source = compared.map(|need| Read::Get(Side::Source, need.kind, need.name.clone()));
    destination.chain(source).collect()
}

/// PF-31: ServiceAccount, Secrets, ConfigMaps, PriorityClass, RuntimeClass and foreign claims that
/// the pod template names are in B. What it calls optional may be missing.
pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let side = Side::Destination;
    let mut findings = Vec::new();
    for (need, user) in needs(case) {
        match case.world().get(side, need.kind, &need.name) {
            Answer::Present { .. } => {}
            Answer::Unread | Answer::Unknown(_) => {
                findings.extend(case.scope.doubt_one("PF-31", Level::Blocks, side, need.kind, &need.name));
            }
            Answer::Absent { .. } => findings.push(missing(case, &need, &user)),
        }
    }
    findings
}

fn missing(case: &Case<'_>, need: &Need, user: &str) -> Finding {
    let (source, destination) = (case.source(need.kind), case.destination(need.kind));
    let (resource, name) = (need.kind.name().to_lowercase(), &need.name);
    let remedy = match need.kind {
        Kind::PersistentVolumeClaim => format!(
            "create a claim of that name in the destination; `{source} get pvc {name} -o yaml` shows the source's"
        ),
        _ => format!(
            "carry it over: look at `{source} get {resource} {name} -o yaml`, and `{destination} apply -f` what is right there"
        ),
    };
    Finding {
        code: "PF-31",
        level: Level::Blocks,
        subject: subject(Side::Destination, need.kind, name),
        what: format!("it is not there, but the pods need it ({user}): they would not start"),
        remedy,
    }
}

/// Returns what the pods name, each with one place that names it.
pub(super) fn needs(case: &Case<'_>) -> BTreeMap<Need, String> {
    let mut needs: BTreeMap<Need, String> = BTreeMap::new();
    let mut add = |kind: Kind, name: Option<&str>, user: String| {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            needs.entry(Need { kind, name: name.to_owned() }).or_insert(user);
        }
    };
    let spec = case.pod_spec();
    let account = account(case);
    // Every namespace gets its `default`; one that is still to be made has it when it is there.
    if account != "default" {
        add(Kind::ServiceAccount, Some(account), "serviceAccountName".to_owned());
        // Its imagePullSecrets are put into the pods at their creation.
        let found = case.world().object(Side::Destination, Kind::ServiceAccount, account);
        for secret in found.into_iter().flat_map(|found| found.array("/imagePullSecrets")) {
            add(Kind::Secret, secret["name"].as_str(), format!("imagePullSecrets of ServiceAccount {account}"));
        }
    }
    for secret in items(&spec["imagePullSecrets"]) {
        add(Kind::Secret, secret["name"].as_str(), "imagePullSecrets".to_owned());
    }
    // These two are in every cluster.
    let priority = spec["priorityClassName"].as_str().filter(|name| !name.starts_with("system-"));
    add(Kind::PriorityClass, priority, "priorityClassName".to_owned());
    add(Kind::RuntimeClass, spec["runtimeClassName"].as_str(), "runtimeClassName".to_owned());
    for reference in references(spec) {
        add(reference.0, Some(&reference.1), reference.2);
    }
    let own: BTreeSet<&str> = case.claims.iter().map(|claim| claim.name.as_str()).collect();
    for name in case.set.plain_claims().into_iter().filter(|name| !own.contains(name)) {
        if !is_ebs_claim(case, name) {
            add(Kind::PersistentVolumeClaim, Some(name), "a volume of the pod template".to_owned());
        }
    }
    needs
}

/// Returns the ServiceAccount that the pods run as.
pub(super) fn account<'a>(case: &Case<'a>) -> &'a str {
    let spec = case.pod_spec();
    ["serviceAccountName", "serviceAccount"].iter().find_map(|key| spec[*key].as_str()).unwrap_or("default")
}

/// EBS claims of several pods are refused by PF-15.
fn is_ebs_claim(case: &Case<'_>, name: &str) -> bool {
    let world = case.world();
    world
        .object(Side::Source, Kind::PersistentVolumeClaim, name)
        .and_then(|claim| claim.text("/spec/volumeName"))
        .and_then(|volume| world.object(Side::Source, Kind::PersistentVolume, volume))
        .is_none_or(is_ebs)
}

/// Returns the Secrets and ConfigMaps that a pod spec cannot do without, with the place that names
/// each.
fn references(spec: &Value) -> Vec<(Kind, String, String)> {
    let mut found = Vec::new();
    let mut add = |kind: Kind, reference: &Value, key: &str, user: String| {
        let name = reference[key].as_str().unwrap_or_default();
        if reference["optional"] != true && !(kind == Kind::ConfigMap && name == ROOT_CERTIFICATES) {
            found.push((kind, name.to_owned(), user));
        }
    };
    for container in containers(spec) {
        let name = container["name"].as_str().unwrap_or_default();
        for variable in items(&container["env"]) {
            let user = format!("container {name}, variable {}", variable["name"].as_str().unwrap_or_default());
            add(Kind::Secret, &variable["valueFrom"]["secretKeyRef"], "name", user.clone());
            add(Kind::ConfigMap, &variable["valueFrom"]["configMapKeyRef"], "name", user);
        }
        for source in items(&container["envFrom"]) {
            let user = format!("container {name}, envFrom");
            add(Kind::Secret, &source["secretRef"], "name", user.clone());
            add(Kind::ConfigMap, &source["configMapRef"], "name", user);
        }
    }
    for volume in items(&spec["volumes"]) {
        let user = format!("volume {}", volume["name"].as_str().unwrap_or_default());
        add(Kind::Secret, &volume["secret"], "secretName", user.clone());
        add(Kind::ConfigMap, &volume["configMap"], "name", user.clone());
        for source in items(&volume["projected"]["sources"]) {
            add(Kind::Secret, &source["secret"], "name", user.clone());
            add(Kind::ConfigMap, &source["configMap"], "name", user.clone());
        }
    }
    found
}

/// Returns all containers of a pod spec, the init ones first.
pub(super) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().flat_map(|key| items(&spec[key]))
}

/// Returns the elements of an array, none when it is none.
pub(super) fn items(value: &Value) -> std::slice::Iter<'_, Value> {
    value.as_array().map_or(&[][..], Vec::as_slice).iter()
}

/// Returns the names of the ConfigMaps that a pod spec names, optional or not.
pub(super) fn config_maps(spec: &Value) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for container in containers(spec) {
        let variables = items(&container["env"]).map(|variable| &variable["valueFrom"]["configMapKeyRef"]["name"]);
        let sources = items(&container["envFrom"]).map(|source| &source["configMapRef"]["name"]);
        names.extend(variables.chain(sources).filter_map(Value::as_str));
    }
    for volume in items(&spec["volumes"]) {
        names.extend(volume["configMap"]["name"].as_str());
        names.extend(items(&volume["projected"]["sources"]).filter_map(|source| source["configMap"]["name"].as_str()));
    }
    names.remove(ROOT_CERTIFICATES);
    names
}
