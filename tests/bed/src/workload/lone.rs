//! A claim that no set owns: somebody has written on its volume, and nothing uses it any more.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::{USUAL_CLASS, absent, apply, until};

/// How long each step of the clusters may take.
const WITHIN: Duration = Duration::from_secs(90);

/// Puts up a claim in a namespace that is there, lets a pod write on its volume, and waits until that is detached.
pub async fn lone_claim(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": USUAL_CLASS,
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    apply(client, claim).await?;
    let writer = format!("{name}-writer");
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": writer, "namespace": namespace },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main",
                "image": "registry.example/shell:1",
                "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
            }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": name } }],
        },
    });
    apply(client, pod).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let is_ready = |pod: Option<&Pod>| {
        let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
    };
    until(pods.clone(), &writer, WITHIN, "Ready", is_ready).await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let volume = claims.get(name).await?.spec.and_then(|spec| spec.volume_name);
    let attachments: Api<VolumeAttachment> = Api::all(client.clone());
    let attached = attachments.list(&ListParams::default()).await?;
    let attached = attached.iter().find(|found| found.spec.source.persistent_volume_name == volume);
    let attached = attached.with_context(|| format!("claim {name} is not attached although its pod runs"))?.name_any();
    pods.delete(&writer, &DeleteParams::default()).await?;
    absent(pods, &writer, WITHIN).await?;
    absent(attachments, &attached, WITHIN).await
}

/// Puts up a claim in a namespace that is there, bound to a PersistentVolume of this source, whose name is both
/// names; without a zone, and of no class that is there.
pub async fn bound_claim(client: &Client, namespace: &str, name: &str, source: &Value) -> Result<()> {
    let volume_name = format!("{namespace}-{name}");
    let mut volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": volume_name },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": { "storage": "1Gi" },
            "storageClassName": "none",
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": { "namespace": namespace, "name": name },
        },
    });
    for (key, value) in source.as_object().into_iter().flatten() {
        volume["spec"][key] = value.clone();
    }
    apply(client, volume).await?;
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "none",
            "volumeName": volume_name,
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    apply(client, claim).await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let is_bound = |claim: Option<&PersistentVolumeClaim>| {
        claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref()) == Some("Bound")
    };
    until(claims, name, WITHIN, "Bound", is_bound).await.map(|_| ())
}
