//! Does the set spell out its own namespace, which is another one in B? (PF-43)
//!
//! Half of all charts do. Some name the data *directory* after the pod's full name: such a pod is Ready
//! in another namespace, on an empty directory.

use serde_json::Value;

use super::case::Case;
use super::dependencies::{config_maps, containers, items};
use super::{Finding, Level};
use crate::names::some;
use crate::world::{Kind, Side};

/// PF-43: with another namespace in B, nothing names the one in A.
pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let (old, new) = (&case.scope.request.source.namespace, &case.scope.request.destination.namespace);
    if old == new {
        return Vec::new();
    }
    let places = places(case, old);
    if places.is_empty() {
        return Vec::new();
    }
    vec![case.finding(
        "PF-43",
        Level::Forceable,
        format!("it depends on the name of its namespace ({old}), which becomes {new}: {}", some(&places)),
        format!(
            "see what hangs on it (`{} get statefulset {} -o yaml`): a name in DNS, or even a directory on the volume; use the same namespace, or add `--force`",
            case.source(Kind::StatefulSet),
            case.set.name()
        ),
    )]
}

fn places(case: &Case<'_>, namespace: &str) -> Vec<String> {
    let mut places = Vec::new();
    for container in containers(case.pod_spec()) {
        let name = container["name"].as_str().unwrap_or_default();
        let arguments =
            ["command", "args"].into_iter().flat_map(|key| items(&container[key])).filter_map(Value::as_str);
        if arguments.into_iter().any(|text| names(text, namespace)) {
            places.push(format!("arguments of container {name}"));
        }
        for variable in items(&container["env"]) {
            let by_value = variable["value"].as_str().is_some_and(|text| names(text, namespace));
            let by_field = variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.namespace";
            if by_value || by_field {
                places.push(format!("variable {} of container {name}", variable["name"].as_str().unwrap_or_default()));
            }
        }
    }
    for volume in items(&case.pod_spec()["volumes"]) {
        let projected =
            items(&volume["projected"]["sources"]).flat_map(|source| items(&source["downwardAPI"]["items"]));
        let mut fields = items(&volume["downwardAPI"]["items"]).chain(projected);
        if fields.any(|item| item["fieldRef"]["fieldPath"] == "metadata.namespace") {
            places.push(format!("volume {}", volume["name"].as_str().unwrap_or_default()));
        }
    }
    for name in config_maps(case.pod_spec()) {
        let Some(map) = case.world().object(Side::Source, Kind::ConfigMap, name) else { continue };
        let values = map.at("/data").and_then(Value::as_object).into_iter().flatten();
        for (key, value) in values {
            if value.as_str().is_some_and(|text| names(text, namespace)) {
                places.push(format!("{key} of ConfigMap {name}"));
            }
        }
    }
    places
}

/// Returns whether a text has a name of the form `service.namespace` or `service.namespace.svc…`.
fn names(text: &str, namespace: &str) -> bool {
    let label = format!(".{namespace}");
    text.match_indices(&label).any(|(at, _)| {
        let is_after_label =
            text[..at].chars().next_back().is_some_and(|before| before.is_ascii_alphanumeric() || before == ')');
        let rest = &text[at + label.len()..];
        // `www.shop.com` is another name, `web.shop` and `web.shop:80` are ours.
        let is_end =
            rest.chars().next().is_none_or(|after| !after.is_ascii_alphanumeric() && !matches!(after, '-' | '_' | '.'));
        is_after_label && (is_end || rest.starts_with(".svc"))
    })
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn names_in_dns_are_found_and_look_alikes_are_not() {
        for text in
            ["web-0.web.shop.svc.cluster.local", "http://db.shop:5432/x", "$(POD).web.shop.svc", "join web.shop"]
        {
            assert!(names(text, "shop"), "{text}");
        }
        for text in ["shop", "www.shop.com", "web.shopping.svc", "web.shop-a.svc", ".shop", "shop.svc"] {
            assert!(!names(text, "shop"), "{text}");
        }
    }
}
