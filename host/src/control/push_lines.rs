//! The line of a large event, made once for all who are pushed it.
//!
//! Every subscriber is sent the same line. With a copy for each, one event of two megabytes and
//! twenty subscribers are forty megabytes to be written, for which everybody else waits: a request
//! for the host's health among them.
//!
//! Promises: what is remembered here keeps no memory, it is gone with the last client that it waits
//! for. Each of them is charged the whole line all the same: one alone may be who keeps it. Small
//! lines are made anew, which costs less than to find them.

use std::{
    collections::VecDeque,
    ops::Deref,
    sync::{Arc, OnceLock, Weak},
};

use ksi_kernel::event::{Event, EventId};
use ksi_kernel::lock::Lock;

use super::reply;

/// From so many bytes of payload on, a line is shared.
const LARGE: usize = 64 * 1024;
/// Lines that are remembered: of events that are pushed at the same time.
const REMEMBERED: usize = 16;

/// A line, for all who are to write it. Whoever needs it first makes it.
type SharedLine = OnceLock<Vec<u8>>;

/// Bytes that are written to clients.
#[derive(Debug)]
pub(super) enum Bytes {
    Own(Vec<u8>),
    /// One that was made.
    Shared(Arc<SharedLine>),
}

impl Bytes {
    pub(super) fn append(&mut self, more: &[u8]) {
        if let Bytes::Shared(shared) = self {
            *self = Bytes::Own(written(shared).to_vec());
        }
        if let Bytes::Own(own) = self {
            own.extend_from_slice(more);
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Own(bytes) => bytes,
            Bytes::Shared(line) => written(line),
        }
    }
}

fn written(line: &SharedLine) -> &[u8] {
    line.get().map(Vec::as_slice).unwrap_or_default()
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::Own(bytes)
    }
}

/// The lines of the large events that were pushed last, for all clients of a socket.
pub(super) struct PushLines<Id = EventId>(Lock<VecDeque<(Id, Weak<SharedLine>)>>);

impl<Id> Default for PushLines<Id> {
    fn default() -> Self {
        PushLines(Lock::default())
    }
}

impl PushLines {
    /// The line that subscribers get for an event.
    pub(super) fn of(&self, event: &Event) -> Bytes {
        match event.payload().as_json().len() < LARGE {
            true => reply::push(event).into(),
            false => self.shared(event.id(), || reply::push(event)),
        }
    }
}

impl<Id: PartialEq> PushLines<Id> {
    fn shared(&self, id: Id, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        let line = self.line(id);
        // Whoever needs the same one waits, which takes less time than to make it; nobody else
        // does.
        line.get_or_init(make);
        Bytes::Shared(line)
    }

    /// The one of an event, which may have to be made.
    fn line(&self, id: Id) -> Arc<SharedLine> {
        let mut lines = self.0.lock();
        let known = lines.iter().find(|(known, _)| *known == id);
        if let Some(line) = known.and_then(|(_, line)| line.upgrade()) {
            return line;
        }
        let line = Arc::<SharedLine>::default();
        lines.retain(|(_, line)| line.strong_count() > 0);
        lines.truncate(REMEMBERED - 1);
        lines.push_front((id, Arc::downgrade(&line)));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_made_once_and_gone_with_the_last_who_has_it() {
        let lines = PushLines::<u64>::default();
        let make = || b"line\n".to_vec();
        let Bytes::Shared(line) = lines.shared(1, make) else { panic!("it is not shared") };
        let again = lines.shared(1, || panic!("it is there"));
        assert!(matches!(&again, Bytes::Shared(again) if Arc::ptr_eq(&line, again)));
        assert_eq!(*lines.shared(2, || b"other\n".to_vec()), *b"other\n");
        let kept = Arc::downgrade(&line);
        drop((line, again));
        assert!(kept.upgrade().is_none());
        assert_eq!(*lines.shared(1, make), *b"line\n");
    }

    #[test]
    fn whoever_needs_another_line_does_not_wait_for_one_that_is_made() {
        let lines = PushLines::<u64>::default();
        let held = lines.shared(1, || {
            assert_eq!(*lines.shared(2, || b"other\n".to_vec()), *b"other\n");
            b"line\n".to_vec()
        });
        assert_eq!(*held, *b"line\n");
    }

    #[test]
    fn few_are_remembered() {
        let lines = PushLines::<u64>::default();
        let held: Vec<_> = (0..40).map(|id| lines.shared(id, || b"line\n".to_vec())).collect();
        assert_eq!(lines.0.lock().len(), REMEMBERED);
        drop(held);
    }

    #[test]
    fn what_is_appended_to_a_shared_line_is_seen_by_nobody_else() {
        let shared = Arc::new(SharedLine::from(b"one\n".to_vec()));
        let mut bytes = Bytes::Shared(shared.clone());
        bytes.append(b"two\n");
        assert_eq!((&*bytes, written(&shared)), (&b"one\ntwo\n"[..], &b"one\n"[..]));
    }
}
