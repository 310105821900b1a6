//! A node that fell silent: what `--accept-unclean-detach` waives of the gate, and what it does not.

use serde_json::json;

use super::run::{Run, first_volume};
use super::simulation::Place;
use crate::decide::{Condition, Goal, Next, Step, Until};
use crate::fixtures;
use crate::world::{Kind, Side};

fn in_use(run: &Run) -> String {
    format!("kubernetes.io/csi/ebs.csi.aws.com^{}", first_volume(&run.simulation.plan).1)
}

/// Returns a run at the gate of a side: the node is off, Kubernetes has removed the pod and the
/// VolumeAttachment, EC2 has detached, and the node's last report stays.
fn node_is_off(side: Side) -> Run {
    let mut run = Run::new(fixtures::plan(2, 1), Goal { pause_after: Some(0), ..Goal::forward(Until::Swing) });
    if side == Side::Destination {
        run.end();
        run.goal = Goal::back();
    }
    run.until(|next| matches!(next, Next::Wait(wait) if matches!(wait.on, Condition::PodGone { .. })));
    let (node, report) = (fixtures::node_name(side, 0), in_use(&run));
    run.simulation.edit(side, Kind::Node, &node, |node| {
        node["status"]["conditions"] = json!([{ "type": "Ready", "status": "Unknown" }]);
        node["status"]["volumesInUse"] = json!([report]);
    });
    run.simulation.remove(side, Kind::Pod, "web-0");
    let volume = run.simulation.plan.sets[0].ordinals[0].volumes[0].clone();
    run.simulation.remove(side, Kind::VolumeAttachment, &format!("csi-{}", volume.volume_name(side)));
    run.simulation.volumes.insert(volume.volume, Place::Available);
    run
}

fn accepting(mut run: Run, node: &str) -> Run {
    run.goal.accept_unclean_detach = vec![node.to_owned()];
    run
}

fn waits_for(run: &Run) -> Condition {
    match run.next() {
        Next::Wait(wait) => wait.on,
        other => panic!("no wait but {other:?}"),
    }
}

#[test]
fn its_last_report_counts_until_it_is_said_to_be_off() {
    for (side, goes_on) in [(Side::Source, Step::Grow), (Side::Destination, Step::DeleteOurs)] {
        let node = fixtures::node_name(side, 0);
        let volume = first_volume(&node_is_off(side).simulation.plan).1.to_string();
        let reported = Condition::NotInUse { side, node: node.clone(), node_ready: false, volume };
        assert_eq!(waits_for(&node_is_off(side)), reported);
        let other = accepting(node_is_off(side), &fixtures::node_name(side, 1));
        assert_eq!(waits_for(&other), reported, "another node was meant");
        let run = accepting(node_is_off(side), &node);
        let Next::Act { actions, .. } = run.next() else { panic!("no act but {:?}", run.next()) };
        assert_eq!(actions[0].step, goes_on, "{side}");
    }
}

#[test]
fn nothing_but_its_report_is_waived() {
    let side = Side::Source;
    let node = fixtures::node_name(side, 0);
    let off = || accepting(node_is_off(side), &node);
    let (volume_name, volume) = first_volume(&off().simulation.plan);

    let mut run = accepting(Run::new(fixtures::plan(1, 1), Goal::forward(Until::Swing)), &node);
    let next = run.until(|next| matches!(next, Next::Wait(wait) if matches!(wait.on, Condition::PodGone { .. })));
    assert!(matches!(next, Next::Wait(_)), "(1) the pod is there: {next:?}");

    let mut run = off();
    let stray = json!({
        "metadata": { "name": "debug" },
        "spec": { "volumes": [{ "persistentVolumeClaim": { "claimName": "data-web-0" } }] },
        "status": { "phase": "Running" },
    });
    run.simulation.put(side, Kind::Pod, stray);
    assert!(matches!(waits_for(&run), Condition::ClaimUnused { pod, .. } if pod == "debug"), "(2)");

    let mut run = off();
    run.simulation.edit(side, Kind::Node, &node, |node| {
        node["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
    });
    let on = waits_for(&run);
    assert!(matches!(on, Condition::NotInUse { node_ready: true, .. }), "(3) of a node that is back: {on:?}");

    let mut run = off();
    let (second, report) = (fixtures::node_name(side, 1), in_use(&run));
    run.simulation.edit(side, Kind::Node, &second, |node| node["status"]["volumesInUse"] = json!([report]));
    assert!(matches!(waits_for(&run), Condition::NotInUse { node, .. } if node == second), "(3) of another node");

    let mut run = off();
    let attachment = json!({
        "metadata": { "name": "csi-late" },
        "spec": { "nodeName": node, "source": { "persistentVolumeName": volume_name } },
    });
    run.simulation.put(side, Kind::VolumeAttachment, attachment);
    assert!(matches!(waits_for(&run), Condition::Detached { attachment, .. } if attachment == "csi-late"), "(4)");

    let mut run = off();
    run.simulation.volumes.insert(volume, Place::Detaching(side));
    assert!(matches!(waits_for(&run), Condition::Free { .. }), "(5)");
}
