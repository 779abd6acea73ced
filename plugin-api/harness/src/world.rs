//! The host of a plugin under test: it routes events as a real one does, on the thread of the test.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, Weak},
    task::{Poll, Waker},
};

use ksi_abi::{
    Buffer, Counted, EmitOptions, Pattern, Refusal, RefusalCode, ReplyForm, Start, local::Local,
    validate_event_name,
};

use super::{
    clock::{Clock, Purpose},
    emission::Emission,
    event::{Attributes, Ended, HarnessEvent, timestamp},
    host_api::SUBSCRIBED,
    routes::{Handler, Route, Target, matching},
    tasks::{Task, Tasks, lock},
    watch::Watching,
};

/// As in a host with its default configuration.
const MAX_DEPTH: u32 = 64;

/// Everything that the host of one plugin knows.
pub(super) struct World {
    pub(super) plugin: &'static str,
    /// The plugin is only tried out, and reaches nobody.
    pub(super) trial: bool,
    /// Where the plugin is said to be.
    pub(super) file: Option<PathBuf>,
    pub(super) tasks: Arc<Tasks>,
    pub(super) clock: Arc<Clock>,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// `None` until it is made, and from its retirement on.
    pub(super) instance: Option<Local<World>>,
    pub(super) retired: bool,
    pub(super) routes: Vec<Route>,
    /// Background tasks of the plugin.
    pub(super) background: BTreeMap<u64, Arc<Task>>,
    pub(super) background_panics: Vec<String>,
    pub(super) waiting: BTreeMap<u64, Waiting>,
    pub(super) watches: BTreeMap<u64, Watching>,
    pub(super) emitted: Vec<Counted<HarnessEvent>>,
    /// Events that were sent and are not handled yet.
    pub(super) queued: usize,
    /// What it has the host keep.
    #[cfg(unix)]
    pub(super) kept: BTreeMap<String, std::os::fd::OwnedFd>,
    /// What the test attaches to the events that it emits.
    pub(super) attributes: Arc<Attributes>,
    emissions: Vec<Weak<Emission>>,
    numbers: u64,
}

impl State {
    /// What the plugin has subscribed to at run time, and watches.
    pub(super) fn subscriptions(&self) -> usize {
        let subscribed = |route: &&Route| route.handler.name == SUBSCRIBED;
        self.routes.iter().filter(subscribed).count() + self.watches.len()
    }

    /// A number that was not given before.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// Somebody who awaits the next event that matches.
pub(super) struct Waiting {
    pub(super) pattern: Pattern,
    pub(super) found: Option<Counted<HarnessEvent>>,
    pub(super) waker: Option<Waker>,
}

impl World {
    pub(super) fn new(plugin: &'static str, trial: bool, file: Option<PathBuf>) -> Arc<Self> {
        Arc::new(World {
            plugin,
            trial,
            file,
            tasks: Arc::default(),
            clock: Arc::default(),
            state: Mutex::default(),
        })
    }

    /// Accepts an event, or says why not. The source is the plugin, or empty for the test.
    pub(super) fn accept(
        &self,
        source: &'static str,
        parent: Option<Counted<HarnessEvent>>,
        name: &str,
        payload: Buffer,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<Counted<HarnessEvent>, Refusal> {
        validate_event_name(name)
            .map_err(|error| Refusal::new(RefusalCode::INVALID_NAME, error))?;
        if self.trial && source == self.plugin {
            let text = format_args!("{name} reaches nobody: the plugin is only tried out");
            return Err(Refusal::new(RefusalCode::TRIAL, text));
        }
        let mut state = lock(&self.state);
        let attributes = match &parent {
            Some(parent) => parent.attributes.clone(),
            None => state.attributes.clone(),
        };
        let event = HarnessEvent {
            name: name.to_owned(),
            payload,
            source,
            depth: parent.as_ref().map_or(0, |parent| parent.depth + 1),
            deadline: parent.as_ref().and_then(|parent| parent.deadline),
            parent,
            id: state.number(),
            attributes,
            timestamp: timestamp(),
        };
        let event = match options {
            Some(options) => event.said(options, self.clock.now())?,
            None => event,
        };
        if event.depth > MAX_DEPTH {
            let text = format_args!(
                "{} is event number {} of a chain of events, and {MAX_DEPTH} are allowed. Is it a loop? {}",
                event.name,
                event.depth.saturating_add(1),
                event.chain()
            );
            return Err(Refusal::new(RefusalCode::TOO_DEEP, text));
        }
        let event = Counted::new(event);
        if source == self.plugin {
            state.emitted.push(event.clone());
        }
        let mut wakers = Vec::new();
        for waiting in state.waiting.values_mut() {
            if waiting.found.is_none() && waiting.pattern.matches(&event.name) {
                waiting.found = Some(event.clone());
                wakers.extend(waiting.waker.take());
            }
        }
        wakers.extend(state.watches.values_mut().filter_map(|watching| watching.show(&event)));
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Ok(event)
    }

    /// Starts the handlers of an accepted event.
    pub(super) fn dispatch(self: &Arc<Self>, event: &Counted<HarnessEvent>) -> Arc<Emission> {
        self.start(event, |state| matching(&state.routes, &event.name))
    }

    /// Starts the handlers that are found, all under one lock, so that a retirement sees either
    /// none of this event or all of it.
    pub(super) fn start(
        self: &Arc<Self>,
        event: &Counted<HarnessEvent>,
        find: impl FnOnce(&State) -> Vec<Arc<Handler>>,
    ) -> Arc<Emission> {
        let mut state = lock(&self.state);
        let instance = state.instance.clone();
        let mut handlers = find(&state);
        // Before it is made, and after it is gone, the plugin handles nothing.
        handlers
            .retain(|handler| instance.is_some() || matches!(handler.target, Target::StandIn(_)));
        let emission = Emission::new(&handlers);
        state.emissions.retain(|emission| emission.strong_count() > 0);
        state.emissions.push(Arc::downgrade(&emission));
        drop(state);
        for (index, handler) in handlers.into_iter().enumerate() {
            let (clock, instance, event) = (self.clock.clone(), instance.clone(), event.clone());
            let gathering = emission.clone();
            let task = self.tasks.spawn(async move {
                gathering.ended(index, call(&clock, instance, &handler, event).await);
            });
            emission.started(index, task);
        }
        emission
    }

    /// From now on the plugin gets no event, and what it still does is given up.
    pub(super) fn retire(&self) {
        let mut state = lock(&self.state);
        state.retired = true;
        state.routes.retain(|route| matches!(route.handler.target, Target::StandIn(_)));
        let background = std::mem::take(&mut state.background);
        let emissions = std::mem::take(&mut state.emissions);
        let wakers: Vec<Waker> = state.watches.values_mut().filter_map(Watching::close).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        for emission in emissions.iter().filter_map(Weak::upgrade) {
            emission.reject("the plugin was shut down");
        }
        background.values().for_each(|task| task.cancel());
    }
}

/// Calls one handler. `instance` is there for every handler of the plugin.
async fn call(
    clock: &Arc<Clock>,
    instance: Option<Local<World>>,
    handler: &Handler,
    event: Counted<HarnessEvent>,
) -> Ended {
    let ended = |end| Ended::of_call(handler.plugin, &handler.name, end);
    let number = match &handler.target {
        Target::Plugin(number) => *number,
        Target::StandIn(closure) => return ended(closure(&event.payload)),
    };
    let Some(instance) = instance else {
        return Ended::rejected(handler.plugin, &handler.name, "the plugin is gone");
    };
    let deadline = event.deadline;
    let started =
        poll_fn(|cx| Poll::Ready(instance.call(number, event.clone(), &ReplyForm::Json, cx)));
    let future = match started.await {
        Start::Pending(future) => future,
        Start::Ready(end) => return ended(end),
    };
    let mut future = pin!(future);
    let left = deadline.map(|deadline| deadline.saturating_sub(clock.now()));
    let timeout = left.map_or(handler.timeout, |left| left.min(handler.timeout));
    let mut alarm = pin!(clock.alarm(timeout, Purpose::HandlerTimeout));
    poll_fn(|cx| {
        if let Poll::Ready(end) = future.as_mut().poll(cx) {
            return Poll::Ready(ended(end));
        }
        alarm.as_mut().poll(cx).map(|()| Ended::timed_out(handler.plugin, &handler.name, timeout))
    })
    .await
}
