//! Reading lines of bounded length.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// A line's memory above this size is given back once the line was served.
const KEPT: usize = 64 * 1024;

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read<'a> {
    /// A line, without its line end.
    Line(&'a [u8]),
    /// A line above the limit; all of it was skipped.
    TooLong,
    /// The client hung up. Half a line before that is dropped: nobody knows what it would have been.
    End,
}

/// Reads lines and never holds more of one than the limit.
pub(super) struct Lines<R> {
    source: R,
    limit: usize,
    line: Vec<u8>,
    skipping: bool,
    complete: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(source: R, limit: usize) -> Lines<R> {
        Lines { source, limit, line: Vec::new(), skipping: false, complete: false }
    }

    /// The next line. Nothing is lost when this future is dropped before it is done.
    pub(super) async fn next(&mut self) -> io::Result<Read<'_>> {
        if self.complete {
            self.complete = false;
            self.skipping = false;
            self.line.clear();
            self.line.shrink_to(KEPT);
        }
        while !self.complete {
            let found = self.source.fill_buf().await?;
            if found.is_empty() {
                return Ok(Read::End);
            }
            let end = found.iter().position(|byte| *byte == b'\n');
            let part = &found[..end.unwrap_or(found.len())];
            if self.skipping || self.line.len() + part.len() > self.limit {
                self.skipping = true;
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.complete = end.is_some();
            self.source.consume(used);
        }
        Ok(if self.skipping { Read::TooLong } else { Read::Line(&self.line) })
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn source(&self) -> &R {
        &self.source
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    async fn read_all(input: &[u8], limit: usize, buffer: usize) -> Vec<String> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, input), limit);
        let mut seen = Vec::new();
        loop {
            match lines.next().await.unwrap() {
                Read::Line(line) => seen.push(String::from_utf8_lossy(line).into_owned()),
                Read::TooLong => seen.push("too long".to_owned()),
                Read::End => return seen,
            }
        }
    }

    #[tokio::test]
    async fn lines_come_whole_however_they_are_cut() {
        for buffer in 1..12 {
            let seen = read_all(b"one\n\nthree\nhalf", 5, buffer).await;
            assert_eq!(seen, ["one", "", "three"], "read {buffer} bytes at a time");
        }
    }

    #[tokio::test]
    async fn a_long_line_is_skipped_and_the_next_one_read() {
        for buffer in 1..12 {
            let seen = read_all(b"12345\n123456\n1234567890\nab\n", 5, buffer).await;
            assert_eq!(seen, ["12345", "too long", "too long", "ab"], "{buffer} bytes at a time");
        }
    }

    #[tokio::test]
    async fn half_a_line_that_is_too_long_is_dropped_too() {
        assert_eq!(read_all(b"a\n1234567890", 5, 4).await, ["a"]);
    }
}
