//! SIGINT, SIGTERM and SIGHUP: the first one pauses, a second one ends the process at once (TL-13).

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::failure::Exit;

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
        // Not where whoever began this said that it shall not hear of it: `nohup`.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let is_deaf = is_ignored(&status, SignalKind::hangup());
        let mut hangup = if is_deaf { None } else { Some(signal(SignalKind::hangup())?) };
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                    () = heard(hangup.as_mut()) => "SIGHUP",
                };
                if sender.borrow().is_some() {
                    std::process::exit(i32::from(Exit::Interrupted.code()));
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

async fn heard(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Reads from `/proc/PID/status` whether a signal is ignored.
fn is_ignored(status: &str, signal: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal.as_raw_value() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_that_is_ignored_stays_so() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000440\n";
        assert!(is_ignored(status, SignalKind::hangup()));
        assert!(!is_ignored(status, SignalKind::interrupt()));
        assert!(!is_ignored("", SignalKind::hangup()));
    }
}
