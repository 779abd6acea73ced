//! Private copies of candidates, in a directory of this host's own.
//!
//! A library is never opened where it was dropped: the dynamic linker takes a path (or inode) that is
//! mapped already for the old code, and a file that is overwritten while it is mapped ends the process.
//! So each candidate is copied once to a new file with an inode of its own, and that is what is hashed,
//! parsed and loaded: what was checked is what is loaded. The copy stays for as long as it may be
//! mapped, because debuggers and backtraces look for it.
//!
//! A file may be anything of any size. So [`Source`] tells its length and how it begins before it is
//! copied, and no candidate is ever held in memory as a whole.
//!
//! Nothing here knows what the bytes mean. Everything here blocks: call it where blocking is allowed.

mod content;
mod dir;
mod error;
mod source;

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

pub(crate) use content::Content;
pub(crate) use dir::PrivateDir;
pub use dir::PrivateDirError;
pub use error::CopyError;
pub(crate) use source::Source;

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
    /// `label` starts the copy's file name, for people who read backtraces. The bytes, the hash and the new file agree
    /// with each other whatever happens to `source` meanwhile.
    ///
    /// # Errors
    /// Says at which step it failed; [`CopyError::ChangedWhileCopying`] asks to let `source` settle
    /// again. Nothing is left behind.
    pub(crate) fn copy(
        &self,
        source: &Source,
        label: &str,
    ) -> Result<(PrivateCopy, Content), CopyError> {
        let number = self.copies.fetch_add(1, Ordering::Relaxed);
        let path = self.path().join(file_name(label, number));
        let create_error = |source| CopyError::Create { path: path.clone(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&path)
            .map_err(create_error)?;
        // From here on the new file belongs to the copy, which deletes it if anything fails.
        let mut copy = PrivateCopy { path: path.clone(), hash: blake3::Hash::from_bytes([0; 32]) };
        let write_error = |source| CopyError::Write { path: path.clone(), source };
        let copied =
            content::copy(&source.file, &file, source.len()).map_err(|step| match step {
                content::Step::Read(error) => source.unreadable(error),
                content::Step::Write(error) => write_error(error),
            })?;
        if copied < source.len() {
            return Err(source.changed());
        }
        source.check()?;
        copy.hash = hash_of(file.try_clone().map_err(write_error)?).map_err(write_error)?;
        let content = Content::of_copy(&file).map_err(write_error)?;
        Ok((copy, content))
    }
}

/// Read through a small buffer: where a file has holes, a mapping of it would be filled with pages of zeroes.
fn hash_of(mut file: File) -> std::io::Result<blake3::Hash> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize())
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

fn file_name(label: &str, number: u64) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    let label: String = label.chars().take(MAX_LABEL).map(plain).collect();
    format!("{label}-{number}.{}", std::env::consts::DLL_EXTENSION)
}

#[cfg(test)]
mod tests;
