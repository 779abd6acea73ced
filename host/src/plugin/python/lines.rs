//! A child that answers each line with a line.
//!
//! It ends when its input does, so no later than its host; and it is killed when it is dropped.
//! What it says is bounded, and so is the time that it takes for it. Everything here blocks.

use std::{
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// See the module.
pub(super) struct LineChild {
    child: Child,
    input: ChildStdin,
    out: ChildStdout,
    longest: usize,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// It has ended: with which status.
    Ended(String),
    TimedOut,
    TooLong,
    Failed(io::Error),
}

impl LineChild {
    /// Starts one whose answers have at most this many bytes.
    pub(super) fn start(command: &mut Command, longest: usize) -> io::Result<Self> {
        // Not of the host's group: it is not meant by a signal from a terminal.
        let command = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(out)) => Ok(LineChild { child, input, out, longest }),
            _ => Err(io::Error::other("it has no standard input or output")),
        }
    }

    pub(super) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Asks by one line, which is short enough for a pipe, and waits so long for the answer.
    pub(super) fn ask(&mut self, line: &str, limit: Duration) -> Result<String, Unanswered> {
        let asked =
            self.input.write_all(line.as_bytes()).and_then(|()| self.input.write_all(b"\n"));
        match asked.and_then(|()| self.input.flush()) {
            // Its status says more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(self.ended()),
            asked => asked.map_err(Unanswered::Failed)?,
        }
        self.line(limit)
    }

    /// Waits so long for a line.
    pub(super) fn line(&mut self, limit: Duration) -> Result<String, Unanswered> {
        let until = Instant::now() + limit;
        let (mut answer, mut chunk) = (Vec::new(), vec![0; 16 << 10]);
        while !answer.ends_with(b"\n") {
            if answer.len() > self.longest {
                return Err(Unanswered::TooLong);
            }
            let left = until.saturating_duration_since(Instant::now());
            let left =
                Timespec::try_from(left).map_err(|it| Unanswered::Failed(io::Error::other(it)))?;
            match poll(&mut [PollFd::new(&self.out, PollFlags::IN)], Some(&left)) {
                Ok(0) => return Err(Unanswered::TimedOut),
                Ok(_) => match self.out.read(&mut chunk) {
                    Ok(0) => return Err(self.ended()),
                    Ok(read) => answer.extend_from_slice(&chunk[..read]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Unanswered::Failed(error)),
                },
                Err(Errno::INTR) => {}
                Err(error) => return Err(Unanswered::Failed(error.into())),
            }
        }
        String::from_utf8(answer).map_err(|error| Unanswered::Failed(io::Error::other(error)))
    }

    fn ended(&mut self) -> Unanswered {
        // It has closed its end, and means no good if it goes on.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => Unanswered::Ended(status.to_string()),
            Err(error) => Unanswered::Failed(error),
        }
    }
}

impl Drop for LineChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
