//! One file per subcommand, and what they share: where to connect, which migration is meant, how a
//! run ends. They parse, call and report; nothing here decides what is done to a cluster.

use crate::connect::install_tls_provider;
use crate::failure::{Exit, Failure};

pub(crate) mod completions;
mod endings;
pub(crate) mod finalize;
mod forward;
pub(crate) mod freeze;
mod leftover;
mod look;
pub(crate) mod man;
pub(crate) mod move_volume;
mod opened;
pub(crate) mod plan;
pub(crate) mod preflight;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod status;
mod stops;
pub(crate) mod swing;
mod target;
mod typed;

pub(crate) use typed::Typed;

/// How the program was called.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// What is typed to call it: `sts-migrate`, or `kubectl sts-migrate`.
    pub(crate) program: String,
    /// Whether log lines take the place of bars.
    pub(crate) is_verbose: bool,
}

/// Runs a subcommand that talks to clusters.
pub(crate) fn block_on(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    install_tls_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::harmless(Exit::Failed, format!("threads cannot be started: {error}"), "look at `ulimit -u`")
    })?;
    let result = runtime.block_on(work);
    // A question that nobody will answer any more must not hold up the end.
    runtime.shutdown_background();
    result
}
