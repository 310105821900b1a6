//! The hand of a test on nodes and pods: the HTTP routes below `/_bed/nodes` and `/_bed/pods`, and
//! their typed client.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Agent;
use super::knobs::{NodeKnobs, PodKnobs};
use super::machine::Process;
use super::object::{NewNode, NodeFacts};
use crate::Cluster;

/// Body of `POST /_bed/nodes/knobs`.
#[derive(Debug, Serialize, Deserialize)]
struct SetNode {
    node: String,
    knobs: NodeKnobs,
}

/// Body of `POST /_bed/pods/knobs`; no cluster means both.
#[derive(Debug, Serialize, Deserialize)]
struct SetPod {
    cluster: Option<Cluster>,
    namespace: String,
    pod: String,
    knobs: PodKnobs,
}

type Agents = Arc<Vec<Agent>>;
type Refusal = (StatusCode, String);

/// Returns the routes for the nodes of these clusters.
pub fn router(agents: Vec<Agent>) -> Router {
    Router::new()
        .route("/_bed/nodes", get(nodes).post(add_node))
        .route("/_bed/nodes/{name}", delete(remove_node))
        .route("/_bed/nodes/knobs", post(set_node))
        .route("/_bed/pods/knobs", post(set_pod))
        .route("/_bed/processes", get(processes))
        .with_state(Arc::new(agents))
}

async fn nodes(State(agents): State<Agents>) -> Json<Vec<NodeFacts>> {
    Json(agents.iter().flat_map(Agent::nodes).collect())
}

async fn add_node(State(agents): State<Agents>, Json(new): Json<NewNode>) -> Result<Json<NodeFacts>, Refusal> {
    let agent = agents.iter().find(|agent| agent.cluster() == new.cluster);
    let agent = agent.ok_or_else(|| (StatusCode::NOT_FOUND, format!("no cluster {}", new.cluster.name())))?;
    agent.add_node(new).await.map(Json).map_err(|error| (StatusCode::CONFLICT, error.to_string()))
}

async fn remove_node(State(agents): State<Agents>, Path(name): Path<String>) -> Result<Json<()>, Refusal> {
    for agent in agents.iter() {
        if agent.remove_node(&name).await {
            return Ok(Json(()));
        }
    }
    Err(unknown(&name))
}

async fn set_node(State(agents): State<Agents>, Json(set): Json<SetNode>) -> Result<Json<()>, Refusal> {
    let known = agents.iter().any(|agent| agent.set_node(&set.node, set.knobs.clone()));
    if known { Ok(Json(())) } else { Err(unknown(&set.node)) }
}

async fn set_pod(State(agents): State<Agents>, Json(set): Json<SetPod>) -> Json<()> {
    for agent in agents.iter().filter(|agent| set.cluster.is_none_or(|cluster| cluster == agent.cluster())) {
        agent.set_pod(&set.namespace, &set.pod, set.knobs.clone());
    }
    Json(())
}

async fn processes(State(agents): State<Agents>) -> Json<Vec<Process>> {
    Json(agents.iter().flat_map(Agent::processes).collect())
}

fn unknown(node: &str) -> Refusal {
    (StatusCode::NOT_FOUND, format!("no node {node}"))
}

/// Typed client of the routes for nodes and pods.
#[derive(Clone, Debug)]
pub struct Control {
    http: reqwest::Client,
    base: String,
}

impl Control {
    /// Returns a client of the bed whose HTTP side is at `base`, such as `http://127.0.0.1:1234`.
    pub fn new(base: &str) -> Self {
        Self { http: crate::loopback_client(), base: base.trim_end_matches('/').to_owned() }
    }

    /// Returns the nodes of both clusters.
    pub async fn nodes(&self) -> Result<Vec<NodeFacts>> {
        answer(self.http.get(self.url("nodes"))).await
    }

    /// Adds a node; it is registered (not yet necessarily untainted) on return.
    pub async fn add_node(&self, new: &NewNode) -> Result<NodeFacts> {
        answer(self.http.post(self.url("nodes")).json(new)).await
    }

    /// Takes a node out of its cluster: its processes end, its objects are deleted.
    pub async fn remove_node(&self, name: &str) -> Result<()> {
        answer(self.http.delete(self.url(&format!("nodes/{name}")))).await
    }

    /// Replaces the knobs of a node.
    pub async fn node_knobs(&self, name: &str, knobs: NodeKnobs) -> Result<()> {
        let set = SetNode { node: name.to_owned(), knobs };
        answer(self.http.post(self.url("nodes/knobs")).json(&set)).await
    }

    /// Replaces the knobs of a pod name, in both clusters without `cluster`; the pod need not exist yet.
    pub async fn pod_knobs(&self, cluster: Option<Cluster>, namespace: &str, pod: &str, knobs: PodKnobs) -> Result<()> {
        let set = SetPod { cluster, namespace: namespace.to_owned(), pod: pod.to_owned(), knobs };
        answer(self.http.post(self.url("pods/knobs")).json(&set)).await
    }

    /// Returns what runs on the nodes, whatever the API servers say.
    pub async fn processes(&self) -> Result<Vec<Process>> {
        answer(self.http.get(self.url("processes"))).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/_bed/{path}", self.base)
    }
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T> {
    let response = request.send().await.context("ask the bed's node agents")?;
    let status = response.status();
    if !status.is_success() {
        bail!("the node agents answer {status}: {}", response.text().await.unwrap_or_default());
    }
    response.json().await.context("read the answer of the bed's node agents")
}
