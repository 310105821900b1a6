//! The bed: two real control planes with a strict EC2 stand-in, a CSI driver and a node agent.
//!
//! Tests and the sandbox run the shipped binary against it. Nothing in here is ever made more
//! permissive to let a test pass.
//!
//! A test executable begins its `main` with [`supervise_if_asked`] and calls [`Bed::start`]. That
//! runs the executable once more as the *supervisor*: one process that hosts all stand-ins, starts
//! the real servers and ends with its parent. [`Bed`] is the test's side of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub mod audit;
pub mod balancer;
mod certificates;
mod control_plane;
pub mod csi;
pub mod ec2;
pub mod facts;
mod handle;
pub mod judge;
pub mod mover;
pub mod node;
mod supervisor;
pub mod toolchain;
pub mod users;
pub mod workload;

pub use control_plane::Component;
pub use handle::{Bed, Place, Tool};
pub use supervisor::{Act, supervise_if_asked};

/// What a bed is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BedOptions {
    /// A directory that gets a copy of all logs at the end.
    pub keep_logs: Option<PathBuf>,
    /// Nodes in each of the two zones of each cluster.
    pub nodes_per_zone: u32,
    /// How long EC2's state changes take.
    pub ec2: ec2::Timings,
    /// How long things take on the nodes.
    pub node: node::Timings,
}

impl Default for BedOptions {
    fn default() -> Self {
        BedOptions { keep_logs: None, nodes_per_zone: 2, ec2: ec2::Timings::default(), node: node::Timings::default() }
    }
}

/// One of the two clusters of the bed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cluster {
    /// The source cluster, context `a`.
    A,
    /// The destination cluster, context `b`.
    B,
}

impl Cluster {
    /// Both clusters, source first.
    pub const BOTH: [Cluster; 2] = [Cluster::A, Cluster::B];

    /// Returns the cluster's name, which is also its kubeconfig context.
    pub fn name(self) -> &'static str {
        match self {
            Cluster::A => "a",
            Cluster::B => "b",
        }
    }
}

/// Returns an HTTP client that uses no proxy of the environment: a bed is on the loopback address.
fn loopback_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client without TLS can always be made")
}
