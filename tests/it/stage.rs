//! What trials of whole migrations start from and end with: a set that runs in A, a neighbour that
//! nobody may touch, and an operator.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bed::judge::{Case, Expected};
use bed::workload::{Snapshot, USUAL_CLASS, Workload, namespace, remove_namespace, snapshot};
use bed::{Bed, Cluster, Tool, users};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Api, Client};

use crate::support::{Ended, Operator};

/// Name of the set, unless its name is what a trial is about.
pub(crate) const SET: &str = "web";

/// How long anything of the clusters' may take on a loaded machine.
pub(crate) const PATIENT: Duration = Duration::from_secs(90);

/// A set that runs in A, with everything that a trial needs to move it.
pub(crate) struct Stage {
    pub(crate) bed: &'static Bed,
    /// Namespace in A.
    pub(crate) source: String,
    /// Namespace in B.
    pub(crate) destination: String,
    pub(crate) workload: Workload,
    pub(crate) tool: Tool,
    pub(crate) operator: Operator,
    /// A, as its administrator.
    pub(crate) a: Client,
    /// B, as its administrator.
    pub(crate) b: Client,
    neighbour: Snapshot,
}

impl Stage {
    /// Puts up the set `web` in a namespace of its own, dressed as a trial wants it.
    pub(crate) async fn new(bed: &'static Bed, name: &str, dress: impl FnOnce(Workload) -> Workload) -> Result<Stage> {
        Self::of(bed, dress(Workload::new(&format!("move-{name}"), SET).grace_seconds(5))).await
    }

    /// Puts up a set of any name.
    pub(crate) async fn of(bed: &'static Bed, workload: Workload) -> Result<Stage> {
        let source = workload.namespace().to_owned();
        let a = bed.client(Cluster::A, users::ADMIN).await?;
        let b = bed.client(Cluster::B, users::ADMIN).await?;
        let neighbour = Workload::new(&source, "web-api").claim("data", "1Gi", USUAL_CLASS);
        workload.apply(&a).await.context("put up the set")?;
        neighbour.apply(&a).await.context("put up its neighbour")?;
        workload.wait_ready(&a).await?;
        neighbour.wait_ready(&a).await?;
        let destination = format!("{source}-new");
        namespace(&b, &destination).await?;
        let tool = bed.take_tool();
        let operator = Operator::new(bed, &tool)?;
        let neighbour = snapshot(&a, &source).await?.only(|name| name.contains("web-api"));
        Ok(Stage { bed, source, destination, workload, tool, operator, a, b, neighbour })
    }

    /// Returns the case for the judge, with what is there now as what was there before.
    pub(crate) async fn case(&self) -> Result<Case> {
        Case::for_workload(self.bed, &self.tool, &self.workload, &self.destination).await
    }

    /// Returns the arguments of a command about the set.
    pub(crate) fn arguments<'a>(&'a self, command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec![command, self.workload.name(), "--src", "a", "--dst", "b", "-n", &self.source];
        arguments.extend(["--dst-namespace", &self.destination]);
        arguments.extend(more);
        arguments
    }

    /// Runs a command about the set to its end.
    pub(crate) async fn run(&self, command: &str, more: &[&str]) -> Result<Ended> {
        self.operator.run(self.arguments(command, more)).await
    }

    /// Moves the set with these flags, then back; on each side all its pods are Ready, and the judge is content.
    pub(crate) async fn there_and_back(&self, case: Case, flags: &[&str]) -> Result<()> {
        let pods = usize::try_from(case.replicas)?;
        let ended = self.run("run", &[flags, &["--yes"]].concat()).await?.expect_code(0);
        ensure!(self.ready_pods(Cluster::B).await? == pods, "{}", ended.stderr);
        case.clone().expecting(Expected::Moved).assert_clean(self.bed).await?;
        self.back(case).await
    }

    /// Rolls back; all pods are Ready in A again, B has no set, and the judge is content.
    pub(crate) async fn back(&self, case: Case) -> Result<()> {
        let pods = usize::try_from(case.replicas)?;
        let ended = self.run("rollback", &["--yes"]).await?.expect_code(0);
        ensure!(self.ready_pods(Cluster::A).await? == pods, "{}", ended.stderr);
        ensure!(!ended.stderr.contains('→'), "nobody changed anything in B: {}", ended.stderr);
        ensure!(self.set(Cluster::B).await?.is_none(), "a set is left in B");
        case.expecting(Expected::RolledBack).assert_clean(self.bed).await
    }

    pub(crate) fn client(&self, cluster: Cluster) -> &Client {
        if cluster == Cluster::A { &self.a } else { &self.b }
    }

    pub(crate) fn namespace(&self, cluster: Cluster) -> &str {
        if cluster == Cluster::A { &self.source } else { &self.destination }
    }

    pub(crate) async fn set(&self, cluster: Cluster) -> Result<Option<StatefulSet>> {
        let sets: Api<StatefulSet> = Api::namespaced(self.client(cluster).clone(), self.namespace(cluster));
        Ok(sets.get_opt(self.workload.name()).await?)
    }

    /// Returns how many of the set's pods are Ready on a side.
    pub(crate) async fn ready_pods(&self, cluster: Cluster) -> Result<usize> {
        let pods: Api<Pod> = Api::namespaced(self.client(cluster).clone(), self.namespace(cluster));
        let mut ready = 0;
        for name in self.workload.pods() {
            let pod = pods.get_opt(&name).await?.and_then(|pod| pod.status).and_then(|status| status.conditions);
            let is_ready = |conditions: Vec<_>| {
                conditions
                    .iter()
                    .any(|it: &k8s_openapi::api::core::v1::PodCondition| it.type_ == "Ready" && it.status == "True")
            };
            ready += usize::from(pod.is_some_and(is_ready));
        }
        Ok(ready)
    }

    pub(crate) fn claims(&self, cluster: Cluster) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client(cluster).clone(), self.namespace(cluster))
    }

    /// Returns the PV of a claim on a side.
    pub(crate) async fn volume(&self, cluster: Cluster, claim: &str) -> Result<PersistentVolume> {
        let claim = self.claims(cluster).get(claim).await?;
        let name = claim.spec.and_then(|spec| spec.volume_name).unwrap_or_default();
        let volumes: Api<PersistentVolume> = Api::all(self.client(cluster).clone());
        Ok(volumes.get(&name).await?)
    }

    /// Returns the PVs of the set's claims on a side, lowest ordinal first.
    pub(crate) async fn volumes(&self, cluster: Cluster) -> Result<Vec<PersistentVolume>> {
        let mut found = Vec::new();
        for claim in self.workload.claims() {
            found.push(self.volume(cluster, &claim).await?);
        }
        Ok(found)
    }

    /// Returns the reclaim policies of the set's PVs on a side, lowest ordinal first.
    pub(crate) async fn policies(&self, cluster: Cluster) -> Result<Vec<String>> {
        let volumes = self.volumes(cluster).await?;
        Ok(volumes.into_iter().filter_map(|volume| volume.spec?.persistent_volume_reclaim_policy).collect())
    }

    /// What must be true after every trial: the judge is content, the neighbour is as it was.
    pub(crate) async fn end(self, case: Case) -> Result<()> {
        case.assert_clean(self.bed).await?;
        self.leave().await
    }

    /// Checks the neighbour and makes room.
    pub(crate) async fn leave(self) -> Result<()> {
        let now = snapshot(&self.a, &self.source).await?.only(|name| name.contains("web-api"));
        let differences = self.neighbour.differences(&now);
        ensure!(differences.is_empty(), "the neighbour changed: {differences:?}");
        remove_namespace(&self.a, &self.source).await?;
        remove_namespace(&self.b, &self.destination).await
    }
}
