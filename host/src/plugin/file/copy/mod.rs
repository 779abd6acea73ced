//! Private copies of candidates, in a directory of this host's own.
//!
//! A library is never opened where it was dropped: the dynamic linker takes a path (or inode) that
//! is mapped already for the old code, and a file that is overwritten while it is mapped ends the
//! process. So each candidate is copied once to a new file with an inode of its own, and that is
//! what is hashed, parsed and loaded: what was checked is what is loaded. The copy stays for as
//! long as it may be mapped, because debuggers and backtraces look for it.
//!
//! A file may be anything of any size. So [`SourceFile`] tells its length and how it begins before
//! it is copied, and no candidate is ever held in memory as a whole.
//!
//! Nothing here knows what the bytes mean. Everything here blocks: call it where blocking is
//! allowed.

mod content;
mod current;
mod dir;
mod error;
mod own_folder;
mod packed;
mod place;
mod source;
mod tree;
mod whole;

use std::any::Any;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use content::Content;
pub(crate) use current::PrivateDir;
pub use dir::PrivateDirError;
pub use error::CopyError;
use own_folder::OwnFolder;
pub(crate) use place::Places;
pub(crate) use source::SourceFile;
pub(crate) use tree::{files, is_left_out};

use super::kind::{FileKind, Original};
use crate::sync::Lock;

/// Longer labels are cut, so that a copy's name fits every file system.
const MAX_LABEL: usize = 100;

/// A copy of a candidate that nobody else writes to; dropping it deletes the file.
///
/// Keep it until the library that was loaded from it is unmapped. Its bytes are there for as long
/// as it is, also when somebody removes the file.
#[derive(Debug)]
pub(crate) struct PrivateCopy {
    path: PathBuf,
    /// Of all that a folder had, if it is of one.
    hash: blake3::Hash,
    of: Original,
    /// In a mutex, because whoever reads it moves the place that it is read from.
    held: Lock<File>,
    /// For what it brings along. Behind the file, which is deleted first.
    folder: Option<OwnFolder>,
    /// What is to stay for as long as it does.
    with: Option<Arc<dyn Any + Send + Sync>>,
}

impl PrivateDir {
    /// Copies `source` into this directory and returns the copy together with its bytes.
    ///
    /// The name of what it is a copy `of` starts that of the copy, for people who read backtraces.
    /// The bytes, the hash and the new file agree with each other whatever happens to `source`
    /// meanwhile.
    ///
    /// # Errors
    /// Says at which step it failed; [`CopyError::ChangedWhileCopying`] asks to let `source` settle
    /// again. Nothing is left behind.
    pub(crate) fn copy(
        &self,
        source: &SourceFile,
        of: &Original,
    ) -> Result<(PrivateCopy, Content), CopyError> {
        let (path, file) = self.new_file(of)?;
        let write_error = |source| CopyError::Write { path: path.clone(), source };
        // From here on the new file is deleted if anything fails.
        let unfinished = Unfinished(&path);
        source.copy_to(&file, &path)?;
        let hash = hash_of(file.try_clone().map_err(write_error)?).map_err(write_error)?;
        let content = Content::of_copy(&file).map_err(write_error)?;
        // Nobody here writes to it any more.
        let held = for_reading(&path, &file)
            .map_err(|error| if self.is_closed() { CopyError::Closed } else { error })?;
        std::mem::forget(unfinished);
        let (of, held) = (of.clone(), Lock::new(held));
        Ok((PrivateCopy { path, hash, of, held, folder: None, with: None }, content))
    }

    /// Copies a copy, which is a new file with the same bytes then, and with the same beside it.
    ///
    /// # Errors
    /// As for [`copy`](Self::copy).
    pub(crate) fn copy_again(
        &self,
        copy: &PrivateCopy,
        limit: u64,
    ) -> Result<(PrivateCopy, Content), CopyError> {
        let held = copy.held.lock();
        let unreadable = |source| CopyError::Read { path: copy.path.clone(), source };
        let file = held.try_clone().map_err(unreadable)?;
        let source = SourceFile::held(&copy.path, file, limit)?;
        let (mut again, content) = self.copy(&source, &copy.of)?;
        self.bring_again(&mut again, copy, limit)?;
        again.is_whole();
        Ok((again, content))
    }
}

/// A file that is not a whole copy yet.
struct Unfinished<'a>(&'a Path);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        delete(self.0);
    }
}

/// Opens the file that was made at `path` once more.
fn for_reading(path: &Path, made: &File) -> Result<File, CopyError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    match opened {
        Ok(file) if dir::is_at(made, path) => Ok(file),
        Ok(_) => Err(CopyError::Cleaned { path: path.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(CopyError::Cleaned { path: path.to_owned() })
        }
        Err(source) => Err(CopyError::Write { path: path.to_owned(), source }),
    }
}

/// Read through a small buffer: where a file has holes, a mapping of it would be filled with pages
/// of zeroes.
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

    /// What it is a copy of.
    pub(crate) fn original(&self) -> &Original {
        &self.of
    }

    /// What that was taken for.
    pub(crate) fn kind(&self) -> FileKind {
        self.of.kind()
    }

    /// Hash of the content; it displays as hexadecimal digits.
    pub(crate) fn hash(&self) -> blake3::Hash {
        self.hash
    }

    /// Has something that it needs stay for as long as it does.
    pub(crate) fn stays_with(&mut self, it: Arc<dyn Any + Send + Sync>) {
        self.with = Some(it);
    }

    /// How many bytes it has; of a folder, all of its files.
    ///
    /// # Errors
    /// The system does not say.
    pub(crate) fn bytes(&self) -> std::io::Result<u64> {
        if self.kind() == FileKind::Folder {
            return self.bytes_brought();
        }
        let held = self.held.lock();
        Ok(held.metadata()?.len())
    }

    /// Writes what it is to a file at `to`, or to a folder there, whole or not at all, in place of
    /// what is there.
    ///
    /// # Errors
    /// It cannot be written there.
    pub(crate) fn save(&self, to: &Path) -> std::io::Result<()> {
        if self.kind() == FileKind::Folder {
            return self.save_folder(to);
        }
        let held = self.held.lock();
        let draft = tempfile::NamedTempFile::new_in(to.parent().unwrap_or(Path::new(".")))?;
        let copied = content::copy(&held, draft.as_file(), held.metadata()?.len());
        copied
            .map_err(|(content::CopyStep::Read(error) | content::CopyStep::Write(error))| error)?;
        draft.as_file().sync_data()?;
        draft.persist(to).map(drop).map_err(|error| error.error)
    }

    /// Looks whether the file still lies at its path, for whoever is about to open it by that.
    ///
    /// # Errors
    /// It does not: a cleaner has removed it.
    pub(crate) fn check_in_place(&self) -> Result<(), CopyError> {
        match self.is_in_place() {
            true => Ok(()),
            false => Err(CopyError::Cleaned { path: self.path.clone() }),
        }
    }

    fn is_in_place(&self) -> bool {
        let held = self.held.lock();
        dir::is_at(&held, &self.path)
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        if self.is_in_place() {
            delete(&self.path);
        }
    }
}

fn delete(path: &Path) {
    // The directory goes with the host, and the copies in it: a failure here is no loss.
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "a private copy could not be deleted");
    }
}

/// A name for the copy of this file.
fn file_name(of: &Original, number: u64) -> String {
    let (stem, extension) = (of.stem(), of.kind().extension());
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    let stem: String = stem.chars().take(MAX_LABEL).map(plain).collect();
    format!("{stem}-{number}.{extension}")
}

#[cfg(test)]
mod tests;
