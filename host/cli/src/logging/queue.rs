//! The way of a log line to standard error: through a queue bounded in bytes, written by a thread
//! of its own.
//!
//! Whoever logs never waits and never fails: a pipe that nobody reads holds up the writing thread
//! alone, and what can't be written (a full disk, a reader that is gone) is lost and counted. The
//! number of lines that were lost, and why, is the next thing that is written.
//!
//! The descriptor is a copy: the lock of std's `stderr` is never held by a thread that may be
//! stuck.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tracing::Level;

use super::form::Form;
use super::line::Line;
use super::repeats::Repeats;

/// Bytes that may wait to be written, or be written at the moment.
pub(super) const BYTES: usize = 1 << 20;

/// The queue. Clones share it.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Shared>);

struct Shared {
    limit: usize,
    /// Of what is told of lines that are not there.
    form: Form,
    state: Mutex<State>,
    /// Something waits to be written.
    waiting: Condvar,
    /// All that waited was written or is lost.
    done: Condvar,
}

#[derive(Default)]
struct State {
    /// Whole lines.
    lines: Vec<u8>,
    /// Bytes that the thread has taken and not yet written.
    in_writing: usize,
    /// What found no room since the last look.
    overflowed: Lost,
    /// Lines that were there lately.
    repeats: Repeats,
}

/// Lines that nobody will read.
#[derive(Default)]
struct Lost {
    lines: u64,
    bytes: u64,
}

impl Queue {
    /// Begins to write to a copy of the process's standard error.
    pub(super) fn to_standard_error(form: Form) -> io::Result<Queue> {
        // 3: none of the three that have a meaning.
        let copy = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?;
        Queue::to(Patient(File::from(copy)), BYTES, form)
    }

    pub(super) fn to(
        out: impl Write + Send + 'static,
        limit: usize,
        form: Form,
    ) -> io::Result<Queue> {
        let queue = Queue(Arc::new(Shared {
            limit,
            form,
            state: Mutex::default(),
            waiting: Condvar::new(),
            done: Condvar::new(),
        }));
        let shared = queue.0.clone();
        thread::Builder::new().name("ksi-log".into()).spawn(move || shared.write_to(out))?;
        Ok(queue)
    }

    /// Puts a line in, with its line end; or counts it as lost if there is no room for it.
    pub(crate) fn put(&self, line: &[u8]) {
        self.0.lock().add(line, self.0.limit);
        self.0.waiting.notify_one();
    }

    /// Puts a line of the log in, unless it is like one that was there lately: then it is counted.
    pub(super) fn put_line(&self, line: &Line, form: &Form) {
        let text = line.formed(form.format(), form.colours);
        let mut state = self.0.lock();
        let is_first_counted = state.repeats.due().is_none();
        let is_one_more = state.repeats.is_one_more(line, text.as_bytes(), Instant::now());
        drop(state);
        match is_one_more {
            false => self.put(text.as_bytes()),
            // Somebody has to look at the time from now on.
            true if is_first_counted => self.0.waiting.notify_one(),
            true => {}
        }
    }

    /// Waits until all that was put in is written or lost, for so long at most. What was counted is
    /// told.
    pub(crate) fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
        let mut state = self.0.lock();
        state.tell_counts(&self.0, true);
        self.0.waiting.notify_one();
        while !state.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.done.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    /// The work of the thread, which ends with the process.
    fn write_to(&self, mut out: impl Write) {
        let mut unwritten = Unwritten::new(self.form.clone());
        loop {
            let (lines, overflowed) = {
                let mut state = self.lock();
                state.in_writing = 0;
                while state.is_empty() {
                    self.done.notify_all();
                    state = self.wait(state);
                }
                state.tell_counts(self, false);
                // Memory that one flood took is not kept for the next one.
                let lines = std::mem::take(&mut state.lines);
                state.in_writing = lines.len().max(1);
                (lines, std::mem::take(&mut state.overflowed))
            };
            unwritten.tell(&mut out);
            unwritten.write(&mut out, &lines);
            if overflowed.lines > 0 {
                unwritten.lost.lines += overflowed.lines;
                unwritten.lost.bytes += overflowed.bytes;
                unwritten.tell(&mut out);
            }
        }
    }

    /// Waits until there is something to write, as a count whose time is over is.
    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(due) = state.repeats.due() else {
            return self.waiting.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        let left = due.saturating_duration_since(Instant::now());
        let waited = self.waiting.wait_timeout(state, left);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.tell_counts(self, false);
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, line: &[u8], limit: usize) {
        if self.lines.len() + self.in_writing + line.len() > limit {
            self.overflowed.add(line);
        } else {
            self.lines.extend_from_slice(line);
        }
    }

    /// Adds the counts of lines that were left out, if their time is over, or all of them.
    fn tell_counts(&mut self, shared: &Shared, all: bool) {
        let now = Instant::now();
        if self.repeats.due().is_some_and(|due| all || due <= now) {
            let counts = self.repeats.told(now, all, shared.form.format());
            self.add(&counts, shared.limit);
        }
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.in_writing == 0 && self.overflowed.lines == 0
    }
}

impl Lost {
    fn add(&mut self, lines: &[u8]) {
        self.lines += lines.iter().filter(|byte| **byte == b'\n').count().max(1) as u64;
        self.bytes += lines.len() as u64;
    }
}

/// What the thread has to tell about lines that were lost.
struct Unwritten {
    form: Form,
    lost: Lost,
    error: Option<io::Error>,
    /// The last write ended in the middle of a line.
    within_a_line: bool,
}

impl Unwritten {
    fn new(form: Form) -> Self {
        Unwritten { form, lost: Lost::default(), error: None, within_a_line: false }
    }

    /// Writes lines, or notes which are lost.
    fn write(&mut self, out: &mut impl Write, lines: &[u8]) {
        if let Err((written, error)) = self.try_write(out, lines) {
            self.lost.add(&lines[written..]);
            self.error = Some(error);
        }
    }

    /// Writes how much was lost and why, if anything was. What can't be written is told later.
    fn tell(&mut self, out: &mut impl Write) {
        if self.lost.lines == 0 {
            return;
        }
        let Lost { lines, bytes } = self.lost;
        let why = match &self.error {
            Some(error) => format!("standard error could not be written: {error}"),
            None => "standard error was not read fast enough".to_owned(),
        };
        let text = format!("{lines} lines of the log ({bytes} bytes) are lost here: {why}");
        let told = Line::of_command(Level::WARN, text).with("lines", lines).with("bytes", bytes);
        let told = told.formed(self.form.format(), self.form.colours);
        if self.try_write(out, told.as_bytes()).is_ok() {
            (self.lost, self.error) = (Lost::default(), None);
        }
    }

    /// Writes whole lines, the first on a line of its own; or says how many bytes were written
    /// before it failed.
    fn try_write(&mut self, out: &mut impl Write, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        if self.within_a_line {
            out.write_all(b"\n").map_err(|error| (0, error))?;
            self.within_a_line = false;
        }
        let mut written = 0;
        while written < lines.len() {
            match out.write(&lines[written..]) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(more) => {
                    written += more;
                    self.within_a_line = lines[written - 1] != b'\n';
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }
}

/// A file that is waited for also where somebody else has made it non-blocking, as a parent may
/// that shares it.
struct Patient(File);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut writable = [PollFd::new(&self.0, PollFlags::OUT)];
                    rustix::event::poll(&mut writable, None)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use ksi_host::LogFormat;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Each write waits for its answer: it went well, or why not.
    struct Asking(Sender<String>, Receiver<Option<io::ErrorKind>>);

    impl Write for Asking {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            match self.1.recv().map_err(|_| gone(()))? {
                Some(kind) => Err(kind.into()),
                None => {
                    let text = String::from_utf8(bytes.to_vec()).unwrap();
                    self.0.send(text).map_err(|_| gone(()))?;
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue(limit: usize) -> (Queue, Receiver<String>, Sender<Option<io::ErrorKind>>) {
        let (written, read) = channel();
        let (answer, answers) = channel();
        let form = Form::new(LogFormat::Human, false);
        (Queue::to(Asking(written, answers), limit, form).unwrap(), read, answer)
    }

    fn taken(queue: &Queue) {
        let start = Instant::now();
        while queue.0.lock().in_writing == 0 {
            assert!(start.elapsed() < PATIENCE, "the thread takes what there is");
            thread::yield_now();
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told_behind_what_did() {
        let (queue, read, answer) = queue(10);
        queue.put(b"12345\n");
        taken(&queue);
        // Nobody has read the first one yet, and four bytes are left.
        for line in [b"ab\n".as_slice(), b"cd\n", b"efg\n"] {
            queue.put(line);
        }
        (0..3).for_each(|_| answer.send(None).unwrap());
        assert_eq!(read.recv_timeout(PATIENCE).unwrap(), "12345\n");
        assert_eq!(read.recv_timeout(PATIENCE).unwrap(), "ab\n");
        let told = read.recv_timeout(PATIENCE).unwrap();
        assert!(told.contains("2 lines") && told.contains("7 bytes"), "{told}");
        queue.flush(PATIENCE);
    }

    #[test]
    fn what_cannot_be_written_is_told_once_it_can() {
        let (queue, read, answer) = queue(1000);
        queue.put(b"lost\n");
        answer.send(Some(io::ErrorKind::StorageFull)).unwrap();
        queue.flush(PATIENCE);
        queue.put(b"next\n");
        (0..2).for_each(|_| answer.send(None).unwrap());
        let told = read.recv_timeout(PATIENCE).unwrap();
        assert!(told.contains("1 lines") && told.contains("could not be written"), "{told}");
        assert_eq!(read.recv_timeout(PATIENCE).unwrap(), "next\n");
        queue.flush(PATIENCE);
    }

    #[test]
    fn lines_that_are_alike_are_written_once_and_counted() {
        let (queue, read, answer) = queue(1000);
        let form = Form::new(LogFormat::Human, false);
        let line = |text: &str| Line::of_command(Level::WARN, text.to_owned());
        for _ in 0..1_000 {
            queue.put_line(&line("alike"), &form);
        }
        queue.put_line(&line("another"), &form);
        (0..3).for_each(|_| answer.send(None).unwrap());
        queue.flush(PATIENCE);
        let told: String = read.try_iter().collect();
        assert_eq!(told.matches("alike").count(), 2, "{told}");
        assert!(told.contains("alike (999 more times within 5s)\n"), "{told}");
        assert!(told.contains("another\n"), "{told}");
    }

    #[test]
    fn a_flush_waits_no_longer_than_it_is_told_to() {
        let (queue, _read, _answer) = queue(1000);
        queue.put(b"never written\n");
        queue.flush(Duration::from_millis(1));
        let state = queue.0.lock();
        assert_eq!(state.in_writing + state.lines.len(), 14);
    }
}
