//! `plan`: what would be done, object by object.

use super::opened::{open, spec};
use super::target::{Which, find};
use super::{Context, Typed};
use crate::cli::{ChoiceArgs, OutputArgs, SubjectArgs};
use crate::failure::{Exit, Failure};
use crate::plan;
use crate::report::{PlanView, print};
use crate::spec::Spec;
use crate::translate;
use crate::ui::{Consent, Ui};

/// Show what would be done, object by object; write nothing
///
/// Of an open migration, the plan that is stored in the clusters is shown.
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
    let plan = if target.is_unfinished() {
        target.planned(&opened)?
    } else {
        let request = opened.request(target.subject, &target.name).await;
        opened.look_while(|world| plan::needed(&request, world)).await;
        plan::build(&request, target.attempts + 1, &opened.session.world).map_err(|error| {
            Failure::harmless(
                Exit::Findings,
                format!("no plan can be made: {error:#}"),
                format!("`{}` says what is in the way", opened.typed.beginning("preflight")),
            )
        })?
    };
    ui.finish();
    let view = PlanView::new(&plan, translate::remarks(&plan));
    print(args.output.output, &view, || view.text())?;
    Ok(Exit::Done)
}
