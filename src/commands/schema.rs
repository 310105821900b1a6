//! `schema`: the JSON schema of the document, derived from the types that read it.

use crate::failure::{Exit, Failure};
use crate::report::put;
use crate::spec;

/// Print the JSON schema of the StatefulSetMigration document
///
/// For editors and checks before a commit; `-f` takes such documents and `status -o yaml` prints them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) fn run(_args: &Args) -> Result<Exit, Failure> {
    put(&format!("{:#}\n", spec::schema()))?;
    Ok(Exit::Done)
}
