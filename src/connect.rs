//! Connections to the two clusters and to EC2.
//!
//! A kubeconfig is understood as kubectl understands it (several files in `KUBECONFIG`, exec plugins,
//! tokens, client certificates, `proxy-url`) and loaded **once**: a context that is switched while the
//! program runs does not lead it into another cluster (TL-5). Nothing here knows what is moved.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::world::Side;

mod aws;
mod request;

pub(crate) use aws::{AwsOptions, Ec2};
pub(crate) use request::{Call, CallError, REQUEST_TIMEOUT, escape, path};

/// Where a cluster's credentials are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The current context of the kubeconfig that kubectl would use.
    Current,
    /// A context of the kubeconfig that kubectl would use.
    Context(String),
    /// The current context of this file, or the named one.
    File(PathBuf, Option<String>),
    /// A kubeconfig as text, such as one that a Secret holds; with a name for people.
    Text {
        /// What people know it by.
        name: String,
        /// The kubeconfig.
        text: String,
    },
}

/// Why a cluster cannot be connected to.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// There is no context of that name.
    UnknownContext {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The kubeconfig cannot be read or used.
    Kubeconfig(anyhow::Error),
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConnectError::UnknownContext { name, .. } => write!(formatter, "the kubeconfig has no context `{name}`"),
            ConnectError::Kubeconfig(error) => write!(formatter, "{error:#}"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// A cluster as one migration sees it: credentials, and the namespace that it works in.
pub(crate) struct Cluster {
    /// Name of the context, for people.
    pub(crate) context: String,
    /// The migration's namespace in this cluster.
    pub(crate) namespace: String,
    kubeconfig: Kubeconfig,
    options: KubeConfigOptions,
    client: RwLock<Client>,
}

impl Cluster {
    /// Connects to a cluster; without a namespace, the context's own is used, as kubectl does.
    ///
    /// No request is made to the API server, but an exec plugin may be run.
    ///
    /// # Errors
    /// The kubeconfig cannot be read, or has no such context.
    pub(crate) async fn connect(source: &Source, namespace: Option<&str>) -> Result<Cluster, ConnectError> {
        let (kubeconfig, wanted) = load(source)?;
        let Some(context) = wanted.or_else(|| kubeconfig.current_context.clone()).filter(|name| !name.is_empty())
        else {
            return Err(ConnectError::Kubeconfig(anyhow::anyhow!("the kubeconfig has no current context")));
        };
        let known: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
        if !known.contains(&context) {
            return Err(ConnectError::UnknownContext { name: context, known });
        }
        let options = KubeConfigOptions { context: Some(context.clone()), cluster: None, user: None };
        let config = configuration(&kubeconfig, &options).await?;
        let namespace = namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
        let client = client(config).map_err(ConnectError::Kubeconfig)?;
        let context = match source {
            Source::Text { name, .. } => name.clone(),
            Source::Current | Source::Context(_) | Source::File(..) => context,
        };
        Ok(Cluster { context, namespace, kubeconfig, options, client: RwLock::new(client) })
    }

    /// Returns the client that is in use now.
    pub(crate) fn client(&self) -> Client {
        self.client.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Makes a client with fresh credentials: exec plugins run again, files are read again (TL-6).
    pub(crate) async fn refresh(&self) -> anyhow::Result<()> {
        let fresh = client(configuration(&self.kubeconfig, &self.options).await?)?;
        *self.client.write().unwrap_or_else(std::sync::PoisonError::into_inner) = fresh;
        Ok(())
    }
}

/// Everything that the program talks to.
#[derive(Clone)]
pub(crate) struct Endpoints {
    /// Cluster A.
    pub(crate) source: Arc<Cluster>,
    /// Cluster B.
    pub(crate) destination: Arc<Cluster>,
    /// EC2, which holds the volumes of both.
    pub ec2: Arc<Ec2>,
}

impl Endpoints {
    /// Returns the cluster of a side.
    pub(crate) fn cluster(&self, side: Side) -> &Arc<Cluster> {
        match side {
            Side::Source => &self.source,
            Side::Destination => &self.destination,
        }
    }
}

/// Makes aws-lc-rs the TLS provider of this process, for both the clusters and AWS. A second call
/// changes nothing.
pub(crate) fn install_tls_provider() {
    // An error says that a provider is installed already, which is what is wanted.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn load(source: &Source) -> Result<(Kubeconfig, Option<String>), ConnectError> {
    match source {
        Source::Current => Ok((read_default()?, None)),
        Source::Context(name) => Ok((read_default()?, Some(name.clone()))),
        Source::File(file, context) => Ok((read_file(file)?, context.clone())),
        Source::Text { text, .. } => Kubeconfig::from_yaml(text).map(|kubeconfig| (kubeconfig, None)).map_err(broken),
    }
}

/// Reads what kubectl would read: the files of `KUBECONFIG` that exist, the first to say something
/// wins, or `~/.kube/config`.
fn read_default() -> Result<Kubeconfig, ConnectError> {
    let listed: Vec<PathBuf> = std::env::var_os("KUBECONFIG")
        .map(|value| std::env::split_paths(&value).filter(|file| !file.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    if listed.is_empty() {
        return Kubeconfig::read().map_err(broken);
    }
    let present: Vec<&PathBuf> = listed.iter().filter(|file| file.exists()).collect();
    if present.is_empty() {
        let names: Vec<String> = listed.iter().map(|file| file.display().to_string()).collect();
        return Err(ConnectError::Kubeconfig(anyhow::anyhow!(
            "no kubeconfig: KUBECONFIG names {}, which does not exist",
            names.join(", ")
        )));
    }
    present.into_iter().try_fold(Kubeconfig::default(), |merged, file| merged.merge(read_file(file)?).map_err(broken))
}

fn read_file(file: &Path) -> Result<Kubeconfig, ConnectError> {
    Kubeconfig::read_from(file).map_err(broken)
}

fn broken(error: kube::config::KubeconfigError) -> ConnectError {
    ConnectError::Kubeconfig(error.into())
}

async fn configuration(kubeconfig: &Kubeconfig, options: &KubeConfigOptions) -> Result<Config, ConnectError> {
    let mut config = Config::from_custom_kubeconfig(kubeconfig.clone(), options).await.map_err(broken)?;
    // A retry inside the client would repeat mutations blindly and hide throttling from the clocks.
    config.default_retry = false;
    Ok(config)
}

fn client(config: Config) -> anyhow::Result<Client> {
    Ok(Client::try_from(config)?)
}
