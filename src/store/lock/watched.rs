//! What is seen of another holder's Lease, by our own clocks.

use std::time::{Duration, Instant, SystemTime};

use crate::record::lease::Holder;
use crate::world::{Object, Side};

/// A time by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Moment {
        Moment { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        // A wall clock that was set back says nothing.
        self.monotonic.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

/// What was first seen of others' Leases. Any change since says that somebody is alive there, be it
/// that the Lease was given back.
#[derive(Default)]
pub(super) struct Watched {
    sides: [Option<Seen>; 2],
}

pub(super) struct Seen {
    pub(super) who: String,
    version: String,
    since: Moment,
}

impl Watched {
    /// Returns since when a Lease was seen as it is, or who changed it.
    pub(super) fn see(&mut self, side: Side, lease: &Object) -> Result<Moment, String> {
        let identity = lease.text("/spec/holderIdentity").unwrap_or_default();
        let version = format!("{identity} {}", lease.text("/spec/renewTime").unwrap_or_default());
        match &self.sides[side as usize] {
            Some(seen) if seen.version == version => Ok(seen.since),
            Some(seen) => Err(seen.who.clone()),
            // Nobody's: whoever is there next is not somebody who was watched.
            None if identity.is_empty() => Ok(Moment::now()),
            None => {
                let since = Moment::now();
                self.sides[side as usize] = Some(Seen { who: describe(lease), version, since });
                Ok(since)
            }
        }
    }

    pub(super) fn take(&mut self, side: Side) -> Option<Seen> {
        self.sides[side as usize].take()
    }
}

/// Returns who holds a Lease, for people.
pub(super) fn describe(lease: &Object) -> String {
    let identity = lease.text("/spec/holderIdentity").unwrap_or_default();
    Holder::parse(identity)
        .map_or_else(|| identity.to_owned(), |holder| format!("{} (process {})", holder.who, holder.pid))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(holder: &str, renewed: &str) -> Object {
        Object(json!({ "spec": { "holderIdentity": holder, "renewTime": renewed } }))
    }

    #[test]
    fn a_lease_that_was_renewed_or_given_back_had_a_living_holder() {
        for changed in [lease("other", "2"), lease("", "1"), lease("third", "1")] {
            let mut watched = Watched::default();
            assert!(watched.see(Side::Source, &lease("other", "1")).is_ok());
            assert!(watched.see(Side::Source, &lease("other", "1")).is_ok());
            assert!(watched.see(Side::Destination, &lease("", "1")).is_ok());
            assert_eq!(watched.see(Side::Source, &changed).err().as_deref(), Some("other"));
        }
    }

    #[test]
    fn elapsed_is_the_larger_of_both_clocks() {
        let slept = Moment { monotonic: Instant::now(), wall: SystemTime::now() - Duration::from_secs(3600) };
        assert!(slept.elapsed() >= Duration::from_secs(3600));
        let set_back = Moment { monotonic: Instant::now(), wall: SystemTime::now() + Duration::from_secs(3600) };
        assert!(set_back.elapsed() < Duration::from_secs(1));
    }
}
