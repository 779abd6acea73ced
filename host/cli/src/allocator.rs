//! How the C library's allocator deals with large buffers: they go back to the system when they are
//! freed.
//!
//! By itself it learns from the first large buffer that is freed to take all others of up to 32 MB
//! from its heaps, of which each thread has one, and which give nothing back while anything small
//! lies behind: with events of 2 MB, 80 MB in use kept 318 MB. A limit of bytes that wait would
//! bound a third of what the process takes.
//!
//! One of the places where `unsafe` stands, for a call of the C library. Other systems' allocators
//! are left alone, and so are programs that embed a host.

#![allow(unsafe_code)]

/// From this size on, a buffer has pages of its own, which are the system's again when it is freed.
/// Small enough to matter, and large enough that making pages for it costs less than filling it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 256 << 10;

/// What a heap may keep at its end. The default, 128 KiB, would go back and forth with every batch
/// of events.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: libc::c_int = 4 << 20;

/// To be called first thing, before there is another thread.
pub(crate) fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` changes parameters of the allocator, at any time; only while other threads
    // allocate it may race with them, and there are none yet. A value that it refuses leaves
    // everything as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}
