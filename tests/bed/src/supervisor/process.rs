//! One real process, kept as its keeper was told: running, stopped for a while, or down.
//!
//! A process that ends by itself is started again, as a kubelet would do with a static pod; while
//! the bed starts, that is an error instead.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::control_plane::CommandLine;

/// Pause before a process that ended by itself is started again.
const RESTART_AFTER: Duration = Duration::from_millis(300);

/// How much of a log an error shows.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 12;

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// It is halted (SIGSTOP): it holds its connections and answers nothing.
    Stop,
    /// It goes on after [`Act::Stop`].
    Continue,
    /// It is killed (SIGKILL) and stays down.
    Kill,
    /// It is started where it is down.
    Start,
    /// It is killed and started.
    Restart,
}

/// Starts processes from a thread that lives as long as this process.
///
/// The kernel ends a process with its parent *thread* (`PR_SET_PDEATHSIG`), and a worker of a thread
/// pool may go early. With this thread they end exactly when the supervisor does.
#[derive(Clone)]
pub(super) struct Spawner {
    requests: std_mpsc::Sender<(CommandLine, oneshot::Sender<Result<Child>>)>,
}

impl Spawner {
    pub(super) fn new() -> Self {
        let (requests, received) = std_mpsc::channel::<(CommandLine, oneshot::Sender<Result<Child>>)>();
        let runtime = Handle::current();
        std::thread::spawn(move || {
            let _inside = runtime.enter();
            for (line, answer) in received {
                // Who asked may be gone; the child then ends with the answer.
                let _ = answer.send(spawn(&line));
            }
        });
        Spawner { requests }
    }

    async fn spawn(&self, line: &CommandLine) -> Result<Child> {
        let (answer, answered) = oneshot::channel();
        self.requests.send((line.clone(), answer)).map_err(|_| anyhow!("the spawning thread has ended"))?;
        answered.await.context("the spawning thread has ended")?
    }
}

fn spawn(line: &CommandLine) -> Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&line.log)
        .with_context(|| format!("open {}", line.log.display()))?;
    let mut command = std::process::Command::new(&line.program);
    command.args(&line.arguments).env_clear().stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let parent = rustix::process::getpid();
    // SAFETY: prctl, getppid and nothing else: no allocation between fork and exec.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(std::io::ErrorKind::NotFound.into()) }
        });
    }
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    command.spawn().with_context(|| format!("run {}", line.program.display()))
}

/// A process under its keeper.
#[derive(Clone)]
pub(super) struct Process {
    line: CommandLine,
    orders: mpsc::Sender<(Act, oneshot::Sender<Result<()>>)>,
    failed: Arc<AtomicBool>,
}

impl Process {
    /// Starts a process and its keeper.
    pub(super) async fn start(spawner: &Spawner, line: CommandLine) -> Result<Self> {
        let (orders, received) = mpsc::channel(8);
        let failed = Arc::new(AtomicBool::new(false));
        let child = spawner.spawn(&line).await?;
        let keeper = Keeper { spawner: spawner.clone(), line: line.clone(), failed: failed.clone() };
        tokio::spawn(keeper.keep(child, received));
        Ok(Process { line, orders, failed })
    }

    /// Does something to the process and returns when it is done.
    pub(super) async fn act(&self, act: Act) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.orders.send((act, answer)).await.map_err(|_| anyhow!("its keeper has ended"))?;
        answered.await.context("its keeper has ended")?
    }

    /// Fails when the process has ended by itself at some time.
    pub(super) fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            bail!("{} ended by itself; its log ends with:\n{}", self.name(), self.tail());
        }
        Ok(())
    }

    /// Returns the end of the process's log.
    pub(super) fn tail(&self) -> String {
        tail(&self.line.log)
    }

    /// Returns the process's name.
    pub(super) fn name(&self) -> String {
        self.line.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

struct Keeper {
    spawner: Spawner,
    line: CommandLine,
    failed: Arc<AtomicBool>,
}

impl Keeper {
    /// Runs until the supervisor ends and everything is dropped.
    async fn keep(self, child: Child, mut orders: mpsc::Receiver<(Act, oneshot::Sender<Result<()>>)>) {
        let mut child = Some(child);
        loop {
            let order = match child.as_mut() {
                None => orders.recv().await,
                Some(running) => tokio::select! {
                    order = orders.recv() => order,
                    status = running.wait() => {
                        self.failed.store(true, Ordering::Relaxed);
                        self.note(&format!("ended by itself ({status:?}), starting it again"));
                        sleep(RESTART_AFTER).await;
                        child = self.spawner.spawn(&self.line).await.inspect_err(|error| self.note(&format!("{error:#}"))).ok();
                        continue;
                    }
                },
            };
            let Some((act, answer)) = order else { return };
            let done = self.obey(act, &mut child).await;
            // Who asked may have given up; what was asked is done all the same.
            let _ = answer.send(done);
        }
    }

    async fn obey(&self, act: Act, child: &mut Option<Child>) -> Result<()> {
        self.note(&format!("told to {act:?}"));
        if matches!(act, Act::Kill | Act::Restart)
            && let Some(mut running) = child.take()
        {
            running.kill().await.context("kill it")?;
        }
        match act {
            Act::Stop => signal(child.as_ref(), Signal::STOP),
            Act::Continue => signal(child.as_ref(), Signal::CONT),
            Act::Kill => Ok(()),
            Act::Start | Act::Restart => {
                if child.is_none() {
                    *child = Some(self.spawner.spawn(&self.line).await?);
                }
                Ok(())
            }
        }
    }

    /// Writes a line of ours into the process's log.
    fn note(&self, what: &str) {
        if let Ok(mut log) = OpenOptions::new().append(true).open(&self.line.log) {
            // A log that cannot be written to must not end the process.
            let _ = writeln!(log, "--- bed: {} {what}", Timestamp::now());
        }
    }
}

fn signal(child: Option<&Child>, signal: Signal) -> Result<()> {
    let id = child.and_then(Child::id).and_then(|id| Pid::from_raw(id as i32)).context("it is down")?;
    kill_process(id, signal).context("send the signal")
}

/// Returns the last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(TAIL_LINES)..]
                .iter()
                .map(|line| format!("    {line}"))
                .collect::<Vec<_>>()
                .join("\n")
        }
        Err(error) => format!("    (cannot read {}: {error})", log.display()),
    }
}
