//! What a worker has asked for and waits for: emits, waits and watches, each of them a task until
//! it is answered or the worker does not wait any more.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard},
};

use async_task::Task;
use ksi_kernel::{lock::Lock, router::Router};

/// What is open, by the worker's numbers.
pub(super) struct Asks {
    open: Lock<Open>,
    limit: usize,
}

#[derive(Default)]
struct Open {
    tasks: HashMap<u64, Option<Task<()>>>,
    closed: bool,
}

impl Asks {
    /// For so many at a time.
    pub(super) fn new(limit: usize) -> Self {
        Asks { open: Lock::default(), limit }
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.open().tasks.len() < self.limit
    }

    /// Whether something of this number is open.
    pub(super) fn is_open(&self, number: u64) -> bool {
        self.open().tasks.contains_key(&number)
    }

    /// Runs the answer to an ask of this number on the dispatch workers.
    pub(super) fn spawn(
        self: &Arc<Self>,
        number: u64,
        router: &Router,
        answer: impl Future<Output = ()> + Send + 'static,
    ) {
        {
            let mut open = self.open();
            if open.closed {
                return;
            }
            open.tasks.insert(number, None);
        }
        let asks = self.clone();
        let task = router.workers().spawn(async move {
            answer.await;
            // Its own task, which is at its end.
            if let Some(Some(task)) = asks.take(number) {
                task.detach();
            }
        });
        let mut open = self.open();
        match open.tasks.get_mut(&number) {
            Some(place) => *place = Some(task),
            // It is answered already, or cancelled.
            None => {
                drop(open);
                task.detach();
            }
        }
    }

    /// The worker does not wait for this any more.
    pub(super) fn cancel(&self, number: u64) {
        drop(self.take(number));
    }

    /// Ends all of it. On a dispatch worker.
    pub(super) fn close(&self) {
        let tasks = {
            let mut open = self.open();
            open.closed = true;
            std::mem::take(&mut open.tasks)
        };
        drop(tasks);
    }

    fn take(&self, number: u64) -> Option<Option<Task<()>>> {
        self.open().tasks.remove(&number)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }
}
