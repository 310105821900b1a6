//! Custom resources of one name, whatever their kind.
//!
//! Which kinds there are is only known to the cluster, so its CustomResourceDefinitions are listed and
//! each is asked for the name. What cannot be read is unknown; it hides nothing that was found.

use futures::StreamExt;
use futures::stream;
use serde_json::Value;

use super::PARALLEL;
use super::kubernetes::unknown;
use crate::connect::{Call, CallError, Cluster, escape};
use crate::world::{Namesakes, Unknown};

/// Path of the list of definitions.
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Finds the custom resources of that name in the cluster's namespace.
pub(super) async fn find(cluster: &Cluster, name: &str) -> Namesakes {
    let definitions = match cluster.call(Call::get(DEFINITIONS.to_owned())).await {
        Ok(list) => list["items"].as_array().cloned().unwrap_or_default(),
        Err(error) => return Namesakes { found: Vec::new(), unknown: Some(unknown(&error)) },
    };
    let resources: Vec<(String, String)> =
        definitions.iter().filter_map(|definition| resource(definition, &cluster.namespace, name)).collect();
    let mut answers = stream::iter(resources)
        .map(|(title, path)| async move { (title, cluster.call(Call::get(path)).await) })
        .buffer_unordered(PARALLEL);
    let mut namesakes = Namesakes::default();
    while let Some((title, answer)) = answers.next().await {
        match answer {
            Ok(_) => namesakes.found.push(title),
            // A version that is just going away has no resources either.
            Err(CallError::Status { code: 404, .. }) => {}
            Err(error) => {
                let unknown = unknown(&error);
                namesakes.unknown =
                    Some(Unknown { reason: format!("{title}: {}", unknown.reason), passing: unknown.passing });
            }
        }
    }
    namesakes.found.sort();
    namesakes
}

/// Returns what a definition's kind is called, as `Kind.group`, and the path of its resource of that
/// name; none when it has none in namespaces, or is served in no version.
fn resource(definition: &Value, namespace: &str, name: &str) -> Option<(String, String)> {
    let spec = &definition["spec"];
    if spec["scope"] != "Namespaced" {
        return None;
    }
    let version = spec["versions"].as_array()?.iter().find(|version| version["served"] == true)?["name"].as_str()?;
    let (group, names) = (spec["group"].as_str()?, &spec["names"]);
    let path = format!(
        "/apis/{group}/{version}/namespaces/{}/{}/{}",
        escape(namespace),
        names["plural"].as_str()?,
        escape(name)
    );
    Some((format!("{}.{group}", names["kind"].as_str()?), path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_served_version_of_a_namespaced_kind_is_asked() {
        let mut definition = json!({ "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": { "kind": "Database", "plural": "databases" },
            "versions": [{ "name": "v1alpha1", "served": false }, { "name": "v1", "served": true }],
        } });
        let found = resource(&definition, "shop", "web");
        let wanted = ("Database.example.org", "/apis/example.org/v1/namespaces/shop/databases/web");
        assert_eq!(found, Some((wanted.0.to_owned(), wanted.1.to_owned())));
        definition["spec"]["scope"] = "Cluster".into();
        assert_eq!(resource(&definition, "shop", "web"), None);
    }
}
