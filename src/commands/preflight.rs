//! `preflight`: checks only, writes nothing.

use super::Context;
use super::look::{LookArgs, Looking, look};
use crate::checks;
use crate::failure::{Exit, Failure};
use crate::report::{findings_text, print};

/// Look for every reason why the move could stop half-way or do harm; write nothing
///
/// Every finding has a stable code, a subject, what is wrong and what to do about it. Exits with 3
/// when something blocks.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    look: LookArgs,
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: Args) -> Result<Exit, Failure> {
    let Looking { mut opened, target, mut ui, output } = look(&context, args.look).await?;
    let request = opened.request(target.subject, &target.name).await;
    let findings = opened.preflight(&request).await?;
    ui.finish();
    print(output, &findings, || findings_text(&findings, request.force))?;
    Ok(if checks::blocks(&findings, request.force) { Exit::Findings } else { Exit::Done })
}
