//! What the plugin has asked the host for, and awaits.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, mpsc},
    task::{Context, Poll},
};

use ksi_abi::{Refusal, RefusalCode, ReplyEnd, ReportHandle};
use ksi_kernel::lock::Lock;
use ksi_worker_protocol::FromWorker;
use tokio::sync::oneshot;

use super::{host::WorkerHost, job::HostAnswer, reader::TurnReader, report::WorkerReport};

/// Who waits for what number.
#[derive(Default)]
pub(super) struct Awaited(Lock<HashMap<u64, Waiter>>);

enum Waiter {
    Task(oneshot::Sender<HostAnswer>),
    Thread(mpsc::SyncSender<HostAnswer>),
}

impl Awaited {
    /// Gives it to whoever waits; back if nobody does.
    pub(super) fn answer(&self, id: u64, answer: HostAnswer) -> Option<HostAnswer> {
        let waiting = self.0.lock().remove(&id);
        match waiting {
            Some(Waiter::Task(task)) => {
                let _ = task.send(answer);
            }
            Some(Waiter::Thread(thread)) => {
                let _ = thread.try_send(answer);
            }
            None => return Some(answer),
        }
        None
    }
}

/// What the host has answered to a number, once it has.
pub(super) struct Asking {
    host: Arc<WorkerHost>,
    id: u64,
    answer: oneshot::Receiver<HostAnswer>,
    over: bool,
}

impl Asking {
    /// Asks for something.
    pub(super) fn of(
        host: &Arc<WorkerHost>,
        ask: impl FnOnce(u64) -> Result<(), Refusal>,
    ) -> Result<Self, Refusal> {
        let (sender, answer) = oneshot::channel();
        let id = host.number();
        {
            let (mut asked, limit) = (host.asked.0.lock(), host.limits.emits);
            if asked.len() as u64 >= limit {
                let plugin = &host.plugin;
                let text = format_args!(
                    "{plugin} has {limit} emits and waits that are not answered, and no more are \
                     allowed in a process of its own"
                );
                return Err(Refusal::new(RefusalCode::TOO_MANY_ASKS, text));
            }
            asked.insert(id, Waiter::Task(sender));
        }
        if let Err(refusal) = ask(id) {
            host.asked.0.lock().remove(&id);
            return Err(refusal);
        }
        Ok(Asking { host: host.clone(), id, answer, over: false })
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<HostAnswer>> {
        let polled = Pin::new(&mut self.answer).poll(cx);
        self.over |= polled.is_ready();
        polled.map(Result::ok)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.over && self.host.asked.0.lock().remove(&self.id).is_some() {
            self.host.put(FromWorker::Cancel, self.id);
        }
    }
}

/// The rest of an emit.
pub(super) struct WorkerEmitting(pub(super) Asking);

/// The rest of a request.
pub(super) struct WorkerRequesting(pub(super) Asking);

impl Future for WorkerEmitting {
    type Output = ReportHandle;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ReportHandle> {
        self.0.poll(cx).map(|answer| report_of(answer).into_handle())
    }
}

impl Future for WorkerRequesting {
    type Output = ReplyEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ReplyEnd> {
        self.0.poll(cx).map(|answer| report_of(answer).into_reply())
    }
}

fn report_of(answer: Option<HostAnswer>) -> WorkerReport {
    match answer {
        Some(HostAnswer::Report(report)) => report,
        answer => WorkerReport::refused(&refusal_of(answer)),
    }
}

/// Why there is no other answer.
pub(super) fn refusal_of(answer: Option<HostAnswer>) -> Refusal {
    match answer {
        Some(HostAnswer::Refused { code, text }) => Refusal::new(RefusalCode::of(code), text),
        _ => Refusal::new(
            RefusalCode::HOST_PANICKED,
            "the host has given an answer that makes no sense, or is gone",
        ),
    }
}

impl WorkerHost {
    /// Asks for something and waits, on any thread. If it is the one that reads, another one does
    /// from here on.
    pub(super) fn ask_and_wait(&self, frame: FromWorker<'_>) -> Option<HostAnswer> {
        let (sender, answer) = mpsc::sync_channel(1);
        let id = self.number();
        self.asked.0.lock().insert(id, Waiter::Thread(sender));
        if self.out.put_now(frame, id).is_err() {
            self.asked.0.lock().remove(&id);
            return None;
        }
        TurnReader::step_aside(&self.this()?);
        answer.recv().ok()
    }
}
