//! Lines of the log that are all alike: the first is written, the others of the next seconds are
//! counted, and the count is told behind them. A loop of events that fails writes the same line
//! thousands of times a second otherwise, and pushes out the one that is different.
//!
//! Two lines are alike if nothing but their time differs. Bounded: beyond so many kinds of lines at
//! a time, or bytes of one, lines go through uncounted.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// How long lines that are alike are counted after the first of them.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// How many kinds of lines are told apart at a time, and how long one may be.
const KINDS: usize = 256;
const LONGEST: usize = 4 << 10;

#[derive(Default)]
pub(super) struct Repeats {
    /// By the hash of what stands behind the time. The keys of the hash are random, so nobody can
    /// make two lines meet.
    kinds: HashMap<u64, Kind>,
    hasher: RandomState,
}

struct Kind {
    since: Instant,
    count: u64,
    /// The last one, if there was more than the first.
    last: Vec<u8>,
}

impl Repeats {
    /// Whether this line was there lately, so that it is counted and not written.
    pub(super) fn is_one_more(&mut self, line: &[u8], now: Instant) -> bool {
        if line.len() > LONGEST {
            return false;
        }
        let hash = self.hasher.hash_one(behind_the_time(line));
        if let Some(kind) = self.kinds.get_mut(&hash) {
            // One that is over and was not told yet is told with the next look.
            if kind.count > 0 || now < kind.since + INTERVAL {
                kind.count += 1;
                kind.last.clear();
                kind.last.extend_from_slice(line);
                return true;
            }
            kind.since = now;
            return false;
        }
        if self.kinds.len() >= KINDS {
            self.kinds.retain(|_, kind| kind.count > 0 || now < kind.since + INTERVAL);
        }
        if self.kinds.len() < KINDS {
            self.kinds.insert(hash, Kind { since: now, count: 0, last: Vec::new() });
        }
        false
    }

    /// When the next count is to be told.
    pub(super) fn due(&self) -> Option<Instant> {
        let counted = self.kinds.values().filter(|kind| kind.count > 0);
        counted.map(|kind| kind.since + INTERVAL).min()
    }

    /// The counts whose time is over, or all of them, as lines.
    pub(super) fn told(&mut self, now: Instant, all: bool) -> Vec<u8> {
        let mut lines = Vec::new();
        for kind in self.kinds.values_mut() {
            let over = all || now >= kind.since + INTERVAL;
            if kind.count == 0 || !over {
                continue;
            }
            let line = kind.last.strip_suffix(b"\n").unwrap_or(&kind.last);
            let times =
                if kind.count == 1 { "once more" } else { &format!("{} more times", kind.count) };
            lines.extend_from_slice(line);
            lines.extend_from_slice(format!(" ({times} within {INTERVAL:?})\n").as_bytes());
            // The next one is written again, and counted from then on.
            kind.count = 0;
            kind.last = Vec::new();
            kind.since = now.checked_sub(INTERVAL).unwrap_or(now);
        }
        lines
    }
}

/// What is left of a line when the time is taken off, which ends with the first `Z`, perhaps with a
/// colour's end behind it.
fn behind_the_time(line: &[u8]) -> &[u8] {
    let head = &line[..line.len().min(48)];
    let is_digit_before = |at: usize| at > 0 && head[at - 1].is_ascii_digit();
    match head.iter().position(|byte| *byte == b'Z') {
        Some(end) if is_digit_before(end) => &line[end + 1..],
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(second: usize, text: &str) -> Vec<u8> {
        format!("2026-11-27T19:47:{second:02}.350445Z  WARN ksi_host: {text}\n").into_bytes()
    }

    #[test]
    fn of_lines_that_are_alike_the_first_is_written_and_the_others_are_counted() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        assert!(!repeats.is_one_more(&line(1, "loop"), start));
        for second in 2..48 {
            assert!(repeats.is_one_more(&line(second, "loop"), start));
        }
        assert!(!repeats.is_one_more(&line(3, "another"), start));
        assert_eq!(repeats.due(), Some(start + INTERVAL));
        assert!(repeats.told(start, false).is_empty());
        let told = String::from_utf8(repeats.told(start + INTERVAL, false)).expect("text");
        let expected =
            "2026-11-27T19:47:47.350445Z  WARN ksi_host: loop (46 more times within 5s)\n";
        assert_eq!(told, expected);
        assert_eq!(repeats.due(), None);
        assert!(!repeats.is_one_more(&line(50, "loop"), start + INTERVAL), "it is written again");
        assert!(repeats.is_one_more(&line(51, "loop"), start + INTERVAL));
        assert!(!repeats.told(start + INTERVAL, true).is_empty(), "at the end all is told");
    }

    #[test]
    fn a_line_that_comes_once_in_a_while_is_written_each_time() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for time in 0..3 {
            assert!(!repeats.is_one_more(&line(1, "tick"), start + INTERVAL * time));
        }
        assert!(repeats.told(start + INTERVAL * 9, true).is_empty());
    }

    #[test]
    fn no_more_lines_are_remembered_than_there_is_room_for() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for number in 0..4 * KINDS {
            assert!(!repeats.is_one_more(&line(1, &format!("{number}")), start));
        }
        assert_eq!(repeats.kinds.len(), KINDS);
        assert!(!repeats.is_one_more(&line(1, "new"), start + INTERVAL));
        assert_eq!(repeats.kinds.len(), 1, "those that are over make room");
        let long = line(1, &"x".repeat(2 * LONGEST));
        assert!(!repeats.is_one_more(&long, start) && !repeats.is_one_more(&long, start));
    }
}
