//! Mounts, histories, and machines that die.

use super::{FIRST, SECOND, SOON, Stand, attach, code, delete, describe, detach, entry};
use crate::ec2::{InstanceState, Knobs, VolumePatch, VolumeState};
use crate::facts::HistoryKind;

#[tokio::test]
async fn a_mount_needs_the_attachment_and_finds_what_was_there() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = stand.volume().await.volume;
    stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap_err();
    let slow = Knobs { volume: Some(id.clone()), attach_ms: Some([1000, 1000]), ..Knobs::default() };
    stand.control.knobs(&slow).await.unwrap();
    attach(&admin, &id, FIRST, "/dev/xvdaa").await.unwrap();
    stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap_err();
    stand.control.await_volume(&id, SOON, |volume| volume.attachments[0].state.as_str() == "attached").await.unwrap();
    stand.ec2.mount(&id, SECOND, entry("web-0")).unwrap_err();
    assert_eq!(stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap(), []);
    stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap_err();
    stand.ec2.unmount(&id, FIRST, entry("web-0")).unwrap();
    stand.ec2.unmount(&id, FIRST, entry("web-0")).unwrap_err();
    detach(&admin, &id, FIRST, false).await.unwrap();
    stand.control.await_available(&id, SOON).await.unwrap();

    stand.attach(&id, SECOND, "/dev/xvdaa").await;
    let found = stand.ec2.mount(&id, SECOND, entry("web-0")).unwrap();
    let kinds: Vec<HistoryKind> = found.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [HistoryKind::Start, HistoryKind::End]);
    let history = stand.control.history(&id).await.unwrap();
    assert_eq!(history.iter().map(|entry| entry.found).collect::<Vec<_>>(), [0, 0, 2]);
    assert_eq!(history.iter().map(|entry| entry.instance.as_str()).collect::<Vec<_>>(), [FIRST, FIRST, SECOND]);
    assert!(history.is_sorted_by_key(|entry| entry.at));
}

#[tokio::test]
async fn a_detach_of_a_mounted_volume_waits_for_the_unmount() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = stand.volume().await.volume;
    stand.attach(&id, FIRST, "/dev/xvdaa").await;
    stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap();
    stand.ec2.mount(&id, FIRST, entry("backup")).unwrap();
    assert_eq!(detach(&admin, &id, FIRST, false).await.unwrap(), "detaching");
    stand.ec2.unmount(&id, FIRST, entry("web-0")).unwrap();
    assert_eq!(describe(&admin, &[&id]).await.unwrap(), [format!("in-use busy@{FIRST}")]);
    stand.ec2.mount(&id, FIRST, entry("late")).unwrap_err();
    stand.ec2.unmount(&id, FIRST, entry("backup")).unwrap();
    stand.control.await_available(&id, SOON).await.unwrap();
}

#[tokio::test]
async fn a_wiped_volume_is_empty_for_pods_and_not_for_the_judge() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    stand.attach(&id, FIRST, "/dev/xvdaa").await;
    stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap();
    stand.ec2.unmount(&id, FIRST, entry("web-0")).unwrap();
    stand.control.wipe(&id).await.unwrap();
    assert_eq!(stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap(), []);
    let history = stand.control.history(&id).await.unwrap();
    assert_eq!(history.len(), 3);
    assert_eq!(history[2].found, 0);
}

#[tokio::test]
async fn a_terminated_instance_takes_the_marked_volumes_along() {
    let stand = Stand::start().await;
    let marked = stand.volume().await.volume;
    let kept = stand.volume().await.volume;
    stand.attach(&marked, FIRST, "/dev/xvdaa").await;
    stand.attach(&kept, FIRST, "/dev/xvdab").await;
    let patch = VolumePatch { delete_on_termination: Some(true), ..VolumePatch::default() };
    stand.control.patch_volume(&marked, &patch).await.unwrap();
    stand.ec2.mount(&kept, FIRST, entry("web-0")).unwrap();
    stand.control.terminate_instance(FIRST).await.unwrap();
    stand.control.await_available(&kept, SOON).await.unwrap();
    stand.control.await_volume(&marked, SOON, |volume| volume.state == VolumeState::Deleted).await.unwrap();
    assert_eq!(describe(&stand.admin(), &[&marked]).await.unwrap_err(), "InvalidVolume.NotFound");
    // Its process ended with the machine: the next user of the volume is no second one.
    let history = stand.control.history(&kept).await.unwrap();
    assert_eq!(history.last().unwrap().kind, HistoryKind::End);
    assert_eq!(attach(&stand.admin(), &kept, FIRST, "/dev/xvdaa").await.unwrap_err(), "IncorrectState");
    let answer = stand.admin().describe_instances().instance_ids(FIRST).send().await.map_err(code).unwrap();
    let state = answer.reservations()[0].instances()[0].state().unwrap().name().unwrap();
    assert_eq!(state.as_str(), "terminated");
}

#[tokio::test]
async fn a_stopped_instance_keeps_its_volumes_and_lets_them_go() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    stand.attach(&id, FIRST, "/dev/xvdaa").await;
    stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap();
    detach(&stand.admin(), &id, FIRST, false).await.unwrap();
    assert_eq!(describe(&stand.admin(), &[&id]).await.unwrap(), [format!("in-use busy@{FIRST}")]);
    stand.control.stop_instance(FIRST).await.unwrap();
    stand.control.await_available(&id, SOON).await.unwrap();
    stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap_err();
    stand.control.start_instance(FIRST).await.unwrap();
    let state = |instances: Vec<crate::ec2::Instance>| {
        instances.into_iter().find(|found| found.instance == FIRST).unwrap().state
    };
    assert_eq!(state(stand.control.instances().await.unwrap()), InstanceState::Running);
}

#[tokio::test]
async fn a_deleted_volume_is_gone_but_its_history_is_not() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    stand.attach(&id, FIRST, "/dev/xvdaa").await;
    stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap();
    stand.ec2.unmount(&id, FIRST, entry("web-0")).unwrap();
    detach(&stand.admin(), &id, FIRST, false).await.unwrap();
    stand.control.await_available(&id, SOON).await.unwrap();
    delete(&stand.admin(), &id).await.unwrap();
    stand.control.await_volume(&id, SOON, |volume| volume.state == VolumeState::Deleted).await.unwrap();
    stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap_err();
    assert_eq!(stand.control.history(&id).await.unwrap().len(), 2);
    let states: Vec<String> =
        stand.control.changes(Some(&id)).await.unwrap().into_iter().map(|change| change.now.state).collect();
    assert_eq!(&states[states.len() - 3..], ["available", "deleting", "deleted"]);
}
