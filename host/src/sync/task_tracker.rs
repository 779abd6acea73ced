//! Counts what is on its way, so that the end of it can be awaited.

use std::sync::Arc;

use tokio::sync::watch;

/// A number of things on their way.
#[derive(Clone)]
pub(crate) struct TaskTracker(Arc<watch::Sender<usize>>);

/// One of them, until it is dropped.
pub(crate) struct Tracked(Arc<watch::Sender<usize>>);

impl TaskTracker {
    pub(crate) fn new() -> Self {
        TaskTracker(Arc::new(watch::Sender::new(0)))
    }

    /// One more.
    pub(crate) fn begin(&self) -> Tracked {
        self.0.send_modify(|count| *count += 1);
        Tracked(self.0.clone())
    }

    /// Whether there is none now.
    pub(crate) fn is_empty(&self) -> bool {
        *self.0.borrow() == 0
    }

    /// Waits until there is none.
    pub(crate) async fn wait(&self) {
        // The sender lives in `self`, so there is no other end.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
