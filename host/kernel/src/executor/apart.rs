//! Waiting for a task without depending on its thread.
//!
//! Handlers are polled in their emitter's task, so a call that does not return holds up everybody
//! up the chain of events, and nobody can end it inside a process. Whoever waits at the root of the
//! chain (a client, the embedding program) must be answered nevertheless: it waits in another task,
//! and when a call that is polled for it is late, the watchdog answers in place of the one that is
//! stuck.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    slot::{Slot, with_slot},
    workers::Workers,
};
use crate::lock::Lock;

/// Somebody who waits for what a worker polls.
pub trait Waits: Send + Sync {
    /// A call that is being polled for it is late. On the watchdog's thread, so this must not
    /// block.
    fn give_up(&self, late: &Late<'_>);
}

/// A call that has not returned in time.
pub struct Late<'a> {
    /// What it had.
    pub after: Duration,
    pub(super) slot: &'a Slot,
    pub(super) call: [u64; 2],
}

impl Late<'_> {
    /// Whether its thread is still in it. For somebody for whom several calls are polled one after
    /// another: under a lock that its thread takes between two of them, the answer is right, or it
    /// has returned just now.
    pub fn is_going_on(&self) -> bool {
        self.slot.is_inside(self.call)
    }
}

/// What is waited for: given by the task, or, if that is stuck in a late call, made by `instead`.
struct Answer<T, I> {
    to: Lock<Option<oneshot::Sender<T>>>,
    instead: I,
}

impl<T, I> Answer<T, I> {
    /// The first answer counts.
    fn answer(&self, answer: impl FnOnce() -> T) {
        let to = self.to.lock().take();
        if let Some(to) = to {
            // Nobody may wait any more; the event has been handled all the same.
            let _ = to.send(answer());
        }
    }
}

impl<T: Send, I: Fn(Duration) -> T + Send + Sync> Waits for Answer<T, I> {
    fn give_up(&self, late: &Late<'_>) {
        self.answer(|| (self.instead)(late.after));
    }
}

/// Runs a future in a task on the workers. Its result comes to the receiver, or `instead` of it, as
/// soon as a call that it polls has not returned within its timeout, which `instead` is told.
pub(crate) fn apart<T: Send + 'static>(
    workers: &Workers,
    future: impl Future<Output = T> + Send + 'static,
    instead: impl Fn(Duration) -> T + Send + Sync + 'static,
) -> oneshot::Receiver<T> {
    let (to, answered) = oneshot::channel();
    let answer = Arc::new(Answer { to: Lock::new(Some(to)), instead });
    let waits: Arc<dyn Waits> = answer.clone();
    let waits = Arc::downgrade(&waits);
    let task = workers.spawn(async move {
        let result = WaitedFor { waits, future: pin!(future) }.await;
        answer.answer(|| result);
    });
    task.detach();
    answered
}

/// Polls a future for somebody who waits for it.
pub fn waited_for<F: Future>(
    waits: Weak<dyn Waits>,
    future: Pin<&mut F>,
) -> impl Future<Output = F::Output> + Unpin {
    WaitedFor { waits, future }
}

/// A future with somebody who waits for it, which the worker's slot says while it is polled.
struct WaitedFor<'a, F> {
    waits: Weak<dyn Waits>,
    future: Pin<&'a mut F>,
}

impl<F: Future> Future for WaitedFor<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _outer = Outer::replaced_by(self.waits.clone());
        self.future.as_mut().poll(cx)
    }
}

/// Whoever waited before, put back in the end, also if the poll unwinds.
struct Outer(Option<Weak<dyn Waits>>);

impl Outer {
    fn replaced_by(waits: Weak<dyn Waits>) -> Self {
        Outer(with_slot(|slot| slot.replace_waits(Some(waits))).flatten())
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        with_slot(|slot| slot.replace_waits(self.0.take()));
    }
}
