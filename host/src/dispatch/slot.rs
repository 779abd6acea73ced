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

/// Runs the poll of a call, with this worker's slot saying whose it is: a handler's key and an event's number.
///
/// Only the worker itself writes to its slot, so plain loads and stores will do.
#[inline]
pub(crate) fn polling<T>(handler: u64, event: u64, poll: impl FnOnce() -> T) -> T {
    SLOT.with(|slot| {
        let slot = slot.borrow();
        let Some(slot) = slot.as_deref() else { return poll() };
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let write = |number: &AtomicU64, value| number.store(value, Ordering::Relaxed);
        let outer = (read(&slot.handler), read(&slot.event), read(&slot.nested));
        write(&slot.handler, handler);
        write(&slot.event, event);
        write(&slot.nested, outer.2 + 1);
        let result = poll();
        write(&slot.handler, outer.0);
        write(&slot.event, outer.1);
        write(&slot.nested, outer.2);
        result
    })
}

/// Looks at what this thread is doing, if it is a dispatch worker.
pub(crate) fn with_slot<T>(look: impl FnOnce(&Slot) -> T) -> Option<T> {
    SLOT.with(|slot| slot.borrow().as_deref().map(look))
}

/// This thread becomes a worker, with this slot.
pub(super) fn enter(slot: Arc<Slot>) {
    SLOT.with(|own| *own.borrow_mut() = Some(slot));
}
