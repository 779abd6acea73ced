//! Background tasks of one generation.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use ksi_abi::{BoundaryFuture, Buffer};

use crate::lock::Lock;

/// The tasks that run, up to a limit.
pub(crate) struct BackgroundTasks {
    limit: usize,
    state: Lock<TaskSet>,
}

#[derive(Default)]
struct TaskSet {
    next: u64,
    closed: bool,
    running: HashMap<u64, Arc<Background>>,
}

/// Why a task is not accepted.
pub(crate) enum NotAdded {
    /// The generation is being retired.
    Closed,
    /// There are as many as may be.
    Full(usize),
}

impl BackgroundTasks {
    pub(crate) fn new(limit: usize) -> Self {
        BackgroundTasks { limit, state: Lock::default() }
    }

    /// Accepts a task: its number, and what is to be polled on the dispatch workers.
    pub(crate) fn add(&self, future: BoundaryFuture<u8>) -> Result<(u64, Running), NotAdded> {
        let task = Arc::new(Background { future: Lock::new(Some(future)), waker: Lock::default() });
        let mut state = self.state.lock();
        let refusal = match (state.closed, state.running.len() >= self.limit) {
            (true, _) => NotAdded::Closed,
            (_, true) => NotAdded::Full(self.limit),
            _ => {
                state.next += 1;
                let number = state.next;
                state.running.insert(number, task.clone());
                return Ok((number, Running(task)));
            }
        };
        // The lock goes first: dropping the future runs plugin code, which may want to start a
        // task.
        drop(state);
        task.drop_future();
        Err(refusal)
    }

    /// Forgets a task, whose future may still be there.
    pub(crate) fn remove(&self, number: u64) -> Option<Arc<Background>> {
        self.state.lock().running.remove(&number)
    }

    /// Drops all tasks and accepts none any more. On a dispatch worker.
    pub(crate) fn close(&self) {
        let running = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.running)
        };
        for task in running.into_values() {
            task.drop_future();
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().running.len()
    }
}

/// A background task. Its future is owned here alone, so that it can be dropped on a worker whoever
/// holds the task.
pub(crate) struct Background {
    future: Lock<Option<BoundaryFuture<u8>>>,
    waker: Lock<Option<Waker>>,
}

impl Background {
    /// Drops the future, after its present poll if there is one. On a dispatch worker.
    pub(crate) fn drop_future(&self) {
        let future = self.future.lock().take();
        drop(future);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}

/// A task, to be polled on the dispatch workers. It ends well, or with the message of a panic.
pub(crate) struct Running(Arc<Background>);

impl Future for Running {
    type Output = Result<(), Buffer>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        *self.0.waker.lock() = Some(cx.waker().clone());
        let mut future = self.0.future.lock();
        let Some(running) = future.as_mut() else { return Poll::Ready(Ok(())) };
        let polled = Pin::new(running).poll(cx);
        if polled.is_ready() {
            let ended = future.take();
            drop(future);
            drop(ended);
        }
        polled.map(|result| result.map(drop))
    }
}
