//! Background tasks of one generation.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use ksi_abi::{Buffer, Refusal, RefusalCode};

use super::Session;
use crate::{lock::Lock, value::Keeper};

impl Session {
    /// Runs a background task on the dispatch workers; its number. It ends well, or with the
    /// message of a panic. `keeper` keeps its library until all of it has ended.
    pub fn spawn<T>(
        self: &Arc<Self>,
        future: impl Future<Output = Result<T, Buffer>> + Send + Unpin + 'static,
        keeper: Option<Arc<dyn Keeper>>,
    ) -> Result<u64, Refusal> {
        let (number, task) = self.tasks.add(future).map_err(|not_added| match not_added {
            NotAdded::Closed => Refusal::new(
                RefusalCode::RETIRING,
                format_args!("{} is being retired and cannot start tasks any more", self.plugin),
            ),
            NotAdded::Full(limit) => Refusal::new(
                RefusalCode::TOO_MANY_TASKS,
                format_args!(
                    "{} runs {limit} background tasks, and no more are allowed (limits.background_tasks)",
                    self.plugin
                ),
            ),
        })?;
        let session = self.clone();
        self.router.spawn_detached(async move {
            if let Some(Err(message)) = task.await {
                let message = message.to_text();
                tracing::error!(plugin = %session.plugin, "a background task panicked: {message}");
            }
            session.tasks.remove(number);
            drop(keeper);
        });
        Ok(number)
    }

    /// Ends a background task.
    pub fn cancel(&self, number: u64) {
        if let Some(task) = self.tasks.remove(number) {
            self.router.spawn_detached(async move { task.drop_future() });
        }
    }
}

/// The tasks that run, up to a limit.
pub(crate) struct BackgroundTasks {
    limit: usize,
    state: Lock<TaskSet>,
}

#[derive(Default)]
struct TaskSet {
    next: u64,
    closed: bool,
    running: HashMap<u64, Arc<dyn Task>>,
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
    pub(crate) fn add<F>(&self, future: F) -> Result<(u64, Running<F>), NotAdded>
    where
        F: Future + Send + Unpin + 'static,
    {
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
    pub(crate) fn remove(&self, number: u64) -> Option<Arc<dyn Task>> {
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

/// A background task, whatever its future is.
pub(crate) trait Task: Send + Sync {
    /// Drops the future, after its present poll if there is one. On a dispatch worker.
    fn drop_future(&self);
}

/// A background task. Its future is owned here alone, so that it can be dropped on a worker whoever
/// holds the task.
struct Background<F> {
    future: Lock<Option<F>>,
    waker: Lock<Option<Waker>>,
}

impl<F: Send> Task for Background<F> {
    fn drop_future(&self) {
        let future = self.future.lock().take();
        drop(future);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}

/// A task, to be polled on the dispatch workers. `None` if it was dropped before its end.
pub(crate) struct Running<F>(Arc<Background<F>>);

impl<F: Future + Unpin> Future for Running<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        *self.0.waker.lock() = Some(cx.waker().clone());
        let mut future = self.0.future.lock();
        let Some(running) = future.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(running).poll(cx);
        if polled.is_ready() {
            let ended = future.take();
            drop(future);
            drop(ended);
        }
        polled.map(Some)
    }
}
