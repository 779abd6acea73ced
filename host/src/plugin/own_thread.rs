//! The supervisor's own thread: a runtime that nobody else's tasks run on.
//!
//! The runtime around a host belongs to the embedding program and to the clients of the socket. While those are busy, a
//! task of theirs that is woken waits for its turn among thousands; events that wait for a plugin's state would wait with
//! it.

use std::{io, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// The thread, until this is dropped. What runs there then is dropped there.
pub(crate) struct OwnThread {
    runtime: Handle,
    _end: oneshot::Sender<()>,
}

impl OwnThread {
    /// Starts it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("ksi-supervisor".to_owned()).spawn(move || {
            // The other end is never used, only dropped.
            let _ = runtime.block_on(ended);
            // A thread that works with files may take as long as it likes.
            runtime.shutdown_background();
        })?;
        Ok(OwnThread { runtime: handle, _end: end })
    }

    /// Its runtime.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_there_runs_on_one_thread_and_is_dropped_with_it() {
        let own = OwnThread::start().unwrap();
        let name = || thread::current().name().map(str::to_owned);
        let there = own.runtime().spawn(async move { name() }).await.unwrap();
        assert_eq!(there.as_deref(), Some("ksi-supervisor"));
        let endless = own.runtime().spawn(std::future::pending::<()>());
        drop(own);
        assert!(endless.await.unwrap_err().is_cancelled());
    }
}
