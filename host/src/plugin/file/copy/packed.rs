//! The bytes of many files in one file that has no name: what is held of a folder by one
//! descriptor, however many files it has. Nobody can remove it, and it goes with the descriptor.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// See the module.
#[derive(Debug)]
pub(super) struct Pack {
    file: File,
    len: u64,
}

/// Where the bytes of one file are in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    at: u64,
    len: u64,
}

impl Span {
    pub(super) fn len(self) -> u64 {
        self.len
    }
}

impl Pack {
    /// An empty one, in the file system of this folder.
    pub(super) fn new(folder: &Path) -> io::Result<Pack> {
        Ok(Pack { file: tempfile::tempfile_in(folder)?, len: 0 })
    }

    /// Adds what is in a file that nobody writes to.
    pub(super) fn add(&mut self, mut file: &File) -> io::Result<Span> {
        file.seek(SeekFrom::Start(0))?;
        self.file.seek(SeekFrom::Start(self.len))?;
        let len = io::copy(&mut file, &mut self.file)?;
        let span = Span { at: self.len, len };
        self.len += len;
        Ok(span)
    }

    /// Writes what is there to an empty file.
    pub(super) fn unpack(&mut self, span: Span, mut to: &File) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(span.at))?;
        let copied = io::copy(&mut (&self.file).take(span.len), &mut to)?;
        match copied == span.len {
            true => to.flush(),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
