//! What a process prints: a line of it is a line of the log, up to so many a second, and the last
//! ones are kept for whoever asks how it ended.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::net::unix::pipe;

use crate::text::printable::printable;

/// The longest line that is logged as one.
const LONGEST_LINE: usize = 8 << 10;
/// How much of what was printed last is kept.
const KEPT: usize = 2 << 10;
/// How many of the last lines are told.
const LAST_LINES: usize = 5;
/// What is read at most once its process is gone: others may go on writing.
const REST: usize = 64 << 10;

/// How many lines are logged within a period; the others of it are counted.
const LINES: u64 = 500;
const PERIOD: Duration = Duration::from_secs(1);

/// Whose process one is: the plugin's name stands before what it prints. One that waits for a
/// plugin is nobody's yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owner(Arc<OnceLock<Arc<str>>>);

impl Owner {
    /// From here on it is this plugin's, if it was nobody's.
    pub(super) fn becomes(&self, plugin: &Arc<str>) {
        let _ = self.0.set(plugin.clone());
    }

    /// Empty as long as it is nobody's.
    pub(super) fn name(&self) -> &str {
        self.0.get().map_or("", |plugin| plugin)
    }
}

/// What comes out of one of its pipes.
pub(super) struct Output {
    owner: Owner,
    stream: &'static str,
    line: Vec<u8>,
    /// Whole lines, the last of all.
    last: Vec<u8>,
    rate: Rate,
}

/// How many lines there were in this period.
#[derive(Default)]
struct Rate {
    began: Option<Instant>,
    lines: u64,
}

impl Rate {
    /// One more line: whether it is logged, and how many were left out of the period before.
    fn one_more(&mut self, now: Instant) -> (bool, u64) {
        let mut left_out = 0;
        if self.began.is_none_or(|began| now.duration_since(began) >= PERIOD) {
            left_out = self.lines.saturating_sub(LINES);
            (self.began, self.lines) = (Some(now), 0);
        }
        self.lines += 1;
        (self.lines <= LINES, left_out)
    }

    /// How many were left out so far, of this period.
    fn left_out(&self) -> u64 {
        self.lines.saturating_sub(LINES)
    }
}

impl Output {
    pub(super) fn new(owner: &Owner, stream: &'static str) -> Self {
        let (line, last, rate) = (Vec::new(), Vec::new(), Rate::default());
        Output { owner: owner.clone(), stream, line, last, rate }
    }

    /// Reads what a pipe has now, up to a bound; whether there may be more some time.
    pub(super) fn read(&mut self, pipe: &pipe::Receiver) -> bool {
        let mut chunk = [0; 4 << 10];
        match pipe.try_read(&mut chunk) {
            Ok(0) => false,
            Ok(read) => {
                self.take(&chunk[..read]);
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }

    /// Reads what a pipe has now, and takes a line that was begun for a whole one.
    pub(super) fn read_what_there_is(&mut self, pipe: &pipe::Receiver) {
        let (mut chunk, mut rest) = ([0; 4 << 10], REST);
        while rest > 0 {
            match pipe.try_read(&mut chunk) {
                Ok(read @ 1..) => {
                    self.take(&chunk[..read]);
                    rest = rest.saturating_sub(read);
                }
                _ => break,
            }
        }
        self.end_line();
        self.tell_left_out(self.rate.left_out());
    }

    /// The last lines, as they were printed.
    pub(super) fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&self.last);
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") || self.line.len() == LONGEST_LINE {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = line.trim_ascii_end();
        if text.is_empty() {
            return;
        }
        if !is_of_backtrace(text) {
            self.last.extend_from_slice(text);
            self.last.push(b'\n');
            let over = self.last.len().saturating_sub(KEPT);
            self.last.drain(..over);
        }
        let (is_logged, left_out) = self.rate.one_more(Instant::now());
        self.tell_left_out(left_out);
        if !is_logged {
            return;
        }
        let text = String::from_utf8_lossy(text);
        tracing::info!(plugin = self.owner.name(), stream = self.stream, "{}", printable(&text));
    }
}

/// Whether a line is one of those that Rust prints where a panic or a failed allocation came from.
/// They come last, and say less than what stands before them.
fn is_of_backtrace(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    let indented = text.len() < line.len();
    let number = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_frame = number > 0 && text[number..].starts_with(b": ");
    indented && (is_frame || text.starts_with(b"at "))
        || text == b"stack backtrace:"
        || text.starts_with(b"note: ") && text.ends_with(b"backtrace.")
}

impl Output {
    fn tell_left_out(&self, lines: u64) {
        if lines > 0 {
            tracing::warn!(
                plugin = self.owner.name(),
                stream = self.stream,
                "{lines} lines that it printed are left out of the log: {LINES} a second are logged"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_however_much_was_printed() {
        let mut output = Output::new(&Owner::default(), "stderr");
        for number in 0..10_000 {
            output.take(format!("line {number}\n\n").as_bytes());
        }
        output.take(b"half a line");
        output.end_line();
        let last = output.last_words();
        assert_eq!(last, "line 9996\nline 9997\nline 9998\nline 9999\nhalf a line");
        assert!(output.last.len() <= KEPT);
    }

    #[test]
    fn the_last_words_are_those_before_a_backtrace() {
        let mut output = Output::new(&Owner::default(), "stderr");
        output.take(b"memory allocation of 16777216 bytes failed\nstack backtrace:\n");
        for frame in 0..60 {
            output.take(
                format!("  {frame}: <unknown>\n             at ./src/lib.rs:7:1\n").as_bytes(),
            );
        }
        output.take(b"note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.\n");
        assert_eq!(output.last_words(), "memory allocation of 16777216 bytes failed");
    }

    #[test]
    fn a_flood_of_lines_is_counted_and_not_logged() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let mut logged = |after: Duration| rate.one_more(start + after);
        for _ in 0..LINES {
            assert_eq!(logged(Duration::ZERO), (true, 0));
        }
        assert_eq!(logged(PERIOD / 2), (false, 0));
        assert_eq!(logged(PERIOD / 2), (false, 0));
        assert_eq!(logged(PERIOD), (true, 2), "a new period begins, and tells of the one before");
        assert_eq!(logged(PERIOD * 5), (true, 0));
        assert_eq!(rate.left_out(), 0);
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_the_longest() {
        let mut output = Output::new(&Owner::default(), "stderr");
        for _ in 0..100 {
            output.take(&[b'x'; 4_000]);
        }
        assert!(output.line.len() <= LONGEST_LINE && output.last.len() <= KEPT);
    }
}
