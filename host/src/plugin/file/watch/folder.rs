//! One watched folder: listing it, and keeping the notifications on the folder that bears its name
//! now.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::passed_over::PassedOver;
use crate::plugin::file::{copy::files, kind::FileKind};

/// How many folders that are passed over are named.
const NAMED: usize = 20;

/// The candidates in `folder`, sorted by file name.
///
/// # Errors
/// Those of reading a directory.
pub(super) fn candidates(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = folder.join(entry?.file_name());
        if is_candidate(&path) {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Whether a file of that name may be a plugin.
pub(super) fn is_candidate(path: &Path) -> bool {
    FileKind::of_candidate(path).is_some()
}

#[derive(Debug)]
pub(super) struct WatchedFolder {
    path: PathBuf,
    /// Device and inode of the folder that notifications come from.
    armed: Option<(u64, u64)>,
    /// The same of the folders below it that are part of plugins.
    within: BTreeMap<PathBuf, (u64, u64)>,
    /// What is wrong with it and was logged already.
    trouble: Option<String>,
    passed_over: PassedOver,
}

impl WatchedFolder {
    pub(super) fn new(path: PathBuf) -> WatchedFolder {
        let (within, passed_over) = (BTreeMap::new(), PassedOver::default());
        WatchedFolder { path, armed: None, within, trouble: None, passed_over }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells of folders in it that look as if somebody took what is in them for plugins.
    pub(super) fn tell_what_is_passed_over(&mut self, watched: &[PathBuf]) {
        let mut names = self.passed_over.new_in(&self.path, watched);
        if names.is_empty() {
            return;
        }
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        tracing::warn!(
            folder = %self.path.display(),
            "the modules in {}{more} below it are no plugins: name each of these folders as a folder of plugins \
             (host.plugin_dirs or --plugins), or give it a pyproject.toml with [tool.ksi] if it is one plugin",
            names.join(", ")
        );
    }

    /// Gives up the notifications, so that the next scan asks for them anew.
    pub(super) fn disarm(&mut self, notifier: Option<&mut RecommendedWatcher>) {
        self.armed = None;
        if let Some(notifier) = notifier {
            // It fails when the folder is gone, which ends its notifications as well.
            let _ = notifier.unwatch(&self.path);
            for (folder, _) in std::mem::take(&mut self.within) {
                let _ = notifier.unwatch(&folder);
            }
        }
    }

    /// Has notifications come from the folders that are part of plugins, and from no others below
    /// this one. Without them, a listing finds what has changed.
    fn watch_within(&mut self, candidates: &[PathBuf], notifier: &mut RecommendedWatcher) {
        let mut wanted = BTreeMap::new();
        for plugin in candidates.iter().filter(|it| it.is_dir()) {
            let files = files(plugin).unwrap_or_default();
            let folders = files.iter().filter_map(|file| Some(plugin.join(file.parent()?)));
            for folder in folders.chain([plugin.clone()]) {
                if let Ok(found) = fs::metadata(&folder) {
                    wanted.insert(folder, (found.dev(), found.ino()));
                }
            }
        }
        for (folder, _) in self.within.iter().filter(|(it, is)| wanted.get(*it) != Some(*is)) {
            let _ = notifier.unwatch(folder);
        }
        let before = std::mem::take(&mut self.within);
        for (folder, is) in wanted {
            let there = before.get(&folder) == Some(&is);
            if there || notifier.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                self.within.insert(folder, is);
            }
        }
    }

    /// The candidates inside, none if the folder does not exist, and `None` if that cannot be told.
    pub(super) fn scan(
        &mut self,
        notifier: Option<&mut RecommendedWatcher>,
    ) -> Option<Vec<PathBuf>> {
        let (listing, trouble) = match self.list(notifier) {
            Ok((paths, trouble)) => (Some(paths), trouble),
            Err(error) => (is_missing(&error).then(Vec::new), Some(self.cause(&error))),
        };
        match &trouble {
            Some(cause) if self.trouble != trouble => {
                tracing::warn!(
                    folder = %self.path.display(), %cause,
                    "trouble with a plugin folder; it is tried again every second"
                );
            }
            None if self.trouble.is_some() => {
                tracing::info!(folder = %self.path.display(), "the plugin folder is watched again");
            }
            _ => {}
        }
        self.trouble = trouble;
        listing
    }

    /// What is wrong, and what to do where that is known.
    fn cause(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::NotFound => "it is not there yet".to_owned(),
            io::ErrorKind::NotADirectory if self.path.is_file() => {
                "it is a file: name the folder that it lies in, or load it by itself with `ksi load`"
                    .to_owned()
            }
            _ => error.to_string(),
        }
    }

    /// Lists after arming: what comes after the listing is notified, what came before is listed.
    fn list(
        &mut self,
        notifier: Option<&mut RecommendedWatcher>,
    ) -> io::Result<(Vec<PathBuf>, Option<String>)> {
        let is_folder = |metadata: Metadata| match metadata.is_dir() {
            true => Ok(metadata),
            false => Err(io::ErrorKind::NotADirectory.into()),
        };
        let metadata = match fs::metadata(&self.path).and_then(is_folder) {
            Ok(metadata) => metadata,
            Err(error) => {
                if is_missing(&error) && self.armed.is_some() {
                    self.disarm(notifier);
                }
                return Err(error);
            }
        };
        let mut trouble = None;
        let is = (metadata.dev(), metadata.ino());
        let Some(notifier) = notifier else { return Ok((candidates(&self.path)?, None)) };
        if self.armed != Some(is) {
            self.disarm(Some(&mut *notifier));
            match notifier.watch(&self.path, RecursiveMode::NonRecursive) {
                Ok(()) => self.armed = Some(is),
                Err(error) => trouble = Some(format!("no notifications from it: {error}")),
            }
        }
        let found = candidates(&self.path)?;
        self.watch_within(&found, notifier);
        Ok((found, trouble))
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
