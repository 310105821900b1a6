//! Calls to the API server that outlast its restarts.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{PatchParams, PostParams};
use kube::{Api, Error, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

/// How long to wait after a failed call: an API server that restarts is back within seconds.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

/// Returns how a kubelet signs its patches.
pub(super) fn kubelet() -> PatchParams {
    PatchParams { field_manager: Some("kubelet".into()), ..PatchParams::default() }
}

/// Calls until the API server has answered for good; none when it refused (the object is gone or another one).
pub(super) async fn until_done<T, F>(what: &str, call: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match call().await {
            Ok(answer) => return Some(answer),
            Err(Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => {
                if status.code != 404 && status.code != 409 {
                    tracing::error!(what, code = status.code, message = status.message, "the API server refuses");
                }
                return None;
            }
            Err(error) => {
                tracing::warn!(what, %error, "trying again");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Creates an object, or returns the one of that name that is there already.
pub(super) async fn create<K>(api: &Api<K>, object: &K) -> K
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let parameters = PostParams { field_manager: Some("kubelet".into()), ..PostParams::default() };
    loop {
        let error = match api.create(&parameters, object).await {
            Ok(created) => return created,
            Err(Error::Api(status)) if status.code == 409 => match api.get(&object.name_any()).await {
                Ok(found) => return found,
                Err(error) => error,
            },
            Err(error) => error,
        };
        // Right after the start the namespace of Leases is still to come.
        tracing::warn!(name = object.name_any(), %error, "creating it again");
        sleep(PAUSE).await;
    }
}
