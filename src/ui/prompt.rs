//! Questions to a person: one line out, one line in. Fails closed without a terminal.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use tokio::sync::oneshot;

/// Returns whether somebody is there to be asked.
pub(super) fn is_possible() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks and returns the answered line, trimmed; `None` at the end of the input.
///
/// The line is read by a thread of its own, so that signals and the lock's renewal are not held up.
/// Dropping the future leaves the thread waiting for a line that nobody needs; it ends with the process.
pub(super) async fn line(question: &str) -> Option<String> {
    let mut stderr = std::io::stderr();
    write!(stderr, "{question} ").and_then(|()| stderr.flush()).ok()?;
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = std::io::stdin().lock().read_line(&mut text);
        let line = matches!(read, Ok(length) if length > 0).then(|| text.trim().to_owned());
        // The receiver is gone when a signal ended the question.
        let _gone = sender.send(line);
    });
    receiver.await.ok().flatten()
}
