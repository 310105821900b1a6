//! What workloads do to a cluster and ask of it, object by object.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, TypeMeta};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::{exists, kinds};
use crate::node::volumes::handle;

/// How long the controllers may take to furnish a new namespace.
const NAMESPACE_WITHIN: Duration = Duration::from_secs(60);

/// Returns the EBS volume of a bound claim.
pub async fn volume_of(client: &Client, namespace: &str, claim: &str) -> Result<String> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let found = claims.get(claim).await.with_context(|| format!("get claim {namespace}/{claim}"))?;
    let name = found.spec.and_then(|spec| spec.volume_name);
    let name = name.with_context(|| format!("claim {namespace}/{claim} has no volume"))?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = volumes.get(&name).await.with_context(|| format!("get PersistentVolume {name}"))?;
    let id = handle(&volume).map_err(|reason| anyhow!("PersistentVolume {name}: {reason}"))?;
    id.with_context(|| format!("PersistentVolume {name} is not on EBS"))
}

/// Makes a namespace, if it is missing, and waits until pods can run in it.
pub async fn namespace(client: &Client, name: &str) -> Result<()> {
    let object = serde_json::from_value(json!({"metadata": {"name": name}})).context("name a namespace")?;
    match Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error).with_context(|| format!("create namespace {name}")),
    }
    exists(Api::<ServiceAccount>::namespaced(client.clone(), name), "default", NAMESPACE_WITHIN).await?;
    Ok(())
}

/// Applies one object of any of the kinds that tests use, as `kubectl apply --server-side` would.
pub async fn apply(client: &Client, object: Value) -> Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object).context("read a manifest")?;
    let types = object.types.clone().unwrap_or(TypeMeta { api_version: String::new(), kind: String::new() });
    let resource = kinds::resource(&types.kind).with_context(|| format!("no such kind in tests: {}", types.kind))?;
    let api = dynamic(client, object.metadata.namespace.as_deref(), &resource);
    let parameters = PatchParams::apply("kubectl").force();
    let name = object.name_any();
    api.patch(&name, &parameters, &Patch::Apply(&object)).await.with_context(|| format!("apply {} {name}", types.kind))
}

fn dynamic(client: &Client, namespace: Option<&str>, resource: &ApiResource) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

/// Returns what keeps a pod from being Ready, as its status tells.
pub(super) fn describe(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let waiting = status.container_statuses.iter().flatten().filter_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        Some(format!(
            "{} {}",
            waiting.reason.as_deref().unwrap_or_default(),
            waiting.message.as_deref().unwrap_or_default()
        ))
    });
    let conditions = status.conditions.iter().flatten().filter(|condition| condition.status != "True");
    let conditions = conditions.filter_map(|condition| condition.message.clone());
    let reasons: Vec<String> = waiting.chain(conditions).collect();
    format!("pod {} is {}: {}", pod.name_any(), status.phase.unwrap_or_default(), reasons.join(", "))
}
