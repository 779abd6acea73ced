//! How many calls a second there were lately: counts that are taken every few seconds, and compared
//! with those of whoever asks.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use ksi_kernel::{call::tally::Counts, lock::Lock};

use super::Core;

/// How often counts are taken, and how many of them are kept: whoever asks compares with those of
/// ten seconds ago.
const INTERVAL: Duration = Duration::from_secs(5);
const KEPT: usize = 2;
/// A rate over less than that says nothing.
const SHORTEST: Duration = Duration::from_secs(1);

/// Counts of the last seconds.
pub(crate) struct Rates(Lock<VecDeque<Sample>>);

struct Sample {
    at: Instant,
    plugins: HashMap<Arc<str>, Counts>,
}

/// Calls of a plugin in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rate {
    /// Those that began.
    pub(crate) calls: f64,
    /// Those that did not end well.
    pub(crate) failed: f64,
}

impl Rates {
    /// Compared with the beginning, until there is more.
    pub(crate) fn since(started: Instant) -> Self {
        let first = Sample { at: started, plugins: HashMap::new() };
        Rates(Lock::new(VecDeque::from([first])))
    }

    /// Of a plugin that has these counts now; `None` if too little time has passed.
    pub(crate) fn of(&self, plugin: &str, counts: &Counts, now: Instant) -> Option<Rate> {
        let samples = self.0.lock();
        let before = samples.front()?;
        let seconds = now.saturating_duration_since(before.at);
        if seconds < SHORTEST {
            return None;
        }
        let known = before.plugins.get(plugin).copied().unwrap_or_default();
        // Of a plugin that was forgotten and came again there are fewer than before.
        let a_second =
            |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds.as_secs_f64();
        Some(Rate {
            calls: a_second(counts.accepted, known.accepted),
            failed: a_second(unwell(counts), unwell(&known)),
        })
    }

    fn take(&self, at: Instant, plugins: HashMap<Arc<str>, Counts>) {
        let mut samples = self.0.lock();
        samples.push_back(Sample { at, plugins });
        while samples.len() > KEPT {
            samples.pop_front();
        }
    }
}

/// Calls that did not end well.
fn unwell(counts: &Counts) -> u64 {
    let Counts { failed, panicked, crashed, timed_out, rejected, .. } = counts;
    failed + panicked + crashed + timed_out + rejected
}

/// Takes counts for as long as the host is there.
pub(crate) fn follow(core: &Arc<Core>) {
    let core: Weak<Core> = Arc::downgrade(core);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some(core) = core.upgrade() else { return };
            core.rates.take(Instant::now(), core.router.counts_by_plugin());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_the_last_seconds_and_not_over_all_time() {
        let start = Instant::now();
        let rates = Rates::since(start);
        let counts = |accepted, failed| Counts { accepted, failed, ..Counts::default() };
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rates.of("a", &counts(5, 0), start), None);
        let first = Rate { calls: 5.0, failed: 1.0 };
        assert_eq!(rates.of("a", &counts(10, 2), after(2)), Some(first));
        for (seconds, calls) in [(5, 100), (10, 200), (15, 300)] {
            let taken = HashMap::from([("a".into(), counts(calls, 2))]);
            rates.take(after(seconds), taken);
        }
        let lately = Rate { calls: 15.0, failed: 0.0 };
        assert_eq!(rates.of("a", &counts(350, 2), after(20)), Some(lately));
        let forgotten = Rate { calls: 0.0, failed: 0.0 };
        assert_eq!(rates.of("a", &counts(1, 0), after(20)), Some(forgotten));
    }
}
