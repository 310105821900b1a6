//! `preflight`: checks only, writes nothing.

use super::opened::{open, spec};
use super::target::{Which, find};
use super::{Context, Typed};
use crate::checks;
use crate::cli::{ChoiceArgs, OutputArgs, SubjectArgs};
use crate::failure::{Exit, Failure};
use crate::report::{findings_text, print};
use crate::spec::Spec;
use crate::ui::{Consent, Ui};

/// Look for every reason why the move could stop half-way or do harm; write nothing
///
/// Every finding has a stable code, a subject, what is wrong and what to do about it. Exits with 3
/// when something blocks.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    #[command(flatten)]
    choices: ChoiceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: Args) -> Result<Exit, Failure> {
    let mut flags = Spec::default();
    args.subject.fill(&mut flags);
    args.choices.fill(&mut flags);
    let typed = Typed::new(&context.program, &args.subject).with_choices(&args.choices);
    let mut ui = Ui::new(Consent::default(), context.is_verbose);
    let mut opened = open(typed, spec(&args.subject, &flags)?, None).await?;
    let target = find(&mut opened, &mut ui, Which::OpenSet).await?;
    let request = opened.request(target.subject, &target.name).await;
    let findings = opened.preflight(&request).await;
    ui.finish();
    print(args.output.output, &findings, || findings_text(&findings, request.force))?;
    Ok(if checks::blocks(&findings, request.force) { Exit::Findings } else { Exit::Done })
}
