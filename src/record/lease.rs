//! Who may work on a migration: the rules of the Lease, without I/O.
//!
//! Another holder's Lease counts as live until it was not renewed for its whole duration by *our*
//! clock; no decision compares two machines' clocks. A dead process of this very host is known dead
//! at once. Follows the client-go leader election rules for `coordination.k8s.io/v1` Leases.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a Lease is good for after a renewal. Long enough for a slow link, short enough that a
/// person who lost a laptop does not wait for long.
pub const LEASE_DURATION: Duration = Duration::from_secs(30);

/// How often it is renewed: a third of its duration, so that two renewals may fail.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(10);

/// The process that holds a Lease, as text in `spec.holderIdentity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// `user@host`.
    pub who: String,
    /// Boot id of the kernel; containers of one machine share it.
    pub boot_id: String,
    /// Pid namespace (inode of `/proc/self/ns/pid`), which tells containers apart.
    pub pid_namespace: String,
    /// Process id within that namespace.
    pub pid: u32,
    /// Start time of the process in clock ticks since boot: a reused pid has another.
    pub started: u64,
}

impl Holder {
    /// Returns the text of `spec.holderIdentity`.
    pub fn identity(&self) -> String {
        format!("{}/{}/{}/{}/{}", self.who, self.boot_id, self.pid_namespace, self.pid, self.started)
    }

    /// Reads a holder back from its text.
    pub fn parse(identity: &str) -> Option<Holder> {
        let mut parts = identity.rsplitn(5, '/');
        let started = parts.next()?.parse().ok()?;
        let pid = parts.next()?.parse().ok()?;
        let pid_namespace = parts.next()?.to_owned();
        let boot_id = parts.next()?.to_owned();
        let who = parts.next()?.to_owned();
        Some(Holder { who, boot_id, pid_namespace, pid, started })
    }

    /// Returns whether the other process ran where this one can look it up: same host, same boot,
    /// same pid namespace.
    pub fn is_visible_from(&self, own: &Holder) -> bool {
        self.boot_id == own.boot_id && self.pid_namespace == own.pid_namespace && self.host() == own.host()
    }

    fn host(&self) -> &str {
        self.who.rsplit_once('@').map_or(self.who.as_str(), |(_, host)| host)
    }
}

/// What is known of the Lease that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is none, or nobody holds it.
    Nobody,
    /// This process holds it.
    Own,
    /// Another process does.
    Other {
        /// Whether it is a process of this very host that is gone.
        known_dead: bool,
        /// How long, by our own clock, it has been watched without a renewal.
        unrenewed_for: Duration,
        /// Its `leaseDurationSeconds`.
        duration: Duration,
    },
}

/// What to do about a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Write ourselves in; nobody can still be sending calls.
    Take,
    /// Write ourselves in, then touch every object that a late call of the former holder could hit.
    TakeOver,
    /// Watch on: it may be dead.
    Watch,
    /// It is ours.
    Held,
}

/// Annotation of a Lease whose taker-over has not yet touched everything: whoever gets it next must.
pub const UNFENCED_ANNOTATION: &str = "sts-migrate.io/unfenced";

/// Decides what to do about a Lease; `is_unfenced` says that it has the annotation.
pub fn claim(found: &Found, is_unfenced: bool) -> Claim {
    match found {
        Found::Nobody | Found::Own | Found::Other { known_dead: true, .. } if is_unfenced => Claim::TakeOver,
        Found::Nobody => Claim::Take,
        Found::Own => Claim::Held,
        Found::Other { known_dead: true, .. } => Claim::Take,
        Found::Other { unrenewed_for, duration, .. } if unrenewed_for >= duration => Claim::TakeOver,
        Found::Other { .. } => Claim::Watch,
    }
}

/// Returns whether a mutation may be sent: the Lease must have longer to go than the request may take.
pub fn may_mutate(since_renewal: Duration, request_timeout: Duration) -> bool {
    since_renewal + request_timeout < LEASE_DURATION
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> Holder {
        Holder {
            who: "dba@laptop/with/slash".into(),
            boot_id: "b".into(),
            pid_namespace: "pid:[4026531836]".into(),
            pid: 7,
            started: 99,
        }
    }

    #[test]
    fn identity_reads_back() {
        assert_eq!(Holder::parse(&holder().identity()), Some(holder()));
    }

    #[test]
    fn a_holder_in_another_pid_namespace_is_not_visible() {
        let other = Holder { pid_namespace: "pid:[1]".into(), ..holder() };
        assert!(!other.is_visible_from(&holder()));
        assert!(holder().is_visible_from(&holder()));
    }

    #[test]
    fn only_an_unrenewed_or_dead_holder_is_replaced() {
        let other = |known_dead, seconds| Found::Other {
            known_dead,
            unrenewed_for: Duration::from_secs(seconds),
            duration: LEASE_DURATION,
        };
        assert_eq!(claim(&Found::Nobody, false), Claim::Take);
        assert_eq!(claim(&other(true, 0), false), Claim::Take);
        assert_eq!(claim(&other(false, 29), false), Claim::Watch);
        assert_eq!(claim(&other(false, 30), false), Claim::TakeOver);
    }

    #[test]
    fn a_fence_that_was_not_finished_is_finished_by_the_next() {
        assert_eq!(claim(&Found::Nobody, true), Claim::TakeOver);
        assert_eq!(claim(&Found::Own, true), Claim::TakeOver);
        let watched = Found::Other { known_dead: false, unrenewed_for: Duration::ZERO, duration: LEASE_DURATION };
        assert_eq!(claim(&watched, true), Claim::Watch);
    }

    #[test]
    fn a_mutation_needs_time_left() {
        assert!(may_mutate(Duration::from_secs(10), Duration::from_secs(15)));
        assert!(!may_mutate(Duration::from_secs(20), Duration::from_secs(15)));
    }
}
