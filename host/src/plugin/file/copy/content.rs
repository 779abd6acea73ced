//! The content of a private copy: moved by the kernel, and mapped to be read.
//!
//! It is never held in memory of this process's own: what is mapped is the file's own pages, which
//! the kernel takes back when it needs them. One of the places where `unsafe` stands, because a
//! mapping is only as constant as its file.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Deref;

use memmap2::Mmap;

/// The bytes of a copy.
#[derive(Debug)]
pub(crate) struct Content(Mmap);

impl Content {
    /// Maps a file that this process alone can reach, and writes to no more.
    pub(super) fn of_copy(copy: &File) -> io::Result<Content> {
        // SAFETY: `copy` was made by this process with a new name in a folder that no other user
        // may enter, under a lock that other hosts of this user respect, and nobody here writes to
        // a copy once it is made. So the bytes stay the same for as long as the mapping lives.
        unsafe { Mmap::map(copy) }.map(Content)
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Copies up to `len` bytes from the beginning of `from` into the empty file `to`, and makes that
/// so long; how many bytes there were. Holes stay holes, and the kernel shares or moves what it
/// can.
pub(super) fn copy(mut from: &File, mut to: &File, len: u64) -> Result<u64, CopyStep> {
    let mut at = 0;
    while at < len {
        let Some((begin, end)) = next_data(from, at, len).map_err(CopyStep::Read)? else { break };
        from.seek(SeekFrom::Start(begin)).map_err(CopyStep::Read)?;
        to.seek(SeekFrom::Start(begin)).map_err(CopyStep::Write)?;
        // Which of the two failed is not told; that it was written to is by far the more likely.
        let copied = io::copy(&mut from.take(end - begin), &mut to).map_err(CopyStep::Write)?;
        if copied < end - begin {
            return Ok(begin + copied);
        }
        at = end;
    }
    to.set_len(len).map_err(CopyStep::Write)?;
    Ok(len)
}

/// What copying failed at.
pub(super) enum CopyStep {
    Read(io::Error),
    Write(io::Error),
}

/// The next part of a file at or behind `at` that is no hole; `None` if there is nothing but a
/// hole.
#[cfg(target_os = "linux")]
fn next_data(file: &File, at: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
    use rustix::{fs::SeekFrom, io::Errno};
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(begin) if begin >= len => Ok(None),
        Ok(begin) => {
            let end = rustix::fs::seek(file, SeekFrom::Hole(begin))?;
            Ok(Some((begin, end.min(len))))
        }
        Err(Errno::NXIO) => Ok(None),
        // A file system that knows no holes.
        Err(_) => Ok(Some((at, len))),
    }
}

#[cfg(not(target_os = "linux"))]
fn next_data(_: &File, at: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
    Ok(Some((at, len)))
}
