//! One request to an API server, as its audit log has it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::Cluster;

/// One request to an API server with its answer.
///
/// The log has writes with their bodies (deletes included) and the tool's reads without.
#[derive(Clone, Debug)]
pub struct Event {
    /// The cluster whose API server answered.
    pub cluster: Cluster,
    /// The log's id of the request.
    pub id: String,
    /// Who asked.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Plural name of the resource, such as `persistentvolumes`.
    pub resource: String,
    /// Subresource such as `scale`, or empty.
    pub subresource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name of the object, or empty for lists.
    pub name: String,
    /// Query parameters of the request.
    pub query: BTreeMap<String, String>,
    /// Body of the request, `null` where the log has none.
    pub body: Value,
    /// HTTP status of the answer.
    pub code: u16,
    /// When the request arrived.
    pub received: Timestamp,
    /// When the answer was complete; the end of time for a watch that is still open.
    pub completed: Timestamp,
}

impl Event {
    /// Reads a line of the audit log; none for requests that name no resource.
    pub fn from_log(cluster: Cluster, line: &Value) -> Option<Event> {
        let text = |path: &str| line.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let time = |path: &str| line.pointer(path).and_then(Value::as_str)?.parse::<Timestamp>().ok();
        line.get("objectRef")?;
        let verb = text("/verb");
        let finished = text("/stage") == "ResponseComplete" || text("/stage") == "Panic";
        if !finished && verb != "watch" {
            return None;
        }
        let query = reqwest::Url::parse("http://server")
            .and_then(|base| base.join(&text("/requestURI")))
            .map(|url| url.query_pairs().into_owned().collect())
            .unwrap_or_default();
        Some(Event {
            cluster,
            id: text("/auditID"),
            user: text("/user/username"),
            resource: text("/objectRef/resource"),
            subresource: text("/objectRef/subresource"),
            namespace: text("/objectRef/namespace"),
            name: text("/objectRef/name"),
            query,
            body: line.get("requestObject").cloned().unwrap_or(Value::Null),
            code: line.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or(0) as u16,
            received: time("/requestReceivedTimestamp")?,
            completed: if finished { time("/stageTimestamp")? } else { Timestamp::MAX },
            verb,
        })
    }

    /// Returns whether it asks for state and changes none.
    pub fn is_read(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// Returns whether it meant to change something: neither a read, nor a dry run, nor a question
    /// about rights.
    pub fn is_write(&self) -> bool {
        let questions = [
            "selfsubjectaccessreviews",
            "selfsubjectrulesreviews",
            "selfsubjectreviews",
            "subjectaccessreviews",
            "localsubjectaccessreviews",
        ];
        !self.is_read() && !self.is_dry_run() && !questions.contains(&self.resource.as_str())
    }

    /// Returns whether the server answered that it was done.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Returns whether the answer says nothing about the object: neither it, nor its absence.
    pub fn is_unknown(&self) -> bool {
        self.is_read() && !self.succeeded() && self.code != 404 && self.code != 410
    }

    fn is_dry_run(&self) -> bool {
        self.query.contains_key("dryRun")
            || self.body.get("dryRun").and_then(Value::as_array).is_some_and(|values| !values.is_empty())
    }

    /// Returns whether it is a read of the newest state, not of a cache of the server.
    pub fn is_fresh_read(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list")
            && self.query.get("resourceVersion").is_none_or(|version| version.is_empty())
    }

    /// Returns whether it is a fresh list that would show this object if it existed.
    pub fn lists(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let all_fields = self
            .query
            .get("fieldSelector")
            .is_none_or(|selector| selector.is_empty() || *selector == format!("metadata.name={name}"));
        self.verb == "list"
            && self.succeeded()
            && self.is_fresh_read()
            && self.resource == resource
            && self.subresource.is_empty()
            && (self.namespace.is_empty() || self.namespace == namespace)
            && self.query.get("labelSelector").is_none_or(|selector| selector.is_empty())
            && (all_fields || self.name == name)
    }

    /// Returns whether it is about this object.
    pub fn is_about(&self, resource: &str, namespace: &str, name: &str) -> bool {
        self.resource == resource && self.namespace == namespace && self.name == name
    }

    /// Returns the value that the write gives to a field; `null` where it removes the field, none
    /// where it leaves it alone.
    ///
    /// Creates and updates are whole objects: there an absent field is left out on purpose, and the
    /// answer is none as well. All kinds of patches are understood.
    pub fn assigns(&self, path: &[&str]) -> Option<Value> {
        if !matches!(self.verb.as_str(), "create" | "update" | "patch") {
            return None;
        }
        match &self.body {
            Value::Array(operations) => {
                operations.iter().rev().find_map(|operation| operation_assigns(operation, path))
            }
            Value::Null => None,
            body => {
                let mut value = body;
                for step in path {
                    // A patch that removes the parent removes the field.
                    if value.is_null() {
                        return Some(Value::Null);
                    }
                    value = value.get(step)?;
                }
                Some(value.clone())
            }
        }
    }

    /// Returns the value that a write demands of a field before it takes effect: in deletes the
    /// precondition, in whole objects and patches the value in `metadata`, in JSON patches a `test`.
    pub fn demands(&self, field: &str) -> Option<String> {
        let value = match (self.verb.as_str(), &self.body) {
            ("delete", body) => body.pointer("/preconditions").and_then(|preconditions| preconditions.get(field)),
            (_, Value::Array(operations)) => operations
                .iter()
                .find(|operation| operation["op"] == "test" && operation["path"] == format!("/metadata/{field}"))
                .map(|operation| &operation["value"]),
            (_, body) => body.pointer("/metadata").and_then(|metadata| metadata.get(field)),
        };
        value.and_then(Value::as_str).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// Returns the replicas that the write gives to a set, through the set or its scale.
    pub fn replicas(&self) -> Option<i64> {
        if self.resource != "statefulsets" || !matches!(self.subresource.as_str(), "" | "scale") {
            return None;
        }
        match self.assigns(&["spec", "replicas"]) {
            Some(value) => value.as_i64().or(Some(1)),
            // The server's default for sets that do not say.
            None if self.verb == "create" => Some(1),
            // A scale object leaves out a zero.
            None if self.verb == "update" && self.subresource == "scale" => Some(0),
            None => None,
        }
    }

    /// Returns one line that shows the request to people.
    pub fn line(&self) -> String {
        let mut body = match &self.body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        if body.len() > 400 {
            let end = (0..=400).rev().find(|&end| body.is_char_boundary(end)).unwrap_or(0);
            body.truncate(end);
            body.push('…');
        }
        let subresource = if self.subresource.is_empty() { String::new() } else { format!("/{}", self.subresource) };
        let query: String = self.query.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        format!(
            "{} {} {} {} {}{subresource} {}/{}{query} -> {} {body}",
            self.received,
            self.cluster.name(),
            self.user,
            self.verb,
            self.resource,
            self.namespace,
            self.name,
            self.code,
        )
    }
}

/// Returns what one operation of a JSON patch gives to a field, also by way of a parent.
fn operation_assigns(operation: &Value, path: &[&str]) -> Option<Value> {
    let kind = operation["op"].as_str()?;
    let target = operation["path"].as_str()?;
    let steps: Vec<String> = target.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    if steps.len() > path.len() || steps.iter().zip(path).any(|(step, wanted)| step != wanted) {
        return None;
    }
    match kind {
        "remove" => Some(Value::Null),
        "add" | "replace" => {
            let mut value = &operation["value"];
            for step in &path[steps.len()..] {
                value = value.get(step)?;
            }
            Some(value.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn write(verb: &str, body: Value) -> Event {
        let line = json!({
            "auditID": "1", "stage": "ResponseComplete", "verb": verb,
            "requestURI": "/apis/apps/v1/namespaces/n/statefulsets/web?fieldManager=x%2Cy",
            "user": {"username": "tool-0"},
            "objectRef": {"resource": "statefulsets", "namespace": "n", "name": "web"},
            "requestObject": body, "responseStatus": {"code": 200},
            "requestReceivedTimestamp": "2025-01-01T00:00:00.000001Z",
            "stageTimestamp": "2025-01-01T00:00:00.500000Z",
        });
        Event::from_log(Cluster::A, &line).unwrap()
    }

    #[test]
    fn a_line_of_the_log_is_read() {
        let event = write("update", json!({"spec": {"replicas": 2}}));
        assert_eq!(event.query["fieldManager"], "x,y");
        assert_eq!(event.replicas(), Some(2));
        assert!(event.is_write() && event.succeeded());
        assert!(event.received < event.completed);
    }

    #[test]
    fn all_kinds_of_patches_are_understood() {
        let path = ["spec", "replicas"];
        assert_eq!(write("patch", json!({"spec": {"replicas": 3}})).assigns(&path), Some(json!(3)));
        assert_eq!(write("patch", json!({"spec": null})).assigns(&path), Some(Value::Null));
        assert_eq!(write("patch", json!({"metadata": {}})).assigns(&path), None);
        let operations = json!([{"op": "replace", "path": "/spec/replicas", "value": 4}]);
        assert_eq!(write("patch", operations).assigns(&path), Some(json!(4)));
        let operations = json!([{"op": "add", "path": "/spec", "value": {"replicas": 5}}]);
        assert_eq!(write("patch", operations).assigns(&path), Some(json!(5)));
        assert_eq!(write("patch", json!([{"op": "remove", "path": "/spec"}])).assigns(&path), Some(Value::Null));
    }

    #[test]
    fn demands_are_found_wherever_they_stand() {
        let delete = write("delete", json!({"preconditions": {"uid": "u", "resourceVersion": "7"}}));
        assert_eq!(delete.demands("uid").as_deref(), Some("u"));
        assert_eq!(delete.demands("resourceVersion").as_deref(), Some("7"));
        let merge = write("patch", json!({"metadata": {"uid": "u"}}));
        assert_eq!((merge.demands("uid").as_deref(), merge.demands("resourceVersion")), (Some("u"), None));
        let operations = json!([{"op": "test", "path": "/metadata/resourceVersion", "value": "7"}]);
        assert_eq!(write("patch", operations).demands("resourceVersion").as_deref(), Some("7"));
    }

    #[test]
    fn dry_runs_are_no_writes() {
        assert!(!write("delete", json!({"dryRun": ["All"]})).is_write());
        assert!(write("delete", Value::Null).is_write());
    }
}
