//! Deaths of the host by a plugin's code: noted before, told when they happen, known at the next
//! start.
//!
//! Code inside the process can end it, and nothing here prevents that. What can be had is that
//! nobody has to guess who it was. Before the code of a generation runs for the first time, a
//! [`note`] says so, in the [`journal`] on disk and for this thread ([`now`]); it is gone when the
//! code has come back. When the process dies, the [`handler`] of its last signal, or of an `exit`
//! that is not the host's own, writes one line on standard error and in the journal, and marks the
//! note of the step that this thread was at. The next start reads what is left.
//!
//! What a signal handler reads is made for that: numbers and texts of fixed size in atomics
//! ([`label`](ksi_kernel::label)).
//!
//! This module does not know what follows from a death: see `plugin/supervisor/quarantine.rs`.

#[cfg(target_os = "linux")]
mod handler;
mod journal;
#[cfg(target_os = "linux")]
mod line;
mod now;

pub use journal::JournalError;
pub(crate) use journal::{CrashReport, Journal};
pub(crate) use now::{About, Noted, note};

/// As long as this lives, a death of the process by a plugin leaves one line on standard error. See
/// [`last_words`].
#[derive(Debug)]
#[must_use = "an exit of the process counts as a plugin's for as long as this lives"]
pub struct LastWords(());

/// Has a death of this process by code of a plugin leave one line on standard error that names
/// plugin, handler and event, wherever the system allows it: SIGSEGV, SIGBUS, SIGFPE, SIGILL and
/// SIGABRT, and `exit` by anybody but the program itself. The line also goes into the crash journal
/// of a host that has one (`recovery.dir`), so that its next start knows which file it was.
///
/// To be called once, early in `main`, and to be kept until the program is about to end. Before any
/// other end of the process that is its own doing it calls [`expect_exit`]. Signals go on to
/// whoever handled them before, so core dumps, the exit status and the message of Rust's runtime on
/// a stack overflow stay as they are.
///
/// Nothing is told of a SIGKILL, of `_exit`, and of a stack overflow on a thread that a plugin's C
/// code has started. On other systems than Linux, nothing is told at all.
///
/// # Errors
/// The system does not take the handlers.
pub fn last_words() -> std::io::Result<LastWords> {
    #[cfg(target_os = "linux")]
    handler::install()?;
    Ok(LastWords(()))
}

/// From here on an exit of the process is the program's own, and what plugins are at work on is not
/// what it ends of: the notes in the crash journal are gone.
pub fn expect_exit() {
    #[cfg(target_os = "linux")]
    handler::expect_exit();
}

impl Drop for LastWords {
    fn drop(&mut self) {
        expect_exit();
    }
}
