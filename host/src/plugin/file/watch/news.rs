//! What the file system tells, noted until the watch looks.
//!
//! The notifier's thread must never wait: it also answers the watch's own requests. So notes are
//! merged, one for each path, and when there are too many they are replaced by the wish for a
//! rescan.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Config, RecommendedWatcher, Watcher};

use crate::plugin::file::{copy::is_left_out, kind::FileKind};
use crate::sync::Lock;

/// How many paths are noted before a rescan takes their place.
const MAX_NOTES: usize = 4096;

/// What is known of a file beyond its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// Nothing: there is reason to look.
    Seen,
    /// Something else bears this name now.
    Fresh,
    /// Somebody has it open and writes to it.
    Written,
    /// Its writer has closed it, or it came here whole, by a rename.
    Complete,
}

/// Everything noted since the last look.
#[derive(Debug, Default)]
pub(super) struct News {
    /// What may be candidates, by their names, with something new, in the order of these.
    pub(super) hints: BTreeMap<PathBuf, Hint>,
    /// Files to be sent again.
    pub(super) again: HashSet<PathBuf>,
    /// Folders that were themselves removed, replaced or changed.
    pub(super) folders: HashSet<PathBuf>,
    /// Notifications were lost.
    pub(super) rescan: bool,
}

impl News {
    pub(super) fn settle_again(&mut self, path: PathBuf) {
        self.again.insert(path);
    }

    fn note(&mut self, path: &Path, hint: Hint) {
        if let Some(before) = self.hints.get_mut(path) {
            if hint != Hint::Seen {
                *before = hint;
            }
            return;
        }
        if self.hints.len() >= MAX_NOTES {
            self.hints.clear();
            self.rescan = true;
        }
        self.hints.insert(path.to_owned(), hint);
    }

    /// Notes what `event` means for `folders`, and returns whether that is anything.
    fn take_in(&mut self, event: &notify::Event, folders: &[PathBuf]) -> bool {
        self.rescan |= event.need_rescan();
        let Some(hint) = hint(event.kind) else { return event.need_rescan() };
        let mut any = event.need_rescan();
        for path in &event.paths {
            if folders.contains(path) {
                self.folders.insert(path.clone());
                any = true;
            } else if FileKind::by_name(path).is_some()
                && folders.iter().any(|f| path.parent() == Some(f))
            {
                self.note(path, hint);
                any = true;
            } else if let Some(plugin) = plugin_around(path, folders) {
                // One file of it that is complete says nothing of the others.
                let hint = if hint == Hint::Complete { Hint::Fresh } else { hint };
                self.note(&plugin, hint);
                any = true;
            }
        }
        any
    }
}

/// The folder that this is part of, which may be a plugin.
fn plugin_around(path: &Path, folders: &[PathBuf]) -> Option<PathBuf> {
    let (folder, below) =
        folders.iter().find_map(|folder| Some((folder, path.strip_prefix(folder).ok()?)))?;
    let mut parts = below.components();
    let plugin = folder.join(parts.next()?);
    let mut within = parts.map(|part| part.as_os_str()).peekable();
    let counts = within.peek().is_some() && !within.any(is_left_out);
    (counts && FileKind::by_name(&plugin) == Some(FileKind::Folder)).then_some(plugin)
}

/// `None` for what is no change. Opening a file to read it is one of these: the host does so
/// itself.
fn hint(kind: EventKind) -> Option<Hint> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Hint::Complete),
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Some(Hint::Complete),
        // Follows a `From` and a `To` of its own, and says nothing more.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => Some(Hint::Seen),
        EventKind::Modify(ModifyKind::Data(_)) => Some(Hint::Written),
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Create(_) | EventKind::Remove(_) => {
            Some(Hint::Fresh)
        }
        EventKind::Modify(_) | EventKind::Any | EventKind::Other => Some(Hint::Seen),
    }
}

/// Where the notifier's thread leaves news for the watch.
#[derive(Debug, Default)]
pub(super) struct Board {
    news: Lock<News>,
    posted: tokio::sync::Notify,
}

impl Board {
    pub(super) fn post(&self, note: impl FnOnce(&mut News)) {
        self.post_if(|news| {
            note(news);
            true
        });
    }

    fn post_if(&self, note: impl FnOnce(&mut News) -> bool) {
        // News is valid after every single change to it, so a panic elsewhere has done it no harm.
        if note(&mut self.news.lock()) {
            self.posted.notify_one();
        }
    }

    /// Resolves when something was posted since the last time.
    pub(super) async fn posted(&self) {
        self.posted.notified().await;
    }

    pub(super) fn take(&self) -> News {
        std::mem::take(&mut self.news.lock())
    }
}

/// A notifier that posts to `board` what concerns `folders`; it watches nothing yet.
pub(super) fn notifier(
    folders: Vec<PathBuf>,
    board: Arc<Board>,
) -> notify::Result<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| match event {
        Ok(event) => board.post_if(|news| news.take_in(&event, &folders)),
        Err(error) => {
            tracing::debug!(%error, "the file system's notifications have a gap; listing the folders");
            board.post(|news| news.rescan = true);
        }
    };
    RecommendedWatcher::new(handler, Config::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_merged_and_too_many_become_a_rescan() {
        let mut news = News::default();
        let path = |n: usize| PathBuf::from(format!("{n}.so"));
        for (hint, noted) in [
            (Hint::Fresh, Hint::Fresh),
            (Hint::Written, Hint::Written),
            (Hint::Complete, Hint::Complete),
            (Hint::Seen, Hint::Complete),
            (Hint::Written, Hint::Written),
        ] {
            news.note(&path(0), hint);
            assert_eq!(news.hints[&path(0)], noted);
        }
        (0..MAX_NOTES).for_each(|n| news.note(&path(n), Hint::Complete));
        assert!(!news.rescan && news.hints.len() == MAX_NOTES);
        news.note(&path(MAX_NOTES), Hint::Complete);
        assert!(news.rescan && news.hints.len() == 1);
    }
}
