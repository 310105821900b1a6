//! Running clocks: a clock runs on while waits name it, and starts anew with every process.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use crate::decide::Clock;

/// A clock that no wait named for so long is forgotten. Waits alternate (a volume, an answer of EC2
/// that is throttled, the volume again), so that a clock must live through another wait.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// The clocks that run.
#[derive(Default)]
pub(super) struct Clocks {
    running: HashMap<Clock, Running>,
}

struct Running {
    since: Instant,
    since_wall: SystemTime,
    named: Instant,
}

impl Clocks {
    /// Names a clock and returns how long it has run: the larger of monotonic and wall clock.
    pub(super) fn elapsed(&mut self, clock: &Clock) -> Duration {
        self.elapsed_at(clock, Instant::now(), SystemTime::now())
    }

    fn elapsed_at(&mut self, clock: &Clock, now: Instant, wall: SystemTime) -> Duration {
        self.running.retain(|_, running| now.duration_since(running.named) < FORGOTTEN);
        let start = Running { since: now, since_wall: wall, named: now };
        let running = self.running.entry(clock.clone()).or_insert(start);
        running.named = now;
        now.duration_since(running.since).max(wall.duration_since(running.since_wall).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detach() -> Clock {
        Clock::Detach { what: "web-0".to_owned() }
    }

    fn answer() -> Clock {
        Clock::Cluster { what: "an answer".to_owned() }
    }

    #[test]
    fn a_clock_runs_on_through_another_wait_and_is_forgotten_later() {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let mut clocks = Clocks::default();
        let mut at = |clock: &Clock, seconds: u64| {
            let passed = Duration::from_secs(seconds);
            clocks.elapsed_at(clock, start + passed, wall + passed).as_secs()
        };
        assert_eq!(at(&detach(), 0), 0);
        assert_eq!(at(&answer(), 10), 0);
        assert_eq!(at(&detach(), 20), 20);
        assert_eq!(at(&answer(), 60), 0);
        assert_eq!(at(&detach(), 70), 0, "forgotten: nobody named it for half a minute");
    }

    #[test]
    fn a_sleep_of_the_machine_counts() {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let mut clocks = Clocks::default();
        clocks.elapsed_at(&detach(), start, wall);
        let elapsed = clocks.elapsed_at(&detach(), start + Duration::from_secs(1), wall + Duration::from_secs(3600));
        assert_eq!(elapsed, Duration::from_secs(3600));
    }
}
