//! Waiting for conditions of one object, by watch and with a deadline.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, pin_mut};
use kube::runtime::watcher::watch_object;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

/// How long to wait after a watch has failed: an API server that restarts is back within seconds.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until `holds` of an object (none while it does not exist) and returns the object.
///
/// `what` says in an error what was awaited, as in "StatefulSet web is not ready".
pub async fn until<K>(
    api: Api<K>,
    name: &str,
    within: Duration,
    what: &str,
    holds: impl Fn(Option<&K>) -> bool,
) -> Result<Option<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    let deadline = Instant::now() + within;
    let kind = K::kind(&());
    let states = watch_object(api, name);
    pin_mut!(states);
    let mut last = None;
    let mut trouble = None;
    loop {
        match timeout_at(deadline, states.next()).await {
            Ok(Some(Ok(state))) if holds(state.as_ref()) => return Ok(state),
            Ok(Some(Ok(state))) => last = state,
            // A watch begins anew by itself; an error that stays shows when the time is over.
            Ok(Some(Err(error))) => {
                trouble = Some(error);
                sleep(PAUSE).await;
            }
            Ok(None) => bail!("the watch of {kind} {name} has ended"),
            Err(_) => break,
        }
    }
    let status = match &last {
        Some(object) => serde_json::to_value(object).context("read an object")?["status"].to_string(),
        None => "it does not exist".to_owned(),
    };
    let trouble = trouble.map(|error| format!("; {error}")).unwrap_or_default();
    bail!("{kind} {name} is not {what} after {within:?}: {status}{trouble}")
}

/// Waits until an object exists, and returns it.
pub async fn exists<K>(api: Api<K>, name: &str, within: Duration) -> Result<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    until(api, name, within, "there", |object| object.is_some()).await?.context("an object that exists")
}

/// Waits until an object does not exist.
pub async fn absent<K>(api: Api<K>, name: &str, within: Duration) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    until(api, name, within, "gone", |object| object.is_none()).await.map(|_| ())
}
