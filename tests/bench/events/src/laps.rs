//! A loop that is timed, and counts the replies that are right.

use std::time::Instant;

use crate::{Ran, Run, number_of};

/// One run under way.
#[derive(Debug)]
pub struct Laps {
    run: Run,
    began: Instant,
    rounds: u64,
    right: u64,
    /// Rounds until the clock is looked at again.
    left: u64,
}

impl Laps {
    /// Begins.
    pub fn begin(run: &Run) -> Self {
        Laps { run: *run, began: Instant::now(), rounds: 0, right: 0, left: run.batch }
    }

    /// The number of the next question, unless it is over.
    #[inline]
    pub fn round(&mut self) -> Option<u64> {
        if self.left == 0 {
            self.left = self.run.batch;
            if self.run.nanos > 0 && self.nanos() >= self.run.nanos {
                return None;
            }
        }
        if self.rounds == self.run.rounds {
            return None;
        }
        self.left -= 1;
        self.rounds += 1;
        Some(number_of(self.rounds))
    }

    /// Counts a reply.
    #[inline]
    pub fn replied(&mut self, right: bool) {
        self.right += u64::from(right);
    }

    /// What it came to.
    pub fn end(self) -> Ran {
        Ran { rounds: self.rounds, right: self.right, nanos: self.nanos() }
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lane, Route};

    #[test]
    fn a_run_ends_by_its_rounds_or_by_the_clock_and_a_wrong_reply_spoils_it() {
        let mut laps = Laps::begin(&Run::rounds(Lane::Shared, Route::Request, 3));
        let mut asked = Vec::new();
        while let Some(number) = laps.round() {
            asked.push(number);
            laps.replied(number != number_of(2));
        }
        let ran = laps.end();
        assert_eq!((asked, ran.right), (vec![number_of(1), number_of(2), number_of(3)], 2));
        assert_eq!(ran.nanos_a_round(1), None);

        let mut laps = Laps::begin(&Run::timed(Lane::Shared, Route::Request, false, 1));
        while laps.round().is_some() {
            laps.replied(true);
        }
        assert!(laps.end().nanos_a_round(1).is_some());
    }
}
