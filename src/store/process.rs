//! Who this process is, and whether another one of this host is still there.
//!
//! Containers of one machine share the boot id, so that the pid namespace is part of it; a pid that
//! was given out again has another start time.

use std::fs;

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

/// Returns whether a holder is a process of this very host that is gone.
pub(super) fn is_known_dead(holder: &Holder, own: &Holder) -> bool {
    holder.is_visible_from(own) && started(holder.pid) != Some(holder.started)
}

/// Returns the start time of a process in clock ticks since boot; none when there is no such process,
/// or only its remains.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    start_time(&stat)
}

/// Reads field 22 of `/proc/PID/stat`. The name in field 2 may hold blanks and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let is_alive = !matches!(state, "Z" | "X" | "x");
    fields.nth(18)?.parse().ok().filter(|_| is_alive)
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
    fn this_process_is_alive_and_one_with_another_start_time_is_dead() {
        let own = own().expect("/proc is there");
        assert!(!is_known_dead(&own, &own));
        assert!(is_known_dead(&Holder { started: own.started + 1, ..own.clone() }, &own));
        let elsewhere = Holder { boot_id: "other".to_owned(), started: own.started + 1, ..own.clone() };
        assert!(!is_known_dead(&elsewhere, &own));
    }
}
