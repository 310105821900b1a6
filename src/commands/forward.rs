//! The way of `run`, `freeze`, `swing` and `finalize`: find the migration or begin one, then drive.

use std::time::{Duration, Instant};

use super::endings::conclude;
use super::leftover;
use super::opened::{Opened, open, spec};
use super::target::{Target, Which, find, open_here};
use super::{Context, Typed};
use crate::checks::{self, Finding, Level, order};
use crate::cli::{RunArgs, SubjectArgs};
use crate::decide::{Goal, Until};
use crate::drive::{CommandLines, Options, Signals, Timeouts, drive};
use crate::failure::{Exit, Failure};
use crate::plan::{Order, Plan, Request};
use crate::record::{Direction, Outcome, Subject};
use crate::report::{findings_text, headline, reached, status_needed};
use crate::spec::Spec;
use crate::translate;
use crate::ui::{Consent, Ui};
use crate::world::{Answer, Kind, Read, Side};

/// How often to look whether a claim is still used. Whoever starts a pod does not hurry either.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// One forward command.
pub(super) struct Forward {
    /// Its name, for hints.
    pub(super) subcommand: &'static str,
    /// How far it goes.
    pub(super) until: Until,
    /// The phase that must be complete before its turn.
    pub(super) after: Option<Until>,
    /// Whether `--yes` answers the question before deleting too.
    pub(super) covers_deleting: bool,
    /// How long to wait for a claim that is in use; none refuses it.
    pub(super) wait: Option<Duration>,
}

/// Runs a forward command.
///
/// # Errors
/// It did not reach its goal.
pub(super) async fn run(
    context: Context,
    typed: Typed,
    subject: &SubjectArgs,
    flags: &Spec,
    run: &RunArgs,
    forward: &Forward,
) -> Result<Exit, Failure> {
    let spec = spec(subject, flags)?;
    let consent = Consent { is_general: run.volumes.yes, covers_deleting: run.volumes.yes && forward.covers_deleting };
    let mut ui = Ui::new(consent, context.is_verbose);
    can_ask_or_may(&ui, run.volumes.yes, &typed.beginning(forward.subcommand))?;
    // Before the first request: a cluster may be slow to answer.
    ui.say("looking for the migration in both clusters");
    let mut signals = listen()?;
    let mut interrupted = signals.clone();
    let ready = async {
        let mut opened = open(typed, spec, run.volumes.events.as_deref()).await?;
        // Only `finalize` is for sets and claims alike; where a claim is named, nothing is chosen.
        let which = if forward.subcommand == "finalize" { Which::Open } else { Which::OpenSet };
        let target = find(&mut opened, &mut ui, which).await?;
        let begun = begin(&mut opened, &target, &mut ui, &mut signals, forward).await?;
        Ok::<_, Failure>((opened, begun))
    };
    let (mut opened, begun) = tokio::select! {
        ready = ready => ready?,
        signal = interrupted.caught() => return Err(stopped_early(signal)),
    };
    let plan = match begun {
        Begun::Plan(plan) => *plan,
        Begun::Finished(words) => {
            ui.say(&words);
            return Ok(Exit::Done);
        }
    };
    let mut goal = opened.spec.goal(Direction::Forward, forward.until);
    if forward.after >= Some(Until::Swing) {
        // A document may say how the swing shall go: that is over.
        goal.pause_after = None;
    }
    can_pause(&plan, &goal)?;
    for line in headline(&plan) {
        ui.say(&line);
    }
    ui.follow(&plan);
    let ended = drive_to(&mut opened, &plan, &goal, &mut signals, &mut ui).await?;
    conclude(&mut opened, &plan, forward.subcommand, ended, &mut ui).await
}

/// Refuses a canary that this plan cannot have: it would be passed without a pause, and without a word.
fn can_pause(plan: &Plan, goal: &Goal) -> Result<(), Failure> {
    let (Some(pause), Some(set)) = (goal.pause_after, plan.sets.first()) else { return Ok(()) };
    let (Some(first), Some(last)) = (set.ordinals.first(), set.ordinals.last()) else {
        return Err(Failure::usage(
            format!("--pause-after {pause}: {} has no replicas", set.name),
            "leave --pause-after out",
        ));
    };
    let (first, last) = (first.ordinal, last.ordinal);
    if !(first..=last).contains(&pause) {
        return Err(Failure::usage(
            format!("--pause-after {pause}: there is no such ordinal, those of {} are {first} to {last}", set.name),
            format!("give one of them, such as `--pause-after {first}`"),
        ));
    }
    if plan.choices.order == Order::Together && pause != last {
        return Err(Failure::usage(
            format!("--pause-after {pause}: all pods move together, there is no pause between them"),
            format!("leave it out; `--pause-after {last}` pauses when all run in the destination"),
        ));
    }
    Ok(())
}

/// Drives with the time-outs and commands of this run.
///
/// # Errors
/// It is not known in which region the volumes are, or a node that is said to be off is none; nothing was
/// written.
pub(super) async fn drive_to(
    opened: &mut Opened,
    plan: &Plan,
    goal: &Goal,
    signals: &mut Signals,
    ui: &mut Ui,
) -> Result<crate::drive::Ended, Failure> {
    opened.can_find(plan).await?;
    let leaving = match goal.direction {
        Direction::Forward => Side::Source,
        Direction::Back => Side::Destination,
    };
    opened.has_nodes(leaving, &goal.accept_unclean_detach).await?;
    let spec = &opened.spec;
    let options = Options {
        timeouts: Timeouts {
            detach: spec.detach_timeout(),
            ready: spec.ready_timeout(),
            command: spec.command_timeout(),
        },
        commands: CommandLines {
            before_pod: spec.before_pod_command.clone(),
            verify: spec.verify_command.clone(),
            cutover: spec.cutover_command.clone(),
        },
    };
    Ok(drive(&mut opened.session, plan, goal, &options, signals, ui).await)
}

/// Refuses when there is nobody to ask and no consent.
pub(super) fn can_ask_or_may(ui: &Ui, yes: bool, command: &str) -> Result<(), Failure> {
    if yes || ui.can_ask() {
        return Ok(());
    }
    Err(Failure::usage(
        "there is no terminal to ask on, and --yes was not given",
        format!("say yes beforehand: `{command} --yes`"),
    ))
}

/// Begins to listen for signals.
pub(super) fn listen() -> Result<Signals, Failure> {
    Signals::listen().map_err(|error| {
        Failure::harmless(Exit::Failed, format!("signals cannot be caught: {error}"), "run the same command again")
    })
}

/// Returns the failure of a run that was interrupted before its first write.
pub(super) fn stopped_early(signal: &str) -> Failure {
    Failure::harmless(Exit::Interrupted, format!("stopped by {signal}"), "run the same command again to go on")
}

/// What a forward command has to do.
enum Begun {
    /// Drive this plan.
    Plan(Box<Plan>),
    /// Nothing, with the reason.
    Finished(String),
}

async fn begin(
    opened: &mut Opened,
    target: &Target,
    ui: &mut Ui,
    signals: &mut Signals,
    forward: &Forward,
) -> Result<Begun, Failure> {
    if let Some(record) = &target.record {
        match record.outcome {
            Some(Outcome::RolledBack) if target.plan.is_some() => {
                // A rollback whose ending was interrupted: it is finished first.
                let plan = target.planned(opened)?;
                let ended = drive_to(opened, &plan, &Goal::back(), signals, ui).await?;
                conclude(opened, &plan, "rollback", ended, ui).await?;
            }
            Some(Outcome::Completed) if target.plan.is_none() && is_gone(opened, target).await => {
                leftover::clear(opened, target, ui).await;
                return Ok(Begun::Finished(format!(
                    "{} {} was moved already; nothing is left to do",
                    target.subject, target.name
                )));
            }
            None if record.direction == Direction::Back => {
                return Err(Failure::harmless(
                    Exit::Refused,
                    format!("the migration of {} is being rolled back", target.name),
                    format!("finish it first: {}", opened.typed.hint("rollback")),
                ));
            }
            Some(_) | None => {}
        }
    }
    if target.is_unfinished() && target.outcome() != Some(Outcome::RolledBack) {
        let plan = target.planned(opened)?;
        same_choices(&opened.spec, &plan, &opened.typed)?;
        in_turn(opened, target, &plan, forward).await?;
        return Ok(Begun::Plan(Box::new(plan)));
    }
    if forward.after.is_some() {
        target.is_certain()?;
        let mut failure = Failure::harmless(
            Exit::Refused,
            format!("no migration of {} is open, so it is not the turn of {}", target.name, forward.subcommand),
            match target.subject {
                Subject::Claim => format!("begin with `{}`", opened.typed.beginning("run")),
                Subject::Set => format!(
                    "begin with `{}`, or all in one: `{}`",
                    opened.typed.beginning("freeze"),
                    opened.typed.beginning("run")
                ),
            },
        );
        failure.hints.extend(open_here(opened, target.subject, &target.name).await);
        return Err(failure);
    }
    new(opened, target, forward, ui).await.map(|plan| Begun::Plan(Box::new(plan)))
}

/// Returns whether A surely has no set or claim of that name.
async fn is_gone(opened: &mut Opened, target: &Target) -> bool {
    let kind = target.subject.kind();
    opened.session.look([Read::Get(Side::Source, kind, target.name.clone())]).await;
    matches!(opened.session.world.get(Side::Source, kind, &target.name), Answer::Absent { .. })
}

/// Refuses a run that asks for something else than the first one did.
pub(super) fn same_choices(spec: &Spec, plan: &Plan, typed: &Typed) -> Result<(), Failure> {
    let differences = spec.differences(plan);
    if differences.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::usage(
        format!("an open migration ({}) was begun with other choices", plan.id),
        "leave these flags out to go on as it began",
    )
    .hint(format!("to choose anew, go back first: {}", typed.clone().without_destination_namespace().hint("rollback")));
    failure.details = differences.iter().map(ToString::to_string).collect();
    failure.left_behind = vec!["everything as the last run left it: this one changed nothing".to_owned()];
    Err(failure)
}

/// Refuses a command whose turn has not come.
async fn in_turn(opened: &mut Opened, target: &Target, plan: &Plan, forward: &Forward) -> Result<(), Failure> {
    let Some(after) = forward.after else {
        return Ok(());
    };
    opened.session.look(status_needed(Some(plan), target.subject, &target.name)).await;
    let reached = target.record.as_ref().and_then(|record| reached(Some(plan), record, &opened.session.world));
    if reached >= Some(after) {
        return Ok(());
    }
    let first = match reached {
        _ if target.subject == Subject::Claim => "run",
        None | Some(Until::Prepare) => "freeze",
        _ => "swing",
    };
    let is_at =
        reached.map_or("prepare is not complete".to_owned(), |phase| format!("the last complete phase is {phase}"));
    let mut failure = Failure::harmless(
        Exit::Refused,
        format!("it is not the turn of {}: {is_at}", forward.subcommand),
        match first {
            "run" => format!("first {}", opened.typed.hint(first)),
            first => format!("first {}, or all in one: {}", opened.typed.hint(first), opened.typed.hint("run")),
        },
    );
    failure.left_behind = vec!["everything as the last run left it: this one changed nothing".to_owned()];
    Err(failure)
}

/// Begins a migration: preflight, the order, the plan. Nothing is written yet.
async fn new(opened: &mut Opened, target: &Target, forward: &Forward, ui: &mut Ui) -> Result<Plan, Failure> {
    ui.say("preflight: looking at both clusters and EC2");
    let mut request = opened.request(target.subject, &target.name).await;
    let mut findings = opened.preflight(&request).await?;
    if let Some(limit) = forward.wait
        && unused(opened, &request, &findings, limit, ui).await
    {
        ui.say("preflight: looking again, now that nothing uses the claim");
        opened.forget();
        findings = opened.preflight(&request).await?;
    }
    if request.order.is_none() && findings.iter().any(is_order) {
        let others: Vec<Finding> = findings.iter().filter(|finding| !is_order(finding)).cloned().collect();
        if checks::blocks(&others, request.force) {
            return Err(blocked(opened, &findings, request.force));
        }
        request.order = Some(choose_order(opened, &request, forward.subcommand, ui).await?);
        findings = opened.preflight(&request).await?;
    }
    for line in findings_text(&findings, request.force).lines() {
        ui.say(line);
    }
    if checks::blocks(&findings, request.force) {
        let mut failure = blocked(opened, &[], request.force).refusing_if(findings.iter().any(is_taken));
        if findings.iter().any(|finding| finding.code == "PF-7") {
            // After its freeze a set is not in A any more: no name there is like it.
            failure.hints.extend(open_here(opened, target.subject, &target.name).await);
        }
        return Err(failure);
    }
    target.is_certain()?;
    ui.tell_before_freeze(
        findings
            .iter()
            .filter(|finding| tells_of_freeze(finding))
            .map(|finding| format!("{}: {}", finding.subject, finding.what)),
    );
    let plan = opened.build(&request, target.attempts + 1).await?;
    for remark in translate::remarks(&plan) {
        ui.say(&format!("note: {remark}"));
    }
    Ok(plan)
}

/// Waits until nothing uses a claim; returns whether there was something to wait for.
///
/// Nothing is waited for while something else blocks: that would be said hours later.
async fn unused(opened: &mut Opened, request: &Request, findings: &[Finding], limit: Duration, ui: &mut Ui) -> bool {
    let (mut in_use, others): (Vec<Finding>, Vec<Finding>) = findings.iter().cloned().partition(checks::is_in_use);
    if in_use.is_empty() || checks::blocks(&others, request.force) {
        return false;
    }
    let begun = Instant::now();
    while let Some(finding) = in_use.first() {
        let left = limit.saturating_sub(begun.elapsed());
        ui.say(&format!("wait until the claim is not used: {}: {}", finding.subject, finding.what));
        if left.is_zero() {
            break;
        }
        tokio::time::sleep(left.min(LOOK_AGAIN)).await;
        opened.session.look(checks::reads_in_use(request, &opened.session.world)).await;
        in_use = checks::in_use(request, &opened.session.world);
    }
    true
}

/// Returns whether a finding is the question for the order.
fn is_order(finding: &Finding) -> bool {
    finding.code == "PF-34" && finding.level == Level::Blocks
}

/// Returns whether a finding says that another migration or run is at work.
fn is_taken(finding: &Finding) -> bool {
    finding.code == "PF-4" && finding.level == Level::Blocks
}

/// Returns whether a finding belongs to the question before the freeze: budgets and siblings.
fn tells_of_freeze(finding: &Finding) -> bool {
    finding.code == "PF-34" && finding.level != Level::Blocks
}

async fn choose_order(opened: &Opened, request: &Request, subcommand: &str, ui: &mut Ui) -> Result<Order, Failure> {
    let world = &opened.session.world;
    let replicas =
        world.object(Side::Source, Kind::StatefulSet, &request.name).map_or(0, crate::world::Object::replicas);
    let chosen = if ui.can_ask() { ui.choose_order(replicas, &order::evidence(request, world)).await } else { None };
    let with = |order| opened.typed.consenting(format!("{} --order {order}", opened.typed.beginning(subcommand)));
    chosen.ok_or_else(|| {
        Failure::usage(
            format!("{} has {replicas} replicas, and nobody chose the order in which they move", request.name),
            format!("`{}`: least is down at a time", with(Order::OneByOne)),
        )
        .hint(format!("`{}`: for members that need each other", with(Order::Together)))
    })
}

fn blocked(opened: &Opened, findings: &[Finding], force: bool) -> Failure {
    let mut failure = Failure::harmless(
        Exit::Findings,
        "preflight found something that blocks",
        format!("do what the findings say, then look again: `{}`", opened.typed.beginning("preflight")),
    );
    if !findings.is_empty() {
        failure.details = findings_text(findings, force).lines().map(str::to_owned).collect();
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_canary_that_the_plan_cannot_have_is_refused() {
        let refused = |order, start, replicas, pause| {
            let mut plan = fixtures::plan_from(start, replicas, 1);
            plan.choices.order = order;
            let goal = Goal { pause_after: Some(pause), ..Goal::forward(Until::Cutover) };
            can_pause(&plan, &goal).err().map(|failure| (failure.exit, failure.reason))
        };
        for (order, start, replicas, pause) in
            [(Order::OneByOne, 0, 3, 0), (Order::OneByOne, 3, 2, 4), (Order::Together, 0, 3, 2)]
        {
            assert_eq!(refused(order, start, replicas, pause), None, "{order} {start} {replicas} {pause}");
        }
        for (order, start, replicas, pause, why) in [
            (Order::OneByOne, 3, 2, 0, "those of web are 3 to 4"),
            (Order::OneByOne, 0, 3, 3, "those of web are 0 to 2"),
            (Order::Together, 0, 3, 0, "there is no pause between them"),
            (Order::OneByOne, 0, 0, 0, "web has no replicas"),
        ] {
            let (exit, reason) = refused(order, start, replicas, pause).expect(why);
            assert!(exit == Exit::Usage && reason.contains(why), "{reason}");
        }
    }
}
