//! When an event was emitted, and when a call began.

use std::{
    cell::Cell,
    num::NonZeroU32,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// By what deadlines go, and timers: the clock of this thread's runtime if it works in place.
#[inline]
pub(crate) fn now() -> Instant {
    #[cfg(feature = "in-place")]
    if let Some(now) = super::in_place::now_here() {
        return now;
    }
    Instant::now()
}

/// Since the Unix epoch, by the system's clock.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

thread_local! {
    /// What this thread has last read of the clocks.
    static LAST: Last = const {
        Last {
            unix: Cell::new(0),
            steady: Cell::new(0),
            tick: Cell::new(Tick::NONE),
            due_in: Cell::new(1),
            at_once: Cell::new(0),
            counted: Cell::new(Tick::NONE),
            is_busy: Cell::new(false),
            random: Cell::new(0x9e37_79b9),
        }
    };
}

/// Both clocks at one moment, and the tick in which that was; and which looks at them are due.
struct Last {
    /// In nanoseconds since the Unix epoch.
    unix: Cell<u64>,
    /// As [`steady`] gives it.
    steady: Cell<u64>,
    tick: Cell<Tick>,
    /// How many [`is_due`] are to come until one is.
    due_in: Cell<u32>,
    /// How many are due one after the other, in this tick.
    at_once: Cell<u32>,
    counted: Cell<Tick>,
    /// There were so many in this tick that one of those beyond was due.
    is_busy: Cell<bool>,
    random: Cell<u32>,
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// In nanoseconds since the Unix epoch.
    pub(crate) unix: u64,
    /// As [`steady`] gives it.
    pub(crate) steady: u64,
}

/// How many are due in each tick of a thread, unless it had many more in the one before.
pub const MEASURED: u32 = 8;
/// Of those beyond them, one in so many on average.
pub const SAMPLED: u32 = 64;
pub(crate) const STANDS_FOR: NonZeroU32 = NonZeroU32::new(SAMPLED).expect("it is not 0");

/// In nanoseconds by a clock that is never set, since some moment.
#[inline]
pub(crate) fn steady() -> u64 {
    #[cfg(feature = "in-place")]
    if super::in_place::is_here() {
        let since = now().saturating_duration_since(*IN_PLACE_EPOCH);
        return u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

#[cfg(feature = "in-place")]
static IN_PLACE_EPOCH: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

/// Whether what begins now is to be measured: a few in each tick, and then one in [`SAMPLED`]; for
/// how many it stands then. A look at two clocks costs more than all else that is noted of a short
/// call.
#[inline(always)]
pub(crate) fn is_due() -> Option<NonZeroU32> {
    LAST.with(|last| {
        let due_in = last.due_in.get() - 1;
        last.due_in.set(due_in);
        if due_in > 0 { None } else { Some(last.due()) }
    })
}

/// What begins next on this thread is due.
pub(crate) fn measure_next() {
    LAST.with(|last| {
        last.at_once.set(last.at_once.get().max(1));
        last.due_in.set(1);
    });
}

/// Now, exactly.
pub(crate) fn moment() -> Moment {
    LAST.with(|last| {
        if last.tick.get() == Tick::NONE {
            return last.read();
        }
        let steady = steady();
        let since = steady.saturating_sub(last.steady.get());
        Moment { unix: last.unix.get().wrapping_add(since), steady }
    })
}

impl Last {
    fn read(&self) -> Moment {
        let tick = Tick::now();
        if tick == Tick::NONE || tick != self.counted.replace(tick) {
            // One that has much to do has enough of others.
            let is_busy = self.is_busy.replace(false);
            self.at_once.set(if is_busy { 1 } else { MEASURED });
            self.due_in.set(1);
        }
        // In this order: what is worked out from the two is never ahead of the system's clock.
        let unix = u64::try_from(unix_time().as_nanos()).unwrap_or(u64::MAX);
        let steady = steady();
        self.unix.set(unix);
        self.steady.set(steady);
        self.tick.set(tick);
        Moment { unix, steady }
    }

    #[cold]
    #[inline(never)]
    fn due(&self) -> NonZeroU32 {
        if self.tick.get() == Tick::NONE {
            self.read();
        }
        let at_once = self.at_once.get();
        if at_once > 0 {
            self.at_once.set(at_once - 1);
            self.due_in.set(1);
            return NonZeroU32::MIN;
        }
        self.is_busy.set(true);
        // Not in even steps, which calls that are nested in even steps would fall between.
        let random = self.random.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.random.set(random);
        self.due_in.set(1 + (random >> 16) % (2 * SAMPLED - 1));
        STANDS_FOR
    }
}

/// A step of the system's coarse clock, mostly 4 ms long and never more than [`Tick::LONGEST`].
/// Reading it takes 3 ns, the exact time 23.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tick(i64, i64);

impl Tick {
    /// At a hundred ticks a second, the fewest that Linux is built for.
    pub(crate) const LONGEST: Duration = Duration::from_millis(10);

    const NONE: Tick = Tick(i64::MIN, 0);

    #[cfg(target_os = "linux")]
    pub(crate) fn now() -> Self {
        // In place, hours may pass within a tick of the system's clock.
        #[cfg(feature = "in-place")]
        if super::in_place::is_here() {
            return Tick::NONE;
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        Tick(now.tv_sec, now.tv_nsec)
    }

    /// No tick is the same as another, so every time is exact.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn now() -> Self {
        Tick::NONE
    }

    /// Whether it is still this one.
    #[inline]
    pub(crate) fn lasts(self) -> bool {
        self != Tick::NONE && self == Tick::now()
    }
}

/// The time for an event that is emitted now, in nanoseconds since the Unix epoch.
///
/// The first one in a poll of a dispatch worker is exact, and so are all while a thread measures
/// what it does, as in a host that has little to do. Others may have the time of the one before,
/// until the system's clock ticks: then the time is exact again.
#[inline]
pub(crate) fn event_time() -> u64 {
    LAST.with(|last| match last.tick.get().lasts() {
        true if last.at_once.get() == 0 => last.unix.get(),
        true => exact_event_time(),
        false => read_again(last),
    })
}

#[cold]
fn exact_event_time() -> u64 {
    moment().unix
}

#[cold]
fn read_again(last: &Last) -> u64 {
    last.read().unix
}

/// The next event of this thread gets an exact time.
#[inline]
pub(crate) fn forget() {
    LAST.with(|last| last.tick.set(Tick::NONE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_exact_and_none_is_off_by_more_than_a_tick() {
        forget();
        let before = unix_time().as_nanos();
        let first = u128::from(event_time());
        assert!((before..=unix_time().as_nanos()).contains(&first));
        for _ in 0..100_000 {
            // A tick is 10 ms at the most; the rest is for a test that is interrupted between the
            // two.
            let (time, now) = (u128::from(event_time()), unix_time().as_nanos());
            assert!(time <= now && now - time < 1_000_000_000, "{time} {now}");
        }
    }

    #[test]
    fn the_first_of_a_tick_are_measured_and_one_in_so_many_of_the_others() {
        let weight = |due: Option<NonZeroU32>| due.map_or(0, NonZeroU32::get);
        forget();
        LAST.with(|last| last.counted.set(Tick::NONE));
        moment();
        let first: Vec<_> = (0..MEASURED).map(|_| weight(is_due())).collect();
        assert!(first.iter().all(|due| *due == 1), "{first:?}");
        let calls = 1_280_000;
        // Of two that always come one after the other, both.
        let mut measured = [0; 2];
        for call in 0..calls {
            measured[call % 2] += weight(is_due());
        }
        for stands_for in measured {
            let share = f64::from(stands_for) / (calls as f64 / 2.0);
            assert!((0.9..1.1).contains(&share), "{measured:?}");
        }
        // As if the next tick had come, after one with many, and then after one with few.
        for at_once in [1, MEASURED] {
            forget();
            LAST.with(|last| last.counted.set(Tick::NONE));
            moment();
            LAST.with(|last| assert_eq!(last.at_once.get(), at_once));
            assert_eq!(weight(is_due()), 1);
        }
    }
}
