//! What the plugin folders say, as transactions of the supervisor.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    deploy_error::DeployError,
    requirements::missing,
    setback::Why,
    supervisor::Supervisor,
    transaction::{Origin, Prepared},
    turns::Turn,
    watch::{Change, FolderWatch},
};

/// How long a plugin whose file is gone stays for the sake of other files that are being tried: one of them may be it.
/// Behind its probe, such a file is waited for in any case.
const RENAMED: Duration = Duration::from_secs(2);

impl Supervisor {
    /// Loads what is in the folders, then follows their changes until the host stops.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        folders: FolderWatch,
        mut changes: mpsc::Receiver<Change>,
    ) {
        let found = folders.found().to_vec();
        *self.watch() = Some(folders);
        self.load_all(found).await;
        // The task ends with the watch, which belongs to the supervisor.
        let supervisor = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let change = changes.recv().await;
                let Some(supervisor) = supervisor.upgrade() else { return };
                match change {
                    // Each in its own task: a file that is slow to start holds up no other. Changes of one file wait
                    // for their turn, and a change whose content is live already is no work.
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

    /// Copies, reads and probes all at once; initializes one after the other, by file name, but none before those that
    /// handle what it requires.
    async fn load_all(self: &Arc<Self>, files: Vec<PathBuf>) {
        let preparing: Vec<_> = files
            .into_iter()
            .map(|file| {
                let supervisor = self.clone();
                tokio::spawn(async move {
                    let prepared = supervisor.prepare(&file, Why::Found).await;
                    (file, prepared)
                })
            })
            .collect();
        let mut waiting = Vec::new();
        for prepared in preparing {
            match prepared.await {
                Ok((file, prepared)) if self.misses_somebody(&prepared) => {
                    waiting.push((file, prepared));
                }
                Ok((file, prepared)) => self.start(&file, prepared).await,
                Err(error) => tracing::error!(%error, "a plugin file could not be prepared"),
            }
        }
        loop {
            let next = waiting.iter().position(|(_, prepared)| !self.misses_somebody(prepared));
            // When none of them can start, each is told what it misses.
            let Some(next) = next.or((!waiting.is_empty()).then_some(0)) else { return };
            let (file, prepared) = waiting.remove(next);
            self.start(&file, prepared).await;
        }
    }

    fn misses_somebody(&self, prepared: &Result<Prepared, DeployError>) -> bool {
        match prepared {
            Ok(Prepared::Candidate(candidate)) => {
                !missing(&candidate.manifest, &self.router.table()).is_empty()
            }
            Ok(Prepared::Unchanged(_)) | Err(_) => false,
        }
    }

    async fn start(self: &Arc<Self>, file: &Path, prepared: Result<Prepared, DeployError>) {
        let _turn = self.turns.take(Turn::File(file.to_owned())).await;
        let deployed = match prepared {
            Ok(prepared) => self.finish(prepared, Origin::File).await,
            Err(error) => Err(error),
        };
        // What went wrong is written down, logged and announced by then.
        let _ = self.note(file, deployed);
    }

    async fn file_settled(self: &Arc<Self>, file: &Path) {
        let deployed = self.deploy(file, Why::Changed).await;
        let _ = self.note(file, deployed);
    }

    async fn file_removed(self: &Arc<Self>, file: &Path) {
        let _turn = self.turns.take(Turn::File(file.to_owned())).await;
        if std::fs::symlink_metadata(file).is_ok() {
            // It is back already, and that change may have had its turn before this one.
            return;
        }
        let live = {
            let mut registry = self.registry();
            registry.refused.remove(file);
            registry.waiting.remove(file);
            registry.setbacks.forget(file);
            registry.live_of(file)
        };
        if let Some(live) = live {
            // A rename is told as a new file first. If that is this plugin, it takes over, with the state.
            let _ = tokio::time::timeout(RENAMED, self.tries.none()).await;
            // If it is not live any more, it was replaced from another file, as by a rename.
            let _ = self.take_out(&live.0, Some(live.1), "its file was removed").await;
        }
    }
}
