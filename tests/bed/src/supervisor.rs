//! The process that a bed lives in: it starts everything, and when it ends, everything has ended.
//!
//! It is the test executable (or the example) run once more, see [`supervise_if_asked`], in a process
//! group of its own, so that a Ctrl-C in the terminal reaches only its parent. It lives as long as
//! the pipe to its parent: when that closes, because the parent says so or because it died, all
//! processes are killed and the directory is removed.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::{env, fs};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::BedOptions;
use crate::handle::Ready;
use crate::toolchain::Binaries;

mod components;
mod objects;
mod process;
mod start;

pub(crate) use components::ComponentOrder;
pub use process::Act;
pub(crate) use process::tail;

/// The first argument that makes an executable the supervisor of a bed.
pub(crate) const ARGUMENT: &str = "__bed-supervisor";

/// What a supervisor is told by its parent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// The bed's directory; exists, and is removed at the end.
    pub(crate) directory: PathBuf,
    /// Directory of the binaries.
    pub(crate) binaries: PathBuf,
    /// What the test wants.
    pub(crate) options: BedOptions,
}

/// What a supervisor answers, once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    /// All runs.
    Ready(Ready),
    /// It could not be started, for this reason.
    Failed(String),
}

/// Becomes the supervisor of a bed, and never returns, when this process was started as one.
///
/// Must be the first thing in the `main` of every executable that starts a [`crate::Bed`].
pub fn supervise_if_asked() {
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() != Some(ARGUMENT) {
        return;
    }
    let ended = arguments
        .next()
        .context("the supervisor needs its assignment")
        .and_then(|json| serde_json::from_str(&json).context("parse the assignment"))
        .and_then(supervise);
    if let Err(error) = &ended {
        eprintln!("supervisor: {error:#}");
    }
    exit(i32::from(ended.is_err()));
}

fn supervise(assignment: Assignment) -> Result<()> {
    let runtime = Runtime::new().context("start the runtime")?;
    let ended = runtime.block_on(run(&assignment));
    // Dropping the runtime drops the keepers, and these kill their processes and wait for none:
    // what is still dying holds its files open, and its directory may be filled once more.
    drop(runtime);
    if let Some(kept) = &assignment.options.keep_logs {
        keep_logs(&assignment.directory, kept).unwrap_or_else(|error| eprintln!("supervisor: {error:#}"));
    }
    remove(&assignment.directory)?;
    ended
}

/// Starts the bed and waits for its end.
async fn run(assignment: &Assignment) -> Result<()> {
    // Fails only when one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut end = watch_parent()?;
    let binaries = Binaries::ready(assignment.binaries.clone())?;
    let started = tokio::select! {
        started = start::start(&assignment.directory, &binaries, &assignment.options) => started,
        _ = &mut end => return Ok(()),
    };
    match started {
        Ok((ready, running)) => {
            report(&Report::Ready(ready))?;
            let _ = end.await;
            running.processes.end().await;
            Ok(())
        }
        Err(error) => {
            report(&Report::Failed(format!("{error:#}")))?;
            Err(error)
        }
    }
}

/// Resolves when the parent has closed its pipe, or when a signal tells this process to end.
fn watch_parent() -> Result<oneshot::Receiver<()>> {
    let (parent_gone, gone) = oneshot::channel();
    std::thread::spawn(move || {
        let mut ignored = [0; 64];
        let mut stdin = std::io::stdin();
        while matches!(stdin.read(&mut ignored), Ok(length) if length > 0) {}
        // Nobody listens when the end has come already.
        let _ = parent_gone.send(());
    });
    let (ended, end) = oneshot::channel();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = gone => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = ended.send(());
    });
    Ok(end)
}

fn report(report: &Report) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    // The parent may be gone; then the end comes by itself.
    let _ = writeln!(stdout, "{}", serde_json::to_string(report)?).and_then(|()| stdout.flush());
    Ok(())
}

/// Copies every log of the bed to a directory that stays.
fn keep_logs(bed: &Path, kept: &Path) -> Result<()> {
    for (directory, target) in
        [(bed.to_owned(), kept.to_owned()), (bed.join("a"), kept.join("a")), (bed.join("b"), kept.join("b"))]
    {
        fs::create_dir_all(&target).with_context(|| format!("create {}", target.display()))?;
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "log")) {
            let name = path.file_name().unwrap_or_default();
            fs::copy(&path, target.join(name)).with_context(|| format!("keep {}", path.display()))?;
        }
    }
    Ok(())
}

/// Removes the bed's directory, again while dying processes still write into it.
fn remove(directory: &Path) -> Result<()> {
    for _ in 0..50 {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            _ => return Ok(()),
        }
    }
    Err(anyhow!("cannot remove {}", directory.display()))
}
