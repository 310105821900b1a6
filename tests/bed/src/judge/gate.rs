//! What must have been looked at before an act: I-6, I-8.

use jiff::Timestamp;

use crate::Cluster;

use super::holders::{claim_unused_since, unreported_since};
use super::view::{RECLAIM_POLICY, View, violation};
use super::{Event, Order, SetVolume, Violation};

#[cfg(test)]
mod tests;

/// I-6: each write that lets a pod start on a volume which the other side held follows the whole
/// gate, and the destination never has more replicas than ordinals were handed over.
///
/// Such writes are: more replicas in the destination, and the set created in the source again; of a
/// claim that moves without a pod, the claim created in the destination, and deleted there again. The
/// gate is, each looked at after the one before:
///
/// 1. the pod is gone on the side that held the volume,
/// 2. no other pod of either side uses its claim,
/// 3. no node of that side reports it in use,
/// 4. every VolumeAttachment of the volume there is gone,
/// 5. EC2 says twice in a row that the volume is available with no attachment.
pub(super) fn i6_gate_before_a_pod_may_start(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut replicas = 0;
    for (event, wanted) in view.replicas(Cluster::B) {
        if view.is_tools(event) && wanted > replicas {
            if wanted > view.case.replicas {
                let what = format!("{wanted} replicas in b, the set has {}", view.case.replicas);
                violations.push(violation("I-6", what, &[event]));
            }
            let started = view.case.start + replicas..view.case.start + wanted;
            for ordinal in started {
                violations.extend(open_gate(view, Cluster::A, ordinal, event));
            }
        }
        replicas = wanted;
    }
    for create in view.set_creates(Cluster::A) {
        let wanted = create.replicas().unwrap_or(1);
        for ordinal in view.case.start..view.case.start + wanted {
            violations.extend(open_gate(view, Cluster::B, ordinal, create));
        }
    }
    for event in view.acts().filter(|event| event.cluster == Cluster::B) {
        let leaving = match event.verb.as_str() {
            "create" => Cluster::A,
            "delete" => Cluster::B,
            _ => continue,
        };
        let is_in_place = event.resource == "persistentvolumeclaims" && event.namespace == view.case.destination;
        let idle = view.case.volume_of_claim(&event.name).filter(|volume| is_in_place && view.case.is_idle(volume));
        let Some(volume) = idle.filter(|it| view.last_holder(&it.handle, event.received) == Some(leaving)) else {
            continue;
        };
        if let Err(missing) = missing_at_gate(view, leaving, volume, event.received) {
            let what = format!("{} of claim {} in b although {missing}", event.verb, volume.claim);
            violations.push(violation("I-6", what, &[event]));
        }
    }
    violations
}

/// Returns what was not looked at, or not in order, before an ordinal's volumes left a side.
fn open_gate(view: &View<'_>, leaving: Cluster, ordinal: i64, start: &Event) -> Vec<Violation> {
    view.case
        .volumes_of(ordinal)
        .filter(|volume| view.last_holder(&volume.handle, start.received) == Some(leaving))
        .filter_map(|volume| {
            let missing = missing_at_gate(view, leaving, volume, start.received).err()?;
            let what = format!("pod {} may start on {} although {missing}", view.case.pod(ordinal), volume.handle);
            Some(violation("I-6", what, &[start]))
        })
        .collect()
}

fn missing_at_gate(view: &View<'_>, leaving: Cluster, volume: &SetVolume, until: Timestamp) -> Result<(), String> {
    let place = leaving.name();
    // Without a pod of its own, the volume has only users.
    let mut pod_seen = Timestamp::MIN;
    if !view.case.is_idle(volume) {
        let (namespace, pod) = (view.case.namespace(leaving), view.case.pod(volume.ordinal));
        let gone = view
            .absent_since(leaving, "pods", namespace, &pod, until)
            .ok_or_else(|| format!("pod {pod} still exists in {place}"))?;
        pod_seen = seen_absent(view, leaving, "pods", namespace, &pod, gone, pod_seen, until)
            .ok_or_else(|| format!("nothing shows that pod {pod} was seen gone in {place}"))?;
    }
    let mut users_seen = pod_seen;
    for cluster in Cluster::BOTH {
        let (namespace, unused) = (view.case.namespace(cluster), claim_unused_since(view, cluster, volume, until)?);
        let seen = seen_absent(view, cluster, "pods", namespace, "", unused, pod_seen, until)
            .ok_or_else(|| format!("nothing shows that the pods of {} were looked at after that", cluster.name()))?;
        users_seen = users_seen.max(seen);
    }
    let unreported = unreported_since(view, leaving, volume, until)?;
    let nodes_seen = seen_absent(view, leaving, "nodes", "", "", unreported, users_seen, until)
        .ok_or_else(|| format!("nothing shows that the nodes of {place} were looked at after that"))?;

    let mut attachment_seen = nodes_seen;
    let attachments = view.attachments(leaving, &volume.handle);
    for attachment in &attachments {
        let gone = view
            .absent_since(leaving, "volumeattachments", "", attachment, until)
            .ok_or_else(|| format!("VolumeAttachment {attachment} still exists in {place}"))?;
        let seen = seen_absent(view, leaving, "volumeattachments", "", attachment, gone, nodes_seen, until)
            .ok_or_else(|| format!("nothing shows that its VolumeAttachment was seen gone in {place} after that"))?;
        attachment_seen = attachment_seen.max(seen);
    }
    if attachments.is_empty() {
        attachment_seen = seen_absent(view, leaving, "volumeattachments", "", "", nodes_seen, nodes_seen, until)
            .ok_or_else(|| format!("nothing shows that VolumeAttachments were looked at in {place}"))?;
    }

    let described: Vec<_> = view
        .calls()
        .filter(|call| call.received >= attachment_seen && call.answered <= until && call.error.is_none())
        .filter_map(|call| call.seen.iter().find(|seen| seen.volume == volume.handle))
        .collect();
    match described.as_slice() {
        [.., one, two] => {
            let free = |seen: &crate::facts::VolumeSeen| seen.state == "available" && seen.attachments.is_empty();
            if free(one) && free(two) {
                Ok(())
            } else {
                Err("EC2 did not say twice in a row that it is free".to_owned())
            }
        }
        few => Err(format!(
            "EC2 was asked {} times about it after its VolumeAttachment was seen gone, not twice",
            few.len()
        )),
    }
}

/// Returns when the tool had first seen, by a fresh read begun after `begun`, that an object which is
/// gone since `gone` is absent.
///
/// A list that was under way when the object went may show it, or not: it counts.
#[expect(clippy::too_many_arguments, reason = "an object, and three moments")]
fn seen_absent(
    view: &View<'_>,
    cluster: Cluster,
    resource: &str,
    namespace: &str,
    name: &str,
    gone: Timestamp,
    begun: Timestamp,
    until: Timestamp,
) -> Option<Timestamp> {
    view.reads()
        .filter(|read| read.cluster == cluster && read.received >= begun)
        .filter(|read| read.completed >= gone && read.completed <= until)
        .find(|read| {
            let absent = read.verb == "get"
                && read.code == 404
                && read.is_fresh_read()
                && read.is_about(resource, namespace, name);
            absent || read.lists(resource, namespace, name)
        })
        .map(|read| read.completed)
}

/// I-8: the conditions of each delete of a pod by the tool.
///
/// Forward: the source's set is gone, the ordinal's volumes are retained on both sides and their
/// pair in the destination is bound, all lower ordinals are available there (together: it has no
/// replicas). Backward, in the destination: its set has no replicas. Both locks are held.
pub(super) fn i8_conditions_of_each_pod_delete(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for cluster in Cluster::BOTH {
        for (ordinal, delete) in view.pod_deletes(cluster) {
            let mut missing = match cluster {
                Cluster::A => missing_forward(view, ordinal, delete.received),
                Cluster::B => missing_backward(view, delete.received),
            };
            missing.extend(missing_locks(view, delete.received));
            for missing in missing {
                let what = format!("pod {} is deleted in {} although {missing}", delete.name, cluster.name());
                violations.push(violation("I-8", what, &[delete]));
            }
        }
    }
    violations
}

fn missing_forward(view: &View<'_>, ordinal: i64, at: Timestamp) -> Vec<String> {
    let case = view.case;
    let mut missing = Vec::new();
    if view.absent_since(Cluster::A, "statefulsets", &case.source, &case.set, at).is_none() {
        missing.push("the set still exists in a".to_owned());
    }
    for volume in case.volumes_of(ordinal) {
        for cluster in Cluster::BOTH {
            for name in view.volumes_naming(cluster, &volume.handle) {
                let policy = view.value_at(cluster, "persistentvolumes", "", name, &RECLAIM_POLICY, at);
                // Someone else's late change is a matter of I-2, which knows what could be known.
                let others =
                    policy.as_ref().is_some_and(|(writer, _)| writer.is_some_and(|writer| !view.is_tools(writer)));
                if !others && policy.is_none_or(|(_, policy)| policy != "Retain") {
                    missing.push(format!("{name} in {} is not Retain", cluster.name()));
                }
            }
        }
        let phase = view.value_at(
            Cluster::B,
            "persistentvolumeclaims",
            &case.destination,
            &volume.claim,
            &["status", "phase"],
            at,
        );
        if phase.is_none_or(|(_, phase)| phase != "Bound") {
            missing.push(format!("claim {} in b is not Bound", volume.claim));
        }
    }
    let lower = ordinal - case.start;
    match case.order {
        Order::OneByOne => {
            let available = status_number(view, Cluster::B, "availableReplicas", at);
            if available < lower {
                missing.push(format!("{available} of {lower} lower ordinals are available in b"));
            }
        }
        Order::Together => {
            let replicas = view.replicas(Cluster::B);
            let replicas = replicas.iter().rfind(|(event, _)| event.received <= at).map_or(0, |(_, number)| *number);
            if replicas != 0 {
                missing.push(format!("the set in b already has {replicas} replicas"));
            }
        }
    }
    missing
}

fn missing_backward(view: &View<'_>, at: Timestamp) -> Vec<String> {
    let replicas = view.replicas(Cluster::B);
    match replicas.iter().rfind(|(event, _)| event.received <= at) {
        Some((_, 0)) | None => Vec::new(),
        Some((_, number)) => vec![format!("the set in b has {number} replicas")],
    }
}

/// Returns a number of the set's status as its controller last wrote it.
fn status_number(view: &View<'_>, cluster: Cluster, field: &str, at: Timestamp) -> i64 {
    view.writes()
        .filter(|event| event.cluster == cluster && view.is_set(event) && event.subresource == "status")
        .filter(|event| event.received <= at)
        .last()
        // A status without the number says zero.
        .and_then(|event| event.assigns(&["status", field]))
        .and_then(|value| value.as_i64())
        .unwrap_or(0)
}

fn missing_locks(view: &View<'_>, at: Timestamp) -> Vec<String> {
    Cluster::BOTH
        .into_iter()
        .filter(|&cluster| {
            let lease = view
                .acts()
                .filter(|event| event.cluster == cluster && event.resource == "leases")
                .filter(|event| event.namespace == view.case.namespace(cluster) && event.received <= at)
                .last();
            let held = lease.and_then(|lease| {
                let holder = lease.assigns(&["spec", "holderIdentity"])?;
                Some(holder.as_str().is_some_and(|holder| !holder.is_empty()))
            });
            // A renewal by patch need not name the holder again.
            !lease.is_some_and(|lease| lease.verb != "delete" && held != Some(false))
        })
        .map(|cluster| format!("the lock in {} is not held", cluster.name()))
        .collect()
}
