//! The directory that copies are made in now. It is made anew when a cleaner has removed it, and
//! closed when the host stops.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};

use super::dir::{OwnDir, PrivateDirError};
use super::place::Places;
use super::{CopyError, file_name};
use crate::plugin::file::kind::Original;
use crate::sync::Lock;

/// Where this host's copies are made; dropping it removes the directory with everything inside.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    places: Places,
    /// Number of the next copy, over all directories: the name of a library that may be mapped
    /// comes once.
    copies: AtomicU64,
    /// `None` once it is closed.
    current: Lock<Option<OwnDir>>,
}

impl PrivateDir {
    /// Creates the directory.
    ///
    /// # Errors
    /// Says at which step it failed.
    pub(crate) fn create(places: Places) -> Result<PrivateDir, PrivateDirError> {
        let current = Lock::new(Some(places.create()?));
        Ok(PrivateDir { places, copies: AtomicU64::new(1), current })
    }

    /// Makes a file for a copy, in a directory that is there and is this host's.
    pub(super) fn new_file(&self, of: &Original) -> Result<(PathBuf, File), CopyError> {
        let number = self.copies.fetch_add(1, Ordering::Relaxed);
        // Held until the file is there, so that closing leaves no file behind.
        let mut current = self.current();
        let path = self.in_place(&mut current)?.join(file_name(of, number));
        let create =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o700).open(&path);
        match create {
            Ok(file) => Ok((path, file)),
            Err(source) => Err(CopyError::Create { path, source }),
        }
    }

    /// A folder of this name, for what is no copy. It is empty if it was not there.
    ///
    /// # Errors
    /// It cannot be made, or the directory is closed.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, CopyError> {
        let mut current = self.current();
        let path = self.in_place(&mut current)?.join(name);
        match DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(CopyError::Create { path, source }),
        }
    }

    /// Keeps what is there from cleaners that go by times, and makes anew what one has removed all
    /// the same.
    pub(crate) fn freshen(&self) {
        let mut current = self.current();
        // What fails here fails again when a file is copied, and is told then.
        if self.in_place(&mut current).is_ok()
            && let Some(dir) = current.as_mut()
        {
            dir.freshen();
        }
    }

    /// Removes the directory. Nothing is copied from here on, and what is just being copied leaves
    /// nothing behind.
    pub(crate) fn close(&self) {
        let closed = self.current().take();
        drop(closed);
    }

    /// Does something in the directory, unless that is closed; it is not closed meanwhile, so
    /// nothing is left behind.
    pub(super) fn while_open<T>(
        &self,
        work: impl FnOnce() -> Result<T, CopyError>,
    ) -> Result<T, CopyError> {
        let current = self.current();
        if current.is_none() {
            return Err(CopyError::Closed);
        }
        work()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.current().is_none()
    }

    fn in_place<'a>(&self, current: &'a mut Option<OwnDir>) -> Result<&'a Path, CopyError> {
        let dir = current.as_mut().ok_or(CopyError::Closed)?;
        if !dir.is_in_place() {
            let made = self.places.create().map_err(CopyError::NoDir)?;
            tracing::warn!(
                "the private folder {} is gone, as if a cleaner had removed it: copies of plugins go to {} from now on. \
                 host.private_dir names a folder that nobody cleans",
                dir.path().display(),
                made.path().display()
            );
            *dir = made;
        }
        Ok(dir.path())
    }

    fn current(&self) -> MutexGuard<'_, Option<OwnDir>> {
        self.current.lock()
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> PathBuf {
        self.current().as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default()
    }
}
