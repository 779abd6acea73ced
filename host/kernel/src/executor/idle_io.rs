//! I/O that an idle worker waits for.
//!
//! Work that comes from a socket would wake two threads if another one waited for it: that one, and
//! the worker. So one of the idle workers waits for I/O in place of its queue. It is a tokio
//! runtime without threads and tasks, of which nothing is used but its I/O driver; whoever waits
//! drives it.

use std::{cell::Cell, io};

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
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let handle = runtime.handle().clone();
        Ok(IdleIo { runtime: Some(runtime), handle, over: Notify::new() })
    }

    /// What sockets are registered with.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits for I/O, and wakes the tasks that it is for, until [`end`](Self::end).
    pub(super) fn wait(&self) {
        if let Some(runtime) = &self.runtime {
            WAITS.set(true);
            runtime.block_on(self.over.notified());
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
