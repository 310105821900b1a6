//! One request to an API server, as raw JSON, with a time limit and errors told apart.
//!
//! A call that has no answer in time is not known to have failed: the server is asked by `timeout=`
//! to give up before this client does, so that a late effect is at least bounded.

use std::time::Duration;

use http::{Method, Request};
use kube::client::Body;
use serde_json::Value;

use super::Cluster;
use crate::world::Kind;

/// How long one request may take. Longer than the default time-out of an admission webhook (10 s),
/// and half of the Lease's duration.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// What the API server is asked to keep to; shorter than [`REQUEST_TIMEOUT`].
const SERVER_TIMEOUT: &str = "13s";

/// A request that is to be made.
pub(crate) struct Call {
    /// HTTP method.
    pub(crate) method: Method,
    /// Path, see [`path`].
    pub(crate) path: String,
    /// Query parameters.
    pub(crate) query: Vec<(&'static str, String)>,
    /// `Content-Type` of the body.
    pub(crate) content_type: &'static str,
    /// The body, if there is one.
    pub(crate) body: Option<Value>,
}

impl Call {
    /// Returns a read.
    pub(crate) fn get(path: String) -> Call {
        Call { method: Method::GET, path, query: Vec::new(), content_type: "application/json", body: None }
    }

    /// Returns a call with a JSON body.
    pub(crate) fn with_body(method: Method, path: String, body: Value) -> Call {
        Call { method, path, query: Vec::new(), content_type: "application/json", body: Some(body) }
    }

    /// Adds a query parameter.
    pub(crate) fn query(mut self, key: &'static str, value: impl Into<String>) -> Call {
        self.query.push((key, value.into()));
        self
    }

    fn uri(&self) -> String {
        let mut uri = self.path.clone();
        for (number, (key, value)) in self.query.iter().enumerate() {
            uri.push(if number == 0 { '?' } else { '&' });
            uri.push_str(key);
            uri.push('=');
            uri.push_str(&escape(value));
        }
        uri
    }
}

/// Why a call has no useful answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CallError {
    /// The server, or something before it, answered with an HTTP error.
    Status {
        /// HTTP status code.
        code: u16,
        /// The body, when it is a Kubernetes `Status`.
        status: Option<Value>,
        /// What it says, for people.
        text: String,
    },
    /// There was no answer, or only a part of one: whether the call had an effect is not known.
    NoAnswer(String),
    /// No credentials could be had, the call was not sent.
    Credentials(String),
}

impl std::fmt::Display for CallError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Status { code, text, .. } => write!(formatter, "{text} (HTTP {code})"),
            CallError::NoAnswer(text) | CallError::Credentials(text) => formatter.write_str(text),
        }
    }
}

impl CallError {
    /// Returns the HTTP status code, if there was one.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            CallError::Status { code, .. } => Some(*code),
            CallError::NoAnswer(_) | CallError::Credentials(_) => None,
        }
    }

    /// Returns whether this is a 404 that names exactly this object; any other 404 (a proxy's, a
    /// missing resource) says nothing about the object (TL-7).
    pub(crate) fn is_not_found(&self, kind: Kind, name: &str) -> bool {
        let CallError::Status { code: 404, status: Some(status), .. } = self else {
            return false;
        };
        let details = &status["details"];
        let named = details["kind"].as_str().unwrap_or_default();
        status["reason"] == "NotFound"
            && details["name"] == name
            && (named == kind.plural() || named.eq_ignore_ascii_case(kind.name()))
    }

    /// Returns whether asking again may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            CallError::Status { code, .. } => matches!(code, 404 | 408 | 409 | 410 | 429) || *code >= 500,
            CallError::NoAnswer(_) => true,
            CallError::Credentials(_) => false,
        }
    }
}

impl Cluster {
    /// Makes one call and returns the JSON of its answer.
    ///
    /// A 401 gets fresh credentials; only a read is then sent again, a mutation is left to the loop.
    pub(crate) async fn call(&self, call: Call) -> Result<Value, CallError> {
        let answer = self.call_once(&call).await;
        if !matches!(answer, Err(CallError::Status { code: 401, .. })) {
            return answer;
        }
        if let Err(error) = self.refresh().await {
            return Err(CallError::Credentials(format!("credentials could not be refreshed: {error:#}")));
        }
        if call.method == Method::GET { self.call_once(&call).await } else { answer }
    }

    async fn call_once(&self, call: &Call) -> Result<Value, CallError> {
        let started = std::time::Instant::now();
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(call)).await.unwrap_or_else(|_elapsed| {
            Err(CallError::NoAnswer(format!(
                "no answer from the API server of `{}` within {} s",
                self.context,
                REQUEST_TIMEOUT.as_secs()
            )))
        });
        tracing::debug!(
            context = %self.context,
            method = %call.method,
            path = %call.path,
            milliseconds = started.elapsed().as_millis() as u64,
            error = answer.as_ref().err().map(tracing::field::display),
            "request"
        );
        answer
    }

    async fn exchange(&self, call: &Call) -> Result<Value, CallError> {
        let uri = match call.method {
            Method::GET => call.uri(),
            _ => {
                let uri = call.uri();
                let separator = if call.query.is_empty() { '?' } else { '&' };
                format!("{uri}{separator}timeout={SERVER_TIMEOUT}")
            }
        };
        let body = call.body.as_ref().map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder()
            .method(call.method.clone())
            .uri(uri)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONTENT_TYPE, call.content_type)
            .header(http::header::USER_AGENT, concat!("sts-migrate/", env!("CARGO_PKG_VERSION")))
            .body(Body::from(body))
            .map_err(|error| CallError::NoAnswer(format!("the request cannot be built: {error}")))?;
        let response = self.client().send(request).await.map_err(|error| self.unsent(error))?;
        let code = response.status();
        let bytes = response
            .into_body()
            .collect_bytes()
            .await
            .map_err(|error| CallError::NoAnswer(format!("the answer broke off: {}", chain(&error))))?;
        if code.is_success() {
            return serde_json::from_slice(&bytes)
                .map_err(|error| CallError::NoAnswer(format!("the answer is no JSON: {error}")));
        }
        Err(refusal(code.as_u16(), &bytes))
    }

    fn unsent(&self, error: kube::Error) -> CallError {
        match error {
            kube::Error::Auth(error) => {
                CallError::Credentials(format!("no credentials for `{}`: {error}", self.context))
            }
            error => CallError::NoAnswer(format!(
                "the API server of `{}` cannot be reached: {}",
                self.context,
                chain(&error)
            )),
        }
    }
}

fn refusal(code: u16, bytes: &[u8]) -> CallError {
    let status = serde_json::from_slice::<Value>(bytes).ok().filter(|value| value["kind"] == "Status");
    let text = match status.as_ref().and_then(|status| status["message"].as_str()) {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(bytes).trim().chars().take(200).collect(),
    };
    CallError::Status { code, status, text }
}

/// Returns an error with its causes, which is where the useful part is.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// Returns the REST path of a kind, of one object when there is a name.
pub(crate) fn path(kind: Kind, namespace: &str, name: Option<&str>) -> String {
    let version = kind.api_version();
    let root = if version.contains('/') { "apis" } else { "api" };
    let mut path = format!("/{root}/{version}");
    if kind.namespaced() {
        path.push_str("/namespaces/");
        path.push_str(&escape(namespace));
    }
    path.push('/');
    path.push_str(kind.plural());
    if let Some(name) = name {
        path.push('/');
        path.push_str(&escape(name));
    }
    path
}

/// Escapes text for a URL.
pub(crate) fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => (byte as char).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn not_found(kind: &str, name: &str) -> CallError {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
            "message": format!("{kind} \"{name}\" not found"),
            "details": { "name": name, "kind": kind },
        });
        refusal(404, status.to_string().as_bytes())
    }

    #[test]
    fn only_a_404_that_names_the_object_is_absence() {
        assert!(
            not_found("persistentvolumeclaims", "data-web-0").is_not_found(Kind::PersistentVolumeClaim, "data-web-0")
        );
        assert!(
            !not_found("persistentvolumeclaims", "data-web-1").is_not_found(Kind::PersistentVolumeClaim, "data-web-0")
        );
        assert!(!not_found("namespaces", "data-web-0").is_not_found(Kind::PersistentVolumeClaim, "data-web-0"));
        assert!(!refusal(404, b"404 page not found").is_not_found(Kind::Pod, "web-0"));
        assert!(!refusal(503, br#"{"kind":"Status","reason":"NotFound"}"#).is_not_found(Kind::Pod, "web-0"));
    }

    #[test]
    fn refusals_do_not_pass_and_overload_does() {
        assert!(!refusal(403, b"").is_passing());
        assert!(!refusal(401, b"").is_passing());
        assert!(refusal(429, b"").is_passing());
        assert!(refusal(500, b"").is_passing());
        assert!(refusal(504, b"").is_passing());
        assert!(CallError::NoAnswer(String::new()).is_passing());
        assert!(!CallError::Credentials(String::new()).is_passing());
    }

    #[test]
    fn paths_follow_group_and_scope() {
        assert_eq!(path(Kind::Pod, "shop", Some("web-0")), "/api/v1/namespaces/shop/pods/web-0");
        assert_eq!(path(Kind::PersistentVolume, "shop", None), "/api/v1/persistentvolumes");
        assert_eq!(path(Kind::StatefulSet, "shop", None), "/apis/apps/v1/namespaces/shop/statefulsets");
    }

    #[test]
    fn query_values_are_escaped() {
        let call = Call::get("/api/v1/pods".to_owned()).query("limit", "5").query("fieldSelector", "metadata.name=a");
        assert_eq!(call.uri(), "/api/v1/pods?limit=5&fieldSelector=metadata.name%3Da");
    }
}
