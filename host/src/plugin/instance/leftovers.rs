//! What still needs a library just before it is closed, although its instance is gone and the
//! dispatch workers of its time have ended.
//!
//! Closing it while something in the process points into it is a crash of the whole host, later and
//! elsewhere. So each way to leave something behind has a look of its own here, and as long as one
//! finds anything, the library stays open and the cause is told. A look puts back what can be put
//! back, and runs again before each further attempt.

mod dependencies;
mod environment;
#[cfg(unix)]
mod peek;
mod signal_handlers;
mod threads;

use std::{fmt, time::Duration};

use ksi_abi::unload::StartedThread;

use self::threads::{Memory, Others};
use super::library::{Closed, PluginLibrary};

/// How many threads are asked for by name.
const THREADS: usize = 256;
/// How long one look waits for the end of the thread that a library was opened on.
const THREAD_ENDS: Duration = Duration::from_millis(250);

/// Something in the process that needs a library's memory. Its text goes on from "its library stays
/// in memory: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remaining(String);

impl Remaining {
    /// Worded for people: what it is, by name, and who can end it.
    pub(crate) fn new(cause: impl Into<String>) -> Self {
        Remaining(cause.into())
    }
}

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All that needs a library, each by name. Called when no code of the plugin runs on the host's
/// threads any more, and again before each attempt to close it.
pub(crate) fn before_close(library: &PluginLibrary) -> Vec<Remaining> {
    let memory = library.memory();
    let objects = dependencies::objects();
    let dependencies = dependencies::going_with(&objects, &memory);
    let threads =
        threads::search(&Memory::around(&memory, &dependencies, &objects), library.opened);
    // Each way to leave something behind adds what it finds.
    let mut remaining = noted_by(library, threads);
    remaining.extend(environment::look(&memory));
    remaining.extend(signal_handlers::look(library, &memory, &dependencies));
    remaining
}

/// What the library itself has noted, with the threads that were found besides.
fn noted_by(library: &PluginLibrary, others: Others) -> Vec<Remaining> {
    let mut threads = vec![StartedThread::default(); THREADS];
    let remains = library.remains(&mut threads);
    let known = usize::try_from(remains.threads).unwrap_or(THREADS).min(THREADS);
    let mut remaining = threads::look(remains.threads, &threads[..known], others);
    if remains.exit_functions > 0 {
        remaining.push(Remaining::new(
            "the C library will call a function of it at the end of the process: it was registered with `on_exit`. Use `atexit`",
        ));
    }
    if remains.timers > 0 {
        remaining.push(Remaining::new(format!(
            "{} timer(s) still call a function of it (`timer_create` with SIGEV_THREAD): end them with `timer_delete`",
            remains.timers
        )));
    }
    remaining
}

/// Closes a library that nothing needs; otherwise gives it back, with the reasons.
pub(in crate::plugin) fn close(
    mut library: PluginLibrary,
) -> Result<Closed, (PluginLibrary, Vec<Remaining>)> {
    if !library.is_held() {
        return Ok(library.close());
    }
    let mut remaining = before_close(&library);
    // Not earlier: threads that are left may rely on that one.
    if remaining.is_empty() {
        match library.end_thread(THREAD_ENDS) {
            Some(true) => remaining = before_close(&library),
            Some(false) => remaining.push(Remaining::new(
                "the thread that it was opened on does not end: a destructor of a thread-local keeps it",
            )),
            None => {}
        }
    }
    match remaining.is_empty() {
        true => Ok(library.close()),
        false => Err((library, remaining)),
    }
}
