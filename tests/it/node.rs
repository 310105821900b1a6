//! The node agent and the load-balancer controller, among real controllers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bed::ec2::{AttachmentState, ForcedAttachment, VolumePatch, VolumeState};
use bed::facts::{HistoryEntry, HistoryKind};
use bed::node::{NodeKnobs, PodKnobs};
use bed::workload::{USUAL_CLASS, Workload, absent, exists, snapshot, until};
use bed::{Act, Bed, BedOptions, Cluster, Component};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::time::sleep;

use crate::place::{Place, SOON, is_ready, restarts_of};
use crate::support::{alone, eventually, on_bed};

/// How long a trial looks at something that must not happen.
const A_WHILE: Duration = Duration::from_secs(2);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("node::a_set_becomes_ready_on_volumes_made_for_it", a_set_becomes_ready_on_volumes_made_for_it),
        on_bed("node::a_deleted_pod_comes_back_to_its_data", a_deleted_pod_comes_back_to_its_data),
        on_bed("node::a_container_that_ignores_sigterm_lasts", a_container_that_ignores_sigterm_lasts),
        on_bed("node::a_silent_node_keeps_process_and_volume", a_silent_node_keeps_process_and_volume),
        on_bed("node::a_dead_node_starts_its_containers_anew", a_dead_node_starts_its_containers_anew),
        on_bed("node::a_refused_mount_is_tried_again", a_refused_mount_is_tried_again),
        on_bed("node::a_pod_that_is_never_ready_is_mended", a_pod_that_is_never_ready_is_mended),
        on_bed("node::a_crash_counts_and_keeps_the_mounts", a_crash_counts_and_keeps_the_mounts),
        on_bed("node::a_lag_of_volumes_in_use_delays_the_detach", a_lag_of_volumes_in_use_delays_the_detach),
        on_bed("node::volumes_are_made_where_the_pod_runs", volumes_are_made_where_the_pod_runs),
        on_bed("node::balancers_have_addresses_of_their_own", balancers_have_addresses_of_their_own),
        on_bed("node::a_node_comes_and_goes", a_node_comes_and_goes),
        on_bed("node::a_snapshot_shows_what_was_touched", a_snapshot_shows_what_was_touched),
        alone("node::pods_outlast_a_restart_of_the_api_server", pods_outlast_a_restart_of_the_api_server),
    ]
}

fn waiting_message(pod: &Pod) -> String {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let waiting = statuses.filter_map(|container| container.state.as_ref()?.waiting.as_ref()?.message.clone());
    waiting.collect()
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Returns kind, pod uid and what was found, entry by entry.
fn kinds(history: &[HistoryEntry]) -> Vec<(HistoryKind, &str, usize)> {
    history.iter().map(|entry| (entry.kind, entry.pod_uid.as_str(), entry.found)).collect()
}

async fn a_set_becomes_ready_on_volumes_made_for_it(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::A).await?;
    let workload = Workload::new("node-made", "web").replicas(2).claim("data", "1Gi", USUAL_CLASS).block_claim(
        "raw",
        "2Gi",
        USUAL_CLASS,
    );
    place.put(&workload).await?;
    let volumes = workload.volumes(&place.client).await?;
    let claims: Vec<&str> = volumes.iter().map(|(claim, _)| claim.as_str()).collect();
    assert_eq!(claims, ["data-web-0", "raw-web-0", "data-web-1", "raw-web-1"]);
    for (claim, id) in &volumes {
        let volume = place.ec2.volume(id).await?;
        assert_eq!((volume.state, volume.size), (VolumeState::InUse, if claim.starts_with("raw") { 2 } else { 1 }));
        let history = place.ec2.history(id).await?;
        let pod = place.pods(&workload).get(&history[0].pod).await?;
        assert_eq!(kinds(&history), [(HistoryKind::Start, pod.uid().unwrap_or_default().as_str(), 0)]);
        assert_eq!((&history[0].claim, Some(history[0].node.as_str())), (claim, node_of(&pod)));
        assert_eq!(volume.attachments[0].instance, Some(history[0].instance.clone()));
    }
    let pod = place.pod(&workload).await?;
    let node: Node = Api::all(place.client.clone()).get(node_of(&pod).context("a pod with a node")?).await?;
    let in_use = node.status.and_then(|status| status.volumes_in_use).unwrap_or_default();
    let name = format!("kubernetes.io/csi/ebs.csi.aws.com^{}", volumes[0].1);
    assert!(in_use.contains(&name), "{name} is not in {in_use:?}");
    Ok(())
}

async fn a_deleted_pod_comes_back_to_its_data(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::B).await?;
    let workload = Workload::new("node-data", "web").claim("data", "1Gi", USUAL_CLASS);
    place.put(&workload).await?;
    let (before, volume) = (place.pod(&workload).await?, place.volume(&workload).await?);
    place.delete_pod(&workload, &DeleteParams::default()).await?;
    let uid = before.uid();
    let holds = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.uid() != uid && is_ready(pod));
    let after = until(place.pods(&workload), "web-0", SOON, "back", holds).await?.context("a pod")?;

    let (old, new) = (before.uid().unwrap_or_default(), after.uid().unwrap_or_default());
    let history = place.ec2.history(&volume).await?;
    let expected = [
        (HistoryKind::Start, old.as_str(), 0),
        (HistoryKind::End, old.as_str(), 0),
        (HistoryKind::Start, new.as_str(), 2),
    ];
    assert_eq!(kinds(&history), expected);
    assert_eq!(place.volume(&workload).await?, volume);
    Ok(())
}

async fn a_container_that_ignores_sigterm_lasts(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::A).await?;
    let workload = Workload::new("node-sigterm", "web").claim("data", "1Gi", USUAL_CLASS).grace_seconds(3);
    place.knobs(&workload, PodKnobs { ignore_sigterm: true, ..PodKnobs::default() }).await?;
    place.put(&workload).await?;
    let volume = place.volume(&workload).await?;
    place.scale(&workload, 0).await?;
    let pods = place.pods(&workload);
    let deleted = |pod: Option<&Pod>| pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
    until(pods.clone(), "web-0", SOON, "to end", deleted).await?;
    let asked = Timestamp::now();
    absent(pods, "web-0", SOON).await?;
    let history = place.ec2.history(&volume).await?;
    let end = history.iter().find(|entry| entry.kind == HistoryKind::End).context("the pod has ended")?;
    let lasted = end.at.duration_since(asked);
    // The watch that saw the deletion is slower than the kubelet's own, never by a second.
    assert!(lasted > SignedDuration::from_secs(2), "ended after {lasted:?}");
    assert!(lasted < SignedDuration::from_secs(20), "ended after {lasted:?}");
    Ok(())
}

async fn a_silent_node_keeps_process_and_volume(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::A).await?;
    let (node, workload) =
        place.own_node(Workload::new("node-silent", "web").claim("data", "1Gi", USUAL_CLASS)).await?;
    place.put(&workload).await?;
    let (pod, volume) = (place.pod(&workload).await?, place.volume(&workload).await?);

    place.nodes.node_knobs(&node.name, NodeKnobs { silent: true, ..NodeKnobs::default() }).await?;
    let asked = place.delete_pod(&workload, &DeleteParams::default().grace_period(0)).await?;
    let uid = pod.uid();
    let bound = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.uid() != uid && node_of(pod).is_some());
    until(place.pods(&workload), "web-0", SOON, "made anew and bound", bound).await?;
    sleep(A_WHILE).await;
    assert!(place.runs(&pod).await?, "the process has ended with the pod object");
    assert!(!is_ready(&place.pod(&workload).await?), "the successor runs on a silent node");
    assert_eq!(place.ec2.volume(&volume).await?.state, VolumeState::InUse);
    assert_eq!(place.ec2.history(&volume).await?.len(), 1);
    let lease: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(place.client.clone(), "kube-node-lease");
    let renewed = |lease: k8s_openapi::api::coordination::v1::Lease| {
        lease.spec.and_then(|spec| spec.renew_time).map(|time| time.0).context("a renewed Lease")
    };
    assert!(renewed(lease.get(&node.name).await?)? < asked, "a silent node renews its Lease");

    place.nodes.node_knobs(&node.name, NodeKnobs::default()).await?;
    workload.wait_ready(&place.client).await?;
    eventually("the end of the old process", SOON, async || Ok((!place.runs(&pod).await?).then_some(()))).await?;
    let history = place.ec2.history(&volume).await?;
    let ended = history.iter().any(|entry| entry.kind == HistoryKind::End && Some(&entry.pod_uid) == uid.as_ref());
    assert!(ended, "{history:?}");
    assert!(renewed(lease.get(&node.name).await?)? > asked);
    Ok(())
}

async fn a_dead_node_starts_its_containers_anew(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::B).await?;
    let (node, workload) = place.own_node(Workload::new("node-dead", "web").claim("data", "1Gi", USUAL_CLASS)).await?;
    place.put(&workload).await?;
    let (pod, volume) = (place.pod(&workload).await?, place.volume(&workload).await?);
    place.nodes.node_knobs(&node.name, NodeKnobs { dead: true, ..NodeKnobs::default() }).await?;
    assert!(!place.runs(&pod).await?);
    assert_eq!(place.ec2.history(&volume).await?.len(), 2);

    place.nodes.node_knobs(&node.name, NodeKnobs::default()).await?;
    let after = place.ready_after(&workload, 1).await?;
    assert_eq!(after.uid(), pod.uid());
    let history = place.ec2.history(&volume).await?;
    let uid = pod.uid().unwrap_or_default();
    let expected = [
        (HistoryKind::Start, uid.as_str(), 0),
        (HistoryKind::End, uid.as_str(), 0),
        (HistoryKind::Start, uid.as_str(), 2),
    ];
    assert_eq!(kinds(&history), expected);
    Ok(())
}

async fn a_refused_mount_is_tried_again(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::A).await?;
    let (node, workload) =
        place.own_node(Workload::new("node-refused", "web").claim("data", "1Gi", USUAL_CLASS)).await?;
    place.put(&workload).await?;
    let volume = place.volume(&workload).await?;
    // Kubernetes goes on believing that it is attached: only EC2 knows better.
    place.nodes.node_knobs(&node.name, NodeKnobs { dead: true, ..NodeKnobs::default() }).await?;
    let forced = |attachment: Option<ForcedAttachment>, state| VolumePatch {
        state: Some(state),
        attachments: Some(attachment.into_iter().collect()),
        ..VolumePatch::default()
    };
    place.ec2.patch_volume(&volume, &forced(None, VolumeState::Available)).await?;
    place.nodes.node_knobs(&node.name, NodeKnobs::default()).await?;
    let refused = |pod: Option<&Pod>| pod.is_some_and(|pod| waiting_message(pod).starts_with("mounting volume"));
    until(place.pods(&workload), "web-0", SOON, "waiting for its mount", refused).await?;
    sleep(A_WHILE).await;
    assert!(!is_ready(&place.pod(&workload).await?), "the pod runs without its volume");
    assert_eq!(place.ec2.history(&volume).await?.len(), 2);

    let attachment = ForcedAttachment {
        instance: Some(node.instance.clone()),
        state: AttachmentState::Attached,
        associated_resource: None,
        delete_on_termination: false,
    };
    place.ec2.patch_volume(&volume, &forced(Some(attachment), VolumeState::InUse)).await?;
    place.ready_after(&workload, 1).await?;
    assert_eq!(place.ec2.history(&volume).await?.len(), 3);
    Ok(())
}

async fn a_pod_that_is_never_ready_is_mended(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::B).await?;
    let workload = Workload::new("node-never", "web").replicas(2).claim("data", "1Gi", USUAL_CLASS);
    // Before the pod exists.
    place.knobs(&workload, PodKnobs { never_ready: true, ..PodKnobs::default() }).await?;
    workload.apply(&place.client).await?;
    let runs = |pod: Option<&Pod>| {
        let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
        phase == Some("Running")
    };
    until(place.pods(&workload), "web-0", SOON, "running", runs).await?;
    sleep(A_WHILE).await;
    let pods = place.pods(&workload).list(&ListParams::default()).await?;
    assert_eq!(
        pods.items.iter().map(|pod| (pod.name_any(), is_ready(pod))).collect::<Vec<_>>(),
        [("web-0".into(), false)]
    );
    place.knobs(&workload, PodKnobs::default()).await?;
    workload.wait_ready(&place.client).await
}

async fn a_crash_counts_and_keeps_the_mounts(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::A).await?;
    let workload = Workload::new("node-crash", "web").claim("data", "1Gi", USUAL_CLASS);
    place.put(&workload).await?;
    let (pod, volume) = (place.pod(&workload).await?, place.volume(&workload).await?);
    place.knobs(&workload, PodKnobs { fail_after_ms: Some(100), ..PodKnobs::default() }).await?;
    let crashed = |pod: Option<&Pod>| pod.is_some_and(|pod| restarts_of(pod) >= 1);
    until(place.pods(&workload), "web-0", SOON, "restarted", crashed).await?;
    place.knobs(&workload, PodKnobs::default()).await?;
    let after = place.ready_after(&workload, 1).await?;
    assert_eq!(after.uid(), pod.uid());
    assert_eq!(place.ec2.history(&volume).await?.len(), 1);
    Ok(())
}

async fn a_lag_of_volumes_in_use_delays_the_detach(bed: &'static Bed) -> Result<()> {
    const LAG: u64 = 4000;
    let place = Place::new(bed, Cluster::B).await?;
    let (node, workload) = place.own_node(Workload::new("node-lag", "web").claim("data", "1Gi", USUAL_CLASS)).await?;
    place.put(&workload).await?;
    let volume = place.volume(&workload).await?;
    place.nodes.node_knobs(&node.name, NodeKnobs { volumes_in_use_lag_ms: Some(LAG), ..NodeKnobs::default() }).await?;
    place.scale(&workload, 0).await?;
    // The kubelet does not hold up the pod's end for its report, so the two are apart.
    absent(place.pods(&workload), "web-0", SOON).await?;
    let gone = Timestamp::now();
    let attachments: Api<VolumeAttachment> = Api::all(place.client.clone());
    let listed = attachments.list(&ListParams::default()).await?;
    assert!(listed.items.iter().any(|attachment| attachment.spec.node_name == node.name && attached(attachment)));

    place.ec2.await_available(&volume, SOON).await?;
    let changes = place.ec2.changes(Some(&volume)).await?;
    let detaching = changes
        .iter()
        .find(|change| change.now.attachments.iter().any(|attachment| attachment.state == "detaching"))
        .context("a detach")?;
    let history = place.ec2.history(&volume).await?;
    let end = history.last().context("an end")?.at;
    assert!(gone.duration_since(end) < SignedDuration::from_millis(LAG.try_into()?), "the pod waited for the report");
    let waited = detaching.at.duration_since(end);
    assert!(waited >= SignedDuration::from_millis(LAG.try_into()?), "detached {waited:?} after the unmount");
    Ok(())
}

fn attached(attachment: &VolumeAttachment) -> bool {
    attachment.status.as_ref().is_some_and(|status| status.attached)
}

async fn volumes_are_made_where_the_pod_runs(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::B).await?;
    let nodes = place.nodes.nodes().await?;
    for zone in ["eu-west-1a", "eu-west-1b"] {
        let workload = Workload::new("node-zones", &format!("in-{}", &zone[zone.len() - 2..]))
            .claim("data", "1Gi", USUAL_CLASS)
            .node_selector("topology.kubernetes.io/zone", zone);
        place.put(&workload).await?;
        assert_eq!(place.ec2.volume(&place.volume(&workload).await?).await?.zone, zone);
        let pod = place.pod(&workload).await?;
        let node = nodes.iter().find(|node| Some(node.name.as_str()) == node_of(&pod)).context("a usual node")?;
        assert_eq!((node.cluster, node.zone.as_str()), (Cluster::B, zone));
    }
    Ok(())
}

async fn balancers_have_addresses_of_their_own(bed: &'static Bed) -> Result<()> {
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "public"},
        "spec": {"defaultBackend": {"service": {"name": "public", "port": {"number": 80}}}},
    });
    let workload =
        Workload::new("node-balancer", "web").service("public", json!({"type": "LoadBalancer"})).object(ingress);
    let mut addresses = Vec::new();
    for cluster in Cluster::BOTH {
        let place = Place::new(bed, cluster).await?;
        workload.apply(&place.client).await?;
        let services: Api<Service> = Api::namespaced(place.client.clone(), workload.namespace());
        let service =
            until(services.clone(), "public", SOON, "addressed", |service| !service_address(service).is_empty());
        addresses.push(service_address(service.await?.as_ref()));
        let ingresses: Api<Ingress> = Api::namespaced(place.client.clone(), workload.namespace());
        let ingress = until(ingresses, "public", SOON, "addressed", |ingress| !ingress_address(ingress).is_empty());
        addresses.push(ingress_address(ingress.await?.as_ref()));
        // Its finalizer holds it no longer than the controller needs.
        services.delete("public", &DeleteParams::default()).await?;
        absent(services, "public", SOON).await?;
    }
    ensure!(addresses.iter().all(|address| address.ends_with(".elb.eu-west-1.amazonaws.com")), "{addresses:?}");
    let distinct: std::collections::BTreeSet<&String> = addresses.iter().collect();
    assert_eq!(distinct.len(), 4, "{addresses:?}");
    Ok(())
}

fn service_address(service: Option<&Service>) -> String {
    let balancer = service.and_then(|service| service.status.as_ref()?.load_balancer.as_ref());
    let hosts = balancer.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    hosts.filter_map(|host| host.hostname.clone()).collect()
}

fn ingress_address(ingress: Option<&Ingress>) -> String {
    let balancer = ingress.and_then(|ingress| ingress.status.as_ref()?.load_balancer.as_ref());
    let hosts = balancer.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    hosts.filter_map(|host| host.hostname.clone()).collect()
}

async fn a_node_comes_and_goes(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::A).await?;
    let (node, workload) = place.own_node(Workload::new("node-goes", "web")).await?;
    let nodes: Api<Node> = Api::all(place.client.clone());
    let found = exists(nodes.clone(), &node.name, SOON).await?;
    assert_eq!(found.spec.and_then(|spec| spec.provider_id), Some(format!("aws:///{}/{}", node.zone, node.instance)));
    place.put(&workload).await?;
    let pod = place.pod(&workload).await?;
    assert_eq!(node_of(&pod), Some(node.name.as_str()));
    place.nodes.remove_node(&node.name).await?;
    absent(nodes, &node.name, SOON).await?;
    assert!(!place.runs(&pod).await?);
    assert!(place.nodes.remove_node(&node.name).await.is_err());
    Ok(())
}

async fn a_snapshot_shows_what_was_touched(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::A).await?;
    let workload = Workload::new("node-snapshot", "web").claim("data", "1Gi", USUAL_CLASS);
    place.put(&workload).await?;
    let before = snapshot(&place.client, workload.namespace()).await?;
    let volume = volume_key(&place, &workload).await?;
    for key in ["Pod/web-0", "StatefulSet/web", "PersistentVolumeClaim/data-web-0", &volume] {
        assert!(before.objects.contains_key(key), "{key} is not in {:?}", before.objects.keys());
    }
    assert_eq!(before.differences(&snapshot(&place.client, workload.namespace()).await?), Vec::<String>::new());

    let patch = Patch::Merge(json!({"metadata": {"annotations": {"touched": "yes"}}}));
    place.pods(&workload).patch("web-0", &PatchParams::default(), &patch).await?;
    let after = snapshot(&place.client, workload.namespace()).await?;
    assert_eq!(before.differences(&after), [r#"Pod/web-0 .metadata .annotations: null → {"touched":"yes"}"#]);
    Ok(())
}

/// Returns the snapshot key of the PersistentVolume of a set's first claim.
async fn volume_key(place: &Place, workload: &Workload) -> Result<String> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(place.client.clone(), workload.namespace());
    let claim = claims.get(&workload.claims()[0]).await?;
    let name = claim.spec.and_then(|spec| spec.volume_name).context("a bound claim")?;
    Ok(format!("PersistentVolume/{name}"))
}

async fn pods_outlast_a_restart_of_the_api_server() -> Result<()> {
    let bed = tokio::task::spawn_blocking(|| Bed::start(BedOptions::default())).await??;
    let place = Place::new(&bed, Cluster::A).await?;
    let workload = Workload::new("node-outage", "web").replicas(2).claim("data", "1Gi", USUAL_CLASS);
    place.put(&workload).await?;
    let (pod, volume) = (place.pod(&workload).await?, place.volume(&workload).await?);
    bed.signal(Cluster::A, Component::KubeApiserver, Act::Kill).await?;
    bed.signal(Cluster::A, Component::KubeApiserver, Act::Start).await?;
    let back = eventually("the API server", SOON, async || Ok(Some(place.pod(&workload).await?))).await?;
    assert_eq!((back.uid(), restarts_of(&back)), (pod.uid(), 0));

    // The agent has not lost sight of the pod.
    place.delete_pod(&workload, &DeleteParams::default()).await?;
    let uid = pod.uid();
    let holds = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.uid() != uid && is_ready(pod));
    let after = until(place.pods(&workload), "web-0", SOON, "back", holds).await?.context("a pod")?;
    let (old, new) = (pod.uid().unwrap_or_default(), after.uid().unwrap_or_default());
    let history = place.ec2.history(&volume).await?;
    let expected = [
        (HistoryKind::Start, old.as_str(), 0),
        (HistoryKind::End, old.as_str(), 0),
        (HistoryKind::Start, new.as_str(), 2),
    ];
    assert_eq!(kinds(&history), expected);
    Ok(())
}
