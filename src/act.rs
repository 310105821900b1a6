//! Performs Actions: one API call each, with preconditions, never again by itself.
//!
//! A call that was overtaken or whose reply was lost is not repeated here: the loop looks again and
//! decides anew (TL-8, I-9).

use http::Method;
use serde_json::{Value, json};

use crate::connect::{Call, CallError, Endpoints, path};
use crate::decide::Verb;
use crate::world::Kind;

/// Who wrote a field, in `managedFields` and audit logs.
const FIELD_MANAGER: &str = "sts-migrate";

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done.
    Done,
    /// Somebody was faster (409), or the object is not there (404): look again.
    Overtaken(String),
    /// Its effect is not known, or the server is overloaded: look again.
    Unknown(String),
    /// The server says no: the same call will not do better.
    Refused(String),
}

/// Makes the one call of an action; commands of the operator's are not calls.
pub(crate) async fn perform(endpoints: &Endpoints, verb: &Verb) -> Outcome {
    let (side, call) = match verb {
        Verb::Create { side, kind, object } => (*side, create(endpoints, *side, *kind, object)),
        Verb::Patch { side, kind, name, uid, resource_version, patch } => {
            let at = path(*kind, &endpoints.cluster(*side).namespace, Some(name));
            (*side, self::patch(at, uid, resource_version, patch.clone()))
        }
        Verb::Delete { side, kind, name, uid, resource_version, orphan } => {
            let at = path(*kind, &endpoints.cluster(*side).namespace, Some(name));
            (*side, delete(at, uid, resource_version, *orphan))
        }
        Verb::Run(command) => unreachable!("{command:?} is run, not sent"),
    };
    outcome(endpoints.cluster(side).call(call).await)
}

fn create(endpoints: &Endpoints, side: crate::world::Side, kind: Kind, object: &Value) -> Call {
    let at = path(kind, &endpoints.cluster(side).namespace, None);
    Call::with_body(Method::POST, at, object.clone()).query("fieldManager", FIELD_MANAGER)
}

/// Returns a merge patch that fails with 409 when the object is not the one that was seen.
pub(crate) fn patch(path: String, uid: &str, resource_version: &str, mut patch: Value) -> Call {
    if !patch["metadata"].is_object() {
        patch["metadata"] = json!({});
    }
    patch["metadata"]["uid"] = json!(uid);
    patch["metadata"]["resourceVersion"] = json!(resource_version);
    let mut call = Call::with_body(Method::PATCH, path, patch).query("fieldManager", FIELD_MANAGER);
    call.content_type = "application/merge-patch+json";
    call
}

/// Returns a delete that fails with 409 when the object is not the one that was seen. The grace
/// period is always the object's own.
pub(crate) fn delete(path: String, uid: &str, resource_version: &str, orphan: bool) -> Call {
    let mut options = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": { "uid": uid, "resourceVersion": resource_version },
    });
    if orphan {
        options["propagationPolicy"] = json!("Orphan");
    }
    let call = Call::with_body(Method::DELETE, path, options);
    // In the query too: whatever drops the body of a DELETE on its way must not turn it into a cascade.
    if orphan { call.query("propagationPolicy", "Orphan") } else { call }
}

/// Sorts answers by what the loop does about them.
fn outcome(answer: Result<Value, CallError>) -> Outcome {
    let error = match answer {
        Ok(_) => return Outcome::Done,
        Err(error) => error,
    };
    let text = error.to_string();
    match error.code() {
        Some(404 | 409 | 410) => Outcome::Overtaken(text),
        // 401: fresh credentials were fetched, the call was not carried out.
        Some(401 | 408 | 429) | None => match error {
            CallError::Credentials(_) => Outcome::Refused(text),
            CallError::NoAnswer(_) | CallError::Status { .. } => Outcome::Unknown(text),
        },
        Some(code) if code >= 500 => Outcome::Unknown(text),
        Some(_) => Outcome::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16) -> Outcome {
        outcome(Err(CallError::Status { code, status: None, text: "no".to_owned() }))
    }

    #[test]
    fn conflicts_are_looked_at_again_and_refusals_stop() {
        assert_eq!(outcome(Ok(Value::Null)), Outcome::Done);
        assert!(matches!(answer(409), Outcome::Overtaken(_)));
        assert!(matches!(answer(404), Outcome::Overtaken(_)));
        assert!(matches!(answer(401), Outcome::Unknown(_)));
        assert!(matches!(answer(429), Outcome::Unknown(_)));
        assert!(matches!(answer(500), Outcome::Unknown(_)));
        assert!(matches!(answer(403), Outcome::Refused(_)));
        assert!(matches!(answer(422), Outcome::Refused(_)));
        assert!(matches!(outcome(Err(CallError::NoAnswer("lost".to_owned()))), Outcome::Unknown(_)));
    }

    #[test]
    fn every_patch_carries_both_preconditions() {
        let call = patch("/x".to_owned(), "u", "7", json!({ "spec": { "replicas": 1 } }));
        assert_eq!(
            call.body,
            Some(json!({ "spec": { "replicas": 1 }, "metadata": { "uid": "u", "resourceVersion": "7" } }))
        );
        assert_eq!(call.content_type, "application/merge-patch+json");
        let call = patch("/x".to_owned(), "u", "7", json!({ "metadata": { "annotations": { "a": "b" } } }));
        assert_eq!(
            call.body,
            Some(json!({ "metadata": { "annotations": { "a": "b" }, "uid": "u", "resourceVersion": "7" } }))
        );
    }

    #[test]
    fn deletes_carry_preconditions_and_no_grace_period() {
        let call = delete("/x".to_owned(), "u", "7", true);
        let body = call.body.expect("options are in the body");
        assert_eq!(body["preconditions"], json!({ "uid": "u", "resourceVersion": "7" }));
        assert_eq!(body["propagationPolicy"], "Orphan");
        assert_eq!(call.query, [("propagationPolicy", "Orphan".to_owned())]);
        let call = delete("/x".to_owned(), "u", "7", false);
        assert!(call.query.is_empty());
        assert!(call.body.is_some_and(|body| body.get("gracePeriodSeconds").is_none() && body.get("propagationPolicy").is_none()));
    }
}
