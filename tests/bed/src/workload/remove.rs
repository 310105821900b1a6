//! Making room on a shared bed when a test is over.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

/// Deletes a namespace with all that is in it, if it exists, and does not wait for the end of that.
///
/// Its volumes are retained: another cluster may use them, and a driver that may not delete a volume
/// tries again for ever.
pub async fn remove_namespace(client: &Client, name: &str) -> Result<()> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let retain = Patch::Merge(json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}));
    for volume in volumes.list(&ListParams::default()).await.context("list PersistentVolumes")? {
        let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if claim.and_then(|claim| claim.namespace.as_deref()) == Some(name) {
            let patched = volumes.patch(&volume.name_any(), &PatchParams::default(), &retain).await;
            if !is_gone(&patched) {
                patched.with_context(|| format!("retain {}", volume.name_any()))?;
            }
        }
    }
    let deleted = Api::<Namespace>::all(client.clone()).delete(name, &DeleteParams::default()).await;
    if !is_gone(&deleted) {
        deleted.with_context(|| format!("delete namespace {name}"))?;
    }
    Ok(())
}

/// Returns whether somebody else was faster.
fn is_gone<T>(answer: &kube::Result<T>) -> bool {
    matches!(answer, Err(kube::Error::Api(status)) if status.code == 404)
}
