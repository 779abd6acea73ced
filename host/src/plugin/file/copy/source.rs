//! A candidate that was opened and not yet read: how long it is and how it begins.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{CopyError, content};

/// So many bytes of the beginning are looked at before anything else is done with a file.
pub(crate) const HEAD: usize = 512;

/// A regular file of a length that is allowed, which is the same as long as
/// [`check`](SourceFile::check) says so.
#[derive(Debug)]
pub(crate) struct SourceFile {
    path: PathBuf,
    pub(super) file: File,
    opened: Metadata,
    /// Whether it is to be what lies at the path.
    is_at_path: bool,
}

impl SourceFile {
    /// Opens `path` if it is a regular file of at most `limit` bytes. Symbolic links are followed.
    /// Nothing is read, and nothing else than a regular file is waited for.
    ///
    /// # Errors
    /// Says what is there instead.
    pub(crate) fn open(path: &Path, limit: u64) -> Result<SourceFile, CopyError> {
        let metadata = fs::metadata(path).map_err(|error| CopyError::open(path, error))?;
        check_regular(path, &metadata, limit)?;
        // Without O_NONBLOCK, a named pipe that takes the file's place right now would block for
        // ever.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(|error| CopyError::open(path, error))?;
        let opened = file.metadata();
        let opened = opened.map_err(|source| CopyError::Read { path: path.to_owned(), source })?;
        check_regular(path, &opened, limit)?;
        Ok(SourceFile { path: path.to_owned(), file, opened, is_at_path: true })
    }

    /// A file that is open already, whatever has become of its path.
    ///
    /// # Errors
    /// It can't be looked at.
    pub(super) fn held(path: &Path, file: File, limit: u64) -> Result<SourceFile, CopyError> {
        let opened = file.metadata();
        let opened = opened.map_err(|source| CopyError::Read { path: path.to_owned(), source })?;
        check_regular(path, &opened, limit)?;
        Ok(SourceFile { path: path.to_owned(), file, opened, is_at_path: false })
    }

    /// What the system said of it when it was opened.
    pub(crate) fn opened(&self) -> &Metadata {
        &self.opened
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.opened.len()
    }

    /// How it begins: [`HEAD`] bytes, or all that it has.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn head(&mut self) -> Result<Vec<u8>, CopyError> {
        self.read_up_to(HEAD as u64)
    }

    /// All of it, in memory.
    ///
    /// # Errors
    /// It cannot be read, or has changed meanwhile.
    pub(crate) fn read(&mut self) -> Result<Vec<u8>, CopyError> {
        let bytes = self.read_up_to(self.len())?;
        self.check().map(|()| bytes)
    }

    /// Copies it to the empty file `to`, which lies at `path`.
    ///
    /// # Errors
    /// It can't be read or written, or has changed meanwhile.
    pub(super) fn copy_to(&self, to: &File, path: &Path) -> Result<(), CopyError> {
        let copied = content::copy(&self.file, to, self.len()).map_err(|step| match step {
            content::CopyStep::Read(error) => self.unreadable(error),
            content::CopyStep::Write(source) => CopyError::Write { path: path.to_owned(), source },
        })?;
        if copied < self.len() {
            return Err(self.changed());
        }
        self.check()
    }

    /// Whether it is still the file that was opened, with the content that it had.
    ///
    /// # Errors
    /// It is not: it should settle again.
    pub(crate) fn check(&self) -> Result<(), CopyError> {
        let at_path =
            || fs::metadata(&self.path).map_err(|error| CopyError::open(&self.path, error));
        let now = self.file.metadata().map_err(|error| self.unreadable(error))?;
        let is_same = |other: &Metadata| identity(other) == identity(&self.opened);
        let is_same = is_same(&now) && (!self.is_at_path || is_same(&at_path()?));
        if is_same { Ok(()) } else { Err(self.changed()) }
    }

    /// What it was when it was opened, for whoever asks later and does not hold it.
    pub(super) fn seen(&self) -> Seen {
        Seen { path: self.path.clone(), opened: self.opened.clone() }
    }

    pub(super) fn changed(&self) -> CopyError {
        CopyError::ChangedWhileCopying { path: self.path.clone() }
    }

    pub(super) fn unreadable(&self, source: io::Error) -> CopyError {
        CopyError::Read { path: self.path.clone(), source }
    }

    fn read_up_to(&mut self, bytes: u64) -> Result<Vec<u8>, CopyError> {
        let mut read = Vec::new();
        let all = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| (&self.file).take(bytes).read_to_end(&mut read));
        all.map_err(|error| self.unreadable(error)).map(|_| read)
    }
}

/// A file that was opened, and is not open any more.
#[derive(Debug)]
pub(super) struct Seen {
    path: PathBuf,
    opened: Metadata,
}

impl Seen {
    /// Whether it lies there with the content that it had.
    pub(super) fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|now| identity(&now) == identity(&self.opened))
    }
}

fn check_regular(path: &Path, metadata: &Metadata, limit: u64) -> Result<(), CopyError> {
    if !metadata.is_file() {
        return Err(CopyError::not_regular(path, metadata.file_type()));
    }
    if metadata.len() > limit {
        return Err(CopyError::TooLarge { path: path.to_owned(), found: metadata.len(), limit });
    }
    Ok(())
}

/// What changes when a file is written to or replaced. Not the time of its last status change: a
/// new mode or another link to it leave the content alone.
fn identity(metadata: &Metadata) -> (u64, u64, u64, i64, i64) {
    (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}
