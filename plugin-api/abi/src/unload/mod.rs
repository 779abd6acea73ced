//! What a library must not leave behind in the C library, so that it can be unloaded, again and
//! again.
//!
//! A plugin's library carries hidden functions of its own under the names of some of the C
//! library's. What is linked into the plugin, its std and C code alike, binds to them; the host and
//! other libraries keep those of the C library. Each does what the C library does, through it, and
//! sees to it that closing the library is right: [`glibc`] says how.
//!
//! The host asks for what is noted before it closes the library (`before_close`). What a library
//! does through *another* library that it depends on is not seen here.
//!
//! Linux with glibc on x86-64 and aarch64 only. Elsewhere the functions are not there, and nothing
//! is noted.

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
pub mod glibc;

use abi_stable::{StableAbi, std_types::RSliceMut};

/// A thread that a library has started.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StartedThread {
    /// Its number in the kernel; 0 as long as it has only begun.
    pub id: u32,
    /// When it noted itself: ticks, a hundred a second, since the system was booted. A thread of
    /// this number that began later is another one.
    pub noted: u64,
}

/// What the C library and the kernel have of a library.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remains {
    /// Threads that it has started and that have not ended.
    pub threads: u64,
    /// Functions that were registered with `on_exit`.
    pub exit_functions: u64,
    /// Timers that call a function of it (`timer_create` with `SIGEV_THREAD`).
    pub timers: u64,
}

/// What remains of this library, which is about to be closed; `threads` is filled as far as it has
/// room.
///
/// No code of the library may run meanwhile but on the threads that this finds.
pub(super) extern "C" fn before_close(threads: RSliceMut<'_, StartedThread>) -> Remains {
    #[cfg(all(
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))]
    return glibc::before_close(threads.into_mut_slice());
    #[cfg(not(all(
        target_os = "linux",
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )))]
    {
        let _ = threads;
        Remains::default()
    }
}
