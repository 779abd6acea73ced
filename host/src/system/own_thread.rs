//! A thread of the host's own: a runtime that nobody else's tasks run on. The supervisor has one.
//!
//! The runtime around a host belongs to the embedding program and to the clients of the socket.
//! While those are busy, a task of theirs that is woken waits for its turn among thousands; events
//! that wait for a plugin's state would wait with it.

use std::{io, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::watch,
};

/// The thread, until this is dropped. What runs there then is dropped there.
pub(crate) struct OwnThread {
    runtime: Handle,
    end: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

impl OwnThread {
    /// Starts it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, mut is_to_end) = watch::channel(false);
        let (has_ended, ended) = watch::channel(false);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Whoever drops the other end wants it to end as well.
            let _ = runtime.block_on(is_to_end.wait_for(|end| *end));
            // A thread that works with files may take as long as it likes.
            runtime.shutdown_background();
            has_ended.send_replace(true);
        })?;
        Ok(OwnThread { runtime: handle, end, ended })
    }

    /// No thread of its own: what is to run there runs on the test's, whose clock may stand still.
    #[cfg(test)]
    pub(crate) fn on(runtime: Handle) -> Self {
        let (end, _) = watch::channel(false);
        let (_, ended) = watch::channel(true);
        OwnThread { runtime, end, ended }
    }

    /// Ends it, and waits until what ran there is dropped: whoever has nothing else of the
    /// supervisor left has it all.
    pub(crate) async fn end(&self) {
        self.end.send_replace(true);
        // The thread is gone, if the other end is.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
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
        let own = OwnThread::start("ksi-supervisor").unwrap();
        let name = || thread::current().name().map(str::to_owned);
        let there = own.runtime().spawn(async move { name() }).await.unwrap();
        assert_eq!(there.as_deref(), Some("ksi-supervisor"));
        let held = std::sync::Arc::new(());
        let holding = held.clone();
        let endless = own.runtime().spawn(async move {
            std::future::pending::<()>().await;
            drop(holding);
        });
        own.end().await;
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
        assert!(endless.await.unwrap_err().is_cancelled());
    }
}
