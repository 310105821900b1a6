//! Nodes of A that fall silent: nothing is deleted on one, and what hangs on another is let go of by
//! Kubernetes alone, as an administrator and the operator say.

use anyhow::{Context, Result, ensure};
use bed::judge::Expected;
use bed::node::{self, NewNode, NodeKnobs, PodKnobs};
use bed::workload::{USUAL_CLASS, absent, until};
use bed::{Bed, Cluster, ec2};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use libtest_mimic::Trial;
use serde_json::json;

use crate::stage::{PATIENT, Stage};
use crate::support::on_bed;

/// What Kubernetes wants to hear of a machine that is off before it removes pods and detaches volumes.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Label and taint of the nodes of this trial.
const OWN: (&str, &str) = ("trial", "move-silent");

pub(crate) fn trials() -> Vec<Trial> {
    vec![on_bed("silent::a_silent_node_pauses_until_it_is_back_or_said_to_be_off", silent_nodes)]
}

async fn silent_nodes(bed: &'static Bed) -> Result<()> {
    let nodes = node::Control::new(bed.ec2_url());
    let mut own = Vec::new();
    // A node of A holds one volume, so that each pod has a node of its own.
    for (cluster, attach_limit) in [(Cluster::A, Some(1)), (Cluster::A, Some(1)), (Cluster::B, None)] {
        let mut new = NewNode { attach_limit, ..NewNode::new(cluster, "eu-west-1a") };
        new.labels.insert(OWN.0.into(), OWN.1.into());
        new.taints.push(serde_json::from_value(json!({ "key": OWN.0, "value": OWN.1, "effect": "NoSchedule" }))?);
        own.push(nodes.add_node(&new).await?);
    }
    let stage = Stage::new(bed, "silent", |set| {
        let set = set.replicas(2).claim("data", "1Gi", USUAL_CLASS).node_selector(OWN.0, OWN.1).toleration(OWN.0);
        // With a minute more, the pod's time is longer than a control plane's patience with its node (50 s).
        set.grace_seconds(15)
    })
    .await?;
    let pods: Api<Pod> = Api::namespaced(stage.a.clone(), &stage.source);
    let node_of = async |pod: &str| pods.get(pod).await?.spec.and_then(|spec| spec.node_name).context("it has a node");
    let (off, back) = (node_of("web-0").await?, node_of("web-1").await?);
    ensure!(off != back, "both pods are on {off}");
    let survivor = pods.get("web-1").await?.uid();
    let case = stage.case().await?.excusing_node(&off).excusing_pod("web-0");
    let (_, volume) = stage.workload.volumes(&stage.a).await?.remove(0);

    // The pod's node loses its power while the pod ends, the next one's kubelet hangs.
    let lasts = PodKnobs { ignore_sigterm: true, ..PodKnobs::default() };
    nodes.pod_knobs(Some(Cluster::A), &stage.source, "web-0", lasts).await?;
    let power_cut = async {
        until(pods.clone(), "web-0", PATIENT, "ending", |pod| pod.is_some_and(is_ending)).await?;
        nodes.node_knobs(&off, NodeKnobs { dead: true, ..NodeKnobs::default() }).await?;
        nodes.node_knobs(&back, NodeKnobs { silent: true, ..NodeKnobs::default() }).await
    };
    let (ended, cut) = tokio::join!(stage.run("run", &["--order", "one-by-one", "--yes"]), power_cut);
    cut?;
    let said = ended?.expect_code(1).stderr;
    let waited = format!("s for pod web-0 to end in the source cluster, on node {off}, which is not Ready");
    ensure!(said.contains(&waited), "{said}");
    for way_out in
        [format!("bring node {off} back"), format!("taint node {off} {OUT_OF_SERVICE}=nodeshutdown:NoExecute")]
    {
        ensure!(said.contains(&way_out), "no `{way_out}` in {said}");
    }
    ensure!(is_ending(&pods.get("web-0").await?), "the pod stays as it is");

    // An administrator has seen that the machine is off.
    let all: Api<Node> = Api::all(stage.a.clone());
    let taint =
        json!({ "spec": { "taints": [{ "key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute" }] } });
    all.patch(&off, &PatchParams::default(), &Patch::Strategic(taint)).await?;
    absent(pods.clone(), "web-0", PATIENT).await?;
    ec2::Control::new(bed.ec2_url()).await_available(&volume, PATIENT).await?;
    let attachments: Api<VolumeAttachment> = Api::all(stage.a.clone());
    let attached = attachments.list(&ListParams::default()).await?;
    for attachment in attached.iter().filter(|it| it.spec.node_name == off) {
        absent(attachments.clone(), &attachment.name_any(), PATIENT).await?;
    }
    let reported = all.get(&off).await?.status.and_then(|status| status.volumes_in_use).unwrap_or_default();
    ensure!(reported.iter().any(|it| it.ends_with(&volume)), "{off} says nothing of {volume}: {reported:?}");

    let said = stage.run("run", &["--yes", "--detach-timeout", "2s"]).await?.expect_code(1).stderr;
    let waited = format!("node {off} in the source cluster, which is not Ready, to unmount {volume}");
    ensure!(said.contains(&waited), "{said}");
    ensure!(said.contains(&format!("`--accept-unclean-detach {off}`")), "{said}");
    let set = stage.set(Cluster::B).await?.context("it was made in prepare")?;
    ensure!(set.spec.replicas == Some(0), "B was given something");

    // A slip of the finger is not waited out.
    let slip = format!("{off}x");
    let said = stage.run("run", &["--yes", "--accept-unclean-detach", &slip]).await?.expect_code(2).stderr;
    ensure!(said.contains(&format!("{slip}: neither cluster has such a node")), "{said}");
    ensure!(said.contains(&format!("in the source cluster: did you mean `{off}`")), "{said}");
    ensure!(said.contains("left behind: everything as it was"), "{said}");

    // Said to be off, it is in nobody's way; the next pod is not stopped where it could not end.
    let said = stage.run("run", &["--yes", "--accept-unclean-detach", &off]).await?.expect_code(1).stderr;
    ensure!(said.contains(&format!("node {back} is not Ready: pod web-1 could not be stopped cleanly")), "{said}");
    ensure!(said.contains(&format!("bring node {back} back")), "{said}");
    ensure!(stage.ready_pods(Cluster::B).await? == 1);
    let next = pods.get("web-1").await?;
    ensure!(next.uid() == survivor && !is_ending(&next), "web-1 was touched");

    nodes.node_knobs(&back, NodeKnobs::default()).await?;
    until(all, &back, PATIENT, "Ready", |node| {
        let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
        conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
    })
    .await?;
    stage.run("run", &["--yes"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::B).await? == 2);
    stage.end(case.expecting(Expected::Moved)).await?;
    for node in own {
        nodes.remove_node(&node.name).await?;
    }
    Ok(())
}

fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}
