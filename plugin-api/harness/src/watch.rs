//! What the plugin under test looks on at.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use ksi_abi::{Counted, EventHandle, Pattern, Refusal, RefusalCode, host::WatchStep};

use super::{event::HarnessEvent, host_api::MAX_SUBSCRIPTIONS, tasks::lock, world::World};

/// As in a host.
const PATTERNS: usize = 64;

/// A watch of the plugin. Dropping it ends it.
pub(super) struct HarnessWatch {
    world: Arc<World>,
    number: u64,
}

/// What waits for its reader.
pub(super) struct Watching {
    patterns: Vec<Pattern>,
    capacity: usize,
    waiting: VecDeque<Counted<HarnessEvent>>,
    closed: bool,
    missed: u64,
    waker: Option<Waker>,
}

impl Watching {
    /// Shows an event; whom to wake.
    pub(super) fn show(&mut self, event: &Counted<HarnessEvent>) -> Option<Waker> {
        if !self.patterns.iter().any(|pattern| pattern.matches(&event.name)) {
            return None;
        }
        if self.closed || self.waiting.len() >= self.capacity {
            self.missed += 1;
            return self.close();
        }
        self.waiting.push_back(event.clone());
        self.waker.take()
    }

    /// Adds nothing any more; whom to wake.
    pub(super) fn close(&mut self) -> Option<Waker> {
        self.closed = true;
        self.waker.take()
    }
}

impl HarnessWatch {
    pub(super) fn new(
        world: &Arc<World>,
        patterns: &[&str],
        capacity: usize,
    ) -> Result<Self, Refusal> {
        let refused = |code, text| Err(Refusal::new(code, text));
        if patterns.is_empty() || patterns.len() > PATTERNS {
            let text = format!(
                "a watch has from 1 to {PATTERNS} patterns, and {} were given",
                patterns.len()
            );
            return refused(RefusalCode::INVALID_PATTERN, text);
        }
        let parsed: Result<Vec<Pattern>, _> =
            patterns.iter().map(|it| Pattern::parse(it)).collect();
        let patterns = parsed.map_err(|error| Refusal::new(RefusalCode::INVALID_PATTERN, error))?;
        let mut state = lock(&world.state);
        if state.retired {
            return refused(RefusalCode::RETIRING, "the plugin was shut down".to_owned());
        }
        if state.subscriptions() >= MAX_SUBSCRIPTIONS {
            let text =
                format!("the plugin has {MAX_SUBSCRIPTIONS} subscriptions and watches already");
            return refused(RefusalCode::TOO_MANY_WATCHES, text);
        }
        let number = state.number();
        let watching = Watching {
            patterns,
            capacity: capacity.max(1),
            waiting: VecDeque::new(),
            closed: false,
            missed: 0,
            waker: None,
        };
        state.watches.insert(number, watching);
        Ok(HarnessWatch { world: world.clone(), number })
    }

    pub(super) fn next(self: &Arc<Self>) -> impl Future<Output = WatchStep> + Send + use<> {
        let this = self.clone();
        poll_fn(move |cx| this.poll(cx))
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<WatchStep> {
        let mut state = lock(&self.world.state);
        let Some(watching) = state.watches.get_mut(&self.number) else {
            return Poll::Ready(WatchStep::Ended);
        };
        if let Some(event) = watching.waiting.pop_front() {
            return Poll::Ready(WatchStep::Event(EventHandle::new(event)));
        }
        if watching.closed {
            return Poll::Ready(match watching.missed {
                0 => WatchStep::Ended,
                missed => WatchStep::Missed(missed),
            });
        }
        let before = watching.waker.replace(cx.waker().clone());
        // Dropping a waker may drop a task, and that runs code of the plugin.
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for HarnessWatch {
    fn drop(&mut self) {
        let watching = lock(&self.world.state).watches.remove(&self.number);
        drop(watching);
    }
}
