//! Reads of the API servers: complete lists, single objects, access reviews.

use http::Method;
use serde_json::{Map, Value, json};

use crate::connect::{Call, CallError, Cluster, path};
use crate::world::{Kind, Object, Unknown};

/// How many objects one page of a list holds; client-go's own page size.
const PAGE: &str = "500";

/// How often a list is begun anew when its snapshot expires between two pages.
const LIST_ATTEMPTS: usize = 2;

/// Lists all objects of a kind, in the cluster's namespace when namespaced; optionally by label.
///
/// A list that breaks off is unknown, never partial.
pub(crate) async fn list(cluster: &Cluster, kind: Kind, selector: Option<&str>) -> Result<Vec<Object>, Unknown> {
    list_at(cluster, kind, path(kind, &cluster.namespace, None), selector).await
}

/// Lists all objects of a kind in all namespaces; optionally by label.
pub(crate) async fn list_everywhere(
    cluster: &Cluster,
    kind: Kind,
    selector: Option<&str>,
) -> Result<Vec<Object>, Unknown> {
    let namespaced = path(kind, "x", None);
    list_at(cluster, kind, namespaced.replace("/namespaces/x/", "/"), selector).await
}

async fn list_at(cluster: &Cluster, kind: Kind, path: String, selector: Option<&str>) -> Result<Vec<Object>, Unknown> {
    let mut attempt = 1;
    loop {
        match pages(cluster, kind, &path, selector).await {
            Err(CallError::Status { code: 410, .. }) if attempt < LIST_ATTEMPTS => attempt += 1,
            Err(CallError::Status { code: 404, .. }) if kind.is_custom() => return Ok(Vec::new()),
            Err(error) => return Err(unknown(&error)),
            Ok(objects) => return Ok(objects),
        }
    }
}

async fn pages(cluster: &Cluster, kind: Kind, path: &str, selector: Option<&str>) -> Result<Vec<Object>, CallError> {
    let mut objects = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let mut call = Call::get(path.to_owned()).query("limit", PAGE);
        if let Some(selector) = selector {
            call = call.query("labelSelector", selector);
        }
        if let Some(token) = token.take() {
            call = call.query("continue", token);
        }
        let mut page = cluster.call(call).await?;
        let expected = format!("{}List", kind.name());
        let (Some(found), Some(items)) = (page["kind"].as_str(), page["items"].as_array()) else {
            return Err(CallError::NoAnswer(format!("the answer is no list of {}", kind.plural())));
        };
        // Kubernetes lists have no null items; a proxy's answer could.
        if found != expected || items.iter().any(|item| !item.is_object()) {
            return Err(CallError::NoAnswer(format!("the answer is no list of {}: {found}", kind.plural())));
        }
        token = page
            .pointer("/metadata/continue")
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned);
        if let Value::Array(items) = page["items"].take() {
            objects.extend(items.into_iter().map(|item| typed(kind, item)));
        }
        if token.is_none() {
            return Ok(objects);
        }
    }
}

/// Reads one object; `None` is a 404 that names it.
pub(crate) async fn get(cluster: &Cluster, kind: Kind, name: &str) -> Result<Option<Object>, Unknown> {
    match cluster.call(Call::get(path(kind, &cluster.namespace, Some(name)))).await {
        Ok(value) if value["kind"] == kind.name() && value["metadata"]["name"] == name => Ok(Some(typed(kind, value))),
        Ok(_) => Err(Unknown { reason: format!("the answer is not {kind} `{name}`"), passing: true }),
        Err(error) if error.is_not_found(kind, name) => Ok(None),
        Err(CallError::Status { code: 404, .. }) if kind.is_custom() => Ok(None),
        Err(error) => Err(unknown(&error)),
    }
}

/// Asks whether this user may do this verb on this kind.
pub(super) async fn allowed(cluster: &Cluster, verb: &str, kind: Kind) -> Result<bool, Unknown> {
    let mut attributes = json!({ "verb": verb, "group": kind.group(), "resource": kind.plural() });
    if kind.namespaced() {
        attributes["namespace"] = json!(cluster.namespace);
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": attributes },
    });
    let at = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
    let answer = cluster.call(Call::with_body(Method::POST, at, review)).await.map_err(|error| unknown(&error))?;
    answer
        .pointer("/status/allowed")
        .and_then(Value::as_bool)
        .ok_or_else(|| Unknown { reason: "the access review has no answer".to_owned(), passing: true })
}

/// Returns why an answer is not known.
pub(super) fn unknown(error: &CallError) -> Unknown {
    Unknown { reason: error.to_string(), passing: error.is_passing() }
}

/// Gives an item of a list the apiVersion and kind that it has when read alone, and drops what only
/// fills memory: nobody restores a Node or a Pod.
fn typed(kind: Kind, item: Value) -> Object {
    let Value::Object(mut fields) = item else {
        return Object(item);
    };
    if !fields.contains_key("kind") {
        let mut whole = Map::with_capacity(fields.len() + 2);
        whole.insert("apiVersion".to_owned(), json!(kind.api_version()));
        whole.insert("kind".to_owned(), json!(kind.name()));
        whole.append(&mut fields);
        fields = whole;
    }
    if matches!(kind, Kind::Node | Kind::Pod)
        && let Some(Value::Object(metadata)) = fields.get_mut("metadata")
    {
        metadata.shift_remove("managedFields");
    }
    Object(Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_lists_get_their_kind_and_keep_unknown_fields() {
        let object =
            typed(Kind::PersistentVolume, json!({ "metadata": { "name": "pv", "managedFields": [] }, "new": 1 }));
        assert_eq!(
            object.0.to_string(),
            r#"{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"pv","managedFields":[]},"new":1}"#
        );
    }

    #[test]
    fn pods_lose_their_managed_fields_only() {
        let object = typed(Kind::Pod, json!({ "kind": "Pod", "metadata": { "managedFields": [1], "name": "web-0" } }));
        assert_eq!(object.0, json!({ "kind": "Pod", "metadata": { "name": "web-0" } }));
    }
}
