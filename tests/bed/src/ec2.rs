//! A stand-in for EC2 and STS that is strict where EC2 is strict.
//!
//! It answers the EC2 query protocol (and `GetCallerIdentity` of STS) on `POST /`, keeps the truth
//! about volumes, attachments and instances, and writes down every request and every change of a
//! volume. Everything below `/_bed/ec2/` is the hand of a test: it makes volumes, sets delays and
//! permissions, lets detaches stick and reads go stale, and reads the logs. [`Control`] is the typed
//! client of that part.
//!
//! Volumes have content: a history of who used them, see [`Ec2::mount`]. A mount needs an attachment,
//! and a volume that is detached while mounted stays `busy` until it is unmounted, as under Linux.
//!
//! Nothing in here answers from a wish of the program under test: an attachment that EC2 would refuse
//! is refused, and a state that takes EC2 time takes time here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::facts::HistoryEntry;

mod attachments;
mod bed;
mod calls;
mod content;
mod control;
mod fixture;
mod instances;
mod keys;
mod knobs;
mod model;
mod params;
mod query;
mod read;
mod tags;
#[cfg(test)]
pub(crate) mod tests;
mod volumes;
mod words;
mod world;
pub(crate) mod xml;

pub use control::Control;
pub use keys::{ErrorAnswer, Key, TagCondition, TagMatch};
pub use knobs::{ForcedAttachment, Jitter, Knobs, NewVolume, Timings, VolumePatch};
pub use model::{Attachment, Instance, Modification, Performance, Volume};
pub use words::{AttachmentState, InstanceState, VolumeState};

use world::{Step, World};

/// The only region that has anything in it.
pub const REGION: &str = "eu-west-1";
/// The account that owns everything.
pub const ACCOUNT: &str = "123456789012";
/// The zones of [`REGION`].
pub const ZONES: [&str; 3] = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];
/// Access key id that may do everything.
pub const ADMIN_KEY: &str = "AKIAADMIN00000000000";

/// Returns the access key id of the tool number `number`; it may only describe.
pub fn tool_key(number: u32) -> String {
    format!("AKIATOOL{number:012}")
}

/// Returns the access key id of a cluster's CSI driver.
pub fn csi_key(cluster: crate::Cluster) -> &'static str {
    match cluster {
        crate::Cluster::A => "AKIACSIA00000000000",
        crate::Cluster::B => "AKIACSIB00000000000",
    }
}

/// A handle on the stand-in; clones share one world.
#[derive(Clone)]
pub struct Ec2 {
    inner: Arc<Inner>,
}

struct Inner {
    world: Mutex<World>,
    /// Grows with every change of any volume: what waits for a state sleeps on it.
    changed: watch::Sender<u64>,
    runtime: Handle,
}

impl Ec2 {
    /// Makes an empty world. Must be called inside a tokio runtime, which runs its delays.
    pub fn new(timings: Timings) -> Self {
        Self {
            inner: Arc::new(Inner {
                world: Mutex::new(World::new(timings)),
                changed: watch::Sender::new(0),
                runtime: Handle::current(),
            }),
        }
    }

    /// Returns the whole HTTP side: `POST /` and everything below `/_bed/ec2/`.
    pub fn router(&self) -> axum::Router {
        query::router(self.clone()).merge(bed::router(self.clone()))
    }

    /// Makes an instance known (and running) in a zone; a known one stays as it is.
    pub fn register_instance(&self, instance: &str, zone: &str) {
        self.with(|world| world.register_instance(instance, zone));
    }

    /// Mounts a volume on an instance for a process and returns what was on the volume before.
    ///
    /// Refused unless the volume is `attached` to this very instance now and the instance runs.
    /// `entry` is appended to the history as its start: `at`, `kind`, `instance` and `found` are set
    /// here.
    pub fn mount(&self, volume: &str, instance: &str, entry: HistoryEntry) -> Result<Vec<HistoryEntry>, String> {
        self.with(|world| world.mount(volume, instance, entry))
    }

    /// Unmounts what [`Ec2::mount`] mounted for the same pod uid, and appends the end to the history.
    ///
    /// A detach that was waiting for the last mount goes on. Refused when that pod has nothing
    /// mounted here, also because the machine died or the volume was torn away by force.
    pub fn unmount(&self, volume: &str, instance: &str, entry: HistoryEntry) -> Result<(), String> {
        self.with(|world| world.unmount(volume, instance, entry))
    }

    /// Returns what is written on volumes: on all of them, each as a process would find it there.
    pub fn contents(&self) -> BTreeMap<String, Vec<HistoryEntry>> {
        self.with(|world| world.contents())
    }

    /// Runs `act` on the world, then starts the delays that it asked for and wakes who waits.
    fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let (answer, steps, changes) = {
            let mut world = self.inner.world.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = act(&mut world);
            (answer, world.take_steps(), world.version())
        };
        for step in steps {
            self.settle_later(step);
        }
        self.inner.changed.send_if_modified(|seen| {
            let news = changes > *seen;
            *seen = changes.max(*seen);
            news
        });
        answer
    }

    fn settle_later(&self, step: Step) {
        let ec2 = self.clone();
        self.inner.runtime.spawn(async move {
            sleep(step.after).await;
            ec2.settle(&step);
        });
    }

    fn settle(&self, step: &Step) {
        self.with(|world| world.settle(step));
    }

    /// Returns a receiver that is told of every change of the world.
    fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }
}
