//! What controllers, nodes and EC2 do by themselves, one step at a time.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Place, Simulation};
use crate::fixtures;
use crate::world::{Kind, Object, Side, VolumeId};

/// One step of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::decide::tests) enum Move {
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
    /// Returns the steps that somebody else could take now.
    pub(in crate::decide::tests) fn moves(&self) -> Vec<Move> {
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
    pub(in crate::decide::tests) fn make(&mut self, step: &Move) {
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
    pub(super) fn pod_volumes(&self, side: Side, pod: &Object) -> Option<Vec<VolumeId>> {
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
}
