//! A directory of the host's own, and the ones that crashed hosts left behind.
//!
//! A lock on a file inside tells a directory in use from a left-over one: the system releases the
//! lock when its host ends, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The lock file of a directory in use.
const LOCK: &str = "ksi-host.lock";
/// Its name until it is locked, so that a lock file which nobody holds always belongs to a dead
/// host.
const LOCK_BEFORE: &str = "ksi-host.lock.new";
/// For how long a directory may be without a lock file while its host starts.
const STARTING: Duration = Duration::from_secs(60);

/// How often a directory is tried to be locked against cleaners, and the time between two tries.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(20);

/// A directory that this host alone uses; dropping it removes it with everything inside.
#[derive(Debug)]
pub(super) struct OwnDir {
    /// Open and locked: cleaners such as systemd-tmpfiles leave a locked directory alone, with all
    /// that is in it.
    open: File,
    // Removed before the lock is released, so that no starting host takes it for a left-over one.
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
    lock: File,
}

/// The step at which the host's directory failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateDirError {
    /// The directory could not be made.
    #[error(
        "a directory for private copies of plugins cannot be created in {}: {source}; make that folder writable, or name \
         another one (host.private_dir)", parent.display()
    )]
    Create {
        /// The folder that it was to lie in.
        parent: PathBuf,
        /// What the system says.
        source: io::Error,
    },

    /// Nothing can be loaded from there.
    #[error(
        "private copies of plugins cannot lie in {}: it is mounted noexec, so no library can be loaded from there. Name a \
         folder on a file system that allows execution (host.private_dir), or mount this one without noexec",
        parent.display()
    )]
    NoExec {
        /// The folder.
        parent: PathBuf,
    },

    /// The lock file could not be made.
    #[error("the lock file {} cannot be created: {source}", path.display())]
    CreateLock {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },

    /// The lock file could not be locked.
    #[error(
        "{} cannot be locked: {source}; name a folder on a local file system (host.private_dir)",
        path.display()
    )]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        source: TryLockError,
    },
}

impl OwnDir {
    /// Creates a directory in `parent`, after removing those of this user there whose host is gone.
    ///
    /// # Errors
    /// Says at which step it failed. A left-over directory that cannot be removed is no failure.
    pub(super) fn create_in(parent: &Path) -> Result<OwnDir, PrivateDirError> {
        let create_error = |source| PrivateDirError::Create { parent: parent.to_owned(), source };
        let prefix = format!("ksi-{}-", rustix::process::geteuid().as_raw());
        remove_left_over(parent, &prefix);
        let dir = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(create_error)?;
        let open = File::open(dir.path()).map_err(create_error)?;
        keep_cleaners_out(&open, dir.path());
        let lock = lock(dir.path())?;
        Ok(OwnDir { open, path: dir.path().to_owned(), dir: Some(dir), lock })
    }

    /// Where the directory lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it still lies there, and not another one or none.
    pub(super) fn is_in_place(&self) -> bool {
        is_at(&self.open, &self.path)
    }

    /// Makes it and what is in it look as if it had just been used, for cleaners that go by times
    /// and know no locks.
    pub(super) fn freshen(&mut self) {
        use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
        let now = || Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now(), last_modification: now() };
        if !is_at(&self.lock, &self.path.join(LOCK)) {
            // Without it, nobody clears up behind this host if it is killed.
            let _ = lock(&self.path).map(|lock| self.lock = lock);
        }
        freshen(&self.open, &times);
    }
}

/// Gives a folder these times, with all that is in it and below it.
fn freshen(folder: impl AsFd, times: &rustix::fs::Timestamps) {
    use rustix::fs::{AtFlags, Mode, OFlags, openat, utimensat};
    let names = rustix::fs::Dir::read_from(&folder).into_iter().flatten().flatten();
    for entry in names.filter(|entry| entry.file_name() != c"..") {
        // One that is being deleted is no loss.
        let _ = utimensat(&folder, entry.file_name(), times, AtFlags::SYMLINK_NOFOLLOW);
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if entry.file_name() != c"."
            && let Ok(below) = openat(&folder, entry.file_name(), flags, Mode::empty())
        {
            freshen(below, times);
        }
    }
}

impl Drop for OwnDir {
    fn drop(&mut self) {
        // What has taken its place is not this host's to remove.
        let in_place = self.is_in_place();
        if let Some(dir) = self.dir.take().filter(|_| !in_place) {
            let _ = dir.keep();
        }
    }
}

/// Whether this is the file that has the path.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let identity = |found: &fs::Metadata| (found.dev(), found.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(own), Ok(found)) => identity(&own) == identity(&found),
        _ => false,
    }
}

/// A cleaner that is just looking through the directory has the lock for a moment. Without the
/// lock, it is as it was.
fn keep_cleaners_out(dir: &File, path: &Path) {
    for _ in 1..TRIES {
        match dir.try_lock() {
            Ok(()) => return,
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN),
            Err(TryLockError::Error(_)) => break,
        }
    }
    if let Err(error) = dir.try_lock() {
        tracing::debug!(path = %path.display(), %error, "the private directory is not locked against cleaners");
    }
}

fn lock(dir: &Path) -> Result<File, PrivateDirError> {
    let (path, before) = (dir.join(LOCK), dir.join(LOCK_BEFORE));
    let create_error = |source| PrivateDirError::CreateLock { path: path.clone(), source };
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&before)
        .map_err(create_error)?;
    file.try_lock().map_err(|source| PrivateDirError::Lock { path: path.clone(), source })?;
    fs::rename(&before, &path).map_err(create_error)?;
    Ok(file)
}

fn remove_left_over(parent: &Path, prefix: &str) {
    // A folder that cannot be listed is reported by the attempt to create a directory in it, if at
    // all.
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()))
    {
        let path = entry.path();
        match remove_if_left_over(&path) {
            Ok(true) => {
                tracing::info!(path = %path.display(), "removed what a crashed host left behind")
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "a left-over directory stays");
            }
        }
    }
}

fn remove_if_left_over(path: &Path) -> io::Result<bool> {
    // The folder for temporary files is everybody's: what is there under our name need not be ours.
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    match OpenOptions::new().write(true).open(path.join(LOCK)) {
        Ok(lock) => match lock.try_lock() {
            // Held until everything is gone, so that two starting hosts do not remove the same
            // things.
            Ok(()) => fs::remove_dir_all(path).map(|()| true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let age = metadata.modified()?.elapsed().unwrap_or_default();
            if age < STARTING {
                return Ok(false);
            }
            // Its host ended while it started, so there can be nothing else inside; if there is, it
            // is no host's directory, and removing the directory alone fails.
            let _ = fs::remove_file(path.join(LOCK_BEFORE));
            fs::remove_dir(path).map(|()| true)
        }
        Err(error) => Err(error),
    }
}
