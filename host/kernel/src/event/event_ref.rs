//! An event in the hands of a program: of a handler of the host's, or of a watcher.

use std::{fmt, ops::Deref};

use ksi_abi::Counted;

use super::Event;

/// An emitted event that somebody holds, for as long as he likes. A clone is the same event.
#[derive(Clone)]
pub struct EventRef(Counted<Event>);

impl EventRef {
    /// Of an event that holds nothing of a plugin.
    pub(crate) fn new(event: Counted<Event>) -> Self {
        EventRef(event)
    }

    /// As the router has it.
    pub(crate) fn counted(&self) -> &Counted<Event> {
        &self.0
    }
}

impl Deref for EventRef {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.0
    }
}

impl fmt::Debug for EventRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
