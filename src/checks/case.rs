//! The set or claim that is asked for, with its claims, PVs and volumes laid side by side.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;

use super::scope::{Scope, subject};
use super::{Finding, Level};
use crate::plan::{IdleClaims, MIGRATION_ANNOTATION, migration_id};
use crate::record::Subject;
use crate::world::{Ec2Volume, Kind, Object, Side, Unknown, VolumeFacts, VolumeId, World, claim_name, idle_claims};

/// The driver whose volumes are EBS volumes, and which in-tree PVs belong to since CSI migration.
pub(super) const EBS_DRIVER: &str = "ebs.csi.aws.com";

/// The driver of EKS Auto Mode; its PVs and those of [`EBS_DRIVER`] are not interchangeable (PV-12).
pub(super) const AUTO_DRIVER: &str = "ebs.csi.eks.amazonaws.com";

/// Why a claim belongs to the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Of a claim template, at an ordinal in range.
    Ordinal(i64),
    /// Named in the pod template of a set with one replica, whose ordinal this is (§1.3).
    Plain(i64),
    /// Of a claim template, at an ordinal out of range.
    Idle,
    /// The single claim that is asked for.
    Alone,
}

/// One claim with what hangs on it.
pub(super) struct Claim<'a> {
    /// Its name.
    pub(super) name: String,
    /// Why it belongs to the set.
    pub(super) role: Role,
    /// The claim in A, if it is known to be there.
    pub(super) claim: Option<&'a Object>,
    /// The PV that it names, if it is known to be there.
    pub(super) volume: Option<&'a Object>,
    /// The EBS volume that the PV names.
    pub(super) id: Option<VolumeId>,
}

impl<'a> Claim<'a> {
    fn new(world: &'a World, name: String, role: Role) -> Claim<'a> {
        let claim = world.object(Side::Source, Kind::PersistentVolumeClaim, &name);
        let volume = claim
            .and_then(|claim| claim.text("/spec/volumeName"))
            .and_then(|volume| world.object(Side::Source, Kind::PersistentVolume, volume));
        let id = volume.filter(|volume| not_ebs(volume).is_none()).and_then(Object::volume_id);
        Claim { name, role, claim, volume, id }
    }

    /// Returns how findings name the claim.
    pub(super) fn subject(&self) -> String {
        subject(Side::Source, Kind::PersistentVolumeClaim, &self.name)
    }

    /// Returns how findings name the PV.
    pub(super) fn volume_subject(&self) -> String {
        match self.volume {
            Some(volume) => subject(Side::Source, Kind::PersistentVolume, volume.name()),
            None => self.subject(),
        }
    }

    /// Returns how findings name the EBS volume.
    pub(super) fn id_subject(&self) -> String {
        match &self.id {
            Some(id) => format!("volume {id} (PersistentVolumeClaim {})", self.name),
            None => self.subject(),
        }
    }

    /// Returns what EC2 says of the volume.
    pub(super) fn facts(&self, world: &'a World) -> Option<Result<Option<&'a Ec2Volume>, &'a Unknown>> {
        let latest = world.volumes.get(self.id.as_ref()?).and_then(VolumeFacts::latest)?;
        Some(latest.map(|(_, volume)| volume))
    }

    /// Returns the volume as EC2 shows it, if it does.
    pub(super) fn ec2(&self, world: &'a World) -> Option<&'a Ec2Volume> {
        self.facts(world)?.ok()?
    }
}

/// Stands for the set where a single claim is asked for, as in the plan.
static NO_SET: Object = Object(Value::Null);

/// The set or claim that is asked for.
pub(super) struct Case<'a> {
    /// Request and world.
    pub(super) scope: Scope<'a>,
    /// The set in A; null for a single claim.
    pub(super) set: &'a Object,
    /// Its ordinals.
    pub(super) ordinals: Range<i64>,
    /// The claims that move: of the ordinals, then idle ones if these were included.
    pub(super) claims: Vec<Claim<'a>>,
    /// All idle claims, moving or not.
    pub(super) idle: Vec<&'a Object>,
}

impl<'a> Case<'a> {
    /// Returns the set or claim with all that belongs to it, if it is known to be there.
    pub(super) fn new(scope: Scope<'a>) -> Option<Case<'a>> {
        match scope.request.subject {
            Subject::Set => Case::of_set(scope),
            Subject::Claim => {
                let claim = Claim::new(scope.world, scope.request.name.clone(), Role::Alone);
                claim.claim?;
                Some(Case { scope, set: &NO_SET, ordinals: 0..0, claims: vec![claim], idle: Vec::new() })
            }
        }
    }

    fn of_set(scope: Scope<'a>) -> Option<Case<'a>> {
        let (request, world) = (scope.request, scope.world);
        let set = world.object(Side::Source, Kind::StatefulSet, &request.name)?;
        let first = set.first_ordinal();
        let ordinals = first..first.saturating_add(set.replicas());
        let mut claims: Vec<Claim<'a>> = Vec::new();
        for ordinal in ordinals.clone() {
            for template in set.claim_templates() {
                let name = claim_name(template, set.name(), ordinal);
                claims.push(Claim::new(world, name, Role::Ordinal(ordinal)));
            }
        }
        if set.replicas() == 1 {
            let known: BTreeSet<String> = claims.iter().map(|claim| claim.name.clone()).collect();
            let plain = set.plain_claims().into_iter().filter(|name| !known.contains(*name));
            let plain = plain.map(|name| Claim::new(world, name.to_owned(), Role::Plain(first)));
            // A plain claim that is no EBS volume stays where it is: B must have its own of that name.
            claims.extend(plain.filter(|claim| claim.volume.is_none_or(is_ebs)));
        }
        let idle = idle_claims(set, Side::Source, world);
        if request.idle_claims == IdleClaims::Include {
            claims.extend(idle.iter().map(|claim| Claim::new(world, claim.name().to_owned(), Role::Idle)));
        }
        Some(Case { scope, set, ordinals, claims, idle })
    }

    /// Returns the world.
    pub(super) fn world(&self) -> &'a World {
        self.scope.world
    }

    /// Returns the kind of what is asked for.
    pub(super) fn kind(&self) -> Kind {
        self.scope.request.subject.kind()
    }

    /// Returns how findings name the set or claim in A.
    pub(super) fn subject(&self) -> String {
        subject(Side::Source, self.kind(), &self.scope.request.name)
    }

    /// Returns the name of the pod of an ordinal.
    pub(super) fn pod_name(&self, ordinal: i64) -> String {
        format!("{}-{ordinal}", self.set.name())
    }

    /// Returns the pod of an ordinal in A, if it is known to be there and the set's own.
    pub(super) fn pod(&self, ordinal: i64) -> Option<&'a Object> {
        let pod = self.world().object(Side::Source, Kind::Pod, &self.pod_name(ordinal))?;
        pod.owners().any(|owner| owner.uid == self.set.uid()).then_some(pod)
    }

    /// Returns the pod template's spec.
    pub(super) fn pod_spec(&self) -> &'a Value {
        self.set.at("/spec/template/spec").unwrap_or(&Value::Null)
    }

    /// Returns whether an object in B was made by this very migration.
    pub(super) fn is_ours(&self, object: &Object) -> bool {
        let id = self.id();
        object.annotation(MIGRATION_ANNOTATION).and_then(|mark| mark.rsplit_once('.')).is_some_and(|(of, _)| of == id)
    }

    /// Returns the id that this migration has.
    pub(super) fn id(&self) -> String {
        let request = self.scope.request;
        let moved = match request.subject {
            Subject::Set => Some(self.set),
            Subject::Claim => self.claims.first().and_then(|claim| claim.claim),
        };
        let by_hash = || migration_id(&request.source, moved.map_or("", Object::uid), &request.destination);
        request.id.clone().unwrap_or_else(by_hash)
    }

    /// Returns a finding about the set or claim itself.
    pub(super) fn finding(&self, code: &'static str, level: Level, what: String, remedy: String) -> Finding {
        Finding { code, level, subject: self.subject(), what, remedy }
    }

    /// Returns `kubectl` for a kind in A.
    pub(super) fn source(&self, kind: Kind) -> String {
        self.scope.kubectl(Side::Source, kind)
    }

    /// Returns `kubectl` for a kind in B.
    pub(super) fn destination(&self, kind: Kind) -> String {
        self.scope.kubectl(Side::Destination, kind)
    }
}

/// Returns the CSI driver that serves a PV, in-tree EBS ones included.
pub(super) fn driver(volume: &Object) -> Option<&str> {
    match volume.at("/spec/awsElasticBlockStore") {
        Some(_) => Some(EBS_DRIVER),
        None => volume.text("/spec/csi/driver"),
    }
}

/// Returns whether a PV is an EBS volume.
pub(super) fn is_ebs(volume: &Object) -> bool {
    matches!(driver(volume), Some(EBS_DRIVER | AUTO_DRIVER))
}

/// Returns why a PV is no EBS volume that can be handed over, if it is none.
pub(super) fn not_ebs(volume: &Object) -> Option<String> {
    if !is_ebs(volume) {
        let what = match driver(volume) {
            Some(driver) => format!("a volume of driver {driver}"),
            None => "not made by a CSI driver".to_owned(),
        };
        return Some(format!("it is {what}, not an EBS volume"));
    }
    let (handle, is_in_tree) = match volume.text("/spec/awsElasticBlockStore/volumeID") {
        Some(handle) => (handle, true),
        None => (volume.text("/spec/csi/volumeHandle").unwrap_or_default(), false),
    };
    let bare = match handle.strip_prefix("aws://") {
        Some(rest) if is_in_tree => rest.rsplit('/').next().unwrap_or_default(),
        _ => handle,
    };
    let is_id = bare.strip_prefix("vol-").is_some_and(|digits| {
        (8..=17).contains(&digits.len()) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    (!is_id).then(|| format!("its handle `{handle}` is no EBS volume id"))
}
