//! The hand of a test on the stand-in: everything below `/_bed/ec2/`, JSON in and out.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::Ec2;
use super::keys::Key;
use super::knobs::{Knobs, NewVolume, VolumePatch};
use super::model::{Instance, Volume};
use super::world::World;
use crate::facts::{Ec2Call, HistoryEntry, VolumeChange};

/// Longest time that a reader of a volume is kept waiting for news in one request.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Which part of the log of requests is wanted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LogQuery {
    /// Requests that name the volume or were told of it.
    pub(super) volume: Option<String>,
    /// Requests with that access key id.
    pub(super) key: Option<String>,
    /// Requests from that number on.
    pub(super) since: Option<u64>,
}

/// Which changes are wanted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ChangesQuery {
    pub(super) volume: Option<String>,
}

/// Whether to wait for news of a volume.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NewsQuery {
    /// Answers when the world is newer than that; none answers at once.
    pub(super) newer_than: Option<u64>,
}

/// A volume with the version of the world in which it was so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct News {
    pub(super) version: u64,
    pub(super) volume: Volume,
}

/// An instance to be made known.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewInstance {
    pub(super) instance: String,
    pub(super) zone: String,
}

pub(super) fn router(ec2: Ec2) -> Router {
    let routes = Router::new()
        .route("/log", get(log))
        .route("/changes", get(changes))
        .route("/volumes", get(volumes).post(create))
        .route("/volumes/{volume}", get(volume).post(patch))
        .route("/volumes/{volume}/release", post(release))
        .route("/knobs", post(knobs))
        .route("/keys", post(set_key))
        .route("/keys/{key}", get(key))
        .route("/history/{volume}", get(history))
        .route("/wipe/{volume}", post(wipe))
        .route("/instances", get(instances).post(register))
        .route("/instances/{instance}/{act}", post(act_on_instance));
    Router::new().nest("/_bed/ec2", routes).with_state(ec2)
}

async fn log(State(ec2): State<Ec2>, Query(query): Query<LogQuery>) -> Json<Vec<Ec2Call>> {
    let since = query.since.unwrap_or(0);
    let wanted = |call: &&Ec2Call| {
        let named = query
            .volume
            .as_ref()
            .is_none_or(|volume| call.volumes.contains(volume) || call.seen.iter().any(|seen| seen.volume == *volume));
        named && query.key.as_ref().is_none_or(|key| call.key == *key) && call.seq >= since
    };
    Json(ec2.with(|world| world.calls.iter().filter(wanted).cloned().collect()))
}

async fn changes(State(ec2): State<Ec2>, Query(query): Query<ChangesQuery>) -> Json<Vec<VolumeChange>> {
    let wanted = |change: &&VolumeChange| query.volume.as_ref().is_none_or(|volume| change.now.volume == *volume);
    Json(ec2.with(|world| world.changes.iter().filter(wanted).cloned().collect()))
}

async fn volumes(State(ec2): State<Ec2>) -> Json<Vec<Volume>> {
    Json(ec2.with(|world| world.volumes.values().map(|record| record.volume.clone()).collect()))
}

async fn create(State(ec2): State<Ec2>, Json(new): Json<NewVolume>) -> Json<Volume> {
    Json(ec2.with(|world| world.add_volume(new)))
}

async fn volume(State(ec2): State<Ec2>, Path(id): Path<String>, Query(query): Query<NewsQuery>) -> Response {
    let deadline = Instant::now() + LONGEST_WAIT;
    let mut changed = ec2.changed();
    loop {
        changed.mark_unchanged();
        let news = ec2.with(|world| {
            let volume = world.volumes.get(&id)?.volume.clone();
            Some(News { version: world.version(), volume })
        });
        let Some(news) = news else {
            return unknown(&id);
        };
        if query.newer_than.is_none_or(|old| news.version > old) || Instant::now() >= deadline {
            return Json(news).into_response();
        }
        // The world holds the sender as long as this handler holds the world; only time can run out.
        let _ = timeout_at(deadline, changed.changed()).await;
    }
}

async fn patch(State(ec2): State<Ec2>, Path(id): Path<String>, Json(patch): Json<VolumePatch>) -> Response {
    done(&id, ec2.with(|world| world.patch(&id, patch)))
}

async fn release(State(ec2): State<Ec2>, Path(id): Path<String>) -> Response {
    done(
        &id,
        ec2.with(|world| {
            world.release(&id);
            world.volumes.contains_key(&id)
        }),
    )
}

async fn knobs(State(ec2): State<Ec2>, Json(news): Json<Knobs>) -> Response {
    let id = news.volume.clone();
    let known = ec2.with(|world| match &id {
        None => {
            world.defaults.merge(&news);
            true
        }
        Some(id) => world.volumes.get_mut(id).map(|record| record.knobs.merge(&news)).is_some(),
    });
    done(id.as_deref().unwrap_or_default(), known)
}

async fn key(State(ec2): State<Ec2>, Path(key): Path<String>) -> Response {
    match ec2.with(|world| world.key(&key)) {
        Some(key) => Json(key).into_response(),
        None => unknown(&key),
    }
}

async fn set_key(State(ec2): State<Ec2>, Json(key): Json<Key>) -> StatusCode {
    ec2.with(|world| world.keys.insert(key.key.clone(), key));
    StatusCode::NO_CONTENT
}

async fn history(State(ec2): State<Ec2>, Path(id): Path<String>) -> Response {
    let history: Option<Vec<HistoryEntry>> = ec2.with(|world| Some(world.volumes.get(&id)?.history.clone()));
    match history {
        Some(history) => Json(history).into_response(),
        None => unknown(&id),
    }
}

async fn wipe(State(ec2): State<Ec2>, Path(id): Path<String>) -> Response {
    done(&id, ec2.with(|world| world.wipe(&id)))
}

async fn instances(State(ec2): State<Ec2>) -> Json<Vec<Instance>> {
    Json(ec2.with(|world| world.instances.values().cloned().collect()))
}

async fn register(State(ec2): State<Ec2>, Json(new): Json<NewInstance>) -> StatusCode {
    ec2.register_instance(&new.instance, &new.zone);
    StatusCode::NO_CONTENT
}

async fn act_on_instance(State(ec2): State<Ec2>, Path((instance, act)): Path<(String, String)>) -> Response {
    let act: fn(&mut World, &str) -> bool = match act.as_str() {
        "stop" => World::stop_instance,
        "start" => World::start_instance,
        "terminate" => World::terminate_instance,
        _ => return unknown(&act),
    };
    done(&instance, ec2.with(|world| act(world, &instance)))
}

fn done(id: &str, known: bool) -> Response {
    if known { StatusCode::NO_CONTENT.into_response() } else { unknown(id) }
}

fn unknown(id: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("no such thing: {id}")).into_response()
}
