//! The bed: two real control planes with a strict EC2 stand-in, a CSI driver and a node agent.
//!
//! Tests and the sandbox run the shipped binary against it. Nothing in here is ever made more
//! permissive to let a test pass.

use serde::{Deserialize, Serialize};

pub mod balancer;
pub mod csi;
pub mod ec2;
pub mod facts;
pub mod judge;
pub mod mover;
pub mod node;
pub mod workload;

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
