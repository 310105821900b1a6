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

/// One step of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Move {
    /// The kubelet has ended a pod, unmounted its volume, and deletes the object.
    EndPod(Side, String),
    /// The kubelet reports that a volume is no longer in use.
    ReportUnmounted(Side, VolumeId),
    /// The attach/detach controller removes a VolumeAttachment, and EC2 begins to detach.
    Detach(Side, String),
    /// EC2 has detached.
    Available(VolumeId),
    /// The set's controller creates the next pod.
    CreatePod(Side, String),
    /// The set's controller deletes a pod beyond its replicas.
    Condemn(Side, String),
    /// EC2 attaches the volume of a pod that waits for it, and the pod becomes Ready.
    StartPod(Side, String),
    /// The PV controller binds a pair.
    Bind(Side, String),
    /// The PV controller finds that a PV's claim is gone.
    Release(Side, String),
    /// The provisioner deletes the volume of a Released PV with policy `Delete`.
    Reclaim(Side, String),
    /// The last finalizer of an object that is being deleted goes.
    Collect(Side, Kind, String),
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

    /// Returns the steps that somebody else could take now.
    pub(super) fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        for side in Side::BOTH {
            self.pod_moves(side, &mut moves);
            self.volume_moves(side, &mut moves);
            self.set_moves(side, &mut moves);
        }
        for (id, place) in &self.volumes {
            if matches!(place, Place::Detaching(_)) {
                moves.push(Move::Available(id.clone()));
            }
        }
        moves
    }

    fn pod_moves(&self, side: Side, moves: &mut Vec<Move>) {
        for pod in self.of_kind(side, Kind::Pod) {
            if pod.is_terminating() {
                moves.push(Move::EndPod(side, pod.name().to_owned()));
            } else if pod.condition("Ready") != Some("True") && self.can_start(side, &pod) {
                moves.push(Move::StartPod(side, pod.name().to_owned()));
            }
        }
        for id in self.in_use(side) {
            if !self.is_mounted(side, &id) {
                moves.push(Move::ReportUnmounted(side, id));
            }
        }
        for attachment in self.of_kind(side, Kind::VolumeAttachment) {
            let name = attachment.text("/spec/source/persistentVolumeName").unwrap_or_default().to_owned();
            let id = self.id_of(side, &name);
            let is_wanted = id.is_some_and(|id| self.is_wanted(side, &id) || self.in_use(side).contains(&id));
            if !is_wanted {
                moves.push(Move::Detach(side, attachment.name().to_owned()));
            }
        }
    }

    fn volume_moves(&self, side: Side, moves: &mut Vec<Move>) {
        for claim in self.of_kind(side, Kind::PersistentVolumeClaim) {
            let is_used =
                self.of_kind(side, Kind::Pod).iter().any(|pod| pod.claim_names().any(|it| it == claim.name()));
            if claim.is_terminating() && !is_used {
                moves.push(Move::Collect(side, Kind::PersistentVolumeClaim, claim.name().to_owned()));
            }
            let volume = claim.text("/spec/volumeName").and_then(|name| self.get(side, Kind::PersistentVolume, name));
            if claim.text("/status/phase") == Some("Pending")
                && volume.is_some_and(|volume| {
                    volume.text("/spec/claimRef/name") == Some(claim.name())
                        && volume.at("/spec/claimRef/uid").is_none()
                })
            {
                moves.push(Move::Bind(side, claim.name().to_owned()));
            }
        }
        for volume in self.of_kind(side, Kind::PersistentVolume) {
            let claim = volume
                .text("/spec/claimRef/name")
                .and_then(|name| self.get(side, Kind::PersistentVolumeClaim, name))
                .filter(|claim| volume.text("/spec/claimRef/uid").is_none_or(|uid| uid == claim.uid()));
            let phase = volume.text("/status/phase");
            if phase == Some("Bound") && claim.is_none() {
                moves.push(Move::Release(side, volume.name().to_owned()));
            }
            let is_free = volume.volume_id().and_then(|id| self.volumes.get(&id).copied()) == Some(Place::Available);
            if phase == Some("Released")
                && volume.text("/spec/persistentVolumeReclaimPolicy") == Some("Delete")
                && is_free
            {
                moves.push(Move::Reclaim(side, volume.name().to_owned()));
            }
            let is_attached = self
                .of_kind(side, Kind::VolumeAttachment)
                .iter()
                .any(|found| found.text("/spec/source/persistentVolumeName") == Some(volume.name()));
            if volume.is_terminating() && phase != Some("Bound") && !is_attached {
                moves.push(Move::Collect(side, Kind::PersistentVolume, volume.name().to_owned()));
            }
        }
    }

    fn set_moves(&self, side: Side, moves: &mut Vec<Move>) {
        for set in self.of_kind(side, Kind::StatefulSet) {
            if set.is_terminating() {
                moves.push(Move::Collect(side, Kind::StatefulSet, set.name().to_owned()));
                continue;
            }
            let planned = &self.plan.sets[0];
            for (index, ordinal) in planned.ordinals.iter().enumerate() {
                let name = planned.pod_name(ordinal.ordinal);
                let pod = self.get(side, Kind::Pod, &name);
                if (index as i64) < set.replicas() {
                    if pod.is_none() {
                        moves.push(Move::CreatePod(side, name));
                        break;
                    }
                    let is_ready =
                        pod.is_some_and(|pod| pod.condition("Ready") == Some("True") && !pod.is_terminating());
                    if !is_ready && !planned.is_parallel() {
                        break;
                    }
                } else if pod.is_some_and(|pod| !pod.is_terminating()) {
                    moves.push(Move::Condemn(side, name));
                }
            }
        }
    }

    /// Carries out somebody else's step.
    pub(super) fn make(&mut self, step: &Move) {
        match step {
            Move::EndPod(side, name) => self.remove(*side, Kind::Pod, name),
            Move::ReportUnmounted(side, id) => self.report(*side, id, false),
            Move::Detach(side, name) => {
                let attachment = self.get(*side, Kind::VolumeAttachment, name);
                let id = attachment
                    .as_ref()
                    .and_then(|found| found.text("/spec/source/persistentVolumeName"))
                    .and_then(|name| self.id_of(*side, name));
                self.remove(*side, Kind::VolumeAttachment, name);
                if let Some(id) = id.filter(|id| self.volumes.get(id) == Some(&Place::Attached(*side))) {
                    self.volumes.insert(id, Place::Detaching(*side));
                }
            }
            Move::Available(id) => {
                self.volumes.insert(id.clone(), Place::Available);
            }
            Move::CreatePod(side, name) => self.create_pod(*side, name),
            Move::Condemn(side, name) => self.edit(*side, Kind::Pod, name, |pod| {
                pod["metadata"]["deletionTimestamp"] = json!("2025-01-02T03:04:05Z");
            }),
            Move::StartPod(side, name) => self.start_pod(*side, name),
            Move::Bind(side, name) => self.bind(*side, name),
            Move::Release(side, name) => {
                self.edit(*side, Kind::PersistentVolume, name, |volume| {
                    volume["status"] = json!({ "phase": "Released" })
                });
            }
            Move::Reclaim(side, name) => {
                let id = self.id_of(*side, name);
                self.violation = Some(format!("volume of PersistentVolume {name} deleted by the {side} cluster"));
                if let Some(id) = id {
                    self.volumes.insert(id, Place::Deleted);
                }
            }
            Move::Collect(side, kind, name) => {
                if *kind == Kind::StatefulSet {
                    self.orphan(*side, name);
                }
                self.remove(*side, *kind, name);
            }
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

    fn create_pod(&mut self, side: Side, name: &str) {
        let plan = Arc::clone(&self.plan);
        let set = &plan.sets[0];
        let Some(ordinal) = set.ordinals.iter().find(|it| set.pod_name(it.ordinal) == name) else { return };
        for volume in &ordinal.volumes {
            if self.get(side, Kind::PersistentVolumeClaim, &volume.claim).is_none() {
                self.violation = Some(format!("empty claim {} in the {side} cluster", volume.claim));
            }
        }
        let volumes: Vec<Value> = ordinal
            .volumes
            .iter()
            .map(|volume| json!({ "name": volume.claim, "persistentVolumeClaim": { "claimName": volume.claim } }))
            .collect();
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "namespace": plan.place(side).namespace },
            "spec": { "nodeName": fixtures::node_name(side, ordinal.ordinal), "volumes": volumes },
            "status": { "phase": "Pending" },
        });
        self.put(side, Kind::Pod, pod);
    }

    fn can_start(&self, side: Side, pod: &Object) -> bool {
        self.pod_volumes(side, pod).is_some_and(|ids| {
            ids.iter().all(|id| {
                matches!(self.volumes.get(id), Some(Place::Available))
                    || self.volumes.get(id) == Some(&Place::Attached(side))
            })
        })
    }

    /// Returns the volumes of a pod whose claims are all Bound.
    fn pod_volumes(&self, side: Side, pod: &Object) -> Option<Vec<VolumeId>> {
        pod.claim_names()
            .map(|claim| {
                let claim = self.get(side, Kind::PersistentVolumeClaim, claim)?;
                let volume = self.get(side, Kind::PersistentVolume, claim.text("/spec/volumeName")?)?;
                if volume.is_bound_to(&claim) { volume.volume_id() } else { None }
            })
            .collect()
    }

    fn start_pod(&mut self, side: Side, name: &str) {
        let Some(pod) = self.get(side, Kind::Pod, name) else { return };
        let node = pod.text("/spec/nodeName").unwrap_or_default().to_owned();
        for id in self.pod_volumes(side, &pod).unwrap_or_default() {
            let plan = Arc::clone(&self.plan);
            let Some(volume) = plan.volumes().find(|volume| volume.volume == id) else { continue };
            let volume_name = volume.volume_name(side);
            self.volumes.insert(id.clone(), Place::Attached(side));
            self.report(side, &id, true);
            let attachment = json!({
                "apiVersion": "storage.k8s.io/v1",
                "kind": "VolumeAttachment",
                "metadata": { "name": format!("csi-{volume_name}") },
                "spec": { "nodeName": node, "source": { "persistentVolumeName": volume_name } },
                "status": { "attached": true },
            });
            if self.get(side, Kind::VolumeAttachment, &format!("csi-{volume_name}")).is_none() {
                self.put(side, Kind::VolumeAttachment, attachment);
            }
        }
        self.edit(side, Kind::Pod, name, |pod| {
            pod["status"] = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
        });
    }

    fn bind(&mut self, side: Side, name: &str) {
        let Some(claim) = self.get(side, Kind::PersistentVolumeClaim, name) else { return };
        let volume = claim.text("/spec/volumeName").unwrap_or_default().to_owned();
        self.edit(side, Kind::PersistentVolume, &volume, |volume| {
            volume["spec"]["claimRef"]["uid"] = json!(claim.uid());
            volume["status"] = json!({ "phase": "Bound" });
        });
        self.edit(side, Kind::PersistentVolumeClaim, name, |claim| claim["status"] = json!({ "phase": "Bound" }));
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
