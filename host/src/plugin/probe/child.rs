//! A probe's process as the host holds it: one that waits to be asked, one that was, and all that
//! run.
//!
//! Promises that no child outlives the host. When the value that holds one is dropped, it is killed
//! and reaped; an orderly stop does that to all of them at once ([`Children::end`]); and of a host
//! that is killed the kernel closes the pipes, at whose end each child ends (`end_with_host` in
//! `answer.rs`). Nobody waits for longer than a moment for one that cannot be killed, because it
//! waits for a disk that does not answer: it is reaped when the next one is started, or by the
//! system.
//!
//! Does not know what is asked and answered.

use std::{
    io::{self, BufWriter, Write},
    process::{self, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ksi_kernel::lock::Lock;

/// What one that was killed gets to be gone.
const GONE: Duration = Duration::from_secs(1);

/// The children of one host.
#[derive(Default)]
pub(super) struct Children {
    /// Those that are not reaped, and some that are.
    running: Lock<Vec<Arc<Lock<process::Child>>>>,
    /// There are to be none any more.
    ended: AtomicBool,
}

impl Children {
    /// Starts one. It is to read what it is asked from its standard input.
    pub(super) fn start(&self, command: &mut Command) -> io::Result<SpareChild> {
        // No `pre_exec`: with it a spawn forks, which takes 9 ms in place of 1. With the
        // environment of the host: an `initialize` that is tried reads there what it will read in
        // the host.
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let stopping = || io::Error::other("the host is stopping");
        if self.has_ended() {
            return Err(stopping());
        }
        // Not under the lock: the program may lie on a disk that does not answer.
        let mut child = command.spawn()?;
        let (input, out) = (child.stdin.take(), child.stdout.take());
        let process = Arc::new(Lock::new(child));
        let child = Child { process: process.clone(), _input: None };
        {
            let mut running = locked(&self.running);
            running.retain(|child| matches!(locked(child).try_wait(), Ok(None)));
            running.push(process);
            if self.has_ended() {
                kill(&child.process);
                return Err(stopping());
            }
        }
        match (input, out) {
            (Some(input), Some(out)) => Ok(SpareChild { input, out, child }),
            _ => Err(io::Error::other("it has no standard input or output")),
        }
    }

    /// Ends those that there are. None is started any more.
    pub(super) fn end(&self) {
        // Under the lock: whoever starts one at this moment finds it out behind this.
        let running = {
            let mut running = locked(&self.running);
            self.ended.store(true, Ordering::Release);
            std::mem::take(&mut *running)
        };
        running.iter().for_each(|child| kill(child));
        let deadline = Instant::now() + GONE;
        for child in &running {
            let _ = ended(child, deadline);
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// A child that was not asked anything. It ends when its input does, so that goes first.
pub(super) struct SpareChild {
    input: ChildStdin,
    out: ChildStdout,
    child: Child,
}

/// A child that was.
pub(super) struct AskedChild {
    pub(super) child: Child,
    pub(super) out: ChildStdout,
}

impl SpareChild {
    /// Sends it what `write` writes.
    pub(super) fn ask(
        self,
        write: impl FnOnce(&mut BufWriter<&mut ChildStdin>) -> io::Result<()>,
    ) -> io::Result<AskedChild> {
        let SpareChild { mut input, out, mut child } = self;
        let mut buffer = BufWriter::new(&mut input);
        write(&mut buffer)?;
        buffer.flush()?;
        drop(buffer);
        child._input = Some(input);
        Ok(AskedChild { child, out })
    }
}

/// A probe's process, which does not outlive this value.
pub(super) struct Child {
    process: Arc<Lock<process::Child>>,
    /// Open for as long as it may run, because it ends with the end of this. Closed when its
    /// process has ended.
    _input: Option<ChildStdin>,
}

impl Child {
    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> io::Result<bool> {
        Ok(locked(&self.process).try_wait()?.is_some())
    }

    /// Waits for its end, for as long as `limit`.
    pub(super) fn end(&self, limit: Duration) -> Option<ExitStatus> {
        ended(&self.process, Instant::now() + limit)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // After its answer it ends by itself within a moment.
        if self.end(Duration::from_millis(20)).is_none() {
            kill(&self.process);
            let _ = self.end(GONE);
        }
    }
}

/// It cannot be signalled only if it has ended meanwhile.
fn kill(child: &Lock<process::Child>) {
    let _ = locked(child).kill();
}

/// Waits for the end of one, without holding up those who ask for it meanwhile.
fn ended(child: &Lock<process::Child>, deadline: Instant) -> Option<ExitStatus> {
    loop {
        let ended = locked(child).try_wait();
        match ended {
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_micros(200)),
            Ok(ended) => return ended,
            Err(_) => return None,
        }
    }
}

fn locked<T>(mutex: &Lock<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_have_ended_are_forgotten_and_the_others_end_with_the_host() {
        let children = Children::default();
        let start = || children.start(Command::new("sleep").arg("1000")).expect("it is started");
        for _ in 0..4 {
            drop(start());
        }
        let hang = [start(), start()];
        assert_eq!(locked(&children.running).len(), 2);
        children.end();
        assert!(hang.iter().all(|it| it.child.has_ended().expect("it is a child")));
        assert!(children.start(&mut Command::new("sleep")).is_err());
    }
}
