//! Following the configuration file: what is changed in it is taken without anybody asking.
//!
//! It is looked at once a second, and not by notifications of the file system: of a file that is a
//! link, or is put in place by a link above it, or lies on another machine, those say nothing. A
//! look that finds another file is followed by others until two are alike, so that nothing is read
//! that is being written.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use super::Core;
use crate::{history, stopping::StopStage};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// For how long it has to stand still.
const SETTLED: Duration = Duration::from_millis(200);
/// How often it may turn out not to; then it is read as it is.
const RESTLESS: usize = 25;

/// What is another one when the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing is there, or it cannot be looked at.
    Nothing,
    File {
        place: (u64, u64),
        length: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
}

impl Seen {
    /// By the way to it, whatever links are on that.
    pub(super) fn at(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(found) => Seen::File {
                place: (found.dev(), found.ino()),
                length: found.len(),
                modified: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            },
            Err(_) => Seen::Nothing,
        }
    }

    /// The same from where it may block, as a look at a server that is gone does.
    pub(super) async fn of(path: PathBuf) -> Option<Self> {
        tokio::task::spawn_blocking(move || Seen::at(&path)).await.ok()
    }
}

impl Core {
    /// Follows the configuration file from now on, if the host was started with one that is to be
    /// followed, until the host stops.
    pub(crate) fn follow_config(self: &Arc<Self>) {
        let Some(file) = self.settings.file.clone().filter(|_| self.settings.is_followed) else {
            return;
        };
        let following = follow(Arc::downgrade(self), file);
        self.supervisor.thread.runtime().spawn(following);
    }
}

async fn follow(core: Weak<Core>, file: PathBuf) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(found) = Seen::of(file.clone()).await else { return };
        {
            let Some(core) = core.upgrade() else { return };
            if core.stop.stage() != StopStage::Running {
                return;
            }
            if core.settings.seen() == found {
                continue;
            }
        }
        let mut found = found;
        for _ in 0..RESTLESS {
            tokio::time::sleep(SETTLED).await;
            match Seen::of(file.clone()).await {
                Some(again) if again == found => break,
                Some(again) => found = again,
                None => return,
            }
        }
        let Some(core) = core.upgrade() else { return };
        // What becomes of it is logged.
        let _ = core.reload_config(&history::CONFIGURATION).await;
    }
}
