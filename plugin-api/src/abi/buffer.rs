//! Bytes that either side writes and the host owns.
//!
//! A plugin's library may be unmapped while the host still holds a reply or an error text of it. So the memory of
//! every buffer comes from the host's allocator, through two functions that lie in the host, and dropping a buffer
//! never runs plugin code.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc},
    fmt, io,
    ops::Deref,
    ptr, slice,
    sync::atomic::{AtomicPtr, Ordering},
};

use abi_stable::StableAbi;

/// The two functions of the host that manage the memory of buffers.
#[repr(C)]
#[derive(StableAbi)]
pub struct Memory {
    /// `(pointer, old capacity, new capacity)` to the new pointer; (null, 0, n) allocates afresh. Never null.
    grow: unsafe extern "C" fn(*mut u8, usize, usize) -> *mut u8,
    /// `(pointer, capacity)`.
    free: unsafe extern "C" fn(*mut u8, usize),
}

/// How the memory is aligned, which is as any allocator does it without being asked.
pub(super) const ALIGN: usize = 16;

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, ALIGN).unwrap_or(Layout::new::<u8>())
}

impl Memory {
    /// A block of `size` bytes, which is above 0 and below `isize::MAX`. It starts at a multiple of [`ALIGN`].
    pub(super) fn block(&self, size: usize) -> *mut u8 {
        // SAFETY: (null, 0) asks for fresh memory.
        unsafe { (self.grow)(ptr::null_mut(), 0, size) }
    }

    /// # Safety
    /// `block` came from [`block`](Self::block) of the same memory with this size, and is not used again.
    pub(super) unsafe fn free_block(&self, block: *mut u8, size: usize) {
        // SAFETY: promised by the caller.
        unsafe { (self.free)(block, size) }
    }
}

/// The memory functions of the binary that this module was compiled into.
static OWN: Memory = {
    unsafe extern "C" fn grow(data: *mut u8, old: usize, new: usize) -> *mut u8 {
        // SAFETY: `Buffer::grow_to` asks for a capacity above 0 and below `isize::MAX`, and passes back what was
        // allocated here with the capacity it was allocated with.
        let grown = unsafe {
            match old {
                0 => alloc(layout(new)),
                _ => realloc(data, layout(old), new),
            }
        };
        match grown.is_null() {
            true => handle_alloc_error(layout(new)),
            false => grown,
        }
    }
    unsafe extern "C" fn free(data: *mut u8, capacity: usize) {
        // SAFETY: as in `grow`.
        unsafe { dealloc(data, layout(capacity)) }
    }
    Memory { grow, free }
};

/// What [`Buffer::new`] uses: the host's functions once a plugin was given them, before that this binary's own.
static CURRENT: AtomicPtr<Memory> = AtomicPtr::new(ptr::null_mut());

/// The memory functions in use; what a host hands to its plugins.
pub fn memory() -> &'static Memory {
    // SAFETY: only `adopt_memory` stores here, and it stores a `&'static`.
    unsafe { CURRENT.load(Ordering::Acquire).as_ref() }.unwrap_or(&OWN)
}

/// From now on buffers of this binary are allocated by `memory`. Called once, when a plugin's library is entered.
pub fn adopt_memory(memory: &'static Memory) {
    CURRENT.store(ptr::from_ref(memory).cast_mut(), Ordering::Release);
}

/// A growable array of bytes in the host's memory.
#[repr(C)]
#[derive(StableAbi)]
pub struct Buffer {
    data: *mut u8,
    len: usize,
    capacity: usize,
    memory: &'static Memory,
}

// SAFETY: a buffer owns its bytes alone, and the functions of `Memory` may be called from any thread.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// An empty buffer, without an allocation.
    pub fn new() -> Self {
        Buffer { data: ptr::null_mut(), len: 0, capacity: 0, memory: memory() }
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
    pub fn extend(&mut self, bytes: &[u8]) {
        let needed = self.len.saturating_add(bytes.len());
        if needed > self.capacity {
            self.grow_to(needed.max(self.capacity.saturating_mul(2)).max(64));
        }
        // SAFETY: there is room for `bytes.len()` bytes behind `len`, and `bytes` cannot lie in memory that is
        // borrowed mutably.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.data.add(self.len), bytes.len()) }
        self.len = needed;
    }

    fn grow_to(&mut self, capacity: usize) {
        assert!(isize::try_from(capacity).is_ok(), "a buffer of {capacity} bytes");
        // SAFETY: `data` and `capacity` are what the same `memory` gave before, or null and 0.
        self.data = unsafe { (self.memory.grow)(self.data, self.capacity, capacity) };
        self.capacity = capacity;
    }

    /// The text in it, with what is no UTF-8 replaced.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(self).into_owned()
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
        match self.len {
            0 => &[],
            // SAFETY: the first `len` bytes were written by `extend`.
            _ => unsafe { slice::from_raw_parts(self.data, self.len) },
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
        text.as_bytes().into()
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
        if self.capacity > 0 {
            // SAFETY: `data` was given by `memory.grow` with this capacity and is freed once.
            unsafe { (self.memory.free)(self.data, self.capacity) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
