//! A read that failed is never taken for an answer: I-22.

use jiff::{SignedDuration, Timestamp};

use crate::facts::Ec2Call;

use super::view::{View, violation};
use super::{Event, Violation};

/// How long an act may be under way while a read that it does not know of fails.
const UNDER_WAY: SignedDuration = SignedDuration::from_millis(50);

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
    use super::*;
    use crate::Cluster;
    use crate::judge::made::Made;

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
