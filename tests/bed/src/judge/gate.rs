//! What must have been looked at before an act: I-6, I-8, I-22.

use jiff::{SignedDuration, Timestamp};

use crate::Cluster;
use crate::facts::Ec2Call;

use super::view::{RECLAIM_POLICY, View, violation};
use super::{Event, Order, SetVolume, Violation};

/// How long an act may be under way while a read that it does not know of fails.
const UNDER_WAY: SignedDuration = SignedDuration::from_millis(50);

/// I-6: each write that lets a pod start on a volume which the other side held follows the whole
/// gate, and the destination never has more replicas than ordinals were handed over.
///
/// Such writes are: more replicas in the destination, and the set created in the source again. The
/// gate is, each looked at after the one before:
///
/// 1. the pod is gone on the side that held the volume,
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
    let pod = view.case.pod(volume.ordinal);
    let gone = view
        .absent_since(leaving, "pods", namespace, &pod, until)
        .ok_or_else(|| format!("pod {pod} still exists in {place}"))?;
    let pod_seen = seen_absent(view, leaving, "pods", namespace, &pod, gone, Timestamp::MIN, until)
        .ok_or_else(|| format!("nothing shows that pod {pod} was seen gone in {place}"))?;

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

/// What the tool may rest a decision on; anything else it may do without.
const RESTED_ON: [&str; 7] =
    ["pods", "nodes", "persistentvolumes", "persistentvolumeclaims", "volumeattachments", "statefulsets", "leases"];

/// I-22: after a read that failed, no destructive act follows before the same thing was read with
/// an answer.
pub(super) fn i22_unknown_is_never_absence(view: &View<'_>) -> Vec<Violation> {
    let acts: Vec<&Event> = view.acts().filter(|act| view.is_destructive(act)).collect();
    let next_act = |after: Timestamp| acts.iter().find(|act| act.received > after + UNDER_WAY);
    let mut violations = Vec::new();
    for failed in view.reads().filter(|read| read.is_unknown() && read.verb != "watch") {
        if !RESTED_ON.contains(&failed.resource.as_str()) {
            continue;
        }
        let Some(act) = next_act(failed.completed) else { continue };
        let read_again = view.reads().any(|read| {
            read.received >= failed.received
                && read.completed <= act.received
                && !read.is_unknown()
                && answers_same(read, failed)
        });
        if !read_again {
            let what = format!("an act follows a failed read of {} {}", failed.resource, failed.name);
            violations.push(violation("I-22", what, &[failed, act]));
        }
    }
    for failed in view.calls().filter(|call| call.error.is_some() && call.action == "DescribeVolumes") {
        let Some(act) = next_act(failed.answered) else { continue };
        let asked_about = |call: &Ec2Call, volume: &String| {
            call.error.is_none() && call.seen.iter().any(|seen| seen.volume == *volume)
        };
        for volume in failed.volumes.iter().filter(|volume| view.case.volume(volume).is_some()) {
            let read_again = view.calls().any(|call| {
                call.received >= failed.received && call.answered <= act.received && asked_about(call, volume)
            });
            if !read_again {
                let what = format!(
                    "an act follows a DescribeVolumes of {volume} that failed with {}",
                    failed.error.as_deref().unwrap_or_default()
                );
                violations.push(violation("I-22", what, &[act]));
            }
        }
    }
    violations
}

/// Returns whether a read with an answer says what the failed one would have said.
fn answers_same(read: &Event, failed: &Event) -> bool {
    let place = read.namespace == failed.namespace
        || (read.namespace.is_empty() && read.verb != "get")
        // A tool that may not list everywhere asks for one namespace instead.
        || (failed.namespace.is_empty() && failed.verb == "list");
    let object = match read.verb.as_str() {
        "get" => failed.verb == "get" && read.name == failed.name,
        // A watch that sends what exists first is a list, too.
        "watch" => read.query.contains_key("sendInitialEvents"),
        _ => true,
    };
    let selectors =
        |event: &Event| (event.query.get("labelSelector").cloned(), event.query.get("fieldSelector").cloned());
    let as_wide = selectors(read) == (None, None) || selectors(read) == selectors(failed);
    read.cluster == failed.cluster
        && read.resource == failed.resource
        && read.subresource == failed.subresource
        && place
        && object
        && as_wide
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

    #[test]
    fn i22_sees_an_act_after_a_failed_read() {
        let mut made = Made::new();
        made.read(1, Cluster::A, "list", "volumeattachments", "", "", 403);
        made.scale_b(3, 1);
        made.rejects(i22_unknown_is_never_absence, "failed read of volumeattachments");
    }

    #[test]
    fn i22_accepts_a_read_that_was_repeated() {
        let mut made = Made::new();
        made.read(1, Cluster::A, "list", "volumeattachments", "", "", 503);
        made.read(2, Cluster::A, "list", "volumeattachments", "", "", 200);
        made.read(2, Cluster::A, "get", "pods", "a-space", "web-0", 500);
        made.read(3, Cluster::A, "get", "pods", "a-space", "web-0", 404);
        made.scale_b(5, 1);
        made.accepts(i22_unknown_is_never_absence);
    }

    #[test]
    fn i22_takes_no_other_object_for_an_answer() {
        let mut made = Made::new();
        made.read(2, Cluster::A, "get", "pods", "a-space", "web-0", 500);
        made.read(3, Cluster::A, "get", "pods", "a-space", "web-1", 404);
        made.scale_b(5, 1);
        made.rejects(i22_unknown_is_never_absence, "failed read of pods web-0");
    }

    #[test]
    fn i22_judges_ec2_as_well() {
        let mut made = Made::new();
        made.refused(1, "vol-0", "RequestLimitExceeded");
        made.scale_b(5, 1);
        made.rejects(i22_unknown_is_never_absence, "RequestLimitExceeded");
        made.described(3, "vol-0", "available", &[]);
        made.accepts(i22_unknown_is_never_absence);
    }
}
