//! A plan in words: what would be done, object by object.

use std::fmt::Write as _;

use serde::Serialize;

use crate::plan::{IdleClaims, Order, Plan, SetPlan, VolumePlan};
use crate::record::Subject;
use crate::report::count;
use crate::world::Kind;

/// What is shown of a plan: no before-images, which may hold what only Secrets should.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlanView<'a> {
    migration_id: &'a str,
    attempt: u32,
    /// Kind of what moves: a StatefulSet, or a single PersistentVolumeClaim.
    kind: &'static str,
    from: String,
    to: String,
    order: Order,
    sets: Vec<SetView<'a>>,
    /// What of the set does not go to B as it is.
    remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SetView<'a> {
    name: &'a str,
    replicas: i64,
    ordinals: Vec<OrdinalView<'a>>,
    idle: Vec<VolumeView<'a>>,
    services: Vec<ServiceView<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OrdinalView<'a> {
    ordinal: i64,
    pod: String,
    volumes: Vec<VolumeView<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VolumeView<'a> {
    claim: &'a str,
    volume: &'a str,
    zone: &'a str,
    size_gib: i64,
    source_volume_name: &'a str,
    destination_volume_name: &'a str,
    reclaim_policy: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceView<'a> {
    kind: &'a str,
    name: &'a str,
    at_cutover: bool,
    existing: bool,
}

impl<'a> PlanView<'a> {
    /// Returns the view of a plan.
    pub(crate) fn new(plan: &'a Plan, remarks: Vec<String>) -> PlanView<'a> {
        PlanView {
            migration_id: &plan.id,
            attempt: plan.attempt,
            kind: plan.subject().kind().name(),
            from: format!("{}/{}", plan.source.context, plan.source.namespace),
            to: format!("{}/{}", plan.destination.context, plan.destination.namespace),
            order: plan.choices.order,
            sets: plan.sets.iter().map(set).collect(),
            remarks,
        }
    }

    /// Returns the plan as text.
    pub(crate) fn text(&self) -> String {
        let mut text =
            format!("migration {} (attempt {}): {} → {}\n", self.migration_id, self.attempt, self.from, self.to);
        for set in &self.sets {
            if self.kind == Kind::StatefulSet.name() {
                set.write(&mut text, self.order);
            } else {
                set.idle.iter().for_each(|volume| volume.write(&mut text));
            }
        }
        for remark in &self.remarks {
            let _infallible = writeln!(text, "note: {remark}");
        }
        text
    }
}

impl VolumeView<'_> {
    /// Writes what becomes of a single claim.
    fn write(&self, text: &mut String) {
        let VolumeView { claim, volume, source_volume_name: old, destination_volume_name: new, .. } = self;
        let (size, zone, policy) = (self.size_gib, self.zone, self.reclaim_policy);
        let _infallible = write!(
            text,
            "PersistentVolumeClaim {claim}:\n\
             \x20 move (nothing may use it)\n\
             \x20   source: PersistentVolume {old} from {policy} to Retain, wait until {volume} is free\n\
             \x20   destination: create PersistentVolume {new} on {volume} ({size} GiB, {zone}) and claim {claim}, wait until they are bound\n\
             \x20 finalize (no way back)\n\
             \x20   source: delete claim {claim} and PersistentVolume {old}; {volume} stays\n\
             \x20   destination: reclaim policy as it was in the source\n"
        );
    }
}

impl SetView<'_> {
    fn write(&self, text: &mut String, order: Order) {
        let name = self.name;
        let mut line = |depth: usize, words: String| {
            let _infallible = writeln!(text, "{:width$}{words}", "", width = depth * 2);
        };
        let volumes: Vec<&VolumeView<'_>> =
            self.ordinals.iter().flat_map(|ordinal| &ordinal.volumes).chain(&self.idle).collect();
        line(0, format!("StatefulSet {name}, {}:", count(self.replicas.max(0) as usize, "replica")));
        line(1, "prepare (nothing is down)".to_owned());
        line(2, format!("source: keep the claims of StatefulSet {name}: retention policy Retain/Retain"));
        for volume in &volumes {
            line(
                2,
                format!(
                    "source: PersistentVolume {} from {} to Retain",
                    volume.source_volume_name, volume.reclaim_policy
                ),
            );
        }
        for service in self.services.iter().filter(|service| !service.at_cutover) {
            let done = if service.existing { "use" } else { "create" };
            line(2, format!("destination: {done} {} {}", service.kind, service.name));
        }
        for volume in &volumes {
            line(
                2,
                format!(
                    "destination: create PersistentVolume {} on {} ({} GiB, {}) and claim {}",
                    volume.destination_volume_name, volume.volume, volume.size_gib, volume.zone, volume.claim
                ),
            );
        }
        line(2, format!("destination: create StatefulSet {name} with 0 replicas"));
        line(1, "freeze (its pods run on, without a controller that would heal them)".to_owned());
        line(2, format!("source: delete the object StatefulSet {name}, orphaning its pods"));
        line(1, format!("swing ({order})"));
        match order {
            Order::OneByOne => {
                for (index, ordinal) in self.ordinals.iter().enumerate() {
                    let volumes: Vec<&str> = ordinal.volumes.iter().map(|volume| volume.volume).collect();
                    line(2, format!("source: delete pod {}, wait until {} free", ordinal.pod, are(&volumes)));
                    line(
                        2,
                        format!(
                            "destination: StatefulSet {name} to {}, wait until {} is available on the same volumes",
                            count(index + 1, "replica"),
                            ordinal.pod
                        ),
                    );
                }
            }
            Order::Together => {
                let pods: Vec<&str> = self.ordinals.iter().rev().map(|ordinal| ordinal.pod.as_str()).collect();
                line(2, format!("source: delete pods {}, wait until all volumes are free", pods.join(", ")));
                line(
                    2,
                    format!(
                        "destination: StatefulSet {name} to {} by one patch, wait until all are available",
                        count(self.ordinals.len(), "replica")
                    ),
                );
            }
        }
        line(1, "cutover".to_owned());
        let publishing: Vec<&ServiceView<'_>> = self.services.iter().filter(|service| service.at_cutover).collect();
        if publishing.is_empty() {
            line(2, "destination: nothing that publishes the set".to_owned());
        }
        for service in publishing {
            let done = if service.existing { "use" } else { "create" };
            line(2, format!("destination: {done} {} {}", service.kind, service.name));
        }
        line(1, "finalize (no way back)".to_owned());
        for volume in &volumes {
            line(
                2,
                format!(
                    "source: delete claim {} and PersistentVolume {}; {} stays",
                    volume.claim, volume.source_volume_name, volume.volume
                ),
            );
        }
        line(2, "destination: reclaim and retention policies as they were in the source".to_owned());
    }
}

fn are(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

fn volume(volume: &VolumePlan) -> VolumeView<'_> {
    VolumeView {
        claim: &volume.claim,
        volume: &volume.volume.0,
        zone: &volume.zone,
        size_gib: volume.size_gib,
        source_volume_name: &volume.source_volume_name,
        destination_volume_name: &volume.destination_volume_name,
        reclaim_policy: &volume.reclaim_policy,
    }
}

fn set(set: &SetPlan) -> SetView<'_> {
    SetView {
        name: &set.name,
        replicas: set.replicas(),
        ordinals: set
            .ordinals
            .iter()
            .map(|ordinal| OrdinalView {
                ordinal: ordinal.ordinal,
                pod: set.pod_name(ordinal.ordinal),
                volumes: ordinal.volumes.iter().map(volume).collect(),
            })
            .collect(),
        idle: set.idle.iter().map(volume).collect(),
        services: set
            .services
            .iter()
            .map(|service| ServiceView {
                kind: service.before.text("/kind").unwrap_or("Service"),
                name: service.before.name(),
                at_cutover: service.at_cutover,
                existing: service.existing,
            })
            .collect(),
    }
}

/// Returns a plan in two lines, for the head of a run.
pub(crate) fn headline(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    if plan.subject() == Subject::Claim {
        for volume in plan.volumes() {
            lines.push(format!(
                "claim {}: {}, {} GiB in {}, from {}/{} to {}/{}",
                volume.claim,
                volume.volume,
                volume.size_gib,
                volume.zone,
                plan.source.context,
                plan.source.namespace,
                plan.destination.context,
                plan.destination.namespace,
            ));
        }
        lines.push(format!("  not one byte copied; migration {}", plan.id));
        return lines;
    }
    for set in &plan.sets {
        lines.push(format!(
            "StatefulSet {}: {} on {} from {}/{} to {}/{}, {}",
            set.name,
            count(set.ordinals.len(), "replica"),
            count(set.volumes().count(), "volume"),
            plan.source.context,
            plan.source.namespace,
            plan.destination.context,
            plan.destination.namespace,
            plan.choices.order
        ));
        let mut zones: Vec<&str> = set.volumes().map(|volume| volume.zone.as_str()).collect();
        zones.sort_unstable();
        zones.dedup();
        let size: i64 = set.volumes().map(|volume| volume.size_gib).sum();
        lines.push(format!("  {size} GiB in {}, not one byte copied; migration {}", zones.join(", "), plan.id));
        if plan.choices.idle_claims == IdleClaims::Include && !set.idle.is_empty() {
            lines.push(format!("  {} out of range moved too", count(set.idle.len(), "claim")));
        }
    }
    lines
}
