//! One accepted event on its way through its handlers.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{Poll, Waker},
};

use super::{
    event::{Ended, Outcomes},
    routes::Handler,
    tasks::{Task, lock},
};

/// Gathers one outcome per handler.
pub(super) struct Emission {
    calls: Mutex<Vec<HandlerCall>>,
    waker: Mutex<Option<Waker>>,
}

struct HandlerCall {
    handler: Arc<Handler>,
    task: Option<Arc<Task>>,
    end: Option<Ended>,
}

impl Emission {
    pub(super) fn new(handlers: &[Arc<Handler>]) -> Arc<Self> {
        let calls = handlers.iter().map(|handler| {
            let handler = handler.clone();
            HandlerCall { handler, task: None, end: None }
        });
        Arc::new(Emission { calls: Mutex::new(calls.collect()), waker: Mutex::default() })
    }

    /// Notes the task that calls handler number `index`. If that was rejected in the meantime, the
    /// task ends.
    pub(super) fn started(&self, index: usize, task: Arc<Task>) {
        let mut calls = lock(&self.calls);
        let call = &mut calls[index];
        if call.end.is_none() {
            call.task = Some(task);
        } else {
            drop(calls);
            task.cancel();
        }
    }

    /// Handler number `index` is done.
    pub(super) fn ended(&self, index: usize, end: Ended) {
        lock(&self.calls)[index].end.get_or_insert(end);
        self.wake();
    }

    /// The outcomes, once all are there.
    pub(super) fn finished(&self) -> Option<Outcomes> {
        let ends = lock(&self.calls).iter().map(|call| call.end.clone()).collect::<Option<_>>();
        ends.map(Outcomes)
    }

    pub(super) async fn outcomes(&self) -> Outcomes {
        poll_fn(|cx| {
            let before = lock(&self.waker).replace(cx.waker().clone());
            drop(before);
            self.finished().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Ends, with `reason`, the calls that have not ended.
    pub(super) fn reject(&self, reason: &str) {
        let mut cancelled = Vec::new();
        for call in lock(&self.calls).iter_mut() {
            if call.end.is_none() {
                let Handler { plugin, name, .. } = &*call.handler;
                call.end = Some(Ended::rejected(plugin, name, reason));
                cancelled.extend(call.task.take());
            }
        }
        // Not under the lock: what is dropped here is code of the plugin, which may emit.
        cancelled.iter().for_each(|task| task.cancel());
        self.wake();
    }

    fn wake(&self) {
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
