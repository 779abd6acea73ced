//! What a plugin must have counted on a lane.

use crate::wire::Counted;

/// What is known of a count, and what is not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    known: Counted,
    /// Requests since then that failed, oldest first: each may have been counted, and the next
    /// answer tells.
    maybe: Vec<u64>,
}

impl Expected {
    /// A request failed that would have been counted.
    pub(crate) fn may_have(&mut self, number: u64) {
        self.maybe.push(number);
    }

    /// An answer says what was counted, with its own request as the last: whether that is right.
    /// What it says is what is known from then on, so that one mismatch is told once.
    pub(crate) fn advance(&mut self, said: Counted, previous: u64) -> Result<(), String> {
        let before = std::mem::replace(self, Expected { known: said, maybe: Vec::new() });
        match before.admits(Counted { count: said.count.wrapping_sub(1), last: previous }) {
            true => Ok(()),
            false => Err(format!("before it, {before:?} was expected")),
        }
    }

    /// Whether a count may be this one.
    pub(crate) fn admits(&self, found: Counted) -> bool {
        // So many of those that failed were counted, the last of them as the last of all.
        match found.count.checked_sub(self.known.count).map(usize::try_from) {
            Some(Ok(0)) => found.last == self.known.last,
            Some(Ok(counted)) => {
                let place = self.maybe.iter().position(|number| *number == found.last);
                place.is_some_and(|place| place + 1 >= counted)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(maybe: &[u64]) -> Expected {
        Expected { known: Counted { count: 5, last: 50 }, maybe: maybe.to_vec() }
    }

    #[test]
    fn what_was_acknowledged_must_be_there_exactly() {
        assert!(expected(&[]).admits(Counted { count: 5, last: 50 }));
        for (count, last) in [(4, 50), (6, 50), (5, 49), (6, 51), (0, 0)] {
            assert!(!expected(&[]).admits(Counted { count, last }), "{count} {last}");
        }
    }

    #[test]
    fn what_failed_may_be_there_or_not() {
        let two_failed = expected(&[51, 52]);
        for (count, last) in [(5, 50), (6, 51), (6, 52), (7, 52)] {
            assert!(two_failed.admits(Counted { count, last }), "{count} {last}");
        }
        for (count, last) in [(5, 51), (7, 51), (8, 52), (6, 50), (4, 50)] {
            assert!(!two_failed.admits(Counted { count, last }), "{count} {last}");
        }
    }

    #[test]
    fn a_mismatch_is_told_once() {
        let mut counted = expected(&[]);
        assert!(counted.advance(Counted { count: 9, last: 60 }, 50).is_err());
        assert!(counted.advance(Counted { count: 10, last: 61 }, 60).is_ok());
    }
}
