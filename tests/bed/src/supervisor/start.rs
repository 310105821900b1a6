//! The start of a bed, and what runs then.
//!
//! ```text
//! both clusters:  etcd, API server ─ /readyz ─ objects of the bed
//! then one HTTP side for EC2 and tests, then again in both:
//!                 controllers, scheduler ─ first service account
//!                 CSI driver ─ its socket ─ sidecars
//!                 nodes ─ all Ready and free of taints
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axum::Router;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::components::{self, Processes};
use super::objects;
use super::process::Spawner;
use crate::control_plane::{Component, ControlPlane};
use crate::ec2::{self, Ec2};
use crate::handle::Ready;
use crate::node::{self, Agent, NewNode};
use crate::toolchain::Binaries;
use crate::{BedOptions, Cluster, balancer, csi, users};

/// How long a bed may take to start, on a machine that is busy with other things.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// How often a condition of the start is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A bed that runs.
pub(super) struct Running {
    /// The real processes.
    pub(super) processes: Processes,
    /// They hold the ports that the processes share.
    _planes: [ControlPlane; 2],
}

/// Starts both clusters and everything around them.
pub(super) async fn start(directory: &Path, binaries: &Binaries, options: &BedOptions) -> Result<(Ready, Running)> {
    let begun = Instant::now();
    let processes = Processes::new(Spawner::new());
    let planes = [
        ControlPlane::create(Cluster::A, directory, binaries)?,
        ControlPlane::create(Cluster::B, directory, binaries)?,
    ];
    let [a, b] = &planes;
    tokio::try_join!(start_servers(a, &processes), start_servers(b, &processes))?;
    eprintln!("supervisor: API servers ready after {:?}", begun.elapsed());

    let ec2 = Ec2::new(options.ec2.clone());
    let agents = [start_agent(a, &ec2, options).await?, start_agent(b, &ec2, options).await?];
    let router = ec2.router().merge(node::router(agents.to_vec())).merge(components::router(processes.clone()));
    let ec2_url = serve(router).await?;
    let [agent_a, agent_b] = &agents;
    tokio::try_join!(
        start_rest(a, agent_a, &processes, &ec2_url, options),
        start_rest(b, agent_b, &processes, &ec2_url, options),
    )?;
    eprintln!("supervisor: all ready after {:?}", begun.elapsed());
    let ready = Ready { a: a.place(), b: b.place(), ec2_url };
    Ok((ready, Running { processes, _planes: planes }))
}

/// Starts a cluster's API server with its store, and makes what is in the cluster from its start.
async fn start_servers(plane: &ControlPlane, processes: &Processes) -> Result<()> {
    for component in [Component::Etcd, Component::KubeApiserver] {
        processes.start(plane, component).await?;
    }
    let client = client(plane, users::ADMIN).await?;
    wait(plane, "its API server to be ready", processes, async || {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        Ok(client.request_text(request).await.is_ok())
    })
    .await?;
    objects::create(&client).await.with_context(|| format!("fill cluster {}", plane.cluster().name()))
}

async fn start_agent(plane: &ControlPlane, ec2: &Ec2, options: &BedOptions) -> Result<Agent> {
    let client = client(plane, users::NODE_AGENT).await?;
    Ok(Agent::start(plane.cluster(), client, ec2.clone(), options.node))
}

/// Serves the HTTP side until this process ends, and returns its URL.
async fn serve(router: Router) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for EC2")?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            eprintln!("supervisor: the HTTP side has ended: {error}");
        }
    });
    Ok(format!("http://{address}"))
}

/// Starts what needs an API server.
async fn start_rest(
    plane: &ControlPlane,
    agent: &Agent,
    processes: &Processes,
    ec2_url: &str,
    options: &BedOptions,
) -> Result<()> {
    let cluster = plane.cluster();
    for component in [Component::KubeControllerManager, Component::KubeScheduler] {
        processes.start(plane, component).await?;
    }
    serve_driver(plane, ec2_url.to_owned());
    tokio::spawn(balancer::run(cluster, client(plane, users::LOAD_BALANCER).await?));
    agent.add_nodes(nodes(cluster, options)).await?;
    wait(plane, "the CSI driver's socket", processes, async || Ok(plane.csi_socket().exists())).await?;
    for component in [Component::CsiAttacher, Component::CsiProvisioner] {
        processes.start(plane, component).await?;
    }
    let client = client(plane, users::ADMIN).await?;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    wait(plane, "the first service account", processes, async || Ok(accounts.get_opt("default").await?.is_some()))
        .await?;
    let nodes = Api::<Node>::all(client);
    wait(plane, "its nodes to be ready", processes, async || {
        Ok(nodes.list(&ListParams::default()).await?.items.iter().all(is_ready))
    })
    .await
}

fn serve_driver(plane: &ControlPlane, ec2_url: String) {
    let (cluster, socket) = (plane.cluster(), plane.csi_socket());
    tokio::spawn(async move {
        if let Err(error) = csi::serve(cluster, &socket, &ec2_url, ec2::csi_key(cluster)).await {
            eprintln!("supervisor: {error:#}");
        }
    });
}

/// Returns the nodes of the start, in the first two zones: what needs the third brings nodes along.
fn nodes(cluster: Cluster, options: &BedOptions) -> Vec<NewNode> {
    let of_zone = |zone| (0..options.nodes_per_zone).map(move |_| NewNode::new(cluster, zone));
    ec2::ZONES.into_iter().take(2).flat_map(of_zone).collect()
}

/// Returns whether pods can be scheduled to a node: a new one is tainted until it was seen Ready.
fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        && !taints.any(|taint| taint.key.starts_with("node.kubernetes.io/"))
}

async fn client(plane: &ControlPlane, user: &str) -> Result<Client> {
    let kubeconfig = users::kubeconfig(&[(plane.cluster(), &plane.place())], user);
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Waits for a condition of the start; fails at once when a process of the cluster has ended.
async fn wait(
    plane: &ControlPlane,
    what: &str,
    processes: &Processes,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let cluster = plane.cluster();
    let place = || format!("start cluster {}", cluster.name());
    let begun = Instant::now();
    loop {
        if condition().await.with_context(place)? {
            return Ok(());
        }
        processes.check(cluster).with_context(place)?;
        if begun.elapsed() > START_DEADLINE {
            let logs = processes.tails(cluster);
            bail!("cluster {} waited {START_DEADLINE:?} for {what}\n{logs}", cluster.name());
        }
        sleep(LOOK_EVERY).await;
    }
}
