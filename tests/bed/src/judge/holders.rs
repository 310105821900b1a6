//! Who else held a volume, in the eyes of the API servers: other pods on its claim, and nodes that
//! report it in use (I-6).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::Cluster;

use super::view::View;
use super::{Event, SetVolume};

/// Where a node lists the volumes that it uses.
pub(super) const VOLUMES_IN_USE: [&str; 2] = ["status", "volumesInUse"];

/// Returns since when no pod of a cluster uses the claim of a volume, or the pod that still does.
///
/// A pod that has ended (`Succeeded`, `Failed`) uses nothing, even while its object stays.
pub(super) fn claim_unused_since(
    view: &View<'_>,
    cluster: Cluster,
    volume: &SetVolume,
    until: Timestamp,
) -> Result<Timestamp, String> {
    let namespace = view.case.namespace(cluster);
    let mut since = Timestamp::MIN;
    for pod in view.users(cluster, &volume.claim, until) {
        let ended = || {
            let mut writes = view.writes().filter(|event| event.cluster == cluster && event.received <= until);
            writes.find(|event| event.is_about("pods", namespace, &pod) && is_end(event)).map(|it| it.completed)
        };
        let gone = view.absent_since(cluster, "pods", namespace, &pod, until).or_else(ended);
        since = since.max(gone.ok_or_else(|| format!("pod {pod} in {} uses its claim", cluster.name()))?);
    }
    Ok(since)
}

/// Returns since when no node of a cluster reports a volume in use, or the node that still does.
pub(super) fn unreported_since(
    view: &View<'_>,
    cluster: Cluster,
    volume: &SetVolume,
    until: Timestamp,
) -> Result<Timestamp, String> {
    let mut reports: BTreeMap<&str, (bool, Timestamp)> = BTreeMap::new();
    for node in view.case.before.of(cluster, "nodes") {
        let listed = node.body.pointer("/status/volumesInUse").is_some_and(|listed| names(listed, &volume.handle));
        reports.insert(node.name(), (listed, Timestamp::MIN));
    }
    for event in view.writes().filter(|event| event.cluster == cluster && event.resource == "nodes") {
        if let Some(listed) = event.assigns(&VOLUMES_IN_USE).filter(|_| event.received <= until) {
            let listed = names(&listed, &volume.handle);
            let report = reports.entry(&event.name).or_insert((false, Timestamp::MIN));
            if report.0 != listed {
                *report = (listed, event.completed);
            }
        }
    }
    let mut since = Timestamp::MIN;
    for (node, (listed, at)) in reports {
        if view.case.excused_nodes.contains(node) {
            continue;
        }
        if listed {
            return Err(format!("node {node} in {} reports it in use", cluster.name()));
        }
        since = since.max(at);
    }
    Ok(since)
}

fn is_end(event: &Event) -> bool {
    event.assigns(&["status", "phase"]).is_some_and(|phase| phase == "Succeeded" || phase == "Failed")
}

fn names(listed: &Value, handle: &str) -> bool {
    let listed = listed.as_array().into_iter().flatten().filter_map(Value::as_str);
    listed.into_iter().any(|name| name.rsplit(['^', '/']).next() == Some(handle))
}
