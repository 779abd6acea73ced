//! Calls, snapshots and restores of the instance, from the first poll to the frame that ends them.

use std::{
    cell::Cell,
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_task::{Runnable, Task};
use ksi_abi::{BoundaryFuture, CallEnd, EventHandle, Failure, Instance, ReplyForm, Start};
use ksi_kernel::lock::Lock;
use ksi_worker_protocol::{FromWorker, Payload, ProtocolError};

use super::{
    event::{EventData, WorkerEvent},
    host::WorkerHost,
};

thread_local! {
    /// The call that this thread polls; 0 for none.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// The call that this thread polls; 0 for none.
pub(super) fn current() -> u64 {
    CURRENT.get()
}

/// What the instance is to do.
pub(super) enum InstanceWork {
    Call { handler: u64, event: Arc<EventData> },
    Snapshot { version: u32 },
    Restore { version: u32, state: Vec<u8> },
    ReadBack { version: u32, state: Vec<u8> },
}

/// Those that have begun and not ended.
#[derive(Default)]
pub(super) struct WorkerCalls(Lock<HashMap<u64, Task<()>>>);

impl WorkerCalls {
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Nobody waits for it any more.
    pub(super) fn cancel(&self, id: u64) {
        let task = self.0.lock().remove(&id);
        // What is left of it is dropped where it would have been polled.
        drop(task);
    }

    /// Ends all of them, and waits until nothing of them is left.
    pub(super) async fn end(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        for (_, task) in all {
            task.cancel().await;
        }
    }
}

/// Runs it up to where it waits. It goes on wherever it is woken.
pub(super) fn begin(host: &Arc<WorkerHost>, id: u64, work: InstanceWork, blocking: bool) {
    let context = match &work {
        InstanceWork::Call { event, .. } => Some(event.clone()),
        _ => None,
    };
    let mut ending = Ending { host: host.clone(), id, context, end: None };
    let Some(instance) = host.instance() else {
        let failure = Failure::new("no_instance", "the plugin has no instance in this process");
        ending.end = Some(CallEnd::Failed(failure));
        return;
    };
    let call = RunningCall { work: Some(work), going: None, ending, _instance: instance };
    let to = host.clone();
    let schedule = move |runnable| to.schedule(runnable, blocking);
    let (runnable, task) = async_task::spawn(call, schedule);
    host.calls.0.lock().insert(id, task);
    if blocking {
        runnable.schedule();
    } else {
        runnable.run();
    }
}

/// The order of its fields is that in which they go: nothing of a call is left when its end is
/// told, and the instance goes last.
struct RunningCall {
    work: Option<InstanceWork>,
    going: Option<BoundaryFuture<CallEnd>>,
    ending: Ending,
    _instance: Arc<Instance>,
}

impl Future for RunningCall {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let before = CURRENT.replace(self.ending.id);
        let polled = self.step(cx);
        CURRENT.set(before);
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(end) => {
                self.going = None;
                self.ending.end = Some(end.encoded());
                Poll::Ready(())
            }
        }
    }
}

impl RunningCall {
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<CallEnd> {
        if let Some(work) = self.work.take() {
            let instance = &self._instance;
            let started = match work {
                InstanceWork::Call { handler, event } => {
                    let event = EventHandle::new(WorkerEvent::counted(event));
                    instance.call(handler, event, &ReplyForm::Json, cx)
                }
                InstanceWork::Snapshot { version } => instance.snapshot(version, cx),
                InstanceWork::Restore { version, state } => instance.restore(version, &state, cx),
                InstanceWork::ReadBack { version, state } => {
                    instance.read_back(version, &state).into()
                }
            };
            return match started.into_start() {
                Start::Ready(end) => Poll::Ready(end),
                Start::Pending(future) => {
                    self.going = Some(future);
                    Poll::Pending
                }
            };
        }
        let Some(going) = &mut self.going else { return Poll::Pending };
        Pin::new(going).poll(cx).map(|end| end.unwrap_or_else(CallEnd::Panicked))
    }
}

/// Tells the host how it ended, however that comes.
struct Ending {
    host: Arc<WorkerHost>,
    id: u64,
    context: Option<Arc<EventData>>,
    /// None if it was cancelled.
    end: Option<CallEnd>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Ending { host, id, context, end } = self;
        let keeps = context.as_ref().is_some_and(|context| EventData::ended(context, host));
        let cancelled =
            || CallEnd::Failed(Failure::new("cancelled", "nobody waited for the call any more"));
        if let Err(error) = tell(host, *id, keeps, end.take().unwrap_or_else(cancelled)) {
            // It is a reply that is too large for a frame, and this is not.
            let message = format!("the reply cannot be sent: {error}");
            let _ = tell(host, *id, keeps, CallEnd::Failed(Failure::new("too_large", &message)));
        }
        let task = host.calls.0.lock().remove(id);
        drop(task);
    }
}

fn tell(host: &WorkerHost, id: u64, keeps: bool, end: CallEnd) -> Result<(), ProtocolError> {
    match end {
        CallEnd::Reply(reply) => {
            host.try_put(FromWorker::Reply { keeps, reply: Payload::Bytes(&reply) }, id)
        }
        // What is encoded is no value.
        CallEnd::NoReply | CallEnd::Value(_) => host.try_put(FromWorker::NoReply { keeps }, id),
        CallEnd::Failed(failure) => {
            let (code, message) = failure.to_texts();
            let message = Payload::from(message.as_str());
            host.try_put(FromWorker::Failed { keeps, code: &code, message }, id)
        }
        CallEnd::Panicked(message) => {
            host.try_put(FromWorker::Panicked { keeps, message: Payload::Bytes(&message) }, id)
        }
    }
}

impl WorkerHost {
    /// Has something run on: by the thread that reads if that has woken it, where it may block if
    /// it may, or else elsewhere.
    pub(super) fn schedule(&self, runnable: Runnable, blocking: bool) {
        if blocking {
            self.runtime.spawn_blocking(move || runnable.run());
        } else if self.reader.reads_here() {
            self.reader.run_next(runnable);
        } else {
            self.runtime.spawn(async move {
                runnable.run();
            });
        }
    }
}
