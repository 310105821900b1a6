//! One cluster, as raw JSON.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service,
};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::Cluster;

/// Pause between two looks of a wait.
const LOOK_AGAIN: Duration = Duration::from_millis(40);

/// The kinds that a mover handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Namespace,
    Node,
    Set,
    Revision,
    Pod,
    Claim,
    Volume,
    Attachment,
    Service,
    Lease,
    Plan,
    Record,
}

impl Kind {
    fn resource(self) -> ApiResource {
        match self {
            Kind::Namespace => ApiResource::erase::<Namespace>(&()),
            Kind::Node => ApiResource::erase::<Node>(&()),
            Kind::Set => ApiResource::erase::<StatefulSet>(&()),
            Kind::Revision => ApiResource::erase::<ControllerRevision>(&()),
            Kind::Pod => ApiResource::erase::<Pod>(&()),
            Kind::Claim => ApiResource::erase::<PersistentVolumeClaim>(&()),
            Kind::Volume => ApiResource::erase::<PersistentVolume>(&()),
            Kind::Attachment => ApiResource::erase::<VolumeAttachment>(&()),
            Kind::Service => ApiResource::erase::<Service>(&()),
            Kind::Lease => ApiResource::erase::<Lease>(&()),
            Kind::Plan => ApiResource::erase::<Secret>(&()),
            Kind::Record => ApiResource::erase::<ConfigMap>(&()),
        }
    }

    fn is_namespaced(self) -> bool {
        !matches!(self, Kind::Namespace | Kind::Node | Kind::Volume | Kind::Attachment)
    }
}

/// One cluster with the namespace of the set.
pub(super) struct Side {
    pub(super) cluster: Cluster,
    pub(super) namespace: String,
    client: Client,
}

impl Side {
    pub(super) fn new(cluster: Cluster, client: Client, namespace: &str) -> Side {
        Side { cluster, namespace: namespace.to_owned(), client }
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        let resource = kind.resource();
        if kind.is_namespaced() {
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        }
    }

    /// Returns an object, none only when the server says that it does not exist.
    pub(super) async fn find(&self, kind: Kind, name: &str) -> Result<Option<Value>> {
        let found = self.api(kind).get_opt(name).await;
        let found = found.with_context(|| format!("get {kind:?} {name} in {}", self.cluster.name()))?;
        found.map(|object| serde_json::to_value(object).context("read an object")).transpose()
    }

    pub(super) async fn get(&self, kind: Kind, name: &str) -> Result<Value> {
        let found = self.find(kind, name).await?;
        found.with_context(|| format!("{kind:?} {name} does not exist in {}", self.cluster.name()))
    }

    pub(super) async fn list(&self, kind: Kind) -> Result<Vec<Value>> {
        let listed = self.api(kind).list(&ListParams::default()).await;
        let listed = listed.with_context(|| format!("list {kind:?} in {}", self.cluster.name()))?;
        listed.items.into_iter().map(|object| serde_json::to_value(object).context("read an object")).collect()
    }

    pub(super) async fn create(&self, kind: Kind, body: Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(body).context("write an object")?;
        let created = self.api(kind).create(&PostParams::default(), &object).await;
        created.with_context(|| format!("create {kind:?} in {}", self.cluster.name()))?;
        Ok(())
    }

    /// Patches an object as it was when it was read: with its uid and resourceVersion.
    ///
    /// What somebody else changed meanwhile is read again; the patch must not depend on it.
    pub(super) async fn change(&self, kind: Kind, name: &str, change: Value) -> Result<()> {
        loop {
            let now = self.get(kind, name).await?;
            let mut patch = change.clone();
            patch["metadata"]["uid"] = now["metadata"]["uid"].clone();
            patch["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
            match self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                answer => {
                    answer.with_context(|| format!("patch {kind:?} {name} in {}", self.cluster.name()))?;
                    return Ok(());
                }
            }
        }
    }

    /// Deletes an object as it was when it was read, with these options.
    pub(super) async fn delete(&self, kind: Kind, name: &str, options: DeleteParams) -> Result<()> {
        loop {
            let now = self.get(kind, name).await?;
            let preconditions = Preconditions {
                uid: Some(text(&now, "/metadata/uid").to_owned()),
                resource_version: Some(text(&now, "/metadata/resourceVersion").to_owned()),
            };
            let options = DeleteParams { preconditions: Some(preconditions), ..options.clone() };
            match self.api(kind).delete(name, &options).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                answer => {
                    answer.with_context(|| format!("delete {kind:?} {name} in {}", self.cluster.name()))?;
                    return Ok(());
                }
            }
        }
    }

    /// Deletes whatever has that name.
    pub(super) async fn delete_blindly(&self, kind: Kind, name: &str, options: &DeleteParams) -> Result<()> {
        let deleted = self.api(kind).delete(name, options).await;
        deleted.with_context(|| format!("delete {kind:?} {name} in {}", self.cluster.name()))?;
        Ok(())
    }

    /// Deletes an object if it exists, and waits until it is gone.
    pub(super) async fn remove(&self, kind: Kind, name: &str, patience: Duration) -> Result<()> {
        if self.find(kind, name).await?.is_some() {
            self.delete(kind, name, DeleteParams::default()).await?;
        }
        self.await_gone(kind, name, patience).await
    }

    pub(super) async fn await_gone(&self, kind: Kind, name: &str, patience: Duration) -> Result<()> {
        until(format_args!("{kind:?} {name} to be gone in {}", self.cluster.name()), patience, async || {
            Ok(self.find(kind, name).await?.is_none())
        })
        .await
    }
}

/// Waits until `holds`; a look that fails counts as "not yet".
pub(super) async fn until(
    what: impl Display,
    patience: Duration,
    mut holds: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let looked = holds().await;
        if matches!(looked, Ok(true)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let waited = anyhow!("waited {patience:?} for {what}");
            return Err(looked.err().map_or(waited, |error| error.context(format!("waited {patience:?} for {what}"))));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Returns the text at a JSON pointer, or an empty one.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the retention policy that keeps claims.
pub(super) fn retain_claims() -> Value {
    json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
}
