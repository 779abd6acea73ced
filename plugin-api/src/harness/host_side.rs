//! What the plugin under test may ask of its host.

use std::{
    future::{Future, poll_fn},
    sync::{Arc, Weak},
    task::{Poll, Waker},
    time::Duration,
};

use super::{
    clock::Purpose,
    emission::Emission,
    event::{HarnessEvent, Outcomes},
    routes::{Handler, Route, Target, timeout},
    tasks::lock,
    world::{Waiting, World},
};
use crate::{
    abi::{
        BoundaryFuture, Buffer, EventHandle, HostApi, LogRecord, ReportHandle, SpanRecord,
        SubscribeOptions,
        host::{SpanStep, WaitEnd},
    },
    name::Pattern,
};

/// Bounds as in a host: of background tasks, of run-time subscriptions, and of sent events that are not handled yet.
const MAX_TASKS: usize = 1_024;
const MAX_SUBSCRIPTIONS: usize = 1_024;
const MAX_QUEUED: usize = 1_024;

impl HostApi for World {
    type Event = HarnessEvent;

    fn emit(
        self: &Arc<Self>,
        parent: Option<&Arc<HarnessEvent>>,
        name: &str,
        payload: Buffer,
    ) -> impl Future<Output = ReportHandle> + Send + 'static {
        let (world, parent, name) = (self.clone(), parent.cloned(), name.to_owned());
        async move {
            let outcomes = match world.accept(world.plugin, parent, &name, payload) {
                Ok(event) => {
                    let emission = GivenUp(world.dispatch(&event));
                    emission.0.outcomes().await
                }
                Err(refusal) => Outcomes::refused(&refusal),
            };
            ReportHandle::new(outcomes)
        }
    }

    fn send(
        self: &Arc<Self>,
        parent: Option<&Arc<HarnessEvent>>,
        name: &str,
        payload: Buffer,
    ) -> Result<(), String> {
        if lock(&self.state).queued >= MAX_QUEUED {
            return Err(format!(
                "{name} is not accepted: {MAX_QUEUED} sent events are not handled yet; send fewer, or use emit"
            ));
        }
        let event = self.accept(self.plugin, parent.cloned(), name, payload)?;
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
                Err(error) => return WaitEnd::Refused(Buffer::from(&*error.to_string())),
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

    fn subscribe(
        self: &Arc<Self>,
        pattern: &str,
        handler: u64,
        options: SubscribeOptions,
    ) -> Result<u64, String> {
        let pattern = Pattern::parse(pattern).map_err(|error| error.to_string())?;
        let mut state = lock(&self.state);
        if state.retired {
            return Err("the plugin was shut down".to_owned());
        }
        let subscribed = |route: &&Route| route.handler.name == SUBSCRIBED;
        if state.routes.iter().filter(subscribed).count() >= MAX_SUBSCRIPTIONS {
            return Err(format!("the plugin has {MAX_SUBSCRIPTIONS} subscriptions already"));
        }
        // Numbers of subscriptions are above those of declared handlers, and so they come after them.
        let number = FIRST_SUBSCRIPTION + state.number();
        let handler = Arc::new(Handler {
            plugin: self.plugin,
            name: SUBSCRIBED.to_owned(),
            timeout: timeout(options.timeout_ms),
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

    fn spawn(self: &Arc<Self>, future: BoundaryFuture<u8>) -> Result<u64, String> {
        let mut state = lock(&self.state);
        if state.retired {
            return Err("the plugin was shut down".to_owned());
        }
        if state.background.len() >= MAX_TASKS {
            return Err(format!("the plugin has {MAX_TASKS} background tasks already"));
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

    // The plugin is no library of its own here: its `tracing` is the test's.

    fn max_level(&self) -> u8 {
        0
    }

    fn log(&self, _: &LogRecord<'_>) {}

    fn span(&self, _: &SpanRecord<'_>) -> u64 {
        0
    }

    fn span_step(&self, _: u64, _: SpanStep) {}

    fn adopt_waker(self: &Arc<Self>, waker: Waker) -> Waker {
        waker
    }

    fn is_trial(&self) -> bool {
        self.trial
    }
}

/// The name of a handler that was subscribed at run time.
const SUBSCRIBED: &str = "subscribe";
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

    fn found(&self, waker: &Waker) -> Option<Arc<HarnessEvent>> {
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
