//! The folders of packages that are there: which of them are complete, and which make room.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use ksi_kernel::lock::Lock;

/// The file in a folder that says that all of it is there. It is written last.
pub(super) const COMPLETE: &str = ".ksi-complete";
/// How the name of a folder begins that is being made.
pub(super) const DRAFT: &str = ".draft-";
/// How many sets are kept that are not in use, and how many bytes they may have together; beyond
/// it, those that were used longest ago are removed.
const KEPT: usize = 32;
const KEPT_BYTES: u64 = 8 << 30;
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

/// A set of packages that may be imported from: it is not removed for as long as this is there.
#[derive(Debug)]
pub(crate) struct Environment;

/// The sets that are in use, by their folders.
#[derive(Default)]
pub(super) struct InUse(Lock<HashMap<PathBuf, Weak<Environment>>>);

impl InUse {
    /// From now on this folder is.
    pub(super) fn begin(&self, folder: &Path) -> Arc<Environment> {
        let mut all = self.0.lock();
        all.retain(|_, it| it.strong_count() > 0);
        if let Some(used) = all.get(folder).and_then(Weak::upgrade) {
            return used;
        }
        let used = Arc::new(Environment);
        all.insert(folder.to_owned(), Arc::downgrade(&used));
        used
    }

    fn has(&self, folder: &Path) -> bool {
        self.0.lock().get(folder).is_some_and(|it| it.strong_count() > 0)
    }

    /// Gives a folder another name, unless it is in use: nobody takes it for complete while it is
    /// removed.
    fn set_aside(&self, folder: &Path) -> Option<PathBuf> {
        let all = self.0.lock();
        if all.get(folder).is_some_and(|it| it.strong_count() > 0) {
            return None;
        }
        let name = folder.file_name()?.to_str()?;
        let aside = folder.with_file_name(format!("{DRAFT}{name}"));
        fs::rename(folder, &aside).ok().map(|()| aside)
    }
}

/// Removes what nobody makes any more, and of the sets that are not in use what is too much.
pub(super) fn sweep(root: &Path, in_use: &InUse) {
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
    there.retain(|(_, folder)| !in_use.has(folder));
    there.sort_unstable_by(|one, other| other.cmp(one));
    let (mut count, mut bytes) = (0, 0);
    for (_, folder) in there {
        count += 1;
        bytes += bytes_of(&folder);
        if (count > KEPT || bytes > KEPT_BYTES)
            && let Some(aside) = in_use.set_aside(&folder)
        {
            remove(&aside);
        }
    }
}

/// How much room a folder takes. One that is complete is not written to any more, so that this is
/// counted once.
fn bytes_of(folder: &Path) -> u64 {
    let mark = folder.join(COMPLETE);
    let noted = fs::read_to_string(&mark).ok();
    if let Some(bytes) = noted.as_ref().and_then(|it| it.trim().parse().ok()) {
        return bytes;
    }
    let (mut left, mut bytes) = (vec![folder.to_owned()], 0);
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            // Blocks have 512 bytes, whatever the file system has.
            bytes += found.blocks() * 512;
            if found.is_dir() {
                left.push(entry.path());
            }
        }
    }
    if noted.is_some() {
        // What is not noted is counted again.
        let _ = fs::write(&mark, bytes.to_string());
    }
    bytes
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
        let in_use = InUse::default();
        let used = in_use.begin(&root.path().join("001"));
        sweep(root.path(), &in_use);
        let there = |name: &str| root.path().join(name).is_dir();
        assert!(!there("000") && there("001") && !there("002") && there("003"));
        // Nobody uses it any more.
        drop(used);
        sweep(root.path(), &in_use);
        assert!(!there("001") && there("003"));
    }

    #[test]
    fn sets_make_room_by_their_bytes_too() {
        let root = tempfile::tempdir().unwrap();
        let of = |name: &str, used: u64, bytes: u64| {
            let folder = folder(root.path(), name, 0);
            complete(&folder).unwrap();
            fs::write(folder.join(COMPLETE), bytes.to_string()).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(used);
            fs::File::open(&folder).unwrap().set_modified(time).unwrap();
        };
        of("new", 3, KEPT_BYTES - 1);
        of("old", 2, 2);
        of("older", 1, 2);
        sweep(root.path(), &InUse::default());
        let there = |name: &str| root.path().join(name).is_dir();
        assert!(there("new") && !there("old") && !there("older"));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn the_room_that_a_set_takes_is_counted_once() {
        let root = tempfile::tempdir().unwrap();
        complete(root.path()).unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/b.py"), vec![b' '; 100_000]).unwrap();
        let bytes = bytes_of(root.path());
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
        fs::remove_file(root.path().join("a/b.py")).unwrap();
        assert_eq!(bytes_of(root.path()), bytes);
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
        sweep(root.path(), &InUse::default());
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
