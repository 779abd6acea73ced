//! The router: accepts events and has their handlers run.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use ksi_abi::{
    Buffer, Content, Counted, NameError, Pattern, Refusal, RefusalCode, validate_event_name,
};
use serde::Serialize;
use thiserror::Error;
use tokio::{runtime::Handle, sync::Semaphore};

use super::{
    failures::Failures,
    fan_out::{How, Outcomes, QueuePlace},
    host_handler::{Failure, HostHandler},
    pending::FanOutStart,
    plugin_report::PluginReport,
    progress::Progress,
    resolved::Resolved,
    table::{Owner, Route, RoutingTable},
    taps::{Taps, Watch},
    traffic::Traffic,
};
use crate::{
    call::{
        self, CallSite, CallTarget, HandlerInfo, Target,
        gate::Gate,
        outcome::CallOutcome,
        outcome_taps::{OutcomeTaps, OutcomeWatch},
        tally::{Counts, Tally},
    },
    event::{EmitOptions, Emitter, Event, EventIds, EventRef, NewEvent, Said},
    executor::{slot::may_poll_here, workers::Workers},
    label::Label,
    lock::Lock,
    memory::{Account, Budget},
    report::Report,
    value::{self, Keeper},
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
        }
    }
}

/// Why an event that was sent is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// Too many are waiting.
    #[error(
        "{event} is not accepted: {limit} sent events are not handled yet; send fewer, or use emit, which waits"
    )]
    QueueFull {
        /// The event.
        event: String,
        /// How many there may be.
        limit: usize,
    },
    /// Those that are waiting are too large.
    #[error(
        "{event} is not accepted: with its {bytes} bytes, sent events that are not handled yet would have more than the \
         {limit} that are allowed (limits.queued_bytes), or all that waits in the host more than limits.waiting_bytes; send \
         fewer, or use emit, which waits"
    )]
    QueueBytes {
        /// The event.
        event: String,
        /// How many bytes it has.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
    /// It is no event, or is too large or too deep.
    #[error("{0}")]
    Refused(String),
}

/// The same on its way to whoever has sent it.
#[derive(Debug, Error)]
pub(crate) enum NotSent {
    /// There is no place for it.
    #[error(transparent)]
    NoPlace(SendError),
    /// It is too large or too deep.
    #[error("{0}")]
    Refused(Refusal),
}

impl From<NotSent> for SendError {
    fn from(not_sent: NotSent) -> Self {
        match not_sent {
            NotSent::NoPlace(error) => error,
            NotSent::Refused(refusal) => SendError::Refused(refusal.text()),
        }
    }
}

impl From<NotSent> for Refusal {
    fn from(not_sent: NotSent) -> Self {
        let error = match not_sent {
            NotSent::NoPlace(error) => error,
            NotSent::Refused(refusal) => return refusal,
        };
        let code = match &error {
            SendError::QueueFull { .. } => RefusalCode::QUEUE_FULL,
            SendError::QueueBytes { .. } | SendError::Refused(_) => RefusalCode::QUEUE_BYTES,
        };
        Refusal::new(code, error)
    }
}

/// A plugin and a handler of it.
type HandlerName = (Arc<str>, Arc<str>);

/// Accepts events and runs their handlers.
pub struct Router {
    pub(super) site: CallSite,
    limits: RouterLimits,
    pub(super) table: ArcSwap<RoutingTable>,
    /// Writers of the table stand in line here, so that none overwrites another's change.
    writers: Lock<()>,
    ids: EventIds,
    taps: Arc<Taps>,
    outcome_taps: Arc<OutcomeTaps>,
    traffic: Traffic,
    pub(super) failures: Failures,
    queue: Arc<Semaphore>,
    /// The bytes of what is in it.
    sent: Arc<Account>,
    /// Bytes that wait anywhere.
    budget: Arc<Budget>,
    counts: Lock<HashMap<HandlerName, Tally>>,
    /// Of plugins that are forgotten: the host's own sums never fall.
    forgotten: Lock<Counts>,
    keys: AtomicU64,
    /// What a key in a worker's slot stands for.
    infos: Lock<Infos>,
}

/// Handlers by their keys. Those that are gone are swept out whenever the number has doubled.
#[derive(Default)]
struct Infos {
    by_key: HashMap<u64, Weak<HandlerInfo>>,
    sweep_at: usize,
}

impl Infos {
    fn add(&mut self, info: &Arc<HandlerInfo>) {
        if self.by_key.len() >= self.sweep_at {
            self.by_key.retain(|_, info| info.strong_count() > 0);
            self.sweep_at = 2 * self.by_key.len() + 64;
        }
        self.by_key.insert(info.key, Arc::downgrade(info));
    }
}

impl Router {
    pub(crate) fn new(site: CallSite, limits: RouterLimits, budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Router {
            site,
            queue: Arc::new(Semaphore::new(limits.queued_events)),
            sent: budget.limited(limits.queued_bytes),
            taps: Taps::new(budget.clone(), limits.subscriber_bytes),
            outcome_taps: OutcomeTaps::new(budget.clone(), limits.subscriber_bytes),
            budget,
            limits,
            table: ArcSwap::default(),
            writers: Lock::default(),
            ids: EventIds::new(),
            traffic: Traffic::default(),
            failures: Failures::default(),
            counts: Lock::default(),
            forgotten: Lock::default(),
            keys: AtomicU64::new(1),
            infos: Lock::default(),
        })
    }

    // ---- emitting ----

    /// Accepts an event at once, then runs every handler of it and gathers their outcomes. From any
    /// thread; the handlers are polled by whoever polls this on a dispatch worker, and by a task on
    /// the workers otherwise.
    pub fn emit(
        self: &Arc<Self>,
        event: NewEvent,
        parent: Option<Counted<Event>>,
    ) -> impl Future<Output = Report> + Send + use<> {
        let router = self.clone();
        let accepted = self.accept(event, parent);
        async move {
            match accepted {
                Ok(event) => Report::from(router.outcomes(event, None).await),
                Err(refusal) => Report::refused(refusal.text()),
            }
        }
    }

    /// The same from a task whose client is answered also when a handler does not return:
    /// `progress` is filled meanwhile.
    pub fn emit_followed(
        self: &Arc<Self>,
        event: NewEvent,
        progress: Arc<Progress>,
    ) -> impl Future<Output = Report> + Send + use<> {
        let router = self.clone();
        let accepted = self.accept(event, None);
        async move {
            match accepted {
                Ok(event) => Report::from(router.outcomes_as(event, None, Some(&progress)).await),
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
        let (router, event) = (self.clone(), sent.shared_name().clone());
        self.spawn_detached(async move {
            let outcomes = router.outcomes(sent, place).await;
            tell_of_rejection(&event, &outcomes, "a sent event was not handled");
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

    /// Accepts an event of the host, of its clients or of the embedding program.
    pub(crate) fn accept(
        &self,
        event: NewEvent,
        parent: Option<Counted<Event>>,
    ) -> Result<Counted<Event>, Refusal> {
        let (bytes, limit) = (event.payload.as_json().len(), self.limits.payload_bytes);
        if bytes > limit {
            return Err(too_large(&event.name, bytes, limit));
        }
        let is_handled = || !self.table.load().targets(&event.name).is_empty();
        self.traffic.count(&event.source, &event.name, !event.of_plugin, is_handled);
        let event = Counted::new(Event::new(event, parent, &self.ids));
        if event.depth() as usize > self.limits.event_depth {
            return Err(self.too_deep(&event));
        }
        self.taps.show(&event);
        Ok(event)
    }

    /// Accepts an event of a plugin that holds its name resolved.
    #[inline]
    pub(crate) fn accept_resolved(
        &self,
        resolved: &Resolved,
        content: Content,
        parent: Option<Counted<Event>>,
    ) -> Result<Counted<Event>, Refusal> {
        resolved.emitted.up();
        if let Some(parent) = &parent
            && parent.depth() as usize >= self.limits.event_depth
        {
            return Err(self.too_deep_below(parent.clone(), resolved));
        }
        let emitters = resolved.emitters();
        // Made where it stays: an event is too large to be moved for nothing.
        let event = match content {
            Content::Value(value) => {
                let emitter = emitters.keeping.clone();
                Counted::made(|| Event::with_value(emitter, value, parent, &self.ids))
            }
            Content::Bytes(json) => {
                if json.len() > self.limits.payload_bytes {
                    return Err(too_large(resolved.name(), json.len(), self.limits.payload_bytes));
                }
                let emitter = emitters.plain.clone();
                Counted::made(|| Event::of_emitter(emitter, json, parent, &self.ids))
            }
        };
        self.taps.show(&event);
        Ok(event)
    }

    /// The same with something said beside it.
    #[cold]
    pub(crate) fn accept_said(
        &self,
        resolved: &Resolved,
        content: Content,
        parent: Option<Counted<Event>>,
        options: &impl EmitOptions,
    ) -> Result<Counted<Event>, Refusal> {
        resolved.emitted.up();
        let said = Said::of(options, resolved.name(), parent.as_deref())?;
        let (emitters, ids) = (resolved.emitters(), &self.ids);
        let mut event = match content {
            Content::Value(value) => {
                Event::with_value(emitters.keeping.clone(), value, parent, ids)
            }
            Content::Bytes(json) if json.len() > self.limits.payload_bytes => {
                return Err(too_large(resolved.name(), json.len(), self.limits.payload_bytes));
            }
            Content::Bytes(json) => Event::of_emitter(emitters.plain.clone(), json, parent, ids),
        };
        event.say(said);
        let event = Counted::new(event);
        if event.depth() as usize > self.limits.event_depth {
            return Err(self.too_deep(&event));
        }
        self.taps.show(&event);
        Ok(event)
    }

    #[cold]
    fn too_deep_below(&self, parent: Counted<Event>, resolved: &Resolved) -> Refusal {
        let emitter = resolved.emitters().plain.clone();
        let refused = Event::of_emitter(emitter, Buffer::new(), Some(parent), &self.ids);
        self.too_deep(&refused)
    }

    #[cold]
    fn too_deep(&self, event: &Event) -> Refusal {
        let text = format_args!(
            "{} is event number {} of a chain of events, and {} are allowed (limits.event_depth). Is it a loop? {}",
            event.name(),
            u64::from(event.depth()) + 1,
            self.limits.event_depth,
            event.chain()
        );
        Refusal::new(RefusalCode::TOO_DEEP, text)
    }

    /// What a plugin holds to emit events of one name.
    pub(crate) fn resolve(
        &self,
        name: &str,
        source: &Arc<str>,
        keeper: Arc<dyn Keeper>,
    ) -> Result<Resolved, NameError> {
        validate_event_name(name)?;
        let held = self.table.load().interner().hold(name);
        if self.table.load().held(&held).is_none() {
            self.change(|table| table.with_names([&held]));
        }
        let name = held.name().clone();
        let emitted = self.traffic.pair(source, &name, false);
        let limit = self.limits.payload_bytes;
        let emitter =
            Emitter { keeper: Some(keeper), limit, ..Emitter::plain(name, source.clone()) };
        Ok(Resolved::new(held, emitter, emitted))
    }

    /// An event that goes to one handler past the routing table.
    pub fn directed(&self, event: NewEvent) -> Counted<Event> {
        Counted::new(Event::new(event, None, &self.ids))
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

    // ---- routes ----

    /// A target of this router, with its counters over all generations.
    pub(crate) fn target(&self, new: NewTarget) -> Arc<Target> {
        let NewTarget {
            plugin,
            handler,
            label,
            counted_as,
            callee,
            number,
            priority,
            order,
            timeout,
            blocking,
            answers_alone,
            cancel,
            gate,
            keeper,
        } = new;
        let label = label.unwrap_or_else(Label::blank);
        let (key, untried) = (label.key(), AtomicBool::new(keeper.is_some()));
        let counts = {
            let mut counts = self.counts.lock();
            counts.entry((plugin.clone(), counted_as)).or_default().generation()
        };
        let active = AtomicI64::new(0);
        let timeout = timeout.unwrap_or(self.limits.timeout);
        let info = HandlerInfo {
            plugin,
            handler,
            key,
            untried,
            counts,
            outcome_taps: self.outcome_taps.clone(),
            active,
            timeout,
            _label: Some(label),
        };
        let info = Arc::new(info);
        self.infos.lock().add(&info);
        let entry = CallTarget { info, callee, number, timeout, blocking, cancel, keeper };
        Arc::new(Target::new(priority, order, gate, answers_alone, entry))
    }

    /// Forgets the counters of a plugin. They stay part of those of all handlers together.
    pub fn forget_plugin(&self, plugin: &str) {
        let mut counts = self.counts.lock();
        let mut forgotten = self.forgotten.lock();
        for (_, counts) in counts.extract_if(|(owner, _), _| **owner == *plugin) {
            *forgotten += counts.now();
        }
    }

    /// The handler that a key in a worker's slot stands for.
    pub fn info(&self, key: u64) -> Option<Arc<HandlerInfo>> {
        let infos = self.infos.lock();
        infos.by_key.get(&key).and_then(Weak::upgrade)
    }

    /// Replaces the whole table by a changed one. This store is the commit point of every load,
    /// reload and unload: an event emitted before it meets the old routes, an event emitted after
    /// it the new ones.
    pub(crate) fn change(&self, change: impl FnOnce(&RoutingTable) -> RoutingTable) {
        let _turn = self.writers.lock();
        let next = Arc::new(change(&self.table.load()));
        self.table.store(next);
    }

    /// Adds a handler; the number it can be removed by. One of the host's `own` has a timeout of
    /// its own, and answers alone: whoever else subscribes to its events only [sees
    /// them](Self::show_onlookers).
    pub fn add_host_handler<F, Fut, R>(
        &self,
        name: &str,
        patterns: &[Pattern],
        own: Option<Duration>,
        handler: F,
    ) -> u64
    where
        F: Fn(EventRef) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Serialize,
    {
        let number = self.keys.fetch_add(1, Ordering::Relaxed);
        let target = self.target(NewTarget {
            plugin: "".into(),
            handler: name.into(),
            label: None,
            counted_as: name.into(),
            callee: Arc::new(HostHandler::new(self.site.runtime.clone(), handler)),
            number,
            priority: 0,
            order: number,
            timeout: own,
            blocking: false,
            answers_alone: own.is_some(),
            cancel: Arc::default(),
            gate: None,
            keeper: None,
        });
        let routes = patterns
            .iter()
            .map(|pattern| Route { pattern: pattern.clone(), target: target.clone() });
        let routes = routes.collect();
        self.change(|table| table.with(Owner::Host(number), routes));
        number
    }

    /// Removes a handler of the host.
    pub fn remove_host_handler(&self, number: u64) {
        self.change(|table| table.with(Owner::Host(number), Vec::new()));
    }

    /// The counters of a plugin's handlers, by handler.
    pub fn counts_of(&self, plugin: &str) -> Vec<(Arc<str>, Counts)> {
        let counts = self.counts.lock();
        let own = counts.iter().filter(|((owner, _), _)| **owner == *plugin);
        own.map(|((_, handler), counts)| (handler.clone(), counts.now())).collect()
    }

    /// The counters of all handlers together.
    pub fn all_counts(&self) -> Counts {
        let counts = self.counts.lock();
        let mut sum = *self.forgotten.lock();
        counts.values().for_each(|counts| sum += counts.now());
        sum
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

/// What a [`Target`] is made from.
pub(crate) struct NewTarget {
    pub(crate) plugin: Arc<str>,
    pub(crate) handler: Arc<str>,
    /// What is told of it if the host dies of it; `None` for the host's own.
    pub(crate) label: Option<Label>,
    /// Under which name its calls are counted, over all generations.
    pub(crate) counted_as: Arc<str>,
    pub(crate) callee: Arc<dyn call::Callee>,
    pub(crate) number: u64,
    pub(crate) priority: i32,
    /// Its place among the plugin's declarations; run-time subscriptions come after them.
    pub(crate) order: u64,
    /// `None` for the host's default.
    pub(crate) timeout: Option<Duration>,
    pub(crate) blocking: bool,
    /// See [`Target::answers_alone`].
    pub(crate) answers_alone: bool,
    /// Shared by all targets of a generation.
    pub(crate) cancel: Arc<call::Cancel>,
    /// The same; `None` for a generation that keeps no state.
    pub(crate) gate: Option<Arc<Gate>>,
    /// The same; `None` for the host.
    pub(crate) keeper: Option<Arc<dyn Keeper>>,
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

fn too_large(event: &str, bytes: usize, limit: usize) -> Refusal {
    Refusal::new(
        RefusalCode::TOO_LARGE,
        value::too_large(format_args!("the payload of {event}"), bytes, limit),
    )
}
