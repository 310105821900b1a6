//! Somebody tidies up behind the move, or puts back what the charts say, while it is not over.

use serde_json::json;

use super::run::{Run, first_volume, set_policy, stop};
use crate::decide::{Done, Goal, Next, Step, Stop, Until};
use crate::fixtures;
use crate::world::{Kind, Side};

/// Removes the pair of an ordinal in A, or a part of it.
fn remove(run: &mut Run, ordinal: usize, kinds: &[Kind]) {
    let volume = run.simulation.plan.sets[0].ordinals[ordinal].volumes[0].clone();
    for kind in kinds {
        let name = match kind {
            Kind::PersistentVolume => &volume.source_volume_name,
            _ => &volume.claim,
        };
        run.simulation.remove(Side::Source, *kind, name);
    }
}

const PARTS: [&[Kind]; 3] =
    [&[Kind::PersistentVolumeClaim], &[Kind::PersistentVolume], &[Kind::PersistentVolumeClaim, Kind::PersistentVolume]];

#[test]
fn a_pair_of_a_that_has_moved_may_be_gone_going_forward() {
    for kinds in PARTS {
        let canary = Goal { pause_after: Some(0), ..Goal::forward(Until::Swing) };
        let mut run = Run::new(fixtures::plan(2, 1), canary);
        assert_eq!(run.end(), Next::Done(Done::PausedAfter(0)));
        remove(&mut run, 0, kinds);
        run.goal = Goal::forward(Until::Finalize);
        assert_eq!(run.end(), Next::Done(Done::Completed), "{kinds:?}");
        assert_eq!(run.simulation.violation, None, "{kinds:?}");
    }
}

#[test]
fn a_pair_of_a_that_has_not_moved_may_not() {
    for kinds in PARTS {
        let canary = Goal { pause_after: Some(0), ..Goal::forward(Until::Swing) };
        let mut run = Run::new(fixtures::plan(2, 1), canary);
        run.end();
        remove(&mut run, 1, kinds);
        run.goal = Goal::forward(Until::Finalize);
        let before = run.steps.len();
        let stop = stop(run.end());
        assert!(matches!(stop, Stop::Missing { side: Side::Source, .. }), "{kinds:?}: {stop}");
        assert!(!run.steps[before..].contains(&Step::DeletePod), "{kinds:?}: {:?}", run.steps);
    }
}

/// As soon as B lets go of it, A would delete the volume.
#[test]
fn a_moved_volume_of_a_whose_claim_is_gone_must_be_retained() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.end();
    remove(&mut run, 0, &[Kind::PersistentVolumeClaim]);
    let (name, _) = first_volume(&run.simulation.plan);
    run.simulation.edit(Side::Source, Kind::PersistentVolume, &name, set_policy("Delete"));
    run.goal = Goal::forward(Until::Finalize);
    assert!(matches!(stop(run.end()), Stop::NotRetained { side: Side::Source, .. }));
}

/// Its chart said `whenDeleted: Delete` again, and its pods are not Ready: the controller does not get so far
/// as to let go of the claims (GC-5).
#[test]
fn claims_that_b_s_set_owns_keep_nobody_from_going_back() {
    let mut run = Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing));
    run.end();
    let set = run.simulation.get(Side::Destination, Kind::StatefulSet, fixtures::SET).expect("it is there");
    let owner = json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": set.name(), "uid": set.uid() }]);
    run.simulation.edit(Side::Destination, Kind::PersistentVolumeClaim, "data-web-0", |claim| {
        claim["metadata"]["ownerReferences"] = owner;
    });
    run.goal = Goal::back();
    assert_eq!(run.end(), Next::Done(Done::RolledBack));
    assert_eq!(run.simulation.violation, None);
}
