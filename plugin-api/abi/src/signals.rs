//! What a plugin's library asks of the host when its code installs a signal handler.
//!
//! A process has one action for each signal. A handler that lies in a library would be called after
//! the library is closed, and a library that chains to the handler before its own would call one
//! that is gone. So no code of a library installs anything itself: the library's own `sigaction`
//! and `signal` ([`library`]) ask the host, which has the one real handler of each signal, calls
//! the libraries' handlers from there, and takes them out when their library goes.
//!
//! This module knows no rule of how signals are shared; it carries the question.

pub mod library;

use abi_stable::StableAbi;

/// What `sigaction` is told, and tells: with `SIG_DFL` (0) and `SIG_IGN` (1) as in C.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalAction {
    /// The address of the handler.
    pub handler: usize,
    /// `SA_SIGINFO` and the like.
    pub flags: i32,
    /// The signals that are blocked while the handler runs, bit 0 for signal 1.
    pub mask: u64,
}

impl SignalAction {
    /// Whether there is a handler: neither the default action nor to ignore the signal.
    pub const fn is_handler(&self) -> bool {
        self.handler > 1
    }
}

/// What the host gives to a library. It lies in memory of the host that is never freed. Its
/// functions can be called inside a signal handler: they take no lock that one could have
/// interrupted, and allocate nothing.
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct SignalHost {
    /// What the host knows the library by; the first argument of both functions.
    pub library: *const (),
    /// `sigaction` for the library: the signal, the new action or null, where the old one goes or
    /// null. It returns 0 or the number of an error. The old action is the library's own earlier
    /// one, or code of the host.
    pub set: unsafe extern "C" fn(*const (), i32, *const SignalAction, *mut SignalAction) -> i32,
    /// Takes over a handler that the library's constructors have installed themselves: the signal,
    /// that action, and the one that it took the place of.
    pub adopt:
        unsafe extern "C" fn(*const (), i32, *const SignalAction, *const SignalAction) -> i32,
}

// SAFETY: what it points to is the host's, which may be asked from any thread.
unsafe impl Send for SignalHost {}
// SAFETY: as above.
unsafe impl Sync for SignalHost {}
