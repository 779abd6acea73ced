//! What the plugin folders say, as deployments of the supervisor.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ksi_kernel::lock::Lock;
use tokio::sync::{Semaphore, mpsc};

use super::{
    Supervisor,
    kept_good::GoodVersion,
    origin::{Attempt, Found, Origin, Prepared},
    retry::DeployReason,
};
use crate::{
    history::{FOLDER, START},
    plugin::{
        file::{
            manifest::Manifest,
            watch::{Change, FolderWatch},
        },
        lifecycle::{error::DeployError, requirements::missing},
    },
    sync::keyed_lock::LockKey,
};

/// How long a plugin whose file is gone stays for the sake of other files that are being tried: one
/// of them may be it. Behind its probe, such a file is waited for in any case.
const RENAMED: Duration = Duration::from_secs(2);

/// Libraries that are opened while others are initialized.
struct Opening {
    /// Bounds how many are opened at a time.
    places: Semaphore,
    /// The plugins that they are.
    names: Lock<BTreeSet<String>>,
}

impl Default for Opening {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Opening { places: Semaphore::new(cores), names: Lock::default() }
    }
}

impl Opening {
    fn is_first(&self, name: &str) -> bool {
        self.names.lock().insert(name.to_owned())
    }
}

/// A file that is to be started, or what is kept for it.
struct Starting {
    file: PathBuf,
    attempt: Attempt,
    prepared: Result<Prepared, DeployError>,
    /// If this is what is kept for the file, which is quarantined.
    stand_in: Option<GoodVersion>,
}

impl Supervisor {
    /// Loads what is in the folders, then follows their changes until the host stops. Returns when
    /// all are loaded, or when the host is to stop.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        folders: FolderWatch,
        mut changes: mpsc::Receiver<Change>,
    ) {
        let found = folders.found().to_vec();
        *self.watch() = Some(folders);
        let supervisor = self.clone();
        let loading = tokio::spawn(async move { supervisor.load_all(found).await });
        tokio::select! {
            biased;
            loaded = loading => if let Err(error) = loaded {
                tracing::error!(%error, "not every plugin file was loaded");
            },
            // What is on its way finds that out by itself, and lets go of what it has.
            () = self.stop.requested() => return,
        }
        self.sweep_good().await;
        // The task ends with the watch, which belongs to the supervisor.
        let supervisor = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let change = changes.recv().await;
                let Some(supervisor) = supervisor.upgrade() else { return };
                match change {
                    // Each in its own task: a file that is slow to start holds up no other. Changes
                    // of one file wait for their lock, and a change whose content is live already
                    // is no work.
                    Some(Change::Settled(file)) => {
                        tokio::spawn(async move { supervisor.file_settled(&file).await });
                    }
                    Some(Change::Removed(file)) => {
                        tokio::spawn(async move { supervisor.file_removed(&file).await });
                    }
                    None => return,
                }
            }
        });
    }

    /// Copies, reads, probes and opens as many at once as there are cores for; initializes one
    /// after the other, by file name, but none before those that handle what it requires. A file
    /// whose packages are still to be installed is not waited for.
    async fn load_all(self: &Arc<Self>, files: Vec<PathBuf>) {
        let opening = Arc::new(Opening::default());
        let (all, mut done) = (files.len(), 0);
        let preparing: Vec<_> = files
            .into_iter()
            .map(|file| {
                let (supervisor, opening) = (self.clone(), opening.clone());
                let told = file.clone();
                let prepared = tokio::spawn(async move {
                    let attempt = Attempt::by(START);
                    let found = supervisor.look_into(&file, DeployReason::Found, &attempt).await;
                    let mut prepared = match found {
                        Ok(Found::New(examined)) if supervisor.preparation.installs(&examined) => {
                            return None;
                        }
                        Ok(Found::New(examined)) => supervisor.try_out(*examined).await,
                        Ok(Found::Unchanged(live)) => Ok(Prepared::Unchanged(live)),
                        Err(error) => Err(error),
                    };
                    let mut stand_in = None;
                    if let Err(DeployError::Quarantined { .. }) = prepared
                        && let Some((kept, instead)) = supervisor.prepare_kept_good(&file).await
                    {
                        (prepared, stand_in) = (instead, Some(kept));
                    }
                    let prepared = supervisor.open_ahead(prepared, &opening).await;
                    Some(Starting { file, attempt, prepared, stand_in })
                });
                (told, prepared)
            })
            .collect();
        let mut waiting = Vec::new();
        for (file, prepared) in preparing {
            self.start_up.loads(&file, done + 1, all);
            match prepared.await {
                Ok(Some(starting)) if self.misses_somebody(&starting.prepared) => {
                    waiting.push(starting);
                    continue;
                }
                Ok(Some(starting)) => self.start(starting).await,
                Ok(None) => self.start_later(file),
                Err(error) => tracing::error!(%error, "a plugin file could not be prepared"),
            }
            done += 1;
        }
        loop {
            let next = waiting.iter().position(|it| !self.misses_somebody(&it.prepared));
            // When none of them can start, each is told what it misses.
            let Some(next) = next.or((!waiting.is_empty()).then_some(0)) else { return };
            let starting = waiting.remove(next);
            done += 1;
            self.start_up.loads(&starting.file, done, all);
            self.start(starting).await;
        }
    }

    /// Opens a library before its plugin's turn comes to be initialized, unless it may well be that
    /// it is not: for want of others, or because another file is that plugin.
    async fn open_ahead(
        &self,
        prepared: Result<Prepared, DeployError>,
        opening: &Opening,
    ) -> Result<Prepared, DeployError> {
        let mut candidate = match prepared? {
            Prepared::Candidate(candidate) => candidate,
            unchanged => return Ok(unchanged),
        };
        let Manifest { name, requires, .. } = &candidate.manifest;
        if requires.is_empty() && opening.is_first(name) && self.ensure_running().is_ok() {
            // Never closed, so there is always a place to wait for.
            let _place = opening.places.acquire().await;
            candidate.residence = Some(self.activation.open(&mut candidate).await?);
        }
        Ok(Prepared::Candidate(candidate))
    }

    fn misses_somebody(&self, prepared: &Result<Prepared, DeployError>) -> bool {
        match prepared {
            Ok(Prepared::Candidate(candidate)) => {
                !missing(&candidate.manifest, &[], &self.router.subscribers()).is_empty()
            }
            Ok(Prepared::Unchanged(_)) | Err(_) => false,
        }
    }

    async fn start(self: &Arc<Self>, starting: Starting) {
        let Starting { file, attempt, prepared, stand_in } = starting;
        let _lock = self.locks.lock(LockKey::File(file.clone())).await;
        if let Some(stand_in) = stand_in {
            return self.start_stand_in(&file, stand_in, prepared, &START).await;
        }
        let deployed = match prepared {
            Ok(prepared) => self.finish(prepared, Origin::File(START)).await,
            Err(error) => Err(error),
        };
        // What went wrong is written down, logged and announced by then.
        let _ = self.note(&file, &attempt, deployed);
    }

    /// Starts a file while the host goes on without it.
    fn start_later(self: &Arc<Self>, file: PathBuf) {
        tracing::info!(file = %file.display(), "it is started once what it needs is installed");
        let supervisor = self.clone();
        tokio::spawn(async move {
            let attempt = Attempt::by(START);
            let deployed = supervisor.deploy(&file, DeployReason::Found, &attempt).await;
            supervisor.settle(&file, &attempt, deployed).await;
        });
    }

    async fn file_settled(self: &Arc<Self>, file: &Path) {
        let attempt = Attempt::by(FOLDER);
        let deployed = self.deploy(file, DeployReason::Changed, &attempt).await;
        self.settle(file, &attempt, deployed).await;
    }

    async fn file_removed(self: &Arc<Self>, file: &Path) {
        let lock = self.locks.lock(LockKey::File(file.to_owned())).await;
        if std::fs::symlink_metadata(file).is_ok() {
            // It is back already, and that change may have had its lock before this one.
            return;
        }
        let (live, others) = {
            let mut registry = self.registry();
            registry.refused.remove(file);
            registry.waiting.remove(file);
            registry.refuse_for(file, &[]);
            registry.retries.forget(file);
            (registry.live_of(file), registry.duplicates_of_last(file))
        };
        self.quarantine.forget_rollback(file);
        if let Some(live) = live {
            // A rename is told as a new file first. If that is this plugin, it takes over, with the
            // state.
            let _ = tokio::time::timeout(RENAMED, self.tries.wait()).await;
            // That takes the lock of another file: somebody may have that one and want this one.
            drop(lock);
            self.duplicate_takes_over(&live.0, file).await;
            let _lock = self.locks.lock(LockKey::File(file.to_owned())).await;
            if std::fs::symlink_metadata(file).is_ok() {
                return;
            }
            // If it is not live any more, it was replaced from another file, as by a rename.
            let _ = self.take_out(&live.0, Some(live.1), &FOLDER, "its file was removed").await;
        } else {
            self.settle_again(others);
        }
    }

    /// Of the files that were refused because `file` was the plugin `name`, the first one that can
    /// takes its place, with the state. If none can, the plugin is as it was.
    async fn duplicate_takes_over(self: &Arc<Self>, name: &str, file: &Path) {
        let duplicates = self.registry().duplicates_of(name);
        for duplicate in duplicates {
            let is_still_live =
                || self.registry().live_of(file).is_some_and(|(it, _)| *it == *name);
            if !is_still_live() {
                return;
            }
            let attempt = Attempt::by(FOLDER);
            let deployed = self.deploy(&duplicate, DeployReason::Found, &attempt).await;
            self.settle(&duplicate, &attempt, deployed).await;
        }
    }
}
