//! What all tests share: the bed, a runtime, the shipped binary with a clean environment, and waits.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::future::Future;
use std::io::{Read, Write};
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, process};

use anyhow::{Context, Result};
use bed::{Bed, BedOptions, Tool};
use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

use crate::readme;

/// The kind of the trials that use the shared bed.
pub(crate) const NEEDS_BED: &str = "bed";

/// The first argument that makes this executable start a bed, print its directory and wait.
const HOLD: &str = "__hold-a-bed";

/// How often [`eventually`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

static SHARED: OnceLock<Bed> = OnceLock::new();

/// Returns a trial that runs on the shared bed.
pub(crate) fn on_bed<F, Test>(name: &str, test: Test) -> Trial
where
    F: Future<Output = Result<()>>,
    Test: FnOnce(&'static Bed) -> F + Send + 'static,
{
    let run = move || runtime().block_on(test(shared_bed())).map_err(failed);
    Trial::test(name, run).with_kind(NEEDS_BED)
}

/// Returns a trial that needs no bed, or starts one of its own.
pub(crate) fn alone<F, Test>(name: &str, test: Test) -> Trial
where
    F: Future<Output = Result<()>>,
    Test: FnOnce() -> F + Send + 'static,
{
    Trial::test(name, move || runtime().block_on(test()).map_err(failed))
}

fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:?}"))
}

/// Returns the runtime of all tests; clients stay usable from one test thread to another.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a tokio runtime can always be made"))
}

/// Returns the bed of all tests, which starts with the first call.
pub(crate) fn shared_bed() -> &'static Bed {
    SHARED.get_or_init(|| {
        let keep_logs = env::var_os("STS_MIGRATE_BED_LOGS").map(Into::into);
        let begun = Instant::now();
        let bed = Bed::start(BedOptions { keep_logs, ..BedOptions::default() }).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            // Without it every test would fail in the same way.
            process::exit(1)
        });
        eprintln!("bed: up after {:.1} s", begun.elapsed().as_secs_f64());
        bed
    })
}

/// Starts a bed for one test that would disturb others: one that restarts servers, say.
///
/// One at a time: each takes some 1.5 GB. The bed ends when the returned value is dropped.
pub(crate) async fn own_bed(options: BedOptions) -> Result<OwnBed> {
    let turn = turn().await;
    Ok(OwnBed { bed: start_bed(options).await?, _turn: turn })
}

/// Waits for the turn of a test that starts a bed of its own, or a program that does.
pub(crate) async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// Starts a bed without keeping the runtime from other things.
pub(crate) async fn start_bed(options: BedOptions) -> Result<Bed> {
    tokio::task::spawn_blocking(|| Bed::start(options)).await?
}

/// A bed of one test.
#[derive(Debug)]
pub(crate) struct OwnBed {
    bed: Bed,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for OwnBed {
    type Target = Bed;

    fn deref(&self) -> &Bed {
        &self.bed
    }
}

/// Ends the shared bed where it was started: statics are never dropped.
pub(crate) fn end_shared_bed() {
    if let Some(bed) = SHARED.get() {
        bed.end();
    }
}

/// Waits until `look` has something, and returns it; an error after the deadline says what it was.
///
/// Errors of `look` count as "not yet": the last one is in the error.
pub(crate) async fn eventually<T>(
    what: impl Display,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut last;
    loop {
        match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => last = None,
            Err(error) => last = Some(error),
        }
        if started.elapsed() > deadline {
            let waited = format!("waited {deadline:?} for {what}");
            return Err(match last {
                Some(error) => error.context(waited),
                None => anyhow::Error::msg(waited),
            });
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What a program that ended has said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Its stdout.
    pub(crate) stdout: String,
    /// Its stderr.
    pub(crate) stderr: String,
}

impl Ended {
    /// Returns the exit code; none when a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails unless the exit code is `code`; the error has all that was said.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "exit code\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}

/// One machine of an operator: an empty home directory and nothing in the environment but what the
/// shipped binary needs to reach a bed.
#[derive(Debug)]
pub(crate) struct Operator {
    home: TempDir,
    environment: Vec<(OsString, OsString)>,
}

impl Operator {
    /// Sets up an operator with an identity of the tool.
    pub(crate) fn new(bed: &Bed, tool: &Tool) -> Result<Self> {
        Self::with(bed, &tool.user, &tool.access_key)
    }

    /// Sets up an operator who is any user in the clusters, with any access key.
    pub(crate) fn with(bed: &Bed, user: &str, access_key: &str) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("sts-migrate-home-").tempdir().context("create a home directory")?;
        let mut operator = Operator { home, environment: Vec::new() };
        let path =
            env::join_paths(bed.kubectl().parent().into_iter().chain([Path::new("/usr/bin"), Path::new("/bin")]))?;
        operator.set("HOME", operator.home.path().to_owned());
        operator.set("PATH", path);
        operator.set("KUBECONFIG", bed.kubeconfig(user)?);
        operator.set("AWS_ENDPOINT_URL", bed.ec2_url());
        operator.set("AWS_ACCESS_KEY_ID", access_key);
        operator.set("AWS_SECRET_ACCESS_KEY", "never-verified");
        operator.set("AWS_REGION", "eu-west-1");
        // Nobody may wait for the metadata service of a machine that is none of EC2's.
        operator.set("AWS_EC2_METADATA_DISABLED", "true");
        Ok(operator)
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.unset(name);
        self.environment.push((name.into(), value.into()));
    }

    /// Removes a variable.
    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    /// Returns the home directory.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns a command of the shipped binary, without a terminal, in the home directory.
    pub(crate) fn command<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sts-migrate"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Returns the variables, for those who run the binary in another way, such as in a terminal.
    pub(crate) fn environment(&self) -> &[(OsString, OsString)] {
        &self.environment
    }

    /// Runs the shipped binary to its end.
    pub(crate) async fn run<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Result<Ended> {
        let command = self.command(arguments);
        let subcommand = command.get_args().next().unwrap_or_default().to_string_lossy().into_owned();
        let output = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output = output.await.context("run sts-migrate")?;
        if let Some(code) = output.status.code() {
            readme::may_end(&subcommand, code)?;
        }
        Ok(Ended {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// Starts a bed, prints its directory, and waits to be killed, when this process was started for that.
pub(crate) fn hold_a_bed_if_asked() {
    if env::args().nth(1).as_deref() != Some(HOLD) {
        return;
    }
    match Bed::start(BedOptions::default()) {
        Ok(bed) => {
            println!("{}", bed.directory().display());
            // The pipe of stdout is what the test reads up to the end of the line.
            let _ = std::io::stdout().flush();
            let mut ignored = Vec::new();
            let _ = std::io::stdin().read_to_end(&mut ignored);
            drop(bed);
            process::exit(0)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            process::exit(1)
        }
    }
}

/// Returns a command that starts a bed in a process of its own and holds it until stdin closes.
pub(crate) fn holder() -> Command {
    let mut command = Command::new(env::current_exe().expect("a running executable has a path"));
    command.arg(HOLD).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Ends a child however the test goes.
pub(crate) struct KillOnDrop(pub(crate) Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
