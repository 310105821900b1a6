//! The CSI driver `ebs.csi.aws.com` for the bed: the controller half, gRPC on a unix socket.
//!
//! The real sidecars (external-provisioner, external-attacher) call it; it calls the EC2 stand-in over
//! HTTP with an access key of its own, so that everything it does is in EC2's log. It behaves as
//! aws-ebs-csi-driver does where a migration could notice: idempotent, one AttachVolume however often
//! the attacher asks, waiting until EC2 says `attached`, and a DetachVolume that EC2 answers with
//! `IncorrectState` or not found taken for done.

use std::path::Path;

use anyhow::{Context, Result};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::Cluster;

mod driver;
mod ec2_client;
mod messages;
mod service;
#[cfg(test)]
mod tests;

/// Name of the driver, as CSIDriver, PersistentVolumes and CSINodes spell it.
pub const DRIVER: &str = "ebs.csi.aws.com";
/// Topology key of the volumes and nodes.
pub const ZONE_KEY: &str = "topology.kubernetes.io/zone";

/// Serves the driver of a cluster on a unix socket until it is dropped or fails.
///
/// A file that lies at `socket` is replaced. `access_key_id` signs its calls to `ec2_endpoint`.
pub async fn serve(cluster: Cluster, socket: &Path, ec2_endpoint: &str, access_key_id: &str) -> Result<()> {
    let listener = listen(socket)?;
    let driver = driver::Driver::new(cluster, ec2_endpoint, access_key_id);
    Server::builder()
        .add_service(service::Identity::new(driver.clone()))
        .add_service(service::Controller::new(driver))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
        .with_context(|| format!("serve the CSI driver of cluster {}", cluster.name()))
}

fn listen(socket: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("remove {}", socket.display())),
    }
    UnixListener::bind(socket).with_context(|| format!("listen on {}", socket.display()))
}
