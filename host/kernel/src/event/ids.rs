//! The numbers of events.

use std::{
    cell::Cell,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::executor::clock;

/// The number of an event. It is unique in this host, and in practice across restarts of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(u64);

impl EventId {
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    pub(crate) fn of_number(number: u64) -> Self {
        EventId(number)
    }

    /// The number that [`Display`](fmt::Display) writes, with or without what stands before it;
    /// `None` if the text is none.
    ///
    /// ```
    /// let id = ksi_kernel::event::EventId::parse("evt_1a2b").expect("a number");
    /// assert_eq!(id.to_string(), "evt_1a2b");
    /// assert_eq!(ksi_kernel::event::EventId::parse("order:place"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.strip_prefix("evt_").unwrap_or(text);
        u64::from_str_radix(number, 16).ok().filter(|number| *number != 0).map(EventId)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{:x}", self.0)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Gives events their numbers.
#[derive(Debug)]
pub(crate) struct EventIds {
    /// Tells this host's numbers from another one's in the same process.
    of: u64,
    next: AtomicU64,
}

/// How many numbers a thread takes at a time, so that emitting threads do not meet at each event.
const BLOCK: u64 = 256;

thread_local! {
    /// Numbers that this thread has taken: of which host, the next one, and the end.
    static TAKEN: Cell<(u64, u64, u64)> = const { Cell::new((0, 0, 0)) };
}

impl EventIds {
    /// Starts at the present time, with room for a million events a millisecond, so that a
    /// restarted host does not repeat numbers that a log already holds.
    pub(crate) fn new() -> Self {
        static HOSTS: AtomicU64 = AtomicU64::new(1);
        let millis = clock::unix_time().as_millis();
        EventIds {
            of: HOSTS.fetch_add(1, Ordering::Relaxed),
            next: AtomicU64::new(u64::try_from(millis << 20).unwrap_or(1)),
        }
    }

    #[inline]
    pub(crate) fn next(&self) -> EventId {
        let (of, next, end) = TAKEN.get();
        let (next, end) = match of == self.of && next < end {
            true => (next, end),
            false => {
                let first = self.next.fetch_add(BLOCK, Ordering::Relaxed);
                (first, first + BLOCK)
            }
        };
        TAKEN.set((self.of, next + 1, end));
        EventId(next)
    }
}
