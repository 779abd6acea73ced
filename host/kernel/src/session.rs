//! What one generation of a plugin may do towards the host, and what the host may do to that: it
//! emits and subscribes, its calls are counted, held and cancelled, and its tasks end with it.
//!
//! It promises that nothing leads to an instance that is not live, and that what a generation
//! subscribes to comes and goes with it. It knows the instance as something that can be called,
//! weakly. What keeps the library where the plugin's code lies is given to it call by call, and
//! never held by a session itself: whoever counts who needs a library does not count sessions.

mod tasks;
mod watch;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    sync::{Arc, MutexGuard, OnceLock, Weak},
    task::{Context, Poll},
    time::Duration,
};

use ksi_abi::{
    BoundaryFuture, Content, Counted, EmitOptions, EventHandle, NameError, Pattern, Refusal,
    RefusalCode, ReplyEnd, ReplyForm, ReportHandle, Start, SubscribeOptions, To,
    host::{self, WaitEnd},
};

use crate::{
    call::{
        Callee, Cancel, HandlerInfo,
        gate::Gate,
        outcome::{CallOutcome, CallReply},
    },
    event::{Event, NewEvent, Payload, Said},
    label::Label,
    lock::Lock,
    router::{
        Router,
        emit::NewTarget,
        fan_out::{How, Outcomes},
        pending::{FanOutStart, PendingFanOut},
        plugin_report::PluginReport,
        resolved::Resolved,
        table::{Owner, Route},
        taps::{WatchEnd, Watched},
    },
    value::Keeper,
};
use tasks::{BackgroundTasks, NotAdded};
pub use watch::SessionWatch;

/// The name under which the calls of all run-time subscriptions of a plugin are counted.
const SUBSCRIPTIONS: &str = "run-time subscriptions";

/// Bounds of what one plugin may have at a time.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// Background tasks that run.
    pub background_tasks: usize,
    /// Subscriptions made at run time.
    pub subscriptions: usize,
    /// Events that wait for one watch.
    pub watched_events: usize,
    /// Events that wait while the plugin's state is handed over.
    pub held_events: usize,
    /// Their bytes.
    pub held_bytes: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        SessionLimits {
            background_tasks: 1_024,
            subscriptions: 1_024,
            watched_events: 1_024,
            held_events: 4_096,
            held_bytes: 64 << 20,
        }
    }
}

/// A handler that a plugin declares, in the order of declaration.
pub struct HandlerSpec {
    /// Its name, under which its calls are counted over all generations.
    pub name: Arc<str>,
    /// What is told of it if the host dies of it.
    pub label: Label,
    /// The events that it is called for.
    pub patterns: Vec<Pattern>,
    /// Higher ones are called first.
    pub priority: i32,
    /// `None` for the host's default.
    pub timeout: Option<Duration>,
    /// Called on threads that may be blocked.
    pub blocking: bool,
}

/// The routes of a generation's declared handlers.
pub struct DeclaredRoutes {
    routes: Vec<Route>,
    handlers: Vec<Arc<HandlerInfo>>,
}

impl DeclaredRoutes {
    /// What is known of the handlers, in the order of declaration.
    pub fn handlers(&self) -> &[Arc<HandlerInfo>] {
        &self.handlers
    }
}

/// One generation of a plugin, as the router knows it.
pub struct Session {
    plugin: Arc<str>,
    generation: u64,
    router: Arc<Router>,
    limits: SessionLimits,
    cancel: Arc<Cancel>,
    /// Made at once, or when its events are held for the first time.
    gate: OnceLock<Arc<Gate>>,
    tasks: BackgroundTasks,
    subscriptions: Lock<Subscriptions>,
}

#[derive(Default)]
struct Subscriptions {
    next: u64,
    attached: bool,
    callee: Option<Weak<dyn Callee>>,
    /// Made before the instance was there.
    early: Vec<Subscription>,
    infos: HashMap<u64, Arc<HandlerInfo>>,
    /// What ends each watch, and its patterns.
    watches: BTreeMap<u64, (WatchEnd, String)>,
}

impl Subscriptions {
    /// What counts against the limit.
    fn held(&self) -> usize {
        self.infos.len() + self.early.len() + self.watches.len()
    }

    /// It was live, and is so no more.
    fn is_over(&self) -> bool {
        self.attached && self.callee.is_none()
    }
}

struct Subscription {
    number: u64,
    pattern: Pattern,
    handler: u64,
    priority: i32,
    timeout: Option<Duration>,
    blocking: bool,
}

impl Session {
    /// A session of this generation; `gated` if its events can be held from the beginning.
    pub fn new(
        plugin: Arc<str>,
        generation: u64,
        router: Arc<Router>,
        limits: SessionLimits,
        gated: bool,
    ) -> Arc<Self> {
        let session = Session {
            plugin,
            generation,
            router,
            cancel: Arc::default(),
            gate: OnceLock::new(),
            tasks: BackgroundTasks::new(limits.background_tasks),
            subscriptions: Lock::default(),
            limits,
        };
        if gated {
            session.gate.get_or_init(|| session.new_gate());
        }
        Arc::new(session)
    }

    /// Whose it is.
    pub fn plugin(&self) -> &Arc<str> {
        &self.plugin
    }

    /// Which generation of it.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Where its events go.
    pub fn router(&self) -> &Arc<Router> {
        &self.router
    }

    // ---- what the host does to a generation ----

    /// The routes of declared handlers of an instance; `keeper` keeps its library for replies that
    /// are values, if it gives any.
    pub fn declared(
        &self,
        handlers: impl IntoIterator<Item = HandlerSpec>,
        callee: Arc<dyn Callee>,
        keeper: Option<&Arc<dyn Keeper>>,
    ) -> DeclaredRoutes {
        let (mut routes, mut infos) = (Vec::new(), Vec::new());
        for (order, handler) in (0..).zip(handlers) {
            let HandlerSpec { name, label, patterns, priority, timeout, blocking } = handler;
            let target = self.router.target(NewTarget {
                plugin: self.plugin.clone(),
                handler: name.clone(),
                label: Some(label),
                counted_as: name,
                callee: callee.clone(),
                number: order,
                priority,
                order,
                timeout,
                blocking,
                answers_alone: false,
                cancel: self.cancel.clone(),
                gate: self.gate.get().cloned(),
                keeper: keeper.cloned(),
            });
            infos.push(target.info().clone());
            let route = |pattern| Route { pattern, target: target.clone() };
            routes.extend(patterns.into_iter().map(route));
        }
        DeclaredRoutes { routes, handlers: infos }
    }

    /// The declared routes that the plugin has, to another instance of the same generation: they
    /// are counted as before.
    pub fn declared_again(
        &self,
        callee: Arc<dyn Callee>,
        keeper: Option<&Arc<dyn Keeper>>,
    ) -> DeclaredRoutes {
        let (cancel, gate) = (&self.cancel, self.gate.get());
        let routes = self.router.redeclared(&self.plugin, &callee, cancel, gate, keeper);
        DeclaredRoutes { routes, handlers: Vec::new() }
    }

    /// The instance is there and becomes live: its declared routes, and those that it subscribed to
    /// while it was initialized, take the place of those of the generation before. A task of it
    /// that subscribes meanwhile waits: before the swap, its route would stand beside those of the
    /// generation before, and an event would reach both.
    pub fn attach(
        &self,
        declared: DeclaredRoutes,
        callee: Arc<dyn Callee>,
        keeper: Option<&Arc<dyn Keeper>>,
    ) {
        let mut subscriptions = self.subscriptions();
        subscriptions.callee = Some(Arc::downgrade(&callee));
        subscriptions.attached = true;
        let early = std::mem::take(&mut subscriptions.early);
        let early = early.into_iter().map(|it| self.route(&mut subscriptions, it, &callee, keeper));
        let mut routes: Vec<_> = early.collect();
        routes.push((Owner::Plugin(self.plugin.clone()), declared.routes));
        // The commit point.
        self.router.swap(&self.plugin, routes);
    }

    /// Ends every pending call of this generation at its present await, now and later.
    pub fn cancel_calls(&self) {
        self.cancel.cancel();
    }

    /// Ends the calls of this generation that have begun, and none that begins later.
    pub fn cancel_present_calls(&self) {
        self.cancel.cancel_present();
    }

    /// What the events of this generation pass through, if it has a gate.
    pub fn gate(&self) -> Option<&Arc<Gate>> {
        self.gate.get()
    }

    /// The same; it is put before the handlers of this live generation now, if there was none.
    /// Events that entered before it was there are not inside it.
    pub fn gate_now(&self) -> Arc<Gate> {
        // No route is added meanwhile.
        let _subscriptions = self.subscriptions();
        if let Some(gate) = self.gate.get() {
            return gate.clone();
        }
        let gate = self.gate.get_or_init(|| self.new_gate()).clone();
        self.router.put_behind(&self.plugin, &gate);
        gate
    }

    /// No subscription is accepted for now: nothing may lead to the instance any more.
    pub fn suspend(&self) {
        self.subscriptions().callee = None;
    }

    /// The instance goes on.
    pub fn resume(&self, callee: Weak<dyn Callee>) {
        self.subscriptions().callee = Some(callee);
    }

    /// No subscription is accepted any more. Called right before this generation loses its routes.
    pub fn detach(&self) {
        let mut subscriptions = self.subscriptions();
        subscriptions.callee = None;
        subscriptions.attached = true;
        subscriptions.early.clear();
        subscriptions.infos.clear();
        let ends: Vec<_> = subscriptions.watches.values().map(|(end, _)| end.clone()).collect();
        // Whoever is woken by it may drop his watch.
        drop(subscriptions);
        ends.iter().for_each(WatchEnd::close);
    }

    /// Drops all background tasks and refuses further ones. On a dispatch worker.
    pub fn end_tasks(&self) {
        self.tasks.close();
    }

    /// How many background tasks run.
    pub fn task_count(&self) -> usize {
        self.tasks.count()
    }

    fn new_gate(&self) -> Arc<Gate> {
        let SessionLimits { held_events, held_bytes, .. } = self.limits;
        Gate::new(held_events, self.router.budget().limited(held_bytes))
    }

    // ---- what a generation does ----

    /// Finds out once what an emit of this name would find out each time. `keeper` keeps the
    /// library of the values that are emitted.
    pub fn resolve(&self, name: &str, keeper: Arc<dyn Keeper>) -> Result<Resolved, NameError> {
        self.router.resolve(name, &self.plugin, keeper)
    }

    /// Runs every handler of an event, all up to their first await before this returns.
    #[inline]
    pub fn emit(
        &self,
        parent: Option<&Counted<Event>>,
        to: &To<'_, Resolved>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        cx: &mut Context<'_>,
    ) -> Start<ReportHandle, Emitting> {
        match self.accept(parent, to, content, options) {
            Err(refusal) => Start::Ready(refused(&refusal)),
            Ok(event) => match self.router.begin(event, None, &how(&ReplyForm::Any, to), cx) {
                FanOutStart::One(entry, ended) => {
                    self.router.note(name_of(to), &entry.info, &ended);
                    Start::Ready(report(Outcomes::one(entry, ended)))
                }
                FanOutStart::Done(outcomes) => Start::Ready(report(outcomes)),
                FanOutStart::GoesOn(pending) => Start::Pending(Emitting(pending)),
            },
        }
    }

    /// The same for an emitter that wants one reply.
    #[inline]
    pub fn request(
        &self,
        parent: Option<&Counted<Event>>,
        to: &To<'_, Resolved>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Start<ReplyEnd, Requesting> {
        match self.accept(parent, to, content, options) {
            Err(refusal) => Start::Ready(ReplyEnd::Report(refused(&refusal))),
            Ok(event) => match self.router.begin(event, None, &how(form, to), cx) {
                FanOutStart::One(_, CallOutcome::Replied(CallReply::Loose(value))) => {
                    Start::Ready(ReplyEnd::Value(value))
                }
                FanOutStart::One(_, CallOutcome::Replied(CallReply::Bytes(bytes))) => {
                    Start::Ready(ReplyEnd::Bytes(bytes))
                }
                FanOutStart::One(entry, ended) => {
                    self.router.note(name_of(to), &entry.info, &ended);
                    Start::Ready(ReplyEnd::Report(report(Outcomes::one(entry, ended))))
                }
                FanOutStart::Done(outcomes) => Start::Ready(reply(outcomes)),
                FanOutStart::GoesOn(pending) => Start::Pending(Requesting(pending)),
            },
        }
    }

    /// Accepts an event into the queue, or refuses it.
    pub fn send(
        &self,
        parent: Option<&Counted<Event>>,
        to: &To<'_, Resolved>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<(), Refusal> {
        // What a value keeps beside itself is memory of its plugin's own, and how much that is
        // nobody knows.
        let json = match &content {
            Content::Bytes(json) => json.len(),
            Content::Value(_) => 0,
        };
        let own = options.into_iter().flat_map(EmitOptions::attributes);
        let own: usize = own.map(|(key, value)| key.len() + value.len()).sum();
        let bytes = json + own + parent.map_or(0, |parent| parent.attribute_bytes());
        let accept = || self.accept(parent, to, content, options);
        self.router.send_once_accepted(name_of(to), bytes, accept).map_err(Into::into)
    }

    /// Accepts an event of this generation.
    #[inline]
    fn accept(
        &self,
        parent: Option<&Counted<Event>>,
        to: &To<'_, Resolved>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<Counted<Event>, Refusal> {
        let parent = parent.map(Event::to_keep);
        match (to, options) {
            (To::Route(resolved), None) => self.router.accept_resolved(resolved, content, parent),
            (To::Route(resolved), Some(options)) => {
                self.router.accept_said(resolved, content, parent, options)
            }
            (To::Name(name), options) => self.accept_by_name(parent, name, content, options),
        }
    }

    /// The same for an event whose name is not resolved. Out of line, for the sake of those whose
    /// name is.
    #[inline(never)]
    fn accept_by_name(
        &self,
        parent: Option<Counted<Event>>,
        name: &str,
        content: Content,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<Counted<Event>, Refusal> {
        let json = content
            .into_bytes()
            .map_err(|failure| Refusal::new(RefusalCode::NOT_ENCODABLE, failure.to_texts().1))?;
        let mut event = NewEvent::new(name, Payload::of_buffer(json))
            .map_err(|error| Refusal::new(RefusalCode::INVALID_NAME, error))?;
        event.source = self.plugin.clone();
        event.of_plugin = true;
        if let Some(options) = options {
            let said = Said::of(options, name, parent.as_deref())?;
            event.attributes = said.attributes;
            event.timeout = said.timeout;
            event.depth = said.depth;
        }
        self.router.accept(event, parent)
    }

    /// Awaits the next event that matches.
    pub fn wait_for(
        &self,
        pattern: &str,
        timeout: Duration,
    ) -> impl Future<Output = WaitEnd> + Send + use<> {
        let waiting = Pattern::parse(pattern)
            .map(|pattern| (self.router.watch(&[pattern], 1), self.sleep(timeout)));
        async move {
            let (mut watch, timer) = match waiting {
                Ok(waiting) => waiting,
                Err(error) => {
                    return WaitEnd::Refused(Refusal::new(RefusalCode::INVALID_PATTERN, error));
                }
            };
            tokio::select! {
                biased;
                seen = watch.next() => match seen {
                    Some(Watched::Event(event)) => WaitEnd::Event(EventHandle::new(event.counted().clone())),
                    Some(Watched::Missed(_)) | None => {
                        let text = "too much waits in the host for the event to be kept";
                        WaitEnd::Refused(Refusal::new(RefusalCode::QUEUE_BYTES, text))
                    }
                },
                () = timer => WaitEnd::TimedOut,
            }
        }
    }

    /// Waits. The timer belongs to the host's runtime, whoever polls it.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + use<> {
        let _inside = self.router.runtime().enter();
        tokio::time::sleep(duration)
    }

    /// Shows events to this generation that it does not handle, until it drops the watch or goes.
    pub fn watch(
        self: &Arc<Self>,
        patterns: &[&str],
        capacity: usize,
    ) -> Result<SessionWatch, Refusal> {
        SessionWatch::new(self, patterns, capacity)
    }

    /// The patterns of each watch that this generation has.
    pub fn watched(&self) -> Vec<String> {
        self.subscriptions().watches.values().map(|(_, patterns)| patterns.clone()).collect()
    }

    /// Has a handler of this generation called for every event that matches; the subscription's
    /// number.
    pub fn subscribe(
        &self,
        pattern: &str,
        handler: u64,
        options: &SubscribeOptions<'_>,
        keeper: Option<&Arc<dyn Keeper>>,
    ) -> Result<u64, Refusal> {
        let pattern = host::pattern(pattern)?;
        options.check()?;
        let (timeout, &SubscribeOptions { priority, blocking, .. }) = (options.timeout(), options);
        let mut subscriptions = self.subscriptions();
        let (held, limit) = (subscriptions.held(), self.limits.subscriptions);
        if held >= limit {
            let text = format_args!(
                "{} has {held} subscriptions and watches made at run time, and {limit} are allowed (limits.subscriptions)",
                self.plugin
            );
            return Err(Refusal::new(RefusalCode::TOO_MANY_SUBSCRIPTIONS, text));
        }
        subscriptions.next += 1;
        let number = subscriptions.next;
        let new = Subscription { number, pattern, handler, priority, timeout, blocking };
        if !subscriptions.attached {
            subscriptions.early.push(new);
        } else if let Some(callee) = subscriptions.callee.as_ref().and_then(Weak::upgrade) {
            let (owner, routes) = self.route(&mut subscriptions, new, &callee, keeper);
            self.router.change(|table| table.with(owner, routes));
        } else {
            let text =
                format_args!("{} is being retired and cannot subscribe any more", self.plugin);
            return Err(Refusal::new(RefusalCode::RETIRING, text));
        }
        Ok(number)
    }

    /// Ends a subscription; whether there was one.
    pub fn unsubscribe(&self, number: u64) -> bool {
        let mut subscriptions = self.subscriptions();
        let early = subscriptions.early.len();
        subscriptions.early.retain(|subscription| subscription.number != number);
        match subscriptions.infos.remove(&number) {
            Some(_) => {
                self.router.change(|table| table.with(self.owner(number), Vec::new()));
                true
            }
            None => early != subscriptions.early.len(),
        }
    }

    /// Runs a background task on the dispatch workers; its number. `keeper` keeps its library until
    /// all of it has ended.
    pub fn spawn(
        self: &Arc<Self>,
        future: BoundaryFuture<u8>,
        keeper: Arc<dyn Keeper>,
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
            if let Err(message) = task.await {
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

    fn route(
        &self,
        subscriptions: &mut Subscriptions,
        new: Subscription,
        callee: &Arc<dyn Callee>,
        keeper: Option<&Arc<dyn Keeper>>,
    ) -> (Owner, Vec<Route>) {
        let Subscription { number, pattern, handler, priority, timeout, blocking } = new;
        let target = self.router.target(NewTarget {
            plugin: self.plugin.clone(),
            handler: format!("subscription {number} ({pattern})").into(),
            label: Some(Label::new(&format!(
                "plugin {} (generation {}), subscription {number} to {pattern}",
                self.plugin, self.generation
            ))),
            counted_as: SUBSCRIPTIONS.into(),
            callee: callee.clone(),
            number: handler,
            priority,
            // Behind the declared handlers.
            order: (1 << 32) + number,
            timeout,
            blocking,
            answers_alone: false,
            cancel: self.cancel.clone(),
            gate: self.gate.get().cloned(),
            keeper: keeper.cloned(),
        });
        subscriptions.infos.insert(number, target.info().clone());
        (self.owner(number), vec![Route { pattern, target }])
    }

    fn owner(&self, number: u64) -> Owner {
        Owner::Subscription { plugin: self.plugin.clone(), generation: self.generation, number }
    }

    fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        self.subscriptions.lock()
    }
}

/// The rest of an emit. It moves to the dispatch workers wherever else it is polled.
pub struct Emitting(PendingFanOut);

impl Future for Emitting {
    type Output = ReportHandle;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ReportHandle> {
        Pin::new(&mut self.0).poll(cx).map(report)
    }
}

/// The rest of a request. It moves to the dispatch workers wherever else it is polled.
pub struct Requesting(PendingFanOut);

impl Future for Requesting {
    type Output = ReplyEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ReplyEnd> {
        Pin::new(&mut self.0).poll(cx).map(reply)
    }
}

#[inline]
fn how<'a>(form: &'a ReplyForm, to: &To<'a, Resolved>) -> How<'a> {
    let held = match to {
        To::Route(resolved) => Some(&*resolved.held),
        To::Name(_) => None,
    };
    How { form, held, progress: None }
}

fn name_of<'a>(to: &'a To<'_, Resolved>) -> &'a str {
    match to {
        To::Route(resolved) => resolved.name(),
        To::Name(name) => name,
    }
}

fn report(outcomes: Outcomes) -> ReportHandle {
    ReportHandle::new(PluginReport::from(outcomes))
}

#[cold]
fn refused(refusal: &Refusal) -> ReportHandle {
    ReportHandle::new(PluginReport::refused(refusal))
}

/// The only handler's reply, if it may go without its library.
fn reply(mut outcomes: Outcomes) -> ReplyEnd {
    if outcomes.ended.len() == 1 {
        match outcomes.ended.pop() {
            Some(CallOutcome::Replied(CallReply::Loose(value))) => return ReplyEnd::Value(value),
            Some(CallOutcome::Replied(CallReply::Bytes(bytes))) => return ReplyEnd::Bytes(bytes),
            other => outcomes.ended.extend(other),
        }
    }
    ReplyEnd::Report(report(outcomes))
}

#[cfg(test)]
mod tests;
