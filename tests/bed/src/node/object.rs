//! The objects that stand for a node: Node, CSINode and Lease.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::api::storage::v1::CSINode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::volumes::DRIVER;
use crate::Cluster;

/// Region of every node.
const REGION: &str = "eu-west-1";
/// How long a Lease is good for, in seconds, as kubelets have it.
const LEASE_SECONDS: i32 = 40;
/// Volumes that a node can hold: what the largest instances allow, so that no test meets the limit by chance.
const ATTACH_LIMIT: i32 = 127;
/// Pods that a node can hold: enough for a thousand on the default nodes.
const POD_LIMIT: &str = "500";

/// A node that is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewNode {
    /// Cluster that it joins.
    pub cluster: Cluster,
    /// Availability zone, such as `eu-west-1a`.
    pub zone: String,
    /// Name; the next free `node-{cluster}-1{a|b}-{n}` without one.
    #[serde(default)]
    pub name: Option<String>,
    /// Labels besides the well-known ones, or instead of them where the key is the same.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// Volumes that it can hold, when not as many as usual.
    #[serde(default)]
    pub attach_limit: Option<i32>,
    /// Topology keys of the CSI driver, when not the usual ones.
    #[serde(default)]
    pub topology_keys: Option<Vec<String>>,
    /// No CSI driver runs there: the CSINode has none.
    #[serde(default)]
    pub without_driver: bool,
    /// CPU architecture, when not `amd64`.
    #[serde(default)]
    pub architecture: Option<String>,
}

impl NewNode {
    /// Returns a node like the usual ones.
    pub fn new(cluster: Cluster, zone: &str) -> Self {
        Self {
            cluster,
            zone: zone.to_owned(),
            name: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            attach_limit: None,
            topology_keys: None,
            without_driver: false,
            architecture: None,
        }
    }

    /// Returns the nodes that a cluster has from the start: two in each of two zones.
    pub fn usual(cluster: Cluster) -> Vec<Self> {
        let zones = ["eu-west-1a", "eu-west-1b"];
        zones.iter().flat_map(|zone| [Self::new(cluster, zone), Self::new(cluster, zone)]).collect()
    }
}

/// A node that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    /// Its cluster.
    pub cluster: Cluster,
    /// Its name.
    pub name: String,
    /// Availability zone.
    pub zone: String,
    /// EC2 instance id.
    pub instance: String,
    /// Address in the network.
    pub address: String,
}

impl NodeFacts {
    /// Gives a node its identity. The instance id follows from cluster and name, the address from `number`.
    pub(super) fn new(cluster: Cluster, name: String, zone: String, number: usize) -> Self {
        let digest = Sha256::digest(format!("{}/{name}", cluster.name()));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let network = match cluster {
            Cluster::A => 16,
            Cluster::B => 17,
        };
        Self {
            cluster,
            name,
            zone,
            instance: format!("i-{}", &hex[..17]),
            address: format!("172.{network}.{}.{}", number / 250, number % 250 + 1),
        }
    }
}

/// Returns the name for a node without one: the first number that is free in its zone.
pub(super) fn next_name(cluster: Cluster, zone: &str, taken: impl Fn(&str) -> bool) -> String {
    let suffix = zone.rsplit('-').next().unwrap_or(zone);
    (1..)
        .map(|number| format!("node-{}-{suffix}-{number}", cluster.name()))
        .find(|name| !taken(name))
        .expect("numbers do not end")
}

/// Returns the Node object, status included.
pub(super) fn node(facts: &NodeFacts, new: &NewNode) -> Node {
    let architecture = new.architecture.as_deref().unwrap_or("amd64");
    let mut labels = BTreeMap::from(
        [
            ("kubernetes.io/hostname", facts.name.as_str()),
            ("kubernetes.io/arch", architecture),
            ("kubernetes.io/os", "linux"),
            ("node.kubernetes.io/instance-type", "m6i.xlarge"),
            ("topology.kubernetes.io/region", REGION),
            ("topology.kubernetes.io/zone", &facts.zone),
            ("topology.ebs.csi.aws.com/zone", &facts.zone),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    labels.extend(new.labels.clone());
    let capacity = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "500Gi", "pods": POD_LIMIT});
    let mut status = ready_status();
    status["capacity"] = capacity.clone();
    status["allocatable"] = capacity;
    status["addresses"] = json!([
        {"type": "InternalIP", "address": facts.address},
        {"type": "Hostname", "address": facts.name},
    ]);
    status["nodeInfo"] = json!({
        "architecture": architecture,
        "bootID": facts.instance,
        "containerRuntimeVersion": "containerd://2.1.0",
        "kernelVersion": "6.12.0",
        "kubeProxyVersion": "",
        "kubeletVersion": "v1.37.2",
        "machineID": facts.instance,
        "operatingSystem": "linux",
        "osImage": "Hollow Linux",
        "systemUUID": facts.instance,
    });
    parsed(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": facts.name,
            "labels": labels,
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {"providerID": format!("aws:///{}/{}", facts.zone, facts.instance), "taints": new.taints},
        "status": status,
    }))
}

/// Returns the conditions of a node that is well, as part of its status.
pub(super) fn ready_status() -> Value {
    let now = Time(Timestamp::now());
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    json!({"conditions": [
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID"),
        condition("Ready", "True", "KubeletReady"),
    ]})
}

/// Returns the CSINode object: what the driver's registration leaves there.
pub(super) fn csi_node(facts: &NodeFacts, new: &NewNode, node_uid: &str) -> CSINode {
    let usual = ["kubernetes.io/os", "topology.ebs.csi.aws.com/zone", "topology.kubernetes.io/zone"];
    let keys = new.topology_keys.clone().unwrap_or_else(|| usual.map(str::to_owned).to_vec());
    let driver = json!({
        "name": DRIVER,
        "nodeID": facts.instance,
        "topologyKeys": keys,
        "allocatable": {"count": new.attach_limit.unwrap_or(ATTACH_LIMIT)},
    });
    let drivers = if new.without_driver { json!([]) } else { json!([driver]) };
    parsed(json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": facts.name, "ownerReferences": [owner(facts, node_uid)]},
        "spec": {"drivers": drivers},
    }))
}

/// Returns the node's Lease, renewed now.
pub(super) fn lease(facts: &NodeFacts, node_uid: &str) -> Lease {
    parsed(json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": facts.name, "namespace": "kube-node-lease", "ownerReferences": [owner(facts, node_uid)]},
        "spec": {"holderIdentity": facts.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": renew_time()},
    }))
}

/// Returns a renewal of the node's Lease, as a merge patch.
pub(super) fn renewal() -> Value {
    json!({"spec": {"renewTime": renew_time()}})
}

fn renew_time() -> MicroTime {
    MicroTime(Timestamp::now())
}

fn owner(facts: &NodeFacts, node_uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "name": facts.name, "uid": node_uid})
}

fn parsed<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("the object is written out above")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(cluster: Cluster) -> NodeFacts {
        NodeFacts::new(cluster, "node-1".into(), "eu-west-1a".into(), 0)
    }

    #[test]
    fn names_count_up_in_each_zone() {
        let taken = |name: &str| name == "node-a-1a-1";
        assert_eq!(next_name(Cluster::A, "eu-west-1a", taken), "node-a-1a-2");
        assert_eq!(next_name(Cluster::B, "eu-west-1b", taken), "node-b-1b-1");
    }

    #[test]
    fn instances_of_equal_names_differ_between_the_clusters() {
        let (a, b) = (facts(Cluster::A), facts(Cluster::B));
        assert_ne!(a.instance, b.instance);
        assert_eq!(a.instance.len(), "i-".len() + 17);
    }

    #[test]
    fn a_node_says_where_it_is_and_who_attaches() {
        let node = node(&facts(Cluster::A), &NewNode::new(Cluster::A, "eu-west-1a"));
        let labels = node.metadata.labels.expect("labels");
        assert_eq!(labels["topology.kubernetes.io/zone"], "eu-west-1a");
        assert_eq!(labels["kubernetes.io/hostname"], "node-1");
        let annotations = node.metadata.annotations.expect("annotations");
        assert_eq!(annotations["volumes.kubernetes.io/controller-managed-attach-detach"], "true");
        let provider = node.spec.and_then(|spec| spec.provider_id).expect("a provider id");
        assert_eq!(provider, format!("aws:///eu-west-1a/{}", facts(Cluster::A).instance));
    }

    #[test]
    fn a_label_of_the_test_wins() {
        let mut new = NewNode::new(Cluster::A, "eu-west-1a");
        new.labels.insert("kubernetes.io/arch".into(), "arm64".into());
        let node = node(&facts(Cluster::A), &new);
        assert_eq!(node.metadata.labels.expect("labels")["kubernetes.io/arch"], "arm64");
    }

    #[test]
    fn a_node_without_the_driver_has_an_empty_csi_node() {
        let new = NewNode { without_driver: true, ..NewNode::new(Cluster::B, "eu-west-1b") };
        assert!(csi_node(&facts(Cluster::B), &new, "uid").spec.drivers.is_empty());
    }
}
