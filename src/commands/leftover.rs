//! What a run leaves that was killed where nothing but its lock kept others out: at its very end, or before it had
//! stored a plan.

use super::opened::Opened;
use super::target::Target;
use crate::drive::Progress;
use crate::observe;
use crate::record::stem;
use crate::store::{self, Lock};
use crate::ui::Ui;
use crate::world::{Kind, Side};

/// Removes Leases, and parts of a plan, that are left of a migration that is not open; returns whether there
/// were any.
///
/// Whoever holds them is watched as for any run: nothing is taken from a run that begins meanwhile. What is
/// not known, or cannot be had, is left as it is.
pub(super) async fn clear(opened: &Opened, target: &Target, ui: &mut Ui) -> bool {
    let stem = stem(target.subject, &target.name);
    let mut is_there = false;
    for side in Side::BOTH {
        let lease = observe::get(opened.cluster(side), Kind::Lease, &stem).await;
        is_there |= matches!(lease, Ok(Some(_)));
    }
    if !is_there {
        return false;
    }
    let Ok(lock) = Lock::new(&opened.session.endpoints, &stem) else { return false };
    let acquired = lock.acquire(async { Ok(()) }, &mut |seen| ui.progress(Progress::Locked(seen))).await;
    ui.finish();
    // Looked at again under the lock: another run may have begun, and ended half-way, before it was had.
    if acquired.is_err() || !is_over(opened, target).await {
        lock.release().await;
        return false;
    }
    // The lock goes last: as long as it is there, the next run comes here again.
    if let Err(error) = store::drop_parts(&opened.session.endpoints, &stem).await {
        tracing::warn!(%error, "parts of the plan were not deleted");
        lock.release().await;
        return false;
    }
    lock.remove().await;
    ui.say("removed what a killed run had left: its lock, and parts of its plan if there were any");
    true
}

/// Returns whether surely nothing is open, and no plan is kept.
async fn is_over(opened: &Opened, target: &Target) -> bool {
    for side in Side::BOTH {
        match store::find(opened.cluster(side), target.subject, &target.name).await {
            Ok(found) if found.plan.is_none() => match found.record {
                Some(Ok(record)) if !record.is_open() => {}
                None => {}
                Some(_) => return false,
            },
            _ => return false,
        }
    }
    true
}
