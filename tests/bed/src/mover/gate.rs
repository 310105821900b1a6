//! When is a volume free? Five looks, each after the one before.

use anyhow::{Result, bail};
use serde_json::Value;

use super::side::{Kind, Side, text, until};
use super::{Mistake, Mover, Pair};

/// Pods in these phases use nothing any more.
const ENDED: [&str; 2] = ["Succeeded", "Failed"];

impl Mover {
    /// Waits until the pod of an ordinal is gone.
    pub(super) async fn await_pod_gone(&self, side: &Side, ordinal: i64) -> Result<()> {
        side.await_gone(Kind::Pod, &self.pod(ordinal), self.job.patience).await
    }

    /// Waits until the volumes of an ordinal have left a side.
    pub(super) async fn pass_gate(&self, side: &Side, ordinal: i64) -> Result<()> {
        self.await_pod_gone(side, ordinal).await?;
        if self.makes(Mistake::NoGate) {
            return Ok(());
        }
        if self.makes(Mistake::DetachByMover) {
            for pair in self.pairs_of(ordinal) {
                // It is refused: this key may only describe.
                let _ = self.ec2.call("DetachVolume", &[("VolumeId", &pair.handle)]).await;
            }
        }
        for pair in self.pairs_of(ordinal) {
            if !self.makes(Mistake::OtherPodsIgnored) {
                for either in [&self.a, &self.b] {
                    self.await_no_other_pod(either, pair).await?;
                }
            }
            if !self.makes(Mistake::NodesIgnored) {
                self.await_unused(side, pair).await?;
            }
            if self.makes(Mistake::AvailableReadTooEarly) {
                self.await_free(pair).await?;
                self.await_no_attachment(side, pair).await?;
            } else {
                self.await_no_attachment(side, pair).await?;
                self.await_free(pair).await?;
            }
        }
        Ok(())
    }

    async fn await_no_other_pod(&self, side: &Side, pair: &Pair) -> Result<()> {
        until(format_args!("no pod to use claim {}", pair.claim_name()), self.job.patience, async || {
            let pods = side.list(Kind::Pod).await?;
            Ok(!pods.iter().any(|pod| uses(pod, pair.claim_name())))
        })
        .await
    }

    async fn await_unused(&self, side: &Side, pair: &Pair) -> Result<()> {
        until(format_args!("no node to use {}", pair.handle), self.job.patience, async || {
            let nodes = side.list(Kind::Node).await?;
            let in_use = nodes.iter().filter_map(|node| node.pointer("/status/volumesInUse")?.as_array()).flatten();
            Ok(!in_use.filter_map(Value::as_str).any(|name| name.ends_with(&pair.handle)))
        })
        .await
    }

    async fn await_no_attachment(&self, side: &Side, pair: &Pair) -> Result<()> {
        until(format_args!("no VolumeAttachment of {}", pair.handle), self.job.patience, async || {
            let attachments = match side.list(Kind::Attachment).await {
                Err(_) if self.makes(Mistake::ErrorTakenForAbsence) => return Ok(true),
                attachments => attachments?,
            };
            // PersistentVolumes have the same names in both clusters here.
            Ok(!attachments
                .iter()
                .any(|attachment| text(attachment, "/spec/source/persistentVolumeName") == pair.volume_name()))
        })
        .await
    }

    /// Waits until EC2 says twice in a row that a volume is free.
    async fn await_free(&self, pair: &Pair) -> Result<()> {
        let mut in_a_row = 0;
        until(format_args!("{} to be free", pair.handle), self.job.patience, async || {
            let described = self.ec2.volume(&pair.handle).await?;
            if !matches!(described.state.as_str(), "available" | "in-use") {
                bail!("{} is {}", pair.handle, described.state);
            }
            in_a_row = if described.is_free() { in_a_row + 1 } else { 0 };
            Ok(in_a_row >= 2)
        })
        .await
    }
}

fn uses(pod: &Value, claim: &str) -> bool {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    !ENDED.contains(&text(pod, "/status/phase"))
        && volumes.into_iter().flatten().any(|volume| text(volume, "/persistentVolumeClaim/claimName") == claim)
}
