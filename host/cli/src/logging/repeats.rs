//! Lines of the log that are all alike: the first is written, the others of the next seconds are
//! counted, and the count is told behind them. A loop of events that fails writes the same line
//! thousands of times a second otherwise, and pushes out the one that is different.
//!
//! Two lines are alike if nothing but their time and the number of their event differs. Bounded:
//! beyond so many kinds of lines at a time, or bytes of one, lines go through uncounted.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use ksi_host::LogFormat;

use super::line::{Line, repeated};

/// How long lines that are alike are counted after the first of them.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// How many kinds of lines are told apart at a time, and how long one may be.
const KINDS: usize = 256;
const LONGEST: usize = 4 << 10;

#[derive(Default)]
pub(super) struct Repeats {
    /// By the hash of what makes lines alike. The keys of the hash are random, so nobody can make
    /// two lines meet.
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
    /// Whether this line was there lately, so that it is counted and not written. `text` is what it
    /// is written as.
    pub(super) fn is_one_more(&mut self, line: &Line, text: &[u8], now: Instant) -> bool {
        if text.len() > LONGEST {
            return false;
        }
        let hash = self.hasher.hash_one(line);
        if let Some(kind) = self.kinds.get_mut(&hash) {
            // One that is over and was not told yet is told with the next look.
            if kind.count > 0 || now < kind.since + INTERVAL {
                kind.count += 1;
                kind.last.clear();
                kind.last.extend_from_slice(text);
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
    pub(super) fn told(&mut self, now: Instant, all: bool, format: LogFormat) -> Vec<u8> {
        let mut lines = Vec::new();
        for kind in self.kinds.values_mut() {
            let over = all || now >= kind.since + INTERVAL;
            if kind.count == 0 || !over {
                continue;
            }
            lines.extend(repeated(&kind.last, format, kind.count, INTERVAL.as_secs()));
            // The next one is written again, and counted from then on.
            kind.count = 0;
            kind.last = Vec::new();
            kind.since = now.checked_sub(INTERVAL).unwrap_or(now);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    const HUMAN: LogFormat = LogFormat::Human;

    /// Whether a line that is written in this second is one more.
    fn is_one_more(repeats: &mut Repeats, second: usize, text: &str, now: Instant) -> bool {
        let line = Line::of_command(Level::WARN, text.to_owned());
        let text = format!("2026-11-27T19:47:{second:02}.350445Z  WARN ksi: {text}\n");
        repeats.is_one_more(&line, text.as_bytes(), now)
    }

    #[test]
    fn of_lines_that_are_alike_the_first_is_written_and_the_others_are_counted() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        assert!(!is_one_more(&mut repeats, 1, "loop", start));
        for second in 2..48 {
            assert!(is_one_more(&mut repeats, second, "loop", start));
        }
        assert!(!is_one_more(&mut repeats, 3, "another", start));
        assert_eq!(repeats.due(), Some(start + INTERVAL));
        assert!(repeats.told(start, false, HUMAN).is_empty());
        let told = String::from_utf8(repeats.told(start + INTERVAL, false, HUMAN)).expect("text");
        let expected = "2026-11-27T19:47:47.350445Z  WARN ksi: loop (46 more times within 5s)\n";
        assert_eq!(told, expected);
        assert_eq!(repeats.due(), None);
        assert!(!is_one_more(&mut repeats, 50, "loop", start + INTERVAL), "it is written again");
        assert!(is_one_more(&mut repeats, 51, "loop", start + INTERVAL));
        assert!(!repeats.told(start + INTERVAL, true, HUMAN).is_empty(), "at the end all is told");
    }

    #[test]
    fn a_line_that_comes_once_in_a_while_is_written_each_time() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for time in 0..3 {
            assert!(!is_one_more(&mut repeats, 1, "tick", start + INTERVAL * time));
        }
        assert!(repeats.told(start + INTERVAL * 9, true, HUMAN).is_empty());
    }

    #[test]
    fn no_more_lines_are_remembered_than_there_is_room_for() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for number in 0..4 * KINDS {
            assert!(!is_one_more(&mut repeats, 1, &format!("{number}"), start));
        }
        assert_eq!(repeats.kinds.len(), KINDS);
        assert!(!is_one_more(&mut repeats, 1, "new", start + INTERVAL));
        assert_eq!(repeats.kinds.len(), 1, "those that are over make room");
        let long = "x".repeat(2 * LONGEST);
        let one_more = |repeats: &mut _| is_one_more(repeats, 1, &long, start);
        assert!(!one_more(&mut repeats) && !one_more(&mut repeats));
    }
}
