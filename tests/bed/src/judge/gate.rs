//! What must have been looked at before an act: I-6, I-8.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::Cluster;

use super::view::{RECLAIM_POLICY, View, violation};
use super::{Event, Order, SetVolume, Violation};

/// I-6: each write that lets a pod start on a volume which the other side held follows the whole
/// gate, and the destination never has more replicas than ordinals were handed over.
///
/// Such writes are: more replicas in the destination, and the set created in the source again; of a
/// claim that moves without a pod, the claim created in the destination, and deleted there again. The
/// gate is, each looked at after the one before:
///
/// 1. the pod is gone on the side that held the volume (without one: every pod that uses the claim),
/// 2. so is every VolumeAttachment of the volume there,
/// 3. EC2 says twice in a row that the volume is available with no attachment.
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
    let namespace = view.case.namespace(leaving);
    let pods = match view.case.is_idle(volume) {
        true => view.users(leaving, &volume.claim, until),
        false => BTreeSet::from([view.case.pod(volume.ordinal)]),
    };
    let mut pod_seen = seen_absent(view, leaving, "pods", namespace, "", Timestamp::MIN, Timestamp::MIN, until)
        .filter(|_| pods.is_empty())
        .or((!pods.is_empty()).then_some(Timestamp::MIN))
        .ok_or_else(|| format!("nothing shows that pods were looked at in {place}"))?;
    for pod in pods {
        let gone = view
            .absent_since(leaving, "pods", namespace, &pod, until)
            .ok_or_else(|| format!("pod {pod} still exists in {place}"))?;
        let seen = seen_absent(view, leaving, "pods", namespace, &pod, gone, Timestamp::MIN, until)
            .ok_or_else(|| format!("nothing shows that pod {pod} was seen gone in {place}"))?;
        pod_seen = pod_seen.max(seen);
    }

    let mut attachment_seen = pod_seen;
    let attachments = view.attachments(leaving, &volume.handle);
    for attachment in &attachments {
        let gone = view
            .absent_since(leaving, "volumeattachments", "", attachment, until)
            .ok_or_else(|| format!("VolumeAttachment {attachment} still exists in {place}"))?;
        let seen = seen_absent(view, leaving, "volumeattachments", "", attachment, gone, pod_seen, until)
            .ok_or_else(|| format!("nothing shows that its VolumeAttachment was seen gone in {place} after the pod"))?;
        attachment_seen = attachment_seen.max(seen);
    }
    if attachments.is_empty() {
        attachment_seen = seen_absent(view, leaving, "volumeattachments", "", "", pod_seen, pod_seen, until)
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
            if view.case.keeps_state {
                missing.extend(missing_locks(view, delete.received));
            }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::judge::made::{Made, TOOL};

    /// Pod 0 of A is deleted and gone at 12, its VolumeAttachment at 14.
    fn let_go() -> Made {
        let mut made = Made::new();
        made.change(1, "vol-0", "in-use", &["i-a"]);
        made.attachment(2, Cluster::A, "va-0", "pv-0");
        made.set_in_b(5, 0);
        made.delete(10, Cluster::A, "pods", "a-space", "web-0");
        made.write(12, "node-agent", Cluster::A, "delete", "pods", "a-space", "web-0", Value::Null);
        made.forget(Cluster::A, "pods", "web-0");
        made.write(13, "kcm", Cluster::A, "delete", "volumeattachments", "", "va-0", Value::Null);
        let body = json!({"metadata": {"finalizers": null}});
        made.write(14, "csi-attacher", Cluster::A, "patch", "volumeattachments", "", "va-0", body);
        made.change(13, "vol-0", "available", &[]);
        made
    }

    #[test]
    fn i6_accepts_the_whole_gate() {
        let mut made = let_go();
        made.read(13, Cluster::A, "get", "pods", "a-space", "web-0", 404);
        made.read(15, Cluster::A, "list", "volumeattachments", "", "", 200);
        made.described(17, "vol-0", "available", &[]);
        made.described(18, "vol-0", "available", &[]);
        made.scale_b(20, 1);
        made.accepts(i6_gate_before_a_pod_may_start);
    }

    #[test]
    fn i6_needs_no_gate_for_a_volume_that_is_home() {
        let mut made = let_go();
        made.change(16, "vol-0", "in-use", &["i-b"]);
        made.scale_b(20, 1);
        made.accepts(i6_gate_before_a_pod_may_start);
    }

    #[test]
    fn i6_sees_each_part_of_the_gate_that_is_missing() {
        let mut made = let_go();
        made.scale_b(20, 1);
        made.rejects(i6_gate_before_a_pod_may_start, "pod web-0 was seen gone");

        let mut made = let_go();
        made.scale_b(11, 1);
        made.rejects(i6_gate_before_a_pod_may_start, "pod web-0 still exists in a");

        let mut made = let_go();
        made.read(13, Cluster::A, "get", "pods", "a-space", "web-0", 404);
        made.scale_b(20, 1);
        made.rejects(i6_gate_before_a_pod_may_start, "VolumeAttachment was seen gone");

        // The list came too early: the attachment was still there.
        let mut made = let_go();
        made.read(12, Cluster::A, "list", "pods", "a-space", "", 200);
        made.read(13, Cluster::A, "list", "volumeattachments", "", "", 200);
        made.scale_b(20, 1);
        made.rejects(i6_gate_before_a_pod_may_start, "VolumeAttachment was seen gone");
    }

    #[test]
    fn i6_sees_reads_of_ec2_that_prove_nothing() {
        let gone = || {
            let mut made = let_go();
            made.read(13, Cluster::A, "get", "pods", "a-space", "web-0", 404);
            made.read(15, Cluster::A, "list", "volumeattachments", "", "", 200);
            made
        };
        let mut made = gone();
        made.described(13, "vol-0", "available", &[]);
        made.described(14, "vol-0", "available", &[]);
        made.scale_b(20, 1);
        made.rejects(i6_gate_before_a_pod_may_start, "EC2 was asked 0 times");
        let mut made = gone();
        made.described(17, "vol-0", "available", &[]);
        made.scale_b(20, 1);
        made.rejects(i6_gate_before_a_pod_may_start, "EC2 was asked 1 times");
        let mut made = gone();
        made.described(17, "vol-0", "available", &[]);
        made.described(18, "vol-0", "in-use", &["i-a"]);
        made.scale_b(20, 1);
        made.rejects(i6_gate_before_a_pod_may_start, "twice in a row");
    }

    /// Claim `data-web-0` moves without a pod: pod `shell` of A used it, and let it go as in [`let_go`].
    fn alone() -> Made {
        let mut made = let_go();
        (made.case.alone, made.case.replicas, made.case.set) = (true, 0, "data-web-0".to_owned());
        made.case.volumes.retain(|volume| volume.ordinal == 0);
        let claim = json!({"spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "data-web-0"}}]}});
        made.write(3, "admin", Cluster::A, "create", "pods", "a-space", "shell", claim);
        made.write(12, "node-agent", Cluster::A, "delete", "pods", "a-space", "shell", Value::Null);
        made
    }

    fn claim_in_b(made: &mut Made, at: i64) {
        let body = json!({"metadata": {"name": "data-web-0"}});
        made.write(at, TOOL, Cluster::B, "create", "persistentvolumeclaims", "b-space", "data-web-0", body);
    }

    #[test]
    fn i6_wants_the_gate_before_a_claim_without_a_pod_is_made() {
        let mut made = alone();
        made.read(13, Cluster::A, "list", "pods", "a-space", "", 200);
        made.read(15, Cluster::A, "list", "volumeattachments", "", "", 200);
        made.described(17, "vol-0", "available", &[]);
        made.described(18, "vol-0", "available", &[]);
        claim_in_b(&mut made, 20);
        made.accepts(i6_gate_before_a_pod_may_start);

        let mut made = alone();
        claim_in_b(&mut made, 20);
        made.rejects(i6_gate_before_a_pod_may_start, "pod shell was seen gone");
        let mut made = alone();
        claim_in_b(&mut made, 11);
        made.rejects(i6_gate_before_a_pod_may_start, "pod shell still exists in a");
        let mut made = alone();
        made.read(13, Cluster::A, "list", "pods", "a-space", "", 200);
        made.read(15, Cluster::A, "list", "volumeattachments", "", "", 200);
        made.described(17, "vol-0", "available", &[]);
        claim_in_b(&mut made, 20);
        made.rejects(i6_gate_before_a_pod_may_start, "EC2 was asked 1 times");
    }

    #[test]
    fn i6_wants_the_gate_before_a_claim_without_a_pod_goes_back() {
        let mut made = alone();
        made.change(20, "vol-0", "in-use", &["i-b"]);
        made.change(30, "vol-0", "available", &[]);
        made.delete(40, Cluster::B, "persistentvolumeclaims", "b-space", "data-web-0");
        made.rejects(i6_gate_before_a_pod_may_start, "nothing shows that pods were looked at in b");
    }

    #[test]
    fn i6_accepts_no_cached_list() {
        let mut made = let_go();
        made.read(13, Cluster::A, "get", "pods", "a-space", "web-0", 404);
        let list = made.read(15, Cluster::A, "list", "volumeattachments", "", "", 200);
        list.query.insert("resourceVersion".to_owned(), "0".to_owned());
        made.described(17, "vol-0", "available", &[]);
        made.described(18, "vol-0", "available", &[]);
        made.scale_b(20, 1);
        made.rejects(i6_gate_before_a_pod_may_start, "VolumeAttachment was seen gone");
    }

    #[test]
    fn i6_sees_more_replicas_than_were_handed_over() {
        let mut made = let_go();
        made.change(1, "vol-1", "in-use", &["i-a"]);
        made.read(13, Cluster::A, "get", "pods", "a-space", "web-0", 404);
        made.read(15, Cluster::A, "list", "volumeattachments", "", "", 200);
        made.described(17, "vol-0", "available", &[]);
        made.described(18, "vol-0", "available", &[]);
        made.scale_b(20, 2);
        made.rejects(i6_gate_before_a_pod_may_start, "pod web-1 may start on vol-1");
        let mut made = Made::new();
        made.set_in_b(5, 0);
        made.scale_b(20, 3);
        made.rejects(i6_gate_before_a_pod_may_start, "3 replicas in b");
    }

    #[test]
    fn i6_judges_the_way_back() {
        let mut made = Made::new();
        made.change(1, "vol-0", "in-use", &["i-b"]);
        made.write(20, TOOL, Cluster::A, "create", "statefulsets", "a-space", "web", json!({"spec": {"replicas": 2}}));
        made.rejects(i6_gate_before_a_pod_may_start, "pod web-0 may start on vol-0");
    }

    /// Frozen, retained, paired: pod 0 may go.
    fn frozen() -> Made {
        let mut made = Made::new();
        made.retain_all(1);
        made.pair_in_b(2, 0);
        made.pair_in_b(2, 1);
        made.set_in_b(5, 0);
        made.delete(6, Cluster::A, "statefulsets", "a-space", "web");
        made.forget(Cluster::A, "statefulsets", "web");
        made
    }

    #[test]
    fn i8_accepts_a_delete_when_all_is_ready_for_it() {
        let mut made = frozen();
        made.delete(10, Cluster::A, "pods", "a-space", "web-0");
        made.scale_b(12, 1);
        let status = json!({"status": {"availableReplicas": 1}});
        let event = made.write(13, "kcm", Cluster::B, "update", "statefulsets", "b-space", "web", status);
        event.subresource = "status".to_owned();
        made.delete(14, Cluster::A, "pods", "a-space", "web-1");
        made.accepts(i8_conditions_of_each_pod_delete);
    }

    #[test]
    fn i8_sees_each_condition_that_is_missing() {
        let mut made = frozen();
        made.delete(14, Cluster::A, "pods", "a-space", "web-1");
        made.rejects(i8_conditions_of_each_pod_delete, "0 of 1 lower ordinals");
        let mut made = frozen();
        made.delete(4, Cluster::A, "pods", "a-space", "web-0");
        made.rejects(i8_conditions_of_each_pod_delete, "the set still exists in a");
        let mut made = frozen();
        made.case.keeps_state = true;
        made.delete(10, Cluster::A, "pods", "a-space", "web-0");
        made.rejects(i8_conditions_of_each_pod_delete, "the lock in b is not held");
        let mut made = frozen();
        made.scale_b(7, 1);
        made.delete(10, Cluster::B, "pods", "b-space", "web-0");
        made.rejects(i8_conditions_of_each_pod_delete, "the set in b has 1 replicas");
        let mut made = Made::new();
        made.delete(10, Cluster::A, "pods", "a-space", "web-0");
        made.rejects(i8_conditions_of_each_pod_delete, "pv-0 in a is not Retain");
    }
}
