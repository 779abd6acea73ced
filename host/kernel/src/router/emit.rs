//! The router: accepts events and has their handlers run.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use ksi_abi::{Counted, Pattern, Refusal};
use tokio::{runtime::Handle, sync::Semaphore};

use super::{
    failures::Failures,
    fan_out::{How, QueuePlace},
    not_sent::{NotSent, SendError},
    outcomes::Outcomes,
    pending::FanOutStart,
    plugin_report::PluginReport,
    progress::Progress,
    table::RoutingTable,
    taps::{Taps, Watch},
    targets::{Infos, KnownHandlers, Sums},
    traffic::Traffic,
};
use crate::{
    call::{
        CallSite,
        outcome::CallOutcome,
        outcome_taps::{OutcomeTaps, OutcomeWatch},
        recorder::{Recorder, RecorderLimits},
        tally::Counts,
    },
    event::{Event, EventIds, EventRef, NewEvent},
    executor::{clock, slot::may_poll_here, workers::Workers},
    lock::Lock,
    memory::{Account, Budget},
    report::Report,
};

/// Bounds of what the router accepts.
#[derive(Debug, Clone)]
pub struct RouterLimits {
    /// Events that were sent and have not been handled.
    pub queued_events: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Bytes of events that wait for one watcher.
    pub subscriber_bytes: usize,
    /// Events between an event and the first one of its chain.
    pub event_depth: usize,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// What a handler may take when it does not say.
    pub timeout: Duration,
    /// What is kept of calls that have ended.
    pub recorder: RecorderLimits,
}

impl Default for RouterLimits {
    fn default() -> Self {
        RouterLimits {
            queued_events: 1_024,
            queued_bytes: 64 << 20,
            subscriber_bytes: 32 << 20,
            event_depth: 64,
            payload_bytes: 10 << 20,
            timeout: Duration::from_secs(30),
            recorder: RecorderLimits::default(),
        }
    }
}

/// A plugin and a handler of it.
type HandlerName = (Arc<str>, Arc<str>);

/// Accepts events and runs their handlers.
pub struct Router {
    pub(super) site: CallSite,
    pub(super) limits: RouterLimits,
    pub(super) table: ArcSwap<RoutingTable>,
    /// Writers of the table stand in line here, so that none overwrites another's change.
    writers: Lock<()>,
    pub(super) ids: EventIds,
    pub(super) taps: Arc<Taps>,
    pub(super) outcome_taps: Arc<OutcomeTaps>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) traffic: Traffic,
    pub(super) failures: Failures,
    queue: Arc<Semaphore>,
    /// The bytes of what is in it.
    sent: Arc<Account>,
    /// Bytes that wait anywhere.
    budget: Arc<Budget>,
    pub(super) counts: Lock<HashMap<HandlerName, Sums>>,
    /// Handlers that calls which are kept may be of.
    pub(super) known: Lock<KnownHandlers>,
    /// Of plugins that are forgotten: the host's own sums never fall.
    pub(super) forgotten: Lock<Counts>,
    pub(super) keys: AtomicU64,
    /// What a key in a worker's slot stands for.
    pub(super) infos: Lock<Infos>,
}

impl Router {
    pub(crate) fn new(site: CallSite, limits: RouterLimits, budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Router {
            queue: Arc::new(Semaphore::new(limits.queued_events)),
            sent: budget.limited(limits.queued_bytes),
            taps: Taps::new(budget.clone(), limits.subscriber_bytes),
            outcome_taps: OutcomeTaps::new(budget.clone(), limits.subscriber_bytes),
            recorder: Recorder::new(limits.recorder, &site.runtime),
            site,
            budget,
            limits,
            table: ArcSwap::default(),
            writers: Lock::default(),
            ids: EventIds::new(),
            traffic: Traffic::default(),
            failures: Failures::default(),
            counts: Lock::default(),
            known: Lock::default(),
            forgotten: Lock::default(),
            keys: AtomicU64::new(1),
            infos: Lock::default(),
        })
    }

    /// Accepts an event at once, then runs every handler of it and gathers their outcomes. From any
    /// thread; the handlers are polled by whoever polls this on a dispatch worker, and by a task on
    /// the workers otherwise.
    pub fn emit(
        self: &Arc<Self>,
        event: NewEvent,
        parent: Option<Counted<Event>>,
    ) -> impl Future<Output = Report> + Send + use<> {
        self.emit_noted(event, parent, None)
    }

    /// The same from a task whose client is answered also when a handler does not return:
    /// `progress` is filled meanwhile.
    pub fn emit_followed(
        self: &Arc<Self>,
        event: NewEvent,
        progress: Arc<Progress>,
    ) -> impl Future<Output = Report> + Send + use<> {
        self.emit_noted(event, None, Some(progress))
    }

    fn emit_noted(
        self: &Arc<Self>,
        event: NewEvent,
        parent: Option<Counted<Event>>,
        progress: Option<Arc<Progress>>,
    ) -> impl Future<Output = Report> + Send + use<> {
        let router = self.clone();
        let accepted = self.accept(event, parent);
        async move {
            match accepted {
                Ok(event) => router.outcomes_as(event, None, progress.as_ref()).await.into(),
                Err(refusal) => Report::refused(refusal.text()),
            }
        }
    }

    /// The same for a client that takes its report as a plugin does.
    pub fn emit_as_plugin(
        self: &Arc<Self>,
        event: NewEvent,
        progress: Arc<Progress>,
    ) -> impl Future<Output = PluginReport> + Send + use<> {
        let router = self.clone();
        let accepted = self.accept(event, None);
        async move {
            match accepted {
                Ok(event) => {
                    let outcomes = router.outcomes_as(event, None, Some(&progress)).await;
                    outcomes.without_code().into()
                }
                Err(refusal) => PluginReport::refused(&refusal),
            }
        }
    }

    /// Accepts an event without waiting for its handlers, or refuses it.
    pub fn send(self: &Arc<Self>, event: NewEvent) -> Result<(), SendError> {
        let bytes = event.payload.as_json().len() + crate::event::bytes_of(&event.attributes);
        let name = event.name.clone();
        self.send_once_accepted(&name, bytes, || self.accept(event, None)).map_err(Into::into)
    }

    /// The same for an event of about so many bytes that `accept` accepts, once there is a place
    /// for it.
    pub(crate) fn send_once_accepted(
        self: &Arc<Self>,
        name: &str,
        bytes: usize,
        accept: impl FnOnce() -> Result<Counted<Event>, Refusal>,
    ) -> Result<(), NotSent> {
        self.send_and_tell(name, bytes, accept, || ())
    }

    /// The same, and tells when the event has been handled.
    pub(crate) fn send_and_tell(
        self: &Arc<Self>,
        name: &str,
        bytes: usize,
        accept: impl FnOnce() -> Result<Counted<Event>, Refusal>,
        handled: impl FnOnce() + Send + 'static,
    ) -> Result<(), NotSent> {
        let Ok(place) = self.queue.clone().try_acquire_owned() else {
            let limit = self.limits.queued_events;
            return Err(NotSent::NoPlace(SendError::QueueFull { event: name.to_owned(), limit }));
        };
        let bytes = bytes + size_of::<Event>();
        let Some(charge) = self.sent.try_charge(bytes) else {
            let limit = self.limits.queued_bytes;
            let event = name.to_owned();
            return Err(NotSent::NoPlace(SendError::QueueBytes { event, bytes, limit }));
        };
        let place = Some((place, charge));
        let sent = accept().map_err(NotSent::Refused)?;
        sent.send();
        let (router, event) = (self.clone(), sent.shared_name().clone());
        self.spawn_detached(async move {
            clock::measure_next();
            let outcomes = router.outcomes(sent, place).await;
            tell_of_rejection(&event, &outcomes, "a sent event was not handled");
            handled();
        });
        Ok(())
    }

    /// How many events were sent and are not handled yet.
    pub fn sent_events(&self) -> usize {
        self.limits.queued_events.saturating_sub(self.queue.available_permits())
    }

    /// Has those handlers called who see an event that the host answers alone. Nobody waits for
    /// them, and what they reply goes nowhere.
    pub fn show_onlookers(self: &Arc<Self>, event: &EventRef) {
        let onlookers = self.table.load().onlookers(event.name());
        if onlookers.is_empty() {
            return;
        }
        let place = self.queue.clone().try_acquire_owned().ok();
        let Some(place) = place.zip(self.sent.try_charge(event.bytes())) else {
            let (limit, bytes) = (self.limits.queued_events, self.limits.queued_bytes);
            tracing::warn!(
                event = event.name(),
                "plugins that subscribe to it do not see it: {limit} sent events or {bytes} bytes of them are not handled yet"
            );
            return;
        };
        let (router, event) = (self.clone(), event.counted().clone());
        self.spawn_detached(async move {
            let name = event.shared_name().clone();
            let outcomes = router.seen(onlookers, event, Some(place)).await;
            tell_of_rejection(&name, &outcomes, "an event of the host was not seen");
        });
    }

    /// Runs every handler of an accepted event.
    async fn outcomes(self: &Arc<Self>, event: Counted<Event>, place: QueuePlace) -> Outcomes {
        self.outcomes_as(event, place, None).await
    }

    async fn outcomes_as(
        self: &Arc<Self>,
        event: Counted<Event>,
        place: QueuePlace,
        progress: Option<&Arc<Progress>>,
    ) -> Outcomes {
        let name = event.shared_name().clone();
        let mut given = Some((event, place));
        let begun = poll_fn(|cx| match given.take() {
            Some((event, place)) => {
                let how = How { progress, ..How::PLAIN };
                let begun = self.begin(event, place, &how, cx);
                begun.note(&name, self);
                Poll::Ready(begun)
            }
            None => Poll::Pending,
        });
        begun.await.ended().await
    }

    /// Begins to run every handler of an accepted event: here, if this is a dispatch worker and not
    /// too deep inside other calls, and otherwise in a task on the workers.
    #[inline(always)]
    pub(crate) fn begin(
        self: &Arc<Self>,
        event: Counted<Event>,
        place: QueuePlace,
        how: &How<'_>,
        cx: &mut Context<'_>,
    ) -> FanOutStart {
        match may_poll_here() {
            true => self.dispatch(event, place, how, cx),
            false => self.begin_elsewhere(event, place, how, cx),
        }
    }

    /// The same in a task on the workers. Out of line, for the sake of those that are on one.
    #[inline(never)]
    fn begin_elsewhere(
        self: &Arc<Self>,
        event: Counted<Event>,
        place: QueuePlace,
        how: &How<'_>,
        cx: &mut Context<'_>,
    ) -> FanOutStart {
        let (router, form) = (self.clone(), *how.form);
        let progress = how.progress.cloned().unwrap_or_default();
        progress.follow();
        let seen = progress.clone();
        let there = async move {
            let name = event.shared_name().clone();
            let mut given = Some((event, place));
            let how = How { form: &form, held: None, progress: Some(&progress) };
            let begun = poll_fn(|cx| match given.take() {
                Some((event, place)) => {
                    let begun = router.dispatch(event, place, &how, cx);
                    begun.note(&name, &router);
                    Poll::Ready(begun)
                }
                None => Poll::Pending,
            });
            begun.await.ended().await
        };
        let mut there = self.moved(there, seen);
        match Pin::new(&mut there).poll(cx) {
            Poll::Ready(outcomes) => FanOutStart::Done(outcomes),
            Poll::Pending => FanOutStart::GoesOn(there),
        }
    }

    /// Lets somebody see every event that matches one of the patterns.
    pub fn watch(&self, patterns: &[Pattern], capacity: usize) -> Watch {
        self.taps.watch(patterns, capacity)
    }

    /// Lets somebody see how every call ends that begins from now on. At most `capacity` wait to be
    /// read.
    pub fn watch_outcomes(&self, capacity: usize) -> OutcomeWatch {
        self.outcome_taps.watch(capacity)
    }

    /// Whether anybody watches events of this name, beside their handlers.
    pub fn is_watched(&self, name: &str) -> bool {
        self.taps.is_watched(name)
    }

    /// Replaces the whole table by a changed one. This store is the commit point of every load,
    /// reload and unload: an event emitted before it meets the old routes, an event emitted after
    /// it the new ones.
    pub(crate) fn change(&self, change: impl FnOnce(&RoutingTable) -> RoutingTable) {
        let _turn = self.writers.lock();
        let next = Arc::new(change(&self.table.load()));
        self.table.store(next);
    }

    /// How many events were accepted.
    pub fn events_emitted(&self) -> u64 {
        self.traffic.total()
    }

    /// Who emitted what how often: source, event, count.
    pub fn traffic(&self) -> Vec<(Arc<str>, Arc<str>, u64)> {
        self.traffic.pairs()
    }

    /// What all that waits is charged to.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Where plugin code runs.
    pub fn workers(&self) -> &Arc<Workers> {
        &self.site.workers
    }

    /// The host's own runtime, whose timers whoever is polled on the workers may use.
    pub fn runtime(&self) -> &Handle {
        &self.site.runtime
    }

    /// Runs something on the dispatch workers that nobody waits for.
    pub fn spawn_detached(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.site.workers.spawn(future).detach();
    }
}

/// Nobody reads this, so what was not handled must not vanish. What was handled and failed has left
/// its trace.
fn tell_of_rejection(event: &str, outcomes: &Outcomes, what: &str) {
    for ended in &outcomes.ended {
        if let CallOutcome::Rejected { reason } = ended {
            tracing::warn!(event, "{what}: {reason}");
        }
    }
}
