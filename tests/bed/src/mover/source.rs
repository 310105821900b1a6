//! What a mover does in A on the way forward.

use anyhow::Result;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use serde_json::{Value, json};

use super::side::{Kind, retain_claims, text, until};
use super::{Mistake, Mover};

impl Mover {
    /// Turns the volumes to `Retain` and the set to keep its claims, and sees both live.
    pub(super) async fn retain(&self) -> Result<()> {
        let retain = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        if self.makes(Mistake::BystanderTouched) {
            for volume in self.a.list(Kind::Volume).await? {
                if text(&volume, "/spec/claimRef/namespace") == self.a.namespace {
                    self.a.change(Kind::Volume, text(&volume, "/metadata/name"), retain.clone()).await?;
                }
            }
        } else if !self.makes(Mistake::NoRetain) {
            for pair in &self.before.pairs {
                self.a.change(Kind::Volume, pair.volume_name(), retain.clone()).await?;
            }
        }
        let keep = json!({"spec": {"persistentVolumeClaimRetentionPolicy": retain_claims()}});
        self.a.change(Kind::Set, &self.job.set, keep).await?;
        if !self.makes(Mistake::NoRetain) {
            until("the volumes in A to be retained", self.job.patience, async || {
                let volumes = self.a.list(Kind::Volume).await?;
                Ok(self.before.pairs.iter().all(|pair| {
                    volumes.iter().any(|volume| {
                        text(volume, "/metadata/name") == pair.volume_name()
                            && text(volume, "/spec/persistentVolumeReclaimPolicy") == "Retain"
                    })
                }))
            })
            .await?;
        }
        until("the claims in A to have no owner", self.job.patience, async || self.nothing_owned(&[Kind::Claim]).await)
            .await
    }

    /// Deletes the set in A and leaves its pods alone.
    pub(super) async fn freeze(&self) -> Result<()> {
        let policy = if self.makes(Mistake::BackgroundDeleteOfSet) {
            PropagationPolicy::Background
        } else {
            PropagationPolicy::Orphan
        };
        let options = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        self.a.delete(Kind::Set, &self.job.set, options).await?;
        self.a.await_gone(Kind::Set, &self.job.set, self.job.patience).await?;
        if self.makes(Mistake::BackgroundDeleteOfSet) {
            return Ok(());
        }
        until("nothing in A to be owned by the deleted set", self.job.patience, async || {
            self.nothing_owned(&[Kind::Pod, Kind::Claim, Kind::Revision]).await
        })
        .await?;
        if let (true, Some(pair)) = (self.makes(Mistake::DanglingOwner), self.before.pairs.last()) {
            let references = &pair.claim["metadata"]["ownerReferences"];
            let change = json!({"metadata": {"ownerReferences": references}});
            self.a.change(Kind::Claim, pair.claim_name(), change).await?;
        }
        Ok(())
    }

    async fn nothing_owned(&self, kinds: &[Kind]) -> Result<bool> {
        let old = &self.before.set["metadata"]["uid"];
        for kind in kinds {
            for object in self.a.list(*kind).await? {
                let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
                if owners.into_iter().flatten().any(|owner| owner["uid"] == *old) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Deletes the pod of an ordinal while the set still heals it, and waits for its successor.
    pub(super) async fn stop_with_successor(&self, ordinal: i64) -> Result<()> {
        let pod = self.pod(ordinal);
        let before = self.a.get(Kind::Pod, &pod).await?;
        self.stop(ordinal).await?;
        until(format_args!("a successor of {pod}"), self.job.patience, async || {
            let found = self.a.find(Kind::Pod, &pod).await?;
            Ok(found.is_some_and(|found| found["metadata"]["uid"] != before["metadata"]["uid"]))
        })
        .await
    }

    /// Deletes the pod of an ordinal in A.
    pub(super) async fn stop(&self, ordinal: i64) -> Result<()> {
        let pod = self.pod(ordinal);
        if self.makes(Mistake::PodDeletedWithoutPreconditions) {
            return self.a.delete_blindly(Kind::Pod, &pod, &DeleteParams::default()).await;
        }
        if self.makes(Mistake::ForceDelete) {
            let now = self.a.get(Kind::Pod, &pod).await?;
            let preconditions = Preconditions {
                uid: Some(text(&now, "/metadata/uid").to_owned()),
                resource_version: Some(text(&now, "/metadata/resourceVersion").to_owned()),
            };
            let options = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            return self.a.delete_blindly(Kind::Pod, &pod, &options).await;
        }
        self.a.delete(Kind::Pod, &pod, DeleteParams::default()).await?;
        if self.makes(Mistake::FinalizerStripped) {
            for pair in self.pairs_of(ordinal) {
                let change = json!({"metadata": {"finalizers": null}});
                self.a.change(Kind::Volume, pair.volume_name(), change).await?;
            }
        }
        Ok(())
    }
}
