//! Keeps snapshots on disk: at an interval, and when a plugin is unloaded or the host stops.
//!
//! What is kept was read back before, and whatever is not kept is remembered and told
//! ([`trouble`](super::trouble)).

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use ksi_kernel::{event::Payload, executor::workers::Workers, lock::Lock, router::Router};
use thiserror::Error;
use tokio::time::timeout;

use super::{
    snapshot::{self, Snapshot, StateError},
    store::{KeptState, KeptStateError, Listed, NewState, NewestSnapshot, SnapshotPlace, StateDir},
    trouble::Troubles,
};
use crate::{
    plugin::{
        announce::Announcer,
        file::manifest::StateManifest,
        instance::{body::Body, info::GenerationInfo, live::LiveInstance},
    },
    sync::keyed_lock::{KeyedLock, LockKey},
};

/// What a snapshot gets at an interval, and the last one of a generation.
pub(in crate::plugin) const LIMIT: Duration = Duration::from_secs(10);
/// After this long beyond it, a snapshot is in a poll that does not return.
const GRACE: Duration = Duration::from_secs(1);

/// Why a plugin's state is not kept, or does not come back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PersistError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] KeptStateError),
    /// The plugin gives no snapshot.
    #[error(transparent)]
    State(#[from] StateError),
    /// This version of the plugin cannot read it.
    #[error(
        "the kept snapshot {path} is of version {found}, written by version {by} of the plugin, and this file restores \
         {restores:?}. Load a version that restores it; {}", ways_out(plugin), path = .path.display()
    )]
    Version {
        /// The plugin.
        plugin: String,
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version of the plugin that wrote it.
        by: String,
        /// What the new version restores.
        restores: Vec<u32>,
    },
    /// It can be read, and was not restored.
    #[error(
        "the kept snapshot {} was not restored: {source}. Load a version that restores it; {}", .path.display(),
        ways_out(plugin)
    )]
    NotRestored {
        /// The plugin.
        plugin: String,
        /// The file.
        path: PathBuf,
        /// What its restore said.
        source: StateError,
    },
    /// Of all that is kept, nothing can be read by this version of the plugin.
    #[error(
        "none of the kept snapshots can be read by this file: {}. Load a version that reads them; {}",
        unread(snapshots),
        ways_out(plugin)
    )]
    NoneReadable {
        /// The plugin.
        plugin: String,
        /// The files, the newest first, and where in each the plugin's type does not fit.
        snapshots: Vec<(PathBuf, String)>,
    },
    /// The plugin did not come to the point where its last snapshot is taken.
    #[error("it did not end in time, so its last snapshot was not taken: {running} did not return")]
    NotInTime {
        /// What it still did.
        running: String,
    },
    /// An earlier snapshot, or the disk, did not get done.
    #[error("its last snapshot was not written within {}", humantime::format_duration(*.after))]
    NotWritten {
        /// What it was given.
        after: Duration,
    },
    /// The system gives no thread to work with files.
    #[error("the file was not worked on: {0}")]
    NotDone(#[source] io::Error),
}

/// What people can do whose plugin does not read what is kept of its state.
pub(in crate::plugin) fn ways_out(plugin: &str) -> String {
    format!(
        "or see what there is with `ksi state list {plugin}`, choose another with `ksi state restore {plugin}`, or start \
         empty after `ksi state drop {plugin}`"
    )
}

fn unread(snapshots: &[(PathBuf, String)]) -> String {
    let each = snapshots.iter().map(|(path, reason)| format!("{} ({reason})", path.display()));
    each.collect::<Vec<_>>().join(", ")
}

/// The snapshots on disk.
pub(crate) struct Persistence {
    dir: Arc<StateDir>,
    /// One snapshot of a plugin at a time, from its beginning to its file, so that a later one is
    /// never overwritten by an earlier. No plugin waits for the snapshot of another, which may
    /// never return.
    pub(in crate::plugin) locks: Arc<KeyedLock>,
    pub(crate) troubles: Troubles,
    /// When the newest snapshot of a plugin was asked for, of those that this host has written. By
    /// plugin.
    asked: Lock<HashMap<Arc<str>, Instant>>,
}

/// The only place where a snapshot can come from when there is no live generation.
pub(crate) struct KeptSnapshot {
    pub(crate) snapshot: Snapshot,
    pub(crate) path: PathBuf,
    pub(crate) place: SnapshotPlace,
    pub(crate) written: SystemTime,
    /// Why it is not the newest, if it is not.
    pub(crate) fallback: Option<String>,
}

impl KeptSnapshot {
    fn new(kept: KeptState) -> Self {
        let KeptState { version, bytes, plugin_version, written, path, place, fallback } = kept;
        let bytes = Payload::from_json_bytes(bytes);
        let snapshot = Snapshot { by: Some(plugin_version), ..Snapshot::new(version, bytes) };
        KeptSnapshot { snapshot, path, place, written, fallback }
    }

    /// The same, if a version of the plugin restores it.
    pub(crate) fn for_version(
        self,
        plugin: &str,
        restores: &StateManifest,
    ) -> Result<Self, PersistError> {
        let found = self.snapshot.version;
        if restores.restores.contains(&found) {
            return Ok(self);
        }
        let (path, restores) = (self.path, restores.restores.clone());
        let by = self.snapshot.by.unwrap_or_default();
        Err(PersistError::Version { plugin: plugin.to_owned(), path, found, by, restores })
    }
}

impl Persistence {
    pub(crate) fn new(dir: StateDir, announcer: Announcer) -> Self {
        let troubles = Troubles::new(announcer);
        Persistence { dir: Arc::new(dir), locks: Arc::default(), troubles, asked: Lock::default() }
    }

    /// The last complete snapshot of a plugin, beyond those that were tried.
    pub(crate) async fn load(
        &self,
        plugin: &str,
        tried: &[SnapshotPlace],
    ) -> Result<Option<KeptSnapshot>, PersistError> {
        let (dir, name, tried) = (self.dir.clone(), plugin.to_owned(), tried.to_owned());
        let kept = on_files(move || dir.load_beyond(&name, &tried)).await??;
        Ok(kept.map(KeptSnapshot::new))
    }

    /// One of the snapshots of a plugin.
    pub(crate) async fn load_from(
        &self,
        plugin: &str,
        place: SnapshotPlace,
    ) -> Result<KeptSnapshot, PersistError> {
        let (dir, name) = (self.dir.clone(), plugin.to_owned());
        let kept = on_files(move || dir.load_from(&name, place)).await??;
        Ok(KeptSnapshot::new(kept))
    }

    /// All that is kept, of one plugin or of all.
    pub(crate) async fn list(&self, plugin: Option<&str>) -> Result<Vec<Listed>, PersistError> {
        let (dir, name) = (self.dir.clone(), plugin.map(str::to_owned));
        Ok(on_files(move || dir.list(name.as_deref())).await??)
    }

    /// Keeps a snapshot aside that is given up for another one. Which one it is then.
    pub(crate) async fn store_aside(
        &self,
        info: &GenerationInfo,
        snapshot: Snapshot,
    ) -> Result<SnapshotPlace, PersistError> {
        let _lock = self.locks.lock(LockKey::Plugin(info.plugin.clone())).await;
        self.work(info, snapshot, |dir, name, state| dir.store_aside(name, state)).await
    }

    /// Sets a kept snapshot aside, if it is there. Which one it is then.
    pub(crate) async fn set_aside(
        &self,
        plugin: &str,
        place: SnapshotPlace,
    ) -> Result<Option<SnapshotPlace>, PersistError> {
        let _lock = self.locks.lock(LockKey::Plugin(plugin.into())).await;
        let (dir, name) = (self.dir.clone(), plugin.to_owned());
        Ok(on_files(move || dir.set_aside(&name, place)).await??)
    }

    /// Copies the newest kept snapshot aside if it was written after this moment. Nothing goes for
    /// it until it is settled whether it stays.
    pub(crate) async fn copy_aside_since(
        &self,
        plugin: &str,
        since: SystemTime,
    ) -> Option<SnapshotPlace> {
        self.kept(plugin).filter(|kept| kept.written > since)?;
        let _lock = self.locks.lock(LockKey::Plugin(plugin.into())).await;
        let (dir, name) = (self.dir.clone(), plugin.to_owned());
        let copied = on_files(move || dir.copy_aside(&name)).await;
        match copied.and_then(|copied| copied.map_err(PersistError::from)) {
            Ok(aside) => Some(aside),
            Err(error) => {
                tracing::error!(plugin, "its newest snapshot is not kept aside: {error}");
                None
            }
        }
    }

    /// Settles what becomes of a copy that was made with
    /// [`copy_aside_since`](Self::copy_aside_since).
    pub(crate) async fn settle_copy(&self, plugin: &str, copy: SnapshotPlace, stays: bool) {
        let _lock = self.locks.lock(LockKey::Plugin(plugin.into())).await;
        let (dir, name) = (self.dir.clone(), plugin.to_owned());
        let settled = on_files(move || dir.settle_copy(&name, copy, stays)).await;
        if let Err(error) = settled.and_then(|settled| settled.map_err(PersistError::from)) {
            tracing::warn!(plugin, "the snapshots that are kept aside are not cleared up: {error}");
        }
    }

    /// Makes one of the kept snapshots the newest, and sets the newest until now aside. Where that
    /// is then.
    pub(crate) async fn make_newest(
        &self,
        plugin: &str,
        kept: KeptSnapshot,
    ) -> Result<Option<SnapshotPlace>, PersistError> {
        let _lock = self.locks.lock(LockKey::Plugin(plugin.into())).await;
        let (dir, name) = (self.dir.clone(), plugin.to_owned());
        let made = on_files(move || {
            let Snapshot { version, bytes, by, .. } = &kept.snapshot;
            let plugin_version = by.as_deref().unwrap_or_default();
            let state = NewState { version: *version, bytes: bytes.as_json(), plugin_version };
            match kept.place {
                SnapshotPlace::Snapshot => dir.store(&name, &state).map(|_| None),
                _ => dir.replace_newest(&name, &state),
            }
        });
        Ok(made.await??)
    }

    /// Removes kept snapshots of a plugin. Those that were there.
    pub(crate) async fn remove(
        &self,
        plugin: &str,
        places: Vec<SnapshotPlace>,
    ) -> Result<Vec<SnapshotPlace>, PersistError> {
        let _lock = self.locks.lock(LockKey::Plugin(plugin.into())).await;
        let (dir, name) = (self.dir.clone(), plugin.to_owned());
        let removed = on_files(move || {
            let mut removed = Vec::new();
            for place in places {
                if dir.remove(&name, place)? {
                    removed.push(place);
                }
            }
            Ok::<_, KeptStateError>(removed)
        });
        Ok(removed.await??)
    }

    /// Whether this host has kept a snapshot of a plugin that knows more than one which was asked
    /// for at this moment.
    pub(crate) fn knows_more_than(&self, plugin: &str, asked: Instant) -> bool {
        let kept = self.asked.lock().get(plugin).copied();
        self.kept(plugin).is_some() && kept.is_some_and(|kept| kept > asked)
    }

    /// What is kept of a plugin, as far as that is known without a look at files.
    pub(crate) fn kept(&self, plugin: &str) -> Option<NewestSnapshot> {
        self.dir.last(plugin)
    }

    /// Keeps the last state of an instance that is not there any more, if it gave it.
    pub(in crate::plugin) async fn keep_released(
        &self,
        info: &GenerationInfo,
        snapshot: Option<Snapshot>,
        after: Duration,
    ) {
        if info.writes().is_none() {
            return;
        }
        let stored = async {
            let Some(snapshot) = snapshot else {
                let reason = "it was released without one".to_owned();
                return Err(StateError::Snapshot { reason }.into());
            };
            let _lock = self.locks.lock(LockKey::Plugin(info.plugin.clone())).await;
            self.store(info, snapshot).await
        };
        let stored = timeout(after, stored).await;
        self.note(info, stored.unwrap_or(Err(PersistError::NotWritten { after })), true);
    }

    async fn store(&self, info: &GenerationInfo, snapshot: Snapshot) -> Result<(), PersistError> {
        let asked = snapshot.asked;
        self.work(info, snapshot, |dir, name, state| dir.store(name, state).map(drop)).await?;
        self.asked.lock().insert(info.plugin.clone(), asked);
        Ok(())
    }

    /// Works with files for a snapshot of this generation, or one that it was restored from.
    pub(in crate::plugin) async fn work<T: Send + 'static>(
        &self,
        info: &GenerationInfo,
        snapshot: Snapshot,
        work: impl FnOnce(&StateDir, &str, &NewState<'_>) -> Result<T, KeptStateError> + Send + 'static,
    ) -> Result<T, PersistError> {
        let (dir, name) = (self.dir.clone(), info.plugin.clone());
        let plugin_version = snapshot.by.clone();
        let plugin_version = plugin_version.unwrap_or_else(|| info.manifest.version.clone());
        let worked = on_files(move || {
            let bytes = snapshot.bytes.as_json();
            let state =
                NewState { version: snapshot.version, bytes, plugin_version: &plugin_version };
            work(&dir, &name, &state)
        });
        Ok(worked.await??)
    }

    /// Keeps what a live generation has now. `is_live` says whether it still is that. Whether it
    /// has answered.
    pub(in crate::plugin) async fn keep_live(
        &self,
        workers: &Workers,
        info: &GenerationInfo,
        live: &Weak<dyn LiveInstance>,
        is_live: impl FnOnce() -> bool,
    ) -> bool {
        let Some(version) = info.writes() else { return true };
        let lock = self.locks.lock(LockKey::Plugin(info.plugin.clone()));
        // Whoever has it for longer has a snapshot that does not return, and says so.
        let Ok(_lock) = timeout(LIMIT, lock).await else { return true };
        // If it went while it waited for its lock, whoever lets it go keeps what it had, or the
        // next generation has that. A call that does not return may still hold it.
        let Some(live) = live.upgrade().filter(|_| is_live()) else { return true };
        let stored = match snapshot::snapshot_to_keep(workers, live, version, LIMIT).await {
            Ok(snapshot) => self.store(info, snapshot).await,
            Err(error) => Err(error.into()),
        };
        let answered = !matches!(stored, Err(PersistError::State(StateError::TimedOut { .. })));
        self.note(info, stored, false);
        answered
    }

    /// Notes whether the state of a generation was kept.
    fn note(&self, info: &GenerationInfo, stored: Result<(), PersistError>, last: bool) {
        match stored {
            Ok(()) => self.troubles.kept(info),
            Err(error) => self.troubles.not_kept(info, &error, last),
        }
    }

    /// A generation did not come to its last snapshot, and the host does not wait any longer.
    pub(crate) fn gave_up(&self, info: &GenerationInfo) {
        if info.writes().is_some() {
            let running = info.running();
            self.troubles.not_kept(info, &PersistError::NotInTime { running }, true);
        }
    }

    /// Keeps what a generation has at its end, and gives its instance back. No call of it runs any
    /// more.
    pub(crate) async fn keep_last(
        &self,
        router: &Router,
        info: &GenerationInfo,
        instance: Box<dyn Body>,
    ) -> Box<dyn Body> {
        let Some(version) = info.writes() else { return instance };
        let lock = self.locks.lock(LockKey::Plugin(info.plugin.clone())).await;
        let runtime = router.runtime().clone();
        let mut task = router.workers().spawn_life_cycle(async move {
            let snapshot = snapshot::proved_snapshot_of(&*instance, version);
            let timed = {
                let _inside = runtime.enter();
                timeout(LIMIT, snapshot)
            };
            let taken = timed.await;
            (instance, taken)
        });
        let (instance, taken) = match timeout(LIMIT + GRACE, &mut task).await {
            Ok(ended) => ended,
            Err(_) => {
                let late = StateError::TimedOut { step: "snapshot", after: LIMIT };
                self.note(info, Err(late.into()), true);
                // What it gives much later is older than what others have kept by then.
                drop(lock);
                let (instance, _) = task.await;
                return instance;
            }
        };
        let stored = match taken {
            Ok(Ok(snapshot)) => self.store(info, snapshot).await,
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(StateError::TimedOut { step: "snapshot", after: LIMIT }.into()),
        };
        self.note(info, stored, true);
        instance
    }
}

/// Works with files where that may take as long as it likes.
async fn on_files<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PersistError> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|error| PersistError::NotDone(io::Error::other(error)))
}

#[cfg(test)]
mod tests;
