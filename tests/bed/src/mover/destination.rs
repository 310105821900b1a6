//! What a mover does in B on the way forward.

use anyhow::Result;
use serde_json::json;

use super::side::{Kind, text, until};
use super::{Mistake, Mover};

impl Mover {
    /// Creates Service, volumes, claims and, when all are bound, the set at rest.
    pub(super) async fn furnish(&self) -> Result<()> {
        if let Some(service) = &self.before.service {
            self.b.create(Kind::Service, self.service_in_b(service)).await?;
        }
        if self.makes(Mistake::SetBeforeClaims) {
            self.b.create(Kind::Set, self.set_in_b()).await?;
        }
        for pair in &self.before.pairs {
            self.b.create(Kind::Volume, self.volume_in_b(pair)).await?;
            self.b.create(Kind::Claim, self.claim_in_b(pair)).await?;
        }
        until("the pairs in B to be bound", self.job.patience, async || self.all_bound().await).await?;
        if self.makes(Mistake::SetBeforeClaims) { Ok(()) } else { self.b.create(Kind::Set, self.set_in_b()).await }
    }

    async fn all_bound(&self) -> Result<bool> {
        let claims = self.b.list(Kind::Claim).await?;
        let volumes = self.b.list(Kind::Volume).await?;
        Ok(self.before.pairs.iter().all(|pair| {
            claims.iter().any(|claim| {
                text(claim, "/metadata/name") == pair.claim_name()
                    && text(claim, "/status/phase") == "Bound"
                    && volumes.iter().any(|volume| {
                        text(volume, "/metadata/name") == text(claim, "/spec/volumeName")
                            && text(volume, "/status/phase") == "Bound"
                            && text(volume, "/spec/claimRef/uid") == text(claim, "/metadata/uid")
                    })
            })
        }))
    }

    /// Gives the set in B replicas.
    pub(super) async fn grow(&self, replicas: i64) -> Result<()> {
        self.b.change(Kind::Set, &self.job.set, json!({"spec": {"replicas": replicas}})).await
    }

    /// Waits until so many replicas are available in B.
    pub(super) async fn await_available(&self, replicas: i64) -> Result<()> {
        until(format_args!("{replicas} replicas to be available in B"), self.job.patience, async || {
            let set = self.b.get(Kind::Set, &self.job.set).await?;
            let seen = set["status"]["observedGeneration"].as_i64() >= set["metadata"]["generation"].as_i64();
            Ok(seen && set["status"]["availableReplicas"].as_i64().unwrap_or(0) >= replicas)
        })
        .await
    }
}
