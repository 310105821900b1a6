//! DescribeVolumes and its neighbours: batches, pages, filters, and the past.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::Filter;
use tokio::time::Instant;

use super::{ELSEWHERE, FIRST, SOON, Stand, code, delete, describe, detach};
use crate::ec2::{Knobs, NewVolume, VolumeState, tool_key};

fn filter(name: &str, values: &[&str]) -> Filter {
    Filter::builder().name(name).set_values(Some(values.iter().map(|value| (*value).to_owned()).collect())).build()
}

#[tokio::test]
async fn one_unknown_id_poisons_the_batch() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = stand.volume().await.volume;
    assert_eq!(describe(&admin, &[&id]).await.unwrap(), ["available"]);
    assert_eq!(describe(&admin, &[&id, "vol-00000000000000000"]).await.unwrap_err(), "InvalidVolume.NotFound");
    assert_eq!(describe(&admin, &[&id, "vol-nonsense"]).await.unwrap_err(), "InvalidVolumeID.Malformed");
    let log = stand.control.log().await.unwrap();
    assert_eq!(log.last().unwrap().error.as_deref(), Some("InvalidVolumeID.Malformed"));
    assert!(log.last().unwrap().seen.is_empty());
}

#[tokio::test]
async fn five_hundred_ids_go_in_one_call_and_no_more() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let mut ids = Vec::new();
    for _ in 0..501 {
        ids.push(stand.volume().await.volume);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(describe(&admin, &ids[..500]).await.unwrap().len(), 500);
    assert_eq!(describe(&admin, &ids).await.unwrap_err(), "InvalidParameterValue");
    let both = admin.describe_volumes().volume_ids(ids[0]).max_results(5).send().await.map(drop).map_err(code);
    assert_eq!(both.unwrap_err(), "InvalidParameterCombination");
}

#[tokio::test]
async fn pages_show_every_volume_once() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let mut made = Vec::new();
    for _ in 0..12 {
        made.push(stand.volume().await.volume);
    }
    made.sort();
    let few = admin.describe_volumes().max_results(4).send().await.map(drop).map_err(code);
    assert_eq!(few.unwrap_err(), "InvalidParameterValue");
    let mut pages = Vec::new();
    let mut token = None;
    loop {
        let answer = admin.describe_volumes().max_results(5).set_next_token(token).send().await.map_err(code).unwrap();
        pages.push(answer.volumes().iter().map(|volume| volume.volume_id().unwrap().to_owned()).collect::<Vec<_>>());
        token = answer.next_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5, 2]);
    assert_eq!(pages.concat(), made);
    let wrong = admin.describe_volumes().max_results(5).next_token("made up").send().await.map(drop).map_err(code);
    assert_eq!(wrong.unwrap_err(), "InvalidParameterValue");
}

#[tokio::test]
async fn filters_select() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let new = NewVolume { tags: BTreeMap::from([("team".to_owned(), "blue-1".to_owned())]), ..NewVolume::default() };
    let tagged = stand.control.create_volume(&new).await.unwrap().volume;
    let attached = stand.volume().await.volume;
    stand.attach(&attached, FIRST, "/dev/xvdaa").await;
    for (filters, wanted) in [
        (vec![filter("tag:team", &["green", "blue-*"])], vec![&tagged]),
        (vec![filter("tag-key", &["team"])], vec![&tagged]),
        (vec![filter("attachment.instance-id", &[FIRST])], vec![&attached]),
        (vec![filter("attachment.status", &["attached"])], vec![&attached]),
        (vec![filter("status", &["available"])], vec![&tagged]),
        (vec![filter("status", &["in-use"]), filter("tag-key", &["team"])], vec![]),
    ] {
        let answer = admin.describe_volumes().set_filters(Some(filters.clone())).send().await.map_err(code).unwrap();
        let found: Vec<&str> = answer.volumes().iter().map(|volume| volume.volume_id().unwrap()).collect();
        assert_eq!(found, wanted, "{filters:?}");
    }
    let unknown = admin.describe_volumes().filters(filter("colour", &["blue"])).send().await.map(drop).map_err(code);
    assert_eq!(unknown.unwrap_err(), "InvalidParameterValue");
}

#[tokio::test]
async fn a_stale_read_shows_the_past_and_then_the_present() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = stand.volume().await.volume;
    stand.attach(&id, FIRST, "/dev/xvdaa").await;
    let stale = Duration::from_millis(1500);
    // Old enough to be seen attached in that past.
    let deadline = Instant::now() + SOON;
    stand
        .control
        .knobs(&Knobs { volume: Some(id.clone()), stale_read_ms: Some(1500), ..Knobs::default() })
        .await
        .unwrap();
    while describe(&admin, &[&id]).await != Ok(vec![format!("in-use attached@{FIRST}")]) {
        assert!(Instant::now() < deadline, "the past never caught up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    detach(&admin, &id, FIRST, false).await.unwrap();
    let free = stand.control.await_available(&id, SOON).await.unwrap();
    assert_eq!(free.state, VolumeState::Available);
    if begun.elapsed() < stale {
        assert_eq!(describe(&admin, &[&id]).await.unwrap(), [format!("in-use attached@{FIRST}")]);
    }
    while describe(&admin, &[&id]).await != Ok(vec!["available".to_owned()]) {
        assert!(Instant::now() < deadline, "the past never caught up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= stale, "available was seen after {:?}", begun.elapsed());
    let seen = stand
        .control
        .log_of_volume(&id)
        .await
        .unwrap()
        .into_iter()
        .rfind(|call| call.action == "DescribeVolumes")
        .unwrap();
    assert_eq!(seen.seen[0].state, "available");
}

#[tokio::test]
async fn a_stale_read_can_be_one_keys_own() {
    let stand = Stand::start().await;
    let mut key = stand.control.key(&tool_key(3)).await.unwrap();
    key.stale_read_ms = 3_600_000;
    stand.control.set_key(&key).await.unwrap();
    let id = stand.volume().await.volume;
    assert_eq!(describe(&stand.admin(), &[&id]).await.unwrap(), ["available"]);
    assert_eq!(describe(&stand.client(&tool_key(3)), &[&id]).await.unwrap_err(), "InvalidVolume.NotFound");
}

#[tokio::test]
async fn another_region_and_another_account_are_empty() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    let abroad = stand.client_in(&tool_key(1), "eu-central-1");
    assert_eq!(describe(&abroad, &[&id]).await.unwrap_err(), "InvalidVolume.NotFound");
    assert_eq!(abroad.describe_volumes().send().await.unwrap().volumes().len(), 0);
    let zones = abroad.describe_availability_zones().send().await.unwrap();
    assert_eq!(zones.availability_zones()[0].zone_name(), Some("eu-central-1a"));
    let mut stranger = stand.control.key(&tool_key(2)).await.unwrap();
    stranger.account = "210987654321".to_owned();
    stand.control.set_key(&stranger).await.unwrap();
    assert_eq!(describe(&stand.client(&tool_key(2)), &[&id]).await.unwrap_err(), "InvalidVolume.NotFound");
}

#[tokio::test]
async fn instances_show_zone_and_devices() {
    let stand = Stand::start().await;
    let admin = stand.admin();
    let id = stand.volume().await.volume;
    stand.attach(&id, FIRST, "/dev/xvdaa").await;
    let answer =
        admin.describe_instances().instance_ids(FIRST).instance_ids(ELSEWHERE).send().await.map_err(code).unwrap();
    let instances: Vec<_> = answer.reservations().iter().flat_map(|reservation| reservation.instances()).collect();
    assert_eq!(instances.len(), 2);
    assert_eq!(instances[0].placement().unwrap().availability_zone(), Some("eu-west-1a"));
    assert_eq!(instances[1].placement().unwrap().availability_zone(), Some("eu-west-1b"));
    let mapping = &instances[0].block_device_mappings()[0];
    assert_eq!(mapping.device_name(), Some("/dev/xvdaa"));
    assert_eq!(mapping.ebs().unwrap().volume_id(), Some(id.as_str()));
    assert_eq!(answer.reservations()[0].owner_id(), Some("123456789012"));
    let missing = admin.describe_instances().instance_ids("i-0ffffffffffffffff").send().await.map(drop).map_err(code);
    assert_eq!(missing.unwrap_err(), "InvalidInstanceID.NotFound");
}

#[tokio::test]
async fn the_log_has_every_call_with_its_caller_and_its_times() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    let tool = tool_key(5);
    describe(&stand.client(&tool), &[&id]).await.unwrap();
    delete(&stand.client(&tool), &id).await.unwrap_err();
    delete(&stand.admin(), &id).await.unwrap();
    let calls = stand.control.log_of_key(&tool).await.unwrap();
    let told: Vec<(&str, Option<&str>)> =
        calls.iter().map(|call| (call.action.as_str(), call.error.as_deref())).collect();
    assert_eq!(told, [("DescribeVolumes", None), ("DeleteVolume", Some("UnauthorizedOperation"))]);
    assert_eq!(calls[0].seen[0].state, "available");
    assert_eq!(calls[1].volumes, [id.as_str()]);
    let all = stand.control.log().await.unwrap();
    assert!(all.iter().enumerate().all(|(at, call)| call.seq == at as u64 && call.received <= call.answered));
    assert_eq!(stand.control.log_since(2).await.unwrap().len(), 1);
    assert_eq!(stand.control.log_of_volume(&id).await.unwrap().len(), 3);
}
