//! The bytes of a file, in memory of their own.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;

use memmap2::MmapMut;

/// What was read of a file.
///
/// Not on the heap: files are read on many threads, whose heaps would keep the memory for later. After a start with 200
/// files of 1 MB, that were 20 MB.
#[derive(Debug)]
pub(crate) struct Content {
    memory: MmapMut,
    len: usize,
}

impl Content {
    /// Reads up to one byte more than `expected`: enough to see that the file has grown.
    pub(super) fn read(mut file: &File, expected: u64) -> io::Result<Content> {
        let room = usize::try_from(expected).unwrap_or(usize::MAX).saturating_add(1);
        let mut content = Content { memory: MmapMut::map_anon(room)?, len: 0 };
        while content.len < room {
            match file.read(&mut content.memory[content.len..]) {
                Ok(0) => break,
                Ok(read) => content.len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(content)
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}
