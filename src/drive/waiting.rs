//! Waiting: for a watch event, the next poll, the fallback look, the clock, a signal, a lost lock.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Ended, Progress, Run};
use crate::decide::{Stop, Wait};
use crate::events::Event;
use crate::observe::Watches;
use crate::world::Read;

/// First and longest pause between two reads of what has no watch (EC-12).
const POLL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How often everything is looked at although no watch said so: a watch may be silent (TL-9).
const FALLBACK: Duration = Duration::from_secs(15);

/// How often the elapsed time is shown.
const TICK: Duration = Duration::from_secs(1);

/// The shortest time between two looks that watches cause: a busy cluster must not have the loop
/// read all the time. Far below what any step takes.
const COALESCE: Duration = Duration::from_millis(25);

/// Back-off of the polls of one wait.
#[derive(Default)]
pub(super) struct Polls {
    waited_for: String,
    made: u32,
    overdue: bool,
    noted: String,
}

/// Why a wait was left.
#[derive(Debug, PartialEq)]
enum Woken {
    Dirty,
    Poll,
    Fallback,
    Overdue,
}

impl Run<'_> {
    /// Waits until there may be something new, and reads it.
    pub(super) async fn wait(&mut self, wait: Wait) -> Result<(), Ended> {
        let limit = wait.clock.limit(self.options.timeouts.detach, self.options.timeouts.ready);
        let elapsed = self.clocks.elapsed(&wait.clock);
        let text = wait.on.to_string();
        self.polls.turn(&wait);
        if elapsed >= limit && self.polls.overdue {
            return Err(Ended::Stopped(Stop::TimedOut { on: wait.on, seconds: limit.as_secs() }));
        }
        if self.polls.noted != text {
            self.session.events.write(Event::of("wait", json!({ "for": text })));
            self.polls.noted = text;
        }
        if self.watches.is_none() {
            self.watches = Some(Watches::start(&self.session.endpoints, &self.plan.stem()));
        }
        let woken = self.sleep(&wait, elapsed, limit).await?;
        self.read_after(woken, wait.poll).await;
        Ok(())
    }

    async fn sleep(&mut self, wait: &Wait, elapsed: Duration, limit: Duration) -> Result<Woken, Ended> {
        let begun = Instant::now();
        let overdue = begun + limit.saturating_sub(elapsed);
        let fallback = self.fallback.unwrap_or(begun + FALLBACK);
        self.fallback = Some(fallback);
        let poll = begun + self.polls.pause();
        let Some(watches) = &self.watches else { return Ok(Woken::Fallback) };
        let dirty = watches.dirty.clone();
        let not_before = self.woken.map_or(begun, |woken| woken + COALESCE);
        loop {
            let elapsed = self.clocks.elapsed(&wait.clock);
            self.ui.progress(Progress::Waiting { wait, elapsed, limit, world: &self.session.world });
            tokio::select! {
                () = async { dirty.marked().await; sleep_until(not_before).await } => return Ok(Woken::Dirty),
                () = sleep_until(poll), if !wait.poll.is_empty() => return Ok(Woken::Poll),
                () = sleep_until(fallback) => return Ok(Woken::Fallback),
                () = sleep_until(overdue) => return Ok(Woken::Overdue),
                () = sleep(TICK) => {
                    // After the machine slept, the monotonic deadlines above are late.
                    if self.clocks.elapsed(&wait.clock) >= limit {
                        return Ok(Woken::Overdue);
                    }
                }
                signal = self.signals.caught() => return Err(Ended::Interrupted(signal)),
                () = self.lock.lost() => {
                    self.regain().await?;
                    return Ok(Woken::Dirty);
                }
            }
        }
    }

    async fn read_after(&mut self, woken: Woken, poll: Vec<Read>) {
        self.woken = Some(Instant::now());
        // Nothing that was seen before the wait counts as fresh any more.
        self.session.world.settled = self.session.world.seq;
        let marked = self.watches.as_ref().map(|watches| watches.dirty.take()).unwrap_or_default();
        let mut reads: Vec<Read> = marked.into_iter().flat_map(|read| self.wanted(read)).collect();
        match woken {
            Woken::Dirty => {}
            Woken::Poll => {
                self.polls.made += 1;
                reads.extend(poll);
            }
            Woken::Fallback | Woken::Overdue => {
                self.fallback = None;
                self.polls.overdue = woken == Woken::Overdue;
                self.look_again().await;
                reads = poll;
            }
        }
        self.session.look(reads).await;
    }

    /// Returns what a watch's mark means for what is known: a kind that nobody has asked for is not
    /// read, and one of which only single objects are known is not listed.
    fn wanted(&self, read: Read) -> Vec<Read> {
        match read {
            Read::List(side, kind) if !self.known.contains(&read) => {
                let single = |known: &&Read| matches!(known, Read::Get(s, k, _) if (*s, *k) == (side, kind));
                self.known.iter().filter(single).cloned().collect()
            }
            Read::Get(side, kind, _) if !self.known.contains(&Read::List(side, kind)) => {
                if self.known.contains(&read) {
                    vec![read]
                } else {
                    Vec::new()
                }
            }
            read => vec![read],
        }
    }
}

impl Polls {
    /// Starts the back-off anew when something else is waited for.
    fn turn(&mut self, wait: &Wait) {
        let waited_for = format!("{:?} {:?}", wait.clock, wait.poll);
        if self.waited_for != waited_for {
            let noted = std::mem::take(&mut self.noted);
            *self = Polls { waited_for, noted, ..Polls::default() };
        }
    }

    /// Returns the pause before the next poll.
    fn pause(&self) -> Duration {
        backoff(self.made, RandomState::new().hash_one(self.made))
    }
}

/// Doubles from the first pause to the longest, with up to a quarter less by chance, so that several
/// runs do not ask at the same moments.
pub(super) fn backoff(made: u32, chance: u64) -> Duration {
    let whole = (POLL.0 * 2_u32.saturating_pow(made.min(10))).min(POLL.1);
    whole - whole.mul_f64((chance % 1000) as f64 / 4000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_grows_to_five_seconds_with_jitter() {
        assert_eq!(backoff(0, 0), Duration::from_millis(200));
        assert_eq!(backoff(1, 0), Duration::from_millis(400));
        assert_eq!(backoff(60, 0), Duration::from_secs(5));
        for chance in 0..2000 {
            let pause = backoff(9, chance);
            assert!(pause > Duration::from_millis(3750) && pause <= Duration::from_secs(5), "{pause:?}");
        }
    }
}
