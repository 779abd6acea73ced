//! How often calls ended in which way: of one handler of one generation, of a handler over all its
//! generations, of all.
//!
//! The calls of a generation count in a `CallCounts` of its own, so that generations can be
//! compared. A `Tally` adds those that have gone to those that are there, so nothing is counted
//! twice and no sum ever falls.

use std::{
    ops::AddAssign,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;

use super::outcome_taps::OutcomeStatus;
use crate::executor::stripe::Striped;
use crate::lock::Lock;

/// How often the calls of a handler of one generation ended in which way.
#[derive(Debug, Default)]
pub(crate) struct CallCounts(Striped<CallCounters>);

#[derive(Debug, Default)]
struct CallCounters {
    accepted: AtomicU64,
    moved: AtomicU64,
    replied: AtomicU64,
    no_reply: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    crashed: AtomicU64,
    timed_out: AtomicU64,
    rejected: AtomicU64,
}

/// How often calls ended in which way, at one moment. `accepted` is the sum of all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls begun.
    pub accepted: u64,
    /// Ended with a reply.
    pub replied: u64,
    /// Ended well without one.
    pub no_reply: u64,
    /// Ended with an error.
    pub failed: u64,
    /// Ended with a panic.
    pub panicked: u64,
    /// Ended with the process that they ran in.
    pub crashed: u64,
    /// Took too long.
    pub timed_out: u64,
    /// Not run, or not to the end.
    pub rejected: u64,
    /// Not ended yet.
    pub in_flight: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.accepted += other.accepted;
        self.replied += other.replied;
        self.no_reply += other.no_reply;
        self.failed += other.failed;
        self.panicked += other.panicked;
        self.crashed += other.crashed;
        self.timed_out += other.timed_out;
        self.rejected += other.rejected;
        self.in_flight += other.in_flight;
    }
}

impl CallCounts {
    /// One more call.
    #[inline]
    pub(super) fn begin(&self) {
        self.0.count(|counters| &counters.accepted);
    }

    /// One that was begun has begun anew elsewhere, and counts there.
    pub(super) fn moved(&self) {
        self.0.count(|counters| &counters.moved);
    }

    /// One that was begun has ended, on the thread of this stripe.
    #[inline]
    pub(super) fn end(&self, ended: OutcomeStatus, stripe: Option<usize>) {
        self.0.count_in(stripe, |counters| match ended {
            OutcomeStatus::Replied => &counters.replied,
            OutcomeStatus::NoReply => &counters.no_reply,
            OutcomeStatus::Failed => &counters.failed,
            OutcomeStatus::Panicked => &counters.panicked,
            OutcomeStatus::Crashed => &counters.crashed,
            OutcomeStatus::TimedOut => &counters.timed_out,
            OutcomeStatus::Rejected => &counters.rejected,
        });
    }

    /// The counts now. What ended is read first, so that a call that ends in between counts as in
    /// flight.
    pub(crate) fn now(&self) -> Counts {
        let sum = |counter: fn(&CallCounters) -> &AtomicU64| -> u64 {
            self.0.stripes().map(|stripe| counter(stripe).load(Ordering::Acquire)).sum()
        };
        let mut counts = Counts {
            replied: sum(|counters| &counters.replied),
            no_reply: sum(|counters| &counters.no_reply),
            failed: sum(|counters| &counters.failed),
            panicked: sum(|counters| &counters.panicked),
            crashed: sum(|counters| &counters.crashed),
            timed_out: sum(|counters| &counters.timed_out),
            rejected: sum(|counters| &counters.rejected),
            ..Counts::default()
        };
        let Counts { replied, no_reply, failed, panicked, crashed, timed_out, rejected, .. } =
            counts;
        let ended = replied + no_reply + failed + panicked + crashed + timed_out + rejected;
        let moved = sum(|counters| &counters.moved);
        counts.accepted = sum(|counters| &counters.accepted).saturating_sub(moved);
        counts.in_flight = counts.accepted.saturating_sub(ended);
        counts
    }
}

/// A handler's counts over all generations.
#[derive(Debug, Default)]
pub(crate) struct Tally(Lock<Parts>);

#[derive(Debug, Default)]
struct Parts {
    /// Of those that nobody else holds any more, which means that no call of them can come.
    gone: Counts,
    present: Vec<Arc<CallCounts>>,
}

impl Parts {
    fn settle(&mut self) {
        let Parts { gone, present } = self;
        present.retain_mut(|counts| {
            // Not the mere count of references: this also makes what the last holder counted
            // visible here.
            let alone = Arc::get_mut(counts).is_some();
            if alone {
                *gone += counts.now();
            }
            !alone
        });
    }
}

impl Tally {
    /// Counts for one more generation.
    pub(crate) fn generation(&self) -> Arc<CallCounts> {
        let mut parts = self.0.lock();
        parts.settle();
        let counts = Arc::new(CallCounts::default());
        parts.present.push(counts.clone());
        counts
    }

    /// The counts now, over all generations.
    pub(crate) fn now(&self) -> Counts {
        let mut parts = self.0.lock();
        parts.settle();
        let mut sum = parts.gone;
        parts.present.iter().for_each(|counts| sum += counts.now());
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_in_one_of_the_ways_in_which_it_can_end() {
        let counts = CallCounts::default();
        for end in OutcomeStatus::ALL {
            counts.begin();
            counts.end(end, None);
        }
        let one_each = Counts {
            accepted: 7,
            replied: 1,
            no_reply: 1,
            failed: 1,
            panicked: 1,
            crashed: 1,
            timed_out: 1,
            rejected: 1,
            ..Counts::default()
        };
        assert_eq!(counts.now(), one_each);
    }

    #[test]
    fn what_a_generation_counted_stays_when_it_goes() {
        let tally = Tally::default();
        let (first, second) = (tally.generation(), tally.generation());
        for counts in [&first, &first, &second] {
            counts.begin();
            counts.end(OutcomeStatus::NoReply, None);
        }
        second.begin();
        let sum = Counts { accepted: 4, no_reply: 3, in_flight: 1, ..Counts::default() };
        assert_eq!(tally.now(), sum);
        drop(first);
        assert_eq!(tally.now(), sum);
        let third = tally.generation();
        assert_eq!(tally.0.lock().present.len(), 2, "what has gone takes no room");
        assert_eq!((tally.now(), third.now()), (sum, Counts::default()));
    }
}
