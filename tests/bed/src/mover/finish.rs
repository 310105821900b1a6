//! The end of the way forward: A's claims and volumes go, B's get the policies that A's had.

use anyhow::Result;
use serde_json::{Value, json};

use super::side::{Kind, Side, text};
use super::{Mistake, Mover};

impl Mover {
    pub(super) async fn finish(&self) -> Result<()> {
        for pair in &self.before.pairs {
            self.a.remove(Kind::Claim, pair.claim_name(), self.job.patience).await?;
            if !self.makes(Mistake::SourceLeftBehind) {
                self.a.remove(Kind::Volume, pair.volume_name(), self.job.patience).await?;
            }
        }
        for revision in self.a.list(Kind::Revision).await? {
            let old = &self.before.set["metadata"]["labels"];
            // Nothing owns it any more; a test has one set with these labels.
            let orphan = revision
                .pointer("/metadata/ownerReferences")
                .is_none_or(|owners| owners.as_array().is_none_or(Vec::is_empty));
            if orphan && revision["metadata"]["labels"]["app"] == old["app"] {
                self.a.remove(Kind::Revision, text(&revision, "/metadata/name"), self.job.patience).await?;
            }
        }
        let retention = &self.before.set["spec"]["persistentVolumeClaimRetentionPolicy"];
        let change = json!({"spec": {"persistentVolumeClaimRetentionPolicy": retention}});
        self.b.change(Kind::Set, &self.job.set, change).await?;
        if self.makes(Mistake::SourceLeftBehind) {
            return Ok(());
        }
        self.write_policies_back(&self.b).await
    }

    /// Gives the volumes of a side the policy that A's had.
    pub(super) async fn write_policies_back(&self, side: &Side) -> Result<()> {
        for pair in &self.before.pairs {
            let policy: &Value = &pair.volume["spec"]["persistentVolumeReclaimPolicy"];
            let change = json!({"spec": {"persistentVolumeReclaimPolicy": policy}});
            side.change(Kind::Volume, pair.volume_name(), change).await?;
        }
        Ok(())
    }
}
