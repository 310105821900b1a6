//! How a run goes on: two bars at the foot of a terminal, or one line per change.
//!
//! On a terminal acts scroll by above the bars; what is waited for, and for how much longer, is in
//! the bars. Elsewhere, and with `-v`, every change is one line and nothing is drawn twice.

use std::io::IsTerminal as _;
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{words, write_line};
use crate::decide::{Condition, Wait};
use crate::drive::Progress;
use crate::plan::Plan;
use crate::world::{Kind, Object, Side, World};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// How often a wait of one kind whose text changes is said again where there are no bars.
const SAID_AGAIN: Duration = Duration::from_secs(10);

/// The wait: a text that is too wide is cut, since wrapped bars cannot be redrawn.
const WAIT_TEMPLATE: &str = "{spinner} {wide_msg}";

/// The ordinals: how many the destination has been given.
const ORDINALS_TEMPLATE: &str = "  [{bar:24}] {pos}/{len} in the destination";

/// Bars or lines.
pub(super) struct Bars {
    /// The bars at the foot of the terminal, if they are drawn.
    drawn: Option<Drawn>,
    /// The set whose ordinals are counted.
    set: Option<String>,
    /// The last line, not to be said twice in a row.
    last: String,
    /// The last wait that was said.
    said: Option<Said>,
}

/// A wait that was said.
struct Said {
    on: Option<Discriminant<Condition>>,
    text: String,
    at: Instant,
}

struct Drawn {
    all: MultiProgress,
    ordinals: Option<ProgressBar>,
    wait: ProgressBar,
}

impl Bars {
    /// Returns bars on a terminal, unless it is needed for log lines.
    pub(super) fn new(is_verbose: bool) -> Bars {
        let drawn = (std::io::stderr().is_terminal() && !is_verbose).then(Drawn::new);
        Bars { drawn, set: None, last: String::new(), said: None }
    }

    /// Counts the ordinals of a plan's set.
    pub(super) fn follow(&mut self, plan: &Plan) {
        let Some(set) = plan.sets.first().filter(|set| set.replicas() > 0) else { return };
        self.set = Some(set.name.clone());
        if let Some(drawn) = &mut self.drawn {
            drawn.count(set.ordinals.len() as u64);
        }
    }

    /// Says one line, above the bars.
    pub(super) fn line(&mut self, line: &str) {
        if line == self.last {
            return;
        }
        line.clone_into(&mut self.last);
        match &self.drawn {
            // One that is gone since (a lost connection) is none any more, and `suspend` would panic there.
            Some(drawn) if std::io::stderr().is_terminal() => drawn.all.suspend(|| write_line(line)),
            _ => write_line(line),
        }
    }

    /// Shows what the loop is doing.
    pub(super) fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Looking => self.now("looking at both clusters"),
            Progress::Locked(lock) => {
                let text = format!("{}; taken over when not renewed for {} s", lock.held_by, lock.duration.as_secs());
                self.wait(None, &text, &format!("{} s so far", lock.unrenewed_for.as_secs()));
            }
            Progress::Acting(actions) => {
                self.said = None;
                for line in words::acts(actions) {
                    self.line(&line);
                }
                self.now("at work");
            }
            Progress::Output(line) => self.line(&format!("  | {line}")),
            Progress::Waiting { wait, elapsed, limit, world } => {
                self.ordinals(world);
                self.waiting(wait, elapsed, limit);
            }
        }
    }

    /// Takes the bars away for a question.
    pub(super) fn hide(&mut self) {
        if let Some(drawn) = &self.drawn {
            drawn.wait.disable_steady_tick();
            drawn.clear();
            drawn.all.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Draws the bars again.
    pub(super) fn unhide(&mut self) {
        if let Some(drawn) = &self.drawn {
            drawn.all.set_draw_target(ProgressDrawTarget::stderr());
            drawn.wait.enable_steady_tick(TICK);
        }
    }

    /// Takes the bars away for good.
    pub(super) fn clear(&mut self) {
        if let Some(drawn) = self.drawn.take() {
            if let Some(bar) = &drawn.ordinals {
                bar.finish_and_clear();
            }
            drawn.wait.finish_and_clear();
            drawn.clear();
        }
    }

    fn ordinals(&self, world: &World) {
        let (Some(drawn), Some(set)) = (&self.drawn, &self.set) else { return };
        let replicas = world.object(Side::Destination, Kind::StatefulSet, set).map_or(0, Object::replicas);
        if let Some(bar) = &drawn.ordinals {
            bar.set_position(replicas.max(0) as u64);
        }
    }

    fn waiting(&mut self, wait: &Wait, elapsed: Duration, limit: Duration) {
        let clock = format!("{} s of {} s", elapsed.as_secs(), limit.as_secs());
        self.wait(Some(discriminant(&wait.on)), &format!("wait for {}", wait.on), &clock);
    }

    /// Shows a wait: always in the bar; as a line when it is another one than before, or its text
    /// has changed since a while.
    fn wait(&mut self, on: Option<Discriminant<Condition>>, text: &str, clock: &str) {
        if let Some(drawn) = &self.drawn {
            drawn.wait.set_message(format!("{text} ({clock})"));
            return;
        }
        let is_known = self
            .said
            .as_ref()
            .is_some_and(|said| said.on == on && (said.text == text || said.at.elapsed() < SAID_AGAIN));
        if !is_known {
            self.line(&format!("  {text}"));
            self.said = Some(Said { on, text: text.to_owned(), at: Instant::now() });
        }
    }

    fn now(&mut self, what: &'static str) {
        if let Some(drawn) = &self.drawn {
            drawn.wait.set_message(what);
        }
    }
}

impl Drawn {
    fn new() -> Drawn {
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template(WAIT_TEMPLATE).expect("the template is right");
        let wait = all.add(ProgressBar::new_spinner().with_style(style));
        wait.enable_steady_tick(TICK);
        Drawn { all, ordinals: None, wait }
    }

    fn count(&mut self, ordinals: u64) {
        let style = ProgressStyle::with_template(ORDINALS_TEMPLATE).expect("the template is right");
        let bar = ProgressBar::new(ordinals).with_style(style.progress_chars("=> "));
        self.ordinals = Some(self.all.insert_before(&self.wait, bar));
    }

    fn clear(&self) {
        // A terminal that is gone is not an error of the migration's.
        let _gone = self.all.clear();
    }
}
