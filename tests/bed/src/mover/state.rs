//! What a mover keeps in the clusters: a lock, a plan and a record, as little as the judge needs.

use anyhow::{Context, Result};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::side::{Kind, Side};
use super::{Mistake, Mover, Reach};

/// Where the record stands in its ConfigMap.
const RECORD_KEY: &str = "record.yaml";

impl Mover {
    /// Takes the lock in both clusters, then stores plan and record there.
    pub(super) async fn begin(&self) -> Result<()> {
        if self.b.find(Kind::Namespace, &self.b.namespace).await?.is_none() {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.b.namespace}});
            self.b.create(Kind::Namespace, namespace).await?;
        }
        for side in self.sides() {
            let spec = json!({"holderIdentity": self.job.user, "leaseDurationSeconds": 30});
            side.create(Kind::Lease, self.own("coordination.k8s.io/v1", "Lease", "spec", spec)).await?;
        }
        for side in self.sides() {
            if self.makes(Mistake::PlanInOneClusterOnly) && std::ptr::eq(side, &self.b) {
                continue;
            }
            let handles: Vec<&str> = self.before.pairs.iter().map(|pair| pair.handle.as_str()).collect();
            let data = json!({"volumes": handles.join(" ")});
            side.create(Kind::Plan, self.own("v1", "Secret", "stringData", data)).await?;
        }
        for side in self.sides() {
            let data = json!({RECORD_KEY: record(&Value::Null, &Value::Null)});
            side.create(Kind::Record, self.own("v1", "ConfigMap", "data", data)).await?;
        }
        Ok(())
    }

    /// Writes down how it ended, and gives the lock back.
    pub(super) async fn end(&self, moved: &Result<()>) -> Result<()> {
        let outcome = match (moved, self.job.reach) {
            (Err(error), _) => {
                self.note_failure(&format!("{error:#}")).await?;
                None
            }
            (Ok(()), Reach::Finalized) => Some("Completed"),
            (Ok(()), Reach::RolledBack { .. }) => Some("RolledBack"),
            (Ok(()), Reach::Prepared | Reach::Frozen | Reach::FirstPod | Reach::Moved) => None,
        };
        let Some(outcome) = outcome else {
            for side in self.sides() {
                side.change(Kind::Lease, &self.own_name(), json!({"spec": {"holderIdentity": ""}})).await?;
            }
            return Ok(());
        };
        self.note(&record(&json!(outcome), &Value::Null)).await?;
        let lock = (!self.makes(Mistake::LockLeftBehind)).then_some(Kind::Lease);
        for kind in [Kind::Plan].into_iter().chain(lock) {
            for side in self.sides() {
                side.delete(kind, &self.own_name(), DeleteParams::default()).await?;
            }
        }
        Ok(())
    }

    /// Writes a failure into both records: from here on nothing may be touched.
    pub(super) async fn note_failure(&self, reason: &str) -> Result<()> {
        self.note(&record(&Value::Null, &json!({"in": "swing", "reason": reason}))).await
    }

    async fn note(&self, text: &str) -> Result<()> {
        for side in self.sides() {
            let change = json!({"data": {RECORD_KEY: text}});
            side.change(Kind::Record, &self.own_name(), change).await.context("write the record")?;
        }
        Ok(())
    }

    fn sides(&self) -> [&Side; 2] {
        [&self.a, &self.b]
    }

    fn own_name(&self) -> String {
        format!("sts-migrate-set-{}", self.job.set)
    }

    fn own(&self, version: &str, kind: &str, field: &str, content: Value) -> Value {
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": self.own_name()}, field: content})
    }
}

/// Returns a record as text; JSON is YAML.
fn record(outcome: &Value, failure: &Value) -> String {
    json!({"outcome": outcome, "lastFailure": failure}).to_string()
}
