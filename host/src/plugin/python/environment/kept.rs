//! The folders of packages that are there: which of them are complete, and which make room.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The file in a folder that says that all of it is there. It is written last.
pub(super) const COMPLETE: &str = ".ksi-complete";
/// How the name of a folder begins that is being made.
pub(super) const DRAFT: &str = ".draft-";
/// How many sets are kept; beyond it, those that were used longest ago are removed.
const KEPT: usize = 32;
/// Within this time whoever makes a folder has locked it.
const BEGINNING: Duration = Duration::from_secs(60);

/// Whether all of a folder is there. It is used from now on.
pub(super) fn is_complete(folder: &Path) -> bool {
    let complete = folder.join(COMPLETE).is_file();
    if complete && let Ok(open) = fs::File::open(folder) {
        // When it was used last.
        let _ = open.set_modified(SystemTime::now());
    }
    complete
}

/// All of a folder is there: says so in it, once that is on the disk.
pub(super) fn complete(folder: &Path) -> io::Result<()> {
    let open = fs::File::open(folder)?;
    // One system call in place of two for each file.
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(&open)?;
    fs::File::create(folder.join(COMPLETE))?.sync_all()?;
    open.sync_all()
}

/// Removes what nobody makes any more, and what is too much, but nothing that this host has used.
pub(super) fn sweep(root: &Path, used: &HashSet<PathBuf>) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut there: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    let is_draft = |(_, path): &mut (SystemTime, PathBuf)| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(DRAFT.as_bytes())
    };
    let drafts: Vec<_> = there.extract_if(.., is_draft).collect();
    for (modified, draft) in drafts {
        let is_old = modified.elapsed().is_ok_and(|age| age > BEGINNING);
        // Held until it is gone.
        let lock = fs::File::open(&draft).ok().filter(|open| is_old && open.try_lock().is_ok());
        if lock.is_some() {
            remove(&draft);
        }
    }
    there.sort_unstable();
    let over = there.len().saturating_sub(KEPT);
    for (_, folder) in there.into_iter().take(over).filter(|(_, folder)| !used.contains(folder)) {
        remove(&folder);
    }
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::debug!(folder = %folder.display(), %error, "old packages could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that was used last so many seconds after the epoch.
    fn folder(root: &Path, name: &str, used: u64) -> PathBuf {
        let folder = root.join(name);
        fs::create_dir(&folder).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(used);
        fs::File::open(&folder).unwrap().set_modified(time).unwrap();
        folder
    }

    #[test]
    fn old_sets_make_room_and_those_in_use_stay() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..KEPT + 3 {
            folder(root.path(), &format!("{number:03}"), number as u64);
        }
        sweep(root.path(), &HashSet::from([root.path().join("001")]));
        let there = |name: &str| root.path().join(name).is_dir();
        assert!(!there("000") && there("001") && !there("002") && there("003"));
    }

    #[test]
    fn what_a_host_has_left_half_made_is_removed_and_what_one_makes_is_not() {
        let root = tempfile::tempdir().unwrap();
        let left = folder(root.path(), &format!("{DRAFT}a"), 0);
        let made = folder(root.path(), &format!("{DRAFT}b"), 0);
        let begun = root.path().join(format!("{DRAFT}c"));
        fs::create_dir(&begun).unwrap();
        let lock = fs::File::open(&made).unwrap();
        lock.try_lock().unwrap();
        sweep(root.path(), &HashSet::new());
        assert!(!left.exists() && made.exists() && begun.exists());
    }

    #[test]
    fn a_folder_is_complete_once_it_says_so() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_complete(root.path()));
        complete(root.path()).unwrap();
        assert!(is_complete(root.path()));
    }
}
