//! AttachVolume and DetachVolume.

use super::{ELSEWHERE, FIRST, SECOND, SOON, Stand, attach, describe, detach, entry};
use crate::ec2::{AttachmentState, ForcedAttachment, Knobs, NewVolume, VolumePatch, VolumeState};

#[tokio::test]
async fn a_volume_has_one_attachment_from_the_first_moment_to_the_last() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = stand.volume().await.volume;
    let slow = Knobs {
        volume: Some(id.clone()),
        attach_ms: Some([1500, 1500]),
        detach_ms: Some([1500, 1500]),
        ..Knobs::default()
    };
    stand.control.knobs(&slow).await.unwrap();

    assert_eq!(attach(&admin, &id, FIRST, "/dev/xvdaa").await.unwrap(), "attaching");
    assert_eq!(describe(&admin, &[&id]).await.unwrap(), [format!("in-use attaching@{FIRST}")]);
    assert_eq!(attach(&admin, &id, SECOND, "/dev/xvdaa").await.unwrap_err(), "VolumeInUse");
    assert_eq!(attach(&admin, &id, FIRST, "/dev/xvdab").await.unwrap_err(), "VolumeInUse");
    assert_eq!(detach(&admin, &id, FIRST, false).await.unwrap_err(), "IncorrectState");

    stand
        .control
        .await_volume(&id, SOON, |volume| volume.attachments[0].state == AttachmentState::Attached)
        .await
        .unwrap();
    assert_eq!(attach(&admin, &id, SECOND, "/dev/xvdaa").await.unwrap_err(), "VolumeInUse");
    assert_eq!(detach(&admin, &id, SECOND, false).await.unwrap_err(), "InvalidAttachment.NotFound");
    assert_eq!(detach(&admin, &id, FIRST, false).await.unwrap(), "detaching");
    assert_eq!(describe(&admin, &[&id]).await.unwrap(), [format!("in-use detaching@{FIRST}")]);
    assert_eq!(attach(&admin, &id, SECOND, "/dev/xvdaa").await.unwrap_err(), "VolumeInUse");
    assert_eq!(detach(&admin, &id, FIRST, false).await.unwrap_err(), "IncorrectState");

    stand.control.await_available(&id, SOON).await.unwrap();
    assert_eq!(detach(&admin, &id, FIRST, false).await.unwrap_err(), "IncorrectState");
    assert_eq!(attach(&admin, &id, SECOND, "/dev/xvdaa").await.unwrap(), "attaching");
}

#[tokio::test]
async fn two_callers_at_once_get_one_attachment() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    for _ in 0..20 {
        let id = stand.volume().await.volume;
        let (one, other) =
            tokio::join!(attach(&admin, &id, FIRST, "/dev/xvdaa"), attach(&admin, &id, SECOND, "/dev/xvdaa"));
        assert_eq!([&one, &other].iter().filter(|answer| answer.is_ok()).count(), 1, "{one:?} {other:?}");
        stand
            .control
            .await_volume(&id, SOON, |volume| volume.attachments[0].state == AttachmentState::Attached)
            .await
            .unwrap();
        let holder = if one.is_ok() { FIRST } else { SECOND };
        detach(&admin, &id, holder, false).await.unwrap();
        stand.control.await_available(&id, SOON).await.unwrap();
    }
    let double = stand.control.changes(None).await.unwrap().into_iter().find(|change| change.now.attachments.len() > 1);
    assert!(double.is_none(), "{double:?}");
}

#[tokio::test]
async fn a_volume_stays_in_its_zone() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    assert_eq!(attach(&stand.admin(), &id, ELSEWHERE, "/dev/xvdaa").await.unwrap_err(), "InvalidVolume.ZoneMismatch");
    assert_eq!(describe(&stand.admin(), &[&id]).await.unwrap(), ["available"]);
}

#[tokio::test]
async fn ids_and_devices_must_be_right() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = stand.volume().await.volume;
    let other = stand.volume().await.volume;
    for (volume, instance, device, code) in [
        ("volume", FIRST, "/dev/xvdaa", "InvalidVolumeID.Malformed"),
        ("vol-00000000000000000", FIRST, "/dev/xvdaa", "InvalidVolume.NotFound"),
        (&id, "node-1", "/dev/xvdaa", "InvalidInstanceID.Malformed"),
        (&id, "i-0ffffffffffffffff", "/dev/xvdaa", "InvalidInstanceID.NotFound"),
        (&id, FIRST, "xvdaa", "InvalidParameterValue"),
    ] {
        assert_eq!(attach(&admin, volume, instance, device).await.unwrap_err(), code);
    }
    stand.attach(&id, FIRST, "/dev/xvdaa").await;
    assert_eq!(attach(&admin, &other, FIRST, "/dev/xvdaa").await.unwrap_err(), "InvalidParameterValue");
    assert_eq!(attach(&admin, &other, FIRST, "/dev/xvdab").await.unwrap(), "attaching");
}

#[tokio::test]
async fn only_an_available_volume_can_be_attached() {
    let stand = Stand::start().await;
    for state in ["creating", "deleting", "error", "some-new-state"] {
        let new = NewVolume { state: VolumeState::Available, ..NewVolume::default() };
        let id = stand.control.create_volume(&new).await.unwrap().volume;
        let patch = VolumePatch { state: Some(VolumeState::from(state)), ..VolumePatch::default() };
        stand.control.patch_volume(&id, &patch).await.unwrap();
        assert_eq!(attach(&stand.admin(), &id, FIRST, "/dev/xvdaa").await.unwrap_err(), "IncorrectState", "{state}");
        assert_eq!(describe(&stand.admin(), &[&id]).await.unwrap(), [state]);
    }
}

#[tokio::test]
async fn multi_attach_takes_several_instances_but_each_once() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let new = NewVolume { volume_type: "io2".to_owned(), iops: Some(200), multi_attach: true, ..NewVolume::default() };
    let id = stand.control.create_volume(&new).await.unwrap().volume;
    stand.attach(&id, FIRST, "/dev/xvdaa").await;
    assert_eq!(attach(&admin, &id, FIRST, "/dev/xvdab").await.unwrap_err(), "VolumeInUse");
    stand.attach(&id, SECOND, "/dev/xvdaa").await;
    detach(&admin, &id, FIRST, false).await.unwrap();
    let left = stand.control.await_volume(&id, SOON, |volume| volume.attachments.len() == 1).await.unwrap();
    assert_eq!(left.state, VolumeState::InUse);
}

#[tokio::test]
async fn a_detach_that_sticks_is_busy_until_it_is_released() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = stand.volume().await.volume;
    stand.attach(&id, FIRST, "/dev/xvdaa").await;
    let sticky = Knobs { volume: Some(id.clone()), detach_sticks: Some(true), ..Knobs::default() };
    stand.control.knobs(&sticky).await.unwrap();
    assert_eq!(detach(&admin, &id, FIRST, false).await.unwrap(), "detaching");
    assert_eq!(describe(&admin, &[&id]).await.unwrap(), [format!("in-use busy@{FIRST}")]);
    assert_eq!(detach(&admin, &id, FIRST, false).await.unwrap_err(), "IncorrectState");
    assert_eq!(attach(&admin, &id, SECOND, "/dev/xvdaa").await.unwrap_err(), "VolumeInUse");
    stand.control.release(&id).await.unwrap();
    stand.control.await_available(&id, SOON).await.unwrap();
}

#[tokio::test]
async fn an_attach_can_be_taken_back_later() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    let knobs = Knobs { volume: Some(id.clone()), reject_attach_async: Some(true), ..Knobs::default() };
    stand.control.knobs(&knobs).await.unwrap();
    assert_eq!(attach(&stand.admin(), &id, FIRST, "/dev/xvdaa").await.unwrap(), "attaching");
    stand.control.await_available(&id, SOON).await.unwrap();
    let changes = stand.control.changes(Some(&id)).await.unwrap();
    let states: Vec<&str> = changes.iter().map(|change| change.now.state.as_str()).collect();
    assert_eq!(states, ["available", "in-use", "available"]);
    assert!(
        changes
            .iter()
            .all(|change| { change.now.attachments.iter().all(|attachment| attachment.state == "attaching") })
    );
}

#[tokio::test]
async fn force_tears_a_mounted_volume_away() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = stand.volume().await.volume;
    stand.attach(&id, FIRST, "/dev/xvdaa").await;
    stand.ec2.mount(&id, FIRST, entry("web-0")).unwrap();
    assert_eq!(detach(&admin, &id, FIRST, false).await.unwrap(), "detaching");
    assert_eq!(describe(&admin, &[&id]).await.unwrap(), [format!("in-use busy@{FIRST}")]);
    assert_eq!(detach(&admin, &id, FIRST, true).await.unwrap(), "detaching");
    stand.control.await_available(&id, SOON).await.unwrap();
    stand.ec2.unmount(&id, FIRST, entry("web-0")).unwrap_err();
    assert_eq!(stand.control.history(&id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_forced_attachment_needs_no_known_instance_or_state() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    let attachments = vec![ForcedAttachment {
        instance: None,
        state: AttachmentState::from("some-new-state"),
        associated_resource: Some("arn:aws:sagemaker:eu-west-1:123456789012:cluster/c".to_owned()),
        delete_on_termination: true,
    }];
    let patch =
        VolumePatch { state: Some(VolumeState::InUse), attachments: Some(attachments), ..VolumePatch::default() };
    stand.control.patch_volume(&id, &patch).await.unwrap();
    let answer = stand.admin().describe_volumes().volume_ids(&id).send().await.unwrap();
    let attachment = &answer.volumes()[0].attachments()[0];
    assert_eq!(attachment.state().unwrap().as_str(), "some-new-state");
    assert_eq!(attachment.instance_id(), None);
    assert!(attachment.associated_resource().unwrap().contains("sagemaker"));
    assert_eq!(attachment.delete_on_termination(), Some(true));
}
