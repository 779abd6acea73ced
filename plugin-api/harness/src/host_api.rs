//! What the plugin under test may ask of its host.

#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use ksi_abi::{
    BoundaryFuture, Content, Counted, EmitOptions, EventHandle, HostApi, Pattern, Refusal,
    RefusalCode, ReplyEnd, ReplyForm, ReportHandle, Start, SubscribeOptions, To,
    host::{WaitEnd, WatchStep},
};

use super::{
    clock::Purpose,
    emission::Emission,
    event::{HarnessEvent, Outcomes},
    routes::{DEFAULT_TIMEOUT, Handler, Route, Target},
    tasks::lock,
    watch::HarnessWatch,
    world::{Waiting, World},
};

/// Bounds as in a host: of background tasks, of run-time subscriptions, and of sent events that are
/// not handled yet.
const MAX_TASKS: usize = 1_024;
pub(super) const MAX_SUBSCRIPTIONS: usize = 1_024;
const MAX_QUEUED: usize = 1_024;

// The plugin is no library of its own here: its `tracing` is the test's.
impl HostApi for World {
    type Event = HarnessEvent;
    /// The name itself: there is nothing to be saved here.
    type Route = String;
    type Emitting = Pin<Box<dyn Future<Output = ReportHandle> + Send>>;
    type Requesting = Pin<Box<dyn Future<Output = ReplyEnd> + Send>>;
    type Watch = HarnessWatch;

    fn resolve(self: &Arc<Self>, name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    fn emit(
        self: &Arc<Self>,
        parent: Option<&Counted<HarnessEvent>>,
        to: To<'_, String>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        cx: &mut Context<'_>,
    ) -> Start<ReportHandle, Self::Emitting> {
        let accepted = self.accept_content(parent, to, content, options);
        let world = self.clone();
        let mut outcomes: Self::Emitting = Box::pin(async move {
            let outcomes = match accepted {
                Ok(event) => {
                    let emission = GivenUp(world.dispatch(&event));
                    emission.0.outcomes().await
                }
                Err(refusal) => Outcomes::refused(refusal),
            };
            ReportHandle::new(outcomes)
        });
        match outcomes.as_mut().poll(cx) {
            Poll::Ready(report) => Start::Ready(report),
            Poll::Pending => Start::Pending(outcomes),
        }
    }

    fn request(
        self: &Arc<Self>,
        parent: Option<&Counted<HarnessEvent>>,
        to: To<'_, String>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        _: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Start<ReplyEnd, Self::Requesting> {
        match self.emit(parent, to, content, options, cx) {
            Start::Ready(report) => Start::Ready(ReplyEnd::Report(report)),
            Start::Pending(report) => {
                Start::Pending(Box::pin(async move { ReplyEnd::Report(report.await) }))
            }
        }
    }

    fn send(
        self: &Arc<Self>,
        parent: Option<&Counted<HarnessEvent>>,
        to: To<'_, String>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<(), Refusal> {
        if lock(&self.state).queued >= MAX_QUEUED {
            let name = name_of(&to);
            return Err(Refusal::new(
                RefusalCode::QUEUE_FULL,
                format_args!(
                    "{name} is not accepted: {MAX_QUEUED} sent events are not handled yet; send fewer, or use emit"
                ),
            ));
        }
        let event = self.accept_content(parent, to, content, options)?;
        lock(&self.state).queued += 1;
        let emission = self.dispatch(&event);
        let world = self.clone();
        self.tasks.spawn(async move {
            emission.outcomes().await;
            lock(&world.state).queued -= 1;
        });
        Ok(())
    }

    fn wait_for(
        self: &Arc<Self>,
        pattern: &str,
        timeout: Duration,
    ) -> impl Future<Output = WaitEnd> + Send + 'static {
        let waiting = Pattern::parse(pattern).map(|pattern| Listener::new(self, pattern));
        let mut alarm = Box::pin(self.clock.alarm(timeout, Purpose::Plugin));
        async move {
            let listener = match waiting {
                Ok(listener) => listener,
                Err(error) => {
                    return WaitEnd::Refused(Refusal::new(RefusalCode::INVALID_PATTERN, error));
                }
            };
            poll_fn(|cx| {
                if let Some(event) = listener.found(cx.waker()) {
                    return Poll::Ready(WaitEnd::Event(EventHandle::new(event)));
                }
                alarm.as_mut().poll(cx).map(|()| WaitEnd::TimedOut)
            })
            .await
        }
    }

    fn watch(
        self: &Arc<Self>,
        patterns: &[&str],
        capacity: usize,
    ) -> Result<HarnessWatch, Refusal> {
        HarnessWatch::new(self, patterns, capacity)
    }

    fn next(watch: &Arc<HarnessWatch>) -> impl Future<Output = WatchStep> + Send + 'static {
        watch.next()
    }

    fn subscribe(
        self: &Arc<Self>,
        pattern: &str,
        handler: u64,
        options: &SubscribeOptions<'_>,
    ) -> Result<u64, Refusal> {
        let pattern = Pattern::parse(pattern)
            .map_err(|error| Refusal::new(RefusalCode::INVALID_PATTERN, error))?;
        options.check()?;
        let mut state = lock(&self.state);
        if state.retired {
            return Err(Refusal::new(RefusalCode::RETIRING, "the plugin was shut down"));
        }
        if state.subscriptions() >= MAX_SUBSCRIPTIONS {
            let text = format_args!("the plugin has {MAX_SUBSCRIPTIONS} subscriptions already");
            return Err(Refusal::new(RefusalCode::TOO_MANY_SUBSCRIPTIONS, text));
        }
        // Numbers of subscriptions are above those of declared handlers, and so they come after
        // them.
        let number = FIRST_SUBSCRIPTION + state.number();
        let handler = Arc::new(Handler {
            plugin: self.plugin,
            name: SUBSCRIBED.to_owned(),
            timeout: options.timeout().unwrap_or(DEFAULT_TIMEOUT),
            target: Target::Plugin(handler),
        });
        state.routes.push(Route { number, pattern, priority: options.priority, handler });
        Ok(number)
    }

    fn unsubscribe(&self, subscription: u64) -> bool {
        let mut state = lock(&self.state);
        let before = state.routes.len();
        state
            .routes
            .retain(|route| route.number != subscription || route.handler.name != SUBSCRIBED);
        state.routes.len() < before
    }

    fn sleep(self: &Arc<Self>, duration: Duration) -> impl Future<Output = u8> + Send + 'static {
        let alarm = self.clock.alarm(duration, Purpose::Plugin);
        async move {
            alarm.await;
            0
        }
    }

    fn spawn(self: &Arc<Self>, future: BoundaryFuture<u8>) -> Result<u64, Refusal> {
        let mut state = lock(&self.state);
        if state.retired {
            return Err(Refusal::new(RefusalCode::RETIRING, "the plugin was shut down"));
        }
        if state.background.len() >= MAX_TASKS {
            let text = format_args!("the plugin has {MAX_TASKS} background tasks already");
            return Err(Refusal::new(RefusalCode::TOO_MANY_TASKS, text));
        }
        let number = state.number();
        if self.trial {
            // It never runs. Dropped without the lock, because that runs code of the plugin.
            drop(state);
            drop(future);
            return Ok(number);
        }
        let world = Arc::downgrade(self);
        let task = self.tasks.spawn(async move {
            let end = future.await;
            let Some(world) = Weak::upgrade(&world) else { return };
            let mut state = lock(&world.state);
            state.background_panics.extend(end.err().map(|panic| panic.to_text()));
            let ended = state.background.remove(&number);
            drop(state);
            drop(ended);
        });
        state.background.insert(number, task);
        Ok(number)
    }

    fn cancel(&self, task: u64) {
        let task = lock(&self.state).background.remove(&task);
        if let Some(task) = task {
            task.cancel();
        }
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn adopt_waker(self: &Arc<Self>, waker: Waker) -> Waker {
        waker
    }

    fn is_trial(&self) -> bool {
        self.trial
    }

    fn file(&self) -> Option<Vec<u8>> {
        let file = self.file.as_ref()?;
        Some(file.as_os_str().as_encoded_bytes().to_vec())
    }

    #[cfg(unix)]
    fn listener(&self, address: &str) -> Result<OwnedFd, Refusal> {
        self.listener_at(address)
    }

    #[cfg(unix)]
    fn keep(&self, name: &str, descriptor: OwnedFd) -> Result<(), Refusal> {
        self.keep_by(name, descriptor);
        Ok(())
    }

    #[cfg(unix)]
    fn kept(&self, name: &str) -> Result<Option<OwnedFd>, Refusal> {
        self.kept_by(name)
    }

    #[cfg(unix)]
    fn stop_keeping(&self, name: &str) -> bool {
        lock(&self.state).kept.remove(name).is_some()
    }
}

impl World {
    /// Accepts what the plugin emits. A value becomes JSON here, as it would for a handler of
    /// another build.
    fn accept_content(
        &self,
        parent: Option<&Counted<HarnessEvent>>,
        to: To<'_, String>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<Counted<HarnessEvent>, Refusal> {
        let payload = content
            .into_bytes()
            .map_err(|failure| Refusal::new(RefusalCode::NOT_ENCODABLE, failure.to_texts().1))?;
        self.accept(self.plugin, parent.cloned(), name_of(&to), payload, options)
    }
}

fn name_of<'a>(to: &To<'a, String>) -> &'a str {
    match to {
        To::Route(name) => name,
        To::Name(name) => name,
    }
}

/// The name of a handler that was subscribed at run time.
pub(super) const SUBSCRIBED: &str = "subscribe";
const FIRST_SUBSCRIPTION: u64 = 1 << 32;

/// Ends the calls of an event whose emitter stops waiting.
struct GivenUp(Arc<Emission>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        if self.0.finished().is_none() {
            self.0.reject("its emitter gave it up");
        }
    }
}

/// An entry among those who wait for an event.
struct Listener {
    world: Arc<World>,
    number: u64,
}

impl Listener {
    fn new(world: &Arc<World>, pattern: Pattern) -> Self {
        let mut state = lock(&world.state);
        let number = state.number();
        state.waiting.insert(number, Waiting { pattern, found: None, waker: None });
        Listener { world: world.clone(), number }
    }

    fn found(&self, waker: &Waker) -> Option<Counted<HarnessEvent>> {
        let mut state = lock(&self.world.state);
        let waiting = state.waiting.get_mut(&self.number)?;
        let found = waiting.found.take();
        let before = waiting.waker.replace(waker.clone());
        drop(state);
        drop(before);
        found
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let waiting = lock(&self.world.state).waiting.remove(&self.number);
        drop(waiting);
    }
}
