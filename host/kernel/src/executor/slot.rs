//! What a dispatch worker is doing at the moment: for the watchdog, for log lines, and for the
//! question how deep calls are nested on its stack.

#[cfg(feature = "in-place")]
use std::cell::RefCell;
use std::{
    cell::{Cell, OnceCell},
    fmt,
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::apart::{Late, Waits};
use crate::lock::Lock;

/// What times are counted from where they stand in a number.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    /// What this thread is doing, if it is a dispatch worker.
    static SLOT: OnceCell<Own> = const { OnceCell::new() };
    /// Whether it is one.
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
    /// Whose call this thread polls. Unlike the slot it costs nothing to look at, is still there
    /// when an `exit` inside of a call runs exit handlers, and may be looked at in a signal
    /// handler.
    static POLLED: PolledCell = const { PolledCell::new() };
}

#[cfg(feature = "in-place")]
thread_local! {
    /// What it is doing in place of that, while it is a worker for a time.
    static IN_PLACE: RefCell<Option<Arc<Slot>>> = const { RefCell::new(None) };
}

/// A thread's own slot.
struct Own(Arc<Slot>);

impl Drop for Own {
    fn drop(&mut self) {
        IS_WORKER.set(false);
    }
}

/// What a worker is doing at the moment, for the watchdog and for log lines.
#[derive(Default)]
pub(crate) struct Slot {
    /// The key of the handler whose call is being polled; 0 for none.
    pub(crate) handler: AtomicU64,
    /// The number of its event.
    pub(crate) event: AtomicU64,
    /// Counts begun and ended polls: odd while one runs.
    pub(crate) polls: AtomicU64,
    /// The first of them: its handler and its event, and until when it may take, in nanoseconds
    /// since this host's [`EPOCH`]; 0 if it is polled for the first time and has its whole timeout.
    outermost: [AtomicU64; 2],
    due: AtomicU64,
    /// What the thread is called.
    pub(super) thread: &'static str,
    /// Whether it is a thread for calls, and not one that may be blocked.
    pub(super) for_calls: bool,
    /// It has taken its last task.
    pub(super) left: AtomicBool,
    /// By which the system knows the thread; 0 before it has begun.
    thread_number: AtomicU32,
    /// The call that the watchdog found to be late: its handler and its event. Written by the
    /// watchdog alone.
    late: [AtomicU64; 2],
    /// Who waits for what is being polled, if it is somebody whom the watchdog can answer.
    waits: Lock<Option<Weak<dyn Waits>>>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (handler, event) = (&self.handler, &self.event);
        f.debug_struct("Slot")
            .field("handler", handler)
            .field("event", event)
            .finish_non_exhaustive()
    }
}

impl Slot {
    pub(super) fn new(thread: &'static str, for_calls: bool) -> Self {
        Slot { thread, for_calls, ..Slot::default() }
    }

    /// By which the system knows the thread, once it has begun.
    pub(super) fn thread_number(&self) -> Option<u32> {
        Some(self.thread_number.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }

    /// Somebody else waits for what is polled from here on; who did before.
    pub(super) fn replace_waits(&self, by: Option<Weak<dyn Waits>>) -> Option<Weak<dyn Waits>> {
        std::mem::replace(&mut *self.waits.lock(), by)
    }

    /// The call of this handler and event is late: it counts as timed out when it returns. For the
    /// watchdog.
    pub(super) fn is_late(&self, [handler, event]: [u64; 2]) {
        self.late[0].store(handler, Ordering::Relaxed);
        self.late[1].store(event, Ordering::Relaxed);
    }

    /// The outermost call of this poll is late: it had `after`, and whoever waits for it is
    /// answered now. For the watchdog.
    pub(super) fn give_up(&self, polls: u64, call: [u64; 2], after: Duration) {
        let waits = {
            let waits = self.waits.lock();
            // Whoever waits for a later poll has come after that was counted, and is not meant.
            let is_meant = self.polls.load(Ordering::Relaxed) == polls;
            waits.clone().filter(|_| is_meant)
        };
        if let Some(waits) = waits.and_then(|waits| waits.upgrade()) {
            waits.give_up(&Late { after, slot: self, call });
        }
    }

    /// Whether a call is being polled, inside of this one or that one itself.
    pub(super) fn is_inside(&self, outermost: [u64; 2]) -> bool {
        // In this order: the outermost one is written before.
        self.handler.load(Ordering::Acquire) != 0 && self.outermost_call().0 == outermost
    }

    /// The call that is being polled: handler and event.
    pub(super) fn polled_call(&self) -> [u64; 2] {
        [&self.handler, &self.event].map(|number| number.load(Ordering::Relaxed))
    }

    /// The call that all others are polled inside of, and until when it may take if that is known.
    pub(super) fn outermost_call(&self) -> ([u64; 2], Option<Instant>) {
        let [handler, event] = &self.outermost;
        let call = [handler, event].map(|number| number.load(Ordering::Relaxed));
        let due = self.due.load(Ordering::Relaxed);
        (call, (due > 0).then(|| *EPOCH + Duration::from_nanos(due)))
    }

    fn was_late(&self, handler: u64, event: u64) -> bool {
        // An event has one number for good, so an old note is no note of another call but one of
        // the same handler and event, whose emitter is late as well.
        self.late[1].load(Ordering::Relaxed) == event
            && self.late[0].load(Ordering::Relaxed) == handler
    }

    /// What the thread has not returned from, if it is in a poll; the numbers are 0 when that is no
    /// call.
    pub(super) fn unreturned(&self) -> Option<Unreturned> {
        let polls = self.polls.load(Ordering::Relaxed);
        let [handler, event] = self.polled_call();
        (!polls.is_multiple_of(2)).then_some(Unreturned { thread: self.thread, handler, event })
    }
}

/// The numbers of an event and of the one that all of it began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventNumbers {
    /// Of the event.
    pub number: u64,
    /// Of the event that began it all, which may be the same.
    pub root: u64,
}

/// A poll that a thread has not returned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreturned {
    /// What the thread is called, like the others of its pool.
    pub thread: &'static str,
    /// The key of the handler whose call it is; 0 when it is no call but a task.
    pub handler: u64,
    /// The number of its event.
    pub event: u64,
}

/// How many calls may be polled inside one another on one stack. A handler's emit polls the
/// handlers of that event in place, which is cheap; a long chain of events would fill the stack.
const NESTED: u64 = 8;

/// Whether this thread is a dispatch worker. Not any more when its thread-locals are going.
#[inline]
pub(crate) fn on_worker() -> bool {
    IS_WORKER.get()
}

/// Whether a call may be polled here and now: on a dispatch worker, and not too deep inside others.
#[inline]
pub(crate) fn may_poll_here() -> bool {
    on_worker() && POLLED.with(|polled| polled.nested.get()) < NESTED
}

/// Runs the poll of a call, with this worker's slot saying whose it is: a handler's key and an
/// event's number. Afterwards it says what it said before, also if the poll unwinds. `late` becomes
/// whether the poll took longer than the call may, as far as the watchdog has seen.
#[inline(always)]
pub(crate) fn polling<T>(
    handler: u64,
    event: EventNumbers,
    due: Option<Instant>,
    late: &mut bool,
    poll: impl FnOnce() -> T,
) -> T {
    let outer = POLLED.with(PolledCell::get);
    let polled = Polled { handler, event, nested: outer.nested + 1 };
    POLLED.with(|own| own.set(polled));
    with_slot(|slot| {
        if outer.nested == 0 {
            slot.set_outermost(handler, event.number, due);
        }
        slot.set_polled(polled);
    });
    let _restored = Restored { outer, call: [handler, event.number], late };
    // Not inside of a closure that has the slot: what it gives is large, and to move it once more
    // costs more than to look for the slot again.
    poll()
}

/// Whose call is being polled, 0 for nobody's, and how deep inside others.
#[derive(Clone, Copy)]
struct Polled {
    handler: u64,
    event: EventNumbers,
    nested: u64,
}

/// One that changes: in parts, which are written and read as they are needed.
struct PolledCell {
    handler: Cell<u64>,
    event: Cell<EventNumbers>,
    nested: Cell<u64>,
}

impl PolledCell {
    const fn new() -> Self {
        let Polled { handler, event, nested } = Polled::NONE;
        PolledCell {
            handler: Cell::new(handler),
            event: Cell::new(event),
            nested: Cell::new(nested),
        }
    }

    #[inline(always)]
    fn get(&self) -> Polled {
        let PolledCell { handler, event, nested } = self;
        Polled { handler: handler.get(), event: event.get(), nested: nested.get() }
    }

    #[inline(always)]
    fn set(&self, polled: Polled) {
        self.handler.set(polled.handler);
        self.event.set(polled.event);
        self.nested.set(polled.nested);
    }
}

impl Polled {
    const NONE: Polled =
        Polled { handler: 0, event: EventNumbers { number: 0, root: 0 }, nested: 0 };
}

/// Only the worker itself writes to its slot, so plain loads and stores will do.
impl Slot {
    #[inline]
    fn set_outermost(&self, handler: u64, event: u64, due: Option<Instant>) {
        self.outermost[0].store(handler, Ordering::Relaxed);
        self.outermost[1].store(event, Ordering::Relaxed);
        let due = due.map_or(0, |due| {
            let since = due.saturating_duration_since(*EPOCH).as_nanos();
            u64::try_from(since).unwrap_or(u64::MAX).max(1)
        });
        self.due.store(due, Ordering::Relaxed);
    }

    fn set_polled(&self, polled: Polled) {
        let write = |number: &AtomicU64, value| number.store(value, Ordering::Relaxed);
        self.handler.store(polled.handler, Ordering::Release);
        write(&self.event, polled.event.number);
    }
}

/// Has the slot say again, in the end, what it said before; and whether the call was late.
struct Restored<'a> {
    outer: Polled,
    call: [u64; 2],
    late: &'a mut bool,
}

impl Drop for Restored<'_> {
    #[inline]
    fn drop(&mut self) {
        let [handler, event] = self.call;
        POLLED.with(|own| own.set(self.outer));
        with_slot(|slot| {
            *self.late = slot.was_late(handler, event);
            slot.set_polled(self.outer);
        });
    }
}

/// Looks at what this thread is doing, if it is a dispatch worker.
#[inline]
pub(crate) fn with_slot<T>(look: impl FnOnce(&Slot) -> T) -> Option<T> {
    #[cfg(feature = "in-place")]
    if let Some(slot) = IN_PLACE.try_with(|slot| slot.borrow().clone()).ok().flatten() {
        return Some(look(&slot));
    }
    SLOT.try_with(|slot| slot.get().map(|own| look(&own.0))).ok().flatten()
}

/// The event that this worker handles at the moment, and the one that all of it began with.
pub fn current_event() -> Option<EventNumbers> {
    let Polled { handler, event, .. } = POLLED.with(PolledCell::get);
    (handler != 0).then_some(event)
}

/// The key of the handler whose call this thread polls, and the number of its event. A signal
/// handler may ask.
pub fn current_call() -> Option<(u64, u64)> {
    let Polled { handler, event, .. } = POLLED.with(PolledCell::get);
    (handler != 0).then_some((handler, event.number))
}

/// This thread becomes a worker, with this slot.
pub(super) fn enter(slot: Arc<Slot>) {
    let number = rustix::thread::gettid().as_raw_nonzero().get();
    slot.thread_number.store(number.unsigned_abs(), Ordering::Relaxed);
    // A thread becomes one once.
    SLOT.with(|own| {
        own.get_or_init(|| Own(slot));
    });
    IS_WORKER.set(true);
}

/// How many calls may be polled inside one another on the thread of a test, which has less of a
/// stack than a worker.
#[cfg(feature = "in-place")]
const NESTED_IN_PLACE: u64 = 4;

/// This thread is a worker with this slot, until what it gives is dropped.
#[cfg(feature = "in-place")]
pub(super) fn enter_in_place(slot: Arc<Slot>) -> InPlace {
    let nested = NESTED - NESTED_IN_PLACE;
    InPlace {
        slot: IN_PLACE.replace(Some(slot)),
        was_worker: IS_WORKER.replace(true),
        polled: POLLED.with(|polled| {
            let before = polled.get();
            polled.set(Polled { nested, ..Polled::NONE });
            before
        }),
    }
}

/// What the thread was before.
#[cfg(feature = "in-place")]
pub(super) struct InPlace {
    slot: Option<Arc<Slot>>,
    was_worker: bool,
    polled: Polled,
}

#[cfg(feature = "in-place")]
impl Drop for InPlace {
    fn drop(&mut self) {
        IS_WORKER.set(self.was_worker);
        POLLED.with(|own| own.set(self.polled));
        let slot = self.slot.take();
        // Not there any more if this is the end of the thread.
        let _ = IN_PLACE.try_with(|own| own.replace(slot));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        thread,
    };

    use super::*;

    /// One whose root is another one.
    fn event(number: u64) -> EventNumbers {
        EventNumbers { number, root: number / 10 }
    }

    fn present() -> Option<[u64; 3]> {
        let told = with_slot(|slot| slot.polled_call())?;
        let Polled { handler, event, nested } = POLLED.with(PolledCell::get);
        assert_eq!(told, [handler, event.number], "the watchdog sees what the thread knows");
        Some([handler, event.number, nested])
    }

    #[test]
    fn a_slot_says_what_is_polled_and_then_what_was_polled_before_also_when_that_unwinds() {
        // A thread of its own becomes the worker.
        let worker = thread::spawn(|| {
            enter(Arc::new(Slot::new("worker", true)));
            polling(1, event(10), None, &mut false, || {
                assert_eq!((present(), current_call()), (Some([1, 10, 1]), Some((1, 10))));
                assert_eq!(polling(2, event(20), None, &mut false, present), Some([2, 20, 2]));
                assert_eq!(polling(2, event(20), None, &mut false, current_event), Some(event(20)));
                assert_eq!((present(), current_event()), (Some([1, 10, 1]), Some(event(10))));
                let unwound = catch_unwind(AssertUnwindSafe(|| {
                    polling(3, event(30), None, &mut false, || panic!("host"))
                }));
                assert!(unwound.is_err());
                assert_eq!(present(), Some([1, 10, 1]));
            });
            assert_eq!((present(), current_call()), (Some([0, 0, 0]), None));
            assert_eq!(current_event(), None);
            for _ in 0..=NESTED {
                let unwound = catch_unwind(AssertUnwindSafe(|| {
                    polling(3, event(30), None, &mut false, || panic!("host"))
                }));
                assert!(unwound.is_err());
            }
            assert!(may_poll_here());
        });
        worker.join().unwrap();
    }
}
