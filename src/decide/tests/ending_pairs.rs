//! Back, with a pair of A that somebody deletes: what is Terminating counts as missing (§6).

use serde_json::{Value, json};

use super::run::{Run, first_volume, set_policy, stop};
use crate::decide::{Condition, Done, Goal, Next, Step, Stop, Until};
use crate::fixtures;
use crate::world::{Kind, Side};

const CLAIM: &str = "data-web-0";

fn ends(object: &mut Value) {
    object["metadata"]["deletionTimestamp"] = json!("2025-01-02T03:04:05Z");
}

/// Returns the way back from B, with a PersistentVolume, a claim, or both of A Terminating.
fn back_while_ending(plan: crate::plan::Plan, goal: Goal, kinds: &[Kind]) -> Run {
    let mut run = Run::new(plan, goal);
    run.end();
    let volume = run.simulation.plan.volumes().last().expect("a volume").clone();
    for kind in kinds {
        let name = if *kind == Kind::PersistentVolume { &volume.source_volume_name } else { &volume.claim };
        run.simulation.edit(Side::Source, *kind, name, ends);
    }
    run.goal = Goal::back();
    run
}

#[test]
fn an_ending_pair_is_awaited_and_made_again() {
    let (volume, claim) = (Kind::PersistentVolume, Kind::PersistentVolumeClaim);
    for (kinds, deletes) in [(&[volume][..], 1), (&[claim], 1), (&[volume, claim], 0)] {
        let mut run = back_while_ending(fixtures::plan(1, 1), Goal::forward(Until::Swing), kinds);
        let (name, id) = first_volume(&run.simulation.plan);
        let before = [(volume, name.as_str()), (claim, CLAIM)]
            .map(|(kind, name)| run.simulation.get(Side::Source, kind, name).expect("it is ending").uid().to_owned());
        assert_eq!(run.end(), Next::Done(Done::RolledBack), "{kinds:?}");
        assert_eq!(run.simulation.violation, None, "{kinds:?}");
        let deleted = run.steps.iter().filter(|step| **step == Step::DeleteBrokenClaim).count();
        assert_eq!(deleted, deletes, "what ends already is not deleted again: {kinds:?}");
        for ((kind, name), uid) in [(volume, name.as_str()), (claim, CLAIM)].into_iter().zip(before) {
            let now = run.simulation.get(Side::Source, kind, name).expect("it was made again");
            assert!(now.uid() != uid && !now.is_terminating(), "{kind} {kinds:?}");
        }
        let found = run.simulation.get(Side::Source, volume, &name).expect("it was made again");
        assert!(found.is_bound_to(&run.simulation.get(Side::Source, claim, CLAIM).expect("it was made again")));
        assert_eq!(found.volume_id(), Some(id));
        assert_eq!(run.policy(Side::Source).as_deref(), Some("Delete"), "{kinds:?}");
        let position = |step| run.steps.iter().position(|it| *it == step);
        assert!(position(Step::RecreateVolume) < position(Step::RecreateClaim));
        assert!(position(Step::RecreateClaim) < position(Step::RecreateSet), "{:?}", run.steps);
    }
}

#[test]
fn an_ending_pair_that_would_take_its_volume_along_stops_while_the_destination_holds_it() {
    for kinds in [&[Kind::PersistentVolume][..], &[Kind::PersistentVolumeClaim]] {
        let mut run = back_while_ending(fixtures::plan(1, 1), Goal::forward(Until::Swing), kinds);
        let (name, _) = first_volume(&run.simulation.plan);
        run.simulation.edit(Side::Source, Kind::PersistentVolume, &name, set_policy("Delete"));
        let before = run.steps.len();
        let next = run.until(|next| matches!(next, Next::Stop(_)));
        assert!(matches!(stop(next), Stop::NotRetained { side: Side::Source, .. }), "{kinds:?}");
        let done: Vec<Step> = run.steps[before..].iter().filter(|step| **step != Step::WriteRecord).copied().collect();
        assert_eq!(done, [], "B holds the volume still: {kinds:?}");
        assert_eq!(run.simulation.violation, None, "{kinds:?}");
    }
}

/// A claim in use does not go (`kubernetes.io/pvc-protection`): its pod is named, and nothing of the
/// pair is deleted under it.
#[test]
fn an_ending_pair_under_a_pod_that_runs_waits_for_the_pod() {
    for kinds in [&[Kind::PersistentVolume][..], &[Kind::PersistentVolumeClaim]] {
        let canary = Goal { pause_after: Some(0), ..Goal::forward(Until::Swing) };
        let mut run = back_while_ending(fixtures::plan(2, 1), canary, kinds);
        let next = run.end();
        let on = Condition::ClaimUnused { side: Side::Source, claim: "data-web-1".into(), pod: "web-1".into() };
        assert!(matches!(&next, Next::Wait(wait) if wait.on == on), "{kinds:?}: {next:?}");
        assert!(!run.steps.contains(&Step::DeleteBrokenClaim), "{kinds:?}");
        run.simulation.edit(Side::Source, Kind::Pod, "web-1", ends);
        assert_eq!(run.end(), Next::Done(Done::RolledBack), "{kinds:?}");
        assert_eq!(run.simulation.violation, None, "{kinds:?}");
    }
}
