//! The real binaries of the bed: found ready, or compiled once per user with Go.
//!
//! The module files in `tests/bed/control-plane` say what is compiled; they are part of this crate,
//! and their hash names the directory of the result in the user's cache. A directory that has that
//! name is complete: it is filled under another name and then renamed. A file lock keeps a second
//! builder waiting. `STS_MIGRATE_BED_BIN` names a directory with ready binaries instead.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

mod build;

const GO_MOD: &str = include_str!("../control-plane/go.mod");
const GO_SUM: &str = include_str!("../control-plane/go.sum");

/// The variable that names a directory with ready binaries.
pub const READY_BINARIES: &str = "STS_MIGRATE_BED_BIN";

/// The file of the cache that a builder locks.
const LOCK: &str = "control-plane.lock";

/// Names of the binaries as the build makes them. Etcd's is called after the last part of its path.
const NAMES: [&str; 7] = [
    "server",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "csi-attacher",
    "csi-provisioner",
];

/// A directory that has all binaries of the bed.
#[derive(Clone, Debug)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Finds the binaries, or builds them where that was never done; shows the build on stderr.
    ///
    /// Every error is one sentence that says what to install or to set, where something must be.
    pub fn find_or_build() -> Result<Self> {
        if let Some(directory) = env::var_os(READY_BINARIES).filter(|value| !value.is_empty()) {
            return Self::ready(PathBuf::from(directory));
        }
        Self::built_once(&cache_directory()?, build::build)
    }

    /// Finds the binaries in a cache, or has `build` put them there; one builder at a time.
    fn built_once(cache: &Path, build: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<Self> {
        let binaries = Binaries { directory: cache.join(format!("control-plane-{}", hash())) };
        if binaries.missing().is_empty() {
            return Ok(binaries);
        }
        let lock = lock(cache)?;
        // Whoever held the lock may have built the very same.
        if !binaries.missing().is_empty() {
            build(cache, &binaries.directory)?;
        }
        drop(lock);
        let missing = binaries.missing();
        if !missing.is_empty() {
            bail!("the build of the bed made no {}", missing.join(", "));
        }
        Ok(binaries)
    }

    /// Takes a directory with ready binaries.
    pub(crate) fn ready(directory: PathBuf) -> Result<Self> {
        let binaries = Binaries { directory };
        let missing = binaries.missing();
        if !missing.is_empty() {
            bail!("the directory {} ({READY_BINARIES}) has no {}", binaries.directory.display(), missing.join(", "));
        }
        Ok(binaries)
    }

    /// Returns the directory of the binaries.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the path of one of them; etcd may be called `etcd`, as it is elsewhere, or `server`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        if name == "server" && !path.exists() { self.directory.join("etcd") } else { path }
    }

    fn missing(&self) -> Vec<&'static str> {
        let shown = |name| if name == "server" { "etcd" } else { name };
        NAMES.into_iter().filter(|name| !self.path(name).is_file()).map(shown).collect()
    }
}

/// Returns what names a build: the first half of the module files' SHA-256.
fn hash() -> String {
    let digest = Sha256::new().chain_update(GO_MOD).chain_update(GO_SUM).finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the user's cache directory of this project.
fn cache_directory() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or_else(|| Some(set("HOME")?.join(".cache")));
    let Some(base) = base else {
        bail!(
            "the bed has no place for its binaries: set HOME or XDG_CACHE_HOME, or {READY_BINARIES} to a directory that has them"
        );
    };
    let cache = base.join("sts-migrate");
    fs::create_dir_all(&cache).with_context(|| format!("create the cache directory {}", cache.display()))?;
    Ok(cache)
}

/// Waits until nobody else builds; the lock ends with the file, also when this process is killed.
fn lock(cache: &Path) -> Result<File> {
    let path = cache.join(LOCK);
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("bed: another process builds the control planes, waiting for it");
            file.lock().with_context(|| format!("lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("lock {}", path.display())),
    }
    Ok(file)
}

/// Returns whether progress is drawn, or printed as plain lines.
fn draws() -> bool {
    std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn of_two_builders_one_builds_and_the_other_finds_it() {
        let cache = tempfile::tempdir().unwrap();
        let builds = AtomicU32::new(0);
        let both = Barrier::new(2);
        let build = |cache: &Path, target: &Path| {
            builds.fetch_add(1, Ordering::Relaxed);
            let second = File::create(cache.join(LOCK))?.try_lock();
            assert!(matches!(second, Err(TryLockError::WouldBlock)), "whoever comes now does not wait: {second:?}");
            fs::create_dir(target)?;
            NAMES.iter().try_for_each(|name| fs::write(target.join(name), ""))?;
            Ok(())
        };
        let builder = || {
            both.wait();
            Binaries::built_once(cache.path(), build).unwrap().directory
        };
        let [one, other] = thread::scope(|scope| [(); 2].map(|()| scope.spawn(builder)).map(|it| it.join().unwrap()));
        assert_eq!(one, other);
        assert_eq!(builds.into_inner(), 1);
    }

    #[test]
    fn ready_binaries_are_all_there_or_named() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["etcd", "kube-apiserver", "kubectl", "csi-attacher", "csi-provisioner"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let error = Binaries::ready(directory.path().to_owned()).unwrap_err().to_string();
        assert!(error.ends_with("has no kube-controller-manager, kube-scheduler"), "{error}");
        for name in ["kube-controller-manager", "kube-scheduler"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let binaries = Binaries::ready(directory.path().to_owned()).unwrap();
        assert_eq!(binaries.path("server"), directory.path().join("etcd"));
    }
}
