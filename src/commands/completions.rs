//! `completions`: generated from the command line itself.

use clap_complete::Shell;

use crate::failure::{Exit, Failure};
use crate::report::put;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
pub(crate) fn run(args: &Args, mut command: clap::Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "sts-migrate", &mut script);
    put(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
