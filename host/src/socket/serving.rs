//! How the requests of a connection are served.
//!
//! A request of an event whose handlers lately ended at once is served in place, in the task of its connection: that
//! costs no task, no channel and no thread to wake. All others get a task of their own on the dispatch workers, so
//! that a connection is read on, and uses more than one core, whatever its handlers do: an event that is new to the
//! connection, one whose handlers wait for something, and one whose handlers take long or even hold up their thread.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::SocketLimits;
use super::monitor::{EVENTS, Monitor};
use super::reply::{self, Reply};
use super::request::{CorrelationId, Malformed, Request};
use super::writer::Line;
use crate::{Host, NewEvent, Payload, Report};

/// What one slot holds of a request, in bytes.
const SLOT: usize = 64 * 1024;
/// A request that takes longer than this to emit is better off with a task of its own, which costs a tenth of it.
const QUICK: Duration = Duration::from_micros(20);
/// Names of quick events that a connection remembers.
const REMEMBERED: usize = 16;

/// What all requests of a connection share.
pub(super) struct Client {
    host: Host,
    pub(super) lines: mpsc::Sender<Line>,
    pub(super) monitor: Monitor,
    slots: usize,
    free: Arc<Semaphore>,
    quick: Quick,
    /// What waits to be served in order; `None` while nothing is being served so.
    in_order: Mutex<Option<VecDeque<Ordered>>>,
}

/// What one line asks for.
pub(super) enum Work {
    Request(Request),
    Malformed(Malformed),
}

/// What is left to do of a request.
pub(super) enum Left {
    Nothing,
    /// It is one for [`Client::monitor`].
    Subscription(Request),
}

/// What is served in order, with its slots.
struct Ordered {
    work: Work,
    slots: Option<OwnedSemaphorePermit>,
}

/// A request whose event is being emitted.
struct Emitting {
    event: String,
    correlation_id: CorrelationId,
    /// It has been polled.
    begun: bool,
    report: Pin<Box<dyn Future<Output = Report> + Send>>,
}

impl Client {
    pub(super) fn new(host: Host, lines: mpsc::Sender<Line>, limits: &SocketLimits) -> Arc<Client> {
        let slots = limits.requests_per_connection;
        Arc::new(Client {
            monitor: Monitor::new(host.clone(), lines.clone(), limits.subscriber_queue),
            host,
            lines,
            slots,
            free: Arc::new(Semaphore::new(slots)),
            quick: Quick::default(),
            in_order: Mutex::default(),
        })
    }

    /// How many slots a request of so many bytes takes.
    pub(super) fn slots_of(&self, bytes: usize) -> u32 {
        u32::try_from(1 + (bytes / SLOT).min(self.slots - 1)).unwrap_or(u32::MAX)
    }

    pub(super) fn has_free(&self, slots: u32) -> bool {
        self.free.available_permits() >= slots as usize
    }

    /// Waits until there are as many free slots. They stay free: requests take them one after another.
    pub(super) async fn until_free(&self, slots: u32) {
        let _ = self.free.acquire_many(slots).await;
    }

    /// Waits until every request has been answered.
    pub(super) async fn all_served(&self) {
        self.until_free(u32::try_from(self.slots).unwrap_or(u32::MAX)).await;
    }

    /// Serves a request and appends its reply to `replies`; or, if that is not done at once, begins to serve it in a
    /// task, with that many slots, which are free. Never waits.
    pub(super) async fn serve_in_place(
        self: &Arc<Self>,
        work: Work,
        slots: u32,
        replies: &mut Vec<u8>,
    ) -> Left {
        let ordered = !work.is_correlated();
        if ordered && (work.is_subscription() || self.in_order().is_some()) {
            self.serve_in_order(work, slots);
            return Left::Nothing;
        }
        let request = match work {
            Work::Malformed(malformed) => {
                reply::malformed(&malformed, replies);
                return Left::Nothing;
            }
            Work::Request(request) if Monitor::is_for(&request) => {
                return Left::Subscription(request);
            }
            Work::Request(request) => request,
        };
        let Some(mut emitting) = self.emit(request, replies) else { return Left::Nothing };
        if self.quick.is(&emitting.event)
            && let Some(report) = self.first_poll(&mut emitting, true).await
        {
            self.answer(&emitting, &report, replies);
            return Left::Nothing;
        }
        let (slots, client) = (self.take(slots), self.clone());
        if ordered {
            *self.in_order() = Some(VecDeque::new());
        }
        self.spawn(async move {
            client.serve_to_the_end(emitting).await;
            drop(slots);
            if ordered {
                client.serve_the_rest_in_order().await;
            }
        });
        Left::Nothing
    }

    /// Puts a request in line.
    fn serve_in_order(self: &Arc<Self>, work: Work, slots: u32) {
        let next = Ordered { work, slots: self.take(slots) };
        let mut in_order = self.in_order();
        // No bound of its own: all that is in it holds a slot.
        if let Some(waiting) = &mut *in_order {
            waiting.push_back(next);
            return;
        }
        *in_order = Some(VecDeque::from([next]));
        drop(in_order);
        let client = self.clone();
        self.spawn(async move { client.serve_the_rest_in_order().await });
    }

    async fn serve_the_rest_in_order(&self) {
        while let Some(Ordered { work, slots }) = self.next_in_order() {
            let mut line = Vec::new();
            match work {
                Work::Malformed(malformed) => reply::malformed(&malformed, &mut line),
                Work::Request(request) if Monitor::is_for(&request) => {
                    self.monitor.answer(&request).await;
                }
                Work::Request(request) => {
                    if let Some(emitting) = self.emit(request, &mut line) {
                        self.serve_to_the_end(emitting).await;
                    }
                }
            }
            self.send(line).await;
            drop(slots);
        }
    }

    /// The next one in line; after the last one, nothing is served in order any more.
    fn next_in_order(&self) -> Option<Ordered> {
        let mut in_order = self.in_order();
        let next = in_order.as_mut().and_then(VecDeque::pop_front);
        if next.is_none() {
            *in_order = None;
        }
        next
    }

    async fn serve_to_the_end(&self, mut emitting: Emitting) {
        let first = match emitting.begun {
            true => None,
            false => self.first_poll(&mut emitting, false).await,
        };
        let report = match first {
            Some(report) => report,
            None => emitting.report.as_mut().await,
        };
        let mut line = Vec::new();
        self.answer(&emitting, &report, &mut line);
        self.send(line).await;
    }

    /// Begins to emit; `None` if the event is none, which was answered.
    fn emit(&self, request: Request, replies: &mut Vec<u8>) -> Option<Emitting> {
        let Request { event, data, correlation_id, attributes } = request;
        match NewEvent::new(&event, Payload::from_json_bytes(data)) {
            Ok(new) => {
                let new = attributes
                    .into_iter()
                    .fold(new.source("socket"), |new, (key, value)| new.attribute(key, &value));
                let host = self.host.clone();
                let report = Box::pin(async move { host.emit(new).await });
                Some(Emitting { event, correlation_id, begun: false, report })
            }
            Err(error) => {
                let reply = Reply { event: &event, correlation_id: &correlation_id };
                reply.no_such_event(&error.to_string(), &self.event_names(), replies);
                None
            }
        }
    }

    /// Polls once, and remembers whether the event is a quick one if that is new.
    async fn first_poll(&self, emitting: &mut Emitting, was_quick: bool) -> Option<Report> {
        let begin = Instant::now();
        let polled = poll_fn(|cx| Poll::Ready(emitting.report.as_mut().poll(cx))).await;
        emitting.begun = true;
        let quick = polled.is_ready() && begin.elapsed() < QUICK;
        if quick != was_quick {
            self.quick.set(&emitting.event, quick);
        }
        match polled {
            Poll::Ready(report) => Some(report),
            Poll::Pending => None,
        }
    }

    fn answer(&self, emitting: &Emitting, report: &Report, replies: &mut Vec<u8>) {
        let Emitting { event, correlation_id, .. } = emitting;
        Reply { event, correlation_id }.report(report, || self.event_names(), replies);
    }

    async fn send(&self, line: Vec<u8>) {
        if !line.is_empty() {
            // A client that is gone misses its reply; the event had its outcome all the same.
            let _ = self.lines.send(Line::Next(line)).await;
        }
    }

    /// Takes slots that are known to be free.
    fn take(&self, slots: u32) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_many_owned(slots).ok()
    }

    /// Not part of the connection's task: what was begun is served also when the connection is cut off.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.host.spawn(task).detach();
    }

    fn in_order(&self) -> MutexGuard<'_, Option<VecDeque<Ordered>>> {
        self.in_order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event_names(&self) -> Vec<String> {
        let mut names = self.host.event_names();
        names.extend(EVENTS.iter().map(|own| own.event.to_owned()));
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl From<Result<Request, Malformed>> for Work {
    fn from(parsed: Result<Request, Malformed>) -> Work {
        match parsed {
            Ok(request) => Work::Request(request),
            Err(malformed) => Work::Malformed(malformed),
        }
    }
}

impl Work {
    fn is_correlated(&self) -> bool {
        match self {
            Work::Request(request) => request.correlation_id.is_given(),
            Work::Malformed(malformed) => malformed.correlation_id.is_given(),
        }
    }

    fn is_subscription(&self) -> bool {
        matches!(self, Work::Request(request) if Monitor::is_for(request))
    }
}

/// The events that were over with their first poll, and soon, when they were emitted last.
#[derive(Default)]
struct Quick(Mutex<VecDeque<String>>);

impl Quick {
    fn is(&self, event: &str) -> bool {
        self.names().iter().any(|name| name == event)
    }

    fn set(&self, event: &str, quick: bool) {
        let mut names = self.names();
        match (names.iter().position(|name| name == event), quick) {
            (None, true) => {
                names.truncate(REMEMBERED - 1);
                names.push_front(event.to_owned());
            }
            (Some(at), false) => drop(names.remove(at)),
            _ => {}
        }
    }

    fn names(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_quick_when_it_was_the_last_time_and_few_are_remembered() {
        let quick = Quick::default();
        quick.set("a:b", true);
        quick.set("a:b", true);
        assert!(quick.is("a:b") && !quick.is("a:c"));
        quick.set("a:b", false);
        assert!(!quick.is("a:b"));
        for number in 0..100 {
            quick.set(&format!("a:n{number}"), true);
        }
        assert!(quick.is("a:n99") && !quick.is("a:n0"));
        assert_eq!(quick.names().len(), REMEMBERED);
    }
}
