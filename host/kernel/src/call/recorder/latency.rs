//! How long the calls of a handler take: percentiles of the last minute or two, and sums since the
//! start.

use std::{ops::AddAssign, sync::Arc, time::Duration};

use hdrhistogram::Histogram;

use super::start::Took;
use crate::{executor::clock, lock::Lock};

/// After so many nanoseconds a window is the previous one.
const WINDOW: u64 = 60_000_000_000;
/// What the histograms tell apart, in nanoseconds; anything below and above counts as that.
const LOWEST: u64 = 64;
const HIGHEST: u64 = 3_600_000_000_000;
/// Digits: a percentile is off by 1/16 of itself at the most.
const DIGITS: u8 = 1;

/// Upper bounds of the classes that the sums tell apart, in nanoseconds.
pub const BOUNDS: [u64; 14] = [
    10_000,
    100_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// How long the calls of a handler of one generation take.
#[derive(Default)]
pub(crate) struct Latency(Arc<Times>);

/// Made when the first call has ended.
#[derive(Default)]
struct Times(Lock<Option<Box<Windows>>>);

/// How many calls of a handler took how long, over all its generations.
#[derive(Default)]
pub(crate) struct LatencySums(Lock<Parts>);

#[derive(Default)]
struct Parts {
    /// Of generations that nobody holds any more.
    gone: LatencyTotals,
    present: Vec<Arc<Times>>,
}

struct Windows {
    totals: LatencyTotals,
    began: u64,
    current: Histogram<u32>,
    previous: Histogram<u32>,
    /// Of those two, as it was measured.
    longest: [u64; 2],
}

/// How long calls took in the last one to two minutes. Of calls that end at their first poll only
/// some are measured, which stand for the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LatencySummary {
    /// Calls, about.
    pub calls: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// The longest that was measured.
    pub max: Duration,
}

/// How many calls took how long since the host was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LatencyTotals {
    /// How many took no longer than each of [`BOUNDS`] and longer than the one before; the last one
    /// is what took longer than all.
    pub classes: [u64; BOUNDS.len() + 1],
    /// Nanoseconds of all together.
    pub nanos: u64,
}

impl Windows {
    fn new(now: u64) -> Option<Box<Self>> {
        let current = Histogram::new_with_bounds(LOWEST, HIGHEST, DIGITS).ok()?;
        let previous = current.clone();
        let totals = LatencyTotals::default();
        Some(Box::new(Windows { totals, began: now, current, previous, longest: [0; 2] }))
    }

    fn add(&mut self, took: &Took) {
        let (nanos, calls) = (took.nanos.min(HIGHEST), took.weight);
        let class = BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(class) = self.totals.classes.get_mut(class) {
            *class += u64::from(calls);
        }
        self.totals.nanos = self.totals.nanos.saturating_add(nanos * u64::from(calls));
        self.advance(took.now);
        self.longest[0] = self.longest[0].max(nanos);
        // Within the bounds, so it has a place.
        let _ = self.current.record_n(nanos.max(LOWEST), calls);
    }

    /// Lets go of what is over.
    fn advance(&mut self, now: u64) {
        let since = now.saturating_sub(self.began);
        if since < WINDOW {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        self.longest = [0, self.longest[0]];
        self.current.reset();
        if since >= 2 * WINDOW {
            self.previous.reset();
            self.longest = [0; 2];
        }
        self.began += since / WINDOW * WINDOW;
    }
}

impl Latency {
    /// A call has ended.
    pub(super) fn add(&self, took: &Took) {
        let mut windows = self.0.0.lock();
        if windows.is_none() {
            *windows = Windows::new(took.now);
        }
        if let Some(windows) = windows.as_deref_mut() {
            windows.add(took);
        }
    }
}

impl LatencySums {
    /// For one more generation.
    pub(crate) fn generation(&self) -> Latency {
        let mut parts = self.0.lock();
        parts.settle();
        let times = Arc::new(Times::default());
        parts.present.push(times.clone());
        Latency(times)
    }

    /// Over all of them.
    pub(crate) fn now(&self) -> LatencyTotals {
        let mut parts = self.0.lock();
        parts.settle();
        let mut sum = parts.gone;
        parts.present.iter().for_each(|times| sum += times.totals());
        sum
    }
}

impl Times {
    fn totals(&self) -> LatencyTotals {
        self.0.lock().as_ref().map(|windows| windows.totals).unwrap_or_default()
    }
}

impl Parts {
    fn settle(&mut self) {
        let Parts { gone, present } = self;
        present.retain_mut(|times| {
            let alone = Arc::get_mut(times).is_some();
            if alone {
                *gone += times.totals();
            }
            !alone
        });
    }
}

impl AddAssign for LatencyTotals {
    fn add_assign(&mut self, other: LatencyTotals) {
        for (class, other) in self.classes.iter_mut().zip(other.classes) {
            *class += other;
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
    }
}

/// What several handlers took, together.
pub(crate) struct Merged(Option<Histogram<u64>>, u64);

impl Merged {
    pub(crate) fn new() -> Self {
        Merged(Histogram::new_with_bounds(LOWEST, HIGHEST, DIGITS).ok(), 0)
    }

    pub(crate) fn add(&mut self, latency: &Latency) {
        let Merged(Some(all), longest) = self else { return };
        let mut windows = latency.0.0.lock();
        let Some(windows) = windows.as_deref_mut() else { return };
        windows.advance(clock::steady());
        let windowed = [&windows.current, &windows.previous];
        for class in windowed.into_iter().flat_map(Histogram::iter_recorded) {
            // Of the same bounds, so it has a place.
            let _ = all.record_n(class.value_iterated_to(), class.count_since_last_iteration());
        }
        *longest = windows.longest.iter().copied().fold(*longest, u64::max);
    }

    pub(crate) fn summary(&self) -> LatencySummary {
        let Merged(Some(all), longest) = self else { return LatencySummary::default() };
        if all.is_empty() {
            return LatencySummary::default();
        }
        let at = |percent| Duration::from_nanos(all.value_at_percentile(percent).min(*longest));
        LatencySummary {
            calls: all.len(),
            p50: at(50.0),
            p99: at(99.0),
            max: Duration::from_nanos(*longest),
        }
    }
}

impl std::fmt::Debug for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Latency").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(latency: &Latency) -> LatencySummary {
        let mut merged = Merged::new();
        merged.add(latency);
        merged.summary()
    }

    fn took(nanos: u64, weight: u32) -> Took {
        Took { nanos, weight, is_exact: true, now: clock::steady() }
    }

    #[test]
    fn percentiles_are_right_to_a_sixteenth() {
        let sums = LatencySums::default();
        let latency = sums.generation();
        assert_eq!(summary(&latency), LatencySummary::default());
        for micros in 1..=1_000 {
            latency.add(&took(micros * 1_000, 1));
        }
        let LatencySummary { calls, p50, p99, max } = summary(&latency);
        let near = |is: Duration, micros: f64| {
            (micros..=micros * (1.0 + 1.0 / 16.0)).contains(&(is.as_secs_f64() * 1e6))
        };
        assert_eq!((calls, max), (1_000, Duration::from_millis(1)));
        assert!(near(p50, 500.0) && near(p99, 990.0), "{p50:?} {p99:?}");
        let totals = sums.now();
        assert_eq!(totals.classes[..4], [10, 90, 400, 500]);
        assert_eq!(totals.nanos, 500_500_000);
    }

    #[test]
    fn one_that_stands_for_others_counts_as_many() {
        let latency = Latency::default();
        latency.add(&took(1_000, 99));
        latency.add(&took(u64::MAX, 1));
        let LatencySummary { calls, p50, max, .. } = summary(&latency);
        assert_eq!((calls, max), (100, Duration::from_nanos(HIGHEST)));
        assert!(p50 < Duration::from_micros(2), "{p50:?}");
    }

    #[test]
    fn what_is_older_than_two_windows_is_forgotten() {
        let mut windows = Windows::new(0).unwrap();
        windows.add(&Took { now: 0, ..took(1_000, 1) });
        windows.advance(WINDOW);
        assert_eq!((windows.current.len(), windows.previous.len()), (0, 1));
        windows.add(&Took { now: WINDOW, ..took(1_000, 1) });
        windows.advance(3 * WINDOW);
        assert_eq!((windows.current.len(), windows.previous.len()), (0, 0));
        assert_eq!((windows.began, windows.totals.classes[0]), (3 * WINDOW, 2));
    }

    #[test]
    fn what_a_generation_took_stays_in_the_sums_when_it_goes() {
        let sums = LatencySums::default();
        let (first, second) = (sums.generation(), sums.generation());
        first.add(&took(1_000, 1));
        second.add(&took(2_000, 1));
        drop(first);
        assert_eq!(sums.now().nanos, 3_000);
        let third = sums.generation();
        assert_eq!(sums.0.lock().present.len(), 2, "what has gone takes no room");
        assert_eq!((sums.now().nanos, third.0.totals().nanos), (3_000, 0));
    }
}
