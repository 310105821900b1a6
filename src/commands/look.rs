//! How `preflight` and `plan` begin: they look at a set or claim and its migration, and write nothing.

use super::opened::{Opened, open, spec};
use super::target::{Target, Which, find};
use super::{Context, Typed};
use crate::cli::{ChoiceArgs, Output, OutputArgs, SubjectArgs};
use crate::failure::Failure;
use crate::spec::Spec;
use crate::ui::{Consent, Ui};

/// What is looked at.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct LookArgs {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Name of a single claim, to be moved by `move-volume`, instead of a StatefulSet
    #[arg(
        long,
        value_name = "CLAIM",
        help_heading = "What and where",
        conflicts_with_all = ["name", "file", "order", "include_idle_claims", "leave_idle_claims"]
    )]
    claim: Option<String>,
    #[command(flatten)]
    choices: ChoiceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Connected, with the set or claim that is meant.
pub(super) struct Looking {
    pub(super) opened: Opened,
    pub(super) target: Target,
    pub(super) ui: Ui,
    /// Form of the data on stdout.
    pub(super) output: Output,
}

/// Connects, and finds what is meant.
///
/// # Errors
/// A cluster is not named or cannot be used; nothing says which set or claim is meant.
pub(super) async fn look(context: &Context, args: LookArgs) -> Result<Looking, Failure> {
    let LookArgs { subject, claim, choices, output } = args;
    let mut flags = Spec { claim: claim.clone(), ..Spec::default() };
    subject.fill(&mut flags);
    choices.fill(&mut flags);
    let typed = Typed::new(&context.program, &subject).with_claim(claim.as_deref()).with_choices(&choices);
    let mut ui = Ui::new(Consent::default(), context.is_verbose);
    let mut opened = open(typed, spec(&subject, &flags)?, None).await?;
    let target = find(&mut opened, &mut ui, Which::Open).await?;
    Ok(Looking { opened, target, ui, output: output.output })
}
