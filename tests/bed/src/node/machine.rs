//! One node: its Lease, its status, the processes on it and what they have mounted.
//!
//! `volumesInUse` is written by one task per node, which always writes the latest list and tells how
//! far it has come: whoever changed the list goes on the moment the API server has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::CSINode;
use kube::api::{DeleteParams, Patch};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::api::{create, kubelet, until_done};
use super::knobs::NodeKnobs;
use super::object::{self, NewNode, NodeFacts};
use super::volumes::PodVolume;
use crate::ec2::Ec2;
use crate::facts::HistoryEntry;

/// How often a kubelet renews its Lease.
const RENEWAL: Duration = Duration::from_secs(10);

/// A process that runs on a node, as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Node on which it runs.
    pub node: String,
    /// Namespace of its pod.
    pub namespace: String,
    /// Name of its pod.
    pub pod: String,
    /// Uid of its pod.
    pub pod_uid: String,
    /// Volumes that it has mounted.
    pub volumes: Vec<String>,
}

/// One node.
pub(super) struct Machine {
    pub(super) facts: NodeFacts,
    pub(super) knobs: watch::Sender<NodeKnobs>,
    /// Grows when the machine loses its power: what ran before then runs no longer.
    pub(super) boot: watch::Sender<u64>,
    /// `status.volumesAttached` of the Node, as last seen.
    pub(super) attached: watch::Sender<BTreeSet<String>>,
    client: Client,
    ec2: Ec2,
    in_use: Mutex<InUse>,
    /// Version of the list that the API server is to have, and that it has.
    wanted: watch::Sender<u64>,
    reported: watch::Sender<u64>,
    /// Running pods by uid, with the volumes that each has mounted.
    running: Mutex<BTreeMap<String, (Process, Vec<Mount>)>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Mount {
    volume: String,
    entry: HistoryEntry,
}

/// Volumes in use, each with the uids of the pods that use it.
#[derive(Default)]
struct InUse {
    version: u64,
    users: BTreeMap<String, BTreeSet<String>>,
}

impl Machine {
    /// Makes a machine that EC2 knows, and no cluster so far.
    pub(super) fn new(client: Client, ec2: Ec2, facts: NodeFacts) -> Self {
        ec2.register_instance(&facts.instance, &facts.zone);
        Self {
            facts,
            knobs: watch::Sender::new(NodeKnobs::default()),
            boot: watch::Sender::new(0),
            attached: watch::Sender::new(BTreeSet::new()),
            client,
            ec2,
            in_use: Mutex::default(),
            wanted: watch::Sender::new(0),
            reported: watch::Sender::new(0),
            running: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// Writes the node's objects and starts its tasks.
    pub(super) async fn join(self: &Arc<Self>, new: &NewNode) {
        let node = object::node(&self.facts, new);
        let created = create(&Api::<Node>::all(self.client.clone()), &node).await;
        let uid = created.metadata.uid.unwrap_or_default();
        let (csi_nodes, leases) = (Api::<CSINode>::all(self.client.clone()), self.leases());
        let (csi_node, lease) = (object::csi_node(&self.facts, new, &uid), object::lease(&self.facts, &uid));
        tokio::join!(create(&csi_nodes, &csi_node), create(&leases, &lease));
        let tasks = [tokio::spawn(self.clone().renew()), tokio::spawn(self.clone().report())];
        lock(&self.tasks).extend(tasks);
    }

    /// Takes the node out of the cluster, as after the end of its instance: its processes end, its
    /// objects go, its volumes stay attached until somebody detaches them.
    pub(super) async fn leave(&self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
        self.set(NodeKnobs { dead: true, ..NodeKnobs::default() });
        let name = &self.facts.name;
        let gone = DeleteParams::default();
        let (nodes, csi_nodes, leases) =
            (Api::<Node>::all(self.client.clone()), Api::<CSINode>::all(self.client.clone()), self.leases());
        until_done("delete node", || async { nodes.delete(name, &gone).await.map(|_| ()) }).await;
        until_done("delete CSINode", || async { csi_nodes.delete(name, &gone).await.map(|_| ()) }).await;
        until_done("delete Lease", || async { leases.delete(name, &gone).await.map(|_| ()) }).await;
    }

    /// Sets the knobs. A machine that loses its power ends all its processes at once.
    pub(super) fn set(&self, knobs: NodeKnobs) {
        let dies = knobs.dead && !self.knobs.borrow().dead;
        self.knobs.send_replace(knobs);
        if dies {
            let running = std::mem::take(&mut *lock(&self.running));
            self.boot.send_modify(|boot| *boot += 1);
            for (_, mounts) in running.into_values() {
                self.let_go(mounts);
            }
        }
    }

    /// Waits until the node agent of this node does anything (again).
    pub(super) async fn awake(&self) {
        let mut knobs = self.knobs.subscribe();
        // The sender lives as long as the machine, so the wait cannot fail.
        let _ = knobs.wait_for(NodeKnobs::awake).await;
    }

    /// Puts volumes of a pod into `volumesInUse` and waits until the API server has them.
    pub(super) async fn hold(&self, pod_uid: &str, volumes: &[PodVolume]) {
        if volumes.is_empty() {
            return;
        }
        self.change_in_use(|users| {
            for volume in volumes {
                users.entry(volume.unique_name()).or_default().insert(pod_uid.to_owned());
            }
        })
        .await;
    }

    /// Takes the volumes of a pod out of `volumesInUse` and waits until the API server knows.
    pub(super) async fn release(&self, pod_uid: &str) {
        self.change_in_use(|users| {
            users.retain(|_, pods| {
                pods.remove(pod_uid);
                !pods.is_empty()
            });
        })
        .await;
    }

    async fn change_in_use(&self, change: impl FnOnce(&mut BTreeMap<String, BTreeSet<String>>)) {
        let version = {
            let mut in_use = lock(&self.in_use);
            let before: Vec<String> = in_use.users.keys().cloned().collect();
            change(&mut in_use.users);
            if !in_use.users.keys().eq(&before) {
                in_use.version += 1;
            }
            in_use.version
        };
        self.wanted.send_modify(|wanted| *wanted = version.max(*wanted));
        let _ = self.reported.subscribe().wait_for(|reported| *reported >= version).await;
    }

    /// Whether the Node's status names all of these volumes as attached.
    pub(super) fn has_attached(&self, volumes: &[PodVolume]) -> bool {
        let attached = self.attached.borrow();
        volumes.iter().all(|volume| attached.contains(&volume.unique_name()))
    }

    /// Starts the process of a pod, without a volume so far.
    pub(super) fn start(&self, process: Process) {
        lock(&self.running).insert(process.pod_uid.clone(), (process, Vec::new()));
    }

    /// Mounts a volume for a running process and returns how much it found there.
    pub(super) fn mount(&self, volume: &str, entry: HistoryEntry) -> Result<usize, String> {
        let mut running = lock(&self.running);
        let Some((process, mounts)) = running.get_mut(&entry.pod_uid) else {
            return Err(format!("machine {} has lost its power", self.facts.name));
        };
        let found = self.ec2.mount(volume, &self.facts.instance, entry.clone())?.len();
        process.volumes.push(volume.to_owned());
        mounts.push(Mount { volume: volume.to_owned(), entry });
        Ok(found)
    }

    /// Returns the volumes that a pod has mounted here.
    pub(super) fn mounted(&self, pod_uid: &str) -> Vec<String> {
        lock(&self.running).get(pod_uid).map(|(process, _)| process.volumes.clone()).unwrap_or_default()
    }

    /// Whether the process of a pod runs here.
    pub(super) fn runs(&self, pod_uid: &str) -> bool {
        lock(&self.running).contains_key(pod_uid)
    }

    /// Unmounts what a pod, whose process has ended, had mounted.
    pub(super) fn unmount(&self, pod_uid: &str) {
        let ended = lock(&self.running).remove(pod_uid);
        if let Some((_, mounts)) = ended {
            self.let_go(mounts);
        }
    }

    fn let_go(&self, mounts: Vec<Mount>) {
        for Mount { volume, entry } in mounts {
            // Refused when EC2 has ended the mount itself, with the instance or by force: then it is gone already.
            if let Err(reason) = self.ec2.unmount(&volume, &self.facts.instance, entry) {
                tracing::info!(volume, node = self.facts.name, reason, "nothing to unmount");
            }
        }
    }

    /// Returns what runs here.
    pub(super) fn processes(&self) -> Vec<Process> {
        lock(&self.running).values().map(|(process, _)| process.clone()).collect()
    }

    /// Renews the Lease for ever; after a silence the node says first that it is well again.
    async fn renew(self: Arc<Self>) {
        let (nodes, leases) = (Api::<Node>::all(self.client.clone()), self.leases());
        let name = &self.facts.name;
        let mut knobs = self.knobs.subscribe();
        loop {
            if !knobs.borrow_and_update().awake() {
                self.awake().await;
                let status = json!({"status": object::ready_status()});
                until_done("say that the node is well", || async {
                    nodes.patch_status(name, &kubelet(), &Patch::Strategic(&status)).await
                })
                .await;
            }
            until_done("renew the Lease", || async {
                leases.patch(name, &kubelet(), &Patch::Merge(object::renewal())).await
            })
            .await;
            let _ = timeout(RENEWAL, knobs.changed()).await;
        }
    }

    /// Writes `volumesInUse` whenever it is to be another.
    async fn report(self: Arc<Self>) {
        let nodes = Api::<Node>::all(self.client.clone());
        let mut wanted = self.wanted.subscribe();
        let mut done = 0;
        loop {
            let _ = wanted.wait_for(|wanted| *wanted > done).await;
            self.awake().await;
            let (version, volumes) = {
                let in_use = lock(&self.in_use);
                (in_use.version, in_use.users.keys().cloned().collect::<Vec<_>>())
            };
            let status = json!({"status": {"volumesInUse": volumes}});
            until_done("report the volumes in use", || async {
                nodes.patch_status(&self.facts.name, &kubelet(), &Patch::Merge(&status)).await
            })
            .await;
            done = version;
            self.reported.send_replace(version);
        }
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), "kube-node-lease")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
