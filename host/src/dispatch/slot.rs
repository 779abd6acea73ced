//! What a dispatch worker is doing at the moment: for the watchdog, for log lines, and for the question how deep calls
//! are nested on its stack.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

thread_local! {
    /// What this thread is doing, if it is a dispatch worker.
    static SLOT: RefCell<Option<Arc<Slot>>> = const { RefCell::new(None) };
}

/// What a worker is doing at the moment, for the watchdog and for log lines.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// The key of the handler whose call is being polled; 0 for none.
    pub(crate) handler: AtomicU64,
    /// The number of its event.
    pub(crate) event: AtomicU64,
    /// Counts begun and ended polls: odd while one runs.
    pub(crate) polls: AtomicU64,
    /// How many calls are being polled inside one another.
    nested: AtomicU64,
    /// Whether it is a thread for calls, and not one that may be blocked.
    pub(super) for_calls: bool,
    /// It has taken its last task.
    pub(super) left: AtomicBool,
}

impl Slot {
    pub(super) fn new(for_calls: bool) -> Self {
        Slot { for_calls, ..Slot::default() }
    }
}

/// How many calls may be polled inside one another on one stack. A handler's emit polls the handlers of that event in
/// place, which is cheap; a long chain of events would fill the stack.
const NESTED: u64 = 8;

/// Whether this thread is a dispatch worker.
pub(crate) fn on_worker() -> bool {
    SLOT.with(|slot| slot.borrow().is_some())
}

/// Whether a call may be polled here and now: on a dispatch worker, and not too deep inside others.
pub(crate) fn may_poll_here() -> bool {
    with_slot(|slot| slot.nested.load(Ordering::Relaxed) < NESTED) == Some(true)
}

/// Runs the poll of a call, with this worker's slot saying whose it is: a handler's key and an event's number. Afterwards it
/// says what it said before, also if the poll unwinds.
#[inline]
pub(crate) fn polling<T>(handler: u64, event: u64, poll: impl FnOnce() -> T) -> T {
    SLOT.with(|slot| {
        let slot = slot.borrow();
        let Some(slot) = slot.as_deref() else { return poll() };
        let outer = slot.polled();
        let _restored = Restored { slot, outer };
        slot.set_polled(Polled { handler, event, nested: outer.nested + 1 });
        poll()
    })
}

/// Whose call is being polled, and how deep inside others.
#[derive(Clone, Copy)]
struct Polled {
    handler: u64,
    event: u64,
    nested: u64,
}

/// Only the worker itself writes to its slot, so plain loads and stores will do.
impl Slot {
    fn polled(&self) -> Polled {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Polled {
            handler: read(&self.handler),
            event: read(&self.event),
            nested: read(&self.nested),
        }
    }

    fn set_polled(&self, polled: Polled) {
        let write = |number: &AtomicU64, value| number.store(value, Ordering::Relaxed);
        write(&self.handler, polled.handler);
        write(&self.event, polled.event);
        write(&self.nested, polled.nested);
    }
}

/// Has the slot say again, in the end, what it said before.
struct Restored<'a> {
    slot: &'a Slot,
    outer: Polled,
}

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        self.slot.set_polled(self.outer);
    }
}

/// Looks at what this thread is doing, if it is a dispatch worker.
pub(crate) fn with_slot<T>(look: impl FnOnce(&Slot) -> T) -> Option<T> {
    SLOT.with(|slot| slot.borrow().as_deref().map(look))
}

/// This thread becomes a worker, with this slot.
pub(super) fn enter(slot: Arc<Slot>) {
    SLOT.with(|own| *own.borrow_mut() = Some(slot));
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        thread,
    };

    use super::*;

    fn present() -> Option<[u64; 3]> {
        with_slot(|slot| {
            [&slot.handler, &slot.event, &slot.nested].map(|number| number.load(Ordering::Relaxed))
        })
    }

    #[test]
    fn a_slot_says_what_is_polled_and_then_what_was_polled_before_also_when_that_unwinds() {
        // A thread of its own becomes the worker.
        let worker = thread::spawn(|| {
            enter(Arc::new(Slot::new(true)));
            polling(1, 10, || {
                assert_eq!(present(), Some([1, 10, 1]));
                assert_eq!(polling(2, 20, present), Some([2, 20, 2]));
                assert_eq!(present(), Some([1, 10, 1]));
                let unwound = catch_unwind(AssertUnwindSafe(|| polling(3, 30, || panic!("host"))));
                assert!(unwound.is_err());
                assert_eq!(present(), Some([1, 10, 1]));
            });
            assert_eq!(present(), Some([0, 0, 0]));
            for _ in 0..=NESTED {
                let unwound = catch_unwind(AssertUnwindSafe(|| polling(3, 30, || panic!("host"))));
                assert!(unwound.is_err());
            }
            assert!(may_poll_here());
        });
        worker.join().unwrap();
    }
}
