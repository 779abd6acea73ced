//! The host's own directory, and the ones that crashed hosts left behind.
//!
//! A lock on a file inside tells a directory in use from a left-over one: the system releases the
//! lock when its host ends, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The lock file of a directory in use.
const LOCK: &str = "ksi-host.lock";
/// Its name until it is locked, so that a lock file which nobody holds always belongs to a dead host.
const LOCK_BEFORE: &str = "ksi-host.lock.new";
/// For how long a directory may be without a lock file while its host starts.
const STARTING: Duration = Duration::from_secs(60);

/// A directory that this host alone uses; dropping it removes it with everything inside.
///
/// It lies in [`std::env::temp_dir`], which must allow execution: libraries are loaded from it.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    /// Number of the next copy.
    pub(super) copies: AtomicU64,
    // Removed before the lock is released, so that no starting host takes it for a left-over one.
    dir: tempfile::TempDir,
    _lock: File,
}

/// The step at which the host's directory failed.
#[derive(Debug, thiserror::Error)]
pub enum PrivateDirError {
    /// The directory could not be made.
    #[error(
        "a directory for private copies cannot be created in {}: {source}; make that folder \
         writable, or set TMPDIR to another one", parent.display()
    )]
    Create {
        /// The folder for temporary files.
        parent: PathBuf,
        /// What the system says.
        source: io::Error,
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
        "{} cannot be locked: {source}; set TMPDIR to a folder on a local file system",
        path.display()
    )]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        source: TryLockError,
    },
}

impl PrivateDir {
    /// Creates the directory, after removing those of this user whose host is gone.
    ///
    /// # Errors
    /// Says at which step it failed. A left-over directory that cannot be removed is no failure.
    pub(crate) fn create() -> Result<PrivateDir, PrivateDirError> {
        PrivateDir::create_in(&std::env::temp_dir())
    }

    pub(super) fn create_in(parent: &Path) -> Result<PrivateDir, PrivateDirError> {
        let prefix = format!("ksi-{}-", rustix::process::geteuid().as_raw());
        remove_left_over(parent, &prefix);
        let dir = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(|source| PrivateDirError::Create { parent: parent.to_owned(), source })?;
        let lock = lock(dir.path())?;
        Ok(PrivateDir { copies: AtomicU64::new(1), dir, _lock: lock })
    }

    /// Where the directory lies.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
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
    // A folder that cannot be listed is reported by the attempt to create a directory in it, if at all.
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
            // Held until everything is gone, so that two starting hosts do not remove the same things.
            Ok(()) => fs::remove_dir_all(path).map(|()| true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let age = metadata.modified()?.elapsed().unwrap_or_default();
            if age < STARTING {
                return Ok(false);
            }
            // Its host ended while it started, so there can be nothing else inside; if there is, it is
            // no host's directory, and removing the directory alone fails.
            let _ = fs::remove_file(path.join(LOCK_BEFORE));
            fs::remove_dir(path).map(|()| true)
        }
        Err(error) => Err(error),
    }
}
