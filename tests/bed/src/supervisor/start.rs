//! The start of a bed, and what runs then.
//!
//! Order in each cluster, both side by side:
//!
//! ```text
//! etcd, API server ─ /readyz ─┬─ objects of the bed
//!                             ├─ controllers, scheduler
//!                             ├─ CSI driver ─ socket ─ sidecars
//!                             └─ node agent ─ nodes Ready
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::components::{self, Processes};
use super::objects;
use super::process::{Act, Process, Spawner};
use crate::control_plane::{Component, ControlPlane};
use crate::ec2::{self, Ec2};
use crate::handle::Ready;
use crate::toolchain::Binaries;
use crate::{BedOptions, Cluster, csi, users};

/// How long a bed may take to start, on a machine that is busy with other things.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// How often a condition of the start is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A bed that runs.
pub(super) struct Running {
    processes: Processes,
}

impl Running {
    /// Kills all processes and waits until they are gone.
    pub(super) async fn end(&self) {
        // Clients first, so that no log is full of a server that went away.
        for process in self.processes.values().rev() {
            // One that is down already is what is wanted.
            let _ = process.act(Act::Kill).await;
        }
    }
}

/// Starts both clusters and everything around them.
pub(super) async fn start(directory: &Path, binaries: &Binaries, options: &BedOptions) -> Result<(Ready, Running)> {
    let started = Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for EC2")?;
    let ec2_url = format!("http://{}", listener.local_addr()?);
    let ec2 = Ec2::new(options.ec2.clone());
    let spawner = Spawner::new();
    let planes = (
        ControlPlane::create(Cluster::A, directory, binaries)?,
        ControlPlane::create(Cluster::B, directory, binaries)?,
    );
    let (first, second) = (Start::new(Cluster::A, &planes.0, &ec2_url), Start::new(Cluster::B, &planes.1, &ec2_url));
    // Its part of the router is there before the first driver calls.
    let processes: Processes = Arc::default();
    serve(listener, components::router(processes.clone()).merge(ec2.router()));
    let (a, b) = tokio::try_join!(first.run(&spawner), second.run(&spawner))?;
    let mut all = processes.lock().unwrap_or_else(PoisonError::into_inner);
    for (cluster, started) in [(Cluster::A, a), (Cluster::B, b)] {
        all.extend(started.into_iter().map(|(component, process)| ((cluster, component), process)));
    }
    drop(all);
    eprintln!("supervisor: ready after {:?}", started.elapsed());
    let ready = Ready { a: planes.0.place(), b: planes.1.place(), ec2_url };
    Ok((ready, Running { processes, _planes: planes }))
}
/// Returns the admin's client of a cluster.
async fn client(cluster: Cluster, plane: &ControlPlane) -> Result<Client> {
    let kubeconfig: Kubeconfig = serde_json::from_value(users::kubeconfig(&[(cluster, &plane.place())], users::ADMIN))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Waits for a condition of the start; fails at once when a process has ended.
async fn wait(
    cluster: Cluster,
    what: &str,
    deadline: Instant,
    processes: &BTreeMap<Component, Process>,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let place = || format!("start cluster {}", cluster.name());
    loop {
        if condition().await.with_context(place)? {
            return Ok(());
        }
        for process in processes.values() {
            process.check().with_context(place)?;
        }
        if Instant::now() > deadline {
            let logs: Vec<String> =
                processes.values().map(|process| format!("{} says:\n{}", process.name(), process.tail())).collect();
            bail!("cluster {} waited {START_DEADLINE:?} for {what}\n{}", cluster.name(), logs.join("\n"));
        }
        sleep(LOOK_EVERY).await;
    }
}
