//! The tasks of a plugin under test. They run one after another, on the thread of the test alone;
//! only their wakers may come from elsewhere.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

/// So many polls without coming to rest are taken for a loop.
const MAX_POLLS: usize = 1_000_000;

type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tasks that are to be polled, in the order in which they were woken.
#[derive(Default)]
pub(super) struct Tasks {
    ready: Mutex<VecDeque<Arc<Task>>>,
    woken: Condvar,
}

/// One of them.
pub(super) struct Task {
    tasks: Weak<Tasks>,
    queued: AtomicBool,
    body: Mutex<Body>,
}

enum Body {
    Waiting(TaskFuture),
    BeingPolled,
    Ended,
}

/// The tasks wake one another without end.
pub(super) struct Restless;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tasks {
    /// A new task, to be polled for the first time when its turn comes.
    pub(super) fn spawn(
        self: &Arc<Self>,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Arc<Task> {
        let task = Arc::new(Task {
            tasks: Arc::downgrade(self),
            queued: AtomicBool::new(false),
            body: Mutex::new(Body::Waiting(Box::pin(future))),
        });
        task.clone().wake();
        task
    }

    /// Polls until every task waits for something.
    pub(super) fn settle(&self) -> Result<(), Restless> {
        for _ in 0..MAX_POLLS {
            let next = lock(&self.ready).pop_front();
            match next {
                Some(task) => task.poll(),
                None => return Ok(()),
            }
        }
        Err(Restless)
    }

    /// Waits in real time until a task is woken; whether one was.
    pub(super) fn wait(&self, until: Instant) -> bool {
        let mut ready = lock(&self.ready);
        while ready.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            let waited = self.woken.wait_timeout(ready, left);
            ready = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Task {
    fn poll(self: Arc<Self>) {
        self.queued.store(false, Ordering::Release);
        let taken = {
            let mut body = lock(&self.body);
            match std::mem::replace(&mut *body, Body::BeingPolled) {
                Body::Waiting(future) => Some(future),
                other => {
                    *body = other;
                    None
                }
            }
        };
        let Some(mut future) = taken else { return };
        let waker = Waker::from(self.clone());
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut body = lock(&self.body);
        match (polled, &*body) {
            (Poll::Pending, Body::BeingPolled) => *body = Body::Waiting(future),
            _ => {
                *body = Body::Ended;
                // Dropping it may run code of the plugin, which may come back here.
                drop(body);
                drop(future);
            }
        }
    }

    /// Drops the future, at once or after the present poll.
    pub(super) fn cancel(&self) {
        let body = std::mem::replace(&mut *lock(&self.body), Body::Ended);
        drop(body);
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(tasks) = self.tasks.upgrade() {
            lock(&tasks.ready).push_back(self);
            tasks.woken.notify_all();
        }
    }
}
