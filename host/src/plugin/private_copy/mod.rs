//! Private copies of candidates, in a directory of this host's own.
//!
//! A library is never opened where it was dropped: the dynamic linker takes a path (or inode) that is
//! mapped already for the old code, and a file that is overwritten while it is mapped ends the process.
//! So each candidate is read once, and what was read is hashed, parsed and written to a new file with
//! an inode of its own: what was checked is what is loaded. The copy stays for as long as it may be
//! mapped, because debuggers and backtraces look for it.
//!
//! Nothing here knows what the bytes mean. Everything here blocks: call it where blocking is allowed.

mod content;
mod dir;
mod error;

use std::fs::{self, Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

pub(crate) use content::Content;
pub(crate) use dir::PrivateDir;
pub use dir::PrivateDirError;
pub use error::CopyError;

/// The largest file that is read into memory.
const MAX_LEN: u64 = 1024 * 1024 * 1024;
/// Longer labels are cut, so that a copy's name fits every file system.
const MAX_LABEL: usize = 100;

/// A copy of a candidate that nobody else writes to; dropping it deletes the file.
///
/// Keep it until the library that was loaded from it is unmapped.
#[derive(Debug)]
pub(crate) struct PrivateCopy {
    path: PathBuf,
    hash: blake3::Hash,
}

impl PrivateDir {
    /// Copies `source` into this directory and returns the copy together with its bytes.
    ///
    /// `label` starts the copy's file name, for people who read backtraces. Symbolic links are
    /// followed. The bytes, the hash and the new file agree with each other whatever happens to
    /// `source` meanwhile.
    ///
    /// # Errors
    /// Says at which step it failed; [`CopyError::ChangedWhileCopying`] asks to let `source` settle
    /// again. Nothing is left behind.
    pub(crate) fn copy(
        &self,
        source: &Path,
        label: &str,
    ) -> Result<(PrivateCopy, Content), CopyError> {
        let bytes = read_unchanged(source)?;
        let hash = blake3::hash(&bytes);
        let number = self.copies.fetch_add(1, Ordering::Relaxed);
        let path = self.path().join(file_name(label, number));
        let create_error = |source| CopyError::Create { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&path)
            .map_err(create_error)?;
        // From here on the new file belongs to the copy, which deletes it if writing fails.
        let copy = PrivateCopy { path: path.clone(), hash };
        file.write_all(&bytes).map_err(|source| CopyError::Write { path, source })?;
        Ok((copy, bytes))
    }
}

impl PrivateCopy {
    /// Where the copy lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Hash of the content; it displays as hexadecimal digits.
    pub(crate) fn hash(&self) -> blake3::Hash {
        self.hash
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        // The directory goes with the host, and the copies in it: a failure here is no loss.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a private copy could not be deleted");
        }
    }
}

/// Reads the whole of `path`, or says that it was not the same from beginning to end.
fn read_unchanged(path: &Path) -> Result<Content, CopyError> {
    let metadata = |path: &Path| fs::metadata(path).map_err(|error| CopyError::open(path, error));
    check_regular(path, &metadata(path)?)?;
    // Without O_NONBLOCK, a named pipe that takes the file's place right now would block for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(|error| CopyError::open(path, error))?;
    let read_error = |source| CopyError::Read { path: path.to_owned(), source };
    let before = file.metadata().map_err(read_error)?;
    check_regular(path, &before)?;

    let bytes = Content::read(&file, before.len()).map_err(read_error)?;
    let after = file.metadata().map_err(read_error)?;
    let same = |other: &Metadata| identity(other) == identity(&before);
    if bytes.len() as u64 == before.len() && same(&after) && same(&metadata(path)?) {
        Ok(bytes)
    } else {
        Err(CopyError::ChangedWhileCopying { path: path.to_owned() })
    }
}

fn check_regular(path: &Path, metadata: &Metadata) -> Result<(), CopyError> {
    if !metadata.is_file() {
        return Err(CopyError::not_regular(path, metadata.file_type()));
    }
    if metadata.len() > MAX_LEN {
        let path = path.to_owned();
        return Err(CopyError::TooLarge { path, found: metadata.len(), limit: MAX_LEN });
    }
    Ok(())
}

/// What changes when a file is written to or replaced. Not the time of its last status change: a new
/// mode or another link to it leave the content alone.
fn identity(metadata: &Metadata) -> (u64, u64, u64, i64, i64) {
    (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

fn file_name(label: &str, number: u64) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    let label: String = label.chars().take(MAX_LABEL).map(plain).collect();
    format!("{label}-{number}.{}", std::env::consts::DLL_EXTENSION)
}

#[cfg(test)]
mod tests;
