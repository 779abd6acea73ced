//! When an event was emitted.

use std::{
    cell::Cell,
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
    /// The last exact time that this thread has read, in nanoseconds, and the tick in which it did.
    static LAST: Cell<(u64, Tick)> = const { Cell::new((0, Tick::NONE)) };
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
/// The first one in a poll of a dispatch worker is exact. Those that follow in the same poll may
/// have the time of the first one, until the system's clock ticks: then the time is exact again.
#[inline]
pub(crate) fn event_time() -> u64 {
    let (time, tick) = LAST.get();
    if tick.lasts() {
        return time;
    }
    let now = Tick::now();
    let time = u64::try_from(unix_time().as_nanos()).unwrap_or(u64::MAX);
    LAST.set((time, now));
    time
}

/// The next event of this thread gets an exact time.
#[inline]
pub(crate) fn forget() {
    LAST.set((0, Tick::NONE));
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
}
