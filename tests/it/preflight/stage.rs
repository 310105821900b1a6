//! A set that preflight is asked about, and the proof that asking changed nothing.

use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use bed::workload::{
    Snapshot, USUAL_CLASS, Workload, apply, bound_claim, exists, namespace, snapshot, until, volume_of,
};
use bed::{Bed, Cluster, Tool, users};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{FINDINGS, PATIENT, SET};
use crate::support::{Ended, Operator};

/// A set that is up in A, and how it is asked for.
pub(super) struct Stage {
    pub(super) bed: &'static Bed,
    pub(super) a: Client,
    pub(super) b: Client,
    pub(super) namespace: String,
    /// The tool's identity: its user may be another one.
    pub(super) tool: Tool,
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) set: String,
    pub(super) flags: Vec<String>,
    /// What `run` exits with, where that is not the exit code of findings.
    pub(super) run_code: i32,
}

/// Returns the identity of all refusals: as none may write, they need not be told apart.
fn shared_tool(bed: &'static Bed) -> Tool {
    static TOOL: OnceLock<Tool> = OnceLock::new();
    TOOL.get_or_init(|| bed.take_tool()).clone()
}

impl Stage {
    pub(super) async fn new(
        bed: &'static Bed,
        name: &str,
        workload: impl FnOnce(Workload) -> Workload,
    ) -> Result<Stage> {
        let namespace_name = format!("pf-{}", name.replace('_', "-"));
        let namespace_name = namespace_name.get(..50).unwrap_or(&namespace_name).trim_end_matches('-').to_owned();
        let a = bed.client(Cluster::A, users::ADMIN).await?;
        let b = bed.client(Cluster::B, users::ADMIN).await?;
        let workload = workload(Workload::new(&namespace_name, SET).claim("data", "1Gi", USUAL_CLASS));
        workload.apply(&a).await?;
        namespace(&b, &namespace_name).await?;
        for client in [&a, &b] {
            // The last thing that a new namespace gets.
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace_name);
            exists(maps, "kube-root-ca.crt", PATIENT).await?;
        }
        workload.wait_ready(&a).await?;
        Ok(Stage {
            bed,
            a,
            b,
            namespace: namespace_name,
            tool: shared_tool(bed),
            source: "a".to_owned(),
            destination: "b".to_owned(),
            set: SET.to_owned(),
            flags: Vec::new(),
            run_code: FINDINGS,
        })
    }

    pub(super) fn flag(&mut self, flag: &str, value: &str) {
        self.flags.extend([flag.to_owned(), value.to_owned()]);
    }

    pub(super) fn client(&self, cluster: Cluster) -> &Client {
        match cluster {
            Cluster::A => &self.a,
            Cluster::B => &self.b,
        }
    }

    /// Puts an object of any kind into a cluster; into this namespace, unless it says otherwise.
    pub(super) async fn put(&self, cluster: Cluster, mut object: Value) -> Result<()> {
        let is_everywhere = matches!(object["kind"].as_str(), Some("PersistentVolume" | "StorageClass"));
        if !is_everywhere {
            object["metadata"]["namespace"] = json!(self.namespace);
        }
        apply(self.client(cluster), object).await.map(|_| ())
    }

    pub(super) fn sets(&self) -> Api<StatefulSet> {
        Api::namespaced(self.a.clone(), &self.namespace)
    }

    pub(super) async fn patch_set(&self, patch: Value) -> Result<StatefulSet> {
        let patch = Patch::Merge(patch);
        self.sets().patch(SET, &PatchParams::default(), &patch).await.context("patch the set")
    }

    /// Gives the set a second ordinal, whose claim is bound to a PersistentVolume from this source.
    pub(super) async fn add_ordinal(&mut self, source: Value) -> Result<()> {
        bound_claim(&self.a, &self.namespace, "data-web-1", &source).await?;
        self.flag("--order", "one-by-one");
        self.patch_set(json!({ "spec": { "replicas": 2 } })).await?;
        // What its node says last of a pod whose volume it does not get.
        let is_reported = |pod: Option<&Pod>| {
            pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref()).is_some_and(|all| !all.is_empty())
        };
        let pods: Api<Pod> = Api::namespaced(self.a.clone(), &self.namespace);
        until(pods, "web-1", PATIENT, "known to its node", is_reported).await.map(|_| ())
    }

    pub(super) fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.a.clone(), &self.namespace)
    }

    pub(super) async fn volume(&self) -> Result<String> {
        volume_of(&self.a, &self.namespace, "data-web-0").await
    }

    pub(super) fn arguments(&self, command: &str) -> Vec<String> {
        let mut arguments: Vec<String> =
            [command, "--src", &self.source, "--dst", &self.destination, "-n", &self.namespace]
                .map(str::to_owned)
                .to_vec();
        arguments.extend(self.flags.iter().cloned());
        arguments.push(self.set.clone());
        if command == "run" {
            arguments.push("--yes".to_owned());
        }
        arguments
    }

    pub(super) async fn look(&self) -> Result<Vec<Snapshot>> {
        let mut all = Vec::new();
        for cluster in Cluster::BOTH {
            all.push(snapshot(self.client(cluster), &self.namespace).await?);
        }
        Ok(all)
    }

    /// Runs a command, which must change nothing.
    pub(super) async fn changes_nothing(&self, operator: &Operator, command: &str) -> Result<Ended> {
        let before = self.look().await?;
        let marks = [self.bed.audit_mark(Cluster::A)?, self.bed.audit_mark(Cluster::B)?];
        let ended = operator.run(self.arguments(command)).await?;
        let after = self.look().await?;
        for (before, after) in before.iter().zip(&after) {
            let differences = before.differences(after);
            ensure!(differences.is_empty(), "{command} changed something: {differences:#?}");
        }
        for (cluster, mark) in Cluster::BOTH.into_iter().zip(marks) {
            let writes: Vec<Value> = self
                .bed
                .audit_since(cluster, mark)?
                .into_iter()
                .filter(|event| event["user"]["username"] == self.tool.user.as_str() && is_write(event))
                .collect();
            ensure!(writes.is_empty(), "{command} wrote to {}: {writes:#?}", cluster.name());
        }
        for call in self.bed.ec2().log_of_key(&self.tool.access_key).await? {
            ensure!(
                call.action.starts_with("Describe") || call.action == "GetCallerIdentity",
                "the tool called {}",
                call.action
            );
        }
        Ok(ended)
    }

    /// Both `preflight` and `run` refuse with this code.
    pub(super) async fn refuses(&self, code: &str) -> Result<()> {
        let operator = Operator::with(self.bed, &self.tool.user, &self.tool.access_key)?;
        let ended = self.changes_nothing(&operator, "preflight").await?.expect_code(FINDINGS);
        let line = ended.stdout.lines().find(|line| line.starts_with(&format!("{code} blocks")));
        ensure!(line.is_some(), "no {code} that blocks in\n{}{}", ended.stdout, ended.stderr);
        let ended = self.changes_nothing(&operator, "run").await?.expect_code(self.run_code);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(self.run_code != FINDINGS || said.contains(code), "run does not name {code}:\n{said}");
        Ok(())
    }

    /// `preflight` finds nothing that blocks.
    pub(super) async fn passes(&self) -> Result<Ended> {
        let operator = Operator::with(self.bed, &self.tool.user, &self.tool.access_key)?;
        Ok(self.changes_nothing(&operator, "preflight").await?.expect_code(0))
    }
}

fn is_write(event: &Value) -> bool {
    let is_question = event["objectRef"]["resource"] == "selfsubjectaccessreviews";
    let is_write =
        matches!(event["verb"].as_str(), Some("create" | "update" | "patch" | "delete" | "deletecollection"));
    is_write && !is_question
}
