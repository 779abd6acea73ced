//! Work that gives way: copying, hashing and probing a file while events are being handled.
//!
//! It runs on threads of its own, because a thread's priority can be lowered and not raised again.
//! A process that such a thread starts begins with the same priority.

use std::{io, thread};

use tokio::sync::oneshot;

/// How far the priority is lowered, of the 19 steps that there are: on a machine that is busy with
/// events, this work gets two thirds of what a dispatch worker gets; on one that is not, all that
/// it can use.
const NICENESS: i32 = 2;

/// Begins blocking work on a thread of its own, at a lower priority than that of the host.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn begin(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Where the system does not let it, the work is done all the same.
        let _ = lower_priority();
        work();
    });
    thread.map(drop)
}

/// Does such work, and gives what it gave; an error also when it panicked.
///
/// # Errors
/// The system gives no thread.
pub(crate) async fn done<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    begin(name, move || {
        // Nobody waits any more when the host is ending.
        let _ = sender.send(work());
    })?;
    receiver.await.map_err(io::Error::other)
}

/// Lowers the priority of this thread. Elsewhere than on Linux, it would be that of the whole
/// process.
fn lower_priority() -> rustix::io::Result<()> {
    if cfg!(target_os = "linux") {
        rustix::process::nice(NICENESS)?;
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_work_gives_way_and_the_host_does_not() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        let there = done("aside", own).await.unwrap();
        assert_eq!(there, (before + NICENESS).min(19));
        assert_eq!(own(), before);
    }
}
