//! I/O that an idle worker waits for.
//!
//! Work that comes from a socket would wake two threads if another one waited for it: that one, and
//! the worker. So one of the idle workers waits for I/O in place of its queue. It is a tokio
//! runtime without threads and tasks, of which nothing is used but its I/O driver; whoever waits
//! drives it.

use std::{cell::Cell, future::Future, io};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::Notify,
    task::yield_now,
};

thread_local! {
    /// Whether this thread is inside [`IdleIo::wait`].
    static WAITS: Cell<bool> = const { Cell::new(false) };
}

/// What is waited for, by one thread at a time.
pub(super) struct IdleIo {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    over: Notify,
}

impl IdleIo {
    /// # Errors
    /// The system gives no descriptors.
    pub(super) fn new() -> io::Result<Self> {
        Ok(IdleIo::of(Builder::new_current_thread().enable_io().build()?))
    }

    /// With what this runtime has for drivers.
    pub(super) fn of(runtime: Runtime) -> Self {
        let handle = runtime.handle().clone();
        IdleIo { runtime: Some(runtime), handle, over: Notify::new() }
    }

    /// What sockets are registered with.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits for I/O, and wakes the tasks that it is for, until [`end`](Self::end).
    pub(super) fn wait(&self) {
        self.wait_by(self.over.notified());
    }

    /// The same until `until` by the clock of its runtime, if that comes before.
    #[cfg(feature = "in-place")]
    pub(super) fn wait_until(&self, until: Option<tokio::time::Instant>) {
        self.wait_by(async {
            match until {
                Some(until) => drop(tokio::time::timeout_at(until, self.over.notified()).await),
                None => self.over.notified().await,
            }
        });
    }

    fn wait_by(&self, waiting: impl Future<Output = ()>) {
        if let Some(runtime) = &self.runtime {
            WAITS.set(true);
            runtime.block_on(waiting);
            WAITS.set(false);
        }
    }

    /// Wakes the tasks whose I/O is there by now.
    pub(super) fn look(&self) {
        if let Some(runtime) = &self.runtime {
            // While the task yields, the driver has its turn.
            runtime.block_on(yield_now());
        }
    }

    /// Ends the present wait, or else the next one.
    pub(super) fn end(&self) {
        self.over.notify_one();
    }

    /// Whether it is this thread that waits.
    pub(super) fn waits_here() -> bool {
        WAITS.get()
    }
}

impl Drop for IdleIo {
    fn drop(&mut self) {
        // Not by its own drop, which may not happen on another runtime's threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
