//! The way back: B is emptied, A gets its set as it was.

use std::ops::Range;

use anyhow::{Context, Result};
use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::{Value, json};

use super::side::{Kind, text, until};
use super::translate::plain;
use super::{Mistake, Mover};

impl Mover {
    /// Undoes the move of these ordinals, and everything that was prepared.
    pub(super) async fn go_back(&self, moved: Range<i64>) -> Result<()> {
        if self.makes(Mistake::BackWithoutGate) {
            return self.restore_set().await;
        }
        self.empty_b(moved).await.context("empty B")?;
        self.restore_set().await.context("restore the set in A")?;
        until("the set in A to be as before", self.job.patience, async || {
            let set = self.a.get(Kind::Set, &self.job.set).await?;
            let number = |field| set["status"][field].as_i64().unwrap_or(0);
            Ok(number("observedGeneration") >= set["metadata"]["generation"].as_i64().unwrap_or(0)
                && number("availableReplicas") == self.replicas()
                && number("updatedReplicas") == self.replicas())
        })
        .await?;
        if self.makes(Mistake::DestinationLeftBehind) { Ok(()) } else { self.write_policies_back(&self.a).await }
    }

    async fn empty_b(&self, moved: Range<i64>) -> Result<()> {
        self.grow(0).await?;
        for ordinal in moved.clone().rev() {
            self.await_pod_gone(&self.b, ordinal).await?;
        }
        for ordinal in moved {
            self.pass_gate(&self.b, ordinal).await?;
        }
        let set = self.b.get(Kind::Set, &self.job.set).await?;
        let revisions: Vec<Value> = self
            .b
            .list(Kind::Revision)
            .await?
            .into_iter()
            .filter(|revision| revision["metadata"]["ownerReferences"][0]["uid"] == set["metadata"]["uid"])
            .collect();
        let orphan = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
        self.b.delete(Kind::Set, &self.job.set, orphan).await?;
        self.b.await_gone(Kind::Set, &self.job.set, self.job.patience).await?;
        for revision in revisions {
            self.b.remove(Kind::Revision, text(&revision, "/metadata/name"), self.job.patience).await?;
        }
        if !self.makes(Mistake::DestinationLeftBehind) {
            for pair in &self.before.pairs {
                self.b.remove(Kind::Claim, pair.claim_name(), self.job.patience).await?;
                self.b.remove(Kind::Volume, pair.volume_name(), self.job.patience).await?;
            }
        }
        if let Some(service) = &self.before.service {
            self.b.remove(Kind::Service, text(service, "/metadata/name"), self.job.patience).await?;
        }
        Ok(())
    }

    async fn restore_set(&self) -> Result<()> {
        let mut set = plain(&self.before.set);
        if self.makes(Mistake::SurvivorRestarted) {
            set["spec"]["template"]["metadata"]["annotations"] = json!({"restored": "by a careless hand"});
        }
        self.a.create(Kind::Set, set).await
    }
}
