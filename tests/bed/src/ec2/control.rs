//! The typed client of `/_bed/ec2/`, for tests and the judge.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::bed::{ChangesQuery, LogQuery, NewInstance, News, NewsQuery};
use super::keys::Key;
use super::knobs::{Knobs, NewVolume, VolumePatch};
use super::model::{Instance, Volume};
use super::words::VolumeState;
use crate::facts::{Ec2Call, HistoryEntry, VolumeChange};

/// The hand of a test on the EC2 stand-in. Clones share one connection pool.
#[derive(Clone, Debug)]
pub struct Control {
    base: String,
    http: reqwest::Client,
}

impl Control {
    /// Makes a client from the URL of the EC2 endpoint, such as `http://127.0.0.1:4567`.
    pub fn new(endpoint: &str) -> Self {
        Self { base: format!("{}/_bed/ec2", endpoint.trim_end_matches('/')), http: crate::loopback_client() }
    }

    /// Returns the log of all requests.
    pub async fn log(&self) -> Result<Vec<Ec2Call>> {
        self.log_where(LogQuery::default()).await
    }

    /// Returns the requests that named a volume or were told of it.
    pub async fn log_of_volume(&self, volume: &str) -> Result<Vec<Ec2Call>> {
        self.log_where(LogQuery { volume: Some(volume.to_owned()), ..LogQuery::default() }).await
    }

    /// Returns the requests with an access key id.
    pub async fn log_of_key(&self, key: &str) -> Result<Vec<Ec2Call>> {
        self.log_where(LogQuery { key: Some(key.to_owned()), ..LogQuery::default() }).await
    }

    /// Returns the requests from the number `since` on (see [`Ec2Call::seq`]).
    pub async fn log_since(&self, since: u64) -> Result<Vec<Ec2Call>> {
        self.log_where(LogQuery { since: Some(since), ..LogQuery::default() }).await
    }

    async fn log_where(&self, query: LogQuery) -> Result<Vec<Ec2Call>> {
        self.read(self.http.get(self.url("log")).query(&query)).await
    }

    /// Returns every change of the true state, of one volume or of all.
    pub async fn changes(&self, volume: Option<&str>) -> Result<Vec<VolumeChange>> {
        let query = ChangesQuery { volume: volume.map(str::to_owned) };
        self.read(self.http.get(self.url("changes")).query(&query)).await
    }

    /// Returns all volumes that ever were; those that are gone have the state `deleted`.
    pub async fn volumes(&self) -> Result<Vec<Volume>> {
        self.read(self.http.get(self.url("volumes"))).await
    }

    /// Returns a volume as it truly is now.
    pub async fn volume(&self, volume: &str) -> Result<Volume> {
        Ok(self.news(volume, NewsQuery::default()).await?.volume)
    }

    /// Waits until a volume satisfies `wanted` and returns it; the wait is woken by changes.
    pub async fn await_volume(
        &self,
        volume: &str,
        within: Duration,
        wanted: impl Fn(&Volume) -> bool,
    ) -> Result<Volume> {
        let deadline = Instant::now() + within;
        let mut news = self.news(volume, NewsQuery::default()).await?;
        while !wanted(&news.volume) {
            let query = NewsQuery { newer_than: Some(news.version) };
            match timeout_at(deadline, self.news(volume, query)).await {
                Ok(later) => news = later?,
                Err(_) => bail!("waited {within:?} for volume {volume}, which is still {:?}", news.volume),
            }
        }
        Ok(news.volume)
    }

    /// Waits until a volume is `available` without any attachment.
    pub async fn await_available(&self, volume: &str, within: Duration) -> Result<Volume> {
        self.await_volume(volume, within, |volume| {
            volume.state == VolumeState::Available && volume.attachments.is_empty()
        })
        .await
    }

    async fn news(&self, volume: &str, query: NewsQuery) -> Result<News> {
        self.read(self.http.get(self.url(&format!("volumes/{volume}"))).query(&query)).await
    }

    /// Makes a volume, there at once.
    pub async fn create_volume(&self, new: &NewVolume) -> Result<Volume> {
        self.read(self.http.post(self.url("volumes")).json(new)).await
    }

    /// Makes facts of a volume true at once.
    pub async fn patch_volume(&self, volume: &str, patch: &VolumePatch) -> Result<()> {
        self.act(self.http.post(self.url(&format!("volumes/{volume}"))).json(patch)).await
    }

    /// Ends the sticking of a volume's detaches: the one under way goes on, later ones do not stick.
    pub async fn release(&self, volume: &str) -> Result<()> {
        self.act(self.http.post(self.url(&format!("volumes/{volume}/release")))).await
    }

    /// Sets behaviours of one volume or of all.
    pub async fn knobs(&self, knobs: &Knobs) -> Result<()> {
        self.act(self.http.post(self.url("knobs")).json(knobs)).await
    }

    /// Returns an access key, to be changed and given to [`Control::set_key`].
    pub async fn key(&self, key: &str) -> Result<Key> {
        self.read(self.http.get(self.url(&format!("keys/{key}")))).await
    }

    /// Sets everything about an access key, new or known.
    pub async fn set_key(&self, key: &Key) -> Result<()> {
        self.act(self.http.post(self.url("keys")).json(key)).await
    }

    /// Returns everything that was ever written on a volume, also when it is wiped or deleted.
    pub async fn history(&self, volume: &str) -> Result<Vec<HistoryEntry>> {
        self.read(self.http.get(self.url(&format!("history/{volume}")))).await
    }

    /// Loses the content of a volume: the next mount finds nothing.
    pub async fn wipe(&self, volume: &str) -> Result<()> {
        self.act(self.http.post(self.url(&format!("wipe/{volume}")))).await
    }

    /// Returns all instances.
    pub async fn instances(&self) -> Result<Vec<Instance>> {
        self.read(self.http.get(self.url("instances"))).await
    }

    /// Makes an instance known.
    pub async fn register_instance(&self, instance: &str, zone: &str) -> Result<()> {
        let new = NewInstance { instance: instance.to_owned(), zone: zone.to_owned() };
        self.act(self.http.post(self.url("instances")).json(&new)).await
    }

    /// Switches an instance off: what ran there has ended, its volumes stay attached.
    pub async fn stop_instance(&self, instance: &str) -> Result<()> {
        self.act(self.http.post(self.url(&format!("instances/{instance}/stop")))).await
    }

    /// Switches a stopped instance on.
    pub async fn start_instance(&self, instance: &str) -> Result<()> {
        self.act(self.http.post(self.url(&format!("instances/{instance}/start")))).await
    }

    /// Terminates an instance: its volumes are detached, those with DeleteOnTermination deleted.
    pub async fn terminate_instance(&self, instance: &str) -> Result<()> {
        self.act(self.http.post(self.url(&format!("instances/{instance}/terminate")))).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        Ok(send(request).await?.json().await?)
    }

    async fn act(&self, request: RequestBuilder) -> Result<()> {
        send(request).await.map(drop)
    }
}

async fn send(request: RequestBuilder) -> Result<reqwest::Response> {
    let answer = request.send().await.context("ask the EC2 stand-in")?;
    let status = answer.status();
    if !status.is_success() {
        bail!("the EC2 stand-in answered {status}: {}", answer.text().await.unwrap_or_default());
    }
    Ok(answer)
}
