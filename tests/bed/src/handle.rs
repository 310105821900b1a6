//! A test's side of a bed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::audit::{self, Mark};
use crate::control_plane::{self, Component};
use crate::supervisor::{self, Act, Assignment, ComponentOrder, Report};
use crate::toolchain::Binaries;
use crate::{BedOptions, Cluster, ec2, node, users};

/// How long a supervisor may take to end everything before it is killed with all its processes.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Where a cluster's API server is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// URL of the API server.
    pub server: String,
    /// File with the certificate of its authority.
    pub certificate_authority: PathBuf,
}

/// What a supervisor says of a bed that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// The source cluster.
    pub(crate) a: Place,
    /// The destination cluster.
    pub(crate) b: Place,
    /// URL of the EC2 stand-in and of everything below `/_bed/`.
    pub(crate) ec2_url: String,
}

/// One identity of the tool, used by one test only, so that the logs say what that test's tool did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its number.
    pub number: u32,
    /// Its user in both clusters, `tool-N`.
    pub user: String,
    /// Its AWS access key id, which may only describe.
    pub access_key: String,
}

/// A bed that runs. It ends when this is dropped, by [`Bed::end`], or with this process.
#[derive(Debug)]
pub struct Bed {
    directory: PathBuf,
    binaries: Binaries,
    ready: Ready,
    supervisor: Mutex<Option<Child>>,
    tools: AtomicU32,
    restricted: AtomicU32,
    kubeconfigs: Mutex<()>,
}

impl Bed {
    /// Starts a bed and blocks until all of it is ready; the first time for a user, this builds it.
    ///
    /// The executable's `main` must begin with [`crate::supervise_if_asked`].
    pub fn start(options: BedOptions) -> Result<Self> {
        // A client of this process may be the first that needs a TLS provider.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let binaries = Binaries::find_or_build()?;
        // From here on the supervisor removes it.
        let directory =
            tempfile::Builder::new().prefix("sts-migrate-bed-").tempdir().context("create the bed's directory")?.keep();
        match launch(&directory, &binaries, options) {
            Ok((supervisor, ready)) => Ok(Bed {
                directory,
                binaries,
                ready,
                supervisor: Mutex::new(Some(supervisor)),
                tools: AtomicU32::new(0),
                restricted: AtomicU32::new(0),
                kubeconfigs: Mutex::new(()),
            }),
            Err(error) => {
                // Mostly gone already, with the supervisor.
                let _ = fs::remove_dir_all(&directory);
                Err(error.context("start the bed"))
            }
        }
    }

    /// Ends everything that belongs to the bed and returns when it is gone. Further calls do nothing.
    pub fn end(&self) {
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor {
            end(supervisor);
            // Only there when the supervisor had to be killed.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }

    /// Returns the directory that has all files of the bed.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the kubeconfig file of a user: contexts `a` (current) and `b`.
    pub fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        let path = self.directory.join(format!("{user}.kubeconfig"));
        // Two threads of one test may ask for the same.
        let _guard = self.kubeconfigs.lock().unwrap_or_else(PoisonError::into_inner);
        if !path.exists() {
            let text = serde_yaml::to_string(&self.kubeconfig_value(user))?;
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(path)
    }

    /// Returns a client of a cluster as a user. Its requests run on the present tokio runtime.
    pub async fn client(&self, cluster: Cluster, user: &str) -> Result<Client> {
        let kubeconfig: Kubeconfig = serde_json::from_value(self.kubeconfig_value(user))?;
        let options = KubeConfigOptions { context: Some(cluster.name().to_owned()), ..Default::default() };
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        // A proxy of the environment leads away from the loopback address.
        config.proxy_url = None;
        Ok(Client::try_from(config)?)
    }

    /// Returns where a cluster's API server is.
    pub fn place(&self, cluster: Cluster) -> &Place {
        match cluster {
            Cluster::A => &self.ready.a,
            Cluster::B => &self.ready.b,
        }
    }

    /// Returns the URL of the EC2 stand-in: what `AWS_ENDPOINT_URL` must be.
    pub fn ec2_url(&self) -> &str {
        &self.ready.ec2_url
    }

    /// Returns the hand on EC2: its volumes, delays, permissions and logs.
    pub fn ec2(&self) -> ec2::Control {
        ec2::Control::new(self.ec2_url())
    }

    /// Returns the hand on the nodes and on the pods that run there.
    pub fn nodes(&self) -> node::Control {
        node::Control::new(self.ec2_url())
    }

    /// Returns the path of kubectl.
    pub fn kubectl(&self) -> PathBuf {
        self.binaries.path("kubectl")
    }

    /// Returns a cluster's audit events since the bed's start, as the API server wrote them.
    pub fn audit(&self, cluster: Cluster) -> Result<Vec<Value>> {
        self.audit_since(cluster, Mark::default())
    }

    /// Returns a cluster's audit events since a mark.
    pub fn audit_since(&self, cluster: Cluster, mark: Mark) -> Result<Vec<Value>> {
        audit::read(&self.audit_log(cluster), mark)
    }

    /// Returns the present end of a cluster's audit log.
    pub fn audit_mark(&self, cluster: Cluster) -> Result<Mark> {
        audit::mark(&self.audit_log(cluster))
    }

    /// Returns the last lines of a component's log, for a test that failed.
    pub fn log_tail(&self, cluster: Cluster, component: Component) -> String {
        supervisor::tail(&control_plane::log_file(&self.directory.join(cluster.name()), component))
    }

    /// Takes the next identity of the tool.
    ///
    /// # Panics
    /// When all are taken: the number of tests has outgrown [`users::TOOL_COUNT`].
    pub fn take_tool(&self) -> Tool {
        let number = self.tools.fetch_add(1, Ordering::Relaxed);
        assert!(number < users::TOOL_COUNT, "all {} identities of the tool are taken", users::TOOL_COUNT);
        Tool { number, user: users::tool(number), access_key: ec2::tool_key(number) }
    }

    /// Takes the next user without rights; [`Bed::grant`] gives it some.
    ///
    /// # Panics
    /// When all are taken: the number of tests has outgrown [`users::RESTRICTED_COUNT`].
    pub fn take_restricted(&self) -> String {
        let number = self.restricted.fetch_add(1, Ordering::Relaxed);
        assert!(number < users::RESTRICTED_COUNT, "all {} restricted users are taken", users::RESTRICTED_COUNT);
        users::restricted(number)
    }

    /// Gives a user rights in one cluster, everywhere in it; once per user and cluster.
    pub async fn grant(&self, cluster: Cluster, user: &str, rules: Vec<PolicyRule>) -> Result<()> {
        let client = self.client(cluster, users::ADMIN).await?;
        let role: ClusterRole = serde_json::from_value(json!({ "metadata": { "name": user }, "rules": rules }))?;
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": { "name": user },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        }))?;
        let post = PostParams::default();
        Api::all(client.clone()).create(&post, &role).await.with_context(|| format!("create the role of {user}"))?;
        Api::all(client).create(&post, &binding).await.with_context(|| format!("bind the role of {user}"))?;
        Ok(())
    }

    /// Takes a user that has just these rights in one cluster, and none in the other.
    pub async fn restricted(&self, cluster: Cluster, rules: Vec<PolicyRule>) -> Result<String> {
        let user = self.take_restricted();
        self.grant(cluster, &user, rules).await?;
        Ok(user)
    }

    /// Stops, continues, kills or starts a real process. Disturbs all tests on this bed.
    pub async fn signal(&self, cluster: Cluster, component: Component, act: Act) -> Result<()> {
        let url = format!("{}/_bed/components", self.ec2_url());
        let order = ComponentOrder { cluster, component, act };
        let answer = crate::loopback_client().post(url).json(&order).send().await.context("reach the bed")?;
        if !answer.status().is_success() {
            bail!(answer.text().await?);
        }
        Ok(())
    }

    fn audit_log(&self, cluster: Cluster) -> PathBuf {
        control_plane::audit_log(&self.directory.join(cluster.name()))
    }

    fn kubeconfig_value(&self, user: &str) -> Value {
        let places = Cluster::BOTH.map(|cluster| (cluster, self.place(cluster)));
        users::kubeconfig(&places, user)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts a supervisor and waits for its report.
fn launch(directory: &Path, binaries: &Binaries, options: BedOptions) -> Result<(Child, Ready)> {
    let assignment = Assignment { directory: directory.to_owned(), binaries: binaries.directory().to_owned(), options };
    let log_path = directory.join("supervisor.log");
    let log = fs::File::create(&log_path).with_context(|| format!("create {}", log_path.display()))?;
    let mut command = Command::new(env::current_exe().context("find this executable")?);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        // Everything that it talks to is on the loopback address.
        command.env_remove(name);
    }
    let mut supervisor = command
        .arg(supervisor::ARGUMENT)
        .arg(serde_json::to_string(&assignment)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        // A Ctrl-C in the terminal must not reach it: it ends after us.
        .process_group(0)
        .spawn()
        .context("run the supervisor")?;
    let mut line = String::new();
    if let Some(stdout) = supervisor.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).context("read the supervisor's report")?;
    }
    let failure = match serde_json::from_str(&line) {
        Ok(Report::Ready(ready)) => return Ok((supervisor, ready)),
        Ok(Report::Failed(reason)) => reason,
        Err(_) => format!("the supervisor ended early; its log ends with:\n{}", supervisor::tail(&log_path)),
    };
    end(supervisor);
    bail!(failure)
}

/// Closes the pipe to a supervisor and waits until it has ended.
fn end(mut supervisor: Child) {
    drop(supervisor.stdin.take());
    let deadline = Instant::now() + END_DEADLINE;
    while Instant::now() < deadline {
        match supervisor.try_wait() {
            Ok(None) => thread::sleep(Duration::from_millis(10)),
            _ => return,
        }
    }
    if let Some(group) = i32::try_from(supervisor.id()).ok().and_then(Pid::from_raw) {
        // Its group has all its processes. When that fails, it has just ended.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = supervisor.wait();
}
