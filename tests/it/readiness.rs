//! The node agent's readiness rules: each says no when it should, among real controllers.

use anyhow::{Context, Result, ensure};
use bed::node::{PodKnobs, ReadyWhen};
use bed::workload::{USUAL_CLASS, Workload, absent, until};
use bed::{Bed, Cluster};
use k8s_openapi::api::core::v1::Pod;
use libtest_mimic::Trial;

use crate::place::{Place, SOON, is_ready};
use crate::support::on_bed;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("readiness::a_member_needs_the_majority_of_its_set_here", majority),
        on_bed("readiness::a_name_must_answer_in_the_same_cluster", name),
        on_bed("readiness::a_member_alone_must_have_stopped_last", stopped_last),
        on_bed("readiness::a_rule_that_is_not_understood_starts_nothing", misspelled),
    ]
}

/// Waits until the containers of a pod run, and says whether it is Ready. A pod whose rules hold is
/// Ready with the very status that says that it runs.
async fn is_ready_once_it_runs(place: &Place, workload: &Workload, pod: &str) -> Result<bool> {
    let runs = |pod: Option<&Pod>| {
        let status = pod.and_then(|pod| pod.status.as_ref());
        status.is_some_and(|status| status.phase.as_deref() == Some("Running"))
    };
    let pod = until(place.pods(workload), pod, SOON, "to run", runs).await?.context("a pod that runs")?;
    Ok(is_ready(&pod))
}

async fn majority(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::A).await?;
    let rules = ReadyWhen { majority_of: Some(3), ..ReadyWhen::default() };
    let workload = Workload::new("ready-majority", "web").parallel().ready_when(rules);
    workload.apply(&place.client).await?;
    ensure!(!is_ready_once_it_runs(&place, &workload, "web-0").await?, "one of three is Ready");
    place.scale(&workload, 2).await?;
    workload.wait_ready(&place.client).await?;
    place.scale(&workload, 1).await?;
    until(place.pods(&workload), "web-0", SOON, "unready", |pod| pod.is_some_and(|pod| !is_ready(pod))).await?;
    Ok(())
}

async fn name(bed: &'static Bed) -> Result<()> {
    let (a, b) = (Place::new(bed, Cluster::A).await?, Place::new(bed, Cluster::B).await?);
    let writer = Workload::new("ready-name", "writer");
    let rules = ReadyWhen { answers: Some("writer-0.writer".to_owned()), ..ReadyWhen::default() };
    let reader = Workload::new("ready-name", "reader").ready_when(rules);
    a.put(&writer).await?;
    reader.apply(&b.client).await?;
    ensure!(!is_ready_once_it_runs(&b, &reader, "reader-0").await?, "a name of the other cluster answers");
    let knobs = PodKnobs { never_ready: true, ..PodKnobs::default() };
    b.nodes.pod_knobs(Some(Cluster::B), "ready-name", "writer-0", knobs).await?;
    writer.apply(&b.client).await?;
    ensure!(!is_ready_once_it_runs(&b, &writer, "writer-0").await?);
    ensure!(!is_ready_once_it_runs(&b, &reader, "reader-0").await?, "a pod that is not Ready answers");
    b.nodes.pod_knobs(Some(Cluster::B), "ready-name", "writer-0", PodKnobs::default()).await?;
    reader.wait_ready(&b.client).await
}

async fn stopped_last(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::A).await?;
    let rules = ReadyWhen { stopped_last: true, ..ReadyWhen::default() };
    let workload = Workload::new("ready-last", "web").replicas(2).parallel().claim("data", "1Gi", USUAL_CLASS);
    let workload = workload.ready_when(rules);
    place.put(&workload).await?;
    for (slower, may_start) in [("web-0", true), ("web-1", false)] {
        for pod in workload.pods() {
            let exit_ms = (pod == slower).then_some(800);
            let knobs = PodKnobs { exit_ms, ..PodKnobs::default() };
            place.nodes.pod_knobs(Some(Cluster::A), "ready-last", &pod, knobs).await?;
        }
        place.scale(&workload, 0).await?;
        for pod in workload.pods() {
            absent(place.pods(&workload), &pod, SOON).await?;
        }
        place.scale(&workload, 1).await?;
        let is_ready = is_ready_once_it_runs(&place, &workload, "web-0").await?;
        ensure!(is_ready == may_start, "{slower} stopped last, and web-0 alone is Ready: {is_ready}");
        // Whoever finds the other joins it.
        place.scale(&workload, 2).await?;
        workload.wait_ready(&place.client).await?;
    }
    Ok(())
}

async fn misspelled(bed: &'static Bed) -> Result<()> {
    let place = Place::new(bed, Cluster::A).await?;
    let workload = Workload::new("ready-misspelled", "web").edit(|set| {
        set["spec"]["template"]["metadata"]["annotations"] =
            serde_json::json!({ bed::node::READY_WHEN: r#"{"majority":3}"# });
    });
    workload.apply(&place.client).await?;
    let says_so =
        |pod: Option<&Pod>| pod.is_some_and(|pod| format!("{:?}", pod.status).contains("unknown field `majority`"));
    until(place.pods(&workload), "web-0", SOON, "to say what is wrong", says_so).await?;
    Ok(())
}
