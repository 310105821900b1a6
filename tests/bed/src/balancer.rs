//! A load-balancer controller: Services of type LoadBalancer and Ingresses get an address.
//!
//! The address is unique per cluster, namespace and name, so that old and new are told apart after a
//! move. As the cloud controllers do, it puts a finalizer on its Services and takes it off again.

use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use crate::Cluster;

/// Finalizer of the cloud controllers on Services whose load balancer they have to remove.
const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// How long to wait after a watch has failed: an API server that restarts is back within seconds.
const PAUSE: Duration = Duration::from_millis(200);
/// What a controller calls itself in the fields that it writes.
const MANAGER: &str = "cloud-load-balancer";

/// Fills in addresses of a cluster's Services and Ingresses for ever.
pub async fn run(cluster: Cluster, client: Client) {
    let (services, ingresses) = (client.clone(), client.clone());
    tokio::join!(
        follow(Api::<Service>::all(client.clone()), |service: Service| mend_service(
            cluster,
            services.clone(),
            service
        )),
        follow(Api::<Ingress>::all(client), |ingress: Ingress| mend_ingress(cluster, ingresses.clone(), ingress)),
    );
}

/// Hands each object to `mend` when it has changed.
async fn follow<K, F>(api: Api<K>, mend: impl Fn(K) -> F)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    F: Future<Output = kube::Result<()>>,
{
    let objects = watcher(api, watcher::Config::default()).applied_objects();
    pin_mut!(objects);
    while let Some(object) = objects.next().await {
        let mended = match object {
            Ok(object) => mend(object).await,
            Err(error) => {
                tracing::warn!(%error, "a watch of the load-balancer controller starts anew");
                sleep(PAUSE).await;
                continue;
            }
        };
        match mended {
            Ok(()) => {}
            // Gone meanwhile, or changed: the change is an event of its own.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => tracing::error!(%error, "the load-balancer controller cannot write"),
        }
    }
}

async fn mend_service(cluster: Cluster, client: Client, service: Service) -> kube::Result<()> {
    let namespace = service.namespace().unwrap_or_default();
    let api: Api<Service> = Api::namespaced(client, &namespace);
    let name = service.name_any();
    if let Some(finalizers) = finalizers(&service) {
        // The resourceVersion keeps what others add to the list meanwhile.
        let metadata = json!({"resourceVersion": service.resource_version(), "finalizers": finalizers});
        api.patch(&name, &parameters(), &Patch::Merge(json!({"metadata": metadata}))).await?;
    }
    if let Some(status) = service_status(cluster, &service) {
        api.patch_status(&name, &parameters(), &Patch::Merge(json!({"status": status}))).await?;
    }
    Ok(())
}

async fn mend_ingress(cluster: Cluster, client: Client, ingress: Ingress) -> kube::Result<()> {
    let namespace = ingress.namespace().unwrap_or_default();
    let has_address = ingress
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref())
        .is_some_and(|addresses| !addresses.is_empty());
    if has_address || ingress.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let name = ingress.name_any();
    let address = address(cluster, "ingress", &namespace, &name);
    let status = json!({"status": {"loadBalancer": {"ingress": [{"hostname": address}]}}});
    let api: Api<Ingress> = Api::namespaced(client, &namespace);
    api.patch_status(&name, &parameters(), &Patch::Merge(status)).await?;
    Ok(())
}

/// Returns the status that a Service should have, if it has another.
fn service_status(cluster: Cluster, service: &Service) -> Option<Value> {
    let addresses = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let has_address = addresses.is_some_and(|addresses| !addresses.is_empty());
    match (wants_balancer(service), has_address) {
        (true, false) => {
            let address = address(cluster, "service", &service.namespace().unwrap_or_default(), &service.name_any());
            Some(json!({"loadBalancer": {"ingress": [{"hostname": address}]}}))
        }
        (false, true) => Some(json!({"loadBalancer": {"ingress": null}})),
        _ => None,
    }
}

/// Returns the finalizers that a Service should have, if it has others.
fn finalizers(service: &Service) -> Option<Vec<String>> {
    let mut finalizers = service.metadata.finalizers.clone().unwrap_or_default();
    let has = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    match (wants_balancer(service), has) {
        (true, false) => finalizers.push(FINALIZER.to_owned()),
        (false, true) => finalizers.retain(|finalizer| finalizer != FINALIZER),
        _ => return None,
    }
    Some(finalizers)
}

fn wants_balancer(service: &Service) -> bool {
    let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    kind == Some("LoadBalancer") && service.metadata.deletion_timestamp.is_none()
}

fn address(cluster: Cluster, kind: &str, namespace: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("{}/{kind}/{namespace}/{name}", cluster.name()));
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let number = u32::from_be_bytes([digest[16], digest[17], digest[18], digest[19]]);
    format!("a{}-{number}.elb.eu-west-1.amazonaws.com", &hex[1..])
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(kind: &str, extra: Value) -> Service {
        let mut service = json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": kind},
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            service["metadata"][key] = value.clone();
        }
        serde_json::from_value(service).expect("a Service")
    }

    #[test]
    fn addresses_differ_between_clusters_kinds_and_namespaces() {
        let all = [
            address(Cluster::A, "service", "shop", "web"),
            address(Cluster::B, "service", "shop", "web"),
            address(Cluster::A, "ingress", "shop", "web"),
            address(Cluster::A, "service", "other", "web"),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(all.iter().all(|address| address.ends_with(".elb.eu-west-1.amazonaws.com")));
    }

    #[test]
    fn only_services_of_type_load_balancer_get_an_address() {
        assert_eq!(service_status(Cluster::A, &service("ClusterIP", json!({}))), None);
        let status = service_status(Cluster::A, &service("LoadBalancer", json!({}))).expect("a status");
        assert_eq!(status["loadBalancer"]["ingress"][0]["hostname"], address(Cluster::A, "service", "shop", "web"));
    }

    #[test]
    fn a_service_that_goes_loses_the_finalizer_and_keeps_those_of_others() {
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/mine", FINALIZER]});
        assert_eq!(finalizers(&service("LoadBalancer", going)), Some(vec!["example.com/mine".to_owned()]));
        assert_eq!(finalizers(&service("LoadBalancer", json!({}))), Some(vec![FINALIZER.to_owned()]));
        assert_eq!(finalizers(&service("ClusterIP", json!({}))), None);
    }
}
