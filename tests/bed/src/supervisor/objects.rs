//! What is in each cluster from its start: rights of the tool's users, the CSI driver, storage classes.

use anyhow::{Context, Result};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass};
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::users;

/// The name of the EBS CSI driver.
const DRIVER: &str = "ebs.csi.aws.com";

/// Creates everything, side by side.
pub(super) async fn create(client: &Client) -> Result<()> {
    let binding = json!({
        "metadata": { "name": users::TOOLS },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": users::TOOLS }],
    });
    // As the driver's own chart has it.
    let driver = json!({
        "metadata": { "name": DRIVER },
        "spec": { "attachRequired": true, "podInfoOnMount": false, "fsGroupPolicy": "File" },
    });
    tokio::try_join!(
        make::<ClusterRoleBinding>(client, binding),
        make::<CSIDriver>(client, driver),
        make::<StorageClass>(client, storage_class("gp3", "Delete", true)),
        make::<StorageClass>(client, storage_class("gp3-retain", "Retain", false)),
    )?;
    Ok(())
}

fn storage_class(name: &str, reclaim_policy: &str, default: bool) -> Value {
    let annotations =
        if default { json!({ "storageclass.kubernetes.io/is-default-class": "true" }) } else { json!({}) };
    json!({
        "metadata": { "name": name, "annotations": annotations },
        "provisioner": DRIVER,
        "parameters": { "type": "gp3" },
        "reclaimPolicy": reclaim_policy,
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    })
}

async fn make<K>(client: &Client, object: Value) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).context("parse an object of the bed")?;
    let name = object.meta().name.clone().unwrap_or_default();
    let created = Api::<K>::all(client.clone()).create(&PostParams::default(), &object).await;
    created.with_context(|| format!("create {} `{name}`", K::kind(&())))?;
    Ok(())
}
