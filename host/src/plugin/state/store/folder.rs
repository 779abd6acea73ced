//! The folder that snapshots lie in, while this host has it.
//!
//! Files are reached through the open folder and not by its path: whatever becomes of the path
//! meanwhile, they are in the folder that is locked. No symbolic link in it is followed.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use super::error::StateDirError;
use crate::{
    LockHolder,
    system::ownership::{self, Stranger},
};

/// The lock file. No plugin has an empty name, so no snapshot has this one.
const LOCK: &str = ".lock";
/// Files are of the host's user alone.
const OWN: Mode = Mode::RUSR.union(Mode::WUSR);

/// How often a lock is tried, and the time between two tries.
const TRIES: u32 = 15;
const BETWEEN: Duration = Duration::from_millis(20);

/// A host that was killed while it started a child process shares its lock with that child until
/// the child runs its own program. That is soon over, and no reason to take the folder for one in
/// use.
fn try_lock(lock: &File) -> Result<(), TryLockError> {
    for _ in 1..TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(BETWEEN),
            other => return other,
        }
    }
    lock.try_lock()
}

#[derive(Debug)]
pub(super) struct StateFolder {
    path: PathBuf,
    open: File,
    // The system releases the lock when the process ends, however it does.
    lock: File,
}

impl StateFolder {
    /// Makes the folder if it is not there, opens and locks it.
    pub(super) fn open(dir: PathBuf) -> Result<StateFolder, StateDirError> {
        match create(&dir) {
            Ok(()) => {}
            Err(source) => return Err(StateDirError::Create { dir, source }),
        }
        let open = match open_folder(&dir) {
            Ok(open) => open,
            Err(source) => return Err(StateDirError::Open { dir, source }),
        };
        match open.metadata().map(|found| ownership::everybody(&found)) {
            Ok(Some(Stranger::Everybody { mode })) => {
                return Err(StateDirError::WritableByAll { dir, mode });
            }
            Ok(_) => {}
            Err(source) => return Err(StateDirError::Open { dir, source }),
        }
        let path = dir.join(LOCK);
        let lock = match open_at(&open, LOCK, OFlags::RDWR | OFlags::CREATE) {
            Ok(lock) => lock,
            Err(source) => return Err(StateDirError::CreateLock { path, source }),
        };
        match try_lock(&lock) {
            Ok(()) => Ok(StateFolder { path: dir, open, lock }),
            Err(TryLockError::WouldBlock) => {
                let holder = LockHolder::of(&path);
                Err(StateDirError::InUse { dir, holder })
            }
            Err(source) => Err(StateDirError::Lock { path, source }),
        }
    }

    /// Where it was when it was opened, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file for reading. It need not be a regular one.
    pub(super) fn open_file(&self, name: &str) -> io::Result<File> {
        open_at(&self.open, name, OFlags::RDONLY)
    }

    /// Makes a file and opens it for writing. Nothing may have its name.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        open_at(&self.open, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }

    /// Gives a file another name, which it takes from whatever has it.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.open, from, &self.open, to)?)
    }

    /// The names of all files, as far as they are text.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.open)? {
            names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    /// Removes a file; one that is not there is fine.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.open, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the names of the files are on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync(&self.open)
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        // Closing alone leaves it locked while a child that is just being started has the file too.
        let _ = self.lock.unlock();
    }
}

/// Makes the folder and those above it, as far as they are not there, for this user alone.
fn create(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|it| !it.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for above in missing.iter().filter_map(|made| made.parent()) {
        // A relative path of one segment has an empty one above it.
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        // One that may be written to but not be read cannot be opened for this; its disk will do it
        // in time.
        if let Ok(above) = open_folder(above) {
            sync(&above)?;
        }
    }
    Ok(())
}

fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

fn open_at(folder: &File, name: &str, flags: OFlags) -> io::Result<File> {
    // Without O_NONBLOCK, a named pipe that has the name would block for ever.
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, OWN)?.into())
}

fn sync(folder: &File) -> io::Result<()> {
    match folder.sync_all() {
        // The answer of file systems that write names at once, or whenever they like.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests;
