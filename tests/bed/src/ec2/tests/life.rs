//! CreateVolume, DeleteVolume, ModifyVolume, tags.

use std::collections::BTreeSet;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification, VolumeType};

use super::{FIRST, SOON, Stand, code, delete, describe};
use crate::ec2::{Knobs, NewVolume, VolumePatch, VolumeState};

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

fn tagged(tags: impl IntoIterator<Item = Tag>) -> TagSpecification {
    TagSpecification::builder().resource_type(ResourceType::Volume).set_tags(Some(tags.into_iter().collect())).build()
}

async fn create(client: &Client, size: i32, token: &str) -> Result<String, String> {
    let request = client.create_volume().availability_zone("eu-west-1a").size(size).volume_type(VolumeType::Gp3);
    let answer = request.client_token(token).tag_specifications(tagged([tag("a", "1")])).send().await.map_err(code)?;
    Ok(answer.volume_id().expect("an id").to_owned())
}

#[tokio::test]
async fn a_volume_is_created_with_all_that_was_asked_for() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let slow = Knobs { create_ms: Some([1500, 1500]), ..Knobs::default() };
    stand.control.knobs(&slow).await.unwrap();
    let request = admin.create_volume().availability_zone("eu-west-1b").size(7).volume_type(VolumeType::Io2).iops(300);
    let request =
        request.encrypted(true).kms_key_id("arn:aws:kms:eu-west-1:123456789012:key/k").multi_attach_enabled(true);
    let made = request.tag_specifications(tagged([tag("a", "1"), tag("b", "<&>")])).send().await.map_err(code).unwrap();
    assert_eq!(made.state().unwrap().as_str(), "creating");
    let id = made.volume_id().unwrap().to_owned();
    assert_eq!(super::attach(&admin, &id, super::ELSEWHERE, "/dev/xvdaa").await.unwrap_err(), "IncorrectState");
    stand.control.await_available(&id, SOON).await.unwrap();

    let answer = admin.describe_volumes().volume_ids(&id).send().await.unwrap();
    let volume = &answer.volumes()[0];
    assert_eq!(volume.size(), Some(7));
    assert_eq!(volume.volume_type().unwrap().as_str(), "io2");
    assert_eq!(volume.iops(), Some(300));
    assert_eq!(volume.availability_zone(), Some("eu-west-1b"));
    assert_eq!(volume.encrypted(), Some(true));
    assert_eq!(volume.kms_key_id(), Some("arn:aws:kms:eu-west-1:123456789012:key/k"));
    assert_eq!(volume.multi_attach_enabled(), Some(true));
    assert_eq!(volume.operator().unwrap().managed(), Some(false));
    assert!(volume.create_time().is_some());
    let tags: BTreeSet<(&str, &str)> =
        volume.tags().iter().map(|tag| (tag.key().unwrap(), tag.value().unwrap())).collect();
    assert_eq!(tags, BTreeSet::from([("a", "1"), ("b", "<&>")]));
}

#[tokio::test]
async fn what_cannot_be_is_not_created() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let base = || admin.create_volume().availability_zone("eu-west-1a").size(1).volume_type(VolumeType::Gp3);
    let many = (0..51).map(|number| tag(&format!("key-{number}"), "")).collect::<Vec<_>>();
    for (request, wanted) in [
        (base().availability_zone("eu-west-1z"), "InvalidZone.NotFound"),
        (base().size(0), "InvalidParameterValue"),
        (base().set_size(None), "MissingParameter"),
        (base().volume_type(VolumeType::from("gp9")), "UnknownVolumeType"),
        (base().volume_type(VolumeType::Io2), "MissingParameter"),
        (base().multi_attach_enabled(true), "InvalidParameterCombination"),
        (base().kms_key_id("key"), "InvalidParameterDependency"),
        (base().tag_specifications(tagged([tag("aws:mine", "1")])), "InvalidParameterValue"),
        (base().tag_specifications(tagged(many)), "TagLimitExceeded"),
        (base().snapshot_id("snap-00000000000000000"), "UnknownParameter"),
    ] {
        assert_eq!(request.send().await.map(drop).map_err(code).unwrap_err(), wanted);
    }
    assert_eq!(stand.control.volumes().await.unwrap(), []);
}

#[tokio::test]
async fn a_client_token_makes_one_volume() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = create(&admin, 1, "token").await.unwrap();
    assert_eq!(create(&admin, 1, "token").await.unwrap(), id);
    assert_eq!(create(&admin, 2, "token").await.unwrap_err(), "IdempotentParameterMismatch");
    assert_ne!(create(&admin, 1, "another").await.unwrap(), id);
    assert_eq!(stand.control.volumes().await.unwrap().len(), 2);
}

#[tokio::test]
async fn only_a_free_volume_can_be_deleted() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = stand.volume().await.volume;
    stand.attach(&id, FIRST, "/dev/xvdaa").await;
    assert_eq!(delete(&admin, &id).await.unwrap_err(), "VolumeInUse");
    let slow = Knobs { detach_ms: Some([1000, 1000]), delete_ms: Some([1500, 1500]), ..Knobs::default() };
    stand.control.knobs(&slow).await.unwrap();
    super::detach(&admin, &id, FIRST, false).await.unwrap();
    assert_eq!(delete(&admin, &id).await.unwrap_err(), "VolumeInUse");
    stand.control.await_available(&id, SOON).await.unwrap();
    delete(&admin, &id).await.unwrap();
    assert_eq!(describe(&admin, &[&id]).await.unwrap(), ["deleting"]);
    assert_eq!(delete(&admin, &id).await.unwrap_err(), "IncorrectState");
    stand.control.await_volume(&id, SOON, |volume| volume.state == VolumeState::Deleted).await.unwrap();
    assert_eq!(delete(&admin, &id).await.unwrap_err(), "InvalidVolume.NotFound");
}

#[tokio::test]
async fn a_modification_takes_its_time_and_is_alone() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = stand.volume().await.volume;
    let missing = admin.describe_volumes_modifications().volume_ids(&id).send().await.map(drop).map_err(code);
    assert_eq!(missing.unwrap_err(), "InvalidVolumeModification.NotFound");
    let slow = Knobs { volume: Some(id.clone()), modify_ms: Some([1000, 1000]), ..Knobs::default() };
    stand.control.knobs(&slow).await.unwrap();
    let modify = |size| admin.modify_volume().volume_id(&id).size(size).send();
    let begun = modify(5).await.map_err(code).unwrap();
    assert_eq!(begun.volume_modification().unwrap().modification_state().unwrap().as_str(), "modifying");
    assert_eq!(modify(6).await.map(drop).map_err(code).unwrap_err(), "IncorrectModificationState");
    stand
        .control
        .await_volume(&id, SOON, |volume| volume.modification.as_ref().unwrap().state == "optimizing")
        .await
        .unwrap();
    assert_eq!(modify(6).await.map(drop).map_err(code).unwrap_err(), "IncorrectModificationState");
    let volume = stand
        .control
        .await_volume(&id, SOON, |volume| volume.modification.as_ref().unwrap().state == "completed")
        .await
        .unwrap();
    assert_eq!(volume.size, 5);
    assert_eq!(modify(4).await.map(drop).map_err(code).unwrap_err(), "InvalidParameterValue");
    let patch = VolumePatch { modification_state: Some("optimizing".to_owned()), ..VolumePatch::default() };
    stand.control.patch_volume(&id, &patch).await.unwrap();
    let answer = admin.describe_volumes_modifications().volume_ids(&id).send().await.unwrap();
    let modification = &answer.volumes_modifications()[0];
    assert_eq!(modification.modification_state().unwrap().as_str(), "optimizing");
    assert_eq!(modification.target_size(), Some(5));
    assert_eq!(modification.original_size(), Some(1));
}

#[tokio::test]
async fn tags_come_and_go_up_to_fifty() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = stand.volume().await.volume;
    let set = |tags: Vec<Tag>| admin.create_tags().resources(&id).set_tags(Some(tags)).send();
    set((0..50).map(|number| tag(&format!("key-{number}"), "x")).collect()).await.map_err(code).unwrap();
    assert_eq!(set(vec![tag("one-more", "")]).await.map_err(code).unwrap_err(), "TagLimitExceeded");
    set(vec![tag("key-7", "changed")]).await.map_err(code).unwrap();
    assert_eq!(set(vec![tag("aws:x", "")]).await.map_err(code).unwrap_err(), "InvalidParameterValue");
    let unset = |tag: Tag| admin.delete_tags().resources(&id).tags(tag).send();
    unset(tag("key-7", "x")).await.map_err(code).unwrap();
    assert_eq!(stand.control.volume(&id).await.unwrap().tags["key-7"], "changed");
    unset(Tag::builder().key("key-7").build()).await.map_err(code).unwrap();
    assert_eq!(stand.control.volume(&id).await.unwrap().tags.len(), 49);
}

#[tokio::test]
async fn a_managed_volume_is_left_alone() {
    let stand = Stand::start().await;
    let new = NewVolume {
        managed_by: Some("eks.amazonaws.com".to_owned()),
        outpost_arn: Some("arn:outpost".to_owned()),
        ..NewVolume::default()
    };
    let id = stand.control.create_volume(&new).await.unwrap().volume;
    let answer = stand.admin().describe_volumes().volume_ids(&id).send().await.unwrap();
    let volume = &answer.volumes()[0];
    assert_eq!(volume.operator().unwrap().managed(), Some(true));
    assert_eq!(volume.operator().unwrap().principal(), Some("eks.amazonaws.com"));
    assert_eq!(volume.outpost_arn(), Some("arn:outpost"));
    assert_eq!(delete(&stand.admin(), &id).await.unwrap_err(), "OperationNotPermitted");
}
