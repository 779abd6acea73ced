//! Where a program that embeds a host is entered when its host has started it again: to try a
//! plugin file, or for a plugin to live in.

use crate::plugin::{
    probe::answer::{self, ChildEntry},
    worker,
};

/// Answers if this process was started as a probe, and is the process of a plugin if it was started
/// for one; it does not return then. What it gives otherwise is for
/// [`Host::builder`](crate::Host::builder).
///
/// To be called first thing in `main` of a program that embeds a host: before argument parsing,
/// threads and runtimes.
///
/// ```no_run
/// // First thing in `main`:
/// let entry = ksi_host::answer_probe();
/// // Arguments, threads and a runtime come here.
/// let builder = ksi_host::Host::builder(entry);
/// ```
///
/// A program that forgets it is told so by the compiler:
///
/// ```compile_fail,E0061
/// let builder = ksi_host::Host::builder();
/// ```
pub fn answer_probe() -> ChildEntry {
    answer::answer(&[
        (worker::ARGUMENT, worker::child::answer),
        (worker::limited::ARGUMENT, worker::limited::answer),
    ])
}
