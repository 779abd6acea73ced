//! Reading memory that may be freed, unmapped or written meanwhile.
//!
//! The kernel copies it, into a pipe and out of it again: where nothing is mapped that is an error
//! and no crash, and there is no reference to what others write. It needs no right and no `/proc`.
//! What is copied may be of any age.

#![allow(unsafe_code)]

use std::{
    cell::RefCell,
    io::{self, PipeReader, PipeWriter, Read},
    os::fd::AsRawFd,
};

/// What is copied at a time: no more than any pipe takes at once, and never beyond the page that it
/// begins in.
const PAGE: usize = 4096;
const WORD: usize = size_of::<usize>();

pub(super) struct Peek {
    pipe: RefCell<(PipeReader, PipeWriter)>,
}

impl Peek {
    /// # Errors
    /// The process has no descriptors left.
    pub(super) fn new() -> io::Result<Peek> {
        Ok(Peek { pipe: RefCell::new(io::pipe()?) })
    }

    /// The words from this address on, so many or as many as can be read before the first page that
    /// cannot.
    pub(super) fn some_words(&self, address: usize, count: usize) -> Vec<usize> {
        let bytes = self.bytes(address, count.saturating_mul(WORD));
        let (whole, _) = bytes.as_chunks::<WORD>();
        whole.iter().map(|word| usize::from_ne_bytes(*word)).collect()
    }

    /// The words before this address, so many or as many as can be read after the last page that
    /// cannot, and not in order.
    pub(super) fn words_before(&self, mut address: usize, count: usize) -> Vec<usize> {
        let mut words = Vec::new();
        while let Some(last) = address.checked_sub(1).filter(|_| words.len() < count) {
            let page = last - last % PAGE;
            let missing = (count - words.len()).saturating_mul(WORD);
            let from = address.saturating_sub(missing).max(page);
            let some = self.some_words(from, (address - from) / WORD);
            if some.len() < (address - from) / WORD {
                break;
            }
            words.extend(some);
            address = from;
        }
        words
    }

    /// The bytes from this address on, so many or as many as can be read before the first page that
    /// cannot.
    pub(super) fn bytes(&self, mut address: usize, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut copied = [0; PAGE];
        while bytes.len() < count {
            let Some(copied) = self.copy(address, &mut copied) else { break };
            bytes.extend_from_slice(copied);
            address = address.wrapping_add(copied.len());
        }
        bytes.truncate(count);
        bytes
    }

    /// The words from this address on, up to one that is null. Nothing if there is none among
    /// `most`, or if some of them cannot be read.
    pub(super) fn words(&self, mut address: usize, most: usize) -> Option<Vec<usize>> {
        let mut words = Vec::new();
        let mut copied = [0; PAGE];
        while words.len() <= most {
            let copied = self.copy(address, &mut copied).filter(|copied| copied.len() >= WORD)?;
            let (whole, _) = copied.as_chunks::<WORD>();
            for word in whole {
                match usize::from_ne_bytes(*word) {
                    0 => return Some(words),
                    word => words.push(word),
                }
            }
            address = address.checked_add(whole.len() * WORD)?;
        }
        None
    }

    /// The bytes from this address on, up to a zero byte or to what cannot be read, at most so
    /// many.
    pub(super) fn text(&self, mut address: usize, most: usize) -> Vec<u8> {
        let mut text = Vec::new();
        let mut copied = [0; PAGE];
        while text.len() < most {
            let Some(copied) = self.copy(address, &mut copied) else { break };
            let end = copied.iter().position(|byte| *byte == 0);
            text.extend_from_slice(&copied[..end.unwrap_or(copied.len())]);
            if end.is_some() {
                break;
            }
            address = address.wrapping_add(copied.len());
        }
        text.truncate(most);
        text
    }

    /// What lies there up to the end of the page.
    fn copy<'a>(&self, address: usize, to: &'a mut [u8; PAGE]) -> Option<&'a [u8]> {
        let length = PAGE - address % PAGE;
        let (reader, writer) = &mut *self.pipe.borrow_mut();
        // Past the C library: a sanitizer has the function of that look at the memory first, and is
        // right from its view. SAFETY: the kernel reads what is there, or says that it cannot.
        // Nothing is written.
        let written = unsafe {
            libc::syscall(libc::SYS_write, writer.as_raw_fd(), address as *const u8, length)
        };
        let written = usize::try_from(written).ok().filter(|written| *written > 0)?;
        let to = to.get_mut(..written)?;
        reader.read_exact(to).ok()?;
        Some(to)
    }
}
