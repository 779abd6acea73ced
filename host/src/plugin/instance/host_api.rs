//! The host as one generation of a plugin sees it.

use std::{
    collections::HashMap,
    future::Future,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::{Context, Waker},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::Map};
use ksi_abi::{
    BoundaryFuture, Buffer, Content, Counted, EventHandle, HostApi, LogRecord, Pattern, ReplyEnd,
    ReplyForm, ReportHandle, SpanRecord, Start, SubscribeOptions, To, Value,
    host::{SpanStep, WaitEnd},
};

use super::{
    kept_resources::{KeptResources, PluginResources},
    live::LiveInstance,
    log::{self, Spans},
    waker,
};
use crate::{
    dispatch::{
        call::{Cancel, HandlerInfo},
        ended::{Ended, Reply},
        hold::Gate,
    },
    event::{Event, NewEvent},
    label::Label,
    router::{
        Router,
        emit::NewTarget,
        gather::{Gathered, How},
        gathering::{Begun, Gathering},
        plugin_report::PluginReport,
        resolved::Resolved,
        table::{Owner, Route},
        taps::Watched,
    },
    session::tasks::{BackgroundTasks, Refusal},
    shared_value::Keeper,
};

/// The name under which the calls of all run-time subscriptions of a plugin are counted.
const SUBSCRIPTIONS: &str = "run-time subscriptions";

/// Bounds of what one plugin may have at a time.
#[derive(Debug, Clone)]
pub(crate) struct HostSideLimits {
    pub(crate) background_tasks: usize,
    pub(crate) subscriptions: usize,
    /// Events that wait while the plugin's state is handed over.
    pub(crate) held_events: usize,
    /// Their bytes.
    pub(crate) held_bytes: usize,
}

/// Who is on the plugin's side.
pub(crate) struct Identity {
    pub(crate) plugin: Arc<str>,
    pub(crate) generation: u64,
    /// Where it was copied from.
    pub(crate) file: PathBuf,
}

/// The host, for one generation. Each reference that the plugin holds to it, and each waker of the plugin that the
/// host keeps, counts: while there is one, the library must stay.
pub(crate) struct HostSide {
    plugin: Arc<str>,
    generation: u64,
    file: PathBuf,
    router: Arc<Router>,
    limits: HostSideLimits,
    resources: PluginResources,
    epoch: Instant,
    cancel: Arc<Cancel>,
    /// Made at once, or when its events are held for the first time.
    gate: OnceLock<Arc<Gate>>,
    tasks: BackgroundTasks,
    subscriptions: Mutex<Subscriptions>,
    spans: Spans,
}

impl HostSide {
    pub(crate) fn new(
        Identity { plugin, generation, file }: Identity,
        router: Arc<Router>,
        limits: HostSideLimits,
        resources: &Arc<KeptResources>,
        epoch: Instant,
        gated: bool,
    ) -> Arc<Self> {
        let gate = OnceLock::new();
        if gated {
            gate.get_or_init(|| new_gate(&router, &limits));
        }
        let tasks = BackgroundTasks::new(limits.background_tasks);
        Arc::new(HostSide {
            resources: resources.of(plugin.clone()),
            plugin,
            generation,
            file,
            router,
            limits,
            epoch,
            cancel: Arc::default(),
            gate,
            tasks,
            subscriptions: Mutex::default(),
            spans: Spans::default(),
        })
    }

    /// The instance is there, and becomes live by `swap`, which gets the routes that it subscribed to while it was
    /// initialized. A task of it that subscribes meanwhile waits: before the swap, its route would stand beside those of
    /// the generation before, and an event would reach both.
    pub(crate) fn attach(
        self: &Arc<Self>,
        live: &Arc<LiveInstance>,
        swap: impl FnOnce(Vec<(Owner, Vec<Route>)>),
    ) {
        let mut subscriptions = lock(&self.subscriptions);
        subscriptions.live = Arc::downgrade(live);
        subscriptions.attached = true;
        self.resources.is_live();
        let early = std::mem::take(&mut subscriptions.early);
        swap(early.into_iter().map(|early| self.route(&mut subscriptions, live, early)).collect());
    }

    /// What cancels the pending calls of this generation.
    pub(crate) fn cancel_calls(&self) -> &Arc<Cancel> {
        &self.cancel
    }

    /// What the events of this generation pass through, if it has a gate.
    pub(crate) fn gate(&self) -> Option<&Arc<Gate>> {
        self.gate.get()
    }

    /// The same; it is put before the handlers of this live generation now, if there was none. Events that entered before
    /// it was there are not inside it.
    pub(crate) fn gate_now(&self) -> Arc<Gate> {
        // No route is added meanwhile.
        let _subscriptions = lock(&self.subscriptions);
        if let Some(gate) = self.gate.get() {
            return gate.clone();
        }
        let gate = self.gate.get_or_init(|| new_gate(&self.router, &self.limits)).clone();
        self.router.put_behind(&self.plugin, &gate);
        gate
    }

    /// No subscription is accepted for now: nothing may lead to the instance any more.
    pub(crate) fn suspend(&self) {
        lock(&self.subscriptions).live = Weak::new();
    }

    /// The instance goes on.
    pub(crate) fn resume(&self, live: &Arc<LiveInstance>) {
        lock(&self.subscriptions).live = Arc::downgrade(live);
    }

    /// No subscription is accepted any more. Called right before this generation loses its routes.
    pub(crate) fn detach(&self) {
        let mut subscriptions = lock(&self.subscriptions);
        subscriptions.live = Weak::new();
        subscriptions.attached = true;
        subscriptions.early.clear();
        subscriptions.infos.clear();
        self.resources.leaves();
    }

    /// Drops all background tasks and refuses further ones. On a dispatch worker.
    pub(crate) fn end_tasks(&self) {
        self.tasks.close();
    }

    /// How many background tasks run.
    pub(crate) fn task_count(&self) -> usize {
        self.tasks.count()
    }

    fn route(
        self: &Arc<Self>,
        subscriptions: &mut Subscriptions,
        live: &Arc<LiveInstance>,
        new: Subscription,
    ) -> (Owner, Vec<Route>) {
        let Subscription { number, pattern, handler, options } = new;
        let target = self.router.target(NewTarget {
            plugin: self.plugin.clone(),
            handler: format!("subscription {number} ({pattern})").into(),
            label: Some(Label::new(&format!(
                "plugin {} (generation {}), subscription {number} to {pattern}",
                self.plugin, self.generation
            ))),
            counted_as: SUBSCRIPTIONS.into(),
            callee: live.clone(),
            number: handler,
            priority: options.priority,
            // Behind the declared handlers.
            order: (1 << 32) + number,
            timeout: (options.timeout_ms > 0).then(|| Duration::from_millis(options.timeout_ms)),
            blocking: false,
            answers_alone: false,
            cancel: self.cancel.clone(),
            gate: self.gate.get().cloned(),
            keeper: Some(self.clone()),
        });
        subscriptions.infos.insert(number, target.info().clone());
        (self.owner(number), vec![Route { pattern, target }])
    }

    fn owner(&self, number: u64) -> Owner {
        Owner::Subscription { plugin: self.plugin.clone(), generation: self.generation, number }
    }

    /// Accepts an event of this generation.
    #[inline]
    fn accept(
        &self,
        parent: Option<&Counted<Event>>,
        to: &To<'_, Resolved>,
        content: Content,
    ) -> Result<Counted<Event>, String> {
        let parent = parent.map(Event::to_keep);
        match to {
            To::Route(resolved) => self.router.accept_resolved(resolved, content, parent),
            To::Name(name) => {
                let json = content.into_bytes();
                let json = json.map_err(|failure| failure.to_texts().1)?;
                let mut event =
                    NewEvent::new(name, json.into()).map_err(|error| error.to_string())?;
                event.source = self.plugin.clone();
                event.of_plugin = true;
                self.router.accept(event, parent)
            }
        }
    }
}

impl Keeper for HostSide {
    fn drop_later(self: Arc<Self>, value: Value) {
        let router = self.router.clone();
        router.spawn_detached(async move {
            drop(value);
            drop(self);
        });
    }
}

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

fn report(gathered: Gathered) -> ReportHandle {
    ReportHandle::new(PluginReport::from(gathered))
}

/// The only handler's reply, if it may go without its library.
fn reply(mut gathered: Gathered) -> ReplyEnd {
    if gathered.ended.len() == 1 {
        match gathered.ended.pop() {
            Some(Ended::Replied(Reply::Loose(value))) => return ReplyEnd::Value(value),
            Some(Ended::Replied(Reply::Bytes(bytes))) => return ReplyEnd::Bytes(bytes),
            other => gathered.ended.extend(other),
        }
    }
    ReplyEnd::Report(report(gathered))
}

fn new_gate(router: &Router, limits: &HostSideLimits) -> Arc<Gate> {
    Gate::new(limits.held_events, router.budget.limited(limits.held_bytes))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Subscriptions {
    next: u64,
    attached: bool,
    live: Weak<LiveInstance>,
    /// Made before the instance was there.
    early: Vec<Subscription>,
    infos: HashMap<u64, Arc<HandlerInfo>>,
}

struct Subscription {
    number: u64,
    pattern: Pattern,
    handler: u64,
    options: SubscribeOptions,
}

impl HostApi for HostSide {
    type Event = Event;
    type Route = Resolved;
    type Emitting = Map<Gathering, fn(Gathered) -> ReportHandle>;
    type Requesting = Map<Gathering, fn(Gathered) -> ReplyEnd>;

    fn resolve(self: &Arc<Self>, name: &str) -> Result<Resolved, String> {
        let resolved = self.router.resolve(name, &self.plugin, self.clone());
        resolved.map_err(|error| error.to_string())
    }

    fn emit(
        self: &Arc<Self>,
        parent: Option<&Counted<Event>>,
        to: To<'_, Resolved>,
        content: Content,
        cx: &mut Context<'_>,
    ) -> Start<ReportHandle, Self::Emitting> {
        match self.accept(parent, &to, content) {
            Err(reason) => Start::Ready(report(Gathered::refused(reason))),
            Ok(event) => match self.router.begin(event, None, &how(&ReplyForm::Any, &to), cx) {
                Begun::One(entry, ended) => {
                    self.router.note(name_of(&to), &entry.info, &ended);
                    Start::Ready(report(Gathered::one(entry, ended)))
                }
                Begun::Done(gathered) => Start::Ready(report(gathered)),
                Begun::GoesOn(gathering) => Start::Pending(gathering.map(report as fn(_) -> _)),
            },
        }
    }

    fn request(
        self: &Arc<Self>,
        parent: Option<&Counted<Event>>,
        to: To<'_, Resolved>,
        content: Content,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Start<ReplyEnd, Self::Requesting> {
        match self.accept(parent, &to, content) {
            Err(reason) => Start::Ready(ReplyEnd::Report(report(Gathered::refused(reason)))),
            Ok(event) => match self.router.begin(event, None, &how(form, &to), cx) {
                Begun::One(_, Ended::Replied(Reply::Loose(value))) => {
                    Start::Ready(ReplyEnd::Value(value))
                }
                Begun::One(_, Ended::Replied(Reply::Bytes(bytes))) => {
                    Start::Ready(ReplyEnd::Bytes(bytes))
                }
                Begun::One(entry, ended) => {
                    self.router.note(name_of(&to), &entry.info, &ended);
                    Start::Ready(ReplyEnd::Report(report(Gathered::one(entry, ended))))
                }
                Begun::Done(gathered) => Start::Ready(reply(gathered)),
                Begun::GoesOn(gathering) => Start::Pending(gathering.map(reply as fn(_) -> _)),
            },
        }
    }

    fn send(
        self: &Arc<Self>,
        parent: Option<&Counted<Event>>,
        to: To<'_, Resolved>,
        content: Content,
    ) -> Result<(), String> {
        let name = name_of(&to);
        // What a value keeps beside itself is memory of its plugin's own, and how much that is nobody knows.
        let bytes = match &content {
            Content::Bytes(json) => json.len(),
            Content::Value(_) => 0,
        };
        let accept = || self.accept(parent, &to, content);
        self.router.send_once_accepted(name, bytes, accept).map_err(|error| error.to_string())
    }

    fn wait_for(
        self: &Arc<Self>,
        pattern: &str,
        timeout: Duration,
    ) -> impl Future<Output = WaitEnd> + Send + 'static {
        let waiting = Pattern::parse(pattern)
            .map(|pattern| (self.router.watch(&[pattern], 1), timer(&self.router, timeout)));
        async move {
            let (mut watch, timer) = match waiting {
                Ok(waiting) => waiting,
                Err(error) => return WaitEnd::Refused(Buffer::from(&*error.to_string())),
            };
            tokio::select! {
                biased;
                seen = watch.next() => match seen {
                    Some(Watched::Event(event)) => WaitEnd::Event(EventHandle::new(event)),
                    Some(Watched::Missed(_)) | None => WaitEnd::Refused("the watch ended".into()),
                },
                () = timer => WaitEnd::TimedOut,
            }
        }
    }

    fn subscribe(
        self: &Arc<Self>,
        pattern: &str,
        handler: u64,
        options: SubscribeOptions,
    ) -> Result<u64, String> {
        let pattern = Pattern::parse(pattern).map_err(|error| error.to_string())?;
        let mut subscriptions = lock(&self.subscriptions);
        let (held, limit) =
            (subscriptions.infos.len() + subscriptions.early.len(), self.limits.subscriptions);
        if held >= limit {
            return Err(format!(
                "{} has {held} subscriptions made at run time, and {limit} are allowed (limits.subscriptions)",
                self.plugin
            ));
        }
        subscriptions.next += 1;
        let number = subscriptions.next;
        let new = Subscription { number, pattern, handler, options };
        if !subscriptions.attached {
            subscriptions.early.push(new);
        } else if let Some(live) = subscriptions.live.upgrade() {
            let (owner, routes) = self.route(&mut subscriptions, &live, new);
            self.router.change(|table| table.with(owner, routes));
        } else {
            return Err(format!("{} is being retired and cannot subscribe any more", self.plugin));
        }
        Ok(number)
    }

    fn unsubscribe(&self, number: u64) -> bool {
        let mut subscriptions = lock(&self.subscriptions);
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

    fn sleep(self: &Arc<Self>, duration: Duration) -> impl Future<Output = u8> + Send + 'static {
        let timer = timer(&self.router, duration);
        async move {
            timer.await;
            0
        }
    }

    fn spawn(self: &Arc<Self>, future: BoundaryFuture<u8>) -> Result<u64, String> {
        let (number, task) = self.tasks.add(future).map_err(|refusal| match refusal {
            Refusal::Closed => {
                format!("{} is being retired and cannot start tasks any more", self.plugin)
            }
            Refusal::Full(limit) => format!(
                "{} runs {limit} background tasks, and no more are allowed (limits.background_tasks)",
                self.plugin
            ),
        })?;
        let host = self.clone();
        self.router.spawn_detached(async move {
            if let Err(message) = task.await {
                let message = message.to_text();
                tracing::error!(plugin = %host.plugin, "a background task panicked: {message}");
            }
            host.tasks.remove(number);
        });
        Ok(number)
    }

    fn cancel(&self, number: u64) {
        if let Some(task) = self.tasks.remove(number) {
            self.router.spawn_detached(async move { task.drop_future() });
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn max_level(&self) -> u8 {
        log::max_level()
    }

    fn log(&self, record: &LogRecord<'_>) {
        log::line(&self.plugin, record);
    }

    fn span(&self, record: &SpanRecord<'_>) -> u64 {
        self.spans.open(&self.plugin, record)
    }

    fn span_step(&self, number: u64, step: SpanStep) {
        self.spans.step(number, step);
    }

    fn adopt_waker(self: &Arc<Self>, waker: Waker) -> Waker {
        waker::adopt(waker, self.clone(), self.router.clone())
    }

    fn file(&self) -> Option<Vec<u8>> {
        Some(self.file.as_os_str().as_bytes().to_vec())
    }

    fn listener(&self, address: &str) -> Result<OwnedFd, String> {
        self.resources.listener(address)
    }

    fn keep(&self, name: &str, descriptor: OwnedFd) -> Result<(), String> {
        self.resources.keep(name, descriptor)
    }

    fn kept(&self, name: &str) -> Result<Option<OwnedFd>, String> {
        self.resources.kept(name)
    }

    fn stop_keeping(&self, name: &str) -> bool {
        self.resources.stop_keeping(name)
    }
}

fn timer(router: &Router, duration: Duration) -> tokio::time::Sleep {
    // A timer belongs to the host's runtime, whoever polls it.
    let _inside = router.runtime().enter();
    tokio::time::sleep(duration)
}
