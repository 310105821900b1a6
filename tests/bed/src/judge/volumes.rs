//! What happened on the volumes and in EC2: I-1, I-3, I-23.

use crate::Cluster;
use crate::facts::{HistoryEntry, HistoryKind};

use super::view::View;
use super::{Expected, Violation};

/// I-1: no two pods use one volume at a time.
///
/// In the volume's history each start follows the former user's end (a pod may start again on its
/// own volume), and EC2 never has two attachments of it.
pub(super) fn i1_one_user_at_a_time(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for volume in &view.case.volumes {
        let mut user: Option<&HistoryEntry> = None;
        for entry in view.evidence.histories.get(&volume.handle).into_iter().flatten() {
            match (entry.kind, user) {
                (HistoryKind::Start, Some(former)) if former.pod_uid != entry.pod_uid => {
                    let what = format!(
                        "pod {} starts in {} on {} while pod {} still uses it in {}",
                        entry.pod,
                        entry.cluster.name(),
                        volume.handle,
                        former.pod,
                        former.cluster.name()
                    );
                    violations.push(history_violation("I-1", what, &[former, entry]));
                }
                (HistoryKind::End, Some(former)) if former.pod_uid == entry.pod_uid => user = None,
                _ => {}
            }
            if entry.kind == HistoryKind::Start {
                user = Some(entry);
            }
        }
        for change in view.evidence.changes.get(&volume.handle).into_iter().flatten() {
            if change.now.attachments.iter().filter(|attachment| attachment.state != "detached").count() > 1 {
                let mut violation = Violation::new("I-1", format!("{} has two attachments", volume.handle));
                violation.evidence.push(format!("{} EC2 {:?}", change.at, change.now));
                violations.push(violation);
            }
        }
    }
    violations
}

/// I-3: the tool's key only describes, and the set's volumes only ever are in use or available.
pub(super) fn i3_ec2_is_only_described(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for call in view.calls() {
        if !call.action.starts_with("Describe") && call.action != "GetCallerIdentity" {
            let mut violation = Violation::new("I-3", format!("the tool calls {} in EC2", call.action));
            violation.evidence.push(format!(
                "{} {} {} {:?} -> {}",
                call.received,
                call.key,
                call.action,
                call.volumes,
                call.error.as_deref().unwrap_or("done")
            ));
            violations.push(violation);
        }
    }
    for volume in &view.case.volumes {
        let changes = view.evidence.changes.get(&volume.handle).into_iter().flatten();
        for change in changes.filter(|change| change.at > view.case.since) {
            if !matches!(change.now.state.as_str(), "in-use" | "available") {
                let what = format!("volume {} becomes {}", volume.handle, change.now.state);
                let mut violation = Violation::new("I-3", what);
                violation.evidence.push(format!("{} EC2 {:?}", change.at, change.now));
                violations.push(violation);
            }
        }
    }
    violations
}

/// I-23: what a pod wrote before the move is read by the pod of the same ordinal after it, from the
/// same volume.
///
/// What was on a volume stays on it, each start finds all that was written before, the user of a
/// volume is always the pod of its ordinal through its claim, and a pod that runs where the
/// migration ended has started on each of its volumes.
pub(super) fn i23_the_same_bytes(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for volume in &view.case.volumes {
        let empty = Vec::new();
        let history = view.evidence.histories.get(&volume.handle).unwrap_or(&empty);
        let before = view.case.histories.get(&volume.handle).unwrap_or(&empty);
        if !history.starts_with(before) {
            let what = format!(
                "what was on {} before is lost: {} entries then, {} now",
                volume.handle,
                before.len(),
                history.len()
            );
            violations.push(Violation::new("I-23", what));
            continue;
        }
        let pod = view.case.pod(volume.ordinal);
        for (position, entry) in history.iter().enumerate().skip(before.len()) {
            if entry.kind == HistoryKind::Start && entry.found != position {
                let what = format!(
                    "pod {} finds {} entries on {}, {position} were written",
                    entry.pod, entry.found, volume.handle
                );
                violations.push(history_violation("I-23", what, &[entry]));
            }
            let namespace = view.case.namespace(entry.cluster);
            let is_stranger = entry.pod != pod && !view.case.alone;
            if is_stranger || entry.claim != volume.claim || entry.namespace != namespace {
                let what = format!(
                    "{} is the volume of claim {} of pod {pod}, but pod {}/{} uses it through {}",
                    volume.handle, volume.claim, entry.namespace, entry.pod, entry.claim
                );
                violations.push(history_violation("I-23", what, &[entry]));
            }
        }
    }
    for cluster in Cluster::BOTH {
        violations.extend(running_pods_on_other_volumes(view, cluster));
    }
    violations.extend(missing_pods(view));
    violations
}

/// Returns the ready pods of the set that never started on their volumes.
fn running_pods_on_other_volumes(view: &View<'_>, cluster: Cluster) -> Vec<Violation> {
    let mut violations = Vec::new();
    for volume in view.case.used_volumes() {
        let pod = view.case.pod(volume.ordinal);
        let Some(live) = view.evidence.live.get(cluster, "pods", view.case.namespace(cluster), &pod) else {
            continue;
        };
        let history = view.evidence.histories.get(&volume.handle).into_iter().flatten();
        let started = history.filter(|entry| entry.kind == HistoryKind::Start).any(|entry| entry.pod_uid == live.uid());
        if is_ready(&live.body) && !started {
            let what =
                format!("pod {pod} is Ready in {} but never started on its volume {}", cluster.name(), volume.handle);
            violations.push(Violation::new("I-23", what));
        }
    }
    violations
}

/// Returns the ordinals that do not run where the test says that they must.
fn missing_pods(view: &View<'_>) -> Vec<Violation> {
    let place = match view.case.expected {
        Expected::Moved | Expected::Finalized => Cluster::B,
        Expected::RolledBack => Cluster::A,
        Expected::Untouched | Expected::Midway => return Vec::new(),
    };
    let ready = |pod: &str| {
        let live = view.evidence.live.get(place, "pods", view.case.namespace(place), pod);
        live.is_some_and(|pod| is_ready(&pod.body))
    };
    view.case
        .ordinals()
        .map(|ordinal| view.case.pod(ordinal))
        .filter(|pod| !view.case.excused_pods.contains(pod) && !ready(pod))
        .map(|pod| Violation::new("I-23", format!("pod {pod} is not Ready in {} at the end", place.name())))
        .collect()
}

fn is_ready(pod: &serde_json::Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(serde_json::Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn history_violation(invariant: &'static str, what: String, entries: &[&HistoryEntry]) -> Violation {
    let mut violation = Violation::new(invariant, what);
    violation.evidence.extend(entries.iter().map(|entry| format!("{entry:?}")));
    violation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::made::Made;

    #[test]
    fn i1_accepts_users_one_after_the_other() {
        let mut made = Made::new();
        made.uses(1, Cluster::A, "web-0", HistoryKind::Start);
        made.uses(2, Cluster::A, "web-0", HistoryKind::End);
        made.uses(3, Cluster::B, "web-0", HistoryKind::Start);
        made.change(1, "vol-0", "in-use", &["i-a"]);
        made.change(2, "vol-0", "in-use", &["i-b"]);
        made.accepts(i1_one_user_at_a_time);
    }

    #[test]
    fn i1_accepts_a_restart_of_the_same_pod() {
        let mut made = Made::new();
        made.uses(1, Cluster::A, "web-0", HistoryKind::Start);
        made.uses(2, Cluster::A, "web-0", HistoryKind::Start);
        made.accepts(i1_one_user_at_a_time);
    }

    #[test]
    fn i1_sees_a_start_before_the_end_of_the_former_user() {
        let mut made = Made::new();
        made.uses(1, Cluster::A, "web-0", HistoryKind::Start);
        made.uses(2, Cluster::B, "web-0", HistoryKind::Start);
        made.uses(3, Cluster::A, "web-0", HistoryKind::End);
        made.rejects(i1_one_user_at_a_time, "starts in b");
    }

    #[test]
    fn i1_sees_two_attachments() {
        let mut made = Made::new();
        made.change(1, "vol-0", "in-use", &["i-a", "i-b"]);
        made.rejects(i1_one_user_at_a_time, "two attachments");
    }

    #[test]
    fn i3_accepts_describing() {
        let mut made = Made::new();
        made.call(1, "DescribeVolumes");
        made.call(2, "GetCallerIdentity");
        made.change(3, "vol-0", "available", &[]);
        made.accepts(i3_ec2_is_only_described);
    }

    #[test]
    fn i3_sees_any_other_call_and_state() {
        let mut made = Made::new();
        made.call(1, "CreateTags");
        made.rejects(i3_ec2_is_only_described, "CreateTags");
        let mut made = Made::new();
        made.change(3, "vol-0", "deleting", &[]);
        made.rejects(i3_ec2_is_only_described, "becomes deleting");
    }

    #[test]
    fn i23_accepts_a_pod_that_goes_on_where_its_former_self_ended() {
        let mut made = Made::new();
        made.uses(1, Cluster::A, "web-0", HistoryKind::Start);
        made.uses(2, Cluster::A, "web-0", HistoryKind::End);
        made.uses(3, Cluster::B, "web-0", HistoryKind::Start);
        made.accepts(i23_the_same_bytes);
    }

    #[test]
    fn i23_sees_an_empty_volume_a_lost_history_and_a_stranger() {
        let mut made = Made::new();
        made.uses(1, Cluster::A, "web-0", HistoryKind::Start);
        made.uses(3, Cluster::B, "web-0", HistoryKind::Start);
        made.history("vol-0").last_mut().unwrap().found = 0;
        made.rejects(i23_the_same_bytes, "finds 0 entries");

        let mut made = Made::new();
        made.uses(1, Cluster::A, "web-0", HistoryKind::Start);
        made.remember_histories();
        made.history("vol-0").clear();
        made.rejects(i23_the_same_bytes, "is lost");

        let mut made = Made::new();
        made.uses(1, Cluster::A, "web-0", HistoryKind::Start);
        made.history("vol-0")[0].pod = "web-1".to_owned();
        made.rejects(i23_the_same_bytes, "pod a-space/web-1 uses it");
    }

    #[test]
    fn i23_sees_a_ready_pod_on_another_volume() {
        let mut made = Made::new();
        made.ready_pod(Cluster::B, "web-0", "uid-of-another");
        made.rejects(i23_the_same_bytes, "never started on its volume vol-0");
    }

    #[test]
    fn i23_sees_a_pod_that_is_missing_at_the_end() {
        let mut made = Made::new();
        made.case.expected = Expected::Moved;
        made.rejects(i23_the_same_bytes, "pod web-0 is not Ready in b");
    }
}
