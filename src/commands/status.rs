//! `status`: where a migration is, from the clusters alone.

use super::opened::{Opened, open, spec};
use super::target::{Target, Which, find, open_here};
use super::{Context, Typed};
use crate::cli::{ClaimArgs, OutputArgs, SubjectArgs};
use crate::failure::{Exit, Failure};
use crate::record::{Record, Subject};
use crate::report::{Phase, Status, left_in_source, left_needed, print, record_in_force, status_needed};
use crate::spec::Spec;
use crate::ui::{Consent, Ui};
use crate::world::{Kind, Side};

/// How often `--watch` looks again.
const WATCH_INTERVAL: std::time::Duration = std::time::Duration::from_secs(2);

/// Show where each pod and volume is, who is at work, what failed last, and what to type
///
/// Reads the two clusters and EC2 only, so it works on a machine that has never seen the migration.
/// Exits with 1 when there is no migration. With `-o yaml` it prints the StatefulSetMigration
/// document, which `-f` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    #[command(flatten)]
    claim: ClaimArgs,
    /// Look again every two seconds, until the migration has ended
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: Args) -> Result<Exit, Failure> {
    let mut flags = Spec { claim: args.claim.claim.clone(), ..Spec::default() };
    args.subject.fill(&mut flags);
    let spec = spec(&args.subject, &flags)?;
    let typed = Typed::new(&context.program, &args.subject).with_claim(args.claim.claim.as_deref());
    let mut ui = Ui::new(Consent::default(), context.is_verbose);
    let mut shown = None;
    loop {
        let mut opened = open(typed.clone(), spec.clone(), None).await?;
        let target = find(&mut opened, &mut ui, Which::Any).await.map_err(as_none)?;
        let status = look(&mut opened, &target).await?;
        ui.finish();
        let plan = target.plan.as_ref();
        let here = Side::BOTH.map(|side| (opened.reference(side), opened.cluster(side).namespace.as_str()));
        let document = status.document(target.subject, &target.name, here, plan);
        if shown.as_ref() != Some(&document) {
            print(args.output.output, &document, || status.text(target.subject, &target.name, plan))?;
            shown = Some(document);
        }
        if !args.watch || target.record.as_ref().is_some_and(|record| !record.is_open()) {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// Returns what stays in A of a set that has moved; the set itself is known from B only.
async fn left(opened: &mut Opened, name: &str) -> Vec<String> {
    opened.session.look(left_needed()).await;
    let world = &opened.session.world;
    world.object(Side::Destination, Kind::StatefulSet, name).map_or_else(Vec::new, |set| left_in_source(set, world))
}

/// Makes "nothing is open" the answer that `status` gives: exit 1.
fn as_none(mut failure: Failure) -> Failure {
    if failure.reason.starts_with("NAME is missing, and no migration") {
        failure.exit = Exit::Failed;
        failure.reason = failure.reason.replace("NAME is missing, and no migration is open", "there is no migration");
    }
    failure
}

async fn look(opened: &mut Opened, target: &Target) -> Result<Status, Failure> {
    opened.session.look(status_needed(target.plan.as_ref(), target.subject, &target.name)).await;
    let typed = opened.typed.clone();
    let world = &opened.session.world;
    let record: Option<Record> = record_in_force(world, target.subject, &target.name).or_else(|| target.record.clone());
    let mut status =
        Status::new(target.subject, &target.name, target.plan.as_ref(), record.as_ref(), world, |subcommand| {
            typed.command(subcommand)
        });
    if status.phase == Phase::Completed && target.subject == Subject::Set {
        status.left_in_source = left(opened, &target.name).await;
    }
    status.remarks.extend(target.unread.iter().cloned());
    if record.is_none() && target.plan.is_none() && status.locked_by.is_none() {
        let mut failure = Failure::harmless(
            Exit::Failed,
            format!(
                "there is no migration of {}{}",
                if target.subject == Subject::Claim { "claim " } else { "" },
                target.name
            ),
            format!("begin one: `{}`", opened.typed.beginning("run")),
        );
        failure.hints.extend(open_here(opened, &target.name).await);
        failure.details.clone_from(&target.unread);
        return Err(failure);
    }
    Ok(status)
}
