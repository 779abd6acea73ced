//! The host as one generation of a plugin sees it.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use ksi_plugin_api::{
    Pattern,
    abi::{
        BoundaryFuture, Buffer, EventHandle, HostApi, LogRecord, ReportHandle, SpanRecord,
        SubscribeOptions,
        host::{SpanStep, WaitEnd},
    },
};
use tracing::{Level, level_filters::LevelFilter};

use super::generation::LiveInstance;
use crate::{
    dispatch::{
        call::{Cancel, HandlerInfo},
        workers::with_slot,
    },
    event::{Event, NewEvent},
    report::{PluginReport, Report},
    router::{
        Router,
        emit::NewTarget,
        table::{Owner, Route},
        taps::Watched,
    },
};

/// How many spans of one plugin may be open at a time. Further ones are not followed.
const OPEN_SPANS: usize = 4_096;

/// Bounds of what one plugin may have at a time.
#[derive(Debug, Clone)]
pub(crate) struct HostSideLimits {
    pub(crate) background_tasks: usize,
    pub(crate) subscriptions: usize,
}

/// The host, for one generation. Each reference that the plugin holds to it, and each waker of the plugin that the
/// host keeps, counts: while there is one, the library must stay.
pub(crate) struct HostSide {
    plugin: Arc<str>,
    generation: u64,
    router: Arc<Router>,
    limits: HostSideLimits,
    epoch: Instant,
    cancel: Arc<Cancel>,
    tasks: Mutex<Tasks>,
    subscriptions: Mutex<Subscriptions>,
    spans: Mutex<Spans>,
}

impl HostSide {
    pub(crate) fn new(
        plugin: Arc<str>,
        generation: u64,
        router: Arc<Router>,
        limits: HostSideLimits,
        epoch: Instant,
    ) -> Arc<Self> {
        Arc::new(HostSide {
            plugin,
            generation,
            router,
            limits,
            epoch,
            cancel: Arc::default(),
            tasks: Mutex::default(),
            subscriptions: Mutex::default(),
            spans: Mutex::default(),
        })
    }

    /// The instance is there. Returns the routes that it subscribed to while it was initialized, for the swap that is
    /// about to come.
    pub(crate) fn attach(&self, live: &Arc<LiveInstance>) -> Vec<(Owner, Vec<Route>)> {
        let mut subscriptions = lock(&self.subscriptions);
        subscriptions.live = Arc::downgrade(live);
        subscriptions.attached = true;
        let early = std::mem::take(&mut subscriptions.early);
        early.into_iter().map(|early| self.route(&mut subscriptions, live, early)).collect()
    }

    /// What cancels the pending calls of this generation.
    pub(crate) fn cancel_calls(&self) -> &Arc<Cancel> {
        &self.cancel
    }

    /// No subscription is accepted any more, and those that there are go. Called at the swap that replaces this
    /// generation.
    pub(crate) fn detach(&self) {
        let infos = {
            let mut subscriptions = lock(&self.subscriptions);
            subscriptions.live = Weak::new();
            subscriptions.attached = true;
            subscriptions.early.clear();
            std::mem::take(&mut subscriptions.infos)
        };
        for info in infos.values() {
            self.router.forget(info);
        }
    }

    /// Drops all background tasks and refuses further ones. On a dispatch worker.
    pub(crate) fn end_tasks(&self) {
        let tasks = {
            let mut tasks = lock(&self.tasks);
            tasks.closed = true;
            std::mem::take(&mut tasks.running)
        };
        for task in tasks.into_values() {
            task.drop_future();
        }
    }

    /// How many background tasks run.
    pub(crate) fn task_count(&self) -> usize {
        lock(&self.tasks).running.len()
    }

    fn route(
        &self,
        subscriptions: &mut Subscriptions,
        live: &Arc<LiveInstance>,
        new: Subscription,
    ) -> (Owner, Vec<Route>) {
        let Subscription { number, pattern, handler, options } = new;
        let target = self.router.target(NewTarget {
            plugin: self.plugin.clone(),
            handler: format!("subscription {number} ({pattern})").into(),
            callee: live.clone(),
            number: handler,
            timeout: (options.timeout_ms > 0).then(|| Duration::from_millis(options.timeout_ms)),
            blocking: false,
            cancel: self.cancel.clone(),
        });
        subscriptions.infos.insert(number, target.info.clone());
        // Behind the declared handlers.
        let order = (1 << 32) + number;
        (self.owner(number), vec![Route { pattern, priority: options.priority, order, target }])
    }

    fn owner(&self, number: u64) -> Owner {
        Owner::Subscription { plugin: self.plugin.clone(), generation: self.generation, number }
    }

    fn event(&self, name: &str, payload: Buffer) -> Result<NewEvent, String> {
        let mut event = NewEvent::new(name, payload.into()).map_err(|error| error.to_string())?;
        event.source = self.plugin.clone();
        Ok(event)
    }
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

    fn emit(
        self: &Arc<Self>,
        parent: Option<&Arc<Event>>,
        name: &str,
        payload: Buffer,
    ) -> impl Future<Output = ReportHandle> + Send + 'static {
        let event = self.event(name, payload);
        let report = event.map(|event| self.router.emit(event, parent.cloned()));
        async move {
            let report = match report {
                Ok(report) => report.await,
                Err(reason) => Report::refused(reason),
            };
            ReportHandle::new(PluginReport::from(report))
        }
    }

    fn send(
        self: &Arc<Self>,
        parent: Option<&Arc<Event>>,
        name: &str,
        payload: Buffer,
    ) -> Result<(), String> {
        let event = self.event(name, payload)?;
        self.router.send(event, parent.cloned()).map_err(|error| error.to_string())
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
            Some(info) => {
                self.router.change(|table| table.with(self.owner(number), Vec::new()));
                self.router.forget(&info);
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
        let task =
            Arc::new(Background { future: Mutex::new(Some(future)), waker: Mutex::new(None) });
        let number = {
            let mut tasks = lock(&self.tasks);
            let limit = self.limits.background_tasks;
            let refusal = match tasks.closed {
                true => Some(format!(
                    "{} is being retired and cannot start tasks any more",
                    self.plugin
                )),
                false if tasks.running.len() >= limit => Some(format!(
                    "{} runs {limit} background tasks, and no more are allowed (limits.background_tasks)",
                    self.plugin
                )),
                false => None,
            };
            if let Some(refusal) = refusal {
                // The lock goes first: dropping the future runs plugin code, which may spawn.
                drop(tasks);
                task.drop_future();
                return Err(refusal);
            }
            tasks.next += 1;
            let number = tasks.next;
            tasks.running.insert(number, task.clone());
            number
        };
        let host = self.clone();
        self.router.spawn_detached(async move {
            if let Err(message) = (Running { task }).await {
                let message = message.to_text();
                tracing::error!(plugin = %host.plugin, "a background task panicked: {message}");
            }
            lock(&host.tasks).running.remove(&number);
        });
        Ok(number)
    }

    fn cancel(&self, number: u64) {
        let task = lock(&self.tasks).running.remove(&number);
        if let Some(task) = task {
            self.router.spawn_detached(async move { task.drop_future() });
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn max_level(&self) -> u8 {
        match LevelFilter::current() {
            LevelFilter::OFF => 0,
            LevelFilter::ERROR => 1,
            LevelFilter::WARN => 2,
            LevelFilter::INFO => 3,
            LevelFilter::DEBUG => 4,
            _ => 5,
        }
    }

    fn log(&self, record: &LogRecord<'_>) {
        let event = with_slot(|slot| slot.event.load(std::sync::atomic::Ordering::Relaxed));
        let event = event.filter(|&event| event != 0).map(|event| format!("evt_{event:x}"));
        let (plugin, event, at) = (&*self.plugin, event.as_deref(), record.target.as_str());
        let (message, fields) = (record.message.as_str(), record.fields.as_str());
        let space = if fields.is_empty() { "" } else { " " };
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(target: "ksi_plugin", $level, plugin, event, at, "{message}{space}{fields}")
            };
        }
        match record.level {
            1 => line!(Level::ERROR),
            2 => line!(Level::WARN),
            3 => line!(Level::INFO),
            4 => line!(Level::DEBUG),
            _ => line!(Level::TRACE),
        }
    }

    fn span(&self, record: &SpanRecord<'_>) -> u64 {
        let (plugin, name, fields) = (&*self.plugin, record.name.as_str(), record.fields.as_str());
        let at = record.target.as_str();
        macro_rules! open {
            ($level:expr) => {
                tracing::span!(target: "ksi_plugin", $level, "plugin", name, plugin, at, fields)
            };
        }
        let span = match record.level {
            1 => open!(Level::ERROR),
            2 => open!(Level::WARN),
            3 => open!(Level::INFO),
            4 => open!(Level::DEBUG),
            _ => open!(Level::TRACE),
        };
        let mut spans = lock(&self.spans);
        if span.is_disabled() || spans.open.len() >= OPEN_SPANS {
            return 0;
        }
        spans.next += 1;
        let number = spans.next;
        spans.open.insert(number, OpenSpan { span, references: 1 });
        number
    }

    fn span_step(&self, number: u64, step: SpanStep) {
        let mut spans = lock(&self.spans);
        let Entry::Occupied(mut entry) = spans.open.entry(number) else { return };
        let span = entry.get().span.clone();
        let ended = match step {
            SpanStep::Enter | SpanStep::Exit => None,
            SpanStep::Clone => {
                entry.get_mut().references += 1;
                None
            }
            SpanStep::Close => {
                entry.get_mut().references -= 1;
                (entry.get().references == 0).then(|| entry.remove())
            }
        };
        // The subscriber is foreign code: it runs, and the span is closed, without the lock.
        drop(spans);
        span.with_subscriber(|(id, subscriber)| match step {
            SpanStep::Enter => subscriber.enter(id),
            SpanStep::Exit => subscriber.exit(id),
            SpanStep::Clone | SpanStep::Close => {}
        });
        drop(ended);
    }

    fn adopt_waker(self: &Arc<Self>, waker: Waker) -> Waker {
        let inner = Mutex::new(Some((waker, self.clone())));
        Waker::from(Arc::new(AdoptedWaker(inner)))
    }
}

fn timer(router: &Router, duration: Duration) -> tokio::time::Sleep {
    // A timer belongs to the host's runtime, whoever polls it.
    let _inside = router.site.runtime.enter();
    tokio::time::sleep(duration)
}

#[derive(Default)]
struct Tasks {
    next: u64,
    closed: bool,
    running: HashMap<u64, Arc<Background>>,
}

/// A background task. Its future is owned here alone, so that it can be dropped on a worker whoever holds the task.
struct Background {
    future: Mutex<Option<BoundaryFuture<u8>>>,
    waker: Mutex<Option<Waker>>,
}

impl Background {
    /// Drops the future, after its present poll if there is one. On a dispatch worker.
    fn drop_future(&self) {
        let future = lock(&self.future).take();
        drop(future);
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
    }
}

struct Running {
    task: Arc<Background>,
}

impl Future for Running {
    type Output = Result<(), Buffer>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        *lock(&self.task.waker) = Some(cx.waker().clone());
        let mut future = lock(&self.task.future);
        let Some(running) = future.as_mut() else { return Poll::Ready(Ok(())) };
        let polled = Pin::new(running).poll(cx);
        if polled.is_ready() {
            let ended = future.take();
            drop(future);
            drop(ended);
        }
        polled.map(|result| result.map(drop))
    }
}

/// A waker whose code lies in a plugin. A timer or channel of the host may keep it for any time and wake it on any
/// thread; so it holds the library through the host's side, and is woken and dropped on the dispatch workers.
struct AdoptedWaker(Mutex<Option<(Waker, Arc<HostSide>)>>);

impl AdoptedWaker {
    fn finish(&self, how: impl FnOnce(Waker) + Send + 'static) {
        if let Some((waker, host)) = lock(&self.0).take() {
            host.clone().router.spawn_detached(async move {
                how(waker);
                drop(host);
            });
        }
    }
}

impl Wake for AdoptedWaker {
    fn wake(self: Arc<Self>) {
        self.finish(Waker::wake);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.finish(Waker::wake);
    }
}

impl Drop for AdoptedWaker {
    fn drop(&mut self) {
        self.finish(drop);
    }
}

#[derive(Default)]
struct Spans {
    next: u64,
    open: HashMap<u64, OpenSpan>,
}

struct OpenSpan {
    span: tracing::Span,
    references: usize,
}
