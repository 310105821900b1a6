//! SIGINT, SIGTERM and SIGHUP: the first one pauses, a second one ends the process at once (TL-13).

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Exit code of an interrupted process.
const INTERRUPTED: i32 = 130;

/// Whether a signal came.
#[derive(Clone)]
pub(crate) struct Signals {
    caught: watch::Receiver<Option<&'static str>>,
}

impl Signals {
    /// Begins to listen; from here on the signals do not end the process by themselves.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub(crate) fn listen() -> std::io::Result<Signals> {
        let (sender, caught) = watch::channel(None);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                    _ = hangup.recv() => "SIGHUP",
                };
                if sender.borrow().is_some() {
                    std::process::exit(INTERRUPTED);
                }
                sender.send_replace(Some(name));
            }
        });
        Ok(Signals { caught })
    }

    /// Returns the name of the signal that came, if one did.
    pub(crate) fn was_caught(&self) -> Option<&'static str> {
        *self.caught.borrow()
    }

    /// Waits for a signal.
    pub(crate) async fn caught(&mut self) -> &'static str {
        match self.caught.wait_for(Option::is_some).await {
            Ok(name) => name.unwrap_or("a signal"),
            // The listening task lives as long as the runtime.
            Err(_closed) => std::future::pending().await,
        }
    }
}
