//! The Lease in both clusters: taken before the first write, renewed while the run lasts, given back.
//!
//! [`crate::record::lease`] has the rules. Elapsed time is the larger of monotonic and wall clock,
//! since a laptop's sleep stops the former (TL-3), and counts from when a renewal was *sent*. No two
//! machines' clocks are compared: another holder's Lease is watched by our own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::process::{self, Fate};
use crate::act;
use crate::connect::{Call, CallError, Endpoints, REQUEST_TIMEOUT, path};
use crate::observe;
use crate::record::lease::{
    Claim, Found, Holder, LEASE_DURATION, RENEW_INTERVAL, UNFENCED_ANNOTATION, claim, may_mutate,
};
use crate::record::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::world::{Kind, Object, Side};

mod watched;

use watched::{Moment, Watched, describe};

/// How often another holder's Lease is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How long an API server that does not answer is asked for its Lease.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon a renewal that failed is tried again.
const RENEW_RETRY: Duration = Duration::from_secs(2);

/// Another process that holds a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldBy {
    /// Where.
    pub(crate) side: Side,
    /// `user@host` and process, for people.
    pub(crate) who: String,
}

impl std::fmt::Display for HeldBy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the lock in the {} cluster is held by {}", self.side, self.who)
    }
}

/// What is seen while another's Lease is watched.
#[derive(Clone, Debug)]
pub(crate) struct LockProgress {
    /// Who holds it.
    pub(crate) held_by: HeldBy,
    /// For how long it was not renewed, by our own clock.
    pub(crate) unrenewed_for: Duration,
    /// After how long it is taken over.
    pub(crate) duration: Duration,
}

/// Why the lock was not had.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another process holds it and renews it.
    Held(HeldBy),
    /// A server refuses, or has no answer.
    Failed(anyhow::Error),
}

/// How a Lease came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gained {
    /// Nobody can still be sending calls.
    Freely,
    /// Its former holder may be asleep: what a late call could hit must be touched.
    TakenOver,
}

/// Our Lease in one cluster.
#[derive(Clone, Debug)]
struct Grip {
    uid: String,
    resource_version: String,
    renewed: Moment,
}

struct Shared {
    endpoints: Endpoints,
    name: String,
    own: Holder,
    grips: [Mutex<Option<Grip>>; 2],
    lost: Notify,
    /// Whether something was taken over and is not fenced yet.
    is_unfenced: AtomicBool,
    /// One renewal at a time for each side: two would overtake each other.
    turns: [tokio::sync::Mutex<()>; 2],
}

/// Both Leases of one migration; those that are held are renewed until this is dropped.
pub(crate) struct Lock {
    shared: Arc<Shared>,
    renewal: AbortHandle,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Lock {
    /// Returns the lock of one migration, not yet held; what is held of it is renewed from now on.
    ///
    /// # Errors
    /// This process cannot say who it is.
    pub(crate) fn new(endpoints: &Endpoints, name: &str) -> anyhow::Result<Lock> {
        let shared = Arc::new(Shared {
            endpoints: endpoints.clone(),
            name: name.to_owned(),
            own: process::own()?,
            grips: [Mutex::new(None), Mutex::new(None)],
            lost: Notify::new(),
            is_unfenced: AtomicBool::new(false),
            turns: Default::default(),
        });
        let renewal = tokio::spawn(Arc::clone(&shared).renew_for_ever()).abort_handle();
        Ok(Lock { shared, renewal })
    }

    /// Takes the Lease of A, then of B.
    ///
    /// `between` runs when A's is held: B's namespace may have to be made. When this fails or is
    /// dropped half-way, [`Lock::release`] gives back what was had.
    pub(crate) async fn acquire(
        &self,
        between: impl Future<Output = anyhow::Result<()>>,
        progress: &mut dyn FnMut(LockProgress),
    ) -> Result<Gained, LockError> {
        let mut watched = Watched::default();
        let first = self.shared.gain(Side::Source, &mut watched, progress).await?;
        between.await.map_err(LockError::Failed)?;
        let second = self.shared.gain(Side::Destination, &mut watched, progress).await?;
        Ok(if [first, second].contains(&Gained::TakenOver) { Gained::TakenOver } else { Gained::Freely })
    }

    /// Returns whether a mutation may be sent now.
    pub(crate) fn is_firm(&self) -> bool {
        Side::BOTH.into_iter().all(|side| self.shared.is_firm(side))
    }

    /// Waits until another process is seen to hold one of the Leases.
    pub(crate) async fn lost(&self) {
        self.shared.lost.notified().await;
    }

    /// Gets both Leases again after a sleep, a long outage or a loss; then everything must be looked
    /// at again.
    pub(crate) async fn regain(&self, progress: &mut dyn FnMut(LockProgress)) -> Result<Gained, LockError> {
        let mut gained = Gained::Freely;
        let mut watched = Watched::default();
        for side in Side::BOTH {
            if !self.shared.is_firm(side) && self.shared.gain(side, &mut watched, progress).await? == Gained::TakenOver
            {
                gained = Gained::TakenOver;
            }
        }
        Ok(gained)
    }

    /// Remembers that all that a former holder's late call could hit was touched.
    pub(crate) fn fenced(&self) {
        self.shared.is_unfenced.store(false, Ordering::Relaxed);
    }

    /// Gives both Leases back, so that the next run need not wait.
    pub(crate) async fn release(&self) {
        self.renewal.abort();
        tokio::join!(self.shared.release(Side::Source), self.shared.release(Side::Destination));
    }

    /// Deletes both Leases: the migration has ended.
    pub(crate) async fn remove(&self) {
        self.renewal.abort();
        tokio::join!(self.shared.remove(Side::Source), self.shared.remove(Side::Destination));
    }
}

impl Shared {
    fn grip(&self, side: Side) -> std::sync::MutexGuard<'_, Option<Grip>> {
        self.grips[side as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_firm(&self, side: Side) -> bool {
        self.grip(side).as_ref().is_some_and(|grip| may_mutate(grip.renewed.elapsed(), REQUEST_TIMEOUT))
    }

    /// Takes one Lease, watching another holder's for as long as the rules say.
    async fn gain(
        &self,
        side: Side,
        watched: &mut Watched,
        progress: &mut dyn FnMut(LockProgress),
    ) -> Result<Gained, LockError> {
        let _turn = self.turns[side as usize].lock().await;
        let began = Moment::now();
        loop {
            let answer = observe::get(self.endpoints.cluster(side), Kind::Lease, &self.name).await;
            let lease = match answer {
                Ok(lease) => lease,
                Err(unknown) if unknown.passing && began.elapsed() < PATIENCE => {
                    tokio::time::sleep(WATCH_INTERVAL).await;
                    continue;
                }
                Err(unknown) => return Err(self.failed(side, "read", &unknown.reason)),
            };
            let Some(lease) = lease else {
                if let Some(seen) = watched.take(side) {
                    return Err(LockError::Held(HeldBy { side, who: seen.who }));
                }
                match self.create(side).await {
                    Ok(true) => return Ok(Gained::Freely),
                    Ok(false) => continue,
                    // 404: there is no such namespace, and nobody will make it.
                    Err(error) if error.is_passing() && error.code() != Some(404) && began.elapsed() < PATIENCE => {
                        tokio::time::sleep(WATCH_INTERVAL).await;
                        continue;
                    }
                    Err(error) => return Err(self.failed(side, "create", &error.to_string())),
                }
            };
            let found = match self.found(side, &lease, watched) {
                Ok(found) => found,
                Err(who) => return Err(LockError::Held(HeldBy { side, who })),
            };
            let is_unfenced = lease.annotation(UNFENCED_ANNOTATION).is_some();
            let gained = match claim(&found, is_unfenced) {
                Claim::Held | Claim::Take => Gained::Freely,
                Claim::TakeOver => Gained::TakenOver,
                Claim::Watch => {
                    if let Found::Other { unrenewed_for, duration, .. } = found {
                        let held_by = HeldBy { side, who: describe(&lease) };
                        progress(LockProgress { held_by, unrenewed_for, duration });
                    }
                    self.watch_other(side.other(), watched).await;
                    tokio::time::sleep(WATCH_INTERVAL).await;
                    continue;
                }
            };
            if gained == Gained::TakenOver {
                self.is_unfenced.store(true, Ordering::Relaxed);
            }
            match self.write(side, &lease, true).await {
                Ok(()) => return Ok(gained),
                Err(error) if error.code() == Some(409) || error.is_passing() && began.elapsed() < PATIENCE => {
                    // Somebody was faster, or the reply was lost: what is there now decides.
                    tokio::time::sleep(WATCH_INTERVAL).await;
                }
                Err(error) => return Err(self.failed(side, "write", &error.to_string())),
            }
        }
    }

    /// Says what a Lease is to us; an error names a holder that is known to be alive.
    fn found(&self, side: Side, lease: &Object, watched: &mut Watched) -> Result<Found, String> {
        let identity = lease.text("/spec/holderIdentity").unwrap_or_default();
        if identity == self.own.identity() {
            return Ok(Found::Own);
        }
        let since = watched.see(side, lease)?;
        if identity.is_empty() {
            return Ok(Found::Nobody);
        }
        let fate = Holder::parse(identity).map_or(Fate::OutOfSight, |holder| process::fate(&holder, &self.own));
        if fate == Fate::Running {
            return Err(describe(lease));
        }
        Ok(Found::Other {
            known_dead: fate == Fate::Dead,
            unrenewed_for: since.elapsed(),
            duration: lease
                .number("/spec/leaseDurationSeconds")
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map_or(LEASE_DURATION, Duration::from_secs),
        })
    }

    /// Looks at the Lease of the other cluster too, so that its time runs along.
    async fn watch_other(&self, side: Side, watched: &mut Watched) {
        if let Ok(Some(lease)) = observe::get(self.endpoints.cluster(side), Kind::Lease, &self.name).await {
            // That it was renewed is met again when its turn comes.
            let _met_later = watched.see(side, &lease);
        }
    }

    /// Creates the Lease; false when somebody else just did.
    async fn create(&self, side: Side) -> Result<bool, CallError> {
        let cluster = self.endpoints.cluster(side);
        let now = now();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": self.name, "namespace": cluster.namespace, "labels": { MANAGED_BY_LABEL: MANAGED_BY } },
            "spec": {
                "holderIdentity": self.own.identity(),
                "leaseDurationSeconds": LEASE_DURATION.as_secs(),
                "acquireTime": now,
                "renewTime": now,
            },
        });
        let at = path(Kind::Lease, &cluster.namespace, None);
        let sent = Moment::now();
        match cluster.call(Call::with_body(Method::POST, at, lease).query("fieldManager", "sts-migrate")).await {
            Ok(answer) => {
                self.hold(side, answer, sent);
                Ok(true)
            }
            Err(error) if error.code() == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes ourselves into the Lease as it was seen, anew or once more.
    async fn write(&self, side: Side, seen: &Object, anew: bool) -> Result<(), CallError> {
        let mut spec = json!({ "renewTime": now() });
        if anew {
            let transitions = seen.number("/spec/leaseTransitions").unwrap_or_default();
            spec["holderIdentity"] = json!(self.own.identity());
            spec["leaseDurationSeconds"] = json!(LEASE_DURATION.as_secs());
            spec["acquireTime"] = spec["renewTime"].clone();
            spec["leaseTransitions"] = json!(transitions + 1);
        }
        let cluster = self.endpoints.cluster(side);
        let at = path(Kind::Lease, &cluster.namespace, Some(&self.name));
        let sent = Moment::now();
        let patch = json!({ "metadata": self.metadata(), "spec": spec });
        let call = act::patch(at, seen.uid(), seen.resource_version(), patch);
        let answer = cluster.call(call).await?;
        self.hold(side, answer, sent);
        Ok(())
    }

    /// Says whether the duty to fence is still open: it outlives this process.
    fn metadata(&self) -> Value {
        let unfenced = self.is_unfenced.load(Ordering::Relaxed).then_some("true");
        json!({ "annotations": { UNFENCED_ANNOTATION: unfenced } })
    }

    fn hold(&self, side: Side, answer: Value, sent: Moment) {
        let lease = Object(answer);
        *self.grip(side) = Some(Grip {
            uid: lease.uid().to_owned(),
            resource_version: lease.resource_version().to_owned(),
            renewed: sent,
        });
    }

    async fn renew_for_ever(self: Arc<Self>) {
        let one = |side| {
            let shared = Arc::clone(&self);
            async move {
                let mut pause = RENEW_INTERVAL;
                loop {
                    tokio::time::sleep(pause).await;
                    pause = if shared.renew(side).await { RENEW_INTERVAL } else { RENEW_RETRY };
                }
            }
        };
        tokio::join!(one(Side::Source), one(Side::Destination));
    }

    /// Renews one Lease; false when that failed.
    async fn renew(&self, side: Side) -> bool {
        let _turn = self.turns[side as usize].lock().await;
        let Some(grip) = self.grip(side).clone() else {
            return false;
        };
        let seen = Object(json!({ "metadata": { "uid": grip.uid, "resourceVersion": grip.resource_version } }));
        match self.write(side, &seen, false).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%side, %error, "the Lease was not renewed");
                if matches!(error.code(), Some(404 | 409)) {
                    self.check(side).await;
                }
                false
            }
        }
    }

    /// Looks whose the Lease is after a conflict.
    async fn check(&self, side: Side) {
        match observe::get(self.endpoints.cluster(side), Kind::Lease, &self.name).await {
            Ok(Some(lease)) if lease.text("/spec/holderIdentity") == Some(self.own.identity().as_str()) => {
                // Ours, changed by another hand or by a renewal whose reply was lost.
                if let Some(grip) = self.grip(side).as_mut() {
                    grip.uid = lease.uid().to_owned();
                    grip.resource_version = lease.resource_version().to_owned();
                }
            }
            Ok(_) => {
                *self.grip(side) = None;
                self.lost.notify_one();
            }
            Err(_) => {}
        }
    }

    /// Empties the Lease if it is still ours.
    async fn release(&self, side: Side) {
        let _turn = self.turns[side as usize].lock().await;
        let Some(lease) = self.ours(side).await else {
            return;
        };
        let cluster = self.endpoints.cluster(side);
        let at = path(Kind::Lease, &cluster.namespace, Some(&self.name));
        let nobody = json!({ "metadata": self.metadata(), "spec": { "holderIdentity": "" } });
        if let Err(error) = cluster.call(act::patch(at, lease.uid(), lease.resource_version(), nobody)).await {
            tracing::warn!(%side, %error, "the Lease was not given back");
        }
        *self.grip(side) = None;
    }

    async fn remove(&self, side: Side) {
        let _turn = self.turns[side as usize].lock().await;
        let Some(lease) = self.ours(side).await else {
            return;
        };
        let cluster = self.endpoints.cluster(side);
        let at = path(Kind::Lease, &cluster.namespace, Some(&self.name));
        if let Err(error) = cluster.call(act::delete(at, lease.uid(), lease.resource_version(), false)).await {
            tracing::warn!(%side, %error, "the Lease was not deleted");
        }
        *self.grip(side) = None;
    }

    /// Returns the Lease if we hold it.
    async fn ours(&self, side: Side) -> Option<Object> {
        self.grip(side).as_ref()?;
        let lease = observe::get(self.endpoints.cluster(side), Kind::Lease, &self.name).await.ok()??;
        (lease.text("/spec/holderIdentity") == Some(self.own.identity().as_str())).then_some(lease)
    }

    fn failed(&self, side: Side, verb: &str, reason: &str) -> LockError {
        let context = &self.endpoints.cluster(side).context;
        LockError::Failed(anyhow!("{verb} Lease `{}` in the {side} cluster `{context}`: {reason}", self.name))
    }
}

/// Returns the wall clock as Kubernetes' MicroTime; for people and for telling renewals apart only.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_micro_times() {
        let now = now();
        assert_eq!(now.len(), "2026-01-02T03:04:05.678901Z".len(), "{now}");
        assert!(now.parse::<jiff::Timestamp>().is_ok());
    }
}
