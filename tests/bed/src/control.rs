//! The client of everything below `/_bed/`: JSON in, JSON out.
//!
//! The modules that own a part have typed methods on top of it.

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A client of a bed's control endpoint; clones are cheap.
#[derive(Clone, Debug)]
pub struct Control {
    base: String,
    http: reqwest::Client,
}

impl Control {
    /// Makes a client for the endpoint at a URL such as `http://127.0.0.1:1234`.
    pub fn new(base: &str) -> Self {
        Control { base: base.trim_end_matches('/').to_owned(), http: reqwest::Client::new() }
    }

    /// Returns the URL of the endpoint.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a GET for a path such as `/_bed/ec2/log`.
    pub async fn get<Answer: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer> {
        answer(self.http.get(format!("{}{path}", self.base)).query(query), path).await
    }

    /// Sends a POST with a JSON body.
    pub async fn post<Body: Serialize, Answer: DeserializeOwned>(&self, path: &str, body: &Body) -> Result<Answer> {
        answer(self.http.post(format!("{}{path}", self.base)).json(body), path).await
    }
}

async fn answer<Answer: DeserializeOwned>(request: reqwest::RequestBuilder, path: &str) -> Result<Answer> {
    let response = request.send().await.with_context(|| format!("call {path}"))?;
    let status = response.status();
    let text = response.text().await.with_context(|| format!("read the answer of {path}"))?;
    if !status.is_success() {
        bail!("{path} answered {status}: {text}");
    }
    serde_json::from_str(if text.is_empty() { "null" } else { &text }).with_context(|| format!("parse the answer of {path}: {text}"))
}
