//! Counters that threads on different cores do not fight over.
//!
//! Each dispatch worker has a stripe to itself for as long as it lives: it counts there with a
//! plain load and store, on a cache line that nobody else writes. All other threads share one
//! stripe. Whoever reads adds the stripes up.

use std::{
    cell::Cell,
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Stripes that belong to one thread each. Workers beyond that number count in the shared one.
pub(crate) const STRIPES: usize = 32;
/// The number of the one that all others share.
const SHARED: usize = STRIPES;

/// Which stripes belong to a thread: a bit for each.
static TAKEN: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static OWN: Cell<usize> = const { Cell::new(SHARED) };
}

/// The stripe of this thread; [`None`] for one that shares.
pub(crate) fn own_stripe() -> Option<usize> {
    Some(OWN.get()).filter(|stripe| *stripe != SHARED)
}

/// A thread's right to a stripe. It stays on that thread.
pub(super) struct Lease(usize);

impl Lease {
    /// Takes a stripe for this thread, if one is free.
    pub(super) fn take() -> Self {
        let mut stripe = SHARED;
        let _ = TAKEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            stripe = (taken.trailing_ones() as usize).min(SHARED);
            (stripe != SHARED).then(|| taken | 1 << stripe)
        });
        OWN.set(stripe);
        Lease(stripe)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        OWN.set(SHARED);
        if self.0 != SHARED {
            // What this thread counted is visible to whoever takes the stripe next.
            TAKEN.fetch_and(!(1 << self.0), Ordering::AcqRel);
        }
    }
}

/// One value a stripe, made when its thread first counts.
pub(crate) struct Striped<T> {
    own: [OnceLock<Box<Line<T>>>; STRIPES],
    shared: Line<T>,
}

/// A value that shares no cache line with another one: by room on both sides, so that a box of it
/// needs no aligned memory.
#[repr(C)]
#[derive(Default)]
struct Line<T> {
    before: [u64; 8],
    value: T,
    after: [u64; 8],
}

impl<T: Default> Default for Striped<T> {
    fn default() -> Self {
        Striped { own: [const { OnceLock::new() }; STRIPES], shared: Line::default() }
    }
}

impl<T: Default> Striped<T> {
    /// Every stripe that was counted in.
    pub(crate) fn stripes(&self) -> impl Iterator<Item = &T> {
        let own = self.own.iter().filter_map(|line| line.get().map(|line| &line.value));
        std::iter::once(&self.shared.value).chain(own)
    }

    /// The same with a number that stands for the thread.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &T)> {
        let own = self.own.iter().enumerate();
        let own = own.filter_map(|(stripe, line)| line.get().map(|line| (stripe, &line.value)));
        std::iter::once((SHARED, &self.shared.value)).chain(own)
    }

    /// This thread's stripe.
    #[inline]
    pub(crate) fn of_this_thread(&self) -> &T {
        match own_stripe() {
            Some(stripe) => &self.own[stripe].get_or_init(Box::default).value,
            None => &self.shared.value,
        }
    }

    /// That of this number, if it was made.
    #[inline(always)]
    pub(crate) fn made(&self, stripe: usize) -> Option<&T> {
        self.own.get(stripe)?.get().map(|line| &line.value)
    }

    /// Adds one to a counter in this thread's stripe.
    #[inline]
    pub(crate) fn count(&self, counter: impl FnOnce(&T) -> &AtomicU64) {
        self.count_in(own_stripe(), counter);
    }

    /// The same where it is known which one that is.
    #[inline]
    pub(crate) fn count_in(&self, stripe: Option<usize>, counter: impl FnOnce(&T) -> &AtomicU64) {
        match stripe {
            Some(stripe) => {
                let counter = counter(&self.own[stripe].get_or_init(Box::default).value);
                // No other thread writes here, so nothing is lost between the two.
                counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Release);
            }
            None => {
                counter(&self.shared.value).fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

impl<T: Default> fmt::Debug for Striped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Striped").finish_non_exhaustive()
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(Striped<AtomicU64>);

impl Count {
    /// One more.
    pub fn up(&self) {
        self.0.count(|count| count);
    }

    /// The sum over all threads.
    pub fn sum(&self) -> u64 {
        self.0.stripes().map(|count| count.load(Ordering::Acquire)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn nothing_is_lost_by_threads_with_and_without_a_stripe_that_come_and_go() {
        let count = Arc::new(Count::default());
        for _ in 0..4 {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let count = count.clone();
                    thread::spawn(move || {
                        let lease = (n % 2 == 0).then(Lease::take);
                        // Another test may have taken them all.
                        let own = lease.as_ref().is_some_and(|lease| lease.0 != SHARED);
                        assert_eq!(own_stripe().is_some(), own);
                        (0..1_000).for_each(|_| count.up());
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
        assert_eq!(count.sum(), 4 * 8 * 1_000);
    }

    #[test]
    fn workers_beyond_the_stripes_share_one() {
        let leases: Vec<Lease> = (0..=STRIPES).map(|_| Lease::take()).collect();
        assert_eq!(leases.last().unwrap().0, SHARED);
        let mut own: Vec<usize> =
            leases.iter().map(|lease| lease.0).filter(|stripe| *stripe != SHARED).collect();
        own.sort_unstable();
        own.dedup();
        assert!(!own.is_empty() && own.iter().all(|stripe| *stripe < STRIPES));
    }
}
