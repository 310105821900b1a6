//! Reclaim policies: I-2.

use jiff::{SignedDuration, Timestamp};

use crate::Cluster;

use super::view::{RECLAIM_POLICY, View, is_create_of, other, violation};
use super::{Event, SetVolume, Violation};

/// How long the tool may not know that somebody else has changed a policy, if it has not looked.
const NOTICE: SignedDuration = SignedDuration::from_secs(1);

/// I-2: every PersistentVolume that names a volume of the set is `Retain` while it matters.
///
/// Case 1: a volume is created by the tool with another policy.
/// Case 2: a destructive call is made while one has another policy that somebody else gave it.
/// Case 3: nothing shows that `Retain` was seen live before the first destructive call.
/// Case 4: the tool writes another policy back before all conditions for that are true.
pub(super) fn i2_retain_while_it_matters(view: &View<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for event in view.attempts().filter(|event| is_create_of(event, "persistentvolumes")) {
        let ours = super::evidence::handle_of(&event.body).is_some_and(|handle| view.case.volume(&handle).is_some());
        // A PersistentVolume that does not say is kept.
        let policy = event.assigns(&RECLAIM_POLICY).unwrap_or_else(|| "Retain".into());
        if ours && policy != "Retain" {
            violations.push(violation("I-2", format!("{} is created with {policy}", event.name), &[event]));
        }
    }
    for ((cluster, name), handle) in &view.named {
        let Some(volume) = view.case.volume(handle) else { continue };
        violations.extend(destructive_without_retain(view, *cluster, name));
        if *cluster == Cluster::A {
            violations.extend(retain_not_seen(view, name));
        }
        violations.extend(written_back_too_early(view, *cluster, name, volume));
    }
    violations
}

fn destructive_without_retain(view: &View<'_>, cluster: Cluster, name: &str) -> Option<Violation> {
    for act in view.acts().filter(|act| view.is_destructive(act)) {
        let at = act.received;
        if view.absent_since(cluster, "persistentvolumes", "", name, at).is_some() {
            continue;
        }
        let Some((writer, policy)) = view.value_at(cluster, "persistentvolumes", "", name, &RECLAIM_POLICY, at) else {
            continue;
        };
        let noticed = writer.is_none_or(|writer| {
            let since = writer.received;
            at.duration_since(since) >= NOTICE || view.looked(cluster, "persistentvolumes", "", name, since, at)
        });
        // What the tool itself wrote back is judged by the conditions of that.
        let own = writer.is_some_and(|writer| view.is_tools(writer));
        if policy != "Retain" && !own && noticed {
            let what =
                format!("a destructive call while the PersistentVolume {name} in {} has {policy}", cluster.name());
            let shown: Vec<&Event> = writer.into_iter().chain([act]).collect();
            return Some(violation("I-2", what, &shown));
        }
    }
    None
}

fn retain_not_seen(view: &View<'_>, name: &str) -> Option<Violation> {
    view.case.before.get(Cluster::A, "persistentvolumes", "", name)?;
    let first = view.acts().find(|act| view.is_destructive(act))?;
    let at = first.received;
    let retained = view
        .values(Cluster::A, "persistentvolumes", "", name, &RECLAIM_POLICY)
        .into_iter()
        .rfind(|(writer, policy)| policy == "Retain" && writer.is_none_or(|writer| writer.received <= at));
    // Without any `Retain` the calls themselves are accused.
    let since = retained?.0.map_or(Timestamp::MIN, |writer| writer.received);
    if view.looked(Cluster::A, "persistentvolumes", "", name, since, at) {
        return None;
    }
    let what = format!("nothing shows that the policy of {name} was seen live before the first destructive call");
    Some(violation("I-2", what, &[first]))
}

fn written_back_too_early(view: &View<'_>, cluster: Cluster, name: &str, volume: &SetVolume) -> Vec<Violation> {
    let mut violations = Vec::new();
    let written = view
        .acts()
        .filter(|act| act.cluster == cluster && act.is_about("persistentvolumes", "", name) && act.verb != "create");
    for act in written {
        if act.assigns(&RECLAIM_POLICY).is_none_or(|policy| policy == "Retain") {
            continue;
        }
        for missing in missing_conditions(view, cluster, name, volume, act) {
            let policy = act.assigns(&RECLAIM_POLICY).unwrap_or_default();
            violations.push(violation("I-2", format!("{policy} is written to {name} although {missing}"), &[act]));
        }
    }
    violations
}

/// Returns which conditions for writing `Delete` back are not true at that moment.
fn missing_conditions(view: &View<'_>, cluster: Cluster, name: &str, volume: &SetVolume, act: &Event) -> Vec<String> {
    let at = act.received;
    let namespace = view.case.namespace(cluster);
    let mut missing = Vec::new();
    for elsewhere in view.volumes_naming(other(cluster), &volume.handle) {
        if view.absent_since(other(cluster), "persistentvolumes", "", elsewhere, at).is_none() {
            missing.push(format!("{elsewhere} still names the volume in {}", other(cluster).name()));
        }
    }
    for (resource, namespace, object) in
        [("persistentvolumes", "", name), ("persistentvolumeclaims", namespace, volume.claim.as_str())]
    {
        let phase = view.value_at(cluster, resource, namespace, object, &["status", "phase"], at);
        if phase.is_none_or(|(_, phase)| phase != "Bound") {
            missing.push(format!("{object} is not Bound"));
        }
        let terminating = view.writes().any(|event| {
            event.cluster == cluster
                && event.verb == "delete"
                && event.is_about(resource, namespace, object)
                && event.received <= at
                && view
                    .lives(cluster, resource, namespace, object)
                    .last()
                    .is_some_and(|life| life.born < event.received)
        });
        if terminating {
            missing.push(format!("{object} is being deleted"));
        }
    }
    let idle = !view.case.ordinals().contains(&volume.ordinal);
    match view.holder(&volume.handle, at) {
        Some(holder) if holder == cluster => {}
        None if idle => {}
        None => missing.push(format!("{} is held by nobody", volume.handle)),
        Some(holder) => missing.push(format!("{} is held by {}", volume.handle, holder.name())),
    }
    missing
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::judge::made::{Made, TOOL};

    /// Everything retained and seen.
    fn prepared() -> Made {
        let mut made = Made::new();
        made.retain_all(1);
        made.read(2, Cluster::A, "list", "persistentvolumes", "", "", 200);
        made
    }

    #[test]
    fn accepts_deletes_under_retain() {
        let mut made = prepared();
        made.delete(3, Cluster::A, "pods", "a-space", "web-0");
        made.accepts(i2_retain_while_it_matters);
    }

    #[test]
    fn sees_a_delete_while_the_policy_is_delete() {
        let mut made = Made::new();
        made.read(2, Cluster::A, "list", "persistentvolumes", "", "", 200);
        made.delete(3, Cluster::A, "statefulsets", "a-space", "web");
        made.rejects(i2_retain_while_it_matters, "while the PersistentVolume pv-0 in a has");
    }

    #[test]
    fn sees_that_nobody_looked() {
        let mut made = Made::new();
        made.retain_all(1);
        made.delete(3, Cluster::A, "statefulsets", "a-space", "web");
        made.rejects(i2_retain_while_it_matters, "nothing shows");
    }

    #[test]
    fn sees_that_another_hand_turned_it_back() {
        let mut made = prepared();
        let body = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
        made.write(3, "admin", Cluster::A, "patch", "persistentvolumes", "", "pv-0", body);
        made.delete(6, Cluster::A, "pods", "a-space", "web-0");
        made.rejects(i2_retain_while_it_matters, "a destructive call while");
    }

    #[test]
    fn a_flip_that_nobody_can_know_of_is_forgiven() {
        let mut made = prepared();
        let body = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
        made.write(3, "admin", Cluster::A, "patch", "persistentvolumes", "", "pv-0", body);
        let event = made.delete(3, Cluster::A, "pods", "a-space", "web-0");
        event.received += SignedDuration::from_millis(50);
        event.completed += SignedDuration::from_millis(50);
        made.accepts(i2_retain_while_it_matters);
    }

    #[test]
    fn sees_a_volume_created_with_delete() {
        let mut made = prepared();
        let body = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete", "csi": {"volumeHandle": "vol-0"}}});
        made.write(3, TOOL, Cluster::B, "create", "persistentvolumes", "", "pv-0", body);
        made.rejects(i2_retain_while_it_matters, "is created with");
    }

    /// Pair bound in B, volume held by B, source gone or not.
    fn finished(source_gone: bool) -> Made {
        let mut made = prepared();
        made.pair_in_b(3, 0);
        made.change(4, "vol-0", "in-use", &["i-b"]);
        if source_gone {
            made.delete(5, Cluster::A, "persistentvolumes", "", "pv-0");
            made.evidence.live.objects.retain(|object| object.cluster != Cluster::A || object.name() != "pv-0");
        }
        let body = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
        made.write(6, TOOL, Cluster::B, "patch", "persistentvolumes", "", "pv-0", body);
        made
    }

    #[test]
    fn accepts_delete_written_back_at_the_end() {
        finished(true).accepts(i2_retain_while_it_matters);
    }

    #[test]
    fn sees_delete_written_back_while_the_source_has_the_volume() {
        finished(false).rejects(i2_retain_while_it_matters, "still names the volume in a");
    }

    #[test]
    fn sees_delete_written_back_to_a_volume_that_is_not_home() {
        let mut made = finished(true);
        made.change(5, "vol-0", "available", &[]);
        made.rejects(i2_retain_while_it_matters, "held by nobody");
    }
}
