//! What a mover can do wrong, and what the judge must say of it.

/// How far a mover goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everything is prepared in B.
    Prepared,
    /// The set in A is deleted, its pods run on.
    Frozen,
    /// The lowest ordinal runs in B.
    FirstPod,
    /// All ordinals run in B.
    Moved,
    /// All ordinals run in B, A has no claims and volumes any more.
    Finalized,
    /// So many ordinals were moved, then everything went back.
    RolledBack {
        /// How many ordinals were moved before.
        after: i64,
    },
}

/// One thing done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A's volumes keep the policy `Delete`.
    NoRetain,
    /// The set in A is deleted with its pods.
    BackgroundDeleteOfSet,
    /// B grows as soon as the pod in A is gone.
    NoGate,
    /// EC2 is asked before the VolumeAttachment is gone, and not again.
    AvailableReadTooEarly,
    /// Claims in B name no volume.
    ClaimWithoutVolumeName,
    /// Volumes in B name the uid of A's claim: they become `Released`, never bound.
    VolumeWithClaimUid,
    /// Volumes in B are created with the policy `Delete`.
    VolumeWithDelete,
    /// The pod in A is deleted by its name alone.
    PodDeletedWithoutPreconditions,
    /// All volumes of the namespace are patched, also those of others.
    BystanderTouched,
    /// The pod in A is deleted with a grace period of zero.
    ForceDelete,
    /// The set is created in B before its claims.
    SetBeforeClaims,
    /// The set is created in B with all its replicas.
    SetWithReplicas,
    /// Volumes in B are for another zone.
    WrongZone,
    /// Each claim in B gets the volume of another ordinal.
    VolumesSwapped,
    /// VolumeAttachments that may not be listed are taken for gone.
    ErrorTakenForAbsence,
    /// The mover calls DetachVolume.
    DetachByMover,
    /// The finalizers of A's volume are taken away.
    FinalizerStripped,
    /// B gets all replicas with the first ordinal.
    ScaleBeyondHandedOver,
    /// The next pod in A is deleted before the one in B is available.
    NextBeforeAvailable,
    /// B grows while the pod in A still runs (on a volume that allows two attachments).
    PodLeftRunning,
    /// A claim in A gets its owner back after the freeze, with the rest of its before-image.
    DanglingOwner,
    /// `Delete` is written to B's volumes while A's still exist.
    PolicyWrittenBackTooEarly,
    /// A's volumes are forgotten at the end.
    SourceLeftBehind,
    /// The set that comes back to A has another pod template: survivors are rolled.
    SurvivorRestarted,
    /// A's set comes back while B still holds the volume.
    BackWithoutGate,
    /// B's claims and volumes are forgotten on the way back.
    DestinationLeftBehind,
    /// The plan is in A only.
    PlanInOneClusterOnly,
    /// The pod in A is deleted before the freeze, and then its successor.
    PodStoppedTwice,
    /// A failure is written into the record, and then B grows.
    WorkAfterFailure,
    /// Nobody looks whether another pod uses the claim.
    OtherPodsIgnored,
    /// Nobody looks whether a node still has the volume in use.
    NodesIgnored,
    /// Its lock is left behind at the end.
    LockLeftBehind,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Mistake; 32] = [
        Mistake::NoRetain,
        Mistake::BackgroundDeleteOfSet,
        Mistake::NoGate,
        Mistake::AvailableReadTooEarly,
        Mistake::ClaimWithoutVolumeName,
        Mistake::VolumeWithClaimUid,
        Mistake::VolumeWithDelete,
        Mistake::PodDeletedWithoutPreconditions,
        Mistake::BystanderTouched,
        Mistake::ForceDelete,
        Mistake::SetBeforeClaims,
        Mistake::SetWithReplicas,
        Mistake::WrongZone,
        Mistake::VolumesSwapped,
        Mistake::ErrorTakenForAbsence,
        Mistake::DetachByMover,
        Mistake::FinalizerStripped,
        Mistake::ScaleBeyondHandedOver,
        Mistake::NextBeforeAvailable,
        Mistake::PodLeftRunning,
        Mistake::DanglingOwner,
        Mistake::PolicyWrittenBackTooEarly,
        Mistake::SourceLeftBehind,
        Mistake::SurvivorRestarted,
        Mistake::BackWithoutGate,
        Mistake::DestinationLeftBehind,
        Mistake::PlanInOneClusterOnly,
        Mistake::PodStoppedTwice,
        Mistake::WorkAfterFailure,
        Mistake::OtherPodsIgnored,
        Mistake::NodesIgnored,
        Mistake::LockLeftBehind,
    ];

    /// Returns the invariant that it breaks.
    pub fn breaks(self) -> &'static str {
        match self {
            Mistake::PodLeftRunning => "I-1",
            Mistake::NoRetain | Mistake::VolumeWithDelete | Mistake::PolicyWrittenBackTooEarly => "I-2",
            Mistake::DetachByMover => "I-3",
            Mistake::VolumeWithClaimUid => "I-4",
            Mistake::ClaimWithoutVolumeName => "I-5",
            Mistake::NoGate
            | Mistake::AvailableReadTooEarly
            | Mistake::ScaleBeyondHandedOver
            | Mistake::BackWithoutGate
            | Mistake::OtherPodsIgnored
            | Mistake::NodesIgnored => "I-6",
            Mistake::SetBeforeClaims | Mistake::SetWithReplicas => "I-7",
            Mistake::NextBeforeAvailable => "I-8",
            Mistake::PodDeletedWithoutPreconditions | Mistake::ForceDelete | Mistake::FinalizerStripped => "I-9",
            Mistake::BackgroundDeleteOfSet => "I-10",
            Mistake::DanglingOwner => "I-11",
            Mistake::PlanInOneClusterOnly => "I-12",
            Mistake::WrongZone => "I-13",
            Mistake::PodStoppedTwice => "I-14",
            Mistake::DestinationLeftBehind => "I-15",
            Mistake::SourceLeftBehind => "I-16",
            Mistake::WorkAfterFailure => "I-18",
            Mistake::SurvivorRestarted => "I-19",
            Mistake::BystanderTouched => "I-21",
            Mistake::ErrorTakenForAbsence => "I-22",
            Mistake::VolumesSwapped => "I-23",
            Mistake::LockLeftBehind => "I-24",
        }
    }

    /// Returns the invariants that break with it, now or by chance.
    pub fn entails(self) -> &'static [&'static str] {
        match self {
            // The set is still there when it is deleted for the first time.
            Mistake::NoRetain | Mistake::PodStoppedTwice => &["I-8"],
            // Until the garbage collector has taken them, its pods have an owner that is gone.
            Mistake::BackgroundDeleteOfSet => &["I-11"],
            Mistake::ErrorTakenForAbsence | Mistake::SetWithReplicas | Mistake::PodLeftRunning => &["I-6"],
            Mistake::VolumesSwapped => &["I-5", "I-13"],
            Mistake::NextBeforeAvailable => &["I-23"],
            Mistake::DestinationLeftBehind => &["I-24"],
            Mistake::SurvivorRestarted | Mistake::LockLeftBehind => &["I-15"],
            Mistake::BackWithoutGate => &["I-15", "I-23", "I-24"],
            _ => &[],
        }
    }

    /// Returns how far a mover must go to make it.
    pub fn reach(self) -> Reach {
        match self {
            Mistake::ClaimWithoutVolumeName
            | Mistake::VolumeWithClaimUid
            | Mistake::VolumeWithDelete
            | Mistake::BystanderTouched
            | Mistake::SetBeforeClaims
            | Mistake::SetWithReplicas
            | Mistake::WrongZone
            | Mistake::PlanInOneClusterOnly => Reach::Prepared,
            Mistake::BackgroundDeleteOfSet | Mistake::DanglingOwner => Reach::Frozen,
            Mistake::VolumesSwapped | Mistake::NextBeforeAvailable => Reach::Moved,
            Mistake::SourceLeftBehind => Reach::Finalized,
            Mistake::SurvivorRestarted | Mistake::LockLeftBehind => Reach::RolledBack { after: 0 },
            Mistake::BackWithoutGate | Mistake::DestinationLeftBehind => Reach::RolledBack { after: 1 },
            _ => Reach::FirstPod,
        }
    }

    /// Returns whether it can only be seen when all ordinals move at once.
    pub fn together(self) -> bool {
        self == Mistake::VolumesSwapped
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_invariant_that_is_kept_is_broken() {
        // I-17 and I-20 are retired.
        let kept: BTreeSet<String> =
            (1..=24).filter(|number| ![17, 20].contains(number)).map(|number| format!("I-{number}")).collect();
        let broken: BTreeSet<String> = Mistake::ALL.iter().map(|mistake| mistake.breaks().to_owned()).collect();
        assert_eq!(broken, kept);
    }
}
