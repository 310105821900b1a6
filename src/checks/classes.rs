//! The StorageClasses that claims and claim templates name. (PF-27)

use std::collections::BTreeMap;

use super::case::{Case, EBS_DRIVER};
use super::scope::subject;
use super::{Finding, Level};
use crate::names::there_are;
use crate::world::{Kind, Object, Side};

/// PF-27: each class, mapped, is in B with the same provisioner; other parameters are a warning.
pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let side = Side::Destination;
    if let Some(doubt) =
        case.scope.doubt("PF-27", Level::Blocks, side, Kind::StorageClass, "whether the classes are there")
    {
        return vec![doubt];
    }
    let classes = classes(case);
    let mut findings: Vec<Finding> = classes.iter().filter_map(|(class, user)| one(case, class, user)).collect();
    let map = &case.scope.request.storage_class_map;
    for old in map.keys().filter(|old| !classes.contains_key(old.as_str())) {
        findings.push(Finding {
            code: "PF-27",
            level: Level::Warns,
            subject: format!("--storage-class-map {old}={}", map[old]),
            what: format!(
                "no claim that moves has class {old}; {}",
                there_are("classes", old, classes.keys().copied())
            ),
            remedy: format!("see what they have: `{} get pvc`", case.source(Kind::PersistentVolumeClaim)),
        });
    }
    findings
}

/// The classes in A's words, each with something that names it. Empty means no class.
fn classes<'a>(case: &Case<'a>) -> BTreeMap<&'a str, String> {
    let mut classes: BTreeMap<&str, String> = BTreeMap::new();
    for claim in &case.claims {
        if let Some(class) = claim.claim.and_then(Object::class) {
            classes.entry(class).or_insert_with(|| format!("claim {}", claim.name));
        }
    }
    for template in case.set.array("/spec/volumeClaimTemplates") {
        let old = template.pointer("/metadata/annotations").and_then(|map| map.get(crate::world::CLASS_ANNOTATION));
        let class = old.or_else(|| template.pointer("/spec/storageClassName")).and_then(|class| class.as_str());
        if let Some(class) = class {
            let name = template.pointer("/metadata/name").and_then(|name| name.as_str()).unwrap_or_default();
            classes.entry(class).or_insert_with(|| format!("claim template {name}"));
        }
    }
    classes.remove("");
    classes
}

fn one(case: &Case<'_>, class: &str, user: &str) -> Option<Finding> {
    let (map, side) = (&case.scope.request.storage_class_map, Side::Destination);
    let wanted = map.get(class).map_or(class, String::as_str);
    if wanted.is_empty() {
        return None;
    }
    let source = case.world().object(Side::Source, Kind::StorageClass, class);
    let Some(found) = case.world().object(side, Kind::StorageClass, wanted) else {
        let names = case.world().objects(side, Kind::StorageClass).map(Object::name);
        let there = there_are("classes", wanted, names);
        // A class that is nowhere is only a word by which a static PV is found.
        let is_word = source.is_none() && case.scope.list_unknown(Side::Source, Kind::StorageClass).is_none();
        return Some(Finding {
            code: "PF-27",
            level: if is_word && wanted == class { Level::Warns } else { Level::Blocks },
            subject: subject(side, Kind::StorageClass, wanted),
            what: format!("{user} has it, and it is not there; {there}"),
            remedy: format!(
                "create it, or name another: `--storage-class-map {class}=NAME`; `{} get storageclass`",
                case.destination(Kind::StorageClass)
            ),
        });
    };
    let source = source?;
    let provisioner = |class: &Object| match class.text("/provisioner") {
        Some("kubernetes.io/aws-ebs") => EBS_DRIVER.to_owned(),
        other => other.unwrap_or_default().to_owned(),
    };
    let compare = format!(
        "`{} get storageclass {class} -o yaml` and `{} get storageclass {wanted} -o yaml`",
        case.source(Kind::StorageClass),
        case.destination(Kind::StorageClass)
    );
    if provisioner(source) != provisioner(found) {
        return Some(Finding {
            code: "PF-27",
            level: Level::Blocks,
            subject: subject(side, Kind::StorageClass, wanted),
            what: format!(
                "its provisioner is {}, that of {class} in the source {}",
                provisioner(found),
                provisioner(source)
            ),
            remedy: format!("name another class: `--storage-class-map {class}=NAME`; compare {compare}"),
        });
    }
    let differences = differences(source, found);
    if differences.is_empty() {
        return None;
    }
    Some(Finding {
        code: "PF-27",
        level: Level::Warns,
        subject: subject(side, Kind::StorageClass, wanted),
        what: format!(
            "its parameters differ from {class} in the source ({}): volumes of later scale-ups will too",
            differences.join("; ")
        ),
        remedy: format!("compare {compare}"),
    })
}

/// Returns a parameter's name as the CSI driver has it; the in-tree plugin's differs for the file system, as
/// Kubernetes' own CSI translation has it.
fn parameter(key: String) -> String {
    if key.eq_ignore_ascii_case("fstype") { "csi.storage.k8s.io/fstype".to_owned() } else { key }
}

fn differences(source: &Object, found: &Object) -> Vec<String> {
    let parameters = |class: &Object| -> BTreeMap<String, String> {
        let map = class.at("/parameters").and_then(|map| map.as_object()).cloned().unwrap_or_default();
        map.into_iter().map(|(key, value)| (parameter(key), value.as_str().unwrap_or_default().to_owned())).collect()
    };
    let (left, right) = (parameters(source), parameters(found));
    let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter(|key| left.get(*key) != right.get(*key))
        .map(|key| {
            let shown = |map: &BTreeMap<String, String>| map.get(key).cloned().unwrap_or_else(|| "nothing".to_owned());
            format!("{key} {} instead of {}", shown(&right), shown(&left))
        })
        .collect()
}
