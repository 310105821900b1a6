//! The node agent: hollow nodes that run no containers, but do with volumes what a kubelet does.
//!
//! One [`Agent`] per cluster plays all its nodes. It registers Node, CSINode and Lease, takes on the
//! pods that the scheduler binds, and keeps the kubelet's order (see `pod`): a volume is reported as
//! in use before its attachment is awaited, mounted only when both Kubernetes and EC2 say that it is
//! attached, and let go before the pod object goes. Each use is written into the volume's history.
//!
//! What a test may change while pods run is in [`NodeKnobs`] and [`PodKnobs`]; [`Control`] is the
//! typed client. Nothing here polls for its own writes: each pod is one task that goes on by itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use futures::future::join_all;
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::runtime::watcher as watch_all;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::Cluster;
use crate::ec2::Ec2;

mod api;
mod attachments;
mod control;
mod knobs;
mod machine;
mod object;
mod pod;
mod readiness;
mod status;
pub(crate) mod volumes;

pub use control::{Control, router};
pub use knobs::{NodeKnobs, PodKnobs, READY_WHEN, ReadyWhen, Timings};
pub use machine::Process;
pub use object::{NewNode, NodeFacts};

use api::PAUSE;
use attachments::Attachments;
use knobs::PodKnobStore;
use machine::Machine;
use pod::Life;

/// The nodes of one cluster; clones share them.
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
}

/// What all pods of a cluster share.
pub(crate) struct Shared {
    cluster: Cluster,
    client: Client,
    ec2: Ec2,
    timings: Timings,
    machines: Mutex<BTreeMap<String, Arc<Machine>>>,
    attachments: Attachments,
    pod_knobs: PodKnobStore,
    /// Pods that have had an address so far.
    addresses: AtomicU32,
    /// Nodes that have had an address so far.
    nodes: AtomicU32,
}

impl Agent {
    /// Starts a node agent without nodes; see [`Agent::add_nodes`]. Must be called inside a tokio runtime.
    pub fn start(cluster: Cluster, client: Client, ec2: Ec2, timings: Timings) -> Self {
        let shared = Arc::new(Shared {
            cluster,
            client: client.clone(),
            ec2,
            timings,
            machines: Mutex::default(),
            attachments: Attachments::default(),
            pod_knobs: PodKnobStore::default(),
            addresses: AtomicU32::new(0),
            nodes: AtomicU32::new(0),
        });
        let (nodes, attachments, mut pods) = (shared.clone(), shared.clone(), Pods::new(shared.clone()));
        tokio::spawn(follow(Api::<Node>::all(client.clone()), watcher::Config::default(), move |event| {
            nodes.see_node(event)
        }));
        tokio::spawn(follow(Api::<VolumeAttachment>::all(client.clone()), watcher::Config::default(), move |event| {
            attachments.attachments.apply(event);
        }));
        let bound = watcher::Config::default().fields("spec.nodeName!=");
        tokio::spawn(follow(Api::<Pod>::all(client), bound, move |event| pods.see(event)));
        Self { shared }
    }

    /// Adds nodes and returns when all are registered.
    pub async fn add_nodes(&self, new: Vec<NewNode>) -> Result<Vec<NodeFacts>> {
        join_all(new.into_iter().map(|new| self.add_node(new))).await.into_iter().collect()
    }

    /// Adds a node and returns when it is registered.
    pub async fn add_node(&self, new: NewNode) -> Result<NodeFacts> {
        let machine = {
            let mut machines = self.machines();
            let name = match &new.name {
                Some(name) if machines.contains_key(name) => bail!("node {name} is there already"),
                Some(name) => name.clone(),
                None => object::next_name(self.shared.cluster, &new.zone, |name| machines.contains_key(name)),
            };
            let number = self.shared.nodes.fetch_add(1, Ordering::Relaxed) as usize;
            let facts = NodeFacts::new(self.shared.cluster, name.clone(), new.zone.clone(), number);
            let machine = Arc::new(Machine::new(self.shared.client.clone(), self.shared.ec2.clone(), facts));
            // Known before its object exists, so that no pod is bound to a node that nobody plays.
            machines.insert(name, machine.clone());
            machine
        };
        machine.join(&new).await;
        Ok(machine.facts.clone())
    }

    /// Takes a node out of the cluster; false when there is none of that name.
    pub async fn remove_node(&self, name: &str) -> bool {
        let machine = self.machines().get(name).cloned();
        let Some(machine) = machine else { return false };
        machine.leave().await;
        self.machines().remove(name);
        true
    }

    /// Returns the cluster of these nodes.
    pub fn cluster(&self) -> Cluster {
        self.shared.cluster
    }

    /// Returns the nodes.
    pub fn nodes(&self) -> Vec<NodeFacts> {
        self.machines().values().map(|machine| machine.facts.clone()).collect()
    }

    /// Returns what runs on the nodes.
    pub fn processes(&self) -> Vec<Process> {
        self.machines().values().flat_map(|machine| machine.processes()).collect()
    }

    /// Replaces the knobs of a node; false when there is none of that name.
    pub fn set_node(&self, name: &str, knobs: NodeKnobs) -> bool {
        let machine = self.machines().get(name).cloned();
        machine.map(|machine| machine.set(knobs)).is_some()
    }

    /// Replaces the knobs of a pod name.
    pub fn set_pod(&self, namespace: &str, pod: &str, knobs: PodKnobs) {
        self.shared.pod_knobs.set(namespace, pod, knobs);
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Machine>>> {
        self.shared.machines()
    }
}

impl Shared {
    fn machines(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Machine>>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the names of the pods of a namespace whose processes run in this cluster.
    fn running(&self, namespace: &str) -> Vec<String> {
        let machines: Vec<Arc<Machine>> = self.machines().values().cloned().collect();
        let processes = machines.iter().flat_map(|machine| machine.processes());
        processes.filter(|process| process.namespace == namespace).map(|process| process.pod).collect()
    }

    /// Returns an address for a pod that starts.
    fn next_address(&self) -> String {
        let number = self.addresses.fetch_add(1, Ordering::Relaxed);
        let network = match self.cluster {
            Cluster::A => 128,
            Cluster::B => 192,
        };
        format!("10.{}.{}.{}", network + (number >> 16) % 64, (number >> 8) & 255, number & 255)
    }

    /// Takes note of the volumes that a Node's status names as attached.
    fn see_node(&self, event: Event<Node>) {
        let (Event::Apply(node) | Event::InitApply(node)) = event else { return };
        let machine = self.machines().get(node.metadata.name.as_deref().unwrap_or_default()).cloned();
        let Some(machine) = machine else { return };
        let attached = node.status.iter().flat_map(|status| status.volumes_attached.iter().flatten());
        let attached = attached.map(|volume| volume.name.clone()).collect();
        machine.attached.send_if_modified(|seen| {
            let news = *seen != attached;
            *seen = attached;
            news
        });
    }
}

/// The pods of our nodes, each with the task that looks after it.
struct Pods {
    shared: Arc<Shared>,
    by_uid: HashMap<String, watch::Sender<Option<Arc<Pod>>>>,
    /// Uids seen since a watch began anew.
    listed: HashSet<String>,
}

impl Pods {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, by_uid: HashMap::new(), listed: HashSet::new() }
    }

    fn see(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.apply(pod);
            }
            Event::InitDone => {
                let gone: Vec<String> = self.by_uid.keys().filter(|uid| !self.listed.contains(*uid)).cloned().collect();
                for uid in gone {
                    self.forget(&uid);
                }
            }
            Event::Apply(pod) => self.apply(pod),
            Event::Delete(pod) => self.forget(pod.metadata.uid.as_deref().unwrap_or_default()),
        }
    }

    fn apply(&mut self, pod: Pod) {
        let pod = Arc::new(pod);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(sender) = self.by_uid.get(&uid) {
            sender.send_replace(Some(pod));
            return;
        }
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let Some(machine) = self.shared.machines().get(node).cloned() else { return };
        let (sender, receiver) = watch::channel(Some(pod.clone()));
        self.by_uid.insert(uid, sender);
        tokio::spawn(Life::new(self.shared.clone(), machine, pod, receiver).live());
    }

    fn forget(&mut self, uid: &str) {
        if let Some(sender) = self.by_uid.remove(uid) {
            sender.send_replace(None);
        }
    }
}

/// Gives each event of a watch to `see`, for ever.
async fn follow<K>(api: Api<K>, config: watcher::Config, mut see: impl FnMut(Event<K>))
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watch_all(api, config);
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => see(event),
            Err(error) => {
                tracing::warn!(%error, "a watch of the node agent starts anew");
                sleep(PAUSE).await;
            }
        }
    }
}
