//! Watches: they wake the loop and say which names to look at again, and nothing is believed of them
//! otherwise (TL-9).
//!
//! Metadata only. A watch begins at the version of a list that it makes itself, and says that all
//! of its kind is to be looked at again: whatever happened before is found by that, whatever happens
//! after by the watch. The same after each error and each `410 Gone`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use http::Request;
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::connect::{Call, Cluster, Endpoints, escape, path};
use crate::world::{Kind, Read, Side};

/// Kinds that are watched whole.
const WATCHED: [Kind; 7] = [
    Kind::Node,
    Kind::PersistentVolume,
    Kind::PersistentVolumeClaim,
    Kind::Pod,
    Kind::Service,
    Kind::StatefulSet,
    Kind::VolumeAttachment,
];

/// How long the API server keeps one watch open; it would end it by itself after 30–60 minutes.
const WATCH_SECONDS: u32 = 290;

/// A watch that has said nothing for so long is begun anew: bookmarks come about every minute.
const SILENCE: Duration = Duration::from_secs(150);

/// Back-off between two attempts of a watch that fails.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// More names than this of one kind are read by one list.
const NAMES_PER_KIND: usize = 32;

/// What is to be looked at again.
#[derive(Default)]
pub(crate) struct Dirty {
    /// `None` for a name means all of the kind.
    marks: Mutex<BTreeSet<(Side, Kind, Option<String>)>>,
    wake: Notify,
}

impl Dirty {
    fn mark(&self, side: Side, kind: Kind, name: Option<String>) {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).insert((side, kind, name));
        self.wake.notify_one();
    }

    /// Waits until there is something to look at.
    pub(crate) async fn marked(&self) {
        while self.marks.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.wake.notified().await;
        }
    }

    /// Takes the reads that bring the world up to date.
    pub(crate) fn take(&self) -> Vec<Read> {
        reads(std::mem::take(&mut *self.marks.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn reads(marks: BTreeSet<(Side, Kind, Option<String>)>) -> Vec<Read> {
    let mut reads = BTreeSet::new();
    for (side, kind, name) in &marks {
        let of_kind = || marks.iter().filter(|mark| (mark.0, mark.1) == (*side, *kind));
        let whole = of_kind().any(|mark| mark.2.is_none()) || of_kind().count() > NAMES_PER_KIND;
        reads.insert(match name {
            Some(name) if !whole => Read::Get(*side, *kind, name.clone()),
            _ => Read::List(*side, *kind),
        });
    }
    reads.into_iter().collect()
}

/// The running watches; they end when this is dropped.
pub(crate) struct Watches {
    /// What they found.
    pub(crate) dirty: Arc<Dirty>,
    _tasks: JoinSet<()>,
}

impl Watches {
    /// Starts the watches of both clusters; `named` is the object that record and Lease are kept in.
    pub(crate) fn start(endpoints: &Endpoints, named: &str) -> Watches {
        let dirty = Arc::new(Dirty::default());
        let mut tasks = JoinSet::new();
        for side in Side::BOTH {
            let whole = WATCHED.into_iter().map(|kind| (kind, None));
            // The Lease is watched for others' hands on it; our own renewals wake the loop for nothing.
            for (kind, name) in whole.chain([(Kind::ConfigMap, Some(named.to_owned()))]) {
                let watch = Watch { cluster: endpoints.cluster(side).clone(), side, kind, name, dirty: dirty.clone() };
                tasks.spawn(watch.run());
            }
        }
        Watches { dirty, _tasks: tasks }
    }
}

struct Watch {
    cluster: Arc<Cluster>,
    side: Side,
    kind: Kind,
    name: Option<String>,
    dirty: Arc<Dirty>,
}

/// How a watch ended.
#[derive(Debug, PartialEq)]
enum End {
    /// It may be taken up at this version.
    Resume(String),
    /// It must begin anew.
    Anew,
}

impl Watch {
    async fn run(self) {
        let mut pause = RETRY.0;
        loop {
            let Some(mut version) = self.version().await else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
                continue;
            };
            // Marked only now: the read that follows begins after the version that the watch begins at.
            self.dirty.mark(self.side, self.kind, self.name.clone());
            let began = tokio::time::Instant::now();
            while let End::Resume(next) = self.follow(version).await {
                version = next;
            }
            // A watch that was refused at once must not have its kind listed in a tight circle.
            pause = if began.elapsed() > RETRY.1 { RETRY.0 } else { (pause * 2).min(RETRY.1) };
            tokio::time::sleep(pause).await;
        }
    }

    fn call(&self) -> Call {
        let call = Call::get(path(self.kind, &self.cluster.namespace, None));
        match &self.name {
            Some(name) => call.query("fieldSelector", format!("metadata.name={name}")),
            None => call,
        }
    }

    /// Returns the version of the kind's list now.
    async fn version(&self) -> Option<String> {
        let list = match self.cluster.call(self.call().query("limit", "1")).await {
            Ok(list) => list,
            Err(error) => {
                tracing::debug!(side = %self.side, kind = %self.kind, %error, "no watch yet");
                return None;
            }
        };
        list.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned)
    }

    async fn follow(&self, mut version: String) -> End {
        const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
        let mut uri = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}",
            path(self.kind, &self.cluster.namespace, None),
            escape(&version)
        );
        if let Some(name) = &self.name {
            uri.push_str(&format!("&fieldSelector={}", escape(&format!("metadata.name={name}"))));
        }
        let Ok(request) = Request::get(uri).header(http::header::ACCEPT, METADATA_ONLY).body(Vec::new()) else {
            return End::Anew;
        };
        let client = self.cluster.client();
        let stream = match tokio::time::timeout(SILENCE, client.request_events::<Value>(request)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(side = %self.side, kind = %self.kind, %error, "watch refused");
                return End::Anew;
            }
            Err(_elapsed) => return End::Anew,
        };
        let mut stream = std::pin::pin!(stream);
        loop {
            match tokio::time::timeout(SILENCE, stream.next()).await {
                Ok(Some(Ok(event))) => match heard(event) {
                    Heard::Change(name, next) => {
                        version = next;
                        self.dirty.mark(self.side, self.kind, Some(name));
                    }
                    Heard::Bookmark(next) => version = next,
                    Heard::End => return End::Anew,
                },
                Ok(None) => return End::Resume(version),
                Ok(Some(Err(error))) => {
                    tracing::debug!(side = %self.side, kind = %self.kind, %error, "watch broke off");
                    return End::Anew;
                }
                Err(_elapsed) => return End::Anew,
            }
        }
    }
}

/// What one event says.
#[derive(Debug, PartialEq)]
enum Heard {
    Change(String, String),
    Bookmark(String),
    End,
}

fn heard(event: WatchEvent<Value>) -> Heard {
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
            let text = |pointer| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            match (text("/metadata/name"), text("/metadata/resourceVersion")) {
                (Some(name), Some(version)) => Heard::Change(name, version),
                _ => Heard::End,
            }
        }
        WatchEvent::Bookmark(bookmark) => Heard::Bookmark(bookmark.metadata.resource_version),
        WatchEvent::Error(_) => Heard::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(line: &str) -> Heard {
        heard(serde_json::from_str(line).expect("the line is an event"))
    }

    #[test]
    fn events_name_what_changed() {
        let line = r#"{"type":"DELETED","object":{"kind":"PartialObjectMetadata","metadata":{"name":"web-0","resourceVersion":"7"}}}"#;
        assert_eq!(event(line), Heard::Change("web-0".to_owned(), "7".to_owned()));
        let line =
            r#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"9"}}}"#;
        assert_eq!(event(line), Heard::Bookmark("9".to_owned()));
        let line = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
        assert_eq!(event(line), Heard::End);
    }

    #[test]
    fn many_names_or_a_whole_kind_become_one_list() {
        let pod = |name: &str| (Side::Source, Kind::Pod, Some(name.to_owned()));
        assert_eq!(reads([pod("web-0")].into()), [Read::Get(Side::Source, Kind::Pod, "web-0".to_owned())]);
        let whole = [pod("web-0"), (Side::Source, Kind::Pod, None)].into();
        assert_eq!(reads(whole), [Read::List(Side::Source, Kind::Pod)]);
        let many = (0..40).map(|number| pod(&format!("web-{number}"))).collect();
        assert_eq!(reads(many), [Read::List(Side::Source, Kind::Pod)]);
    }

    #[tokio::test]
    async fn a_mark_made_before_the_wait_is_not_lost() {
        let dirty = Dirty::default();
        dirty.mark(Side::Source, Kind::Pod, None);
        dirty.marked().await;
        assert_eq!(dirty.take().len(), 1);
        assert!(dirty.take().is_empty());
    }
}
