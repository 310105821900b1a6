//! Two small clusters and EC2 as a plain value: API server rules, controllers, kubelets, one step at a time.
//!
//! Strict where the real ones are: preconditions, finalizers, one attachment per volume, a claim that
//! is missing is created empty, a Released PV with `Delete` takes its volume along.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::decide::{Action, Verb};
use crate::fixtures;
use crate::plan::Plan;
use crate::translate::Pairs;
use crate::world::{
    Attachment, AttachmentState, Ec2Volume, Kind, Object, Side, VolumeFacts, VolumeId, VolumeState, World,
};

mod steps;

pub(super) use steps::Move;

/// Where a volume is in EC2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    Attached(Side),
    Detaching(Side),
    Available,
    Deleted,
}

type Key = (Side, Kind, String);

/// Both clusters and EC2.
#[derive(Clone, Debug)]
pub(super) struct Simulation {
    pub(super) plan: Arc<Plan>,
    pub(super) pairs: Arc<Pairs>,
    objects: BTreeMap<Key, Arc<Value>>,
    born: BTreeMap<Key, u32>,
    pub(super) volumes: BTreeMap<VolumeId, Place>,
    /// What went wrong, if anything did.
    pub(super) violation: Option<String>,
}

impl PartialEq for Simulation {
    fn eq(&self, other: &Self) -> bool {
        self.objects == other.objects && self.volumes == other.volumes && self.violation == other.violation
    }
}

impl Hash for Simulation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (key, object) in &self.objects {
            key.hash(state);
            hash_value(object, state);
        }
        self.volumes.hash(state);
        self.violation.hash(state);
    }
}

/// Hashes JSON without regard to the order of keys.
fn hash_value<H: Hasher>(value: &Value, state: &mut H) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            for (key, value) in sorted {
                key.hash(state);
                hash_value(value, state);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| hash_value(value, state)),
        other => other.to_string().hash(state),
    }
}

impl Simulation {
    /// Returns both clusters before anything is done.
    pub(super) fn new(plan: Plan) -> Simulation {
        let mut objects = BTreeMap::new();
        let sides = [
            (Side::Source, fixtures::source_objects(&plan)),
            (Side::Destination, fixtures::destination_objects(&plan)),
        ];
        for (side, found) in sides {
            for (kind, object) in found {
                let mut value = object.0;
                if let Some(metadata) = value["metadata"].as_object_mut() {
                    metadata.shift_remove("managedFields");
                }
                objects.insert((side, kind, object_name(&value)), Arc::new(value));
            }
        }
        let volumes = fixtures::volumes(&plan)
            .into_iter()
            .map(|(id, volume)| {
                (id, if volume.attachments.is_empty() { Place::Available } else { Place::Attached(Side::Source) })
            })
            .collect();
        let mut simulation = Simulation {
            pairs: Arc::new(Pairs::of(&plan)),
            plan: Arc::new(plan),
            objects,
            born: BTreeMap::new(),
            volumes,
            violation: None,
        };
        simulation.settle();
        simulation
    }

    pub(super) fn get(&self, side: Side, kind: Kind, name: &str) -> Option<Object> {
        self.objects.get(&(side, kind, name.to_owned())).map(|value| Object(Value::clone(value)))
    }

    fn of_kind(&self, side: Side, kind: Kind) -> Vec<Object> {
        self.objects
            .range((side, kind, String::new())..)
            .take_while(|((found_side, found_kind, _), _)| (*found_side, *found_kind) == (side, kind))
            .map(|(_, value)| Object(Value::clone(value)))
            .collect()
    }

    /// Changes an object as somebody else would, with a new resourceVersion.
    pub(super) fn edit(&mut self, side: Side, kind: Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let key = (side, kind, name.to_owned());
        let Some(value) = self.objects.get(&key) else { return };
        let mut value = Value::clone(value);
        change(&mut value);
        let version: u64 = value["metadata"]["resourceVersion"].as_str().and_then(|it| it.parse().ok()).unwrap_or(0);
        value["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        self.objects.insert(key, Arc::new(value));
    }

    /// Puts an object there as somebody else would.
    pub(super) fn put(&mut self, side: Side, kind: Kind, mut value: Value) {
        let key = (side, kind, object_name(&value));
        let born = self.born.entry(key.clone()).or_default();
        *born += 1;
        value["metadata"]["uid"] = json!(format!("{side}-{kind}-{}-{born}", key.2));
        value["metadata"]["resourceVersion"] = json!("1");
        match kind {
            Kind::StatefulSet => value["metadata"]["generation"] = json!(1),
            Kind::PersistentVolumeClaim => value["status"] = json!({ "phase": "Pending" }),
            Kind::PersistentVolume => value["status"] = json!({ "phase": "Available" }),
            _ => {}
        }
        self.objects.insert(key, Arc::new(value));
    }

    /// Takes an object away at once, as somebody else would.
    pub(super) fn remove(&mut self, side: Side, kind: Kind, name: &str) {
        self.objects.remove(&(side, kind, name.to_owned()));
    }

    /// Carries out a call as the API server would; a failed precondition changes nothing.
    pub(super) fn perform(&mut self, action: &Action) {
        match &action.verb {
            Verb::Create { side, kind, object } => {
                if self.get(*side, *kind, &object_name(object)).is_none() {
                    self.put(*side, *kind, object.clone());
                }
            }
            Verb::Patch { side, kind, name, uid, resource_version, patch } => {
                let Some(found) = self.get(*side, *kind, name) else { return };
                if found.uid() != uid || found.resource_version() != resource_version {
                    return;
                }
                self.edit(*side, *kind, name, |value| {
                    let before = value["spec"].clone();
                    merge(value, patch);
                    if *kind == Kind::StatefulSet && value["spec"] != before {
                        let generation = value["metadata"]["generation"].as_i64().unwrap_or(0);
                        value["metadata"]["generation"] = json!(generation + 1);
                    }
                });
            }
            Verb::Delete { side, kind, name, uid, resource_version, orphan } => {
                let Some(found) = self.get(*side, *kind, name) else { return };
                if found.uid() != uid || found.resource_version() != resource_version {
                    return;
                }
                if *kind == Kind::StatefulSet && !orphan {
                    self.violation = Some(format!("set {name} deleted without Orphan"));
                }
                match kind {
                    Kind::Pod | Kind::StatefulSet | Kind::PersistentVolume | Kind::PersistentVolumeClaim => {
                        self.edit(*side, *kind, name, |value| {
                            value["metadata"]["deletionTimestamp"] = json!("2025-01-02T03:04:05Z");
                        });
                    }
                    _ => self.remove(*side, *kind, name),
                }
            }
            Verb::Run(_) => {}
        }
        self.settle();
    }

    pub(super) fn orphan(&mut self, side: Side, name: &str) {
        let uid = self.get(side, Kind::StatefulSet, name).map(|set| set.uid().to_owned()).unwrap_or_default();
        for kind in [Kind::Pod, Kind::ControllerRevision, Kind::PersistentVolumeClaim] {
            for object in self.of_kind(side, kind) {
                if object.owners().any(|owner| owner.uid == uid) {
                    self.edit(side, kind, object.name(), |value| {
                        if let Some(metadata) = value["metadata"].as_object_mut() {
                            metadata.shift_remove("ownerReferences");
                        }
                    });
                }
            }
        }
    }

    fn id_of(&self, side: Side, volume_name: &str) -> Option<VolumeId> {
        self.plan.volumes().find(|volume| volume.volume_name(side) == volume_name).map(|volume| volume.volume.clone())
    }

    /// Returns whether a pod of the side runs on a volume.
    fn is_mounted(&self, side: Side, id: &VolumeId) -> bool {
        self.of_kind(side, Kind::Pod)
            .iter()
            .filter(|pod| pod.condition("Ready") == Some("True"))
            .any(|pod| self.pod_volumes(side, pod).is_some_and(|ids| ids.contains(id)))
    }

    /// Returns whether a pod of the side, running or not, wants a volume.
    fn is_wanted(&self, side: Side, id: &VolumeId) -> bool {
        self.of_kind(side, Kind::Pod).iter().any(|pod| self.pod_volumes(side, pod).is_some_and(|ids| ids.contains(id)))
    }

    fn in_use(&self, side: Side) -> BTreeSet<VolumeId> {
        self.of_kind(side, Kind::Node)
            .iter()
            .flat_map(|node| node.array("/status/volumesInUse").to_vec())
            .filter_map(|used| Some(VolumeId(used.as_str()?.rsplit('^').next()?.to_owned())))
            .collect()
    }

    pub(super) fn report(&mut self, side: Side, id: &VolumeId, used: bool) {
        let text = format!("kubernetes.io/csi/ebs.csi.aws.com^{id}");
        let ordinal = self.plan.sets[0].ordinals.iter().find(|it| it.volumes.iter().any(|volume| &volume.volume == id));
        let Some(node) = ordinal.map(|ordinal| fixtures::node_name(side, ordinal.ordinal)) else { return };
        self.edit(side, Kind::Node, &node, |node| {
            let mut volumes: BTreeSet<String> = node["status"]["volumesInUse"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|it| it.as_str().map(str::to_owned))
                .collect();
            if used {
                volumes.insert(text);
            } else {
                volumes.remove(&text);
            }
            node["status"]["volumesInUse"] = json!(volumes);
        });
    }

    /// Lets every controller write its status, and looks for harm.
    fn settle(&mut self) {
        for side in Side::BOTH {
            for set in self.of_kind(side, Kind::StatefulSet) {
                let ready = self
                    .of_kind(side, Kind::Pod)
                    .iter()
                    .filter(|pod| pod.condition("Ready") == Some("True") && !pod.is_terminating())
                    .count();
                let status =
                    json!({ "observedGeneration": set.number("/metadata/generation"), "availableReplicas": ready });
                if set.at("/status") != Some(&status) {
                    self.edit(side, Kind::StatefulSet, set.name(), |set| set["status"] = status);
                }
            }
        }
        if self.violation.is_none() {
            self.violation = self.harm();
        }
    }

    fn harm(&self) -> Option<String> {
        for ordinal in &self.plan.sets[0].ordinals {
            let name = self.plan.sets[0].pod_name(ordinal.ordinal);
            let runs = |side| self.get(side, Kind::Pod, &name).is_some();
            if runs(Side::Source) && runs(Side::Destination) {
                return Some(format!("pod {name} is in both clusters"));
            }
        }
        for side in Side::BOTH {
            for volume in self.plan.volumes() {
                let claim = self.get(side, Kind::PersistentVolumeClaim, &volume.claim);
                if claim.is_some_and(|claim| claim.text("/spec/volumeName") != Some(volume.volume_name(side))) {
                    return Some(format!("claim {} in the {side} cluster names another volume", volume.claim));
                }
            }
        }
        None
    }

    /// Returns the world as somebody sees it who reads everything just now, in the order of the gate.
    pub(super) fn world(&self, world: &mut World) {
        const ORDER: [Kind; 12] = [
            Kind::Namespace,
            Kind::ConfigMap,
            Kind::Secret,
            Kind::StatefulSet,
            Kind::Service,
            Kind::Ingress,
            Kind::PersistentVolume,
            Kind::PersistentVolumeClaim,
            Kind::ControllerRevision,
            Kind::Pod,
            Kind::Node,
            Kind::VolumeAttachment,
        ];
        for kind in ORDER {
            for side in Side::BOTH {
                world.seq += 1;
                let seq = world.seq;
                world.shelf_mut(side, kind).put_list(seq, self.of_kind(side, kind));
            }
        }
        self.describe(world);
        self.describe(world);
    }

    /// Lets the world see EC2's volumes once.
    pub(super) fn describe(&self, world: &mut World) {
        world.seq += 1;
        for volume in self.plan.volumes() {
            let answer = self.ec2(&volume.volume);
            let facts: &mut VolumeFacts = world.volumes.entry(volume.volume.clone()).or_default();
            facts.put(world.seq, Ok(answer));
        }
    }

    fn ec2(&self, id: &VolumeId) -> Option<Ec2Volume> {
        let mut volume = fixtures::volumes(&self.plan).remove(id)?;
        let ordinal = self.plan.sets[0].ordinals.iter().find(|it| it.volumes.iter().any(|volume| &volume.volume == id));
        let attachment = |side, state| Attachment {
            instance: fixtures::instance_id(side, ordinal.map_or(0, |ordinal| ordinal.ordinal)),
            state,
            delete_on_termination: false,
        };
        (volume.state, volume.attachments) = match self.volumes.get(id)? {
            Place::Attached(side) => (VolumeState::InUse, vec![attachment(*side, AttachmentState::Attached)]),
            Place::Detaching(side) => (VolumeState::InUse, vec![attachment(*side, AttachmentState::Detaching)]),
            Place::Available => (VolumeState::Available, Vec::new()),
            Place::Deleted => return None,
        };
        Some(volume)
    }
}

fn object_name(value: &Value) -> String {
    value["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let map = target.as_object_mut().expect("just made a map");
    for (key, value) in patch {
        if value.is_null() {
            map.shift_remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
