//! Watching plugin folders for candidates that have settled.
//!
//! Folders are watched and not files, because builds and deployments replace files. The operating
//! system's notifications make this fast; a listing of each folder once a second makes it certain:
//! it repairs lost notifications, file systems that send none, and folders that come late, go away
//! or are replaced. Both only ever lead to a look at the file; what was last reported of it decides
//! whether there is a change.
//!
//! A change that is told of and not yet taken by the receiver waits here, one for each path, the
//! latest: a slow receiver misses intermediate states and never the last one, and it may hear of
//! the removal of a file whose arrival it was never told of.
//!
//! Nothing here reads a file's content, but for the one that makes a folder a plugin.

mod folder;
mod look;
mod news;
mod passed_over;
mod settling;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use folder::{WatchedFolder, is_candidate};
use look::Look;
use news::{Board, Hint, News};
use settling::Settling;

/// How many changes lie in the channel; further ones wait in the watch, one for each path.
const CAPACITY: usize = 64;
/// How often each folder is listed.
const RESCAN: Duration = Duration::from_secs(1);

/// What became of a candidate. The paths are absolute, each one a watched folder and a file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The file is there, new or changed, and complete as far as can be told from outside. It may
    /// be unreadable: then copying it tells why.
    Settled(PathBuf),
    /// The file is gone, and nothing has taken its place.
    Removed(PathBuf),
}

/// Why folders cannot be watched at all. Trouble with one folder is logged and retried instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// A relative folder, and no current directory, or no path at all.
    #[error("the plugin folder {folder:?} cannot be made absolute: {source}")]
    Folder {
        /// The folder as it was given.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The watch is a task, and there is nothing to run it.
    #[error("folders can be watched only from within a tokio runtime: {0}")]
    NoRuntime(#[from] tokio::runtime::TryCurrentError),
}

/// A running watch over plugin folders; dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct FolderWatch {
    found: Vec<PathBuf>,
    board: Arc<Board>,
    task: AbortHandle,
}

impl FolderWatch {
    /// Starts to watch `folders`, which need not exist yet, and notes which candidates are there.
    ///
    /// Those are [`found`](Self::found) and not sent as changes; whatever happens to them from here
    /// on is. The channel ends when the watch does.
    ///
    /// # Errors
    /// When a folder's path cannot be made absolute, or outside of a tokio runtime.
    pub(crate) fn start(
        folders: Vec<PathBuf>,
    ) -> Result<(FolderWatch, mpsc::Receiver<Change>), WatchError> {
        FolderWatch::start_with(folders, RESCAN)
    }

    fn start_with(
        folders: Vec<PathBuf>,
        rescan: Duration,
    ) -> Result<(FolderWatch, mpsc::Receiver<Change>), WatchError> {
        let runtime = tokio::runtime::Handle::try_current()?;
        let mut absolute: Vec<PathBuf> = Vec::with_capacity(folders.len());
        for folder in folders {
            match std::path::absolute(&folder) {
                Ok(path) if absolute.contains(&path) => {}
                Ok(path) => absolute.push(path),
                Err(source) => return Err(WatchError::Folder { folder, source }),
            }
        }
        let board = Arc::new(Board::default());
        let mut watching = Watching::new(absolute, rescan, &board);
        let found = watching.first_look();
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let task = runtime.spawn(run(watching, Arc::clone(&board), sender)).abort_handle();
        Ok((FolderWatch { found, board, task }, receiver))
    }

    /// The candidates that were there at the start, folder by folder, each sorted by file name.
    pub(crate) fn found(&self) -> &[PathBuf] {
        &self.found
    }

    /// Asks for `path` to be sent once more when it stands still, whether it changes or not: for a
    /// candidate that changed while it was copied.
    pub(crate) fn settle_again(&self, path: PathBuf) {
        self.board.post(|news| news.settle_again(path));
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(mut watching: Watching, board: Arc<Board>, sender: mpsc::Sender<Change>) {
    let mut unsent = Unsent::default();
    loop {
        tokio::select! {
            permit = sender.reserve(), if !unsent.is_empty() => {
                match (permit, unsent.pop()) {
                    (Ok(permit), Some(change)) => permit.send(change),
                    _ => return,
                }
                continue;
            }
            () = board.posted() => {}
            () = tokio::time::sleep_until(watching.next_look()) => {}
            () = sender.closed() => return,
        }
        let (news, now) = (board.take(), Instant::now());
        // Looking at files blocks, on a network file system for as long as that likes.
        let look = tokio::task::spawn_blocking(move || {
            let changes = watching.look(news, now);
            (watching, changes)
        });
        let changes = match look.await {
            Ok((back, changes)) => {
                watching = back;
                changes
            }
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "the watch over the plugin folders has ended");
                }
                return;
            }
        };
        changes.into_iter().for_each(|change| unsent.push(change));
    }
}

/// Changes on their way to the receiver: one for each path, the latest, in the order of the first.
#[derive(Default)]
struct Unsent {
    order: VecDeque<PathBuf>,
    latest: HashMap<PathBuf, Change>,
}

impl Unsent {
    fn push(&mut self, change: Change) {
        let (Change::Settled(path) | Change::Removed(path)) = &change;
        let path = path.clone();
        if self.latest.insert(path.clone(), change).is_none() {
            self.order.push_back(path);
        }
    }

    fn pop(&mut self) -> Option<Change> {
        self.latest.remove(&self.order.pop_front()?)
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// What the watch knows, and its way to the file system.
struct Watching {
    folders: Vec<WatchedFolder>,
    notifier: Option<notify::RecommendedWatcher>,
    settling: Settling,
    rescan: Duration,
    next_rescan: Instant,
}

impl Watching {
    fn new(folders: Vec<PathBuf>, rescan: Duration, board: &Arc<Board>) -> Watching {
        let notifier = match news::notifier(folders.clone(), Arc::clone(board)) {
            Ok(notifier) => Some(notifier),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "no notifications from the file system: changes are noticed within a second"
                );
                None
            }
        };
        Watching {
            folders: folders.into_iter().map(WatchedFolder::new).collect(),
            notifier,
            settling: Settling::default(),
            rescan,
            next_rescan: Instant::now() + rescan,
        }
    }

    fn first_look(&mut self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let watched = self.watched();
        for folder in &mut self.folders {
            folder.tell_what_is_passed_over(&watched);
            for path in folder.scan(self.notifier.as_mut()).unwrap_or_default() {
                self.settling.accept(path.clone(), Look::at(&path));
                found.push(path);
            }
        }
        found
    }

    fn watched(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|folder| folder.path().to_owned()).collect()
    }

    /// When to look next, if nothing is posted before.
    fn next_look(&self) -> Instant {
        self.settling.next_due().map_or(self.next_rescan, |due| due.min(self.next_rescan))
    }

    fn look(&mut self, news: News, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for path in news.again {
            self.settling.forget(path.clone());
            self.look_at(path, Hint::Seen, now, &mut changes);
        }
        for (path, hint) in news.hints {
            // Whoever notes them looks at no file.
            if is_candidate(&path) || self.settling.knows(&path) {
                self.look_at(path, hint, now, &mut changes);
            }
        }

        let all = news.rescan || now >= self.next_rescan;
        if all {
            self.next_rescan = now + self.rescan;
        }
        let watched = self.watched();
        for folder in &mut self.folders {
            let stale = news.folders.contains(folder.path());
            if stale {
                folder.disarm(self.notifier.as_mut());
            }
            if !(all || stale) {
                continue;
            }
            folder.tell_what_is_passed_over(&watched);
            let Some(mut paths) = folder.scan(self.notifier.as_mut()) else { continue };
            paths.extend(self.settling.known_in(folder.path()));
            paths.sort_unstable();
            paths.dedup();
            for path in paths {
                let look = Look::at(&path);
                changes.extend(self.settling.observe(path, look, Hint::Seen, now));
            }
        }
        changes.extend(self.settling.settle(now, Look::at));
        changes
    }

    fn look_at(&mut self, path: PathBuf, hint: Hint, now: Instant, changes: &mut Vec<Change>) {
        let look = Look::at(&path);
        changes.extend(self.settling.observe(path, look, hint, now));
    }
}

#[cfg(test)]
mod tests;
