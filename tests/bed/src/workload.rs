//! Workloads for tests and the sandbox: a StatefulSet with its claims, classes and Services.
//!
//! [`Workload`] says what is wanted and puts it into a cluster as an operator would; [`Snapshot`] says
//! what is there, to show later what was touched; [`until`], [`exists`] and [`absent`] wait for a
//! condition with a deadline. Nothing in here knows the program under test.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::node::{READY_WHEN, ReadyWhen};

mod class;
mod cluster;
mod in_tree;
mod kinds;
mod lone;
mod remove;
mod snapshot;
mod wait;

pub use class::Class;
pub use cluster::{apply, namespace, volume_of};
pub use in_tree::{IN_TREE_CLASS, in_tree_claim, in_tree_class};
pub use lone::{bound_claim, lone_claim};
pub use remove::remove_namespace;
pub use snapshot::{Snapshot, snapshot};
pub use wait::{absent, exists, until};

use cluster::describe;

/// Class of claims whose test does not care.
pub const USUAL_CLASS: &str = "gp3";
/// How long a set may take to become Ready: far beyond what a loaded machine needs.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// A change that a test makes to the finished StatefulSet.
type Edit = std::sync::Arc<dyn Fn(&mut Value) + Send + Sync>;

/// A StatefulSet that is to be, with what belongs to it.
#[derive(Clone)]
pub struct Workload {
    namespace: String,
    name: String,
    replicas: i32,
    start: Option<i32>,
    claims: Vec<ClaimTemplate>,
    classes: BTreeMap<String, Class>,
    parallel: bool,
    min_ready_seconds: Option<i32>,
    retention: Option<(String, String)>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    pod_labels: BTreeMap<String, String>,
    ready_when: Option<ReadyWhen>,
    grace_seconds: Option<i64>,
    volumes: Vec<(Value, Value)>,
    node_selector: BTreeMap<String, String>,
    tolerations: Vec<Value>,
    update_strategy: Option<Value>,
    governing_service: bool,
    extra: Vec<Value>,
    edits: Vec<Edit>,
}

#[derive(Clone)]
struct ClaimTemplate {
    name: String,
    size: String,
    class: String,
    block: bool,
}

impl Workload {
    /// Returns a set with one replica, no claims and a headless Service of its own name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            replicas: 1,
            start: None,
            claims: Vec::new(),
            classes: BTreeMap::new(),
            parallel: false,
            min_ready_seconds: None,
            retention: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            pod_labels: BTreeMap::new(),
            ready_when: None,
            grace_seconds: None,
            volumes: Vec::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            update_strategy: None,
            governing_service: true,
            extra: Vec::new(),
            edits: Vec::new(),
        }
    }

    /// Sets the number of replicas.
    #[must_use]
    pub fn replicas(mut self, replicas: i32) -> Self {
        self.replicas = replicas;
        self
    }

    /// Sets the first ordinal.
    #[must_use]
    pub fn start_ordinal(mut self, start: i32) -> Self {
        self.start = Some(start);
        self
    }

    /// Adds a claim template that is mounted as a file system.
    #[must_use]
    pub fn claim(self, name: &str, size: &str, class: &str) -> Self {
        self.claim_template(name, size, class, false)
    }

    /// Adds a claim template that is used as a raw device.
    #[must_use]
    pub fn block_claim(self, name: &str, size: &str, class: &str) -> Self {
        self.claim_template(name, size, class, true)
    }

    fn claim_template(mut self, name: &str, size: &str, class: &str, block: bool) -> Self {
        self.claims.push(ClaimTemplate {
            name: name.to_owned(),
            size: size.to_owned(),
            class: class.to_owned(),
            block,
        });
        self
    }

    /// Brings a class along. Those that are only named must be there, as `gp3` and `gp3-retain` are.
    #[must_use]
    pub fn class(mut self, class: Class) -> Self {
        self.classes.insert(class.name().to_owned(), class);
        self
    }

    /// Sets `podManagementPolicy: Parallel`.
    #[must_use]
    pub fn parallel(mut self) -> Self {
        self.parallel = true;
        self
    }

    /// Sets `minReadySeconds`.
    #[must_use]
    pub fn min_ready_seconds(mut self, seconds: i32) -> Self {
        self.min_ready_seconds = Some(seconds);
        self
    }

    /// Sets `persistentVolumeClaimRetentionPolicy`.
    #[must_use]
    pub fn retention(mut self, when_deleted: &str, when_scaled: &str) -> Self {
        self.retention = Some((when_deleted.to_owned(), when_scaled.to_owned()));
        self
    }

    /// Adds a label to the set and to its claim templates.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds an annotation to the set and to its claim templates.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a label to the pod template, and to no selector.
    #[must_use]
    pub fn pod_label(mut self, key: &str, value: &str) -> Self {
        self.pod_labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets what the pods need of their surroundings to be Ready.
    #[must_use]
    pub fn ready_when(mut self, rules: ReadyWhen) -> Self {
        self.ready_when = Some(rules);
        self
    }

    /// Sets the pods' grace period.
    #[must_use]
    pub fn grace_seconds(mut self, seconds: i64) -> Self {
        self.grace_seconds = Some(seconds);
        self
    }

    /// Adds a volume to the pod template (`{"configMap": …}`), mounted below `/mnt`.
    #[must_use]
    pub fn volume(mut self, name: &str, source: Value) -> Self {
        let mut volume = source;
        volume["name"] = json!(name);
        self.volumes.push((volume, json!({"name": name, "mountPath": format!("/mnt/{name}")})));
        self
    }

    /// Adds a node label that the pods need.
    #[must_use]
    pub fn node_selector(mut self, key: &str, value: &str) -> Self {
        self.node_selector.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Lets the pods run on nodes that have the taint `key`, whatever its value.
    #[must_use]
    pub fn toleration(mut self, key: &str) -> Self {
        self.tolerations.push(json!({"key": key, "operator": "Exists"}));
        self
    }

    /// Sets the update strategy.
    #[must_use]
    pub fn update_strategy(mut self, strategy: Value) -> Self {
        self.update_strategy = Some(strategy);
        self
    }

    /// Leaves out the headless Service; the set names it all the same.
    #[must_use]
    pub fn without_governing_service(mut self) -> Self {
        self.governing_service = false;
        self
    }

    /// Adds a Service over the set's pods. `spec` is merged over a selector and port 80.
    #[must_use]
    pub fn service(mut self, name: &str, spec: Value) -> Self {
        let mut whole = json!({"selector": self.selector(), "ports": [{"name": "web", "port": 80}]});
        for (key, value) in spec.as_object().into_iter().flatten() {
            whole[key] = value.clone();
        }
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": whole,
        });
        self.extra.push(service);
        self
    }

    /// Adds any other object; without a namespace of its own it gets the set's.
    #[must_use]
    pub fn object(mut self, mut object: Value) -> Self {
        if object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = json!(self.namespace);
        }
        self.extra.push(object);
        self
    }

    /// Changes the finished StatefulSet in a way that has no method here.
    #[must_use]
    pub fn edit(mut self, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.edits.push(std::sync::Arc::new(edit));
        self
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the name of the set.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the names of the pods, lowest ordinal first.
    pub fn pods(&self) -> Vec<String> {
        self.ordinals().map(|ordinal| format!("{}-{ordinal}", self.name)).collect()
    }

    /// Returns the names of the claims made from the templates, lowest ordinal first.
    pub fn claims(&self) -> Vec<String> {
        let claims = |ordinal| self.claims.iter().map(move |claim| format!("{}-{}-{ordinal}", claim.name, self.name));
        self.ordinals().flat_map(claims).collect()
    }

    fn ordinals(&self) -> std::ops::Range<i32> {
        let start = self.start.unwrap_or(0);
        start..start + self.replicas
    }

    fn selector(&self) -> Value {
        json!({"app": self.name})
    }

    /// Returns all objects, in the order in which they are created: classes, Services, others, the set.
    pub fn manifest(&self) -> Vec<Value> {
        let mut objects: Vec<Value> = self.classes.values().map(Class::manifest).collect();
        if self.governing_service {
            objects.push(json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": self.name, "namespace": self.namespace, "labels": self.selector()},
                "spec": {"clusterIP": "None", "selector": self.selector(), "ports": [{"name": "web", "port": 80}]},
            }));
        }
        objects.extend(self.extra.clone());
        objects.push(self.set());
        objects
    }

    fn set(&self) -> Value {
        let mut pod_labels = self.selector();
        for (key, value) in &self.pod_labels {
            pod_labels[key] = json!(value);
        }
        let mut labels = self.selector();
        for (key, value) in &self.labels {
            labels[key] = json!(value);
        }
        let mut set = json!({
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": labels,
                "annotations": self.annotations,
            },
            "spec": {
                "replicas": self.replicas,
                "serviceName": self.name,
                "podManagementPolicy": if self.parallel { "Parallel" } else { "OrderedReady" },
                "selector": {"matchLabels": self.selector()},
                "template": {"metadata": {"labels": pod_labels}, "spec": self.pod_spec()},
                "volumeClaimTemplates": self.claims.iter().map(|claim| self.claim_manifest(claim)).collect::<Vec<_>>(),
            },
        });
        let spec = &mut set["spec"];
        if let Some(rules) = &self.ready_when {
            spec["template"]["metadata"]["annotations"] = json!({READY_WHEN: json!(rules).to_string()});
        }
        if let Some(start) = self.start {
            spec["ordinals"] = json!({"start": start});
        }
        if let Some(seconds) = self.min_ready_seconds {
            spec["minReadySeconds"] = json!(seconds);
        }
        if let Some((when_deleted, when_scaled)) = &self.retention {
            spec["persistentVolumeClaimRetentionPolicy"] =
                json!({"whenDeleted": when_deleted, "whenScaled": when_scaled});
        }
        if let Some(strategy) = &self.update_strategy {
            spec["updateStrategy"] = strategy.clone();
        }
        for edit in &self.edits {
            edit(&mut set);
        }
        set
    }

    fn pod_spec(&self) -> Value {
        let of_mode = |block| self.claims.iter().filter(move |claim| claim.block == block);
        let mut mounts: Vec<Value> =
            of_mode(false).map(|claim| json!({"name": claim.name, "mountPath": format!("/{}", claim.name)})).collect();
        mounts.extend(self.volumes.iter().map(|(_, mount)| mount.clone()));
        let devices: Vec<Value> = of_mode(true)
            .map(|claim| json!({"name": claim.name, "devicePath": format!("/dev/{}", claim.name)}))
            .collect();
        let mut spec = json!({
            "containers": [{
                "name": "web",
                "image": "registry.example/web:1",
                "ports": [{"name": "web", "containerPort": 80}],
                "volumeMounts": mounts,
                "volumeDevices": devices,
            }],
            "volumes": self.volumes.iter().map(|(volume, _)| volume).collect::<Vec<_>>(),
            "nodeSelector": self.node_selector,
            "tolerations": self.tolerations,
        });
        if let Some(seconds) = self.grace_seconds {
            spec["terminationGracePeriodSeconds"] = json!(seconds);
        }
        spec
    }

    fn claim_manifest(&self, claim: &ClaimTemplate) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim.name, "labels": self.labels, "annotations": self.annotations},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": claim.class,
                "volumeMode": if claim.block { "Block" } else { "Filesystem" },
                "resources": {"requests": {"storage": claim.size}},
            },
        })
    }

    /// Puts everything into a cluster, the namespace too if it is missing. Applied again, it changes
    /// what differs.
    pub async fn apply(&self, client: &Client) -> Result<()> {
        namespace(client, &self.namespace).await?;
        for object in self.manifest() {
            apply(client, object).await?;
        }
        Ok(())
    }

    /// Waits until all replicas are Ready and available.
    pub async fn wait_ready(&self, client: &Client) -> Result<()> {
        let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &self.namespace);
        let waited = until(sets, &self.name, READY_WITHIN, "ready", |set| set.is_some_and(all_available)).await;
        if let Err(error) = waited {
            return Err(error.context(self.describe_pods(client).await));
        }
        Ok(())
    }

    async fn describe_pods(&self, client: &Client) -> String {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let listed = pods.list(&ListParams::default().labels(&format!("app={}", self.name))).await;
        match listed {
            Ok(pods) => pods.items.iter().map(describe).collect::<Vec<_>>().join("; "),
            Err(error) => format!("the pods of {} cannot be listed: {error}", self.name),
        }
    }

    /// Returns the claims with the EBS volume of each, lowest ordinal first.
    pub async fn volumes(&self, client: &Client) -> Result<Vec<(String, String)>> {
        let mut volumes = Vec::new();
        for claim in self.claims() {
            let volume = volume_of(client, &self.namespace, &claim).await?;
            volumes.push((claim, volume));
        }
        Ok(volumes)
    }
}

fn all_available(set: &StatefulSet) -> bool {
    let wanted = set.spec.replicas.unwrap_or(1);
    set.status.as_ref().is_some_and(|status| {
        status.observed_generation >= set.metadata.generation
            && status.replicas == wanted
            && status.ready_replicas.unwrap_or(0) == wanted
            && status.available_replicas.unwrap_or(0) == wanted
    })
}

#[cfg(test)]
mod tests;
