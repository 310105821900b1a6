//! Runs the program, and watches its first output and its memory.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How often memory is looked at. The peak is the kernel's own, so nothing between two looks is lost
/// but what comes after the last one.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What was seen of the process.
pub(crate) struct Run {
    /// From the start of the process until its first output.
    pub(crate) first_output: Duration,
    /// Its memory over time, oldest first.
    pub(crate) memory: Vec<Memory>,
}

/// Memory of the process at one time, in MiB.
pub(crate) struct Memory {
    /// When it was looked at.
    pub(crate) at: Timestamp,
    /// Resident now.
    pub(crate) resident: f64,
    /// The most that ever was resident.
    pub(crate) peak: f64,
}

impl Run {
    /// Returns the most memory that ever was resident, in MiB.
    pub(crate) fn peak(&self) -> f64 {
        self.memory.last().map_or(0.0, |memory| memory.peak)
    }
}

/// Runs the program to its end.
///
/// # Errors
/// It did not end well; the end of its output is in the error.
pub(crate) async fn run(command: Command) -> Result<Run> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let started = Instant::now();
    let mut child = command.spawn().context("start sts-migrate")?;
    let process = child.id().context("sts-migrate has no process")?;
    let has_ended = Arc::new(AtomicBool::new(false));
    let watcher = thread::spawn({
        let has_ended = has_ended.clone();
        move || watch(process, &has_ended)
    });
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::join!(read(stdout, started), read(stderr, started));
    let status = child.wait().await.context("wait for sts-migrate")?;
    has_ended.store(true, Ordering::Relaxed);
    let memory = watcher.join().map_err(|_| anyhow::anyhow!("the watcher of the memory panicked"))?;
    let ((first_data, data), (first_talk, talk)) = (stdout?, stderr?);
    let lines: Vec<&str> = talk.lines().chain(data.lines()).collect();
    let last = lines[lines.len().saturating_sub(20)..].join("\n");
    ensure!(status.success(), "sts-migrate ended with {status}:\n{last}");
    ensure!(!memory.is_empty(), "the memory of sts-migrate could not be read from /proc/{process}/status");
    let first_output = [first_data, first_talk].into_iter().flatten().min();
    Ok(Run { first_output: first_output.context("sts-migrate said nothing")?, memory })
}

/// Reads a stream to its end, and says when the first of it came.
async fn read(stream: Option<impl AsyncRead + Unpin>, started: Instant) -> Result<(Option<Duration>, String)> {
    let mut stream = stream.context("sts-migrate has no output")?;
    let (mut first, mut bytes) = (None, Vec::new());
    while stream.read_buf(&mut bytes).await.context("read the output of sts-migrate")? > 0 {
        first.get_or_insert_with(|| started.elapsed());
    }
    Ok((first, String::from_utf8_lossy(&bytes).into_owned()))
}

fn watch(process: u32, has_ended: &AtomicBool) -> Vec<Memory> {
    let mut memory = Vec::new();
    while !has_ended.load(Ordering::Relaxed) {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        // A process that has ended and is not yet waited for has no memory any more.
        if let (Some(resident), Some(peak)) = (field(&status, "VmRSS:"), field(&status, "VmHWM:")) {
            memory.push(Memory { at: Timestamp::now(), resident, peak });
        }
        thread::sleep(LOOK_EVERY);
    }
    memory
}

/// Returns a field of `/proc/PID/status` in MiB.
fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}
