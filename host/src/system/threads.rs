//! Whether the system gives threads, found out before they are needed.
//!
//! A tokio runtime panics where it is refused one, and much of what a host does for a plugin it
//! does on a thread of its own: refused one by one, in the middle of a start, they leave a host
//! that hangs or is half there.

use std::{
    io,
    sync::mpsc,
    thread::{Builder, JoinHandle},
};

use thiserror::Error;

/// The system does not give as many threads as are needed.
#[derive(Debug, Error)]
#[error(
    "{given} of {asked} threads that are needed could be started: {source}; raise the limit of processes (`ulimit -u`), \
     TasksMax= of the service, or pids.max of the cgroup"
)]
#[non_exhaustive]
pub struct TooFewThreads {
    /// How many are needed at a time.
    pub asked: usize,
    /// How many there were.
    pub given: usize,
    /// Why there was not one more.
    pub source: io::Error,
}

/// Starts so many threads, beside those that there are, and ends them again. For a program that may
/// run under a limit, before it builds a tokio runtime. That others take threads in the next moment
/// is not excluded.
///
/// # Errors
/// They cannot all be started.
pub fn check_threads(count: usize) -> Result<(), TooFewThreads> {
    let (end, ended) = mpsc::channel::<()>();
    let ended = std::sync::Arc::new(std::sync::Mutex::new(ended));
    let start = |_| {
        let ended = ended.clone();
        // Each waits for its turn to see the end, which all have when the sender is gone.
        Builder::new().name("ksi-check".to_owned()).spawn(move || {
            let _ = ended.lock().map(|ended| ended.recv());
        })
    };
    let mut threads: Vec<JoinHandle<()>> = Vec::with_capacity(count);
    let refused = (0..count).map(start).find_map(|thread| match thread {
        Ok(thread) => {
            threads.push(thread);
            None
        }
        Err(error) => Some(error),
    });
    let given = threads.len();
    drop(end);
    for thread in threads {
        // It does nothing that could panic.
        let _ = thread.join();
    }
    match refused {
        None => Ok(()),
        Some(source) => Err(TooFewThreads { asked: count, given, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_threads_are_there_and_gone_again() {
        let count = || std::fs::read_dir("/proc/self/task").unwrap().count();
        check_threads(20).unwrap();
        check_threads(20).unwrap();
        // Those of other tests come and go.
        assert!(count() < 200);
    }
}
