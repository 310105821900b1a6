//! `status`: where a migration is, from the clusters alone.

use serde_json::Value;

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
/// document of a set, which `-f` takes.
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
    let mut spec = spec(&args.subject, &flags)?;
    let typed = Typed::new(&context.program, &args.subject).with_claim(args.claim.claim.as_deref());
    let mut ui = Ui::new(Consent::default(), context.is_verbose);
    let mut shown = None;
    let mut trouble = None;
    loop {
        match seen(&typed, &spec, &mut ui).await {
            Ok(seen) => {
                // After trouble the same is said again: it is known again.
                if trouble.take().is_some() || shown.as_ref() != Some(&seen.document) {
                    print(args.output.output, &seen.document, || seen.text)?;
                }
                shown = Some(seen.document);
                // What is watched stays the same, whatever else begins or ends meanwhile.
                match seen.subject {
                    Subject::Claim => spec.claim = Some(seen.name),
                    Subject::Set => spec.stateful_set_name = Some(seen.name),
                }
                if !args.watch || seen.has_ended {
                    return Ok(Exit::Done);
                }
            }
            // Somebody who watches a night's work is not sent home by an API server that restarts.
            Err(failure) if args.watch && shown.is_some() && failure.exit == Exit::Failed => {
                let words = [std::slice::from_ref(&failure.reason), &failure.details].concat().join("\n  ");
                if trouble.as_ref() != Some(&words) {
                    ui.say(&format!("{words}\n  looking again every {} seconds", WATCH_INTERVAL.as_secs()));
                }
                trouble = Some(words);
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// What one look showed.
struct Seen {
    subject: Subject,
    name: String,
    document: Value,
    text: String,
    /// Whether it surely is over.
    has_ended: bool,
}

async fn seen(typed: &Typed, spec: &Spec, ui: &mut Ui) -> Result<Seen, Failure> {
    let mut opened = open(typed.clone(), spec.clone(), None).await?;
    let target = find(&mut opened, ui, Which::Any).await?;
    let status = look(&mut opened, &target).await?;
    ui.finish();
    let plan = target.plan.as_ref();
    let here = Side::BOTH.map(|side| (opened.reference(side), opened.cluster(side).namespace.as_str()));
    Ok(Seen {
        subject: target.subject,
        name: target.name.clone(),
        document: status.document(target.subject, &target.name, here, plan),
        text: status.text(target.subject, &target.name, plan),
        has_ended: target.unread.is_empty() && target.record.as_ref().is_some_and(|record| !record.is_open()),
    })
}

/// Returns what stays in A of a set that has moved; the set itself is known from B only.
async fn left(opened: &mut Opened, name: &str) -> Vec<String> {
    opened.session.look(left_needed()).await;
    let world = &opened.session.world;
    world.object(Side::Destination, Kind::StatefulSet, name).map_or_else(Vec::new, |set| left_in_source(set, world))
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
        target.is_certain()?;
        let mut failure = Failure::harmless(
            Exit::Failed,
            format!(
                "there is no migration of {}{}",
                if target.subject == Subject::Claim { "claim " } else { "" },
                target.name
            ),
            format!("begin one: `{}`", opened.typed.beginning("run")),
        );
        failure.hints.extend(open_here(opened, target.subject, &target.name).await);
        return Err(failure);
    }
    Ok(status)
}
