//! The part of the control plane's HTTP side that is about the real processes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::process::{Act, Process};
use crate::Cluster;
use crate::control_plane::Component;

/// All processes of a bed.
pub(super) type Processes = Arc<BTreeMap<(Cluster, Component), Process>>;

/// The body of `POST /_bed/components`: one act on one process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComponentOrder {
    /// The cluster of the process.
    pub cluster: Cluster,
    /// The process.
    pub component: Component,
    /// What is done to it.
    pub act: Act,
}

/// Returns the routes.
pub(super) fn router(processes: Processes) -> Router {
    Router::new().route("/_bed/components", post(order)).with_state(processes)
}

async fn order(
    State(processes): State<Processes>,
    Json(order): Json<ComponentOrder>,
) -> Result<Json<()>, (StatusCode, String)> {
    let (cluster, component) = (order.cluster, order.component);
    let process = processes
        .get(&(cluster, component))
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("no {} in {}", component.name(), cluster.name())))?;
    process
        .act(order.act)
        .await
        .map(Json)
        .map_err(|error| (StatusCode::CONFLICT, format!("{} {:?}: {error:#}", component.name(), order.act)))
}
