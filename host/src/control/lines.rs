//! Reading lines of bounded length, many with one read.

use std::io;

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Room for what one read may bring.
const READ: usize = 16 * 1024;
/// Memory above this size is given back once the line that needed it was served.
const KEPT: usize = 64 * 1024;

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read<'a> {
    /// A line, without its line end.
    Line(&'a [u8]),
    /// A line above the limit; all of it was skipped.
    TooLong,
}

/// Takes lines out of what was read, and never holds more of one than the limit and one read.
///
/// Half a line at the end of all is dropped: nobody knows what it would have been.
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to here that line has no end.
    searched: usize,
    limit: usize,
    skipping: bool,
}

impl Lines {
    pub(super) fn new(limit: usize) -> Lines {
        Lines { buffer: Vec::new(), start: 0, searched: 0, limit, skipping: false }
    }

    /// The next line of what was read; `None` when more must be read for it.
    pub(super) fn next(&mut self) -> Option<Read<'_>> {
        let Some(at) = memchr(b'\n', &self.buffer[self.searched..]) else {
            self.searched = self.buffer.len();
            if self.skipping || self.searched - self.start > self.limit {
                self.skipping = true;
                self.start = self.searched;
            }
            return None;
        };
        let line = self.start..self.searched + at;
        self.start = line.end + 1;
        self.searched = self.start;
        let too_long = std::mem::take(&mut self.skipping) || line.len() > self.limit;
        Some(if too_long { Read::TooLong } else { Read::Line(&self.buffer[line]) })
    }

    /// Gives memory back that the next line does not need, as far as is known of it.
    pub(super) fn tidy(&mut self) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        if self.buffer.capacity() > KEPT && self.buffer.len() < READ {
            self.buffer.shrink_to(READ);
        }
    }

    /// Reads what there is, or waits for it; whether there may be more. Nothing is lost when this
    /// future is dropped before it is done.
    pub(super) async fn fill(&mut self, source: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        if self.buffer.capacity() - self.buffer.len() < READ / 2 {
            self.buffer.reserve(READ);
        }
        Ok(source.read_buf(&mut self.buffer).await? > 0)
    }

    /// Bytes that it takes, beyond those that every client has.
    pub(super) fn bytes(&self) -> usize {
        self.buffer.capacity().saturating_sub(KEPT)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Gives so many bytes a read.
    struct Dripping<'a>(&'a [u8], usize);

    impl AsyncRead for Dripping<'_> {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            let (now, later) = self.0.split_at(self.1.min(self.0.len()));
            buffer.put_slice(now);
            self.0 = later;
            std::task::Poll::Ready(Ok(()))
        }
    }

    async fn read_all(input: &[u8], limit: usize, at_a_time: usize) -> Vec<String> {
        let (mut source, mut lines) = (Dripping(input, at_a_time), Lines::new(limit));
        let mut seen = Vec::new();
        while lines.fill(&mut source).await.unwrap() {
            assert!(lines.buffer.len() <= limit + at_a_time, "memory is bounded");
            while let Some(read) = lines.next() {
                seen.push(match read {
                    Read::Line(line) => String::from_utf8_lossy(line).into_owned(),
                    Read::TooLong => "too long".to_owned(),
                });
            }
            lines.tidy();
        }
        seen
    }

    #[tokio::test]
    async fn lines_come_whole_however_they_are_cut() {
        for bytes in 1..20 {
            let seen = read_all(b"one\n\nthree\nhalf", 5, bytes).await;
            assert_eq!(seen, ["one", "", "three"], "read {bytes} bytes at a time");
        }
    }

    #[tokio::test]
    async fn a_long_line_is_skipped_and_the_next_one_read() {
        for bytes in 1..30 {
            let seen = read_all(b"12345\n123456\n1234567890\nab\n", 5, bytes).await;
            assert_eq!(seen, ["12345", "too long", "too long", "ab"], "{bytes} bytes at a time");
        }
    }

    #[tokio::test]
    async fn half_a_line_that_is_too_long_is_dropped_too() {
        assert_eq!(read_all(b"a\n1234567890", 5, 4).await, ["a"]);
    }

    #[tokio::test]
    async fn memory_of_a_long_line_is_given_back() {
        let mut input = vec![b'x'; 1 << 20];
        input.extend_from_slice(b"\nshort\nnext\n");
        let (mut source, mut lines) = (Dripping(&input, 1 << 14), Lines::new(1 << 21));
        while lines.fill(&mut source).await.unwrap() {
            while lines.next().is_some() {}
            lines.tidy();
        }
        assert!(lines.buffer.capacity() <= KEPT, "{} are kept", lines.buffer.capacity());
    }
}
