//! When a call begins, and how long it took.
//!
//! Two looks at the clock cost more than all else that is recorded of a call, so not every call
//! that ends at its first poll has them: the first few of each poll do, and of the others one in
//! [`SAMPLED`], which then stands for as many. A host with some thousand calls a second measures
//! them all. Whatever goes on after its first poll is always measured, and so is what was sent.

use std::{num::NonZeroU32, sync::atomic::Ordering};

pub use crate::executor::clock::{MEASURED, SAMPLED};
use crate::{
    event::{Event, EventId},
    executor::{
        clock::{self, Moment, STANDS_FOR, Tick},
        watchdog::LOOKS,
    },
};

/// A call that was not measured and took less than that is not seen to be long. More than two ticks
/// at the fewest a second that Linux is built for.
const LONG: u64 = 2 * TICK;
/// In nanoseconds, the longest.
const TICK: u64 = Tick::LONGEST.as_nanos() as u64;

/// What is noted of a call when it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallStart {
    pub(super) event: u64,
    /// 0 for none.
    pub(super) parent: u64,
    pub(super) root: u64,
    /// When its event was emitted, in nanoseconds since the Unix epoch.
    pub(super) emitted: u64,
    /// Stands for the event's name and source, as [`Emitter`](crate::event::Emitter) has it.
    pub(super) pair: u64,
    measured: Option<Measured>,
    /// What the watchdog had counted then.
    looks: u32,
}

/// When it began, and for how many calls that stands.
#[derive(Debug, Clone, Copy)]
struct Measured {
    begun: Moment,
    /// Nanoseconds that its event had waited for that.
    waited: u64,
    weight: NonZeroU32,
    is_sent: bool,
}

/// How long a call took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Took {
    pub(super) nanos: u64,
    /// For how many calls it stands.
    pub(super) weight: u32,
    /// To the nanosecond, or to a tick.
    pub(super) is_exact: bool,
    /// When it ended, by [`clock::steady`].
    pub(super) now: u64,
}

impl CallStart {
    /// What is noted of a call of this event. Whether it is measured comes
    /// [after that](Self::measure_if_due), so that it is written where it stays.
    #[inline(always)]
    pub(crate) fn of(event: &Event) -> Self {
        CallStart {
            event: event.id().number(),
            parent: event.parent().map_or(0, EventId::number),
            root: event.root().number(),
            emitted: event.emitted(),
            pair: event.pair(),
            looks: LOOKS.load(Ordering::Relaxed),
            measured: None,
        }
    }

    /// It begins.
    #[inline(always)]
    pub(crate) fn measure_if_due(&mut self, event: &Event) {
        if let Some(weight) = clock::is_due() {
            self.measure(weight, event.is_sent());
        }
    }

    #[cold]
    #[inline(never)]
    fn measure(&mut self, weight: NonZeroU32, is_sent: bool) {
        let begun = clock::moment();
        let waited = begun.unix.saturating_sub(self.emitted);
        // Where not everything is measured, an event's time may be that of one before.
        let is_known = weight == NonZeroU32::MIN || waited > TICK;
        let waited = if is_known { waited } else { 0 };
        self.measured = Some(Measured { begun, waited, weight, is_sent });
    }

    /// It goes on after its first poll, and is measured. If it was not so far, it is from here on:
    /// without what its first poll took.
    pub(crate) fn goes_on(&mut self) {
        if self.measured.is_none() {
            self.measure(STANDS_FOR, false);
        }
        if let Some(measured) = &mut self.measured {
            measured.weight = NonZeroU32::MIN;
        }
    }

    /// Whether nobody waits for what becomes of its event. Told of those that are measured; where
    /// an event was sent, [`measure_next`](clock::measure_next) sees to it that its first call is.
    pub(super) fn is_sent(&self) -> bool {
        self.measured.is_some_and(|measured| measured.is_sent)
    }

    /// When it began, in nanoseconds since the Unix epoch; when its event was emitted, if it is not
    /// measured.
    pub(super) fn begun(&self) -> u64 {
        self.measured.map_or(self.emitted, |measured| measured.begun.unix)
    }

    /// How many nanoseconds its event had waited for that.
    pub(super) fn waited(&self) -> u64 {
        self.measured.map_or(0, |measured| measured.waited)
    }

    /// Whether there is nothing to say of how long it took: it was not measured, and not long.
    #[inline(always)]
    pub(super) fn was_short(&self) -> bool {
        self.measured.is_none() && self.looks == LOOKS.load(Ordering::Relaxed)
    }

    /// How long it took, if anything can be said of that.
    pub(super) fn took(&self) -> Option<Took> {
        if let Some(Measured { begun, weight, .. }) = self.measured {
            let now = clock::steady();
            let nanos = now.saturating_sub(begun.steady);
            return Some(Took { nanos, weight: weight.get(), is_exact: true, now });
        }
        if self.was_short() {
            return None;
        }
        // It was polled when the watchdog looked, which it does every some milliseconds.
        let moment = clock::moment();
        let nanos = moment.unix.saturating_sub(self.emitted);
        if nanos < LONG {
            return None;
        }
        // Or those that begin now would seem to have begun before it.
        clock::forget();
        Some(Took { nanos, weight: 1, is_exact: false, now: moment.steady })
    }
}
