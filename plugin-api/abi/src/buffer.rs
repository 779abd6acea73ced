//! Bytes that either side writes and the host owns.
//!
//! A buffer is one pointer, so that it crosses in a register: what is known of the bytes stands
//! before them, in the same block of the host's memory.

use std::{fmt, io, ops::Deref, ptr, slice};

use abi_stable::StableAbi;

use super::memory::{ALIGN, Memory, SMALL, memory};

/// A growable array of bytes in the host's memory.
#[repr(transparent)]
#[derive(StableAbi)]
#[sabi(unsafe_opaque_fields, phantom_field(block: Head))]
pub struct Buffer(*mut Head);

/// What a block begins with; the bytes follow.
#[repr(C)]
#[derive(StableAbi)]
struct Head {
    len: usize,
    /// Of the whole block.
    size: usize,
    memory: &'static Memory,
    /// Whether the bytes are known to be UTF-8.
    is_text: bool,
}

const HEAD: usize = size_of::<Head>();

// SAFETY: a buffer owns its block alone, and the functions of `Memory` may be called from any
// thread.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// An empty buffer, without an allocation.
    pub const fn new() -> Self {
        Buffer(ptr::null_mut())
    }

    /// An empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut buffer = Buffer::new();
        if capacity > 0 {
            buffer.grow_to(capacity);
        }
        buffer
    }

    /// Appends `bytes`.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        if bytes.len() > self.room() {
            self.grow_for(bytes.len());
        }
        if bytes.is_empty() {
            return;
        }
        // SAFETY: a buffer with room has a block, with room for `bytes.len()` bytes behind `len`;
        // and `bytes` cannot lie in memory that is borrowed mutably.
        unsafe {
            let end = self.0.cast::<u8>().add(HEAD + (*self.0).len);
            ptr::copy_nonoverlapping(bytes.as_ptr(), end, bytes.len());
            (*self.0).len += bytes.len();
            (*self.0).is_text = false;
        }
    }

    /// What is in it, if it is known to be text without a look at it.
    #[inline]
    pub fn as_text(&self) -> Option<&str> {
        // SAFETY: only `mark_text` says so, whose caller promised it, and every change of the bytes
        // takes it back.
        self.head()?.is_text.then(|| unsafe { str::from_utf8_unchecked(self) })
    }

    /// # Safety
    /// The bytes are UTF-8.
    unsafe fn mark_text(&mut self) {
        // SAFETY: a pointer that is not null is that of a block that begins with a head.
        if let Some(head) = unsafe { self.0.as_mut() } {
            head.is_text = true;
        }
    }

    #[inline]
    fn room(&self) -> usize {
        self.head().map_or(0, |head| head.size - HEAD - head.len)
    }

    #[inline]
    fn head(&self) -> Option<&Head> {
        // SAFETY: a pointer that is not null is that of a block that begins with a head.
        unsafe { self.0.as_ref() }
    }

    #[cold]
    fn grow_for(&mut self, more: usize) {
        let capacity = self.head().map_or(0, |head| head.size - HEAD);
        self.grow_to(self.len().saturating_add(more).max(capacity.saturating_mul(2)));
    }

    fn grow_to(&mut self, capacity: usize) {
        // A small block is there at once.
        let size = capacity.saturating_add(HEAD).max(SMALL);
        assert!(size <= isize::MAX as usize - ALIGN, "a buffer of {capacity} bytes");
        // SAFETY: a block that is there came from the memory in its head, with the size in its
        // head. A block has room for a head, and is aligned for it.
        unsafe {
            match self.0.as_ref() {
                Some(head) => {
                    let (memory, old) = (head.memory, head.size);
                    self.0 = memory.grow(self.0.cast(), old, size).cast();
                    (*self.0).size = size;
                }
                None => {
                    let memory = memory();
                    self.0 = memory.block(size).cast();
                    self.0.write(Head { len: 0, size, memory, is_text: false });
                }
            }
        }
    }

    /// The text in it, with what is no UTF-8 replaced.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(self).into_owned()
    }
}

/// Writes many small pieces into a buffer: where the next one goes is at hand, and not behind a
/// pointer.
pub(super) struct Writer {
    buffer: Buffer,
    /// Where the next piece goes; the buffer knows nothing of those that were written since it was
    /// told.
    end: *mut u8,
    /// How much fits there.
    left: usize,
}

impl Writer {
    /// Into a buffer of its own.
    pub(super) fn new() -> Self {
        let buffer = Buffer::with_capacity(1);
        let mut writer = Writer { buffer, end: ptr::null_mut(), left: 0 };
        writer.look();
        writer
    }

    /// What was written.
    ///
    /// # Safety
    /// It is UTF-8.
    pub(super) unsafe fn finish_text(self) -> Buffer {
        let mut buffer = self.finish();
        // SAFETY: promised by the caller.
        unsafe { buffer.mark_text() };
        buffer
    }

    fn finish(mut self) -> Buffer {
        self.tell();
        std::mem::take(&mut self.buffer)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        if bytes.len() > self.left {
            self.tell();
            self.buffer.grow_for(bytes.len());
            self.look();
        }
        // SAFETY: there is room for `left` bytes at `end`, in a block that this writer owns.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.end, bytes.len());
            self.end = self.end.add(bytes.len());
        }
        self.left -= bytes.len();
    }

    /// Looks where the next piece goes.
    fn look(&mut self) {
        self.left = self.buffer.room();
        // SAFETY: a buffer that was made with a capacity has a block, and its bytes end inside it.
        self.end = unsafe { self.buffer.0.cast::<u8>().add(HEAD + self.buffer.len()) };
    }

    /// Tells the buffer how long it is.
    fn tell(&mut self) {
        let written = self.buffer.room() - self.left;
        // SAFETY: as in `look`; so many bytes were written behind those that it knows.
        unsafe { (*self.buffer.0).len += written };
    }
}

impl io::Write for Writer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Writer::write(self, bytes);
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Writer::write(self, bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer::new()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.head() {
            None => &[],
            // SAFETY: the first `len` bytes behind the head were written by `extend`.
            Some(head) => unsafe { slice::from_raw_parts(self.0.cast::<u8>().add(HEAD), head.len) },
        }
    }
}

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Self {
        let mut buffer = Buffer::with_capacity(bytes.len());
        buffer.extend(bytes);
        buffer
    }
}

impl From<&str> for Buffer {
    fn from(text: &str) -> Self {
        let mut buffer = Buffer::from(text.as_bytes());
        // SAFETY: it was made of a text.
        unsafe { buffer.mark_text() };
        buffer
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({:?})", String::from_utf8_lossy(self))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(head) = self.head() {
            let (memory, size) = (head.memory, head.size);
            // SAFETY: the block came from this memory with this size, and is freed once.
            unsafe { memory.free(self.0.cast(), size) }
        }
    }
}

/// A code for programs and a message for people, in one buffer.
#[repr(transparent)]
#[derive(StableAbi, Debug)]
pub struct Failure(Buffer);

impl Failure {
    /// A failure of this code and message.
    pub fn new(code: &str, message: &str) -> Self {
        let mut both = Buffer::with_capacity(4 + code.len() + message.len());
        let length = u32::try_from(code.len()).unwrap_or(0);
        both.extend(&length.to_le_bytes());
        both.extend(if length == 0 { &[] } else { code.as_bytes() });
        both.extend(message.as_bytes());
        Failure(both)
    }

    /// Code and message, with what is no UTF-8 replaced.
    pub fn to_texts(&self) -> (String, String) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (code, message) = match self.0.split_first_chunk::<4>() {
            Some((length, rest)) => {
                let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(0);
                rest.split_at(length.min(rest.len()))
            }
            None => (&[][..], &self.0[..]),
        };
        (text(code), text(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::check_layouts;

    /// The buffer of a build whose blocks begin with this head.
    macro_rules! buffer_of_build {
        ($build:ident: $($field:ident: $type:ty),*) => {
            #[allow(dead_code, unreachable_pub)]
            mod $build {
                use super::*;

                #[repr(transparent)]
                #[derive(StableAbi)]
                #[sabi(unsafe_opaque_fields, phantom_field(block: Head))]
                pub struct Buffer(*mut Head);

                #[repr(C)]
                #[derive(StableAbi)]
                struct Head {
                    $($field: $type),*
                }
            }
        };
    }
    buffer_of_build!(same: len: usize, size: usize, memory: &'static Memory, is_text: bool);
    buffer_of_build!(other: size: usize, len: usize, memory: &'static Memory, is_text: bool);

    #[test]
    fn a_buffer_is_known_to_be_text_until_something_is_added() {
        let mut buffer = Buffer::from("ä");
        assert_eq!(buffer.as_text(), Some("ä"));
        buffer.extend(b"\xff");
        assert_eq!(buffer.as_text(), None);
        assert_eq!((Buffer::from(&b"a"[..]).as_text(), Buffer::new().as_text()), (None, None));
        let mut grown = Buffer::from("a");
        grown.extend(&[b'b'; 10_000]);
        assert_eq!(grown.as_text(), None);
    }

    #[test]
    fn a_build_with_another_head_is_refused() {
        assert_eq!(check_layouts(Buffer::LAYOUT, same::Buffer::LAYOUT), Ok(()));
        assert!(check_layouts(Buffer::LAYOUT, other::Buffer::LAYOUT).is_err());
    }

    #[test]
    fn a_buffer_holds_what_was_written_in_pieces() {
        let mut buffer = Buffer::new();
        assert!(buffer.is_empty());
        let mut expected = Vec::new();
        for n in 0..1_000u32 {
            buffer.extend(&n.to_le_bytes());
            expected.extend(n.to_le_bytes());
        }
        assert_eq!(&*buffer, &expected[..]);
        assert_eq!(Buffer::from("text").to_text(), "text");
        assert!(Buffer::from("").is_empty());
    }

    #[test]
    fn a_writer_loses_nothing_however_it_is_cut() {
        for piece in [1, 3, 64, 231, 232, 233, 1_000] {
            let mut writer = Writer::new();
            let expected: Vec<u8> = (0..5_000u32).map(|n| n.to_le_bytes()[0]).collect();
            expected.chunks(piece).for_each(|bytes| writer.write(bytes));
            assert_eq!(&*writer.finish(), &expected[..], "{piece} bytes at a time");
        }
        assert!(Writer::new().finish().is_empty());
    }

    #[test]
    fn code_and_message_of_a_failure_stay_apart() {
        for (code, message) in [("", ""), ("code", ""), ("", "text"), ("a b", "c: d")] {
            let texts = Failure::new(code, message).to_texts();
            assert_eq!(texts, (code.to_owned(), message.to_owned()));
        }
    }
}
