//! Who this process is, and whether another one of this host is still there.
//!
//! Containers of one machine share the boot id, so that the pid namespace is part of it; a pid that
//! was given out again has another start time.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::record::lease::Holder;

/// Returns the identity of this process.
///
/// # Errors
/// `/proc` cannot be read.
pub(super) fn own() -> anyhow::Result<Holder> {
    let pid = std::process::id();
    let user = std::env::var("USER")
        .or_else(|_missing| std::env::var("LOGNAME"))
        .unwrap_or_else(|_missing| format!("uid-{}", rustix::process::getuid().as_raw()));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Holder {
        who: format!("{user}@{host}"),
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
        pid_namespace: fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned(),
        pid,
        started: started(pid).ok_or_else(|| anyhow::anyhow!("/proc/{pid}/stat names no start time"))?,
    })
}

/// What is known of another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It ran on another host, in another container or before a reboot: only its Lease tells.
    OutOfSight,
    /// It is gone.
    Dead,
    /// It is there and not stopped.
    Running,
    /// It is there, but stopped (`SIGSTOP`, a debugger): it renews nothing and may go on any time.
    Stopped,
}

/// Returns what is known of the process that a Lease names.
pub(super) fn fate(holder: &Holder, own: &Holder) -> Fate {
    if !holder.is_visible_from(own) {
        return Fate::OutOfSight;
    }
    let stat = fs::read_to_string(format!("/proc/{}/stat", holder.pid)).ok();
    let pid = i32::try_from(holder.pid).ok().and_then(Pid::from_raw);
    let is_gone = pid.is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH));
    judge(stat.as_deref(), is_gone, holder.started)
}

/// A process that cannot be read is dead only if the kernel says so: `hidepid` of `/proc` keeps those of other
/// users out of sight.
fn judge(stat: Option<&str>, is_gone: bool, started: u64) -> Fate {
    let Some(stat) = stat else {
        return if is_gone { Fate::Dead } else { Fate::OutOfSight };
    };
    match (start_time(stat), state(stat)) {
        (Some(found), Some("T" | "t")) if found == started => Fate::Stopped,
        (Some(found), _) if found == started => Fate::Running,
        _ => Fate::Dead,
    }
}

/// Returns the start time of a process in clock ticks since boot; none when there is no such process,
/// or only its remains.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    start_time(&stat)
}

/// Reads field 3 of `/proc/PID/stat`. The name in field 2 may hold blanks and parentheses.
fn state(stat: &str) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().next()
}

/// Reads field 22 of `/proc/PID/stat`, unless the process has ended.
fn start_time(stat: &str) -> Option<u64> {
    let is_alive = !matches!(state(stat)?, "Z" | "X" | "x");
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok().filter(|_| is_alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_an_odd_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 10 10";
        assert_eq!(start_time(stat), Some(4242));
        assert_eq!(start_time(&stat.replace(") S", ") Z")), None);
    }

    #[test]
    fn a_process_of_this_host_is_running_stopped_or_dead() {
        let own = own().expect("/proc is there");
        assert_eq!(fate(&own, &own), Fate::Running);
        assert_eq!(fate(&Holder { started: own.started + 1, ..own.clone() }, &own), Fate::Dead);
        let elsewhere = Holder { boot_id: "other".to_owned(), ..own.clone() };
        assert_eq!(fate(&elsewhere, &own), Fate::OutOfSight);
        assert_eq!(state("7 (a) b) T 1 7"), Some("T"));
    }

    #[test]
    fn a_process_that_may_not_be_read_is_out_of_sight_and_not_dead() {
        assert_eq!(judge(None, false, 1), Fate::OutOfSight);
        assert_eq!(judge(None, true, 1), Fate::Dead);
        let own = own().expect("/proc is there");
        // Larger than any pid that Linux gives.
        assert_eq!(fate(&Holder { pid: (1 << 22) + 1, ..own.clone() }, &own), Fate::Dead);
    }
}
