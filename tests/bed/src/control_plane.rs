//! The real processes of one cluster: their files, ports and command lines.
//!
//! Flags that are not obvious: the endpoint reconciler is off because it refuses a loopback address;
//! the controllers' own rate limits are high because their defaults are made for clusters that
//! must spare a server, and would be measured as downtime of the tool; no controller, admission
//! plugin or feature gate is switched.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::net::TcpSocket;

use crate::Cluster;
use crate::certificates::Certificates;
use crate::handle::Place;
use crate::toolchain::Binaries;
use crate::{audit, users};

/// A real process of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The store of the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The controllers: StatefulSet, attach/detach, garbage collector, and all others.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The sidecar that turns VolumeAttachments into calls of the CSI driver.
    CsiAttacher,
    /// The sidecar that makes and deletes volumes for claims.
    CsiProvisioner,
}

impl Component {
    /// All components in the order of their start.
    pub const ALL: [Component; 6] = [
        Component::Etcd,
        Component::KubeApiserver,
        Component::KubeControllerManager,
        Component::KubeScheduler,
        Component::CsiAttacher,
        Component::CsiProvisioner,
    ];

    /// Returns the component's name.
    pub fn name(self) -> &'static str {
        match self {
            Component::Etcd => "etcd",
            Component::KubeApiserver => "kube-apiserver",
            Component::KubeControllerManager => "kube-controller-manager",
            Component::KubeScheduler => "kube-scheduler",
            Component::CsiAttacher => "csi-attacher",
            Component::CsiProvisioner => "csi-provisioner",
        }
    }
}

/// How a process is started.
#[derive(Clone, Debug)]
pub(crate) struct CommandLine {
    /// The binary.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// The file that gets its output.
    pub(crate) log: PathBuf,
}

/// A port of the loopback address that stays ours.
///
/// The socket is bound and never listens; the server shares its port. So nobody else is given the
/// port before the server has started, nor while it restarts.
pub(crate) struct Port {
    _socket: TcpSocket,
    number: u16,
}

impl Port {
    fn reserve() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("reserve a port")?;
        let number = socket.local_addr()?.port();
        Ok(Port { _socket: socket, number })
    }
}

/// Files and ports of one cluster.
pub(crate) struct ControlPlane {
    cluster: Cluster,
    directory: PathBuf,
    binaries: Binaries,
    certificates: Certificates,
    etcd: Port,
    apiserver: Port,
}

impl ControlPlane {
    /// Makes a cluster's directory with everything that its processes read.
    pub(crate) fn create(cluster: Cluster, bed: &Path, binaries: &Binaries) -> Result<Self> {
        let directory = bed.join(cluster.name());
        fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
        let plane = ControlPlane {
            cluster,
            certificates: Certificates::create(cluster, &directory)?,
            directory,
            binaries: binaries.clone(),
            etcd: Port::reserve()?,
            apiserver: Port::reserve()?,
        };
        fs::write(plane.file("tokens.csv"), users::token_file())?;
        fs::write(plane.file("audit-policy.yaml"), serde_yaml::to_string(&audit::policy())?)?;
        for user in [users::CONTROLLER_MANAGER, users::SCHEDULER, users::ATTACHER, users::PROVISIONER] {
            let kubeconfig = users::kubeconfig(&[(cluster, &plane.place())], user);
            fs::write(plane.kubeconfig(user), serde_yaml::to_string(&kubeconfig)?)?;
        }
        Ok(plane)
    }

    /// Returns the cluster.
    pub(crate) fn cluster(&self) -> Cluster {
        self.cluster
    }

    /// Returns where the cluster's API server is.
    pub(crate) fn place(&self) -> Place {
        Place {
            server: format!("https://127.0.0.1:{}", self.apiserver.number),
            certificate_authority: self.certificates.authority.clone(),
        }
    }

    /// Returns the socket of the cluster's CSI driver.
    pub(crate) fn csi_socket(&self) -> PathBuf {
        self.file("csi.sock")
    }

    /// Returns the command line of one component.
    pub(crate) fn command(&self, component: Component) -> CommandLine {
        let (binary, arguments) = match component {
            Component::Etcd => ("server", self.etcd()),
            Component::KubeApiserver => ("kube-apiserver", self.apiserver()),
            Component::KubeControllerManager => ("kube-controller-manager", self.controller_manager()),
            Component::KubeScheduler => ("kube-scheduler", self.scheduler()),
            Component::CsiAttacher => ("csi-attacher", self.sidecar(users::ATTACHER, &[])),
            Component::CsiProvisioner => {
                let own = ["--feature-gates=Topology=true", "--extra-create-metadata", "--default-fstype=ext4"];
                ("csi-provisioner", self.sidecar(users::PROVISIONER, &own))
            }
        };
        CommandLine {
            program: self.binaries.path(binary),
            arguments: arguments.into_iter().map(OsString::from).collect(),
            log: log_file(&self.directory, component),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn kubeconfig(&self, user: &str) -> PathBuf {
        self.file(&format!("{user}.kubeconfig"))
    }

    fn etcd(&self) -> Vec<String> {
        let name = format!("etcd-{}", self.cluster.name());
        let url = format!("http://127.0.0.1:{}", self.etcd.number);
        // A single member has no peers: it listens wherever the kernel says.
        let peer = "http://127.0.0.1:0";
        vec![
            format!("--name={name}"),
            flag("data-dir", &self.file("etcd")),
            // What is written here need not survive a power cut.
            "--unsafe-no-fsync".into(),
            "--socket-reuse-port".into(),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={name}={peer}"),
            "--log-level=warn".into(),
        ]
    }

    fn apiserver(&self) -> Vec<String> {
        let certificates = &self.certificates;
        vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd.number),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            "--endpoint-reconciler-type=none".into(),
            format!("--secure-port={}", self.apiserver.number),
            "--permit-port-sharing".into(),
            flag("cert-dir", &self.file("certificates")),
            flag("tls-cert-file", &certificates.server),
            flag("tls-private-key-file", &certificates.server_key),
            flag("client-ca-file", &certificates.authority),
            flag("token-auth-file", &self.file("tokens.csv")),
            "--authorization-mode=RBAC".into(),
            "--service-cluster-ip-range=10.0.0.0/16".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            flag("service-account-key-file", &certificates.account_public_key),
            flag("service-account-signing-key-file", &certificates.account_key),
            "--allow-privileged".into(),
            flag("audit-policy-file", &self.file("audit-policy.yaml")),
            flag("audit-log-path", &audit_log(&self.directory)),
            "--audit-log-mode=blocking".into(),
            // Never rotated: a judge reads it from its start.
            "--audit-log-maxsize=1000000".into(),
            "--profiling=false".into(),
        ]
    }

    fn controller_manager(&self) -> Vec<String> {
        vec![
            flag("kubeconfig", &self.kubeconfig(users::CONTROLLER_MANAGER)),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
            flag("service-account-private-key-file", &self.certificates.account_key),
            flag("root-ca-file", &self.certificates.authority),
            "--controllers=*".into(),
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
        ]
    }

    fn scheduler(&self) -> Vec<String> {
        vec![
            flag("kubeconfig", &self.kubeconfig(users::SCHEDULER)),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
        ]
    }

    fn sidecar(&self, user: &str, own: &[&str]) -> Vec<String> {
        let mut arguments = vec![
            flag("kubeconfig", &self.kubeconfig(user)),
            flag("csi-address", &self.csi_socket()),
            "--timeout=60s".into(),
            "--worker-threads=100".into(),
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
            "--retry-interval-start=500ms".into(),
        ];
        arguments.extend(own.iter().map(|&argument| argument.to_owned()));
        arguments
    }
}

/// Returns the log of a component in a cluster's directory.
pub(crate) fn log_file(cluster_directory: &Path, component: Component) -> PathBuf {
    cluster_directory.join(format!("{}.log", component.name()))
}

/// Returns the audit log in a cluster's directory.
pub(crate) fn audit_log(cluster_directory: &Path) -> PathBuf {
    cluster_directory.join("audit.log")
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
