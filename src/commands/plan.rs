//! `plan`: what would be done, object by object.

use super::Context;
use super::look::{LookArgs, Looking, look};
use crate::failure::{Exit, Failure};
use crate::report::{PlanView, print};
use crate::translate;

/// Show what would be done, object by object; write nothing
///
/// Of an open migration, the plan that is stored in the clusters is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    look: LookArgs,
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: Args) -> Result<Exit, Failure> {
    let Looking { mut opened, target, mut ui, output } = look(&context, args.look).await?;
    let plan = if target.is_unfinished() {
        target.planned(&opened)?
    } else {
        let request = opened.request(target.subject, &target.name).await;
        opened.build(&request, target.attempts + 1).await?
    };
    ui.finish();
    let view = PlanView::new(&plan, translate::remarks(&plan));
    print(output, &view, || view.text())?;
    Ok(Exit::Done)
}
