//! Lines from a socket, each of bounded length and awaited no longer than a deadline.

use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// No host answers with more; what comes without a line break for so long is something else.
const LONGEST: usize = 1 << 30;

pub(crate) struct Lines {
    stream: BufReader<UnixStream>,
    /// The beginning of a line whose end has not come yet. Kept over a timeout.
    partial: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream: BufReader::with_capacity(64 * 1024, stream), partial: Vec::new() }
    }

    /// The next line without its end, or `None` when the other side has closed. Half a line before
    /// that is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] at the deadline, [`ErrorKind::InvalidData`] for a line too long, or
    /// what the system says.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> io::Result<Option<String>> {
        loop {
            if self.stream.buffer().is_empty() {
                self.stream.get_ref().set_read_timeout(left(deadline)?)?;
            }
            let bytes = match self.stream.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            };
            if bytes.is_empty() {
                return Ok(None);
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(bytes.len());
            if self.partial.len() + taken > LONGEST {
                return Err(io::Error::new(ErrorKind::InvalidData, "a line of more than 1 GiB"));
            }
            self.partial.extend_from_slice(&bytes[..taken]);
            self.stream.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                let line = std::mem::take(&mut self.partial);
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
        }
    }
}

/// The time until a deadline, in the form the system takes: never zero, which it reads as "for
/// ever".
fn left(deadline: Option<Instant>) -> io::Result<Option<Duration>> {
    let Some(deadline) = deadline else { return Ok(None) };
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(Some(left)),
        _ => Err(ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_come_whole_however_they_were_written() {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        let mut lines = Lines::new(theirs);
        ours.write_all(b"one\ntw").expect("written");
        assert_eq!(lines.next(None).expect("a line").as_deref(), Some("one"));
        let soon = Instant::now() + Duration::from_millis(5);
        let error = lines.next(Some(soon)).expect_err("half a line");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        ours.write_all(b"o\nhalf").expect("written");
        assert_eq!(lines.next(None).expect("a line").as_deref(), Some("two"));
        drop(ours);
        assert_eq!(lines.next(None).expect("the end"), None);
    }

    #[test]
    fn a_deadline_that_has_passed_does_not_wait() {
        let (_ours, theirs) = UnixStream::pair().expect("a pair");
        let error = Lines::new(theirs).next(Some(Instant::now())).expect_err("no time");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
