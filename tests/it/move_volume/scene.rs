//! A claim in A, the pods that use it on either side, and an operator who moves it.

use std::time::Duration;

use anyhow::{Result, ensure};
use bed::facts::HistoryKind;
use bed::judge::{Case, Expected};
use bed::workload::{USUAL_CLASS, absent, apply, namespace, remove_namespace, until, volume_of};
use bed::{Bed, Cluster, Tool, ec2, users};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::migration::writes_of;
use crate::support::{Ended, Operator, eventually};

/// Name of the claim that moves.
pub(crate) const CLAIM: &str = "uploads";

/// How long anything of the clusters' may take on a loaded machine.
pub(crate) const PATIENT: Duration = Duration::from_secs(90);

/// A claim in A, and an operator who moves it.
pub(crate) struct Scene {
    pub(crate) bed: &'static Bed,
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) tool: Tool,
    pub(crate) operator: Operator,
    pub(crate) a: Client,
    pub(crate) b: Client,
}

impl Scene {
    /// Two namespaces without anything in them.
    pub(crate) async fn empty(bed: &'static Bed, name: &str) -> Result<Scene> {
        let (source, destination) = (format!("claim-{name}"), format!("claim-{name}-new"));
        let a = bed.client(Cluster::A, users::ADMIN).await?;
        let b = bed.client(Cluster::B, users::ADMIN).await?;
        namespace(&a, &source).await?;
        namespace(&b, &destination).await?;
        let tool = bed.take_tool();
        let operator = Operator::new(bed, &tool)?;
        Ok(Scene { bed, source, destination, tool, operator, a, b })
    }

    /// A claim on whose volume a pod has written, and which nothing uses any more.
    pub(crate) async fn new(bed: &'static Bed, name: &str) -> Result<Scene> {
        let scene = Scene::empty(bed, name).await?;
        scene.claim(json!({})).await?;
        scene.start(Cluster::A, "writer").await?;
        scene.stop(Cluster::A, "writer").await?;
        Ok(scene)
    }

    /// Makes the claim in A; `spec` is merged over that of a usual one.
    pub(crate) async fn claim(&self, spec: Value) -> Result<()> {
        let mut whole = json!({
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": USUAL_CLASS,
            "resources": { "requests": { "storage": "1Gi" } },
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            whole[key] = value.clone();
        }
        let claim = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": { "name": CLAIM, "namespace": self.source, "labels": { "team": "media" } },
            "spec": whole,
        });
        apply(&self.a, claim).await.map(|_| ())
    }

    pub(crate) fn client(&self, cluster: Cluster) -> &Client {
        if cluster == Cluster::A { &self.a } else { &self.b }
    }

    pub(crate) fn namespace(&self, cluster: Cluster) -> &str {
        if cluster == Cluster::A { &self.source } else { &self.destination }
    }

    pub(crate) fn pods(&self, cluster: Cluster) -> Api<Pod> {
        Api::namespaced(self.client(cluster).clone(), self.namespace(cluster))
    }

    pub(crate) fn claims(&self, cluster: Cluster) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client(cluster).clone(), self.namespace(cluster))
    }

    /// Starts a pod on the claim and waits until it runs.
    pub(crate) async fn start(&self, cluster: Cluster, pod: &str) -> Result<()> {
        let claim = self.claims(cluster).get(CLAIM).await?;
        let is_block = claim.spec.and_then(|spec| spec.volume_mode).as_deref() == Some("Block");
        let (use_as, path) = if is_block { ("volumeDevices", "devicePath") } else { ("volumeMounts", "mountPath") };
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": pod, "namespace": self.namespace(cluster) },
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main",
                    "image": "registry.example/shell:1",
                    use_as: [{ "name": "data", path: "/data" }],
                }],
                "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": CLAIM } }],
            },
        });
        apply(self.client(cluster), manifest).await?;
        let is_ready = |pod: Option<&Pod>| {
            let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
            conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
        };
        until(self.pods(cluster), pod, PATIENT, "Ready", is_ready).await.map(|_| ())
    }

    /// Ends a pod and waits until its volume is free, for EC2 and for the cluster.
    pub(crate) async fn stop(&self, cluster: Cluster, pod: &str) -> Result<()> {
        let volume = volume_of(self.client(cluster), self.namespace(cluster), CLAIM).await?;
        self.pods(cluster).delete(pod, &DeleteParams::default()).await?;
        absent(self.pods(cluster), pod, PATIENT).await?;
        ec2::Control::new(self.bed.ec2_url()).await_available(&volume, PATIENT).await?;
        self.detached(cluster, CLAIM).await
    }

    /// Waits until no VolumeAttachment names the PV of a claim.
    pub(crate) async fn detached(&self, cluster: Cluster, claim: &str) -> Result<()> {
        let volume = self.claims(cluster).get(claim).await?.spec.and_then(|spec| spec.volume_name);
        let attachments: Api<VolumeAttachment> = Api::all(self.client(cluster).clone());
        eventually("the VolumeAttachment to be gone", PATIENT, async || {
            let all = attachments.list(&ListParams::default()).await?;
            let is_its = |it: &&VolumeAttachment| it.spec.source.persistent_volume_name == volume;
            Ok(all.items.iter().find(is_its).is_none().then_some(()))
        })
        .await
    }

    pub(crate) async fn case(&self) -> Result<Case> {
        Case::for_claim(self.bed, &self.tool, &self.source, CLAIM, &self.destination).await
    }

    pub(crate) fn arguments<'a>(&'a self, command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec![command, "--src", "a", "--dst", "b", "-n", &self.source];
        arguments.extend(["--dst-namespace", &self.destination]);
        arguments.extend(more);
        match command {
            "move-volume" => arguments.push(CLAIM),
            _ => arguments.extend(["--claim", CLAIM]),
        }
        arguments
    }

    pub(crate) async fn run(&self, command: &str, more: &[&str]) -> Result<Ended> {
        self.operator.run(self.arguments(command, more)).await
    }

    /// Returns the status, as a machine reads it.
    pub(crate) async fn whole_status(&self) -> Result<Value> {
        let ended = self.run("status", &["-o", "json"]).await?.expect_code(0);
        let document: Value = serde_json::from_str(&ended.stdout)?;
        ensure!(document["kind"].is_null() && document["spec"]["claimName"] == CLAIM, "{document:#}");
        Ok(document["status"].clone())
    }

    /// Returns phase and pair of the status.
    pub(crate) async fn status(&self) -> Result<(String, Value)> {
        let status = self.whole_status().await?;
        let phase = status["phase"].as_str().unwrap_or_default().to_owned();
        Ok((phase, status["pairs"].get(0).cloned().unwrap_or_default()))
    }

    /// Returns the PV of the claim on a side.
    pub(crate) async fn volume(&self, cluster: Cluster) -> Result<PersistentVolume> {
        let name = self.claims(cluster).get(CLAIM).await?.spec.and_then(|spec| spec.volume_name).unwrap_or_default();
        Ok(Api::<PersistentVolume>::all(self.client(cluster).clone()).get(&name).await?)
    }

    pub(crate) async fn policy(&self, cluster: Cluster) -> Result<String> {
        let spec = self.volume(cluster).await?.spec.unwrap_or_default();
        Ok(spec.persistent_volume_reclaim_policy.unwrap_or_default())
    }

    /// Returns the PVs of a cluster that are those of this scene's claim.
    pub(crate) async fn volumes(&self, cluster: Cluster) -> Result<usize> {
        let all = Api::<PersistentVolume>::all(self.client(cluster).clone()).list(&ListParams::default()).await?;
        let is_ours = |volume: &&PersistentVolume| {
            let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
            claim.and_then(|claim| claim.namespace.as_deref()) == Some(self.namespace(cluster))
        };
        Ok(all.items.iter().filter(is_ours).count())
    }

    /// Returns which pods have started on a volume, first to last.
    pub(crate) async fn starts(&self, volume: &str) -> Result<Vec<String>> {
        let history = ec2::Control::new(self.bed.ec2_url()).history(volume).await?;
        let starts = history.into_iter().filter(|entry| entry.kind == HistoryKind::Start);
        Ok(starts.map(|entry| format!("{} in {}", entry.pod, entry.cluster.name())).collect())
    }

    /// Runs a command that must refuse with this code and change nothing.
    pub(crate) async fn refuses(&self, code: i32, arguments: &[&str]) -> Result<String> {
        let before = writes_of(self.bed, &self.tool.user)?;
        let ended = self.operator.run(arguments).await?.expect_code(code);
        let after = writes_of(self.bed, &self.tool.user)?;
        ensure!(before == after, "{arguments:?} changed something: {after:?}");
        Ok(format!("{}{}", ended.stdout, ended.stderr))
    }

    /// Rolls back by any machine; the claim is A's alone again, as it was, and the judge is content.
    pub(crate) async fn back(&self, operator: &Operator, case: Case) -> Result<()> {
        operator.run(self.arguments("rollback", &["--yes"])).await?.expect_code(0);
        ensure!(self.volumes(Cluster::B).await? == 0 && self.claims(Cluster::B).get_opt(CLAIM).await?.is_none());
        ensure!(self.status().await?.0 == "RolledBack");
        case.expecting(Expected::RolledBack).assert_clean(self.bed).await
    }

    pub(crate) async fn end(self, case: Case) -> Result<()> {
        case.assert_clean(self.bed).await?;
        self.clear().await
    }

    pub(crate) async fn clear(self) -> Result<()> {
        remove_namespace(&self.a, &self.source).await?;
        remove_namespace(&self.b, &self.destination).await
    }
}
