//! What still needs a library just before it is closed, although its instance is gone and the dispatch workers of its
//! time have ended.
//!
//! Closing it while something in the process points into it is a crash of the whole host, later and elsewhere. So each
//! way to leave something behind has a look of its own here, and as long as one finds anything, the library stays open
//! and the cause is told. A look puts back what can be put back, and runs again before each further attempt.

mod environment;

use std::fmt;

use super::load::{Closed, PluginLibrary};

/// Something in the process that needs a library's memory. Its text goes on from "its library stays in memory: ".
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

/// All that needs a library, each by name. Called when no code of the plugin runs on the host's threads any more, and
/// again before each attempt to close it.
pub(crate) fn before_close(library: &PluginLibrary) -> Vec<Remaining> {
    let memory = library.memory();
    // Each way to leave something behind adds what it finds.
    environment::look(&memory)
}

/// Closes a library that nothing needs; otherwise gives it back, with the reasons.
pub(super) fn close(library: PluginLibrary) -> Result<Closed, (PluginLibrary, Vec<Remaining>)> {
    let remaining = before_close(&library);
    match remaining.is_empty() {
        true => Ok(library.close()),
        false => Err((library, remaining)),
    }
}
