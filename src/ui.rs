//! Talk with the person: bars on a terminal, one line per change elsewhere, questions.
//!
//! Everything goes to stderr; stdout is for data. Questions fail closed without a terminal.

use std::io::Write as _;

use crate::decide::Confirmation;
use crate::drive::{Answer, Progress};
use crate::plan::{Order, Plan};
use crate::record::Subject;
use crate::report::count;
use crate::world::World;

mod bars;
mod prompt;
mod words;

use bars::Bars;

/// What may be answered without asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Consent {
    /// `--yes`: everything but deleting.
    pub(crate) is_general: bool,
    /// `--yes` together with finalize: deleting too.
    pub(crate) covers_deleting: bool,
}

/// The person's side of a run.
pub(crate) struct Ui {
    consent: Consent,
    bars: Bars,
    /// What else is told before the freeze, such as what budgets will allow.
    freeze_notes: Vec<String>,
}

impl Ui {
    /// Returns the talk with whoever is at the terminal.
    pub(crate) fn new(consent: Consent, is_verbose: bool) -> Ui {
        Ui { consent, bars: Bars::new(is_verbose), freeze_notes: Vec::new() }
    }

    /// Returns whether somebody is there to be asked.
    pub(crate) fn can_ask(&self) -> bool {
        prompt::is_possible()
    }

    /// Adds lines to the question before the freeze.
    pub(crate) fn tell_before_freeze(&mut self, notes: impl IntoIterator<Item = String>) {
        self.freeze_notes.extend(notes);
    }

    /// Says something.
    pub(crate) fn say(&mut self, line: &str) {
        self.bars.line(line);
    }

    /// Counts the ordinals of a plan's set from here on.
    pub(crate) fn follow(&mut self, plan: &Plan) {
        self.bars.follow(plan);
    }

    /// Shows how a run goes on.
    pub(crate) fn progress(&mut self, progress: Progress<'_>) {
        self.bars.show(progress);
    }

    /// Takes the bars away: the run is over.
    pub(crate) fn finish(&mut self) {
        self.bars.clear();
    }

    /// Asks before something that cannot be taken back at once.
    ///
    /// Without a terminal the answer is no, unless consent was given beforehand.
    pub(crate) async fn confirm(&mut self, confirmation: &Confirmation, plan: &Plan, world: &World) -> Answer {
        let is_deleting = *confirmation == Confirmation::Deleting;
        let mut lines = words::question(confirmation, plan, world);
        if *confirmation == Confirmation::Freeze {
            lines.extend(self.freeze_notes.iter().map(|note| format!("  {note}")));
        }
        for line in &lines {
            self.say(line);
        }
        let is_covered = if is_deleting { self.consent.covers_deleting } else { self.consent.is_general };
        if is_covered {
            self.say("  confirmed by --yes");
            return Answer::All;
        }
        if !self.can_ask() {
            return Answer::No;
        }
        self.bars.hide();
        let answer = if is_deleting { ask_name(plan).await } else { ask(has_more(confirmation, plan)).await };
        self.bars.unhide();
        answer
    }

    /// Asks in which order a set of several replicas moves; `None` when nothing was chosen.
    pub(crate) async fn choose_order(&mut self, replicas: i64, evidence: &[String]) -> Option<Order> {
        self.say(&format!("{} must move in an order that you choose:", count(replicas.max(0) as usize, "replica")));
        self.say("  1) one-by-one: least is down at a time; members run in both clusters meanwhile");
        self.say("  2) together: all stop, then all start; for members that need each other (quorum, replication)");
        if evidence.is_empty() {
            self.say("nothing was found that says that the members need each other");
        } else {
            self.say("what says that the members need each other:");
            for sign in evidence {
                self.say(&format!("  - {sign}"));
            }
        }
        loop {
            match self.ask_line("order [1/2/q]:").await?.as_str() {
                "1" | "one-by-one" => return Some(Order::OneByOne),
                "2" | "together" => return Some(Order::Together),
                "q" | "n" | "" => return None,
                _ => {}
            }
        }
    }

    /// Asks for a line, with the bars out of the way.
    async fn ask_line(&mut self, question: &str) -> Option<String> {
        self.bars.hide();
        let line = prompt::line(question).await;
        self.bars.unhide();
        line
    }

    /// Lets a person choose one of several; `None` when nothing was chosen.
    pub(crate) async fn choose(&mut self, title: &str, items: &[String]) -> Option<usize> {
        self.say(title);
        for (index, item) in items.iter().enumerate() {
            self.say(&format!("  {}) {item}", index + 1));
        }
        loop {
            let line = self.ask_line(&format!("which one [1-{}/q]:", items.len())).await?;
            match line.parse::<usize>() {
                Ok(number) if (1..=items.len()).contains(&number) => return Some(number - 1),
                _ if matches!(line.as_str(), "q" | "n" | "") => return None,
                _ => {}
            }
        }
    }
}

/// Returns whether there may be more questions of this kind.
fn has_more(confirmation: &Confirmation, plan: &Plan) -> bool {
    matches!(confirmation, Confirmation::Pod(_)) && plan.sets.iter().any(|set| set.ordinals.len() > 1)
}

async fn ask(has_more: bool) -> Answer {
    let choices = if has_more { "[y]es, [a]ll of this kind, [n]o and pause" } else { "[y]es, [n]o and pause" };
    loop {
        let Some(line) = prompt::line(&format!("go on? {choices}:")).await else {
            return Answer::No;
        };
        match line.to_lowercase().as_str() {
            "y" | "yes" => return Answer::Yes,
            "a" | "all" => return Answer::All,
            "n" | "no" => return Answer::No,
            _ => {}
        }
    }
}

async fn ask_name(plan: &Plan) -> Answer {
    let names: Vec<&str> = plan.sets.iter().map(|set| set.name.as_str()).collect();
    let name = names.join(",");
    let what = if plan.subject() == Subject::Claim { "claim" } else { "set" };
    let line = prompt::line(&format!("type the {what}'s name, {name}, to delete; anything else pauses:")).await;
    if line.as_deref() == Some(name.as_str()) { Answer::Yes } else { Answer::No }
}

/// Writes a line to stderr; a terminal that is gone is not an error of the migration's.
fn write_line(line: &str) {
    let _gone = writeln!(std::io::stderr(), "{line}");
}
