//! What people do today: a careful runbook with kubectl, that looks every five seconds.
//!
//! Everything up to the freeze is the scripted mover's, since nothing is down before. Then, per ordinal:
//! delete the pod and wait, look until its VolumeAttachment is gone and EC2 says `available`, scale up,
//! wait. It waits for the very conditions that the program waits for, and is never asked anything.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bed::ec2::VolumeState;
use bed::judge::Case;
use bed::mover::{self, Job, Reach};
use bed::{Bed, Tool};
use tokio::process::Command;
use tokio::time::sleep;

/// How often the runbook looks.
const TICK: Duration = Duration::from_secs(5);

/// How long it waits for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// Moves a set.
pub(crate) async fn run(bed: &Bed, tool: &Tool, case: &Case) -> Result<()> {
    let job = Job {
        user: tool.user.clone(),
        access_key: tool.access_key.clone(),
        source: case.source.clone(),
        set: case.set.clone(),
        destination: case.destination.clone(),
        together: false,
        reach: Reach::Frozen,
        mistake: None,
        patience: PATIENCE,
    };
    mover::run(bed, job).await.context("prepare and freeze")?;
    let terminal = Terminal { bed, tool };
    let set = format!("statefulset/{}", case.set);
    for ordinal in case.start..case.start + case.replicas {
        let pod = format!("{}-{ordinal}", case.set);
        terminal.kubectl(&["--context", "a", "-n", &case.source, "delete", "pod", &pod, "--wait"]).await?;
        while !terminal.is_free(case, ordinal).await? {
            sleep(TICK).await;
        }
        let replicas = ordinal - case.start + 1;
        let scale = format!("--replicas={replicas}");
        terminal.kubectl(&["--context", "b", "-n", &case.destination, "scale", &set, &scale]).await?;
        let available = format!("--for=jsonpath={{.status.availableReplicas}}={replicas}");
        let limit = format!("--timeout={}s", PATIENCE.as_secs());
        terminal.kubectl(&["--context", "b", "-n", &case.destination, "wait", &set, &available, &limit]).await?;
    }
    Ok(())
}

struct Terminal<'a> {
    bed: &'a Bed,
    tool: &'a Tool,
}

impl Terminal<'_> {
    /// Returns whether the volumes of an ordinal are free.
    ///
    /// EC2's truth is read by the bed's own hand: quicker than the AWS CLI would be.
    async fn is_free(&self, case: &Case, ordinal: i64) -> Result<bool> {
        let names = "jsonpath={.items[*].spec.source.persistentVolumeName}";
        let attached = self.kubectl(&["--context", "a", "get", "volumeattachments", "-o", names]).await?;
        for volume in case.volumes.iter().filter(|volume| volume.ordinal == ordinal) {
            if attached.split_whitespace().any(|name| name == volume.volume) {
                return Ok(false);
            }
            let now = self.bed.ec2().volume(&volume.handle).await?;
            if now.state != VolumeState::Available || !now.attachments.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let cache = self.bed.directory().join("kubectl-cache");
        let output = Command::new(self.bed.kubectl())
            .args(arguments)
            .arg("--cache-dir")
            .arg(cache)
            .env("KUBECONFIG", self.bed.kubeconfig(&self.tool.user)?)
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("run kubectl")?;
        let talk = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {talk}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
