//! The stand-in against EC2's own client, one strictness at a time.

use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{ADMIN_KEY, Control, Ec2, NewVolume, REGION, Timings, Volume};
use crate::Cluster;
use crate::facts::{HistoryEntry, HistoryKind};

mod attach;
mod content;
mod life;
mod read;
mod rights;

/// Two instances in the first zone and one in the second.
pub(crate) const FIRST: &str = "i-00000000000000001";
pub(crate) const SECOND: &str = "i-00000000000000002";
pub(crate) const ELSEWHERE: &str = "i-0000000000000000b";
/// Longest wait for something that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A stand-in on a free port; it ends with this value.
pub(crate) struct Stand {
    pub(crate) ec2: Ec2,
    pub(crate) url: String,
    pub(crate) control: Control,
    server: JoinHandle<()>,
}

impl Stand {
    pub(crate) async fn start() -> Self {
        let quick = [1, 10];
        let ec2 = Ec2::new(Timings {
            create_ms: quick,
            attach_ms: quick,
            detach_ms: quick,
            delete_ms: quick,
            modify_ms: quick,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound port"));
        let router = ec2.router();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("serve") });
        ec2.register_instance(FIRST, "eu-west-1a");
        ec2.register_instance(SECOND, "eu-west-1a");
        ec2.register_instance(ELSEWHERE, "eu-west-1b");
        Self { control: Control::new(&url), ec2, url, server }
    }

    /// Returns EC2's client with an access key; it does not try again by itself.
    pub(crate) fn client(&self, key: &str) -> Client {
        self.client_in(key, REGION)
    }

    pub(crate) fn client_in(&self, key: &str, region: &str) -> Client {
        let config = aws_sdk_ec2::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.url)
            .region(Region::new(region.to_owned()))
            .credentials_provider(Credentials::new(key, "secret", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .build();
        Client::from_conf(config)
    }

    pub(crate) fn admin(&self) -> Client {
        self.client(ADMIN_KEY)
    }

    pub(crate) async fn volume(&self) -> Volume {
        self.control.create_volume(&NewVolume::default()).await.expect("make a volume")
    }

    /// Attaches a volume and waits until it is attached.
    pub(crate) async fn attach(&self, volume: &str, instance: &str, device: &str) {
        attach(&self.admin(), volume, instance, device).await.expect("attach");
        self.control
            .await_volume(volume, SOON, |volume| {
                volume.attachments.iter().any(|attachment| {
                    attachment.instance.as_deref() == Some(instance) && attachment.state.as_str() == "attached"
                })
            })
            .await
            .expect("attached");
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Calls AttachVolume and returns the state of the attachment, or EC2's error code.
pub(crate) async fn attach(client: &Client, volume: &str, instance: &str, device: &str) -> Result<String, String> {
    let answer = client.attach_volume().volume_id(volume).instance_id(instance).device(device).send().await;
    let answer = answer.map_err(code)?;
    Ok(answer.state().expect("a state").as_str().to_owned())
}

/// Calls DetachVolume and returns the state of the attachment, or EC2's error code.
pub(crate) async fn detach(client: &Client, volume: &str, instance: &str, force: bool) -> Result<String, String> {
    let answer = client.detach_volume().volume_id(volume).instance_id(instance).force(force).send().await;
    let answer = answer.map_err(code)?;
    Ok(answer.state().expect("a state").as_str().to_owned())
}

/// Calls DeleteVolume and returns EC2's error code if it fails.
pub(crate) async fn delete(client: &Client, volume: &str) -> Result<(), String> {
    client.delete_volume().volume_id(volume).send().await.map(drop).map_err(code)
}

/// Calls DescribeVolumes and returns states with their attachments (`in-use attached@i-…`).
pub(crate) async fn describe(client: &Client, volumes: &[&str]) -> Result<Vec<String>, String> {
    let ids = volumes.iter().map(|id| (*id).to_owned()).collect();
    let answer = client.describe_volumes().set_volume_ids(Some(ids)).send().await.map_err(code)?;
    let text = |volume: &aws_sdk_ec2::types::Volume| {
        let mut text = volume.state().expect("a state").as_str().to_owned();
        for attachment in volume.attachments() {
            let state = attachment.state().expect("a state").as_str();
            text.push_str(&format!(" {state}@{}", attachment.instance_id().unwrap_or("nobody")));
        }
        text
    };
    Ok(answer.volumes().iter().map(text).collect())
}

/// Returns the error code of a failed call.
pub(crate) fn code<E: ProvideErrorMetadata>(error: SdkError<E>) -> String {
    error.code().unwrap_or("no code").to_owned()
}

/// Makes the entry of a pod, to be mounted or unmounted.
pub(crate) fn entry(pod: &str) -> HistoryEntry {
    HistoryEntry {
        at: Timestamp::UNIX_EPOCH,
        kind: HistoryKind::End,
        cluster: Cluster::A,
        namespace: "space".to_owned(),
        pod: pod.to_owned(),
        pod_uid: format!("uid-of-{pod}"),
        claim: format!("data-{pod}"),
        node: "node".to_owned(),
        instance: String::new(),
        found: 99,
    }
}
