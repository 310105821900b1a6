//! A scripted mover: a careful, plain, sequential hand-over of a set, and the same with one mistake.
//!
//! It exists to prove the judge before and besides the program under test: the careful mover must
//! not be accused, and each [`Mistake`] must be, of just the invariant that it breaks. It shares no
//! code with the program, and asks nobody.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{Bed, Cluster};

mod back;
mod describe;
mod destination;
mod finish;
mod gate;
mod mistake;
mod side;
mod source;
mod state;
mod translate;

pub use mistake::{Mistake, Reach};

use describe::Describe;
use side::{Kind, Side, text};

/// What is moved, and by whom.
#[derive(Clone, Debug)]
pub struct Job {
    /// The user in both clusters.
    pub user: String,
    /// The EC2 access key id.
    pub access_key: String,
    /// Namespace in A.
    pub source: String,
    /// Name of the set.
    pub set: String,
    /// Namespace in B.
    pub destination: String,
    /// All pods are stopped before the first one starts.
    pub together: bool,
    /// How far the mover goes.
    pub reach: Reach,
    /// The one thing that it does wrong.
    pub mistake: Option<Mistake>,
    /// How long each wait may take.
    pub patience: Duration,
}

/// A mover at work.
struct Mover {
    job: Job,
    a: Side,
    b: Side,
    ec2: Describe,
    before: Before,
}

/// What was there before.
struct Before {
    set: Value,
    service: Option<Value>,
    pairs: Vec<Pair>,
}

/// A claim of the set with its volume, as they were in A.
struct Pair {
    ordinal: i64,
    claim: Value,
    volume: Value,
    handle: String,
    zone: String,
}

impl Pair {
    fn claim_name(&self) -> &str {
        text(&self.claim, "/metadata/name")
    }

    fn volume_name(&self) -> &str {
        text(&self.volume, "/metadata/name")
    }
}

/// Moves a set as far as the job says.
pub async fn run(bed: &Bed, job: Job) -> Result<()> {
    let a = Side::new(Cluster::A, bed.client(Cluster::A, &job.user).await?, &job.source);
    let b = Side::new(Cluster::B, bed.client(Cluster::B, &job.user).await?, &job.destination);
    let ec2 = Describe::new(bed.ec2_url(), &job.access_key);
    let before = look(&a, &ec2, &job.set).await.context("look at the set")?;
    let mover = Mover { job, a, b, ec2, before };
    mover.begin().await.context("begin")?;
    let moved = mover.move_it().await;
    mover.end(&moved).await.context("end")?;
    moved
}

async fn look(a: &Side, ec2: &Describe, set: &str) -> Result<Before> {
    let set = a.get(Kind::Set, set).await?;
    let service = a.find(Kind::Service, text(&set, "/spec/serviceName")).await?;
    let start = set["spec"]["ordinals"]["start"].as_i64().unwrap_or(0);
    let replicas = set["spec"]["replicas"].as_i64().unwrap_or(1);
    let mut pairs = Vec::new();
    for ordinal in start..start + replicas {
        for template in set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
            let name = format!("{}-{}-{ordinal}", text(template, "/metadata/name"), text(&set, "/metadata/name"));
            let claim = a.get(Kind::Claim, &name).await?;
            let volume = a.get(Kind::Volume, text(&claim, "/spec/volumeName")).await?;
            let handle = text(&volume, "/spec/csi/volumeHandle").to_owned();
            let zone = ec2.volume(&handle).await?.zone;
            pairs.push(Pair { ordinal, claim, volume, handle, zone });
        }
    }
    Ok(Before { set, service, pairs })
}

impl Mover {
    fn makes(&self, mistake: Mistake) -> bool {
        self.job.mistake == Some(mistake)
    }

    fn start(&self) -> i64 {
        self.before.set["spec"]["ordinals"]["start"].as_i64().unwrap_or(0)
    }

    fn replicas(&self) -> i64 {
        self.before.set["spec"]["replicas"].as_i64().unwrap_or(1)
    }

    fn pod(&self, ordinal: i64) -> String {
        format!("{}-{ordinal}", self.job.set)
    }

    fn pairs_of(&self, ordinal: i64) -> impl Iterator<Item = &Pair> {
        self.before.pairs.iter().filter(move |pair| pair.ordinal == ordinal)
    }

    async fn move_it(&self) -> Result<()> {
        self.retain().await.context("retain the volumes in A")?;
        self.furnish().await.context("prepare B")?;
        if self.job.reach == Reach::Prepared {
            return Ok(());
        }
        if self.makes(Mistake::PodStoppedTwice) {
            self.stop_with_successor(self.start()).await.context("stop the pod before the freeze")?;
        }
        self.freeze().await.context("freeze A")?;
        let moved = match self.job.reach {
            Reach::Prepared | Reach::Frozen => 0,
            Reach::RolledBack { after } => after,
            Reach::FirstPod => 1,
            Reach::Moved | Reach::Finalized => self.replicas(),
        };
        let moved = self.start()..self.start() + moved;
        if self.job.together {
            self.swing_together(moved.clone()).await?;
        } else {
            for ordinal in moved.clone() {
                self.swing(ordinal).await.with_context(|| format!("move ordinal {ordinal}"))?;
            }
        }
        match self.job.reach {
            Reach::Finalized => self.finish().await.context("finish"),
            Reach::RolledBack { .. } => self.go_back(moved).await.context("go back"),
            _ => Ok(()),
        }
    }

    async fn swing(&self, ordinal: i64) -> Result<()> {
        if !self.makes(Mistake::PodLeftRunning) {
            self.stop(ordinal).await.context("stop the pod in A")?;
            self.pass_gate(&self.a, ordinal).await.context("await the volumes")?;
        }
        if self.makes(Mistake::WorkAfterFailure) {
            self.note_failure("the volumes took too long").await?;
        }
        let replicas =
            if self.makes(Mistake::ScaleBeyondHandedOver) { self.replicas() } else { ordinal - self.start() + 1 };
        self.grow(replicas).await.context("grow the set in B")?;
        if self.makes(Mistake::NextBeforeAvailable) {
            return Ok(());
        }
        // What is asked for too early may never come: the pods of the others still run in A.
        self.await_available(ordinal - self.start() + 1).await.context("await the pod in B")?;
        if self.makes(Mistake::PolicyWrittenBackTooEarly) {
            self.write_policies_back(&self.b).await?;
        }
        Ok(())
    }

    async fn swing_together(&self, ordinals: std::ops::Range<i64>) -> Result<()> {
        for ordinal in ordinals.clone().rev() {
            self.stop(ordinal).await.with_context(|| format!("stop the pod of ordinal {ordinal}"))?;
            self.await_pod_gone(&self.a, ordinal).await?;
        }
        for ordinal in ordinals.clone() {
            self.pass_gate(&self.a, ordinal).await.context("await the volumes")?;
        }
        let replicas = ordinals.end - ordinals.start;
        self.grow(replicas).await.context("grow the set in B")?;
        self.await_available(replicas).await.context("await the pods in B")
    }
}
