//! Where a migration is, read from the clusters alone: a pure function of plan, record and world.
//!
//! Nothing is decided from it. What could not be read is said to be unknown.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use crate::plan::{MIGRATION_ANNOTATION, Plan, RETAIN, RETAIN_PATCH};
use crate::record::lease::Holder as LeaseHolder;
use crate::record::{Direction, LastFailure, Record, Subject, in_force, stem};
use crate::report::{Address, addresses, count, left_lines, names};
use crate::spec::{API_VERSION, ClusterReference, KIND};
use crate::world::{Answer, Holder, Kind, Read, Side, World};

mod phases;
mod places;

pub(crate) use phases::reached;
use phases::{next, phase};
use places::{ordinals, pairs};

/// Phase of a migration, in the words of the document's `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Phase {
    Pending,
    PreFlightChecks,
    FreezingSource,
    MigratingPods,
    Finalizing,
    Completed,
    Failed,
    RollingBack,
    RolledBack,
}

/// Where an ordinal runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Location {
    /// In neither cluster: it is down.
    Neither,
    /// It could not be found out.
    Unknown,
    /// In cluster A.
    Source,
    /// In cluster B.
    Destination,
}

/// One ordinal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ordinal {
    /// Name of its pod.
    pub(crate) pod: String,
    /// Where it runs.
    pub(crate) location: Location,
    /// State of the pod there, or why it is nowhere.
    pub(crate) state: String,
    /// Its volumes and who holds them.
    pub(crate) volumes: Vec<Volume>,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Volume {
    /// The claim.
    pub(crate) claim: String,
    /// The EBS volume.
    pub(crate) volume: String,
    /// Who holds it.
    pub(crate) held_by: String,
}

/// One claim that moves without a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pair {
    /// In which clusters the claim is Bound to its PersistentVolume.
    pub(crate) bound_in: Vec<Side>,
    /// The volume and who holds it.
    #[serde(flatten)]
    pub(crate) volume: Volume,
}

/// Who holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lock {
    /// `user@host`, and the process there.
    pub(crate) holder: String,
    /// When it was last renewed, by the holder's clock.
    pub(crate) renewed_at: String,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Next {
    /// In words.
    pub(crate) what: String,
    /// What to type, best first.
    pub(crate) commands: Vec<String>,
}

/// Where a migration is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) phase: Phase,
    /// Whether it was paused on request.
    pub(crate) paused: bool,
    /// `Forward` or `Back`.
    pub(crate) direction: String,
    pub(crate) migration_id: String,
    pub(crate) attempt: u32,
    /// Since when A's pods have no controller.
    pub(crate) frozen_at: Option<String>,
    pub(crate) last_failure: Option<LastFailure>,
    pub(crate) locked_by: Option<Lock>,
    /// In the order in which somebody should look: those in neither cluster first.
    pub(crate) ordinals: Vec<Ordinal>,
    /// Claims that move without a pod.
    pub(crate) pairs: Vec<Pair>,
    /// Where clients find what is carried over, in A and in B.
    pub(crate) addresses: Vec<Address>,
    /// What could not be read, and what is not as it should be.
    pub(crate) remarks: Vec<String>,
    /// What stays in A after the end and is not the program's to remove.
    pub(crate) left_in_source: Vec<String>,
    pub(crate) next: Next,
}

/// Returns the reads on which a [`Status`] rests.
pub(crate) fn needed(plan: Option<&Plan>, subject: Subject, name: &str) -> Vec<Read> {
    let stem = stem(subject, name);
    let mut reads = Vec::new();
    for side in Side::BOTH {
        reads.push(Read::Get(side, Kind::ConfigMap, stem.clone()));
        reads.push(Read::Get(side, Kind::Lease, stem.clone()));
        reads.push(Read::Get(side, subject.kind(), name.to_owned()));
        reads.push(Read::List(side, Kind::Pod));
        reads.push(Read::List(side, Kind::Node));
    }
    if let Some(plan) = plan {
        reads.push(Read::List(Side::Source, Kind::PersistentVolume));
        for service in plan.sets.iter().flat_map(|set| &set.services) {
            reads.push(Read::Get(Side::Destination, service.kind(), service.before.name().to_owned()));
        }
        let volumes: Vec<_> = plan.volumes().map(|volume| volume.volume.clone()).collect();
        if !volumes.is_empty() {
            reads.push(Read::Volumes(volumes));
        }
        for volume in plan.sets.iter().flat_map(|set| &set.idle) {
            for side in Side::BOTH {
                reads.push(Read::Get(side, Kind::PersistentVolumeClaim, volume.claim.clone()));
                reads.push(Read::Get(side, Kind::PersistentVolume, volume.volume_name(side).to_owned()));
            }
        }
    }
    reads
}

/// Returns the record in force of a set or claim, if there is one that can be read.
pub(crate) fn record(world: &World, subject: Subject, name: &str) -> Option<Record> {
    let stem = stem(subject, name);
    let [source, destination] =
        Side::BOTH.map(|side| world.object(side, Kind::ConfigMap, &stem).and_then(|found| Record::read(found).ok()));
    match (source, destination) {
        (Some(left), Some(right)) if left.is_same_migration(&right) => Some(in_force(&left, &right).clone()),
        // An open one is what matters; of two ended ones the later attempt.
        (Some(left), Some(right)) => match (left.is_open(), right.is_open()) {
            (true, false) => Some(left),
            (false, true) => Some(right),
            _ => Some(if left.attempt >= right.attempt { left } else { right }),
        },
        (one, other) => one.or(other),
    }
}

impl Status {
    /// Returns the status of a migration. `type_in` makes the command to type out of a subcommand.
    pub(crate) fn new(
        subject: Subject,
        name: &str,
        plan: Option<&Plan>,
        record: Option<&Record>,
        world: &World,
        type_in: impl Fn(&str) -> String,
    ) -> Status {
        let stem = stem(subject, name);
        let locked_by = Side::BOTH.into_iter().find_map(|side| lock(world, side, &stem));
        let ordinals = plan.map(|plan| ordinals(plan, world)).unwrap_or_default();
        let phase = phase(plan, record, world, locked_by.is_some());
        let last_failure = record.and_then(|record| record.last_failure.clone());
        Status {
            phase,
            paused: record.is_some_and(|record| record.paused),
            direction: format!("{:?}", record.map_or(Direction::Forward, |record| record.direction)),
            migration_id: record
                .map(|record| record.id.clone())
                .or(plan.map(|plan| plan.id.clone()))
                .unwrap_or_default(),
            attempt: record.map(|record| record.attempt).or(plan.map(|plan| plan.attempt)).unwrap_or(1),
            frozen_at: record.filter(|record| record.is_open()).and_then(|record| record.frozen_at.clone()),
            last_failure: last_failure.filter(|_| record.is_some_and(Record::is_open)),
            next: next(subject, plan, record, world, locked_by.as_ref(), &type_in),
            locked_by,
            ordinals,
            pairs: plan.map(|plan| pairs(plan, world)).unwrap_or_default(),
            addresses: plan.iter().flat_map(|plan| &plan.sets).flat_map(|set| addresses(set, world)).collect(),
            remarks: remarks(plan, record, world, &stem),
            left_in_source: Vec::new(),
        }
    }

    /// Returns what is left behind when nothing more is touched, for the end of a failure.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (location, words) in [
            (Location::Neither, "running in neither cluster"),
            (Location::Source, "in the source cluster"),
            (Location::Destination, "in the destination cluster"),
            (Location::Unknown, "not known where"),
        ] {
            let pods: Vec<&str> = self.at(location).map(|ordinal| ordinal.pod.as_str()).collect();
            if !pods.is_empty() {
                let noun = if pods.len() == 1 { "pod" } else { "pods" };
                lines.push(format!("{noun} {} {words}", names(&pods)));
            }
        }
        for pair in &self.pairs {
            lines.push(format!("claim {} {}", pair.volume.claim, pair.place()));
        }
        lines.extend(self.without_controller());
        let of_pods = self
            .ordinals
            .iter()
            .filter(|ordinal| ordinal.location == Location::Neither)
            .flat_map(|ordinal| &ordinal.volumes);
        let free: Vec<&str> = of_pods
            .chain(self.pairs.iter().map(|pair| &pair.volume))
            .filter(|volume| volume.held_by == FREE)
            .map(|volume| volume.volume.as_str())
            .collect();
        if !free.is_empty() {
            lines.push(format!("{} attached to nothing (`available` in EC2): keep janitors away", names(&free)));
        }
        lines
    }

    /// Returns the warning that nothing heals A's pods, if that is so.
    pub(crate) fn without_controller(&self) -> Option<String> {
        let frozen_at = self.frozen_at.as_ref()?;
        let pods = self.at(Location::Source).count();
        (pods > 0 && self.phase != Phase::Completed).then(|| {
            let (noun, verb) = if pods == 1 { ("pod", "has") } else { ("pods", "have") };
            format!(
                "since {frozen_at} the {noun} in the source cluster {verb} no controller that would heal {}",
                if pods == 1 { "it" } else { "them" }
            )
        })
    }

    fn at(&self, location: Location) -> impl Iterator<Item = &Ordinal> {
        self.ordinals.iter().filter(move |ordinal| ordinal.location == location)
    }

    /// Returns the status as text.
    pub(crate) fn text(&self, subject: Subject, name: &str, plan: Option<&Plan>) -> String {
        let mut text = String::new();
        let mut line = |words: String| {
            let _infallible = writeln!(text, "{words}");
        };
        match plan {
            Some(plan) => {
                let order = match subject {
                    Subject::Set => format!(", {}", plan.choices.order),
                    Subject::Claim => String::new(),
                };
                line(format!(
                    "{subject} {name}: {}/{} → {}/{}{order}",
                    plan.source.context, plan.source.namespace, plan.destination.context, plan.destination.namespace,
                ));
            }
            None => line(format!("{subject} {name}")),
        }
        line(format!("migration {} (attempt {})", self.migration_id, self.attempt));
        let paused = if self.paused { ", paused" } else { "" };
        line(format!("phase: {:?}{paused}", self.phase));
        if let Some(failure) = &self.last_failure {
            line(format!("last failure: {} (in {}, at {})", failure.reason, failure.step, failure.at));
        }
        match &self.locked_by {
            Some(lock) => line(format!("locked by: {} (renewed {})", lock.holder, lock.renewed_at)),
            None => line("locked by: nobody".to_owned()),
        }
        if let Some(warning) = self.without_controller() {
            line(format!("warning: {warning}"));
        }
        for remark in &self.remarks {
            line(format!("remark: {remark}"));
        }
        for ordinal in &self.ordinals {
            let location = match ordinal.location {
                Location::Neither => "in NEITHER cluster",
                Location::Unknown => "unknown",
                Location::Source => "source",
                Location::Destination => "destination",
            };
            line(format!("  {}: {location}, {}", ordinal.pod, ordinal.state));
            for volume in &ordinal.volumes {
                line(format!("    {} {}: {}", volume.claim, volume.volume, volume.held_by));
            }
        }
        for pair in &self.pairs {
            line(format!("  claim {}: {}", pair.volume.claim, pair.place()));
            line(format!("    {}: {}", pair.volume.volume, pair.volume.held_by));
        }
        for address in &self.addresses {
            line(format!("  {address}"));
        }
        for left in left_lines(&self.left_in_source) {
            line(left);
        }
        line(format!("next: {}", self.next.what));
        for command in &self.next.commands {
            line(format!("  {command}"));
        }
        text
    }

    /// Returns the whole document: what `-f` takes, with its status; of a claim, for which there is no such
    /// document, the same without saying that it is one.
    ///
    /// Clusters and namespaces are named as this machine and this call do.
    pub(crate) fn document(
        &self,
        subject: Subject,
        name: &str,
        here: [(ClusterReference, &str); 2],
        plan: Option<&Plan>,
    ) -> Value {
        let [(source, namespace), (destination, dest_namespace)] = here;
        let mut spec = json!({
            "migrationId": self.migration_id,
            "sourceCluster": source,
            "sourceNamespace": namespace,
            "destCluster": destination,
            "destNamespace": dest_namespace,
        });
        if let Some(plan) = plan {
            spec["destNamespace"] = json!(plan.destination.namespace);
            spec["force"] = json!(plan.choices.force);
            spec["createNamespace"] = json!(plan.choices.create_namespace);
            spec["storageClassMap"] = json!(plan.choices.storage_class_map);
        }
        let metadata = json!({ "name": name, "namespace": namespace });
        match subject {
            Subject::Claim => {
                spec["claimName"] = json!(name);
                json!({ "metadata": metadata, "spec": spec, "status": self })
            }
            Subject::Set => {
                spec["statefulSetName"] = json!(name);
                if let Some(plan) = plan {
                    spec["order"] = json!(plan.choices.order);
                    spec["idleClaims"] = json!(plan.choices.idle_claims);
                }
                json!({ "apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec, "status": self })
            }
        }
    }
}

impl Pair {
    /// Returns in which clusters the pair is, in words.
    fn place(&self) -> &'static str {
        match self.bound_in.as_slice() {
            [] => "is Bound in neither cluster",
            [Side::Source] => "is Bound in the source cluster",
            [Side::Destination] => "is Bound in the destination cluster",
            _ => "is Bound in both clusters, and the destination's is the one to use",
        }
    }
}

/// How a volume that nobody holds is called.
const FREE: &str = "nobody";

fn lock(world: &World, side: Side, stem: &str) -> Option<Lock> {
    let lease = world.object(side, Kind::Lease, stem)?;
    let identity = lease.text("/spec/holderIdentity").filter(|identity| !identity.is_empty())?;
    let holder = match LeaseHolder::parse(identity) {
        Some(holder) => format!("{} (process {})", holder.who, holder.pid),
        None => identity.to_owned(),
    };
    let renewed_at = lease.text("/spec/renewTime").unwrap_or("never").to_owned();
    Some(Lock { holder, renewed_at })
}

fn remarks(plan: Option<&Plan>, record: Option<&Record>, world: &World, stem: &str) -> Vec<String> {
    let mut remarks = Vec::new();
    for side in Side::BOTH {
        match world.get(side, Kind::ConfigMap, stem) {
            Answer::Unknown(unknown) => {
                remarks.push(format!("the record in the {side} cluster could not be read: {}", unknown.reason))
            }
            Answer::Absent { .. } if record.is_some() => {
                remarks.push(format!("there is no record in the {side} cluster"))
            }
            Answer::Present { object, .. } => {
                if let Err(error) = Record::read(object) {
                    remarks.push(format!("{side} cluster: {error:#}"));
                }
            }
            Answer::Absent { .. } | Answer::Unread => {}
        }
    }
    if plan.is_none() && record.is_some_and(Record::is_open) {
        remarks.push("the plan could not be read in either cluster: where the ordinals are is not known".to_owned());
    }
    if let Some(plan) = plan {
        let is_done = record.is_some_and(|record| !record.is_open());
        if is_done {
            remarks.push(
                "the stored plan is still there: the ending is not complete, and PersistentVolumes may still be `Retain`"
                    .to_owned(),
            );
        }
        if !is_done {
            remarks.extend(not_retained(plan, world));
        }
        let unread = plan.volumes().filter(|volume| world.holder(&volume.volume) == Holder::Unknown).count();
        if unread > 0 {
            remarks.push(format!("EC2 did not say who holds {}", count(unread, "volume")));
        }
    }
    remarks
}

/// Returns a warning for each PersistentVolume of A that was set to `Retain` for this migration and is not now.
///
/// Nothing else would tell in time: EC2 deletes no volume that is attached, A's provisioner tries again and
/// again, and the first restart in B gives it the moment.
fn not_retained(plan: &Plan, world: &World) -> Vec<String> {
    let side = Side::Source;
    let mut remarks = Vec::new();
    let mut unknown = 0;
    for volume in plan.volumes() {
        let name = volume.volume_name(side);
        let found = match world.get(side, Kind::PersistentVolume, name) {
            Answer::Present { object, .. } => object,
            Answer::Unknown(_) => {
                unknown += 1;
                continue;
            }
            Answer::Absent { .. } | Answer::Unread => continue,
        };
        let is_ours = found.annotation(MIGRATION_ANNOTATION) == Some(&plan.mark());
        let policy = found.text("/spec/persistentVolumeReclaimPolicy").unwrap_or_default();
        if is_ours && policy != RETAIN {
            remarks.push(format!(
                "somebody set PersistentVolume {name} in the {side} cluster to {policy}: when its claim goes, {} goes \
                 with all its data, wherever it is used; at once: `kubectl --context {} patch pv {name} -p {RETAIN_PATCH}`",
                volume.volume,
                plan.place(side).context,
            ));
        }
    }
    if unknown > 0 {
        let whose = if unknown == 1 { "its claim" } else { "their claims" };
        remarks.push(format!(
            "it is not known whether {} in the {side} cluster would outlive {whose}: no answer",
            count(unknown, "PersistentVolume")
        ));
    }
    remarks
}

#[cfg(test)]
mod tests;
