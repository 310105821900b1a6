//! Acts and questions in plain words.

use std::collections::BTreeMap;

use crate::decide::{Action, Confirmation, Step, Verb};
use crate::plan::{Plan, SetPlan};
use crate::record::Subject;
use crate::report::{addresses, changes, count, names};
use crate::world::{Kind, Side, World};

/// Returns calls in words, those of one step and kind in one line.
pub(super) fn acts<'a>(actions: impl IntoIterator<Item = &'a Action>) -> Vec<String> {
    let mut order: Vec<(Step, Option<Kind>, Option<Side>)> = Vec::new();
    let mut groups: BTreeMap<usize, Vec<&Action>> = BTreeMap::new();
    for action in actions {
        // A record is one thing that lies in both clusters.
        let target = action.target();
        let side = target.map(|(side, ..)| side).filter(|_| action.step != Step::WriteRecord);
        let key = (action.step, target.map(|(_, kind, _)| kind), side);
        let position = order.iter().position(|known| *known == key).unwrap_or_else(|| {
            order.push(key);
            order.len() - 1
        });
        groups.entry(position).or_default().push(action);
    }
    groups.values().map(|group| sentence(group)).collect()
}

fn sentence(group: &[&Action]) -> String {
    let first = group[0];
    let Some((side, kind, name)) = first.target() else {
        return match &first.verb {
            Verb::Run(command) => format!("run {command}"),
            _ => "do nothing".to_owned(),
        };
    };
    let all: Vec<&str> = group.iter().filter_map(|action| action.target()).map(|(_, _, name)| name).collect();
    let things = format!("{kind}{} {}", if all.len() > 1 { "s" } else { "" }, names(&all));
    let place = format!("in the {side} cluster");
    match first.step {
        Step::StorePlan => format!("store the plan {place}"),
        Step::WriteRecord if group.len() > 1 => "write the record in both clusters".to_owned(),
        Step::WriteRecord => format!("write the record {place}"),
        Step::RetainVolume => format!("set {things} {place} to Retain"),
        Step::RetainClaims => format!("let StatefulSet {name} {place} keep its claims (retention policy Retain)"),
        Step::CreateService | Step::CreateVolume | Step::CreateClaim => format!("create {things} {place}"),
        Step::CreateSet => format!("create StatefulSet {name} {place} with 0 replicas"),
        Step::Freeze => format!("delete the object StatefulSet {name} {place}; its pods run on"),
        Step::RemoveOwner => format!("remove dangling owner references from {things} {place}"),
        Step::DeletePod => format!("stop {things} {place}"),
        Step::Grow => format!("grow StatefulSet {name} {place} to {}", replicas(first)),
        Step::Shrink => format!("shrink StatefulSet {name} {place} to {}", replicas(first)),
        Step::DeleteSourceClaim
        | Step::DeleteSourceVolume
        | Step::DeleteRevision
        | Step::DeleteOurs
        | Step::DeleteBrokenClaim => format!("delete {things} {place}"),
        Step::RestorePolicy => format!("give {things} {place} the original policy"),
        Step::RemoveMark => format!("take our annotations off {things} {place}"),
        Step::LeaveService => format!("leave {things} {place}: another set there uses it"),
        Step::DropPlan => format!("delete the stored plan {place}"),
        Step::MarkRevision => format!("mark {things} {place}"),
        Step::RecreateVolume | Step::RecreateClaim => format!("recreate {things} {place}"),
        Step::RecreateSet => format!("recreate StatefulSet {name} {place}"),
        Step::RunCommand => format!("run a command for {things}"),
    }
}

fn replicas(action: &Action) -> String {
    match &action.verb {
        Verb::Patch { patch, .. } => {
            let number = patch.pointer("/spec/replicas").and_then(serde_json::Value::as_u64).unwrap_or_default();
            count(number as usize, "replica")
        }
        _ => "another size".to_owned(),
    }
}

/// Returns what a person reads before saying yes: what is about to be done, object by object.
pub(super) fn question(confirmation: &Confirmation, plan: &Plan, world: &World) -> Vec<String> {
    match (plan.subject(), confirmation) {
        (Subject::Claim, Confirmation::Deleting | Confirmation::Rollback) => of_claim(confirmation, plan),
        _ => plan.sets.iter().flat_map(|set| of_set(confirmation, plan, set, world)).collect(),
    }
}

/// The questions about a single claim.
fn of_claim(confirmation: &Confirmation, plan: &Plan) -> Vec<String> {
    let source = format!("{}/{}", plan.source.context, plan.source.namespace);
    let destination = format!("{}/{}", plan.destination.context, plan.destination.namespace);
    let of = |side: Side| {
        plan.volumes().map(move |volume| (volume.claim.as_str(), volume.volume_name(side), &volume.volume))
    };
    let is_back = *confirmation == Confirmation::Rollback;
    let mut lines = Vec::new();
    for (claim, volume, handle) in of(if is_back { Side::Destination } else { Side::Source }) {
        if is_back {
            lines.push(format!("rollback: claim {claim} and PersistentVolume {volume} in {destination} are deleted"));
            lines.push(format!("  what stays: the EBS volume {handle}, which {source} can use again"));
            lines.push("  what was written in the destination stays on the volume".to_owned());
        } else {
            lines.push(format!(
                "finalize: claim {claim} and PersistentVolume {volume} in {source} are deleted; THERE IS NO WAY BACK from here"
            ));
            lines.push(format!(
                "  what stays: the EBS volume {handle}, which is that of claim {claim} in {destination}"
            ));
        }
    }
    lines
}

fn of_set(confirmation: &Confirmation, plan: &Plan, set: &SetPlan, world: &World) -> Vec<String> {
    let name = &set.name;
    let source = format!("{}/{}", plan.source.context, plan.source.namespace);
    let destination = format!("{}/{}", plan.destination.context, plan.destination.namespace);
    let pods: Vec<String> = set.ordinals.iter().map(|ordinal| set.pod_name(ordinal.ordinal)).collect();
    match confirmation {
        Confirmation::Freeze => vec![
            format!("freeze: the object StatefulSet {name} in {source} is deleted; nothing goes down"),
            stays(set, &pods),
            "  from then on no controller heals these pods until they have moved, or you roll back".to_owned(),
        ],
        Confirmation::Pod(ordinal) => {
            let mut lines = vec![format!(
                "swing: pod {} in {source} is stopped, grace period {} s",
                set.pod_name(*ordinal),
                set.grace_seconds()
            )];
            lines.extend(hand_over(set, &destination, |number| number == *ordinal));
            lines.extend(healer(set, world));
            lines
        }
        Confirmation::AllPods => {
            let way = if set.is_parallel() { "at once" } else { "highest first, each gone before the next" };
            let mut lines = vec![format!(
                "swing: all {} {} in {source} are stopped, {way}, grace period {} s",
                noun(pods.len(), "pod"),
                names(&pods),
                set.grace_seconds()
            )];
            lines.extend(hand_over(set, &destination, |_| true));
            lines.extend(healer(set, world));
            lines
        }
        Confirmation::Cutover => {
            let mut lines = vec![format!("cutover: what publishes the set is created in {destination}")];
            let waiting = set.services.iter().filter(|service| service.at_cutover);
            lines.extend(waiting.map(|service| {
                let verb = if service.existing { "is used as it is" } else { "is created" };
                format!("  {} {} {verb}", service.before.text("/kind").unwrap_or("Service"), service.before.name())
            }));
            if lines.len() == 1 {
                lines.push("  nothing of the set publishes it; only --cutover-command runs, if it is given".to_owned());
            }
            lines.push(format!("  nothing is changed in {source}"));
            lines.extend(reached_at(set, world));
            lines
        }
        Confirmation::Deleting => {
            let claims: Vec<&str> = set.volumes().map(|volume| volume.claim.as_str()).collect();
            let volumes: Vec<&str> = set.volumes().map(|volume| volume.source_volume_name.as_str()).collect();
            let handles: Vec<&str> = set.volumes().map(|volume| volume.volume.0.as_str()).collect();
            let mut lines = vec![
                format!("finalize: what is left of {name} in {source} is deleted; THERE IS NO WAY BACK from here"),
                format!("  {} {}", noun(claims.len(), "claim"), names(&claims)),
                format!("  {} {}", noun(volumes.len(), "PersistentVolume"), names(&volumes)),
                format!("  {} of the old set", count(set.revisions.len(), "ControllerRevision")),
                format!(
                    "  what stays: the EBS volume{} {}, in use by {destination}",
                    if handles.len() == 1 { "" } else { "s" },
                    names(&handles)
                ),
            ];
            lines.extend(reached_at(set, world));
            lines
        }
        Confirmation::Rollback => {
            let here: Vec<&str> = pods
                .iter()
                .map(String::as_str)
                .filter(|pod| world.object(Side::Destination, Kind::Pod, pod).is_some())
                .collect();
            let stopped = if here.is_empty() {
                format!("  no pod of the set runs in {destination}")
            } else {
                let verb = if here.len() == 1 { "stops" } else { "stop" };
                format!("  {} {} in {destination} {verb}", noun(here.len(), "pod"), names(&here))
            };
            let mut lines = vec![
                format!(
                    "rollback: {destination} is emptied of what is ours, {source} gets StatefulSet {name} back as it was"
                ),
                stopped,
                "  deleted there: the set, its claims and PersistentVolumes, Services and Ingresses that we created"
                    .to_owned(),
                "  what stays: the EBS volumes, and a Service that another set uses by now".to_owned(),
                "  pods in the source that never moved are not restarted".to_owned(),
                "  what the pods wrote in the destination stays on the volumes; if a newer version of the software"
                    .to_owned(),
                "  changed the format on disk, the old one in the source may be unable to read it".to_owned(),
            ];
            lines.extend(changes(plan, set, world).iter().map(|line| format!("  {line}")));
            lines
        }
    }
}

/// Returns the lines about volumes that change sides.
fn hand_over(set: &SetPlan, destination: &str, moves: impl Fn(i64) -> bool) -> Vec<String> {
    set.ordinals
        .iter()
        .filter(|ordinal| moves(ordinal.ordinal))
        .map(|ordinal| {
            let volumes: Vec<&str> = ordinal.volumes.iter().map(|volume| volume.volume.0.as_str()).collect();
            let pod = set.pod_name(ordinal.ordinal);
            format!("  {pod} starts again in {destination} on {} {}", noun(volumes.len(), "volume"), names(&volumes))
        })
        .collect()
}

/// Returns where clients find what is carried over, old → new.
fn reached_at(set: &SetPlan, world: &World) -> Vec<String> {
    addresses(set, world).iter().map(|address| format!("  {address}")).collect()
}

/// Returns since when nothing heals the pods that are still in A.
fn healer(set: &SetPlan, world: &World) -> Option<String> {
    let frozen_at = crate::report::record_in_force(world, Subject::Set, &set.name)?.frozen_at?;
    Some(format!("  since {frozen_at} pods that are still in the source have no controller that would heal them"))
}

/// Returns what goes on through the freeze.
fn stays(set: &SetPlan, pods: &[String]) -> String {
    let claims: Vec<&str> = set.volumes().map(|volume| volume.claim.as_str()).collect();
    let verb = |number: usize, verb: &str| if number == 1 { format!("{verb}s") } else { verb.to_owned() };
    let run_on = match pods.len() {
        0 => "no pod of it runs".to_owned(),
        number => format!("its {} {} {} on", noun(number, "pod"), names(pods), verb(number, "run")),
    };
    let bound = verb(claims.len(), "stay");
    format!("  {run_on}, its {} {} {bound} bound", noun(claims.len(), "claim"), names(&claims))
}

fn noun(number: usize, noun: &str) -> String {
    if number == 1 { noun.to_owned() } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixtures;
    use crate::record::Record;
    use crate::world::Object;

    /// Returns what is asked of the sample plan of two ordinals; the record says when it was frozen.
    fn asked(confirmation: &Confirmation) -> String {
        let plan = fixtures::plan(2, 1);
        let mut world = fixtures::world(&plan);
        let record = Record::first(&plan).next(|record| record.frozen_at = Some("2026-03-01T22:00:00Z".to_owned()));
        let action = Action::record(&plan, Side::Source, &plan.stem(), &record, None);
        let Verb::Create { object, .. } = action.verb else { panic!("a first record is created") };
        world.seq += 1;
        let seq = world.seq;
        world.shelf_mut(Side::Source, Kind::ConfigMap).put(seq, &plan.stem(), Ok(Some(Object(object))));
        question(confirmation, &plan, &world).join("\n")
    }

    #[test]
    fn the_freeze_counts_one_pod_and_none() {
        let mut plan = fixtures::plan(1, 1);
        let said = |plan: &Plan| question(&Confirmation::Freeze, plan, &World::default()).remove(1);
        assert_eq!(said(&plan), "  its pod web-0 runs on, its claim data-web-0 stays bound");
        let ordinal = plan.sets[0].ordinals.remove(0);
        plan.sets[0].idle = ordinal.volumes;
        assert_eq!(said(&plan), "  no pod of it runs, its claim data-web-0 stays bound");
    }

    #[test]
    fn the_freeze_says_that_nothing_goes_down_and_nothing_heals() {
        assert_eq!(
            asked(&Confirmation::Freeze),
            "freeze: the object StatefulSet web in a/shop is deleted; nothing goes down\n\
             \x20 its 2 pods web-0, web-1 run on, its 2 claims data-web-0, data-web-1 stay bound\n\
             \x20 from then on no controller heals these pods until they have moved, or you roll back"
        );
    }

    #[test]
    fn a_pod_is_named_with_its_volumes_and_since_when_nothing_heals() {
        let text = asked(&Confirmation::Pod(1));
        let volume = &fixtures::plan(2, 1).sets[0].ordinals[1].volumes[0].volume;
        assert_eq!(
            text,
            format!(
                "swing: pod web-1 in a/shop is stopped, grace period 30 s\n\
                 \x20 web-1 starts again in b/market on volume {volume}\n\
                 \x20 since 2026-03-01T22:00:00Z pods that are still in the source have no controller that would heal them"
            )
        );
    }

    #[test]
    fn the_order_of_stopping_is_said_for_all_pods() {
        let first = asked(&Confirmation::AllPods);
        assert!(first.starts_with("swing: all 2 pods web-0, web-1 in a/shop are stopped, highest first"), "{first}");
    }

    #[test]
    fn deleting_says_that_there_is_no_way_back_and_what_stays() {
        let text = asked(&Confirmation::Deleting);
        assert!(text.contains("THERE IS NO WAY BACK"), "{text}");
        assert!(text.contains("2 claims data-web-0, data-web-1"), "{text}");
        assert!(text.contains("what stays: the EBS volumes vol-"), "{text}");
    }

    #[test]
    fn the_rollback_says_that_writes_stay_and_may_be_unreadable() {
        let text = asked(&Confirmation::Rollback);
        assert!(text.contains("what the pods wrote in the destination stays on the volumes"), "{text}");
        assert!(text.contains("the old one in the source may be unable to read it"), "{text}");
        assert!(text.contains("no pod of the set runs in b/market"), "{text}");
    }

    #[test]
    fn acts_of_one_kind_are_one_line() {
        let create = |kind: Kind, name: &str| {
            let object = json!({ "metadata": { "name": name } });
            Action::create(Step::CreateClaim, Side::Destination, kind, object)
        };
        let claim = Kind::PersistentVolumeClaim;
        let actions = [create(claim, "data-web-0"), create(claim, "data-web-1"), create(Kind::Service, "web")];
        assert_eq!(
            acts(&actions),
            [
                "create PersistentVolumeClaims data-web-0, data-web-1 in the destination cluster",
                "create Service web in the destination cluster"
            ]
        );
    }
}
