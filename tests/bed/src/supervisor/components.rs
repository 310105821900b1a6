//! All real processes of a bed, and the part of its HTTP side that is about them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::process::{Act, Process, Spawner};
use crate::Cluster;
use crate::control_plane::{Component, ControlPlane};

/// The real processes of a bed; clones share them.
#[derive(Clone)]
pub(super) struct Processes {
    spawner: Spawner,
    all: Arc<Mutex<BTreeMap<(Cluster, Component), Process>>>,
}

impl Processes {
    pub(super) fn new(spawner: Spawner) -> Self {
        Processes { spawner, all: Arc::default() }
    }

    /// Starts a component of a cluster.
    pub(super) async fn start(&self, plane: &ControlPlane, component: Component) -> Result<()> {
        let process = Process::start(&self.spawner, plane.command(component)).await?;
        self.all().insert((plane.cluster(), component), process);
        Ok(())
    }

    /// Fails when a process of a cluster has ended by itself.
    pub(super) fn check(&self, cluster: Cluster) -> Result<()> {
        self.of(cluster).iter().try_for_each(Process::check)
    }

    /// Returns the ends of the logs of a cluster's processes.
    pub(super) fn tails(&self, cluster: Cluster) -> String {
        let tails = self.of(cluster).into_iter().map(|process| format!("{} says:\n{}", process.name(), process.tail()));
        tails.collect::<Vec<_>>().join("\n")
    }

    /// Kills all processes and waits until they are gone.
    pub(super) async fn end(&self) {
        // Clients first, so that no log is full of a server that went away.
        let mut all: Vec<_> = self.all().clone().into_iter().collect();
        all.sort_by_key(|((_, component), _)| std::cmp::Reverse(*component));
        for (_, process) in all {
            // One that is down already is what is wanted.
            let _ = process.act(Act::Kill).await;
        }
    }

    fn get(&self, cluster: Cluster, component: Component) -> Option<Process> {
        self.all().get(&(cluster, component)).cloned()
    }

    fn of(&self, cluster: Cluster) -> Vec<Process> {
        self.all().iter().filter(|((of, _), _)| *of == cluster).map(|(_, process)| process.clone()).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<(Cluster, Component), Process>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of `POST /_bed/components`: one act on one process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ComponentOrder {
    /// The cluster of the process.
    pub(crate) cluster: Cluster,
    /// The process.
    pub(crate) component: Component,
    /// What is done to it.
    pub(crate) act: Act,
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
        .get(cluster, component)
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("no {} in {}", component.name(), cluster.name())))?;
    process
        .act(order.act)
        .await
        .map(Json)
        .map_err(|error| (StatusCode::CONFLICT, format!("{} {:?}: {error:#}", component.name(), order.act)))
}
