//! A cluster of the bed, its nodes, and the pods of one set in it.

use std::time::Duration;

use anyhow::{Context, Result};
use bed::ec2;
use bed::node::{self, NewNode, NodeFacts, PodKnobs};
use bed::workload::{Workload, until};
use bed::{Bed, Cluster, users};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

/// How long anything may take that is wanted; far more than it takes on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// One cluster of the bed, as trials of nodes and readiness use it.
pub(crate) struct Place {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) nodes: node::Control,
    pub(crate) ec2: ec2::Control,
}

impl Place {
    pub(crate) async fn new(bed: &Bed, cluster: Cluster) -> Result<Self> {
        Ok(Place {
            cluster,
            client: bed.client(cluster, users::ADMIN).await?,
            nodes: node::Control::new(bed.ec2_url()),
            ec2: ec2::Control::new(bed.ec2_url()),
        })
    }

    /// Puts a set into the cluster and waits until it is Ready.
    pub(crate) async fn put(&self, workload: &Workload) -> Result<()> {
        workload.apply(&self.client).await?;
        workload.wait_ready(&self.client).await
    }

    /// Adds a node on which only pods of `workload` run, and returns both.
    pub(crate) async fn own_node(&self, workload: Workload) -> Result<(NodeFacts, Workload)> {
        let owner = workload.namespace().to_owned();
        let mut new = NewNode::new(self.cluster, "eu-west-1a");
        new.labels.insert("trial".into(), owner.clone());
        new.taints.push(serde_json::from_value(json!({"key": "trial", "value": owner, "effect": "NoSchedule"}))?);
        let node = self.nodes.add_node(&new).await?;
        Ok((node, workload.node_selector("trial", &owner).toleration("trial")))
    }

    pub(crate) fn pods(&self, workload: &Workload) -> Api<Pod> {
        Api::namespaced(self.client.clone(), workload.namespace())
    }

    pub(crate) async fn pod(&self, workload: &Workload) -> Result<Pod> {
        let name = &workload.pods()[0];
        self.pods(workload).get(name).await.with_context(|| format!("get pod {name}"))
    }

    /// Deletes the first pod of a set and returns when that was asked.
    pub(crate) async fn delete_pod(&self, workload: &Workload, parameters: &DeleteParams) -> Result<Timestamp> {
        let asked = Timestamp::now();
        self.pods(workload).delete(&workload.pods()[0], parameters).await?;
        Ok(asked)
    }

    pub(crate) async fn scale(&self, workload: &Workload, replicas: i32) -> Result<()> {
        let sets: Api<StatefulSet> = Api::namespaced(self.client.clone(), workload.namespace());
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        sets.patch(workload.name(), &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Returns the volume of the first claim of a set.
    pub(crate) async fn volume(&self, workload: &Workload) -> Result<String> {
        let volumes = workload.volumes(&self.client).await?;
        Ok(volumes.into_iter().next().context("a set with a claim")?.1)
    }

    pub(crate) async fn knobs(&self, workload: &Workload, knobs: PodKnobs) -> Result<()> {
        self.nodes.pod_knobs(Some(self.cluster), workload.namespace(), &workload.pods()[0], knobs).await
    }

    /// Waits until the first pod of a set is Ready with this many restarts.
    pub(crate) async fn ready_after(&self, workload: &Workload, restarts: i32) -> Result<Pod> {
        let what = format!("ready after {restarts} restarts");
        let holds = |pod: Option<&Pod>| pod.is_some_and(|pod| is_ready(pod) && restarts_of(pod) >= restarts);
        until(self.pods(workload), &workload.pods()[0], SOON, &what, holds).await?.context("a pod that is ready")
    }

    /// Whether the process of a pod runs on any node.
    pub(crate) async fn runs(&self, pod: &Pod) -> Result<bool> {
        Ok(self.nodes.processes().await?.iter().any(|process| Some(&process.pod_uid) == pod.metadata.uid.as_ref()))
    }
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(crate) fn restarts_of(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|container| container.restart_count).sum()
}
