//! What the plugin folders say, as transactions of the supervisor.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{
    supervisor::Supervisor,
    turns::Turn,
    watch::{Change, FolderWatch},
};

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

    /// Copies, reads and probes all at once; initializes one after the other, by file name.
    async fn load_all(self: &Arc<Self>, files: Vec<PathBuf>) {
        let preparing: Vec<_> = files
            .into_iter()
            .map(|file| {
                let supervisor = self.clone();
                tokio::spawn(async move {
                    let prepared = supervisor.prepare(&file, false).await;
                    (file, prepared)
                })
            })
            .collect();
        for prepared in preparing {
            match prepared.await {
                Ok((file, prepared)) => {
                    let _turn = self.turns.take(Turn::File(file.clone())).await;
                    let deployed = match prepared {
                        Ok(prepared) => self.finish(prepared).await,
                        Err(error) => Err(error),
                    };
                    // What went wrong is written down, logged and announced by then.
                    let _ = self.note(&file, deployed);
                }
                Err(error) => tracing::error!(%error, "a plugin file could not be prepared"),
            }
        }
    }

    async fn file_settled(self: &Arc<Self>, file: &Path) {
        let deployed = self.deploy(file, false).await;
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
            registry.live_of(file)
        };
        if let Some(live) = live {
            // If it is not live any more, it was replaced from another file, as by a rename.
            let _ = self.take_out(&live.0, Some(live.1), "its file was removed").await;
        }
    }
}
