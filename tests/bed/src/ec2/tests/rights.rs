//! Who may do what: keys, tag conditions, dry runs, throttling, errors to order.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::Tag;

use super::{FIRST, Stand, attach, code, delete, describe};
use crate::Cluster;
use crate::ec2::{ACCOUNT, ErrorAnswer, NewVolume, REGION, TagCondition, TagMatch, csi_key, tool_key};

#[tokio::test]
async fn a_tool_may_only_look() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    let tool = stand.client(&tool_key(0));
    describe(&tool, &[&id]).await.unwrap();
    assert_eq!(delete(&tool, &id).await.unwrap_err(), "UnauthorizedOperation");
    assert_eq!(attach(&tool, &id, FIRST, "/dev/xvdaa").await.unwrap_err(), "UnauthorizedOperation");
    let tags =
        tool.create_tags().resources(&id).tags(Tag::builder().key("a").value("b").build()).send().await.map_err(code);
    assert_eq!(tags.unwrap_err(), "UnauthorizedOperation");
    assert_eq!(describe(&tool, &[&id]).await.unwrap(), ["available"]);
}

#[tokio::test]
async fn an_unknown_key_is_nobody() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    assert_eq!(describe(&stand.client("AKIASTRANGER00000000"), &[&id]).await.unwrap_err(), "AuthFailure");
    assert_eq!(identity(&stand, "AKIASTRANGER00000000").await.unwrap_err(), "InvalidClientTokenId");
}

#[tokio::test]
async fn everybody_can_ask_who_he_is() {
    let stand = Stand::start().await;
    let (account, arn) = identity(&stand, &tool_key(7)).await.unwrap();
    assert_eq!(account, ACCOUNT);
    assert_eq!(arn, format!("arn:aws:iam::{ACCOUNT}:user/tool-7"));
    let log = stand.control.log_of_key(&tool_key(7)).await.unwrap();
    assert_eq!(log[0].action, "GetCallerIdentity");
}

async fn identity(stand: &Stand, key: &str) -> Result<(String, String), String> {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(aws_sdk_sts::config::BehaviorVersion::latest())
        .endpoint_url(&stand.url)
        .region(aws_sdk_sts::config::Region::new(REGION))
        .credentials_provider(aws_sdk_sts::config::Credentials::new(key, "secret", None, None, "test"))
        .retry_config(aws_sdk_sts::config::retry::RetryConfig::disabled())
        .build();
    let answer = aws_sdk_sts::Client::from_conf(config).get_caller_identity().send().await;
    let answer = answer
        .map_err(|error| aws_sdk_sts::error::ProvideErrorMetadata::code(&error).unwrap_or("no code").to_owned())?;
    Ok((answer.account().unwrap().to_owned(), answer.arn().unwrap().to_owned()))
}

#[tokio::test]
async fn a_dry_run_tells_the_right_and_changes_nothing() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    let dry = |client: aws_sdk_ec2::Client| {
        let request = client.delete_volume().volume_id(&id).dry_run(true);
        async move { request.send().await.map(drop).map_err(code).unwrap_err() }
    };
    assert_eq!(dry(stand.admin()).await, "DryRunOperation");
    assert_eq!(dry(stand.client(&tool_key(0))).await, "UnauthorizedOperation");
    let look = stand.admin().describe_volumes().volume_ids(&id).dry_run(true).send().await.map(drop).map_err(code);
    assert_eq!(look.unwrap_err(), "DryRunOperation");
    let missing = stand
        .admin()
        .delete_volume()
        .volume_id("vol-00000000000000000")
        .dry_run(true)
        .send()
        .await
        .map(drop)
        .map_err(code);
    assert_eq!(missing.unwrap_err(), "InvalidVolume.NotFound");
    assert_eq!(describe(&stand.admin(), &[&id]).await.unwrap(), ["available"]);
}

#[tokio::test]
async fn a_condition_on_tags_decides_until_the_tag_is_there() {
    let stand = Stand::start().await;
    let key = csi_key(Cluster::B);
    let mut scoped = stand.control.key(key).await.unwrap();
    scoped.tag_conditions = vec![TagCondition {
        actions: vec!["AttachVolume".to_owned(), "DetachVolume".to_owned()],
        any_of: vec![
            TagMatch { key: "ebs.csi.aws.com/cluster-name".to_owned(), value: Some("b".to_owned()) },
            TagMatch { key: "kubernetes.io/created-for/pvc/name".to_owned(), value: None },
        ],
    }];
    stand.control.set_key(&scoped).await.unwrap();
    let tags = BTreeMap::from([("ebs.csi.aws.com/cluster-name".to_owned(), "a".to_owned())]);
    let id = stand.control.create_volume(&NewVolume { tags, ..NewVolume::default() }).await.unwrap().volume;
    let driver = stand.client(key);
    assert_eq!(attach(&driver, &id, FIRST, "/dev/xvdaa").await.unwrap_err(), "UnauthorizedOperation");
    let dry = driver.attach_volume().volume_id(&id).instance_id(FIRST).device("/dev/xvdaa").dry_run(true).send().await;
    assert_eq!(dry.map(drop).map_err(code).unwrap_err(), "UnauthorizedOperation");
    // The driver's own role cannot help itself: it may tag only what it creates.
    let right = || Tag::builder().key("ebs.csi.aws.com/cluster-name").value("b").build();
    let own = driver.create_tags().resources(&id).tags(right()).send().await.map_err(code);
    assert_eq!(own.unwrap_err(), "UnauthorizedOperation");
    stand.admin().create_tags().resources(&id).tags(right()).send().await.map_err(code).unwrap();
    assert_eq!(attach(&driver, &id, FIRST, "/dev/xvdaa").await.unwrap(), "attaching");
}

#[tokio::test]
async fn throttling_hits_its_share_of_the_calls() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    let mut key = stand.control.key(&tool_key(9)).await.unwrap();
    key.throttle = 0.5;
    stand.control.set_key(&key).await.unwrap();
    let tool = stand.client(&tool_key(9));
    let mut refused = 0;
    for _ in 0..200 {
        match describe(&tool, &[&id]).await {
            Ok(_) => {}
            Err(code) => {
                assert_eq!(code, "RequestLimitExceeded");
                refused += 1;
            }
        }
    }
    // 50 to 150 of 200: seven standard deviations to either side.
    assert!((50..=150).contains(&refused), "{refused} of 200");
    describe(&stand.client(&tool_key(8)), &[&id]).await.unwrap();
}

#[tokio::test]
async fn an_error_can_be_ordered_for_some_calls() {
    let stand = Stand::start().await;
    let id = stand.volume().await.volume;
    let mut key = stand.control.key(&tool_key(4)).await.unwrap();
    let answer =
        ErrorAnswer { status: 500, code: "InternalError".to_owned(), message: "broken".to_owned(), times: Some(2) };
    key.errors.insert("DescribeVolumes".to_owned(), answer);
    stand.control.set_key(&key).await.unwrap();
    let tool = stand.client(&tool_key(4));
    for _ in 0..2 {
        assert_eq!(describe(&tool, &[&id]).await.unwrap_err(), "InternalError");
    }
    describe(&tool, &[&id]).await.unwrap();
}

#[tokio::test]
async fn what_is_no_action_is_refused() {
    let stand = Stand::start().await;
    let answer = stand.admin().describe_snapshots().send().await.map(drop).map_err(code);
    assert_eq!(answer.unwrap_err(), "InvalidAction");
}
