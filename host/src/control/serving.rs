//! How the requests of a connection are served.
//!
//! A request of an event whose handlers lately ended at once is served in place, in the task of its
//! connection: that costs no task, no channel and no thread to wake. All others get a task of their
//! own on the dispatch workers, so that a connection is read on, and uses more than one core,
//! whatever its handlers do: an event that is new to the connection, one whose handlers wait for
//! something, and one whose handlers take long or even hold up their thread. Only an event whose
//! handlers suddenly do the latter holds up its own connection, once.
//!
//! Every request is answered within its handlers' timeouts, whether they return or not. One that
//! was served in place has the task that reads: if it does not return, another task answers it and
//! those that are being served, says why, and ends the connection.

mod in_order;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::join;
use ksi_kernel::event::{NewEvent, Payload};
use ksi_kernel::lock::Lock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::in_order::Ordered;
use super::SocketLimits;
use super::connection::{Access, LAST};
use super::in_place::{InPlace, TakenOver};
use super::monitor::{EVENTS, Monitor, Subscribing};
use super::push_lines::PushLines;
use super::quick::Quick;
use super::reply::{self, Reply, failure_of_host};
use super::reply_room::ReplyRoom;
use super::request::{CorrelationId, Request};
use super::turn::Turn;
use super::unix_now;
use super::work::Work;
use super::writer::{Batch, Outbox, Writer};
use crate::catalog;
use crate::clients::{ClientEntry, Ended, PEER};
use crate::core::{Core, Emission};
use ksi_kernel::executor::apart::Late;
use ksi_kernel::memory::Charge;
use ksi_kernel::report::Report;

/// What one slot holds of a request, in bytes.
const SLOT: usize = 64 * 1024;
/// A request that takes longer than this to emit is better off with a task of its own, which costs
/// a tenth of it. Without optimizations everything takes longer.
const QUICK: Duration = Duration::from_micros(if cfg!(debug_assertions) { 500 } else { 20 });

/// What all requests of a connection share.
pub(super) struct Client {
    core: Arc<Core>,
    pub(super) lines: Outbox,
    writer: Writer,
    in_place: InPlace,
    pub(super) entry: Arc<ClientEntry>,
    place: Access,
    pub(super) monitor: Monitor,
    slots: usize,
    free: Arc<Semaphore>,
    quick: Quick,
    reply_room: ReplyRoom,
    /// What waits to be served in order; `None` while nothing is being served so.
    in_order: Lock<Option<VecDeque<Ordered>>>,
}

/// Whether an event is the host's own, by which it is managed.
fn is_management(event: &str) -> bool {
    let namespace = event.split(':').next().unwrap_or_default();
    ["system", "module", "router", "metrics"].contains(&namespace)
}

/// Whether whoever handles an event may want to know whose it is: it is the host's own, and may
/// change something.
fn may_change(event: &str) -> bool {
    (event.starts_with("module:") || event.starts_with("config:") || event.starts_with("system:"))
        && catalog::changes_the_host(event)
}

/// What a request takes until it is answered: slots, its bytes, and room for its reply.
struct Slots {
    _taken: Option<OwnedSemaphorePermit>,
    _charge: Charge,
    _reserved: Option<OwnedSemaphorePermit>,
}

/// A request whose event is being emitted.
struct Emitting<'a> {
    event: Cow<'a, str>,
    correlation_id: CorrelationId<'a>,
    emission: Emission,
    /// It has been polled.
    begun: bool,
}

impl Client {
    pub(super) fn new(
        core: Arc<Core>,
        (lines, writer): (Outbox, Writer),
        entry: Arc<ClientEntry>,
        (free, reply_room): (Arc<Semaphore>, ReplyRoom),
        limits: &SocketLimits,
        (patterns, push_lines): (Arc<Semaphore>, Arc<PushLines>),
        place: Access,
    ) -> Arc<Client> {
        let subscribing = Subscribing {
            queue: limits.subscriber_queue,
            patterns: (place == Access::Any).then_some(patterns),
            push_lines,
            entry: entry.clone(),
        };
        Arc::new(Client {
            monitor: Monitor::new(core.clone(), lines.clone(), subscribing),
            core,
            lines,
            writer,
            in_place: InPlace::default(),
            entry,
            place,
            slots: limits.requests_per_connection,
            free,
            quick: Quick::default(),
            reply_room,
            in_order: Lock::default(),
        })
    }

    /// Serves a request of so many bytes and adds its reply to `replies`; or, if that is not done
    /// at once, begins to serve it in a task. Waits for its slots, and where a subscription has to.
    pub(super) async fn serve(
        self: &Arc<Self>,
        work: Work<'_>,
        bytes: usize,
        replies: &mut Batch,
        turn: &mut Turn,
    ) {
        let slots = u32::try_from(1 + (bytes / SLOT).min(self.slots - 1)).unwrap_or(u32::MAX);
        let ordered = !work.is_correlated();
        let quick = work.event().is_some_and(|event| self.quick.is(event));
        // Those that are answered in order have one reply at a time, and what is served in place
        // puts it where there was room.
        let expected = match work.event() {
            Some(event) if !ordered && !quick => self.reply_room.expected(event),
            _ => 0,
        };
        if self.free.available_permits() < slots as usize
            || !self.lines.has_room()
            || !self.reply_room.has(expected)
        {
            replies.hand_over(&self.lines).await;
            self.until_free(slots).await;
            self.reply_room.until(expected).await;
            self.lines.until_room().await;
            *turn = Turn::begin();
        }
        match work {
            work if ordered && (work.is_subscription() || self.in_order().is_some()) => {
                self.serve_in_order(work.into_owned(), slots, bytes, replies);
            }
            Work::Malformed(malformed) => reply::malformed(&malformed, replies.lines()),
            Work::Request(request) if Monitor::is_for(&request) => {
                // Here and now: a subscription and its end must not overtake one another.
                replies.hand_over(&self.lines).await;
                self.monitor.answer(&request).await;
                *turn = Turn::begin();
            }
            Work::Request(request) => {
                let Some(mut emitting) = self.emit(request, !quick, replies.lines()) else {
                    turn.lap();
                    return;
                };
                if quick {
                    self.in_place.begin(&emitting.event, &emitting.correlation_id, replies);
                    let report = emitting.first_poll().await;
                    if !self.in_place.end(replies) {
                        return self.is_answered(emitting, report).await;
                    }
                    let quick = turn.lap() < QUICK;
                    if !quick || report.is_none() {
                        self.quick.forget(&emitting.event);
                    }
                    if let Some(report) = report {
                        let Emitting { event, correlation_id, .. } = emitting;
                        let (at, lines) = (turn.unix(), replies.lines());
                        return self.answer(&event, &correlation_id, &report, at, lines);
                    }
                    emitting.emission.follow();
                }
                let slots = self.take(slots, bytes, expected);
                self.serve_in_task(emitting.into_owned(), slots, ordered.then_some(replies));
            }
        }
        turn.lap();
    }

    /// A request that was served in place was answered by somebody else meanwhile, who ends the
    /// connection.
    async fn is_answered(&self, emitting: Emitting<'_>, report: Option<Report>) {
        self.quick.forget(&emitting.event);
        if report.is_none() {
            let emission = emitting.emission;
            self.spawn(async move { drop(emission.await) });
        }
        std::future::pending().await
    }

    /// A call that is polled in the connection's own task does not return. On the watchdog's
    /// thread.
    pub(super) fn is_late(self: &Arc<Self>, late: &Late<'_>) {
        if let Some(given_up) = self.in_place.give_up(late) {
            self.spawn(self.clone().take_over(given_up));
        }
    }

    /// Answers the request that does not return, waits for those in tasks of their own, and ends
    /// the connection: what was read of further requests is with the task that is stuck.
    async fn take_over(self: Arc<Self>, given_up: TakenOver) {
        let Some(writing) = self.writer.take_over() else { return };
        let entry = self.entry.clone();
        tracing::warn!(
            client = entry.number(),
            event = %given_up.event,
            "ending a client: {}", Ended::Stuck
        );
        let rest = async move {
            let TakenOver { event, correlation_id, before: mut lines, after } = given_up;
            let report = self.core.late_report(&event, after);
            self.answer(&event, &correlation_id, &report, unix_now(), &mut lines);
            drop(report);
            self.send(lines).await;
            self.all_served().await;
            self.monitor.finish().await;
            if let Ok(room) = self.lines.room_for(LAST).await {
                room.send_last(reply::ended(Ended::Stuck));
            }
        };
        tokio::select! {
            _ = join(writing, rest) => {}
            _ = entry.ended() => {}
        }
    }

    /// Waits until every request has been answered.
    pub(super) async fn all_served(&self) {
        self.until_free(u32::try_from(self.slots).unwrap_or(u32::MAX)).await;
    }

    /// Waits until there are as many free slots. They stay free: requests take them one after
    /// another.
    async fn until_free(&self, slots: u32) {
        let _ = self.free.acquire_many(slots).await;
    }

    /// `before` are the replies that go first, if the request is one that is answered in order.
    fn serve_in_task(
        self: &Arc<Self>,
        emitting: Emitting<'static>,
        slots: Slots,
        before: Option<&mut Batch>,
    ) {
        let (client, ordered) = (self.clone(), before.is_some());
        if ordered {
            *self.in_order() = Some(VecDeque::new());
        }
        let before = before.map(Batch::take).unwrap_or_default();
        self.spawn(async move {
            client.send(before).await;
            client.serve_to_the_end(emitting).await;
            drop(slots);
            if ordered {
                client.serve_the_rest_in_order().await;
            }
        });
    }

    /// Serves a request in a task of its own, and remembers its event if that was not needed.
    ///
    /// The task waits for another one, so that the client is answered also when a handler does not
    /// return.
    async fn serve_to_the_end(&self, emitting: Emitting<'static>) {
        let Emitting { event, correlation_id, emission, begun } = emitting;
        let polled = move |mut emission: Emission| async move {
            let begin = Instant::now();
            match first_poll(&mut emission).await {
                Some(report) => (report, !begun && begin.elapsed() < QUICK),
                None => (emission.await, false),
            }
        };
        let instead = |report| (report, false);
        let answered = self.core.answered(&event, emission, polled, instead).await;
        let Some((report, quick)) = answered else { return };
        if quick {
            self.quick.remember(&event);
        }
        let mut line = Vec::new();
        self.answer(&event, &correlation_id, &report, unix_now(), &mut line);
        self.reply_room.replied(&event, line.len());
        // It holds the reply, and the client may take long to read it.
        drop(report);
        self.send(line).await;
    }

    /// Begins to emit, and notes how far the handlers come if that is `followed`; `None` if the
    /// event is none, which was answered.
    fn emit<'a>(
        &self,
        request: Request<'a>,
        followed: bool,
        lines: &mut Vec<u8>,
    ) -> Option<Emitting<'a>> {
        let Request { event, data, correlation_id, attributes } = request;
        if self.place == Access::Management && !is_management(&event) {
            let text = "all other places for clients are taken, and this one is for the host's own events alone \
                        (limits.connections); `ksi clients` tells who has them";
            let failure = failure_of_host(&event, "too_many_clients", text.to_owned());
            let reply = Reply { event: &event, correlation_id: &correlation_id, at: unix_now() };
            lines.extend_from_slice(&reply.failed(&failure));
            return None;
        }
        let new = Payload::encode(&data)
            .map_err(|error| error.to_string())
            .and_then(|data| NewEvent::new(&event, data).map_err(|error| error.to_string()));
        match new {
            Ok(new) => {
                let new = attributes
                    .into_iter()
                    .fold(new.source("socket"), |new, (key, value)| new.attribute(key, &value));
                let new = match may_change(&event) {
                    true => new.attribute(PEER, &self.entry.peer().to_string()),
                    false => new,
                };
                let emission = self.core.emission(new, followed);
                Some(Emitting { event, correlation_id, begun: false, emission })
            }
            Err(error) => {
                let reply =
                    Reply { event: &event, correlation_id: &correlation_id, at: unix_now() };
                reply.no_such_event(&error, &self.event_names(), lines);
                None
            }
        }
    }

    fn answer(
        &self,
        event: &str,
        correlation_id: &CorrelationId<'_>,
        report: &Report,
        at: f64,
        lines: &mut Vec<u8>,
    ) {
        Reply { event, correlation_id, at }.report(report, || self.event_names(), lines);
    }

    async fn send(&self, line: Vec<u8>) {
        if !line.is_empty() {
            // A client that is gone misses its reply; the event had its outcome all the same.
            let _ = self.lines.send(line).await;
        }
    }

    /// Takes slots that are known to be free, for a request of so many bytes whose reply is
    /// expected to take so much room.
    fn take(&self, slots: u32, bytes: usize, expected: u32) -> Slots {
        let taken = self.free.clone().try_acquire_many_owned(slots).ok();
        let charge = self.entry.account().charge(bytes);
        Slots { _taken: taken, _charge: charge, _reserved: self.reply_room.reserve(expected) }
    }

    /// Not part of the connection's task: what was begun is served also when the connection is cut
    /// off.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.core.spawn(task).detach();
    }

    fn event_names(&self) -> Vec<String> {
        let mut names = self.core.event_names();
        names.extend(EVENTS.iter().map(|own| (*own).to_owned()));
        names.sort_unstable();
        names.dedup();
        names
    }
}

async fn first_poll(emission: &mut Emission) -> Option<Report> {
    match poll_fn(|cx| Poll::Ready(Pin::new(&mut *emission).poll(cx))).await {
        Poll::Ready(report) => Some(report),
        Poll::Pending => None,
    }
}

impl Emitting<'_> {
    async fn first_poll(&mut self) -> Option<Report> {
        self.begun = true;
        first_poll(&mut self.emission).await
    }

    fn into_owned(self) -> Emitting<'static> {
        Emitting {
            event: Cow::Owned(self.event.into_owned()),
            correlation_id: self.correlation_id.into_owned(),
            emission: self.emission,
            begun: self.begun,
        }
    }
}
