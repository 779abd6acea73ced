//! What a plugin must have counted on a lane.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    kills::{Kills, TAKEN_BACK},
    roles::Role,
    wire::Counted,
};

/// How long it is remembered what was acknowledged: longer than it may be taken back.
const REMEMBERED: Duration = TAKEN_BACK.saturating_mul(3);

/// What is known of a count, and what is not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    known: Counted,
    /// Requests since then that failed, oldest first: each may have been counted, and the next
    /// answer tells.
    maybe: Vec<u64>,
    /// What was known before, oldest first, and when something else was acknowledged.
    earlier: VecDeque<(Known, Instant)>,
}

/// A count, and what may have been added to it.
#[derive(Debug, Clone, Default)]
struct Known {
    known: Counted,
    maybe: Vec<u64>,
}

impl Expected {
    /// A request failed that would have been counted.
    pub(crate) fn may_have(&mut self, number: u64) {
        self.maybe.push(number);
    }

    /// An answer says what was counted, with its own request as the last: whether that is right.
    /// What it says is what is known from then on, so that one mismatch is told once.
    pub(crate) fn advance(
        &mut self,
        said: Counted,
        previous: u64,
        (role, kills): (Role, &Kills),
    ) -> Result<(), String> {
        let found = Counted { count: said.count.wrapping_sub(1), last: previous };
        let right = self.compare(found, (role, kills));
        let known = std::mem::replace(&mut self.known, said);
        let before = Known { known, maybe: std::mem::take(&mut self.maybe) };
        let now = Instant::now();
        self.earlier.push_back((before, now));
        while self.earlier.front().is_some_and(|(_, until)| now - *until > REMEMBERED) {
            self.earlier.pop_front();
        }
        right
    }

    /// Whether a count may be this one: what is known, or what was known a moment before a process
    /// was killed.
    pub(crate) fn compare(
        &self,
        found: Counted,
        (role, kills): (Role, &Kills),
    ) -> Result<(), String> {
        if self.admits(found) {
            return Ok(());
        }
        // What failed since may have been counted upon that.
        let mut maybe = self.maybe.clone();
        let back = self.earlier.iter().rev().find(|(it, _)| {
            maybe.splice(..0, it.maybe.iter().copied());
            admits(it.known, &maybe, found)
        });
        let taken_back = self.known.count.saturating_sub(found.count);
        match back {
            Some((_, until)) if kills.may_take_back(role, *until, taken_back) => Ok(()),
            back => {
                let until = back.map(|(_, until)| *until);
                let age = match until {
                    Some(until) => {
                        format!(
                            "{taken_back} counts are taken back, from {:?} ago on",
                            until.elapsed()
                        )
                    }
                    None => format!("which was never known within {REMEMBERED:?}"),
                };
                Err(format!(
                    "{found:?} before it, where {:?} was expected, and perhaps {:?}: {age}; {}",
                    self.known,
                    self.maybe,
                    kills.near(role, until)
                ))
            }
        }
    }

    fn admits(&self, found: Counted) -> bool {
        admits(self.known, &self.maybe, found)
    }
}

/// Whether a count may have become this one by some of those that failed.
fn admits(known: Counted, maybe: &[u64], found: Counted) -> bool {
    // So many of those that failed were counted, the last of them as the last of all.
    match found.count.checked_sub(known.count).map(usize::try_from) {
        Some(Ok(0)) => found.last == known.last,
        Some(Ok(counted)) => {
            let place = maybe.iter().position(|number| *number == found.last);
            place.is_some_and(|place| place + 1 >= counted)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(maybe: &[u64]) -> Expected {
        let known = Counted { count: 5, last: 50 };
        Expected { known, maybe: maybe.to_vec(), earlier: VecDeque::new() }
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
        let (mut counted, kills) = (expected(&[]), Kills::default());
        let of = (Role::Count, &kills);
        assert!(counted.advance(Counted { count: 9, last: 60 }, 50, of).is_err());
        assert!(counted.advance(Counted { count: 10, last: 61 }, 60, of).is_ok());
    }

    #[test]
    fn a_kill_takes_back_what_was_last_and_what_fails_then_may_be_counted_upon_that() {
        let (mut counted, kills) = (expected(&[]), Kills::default());
        let of = (Role::Count, &kills);
        counted.advance(Counted { count: 6, last: 51 }, 50, of).unwrap();
        counted.advance(Counted { count: 7, last: 52 }, 51, of).unwrap();
        let back = [Counted { count: 5, last: 50 }, Counted { count: 6, last: 51 }];
        assert!(back.iter().all(|back| counted.compare(*back, of).is_err()), "none was killed");
        let told = counted.compare(back[0], of).unwrap_err();
        assert!(
            told.contains("2 counts are taken back") && told.contains("never killed"),
            "{told}"
        );
        kills.note(Role::Count);
        assert!(back.iter().all(|back| counted.compare(*back, of).is_ok()));
        assert!(counted.compare(back[0], (Role::Heavy, &kills)).is_err(), "another plugin");
        counted.may_have(53);
        let upon = |count| counted.compare(Counted { count, last: 53 }, of).is_ok();
        assert!(upon(6) && upon(7) && upon(8) && !upon(5) && !upon(9));
        assert!(counted.compare(Counted { count: 4, last: 49 }, of).is_err(), "never known");
    }
}
