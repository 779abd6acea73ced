//! Events that the plugin looks on at, and its subscriptions.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Weak},
};

use ksi_abi::{EventHandle, Pattern, Refusal, RefusalCode, SubscribeOptions, host::WatchStep};
use ksi_kernel::lock::Lock;
use ksi_worker_protocol::{FromWorker, Subscribe, TextsBuf, Watch};
use tokio::sync::Notify;

use super::{
    event::{EventData, WorkerEvent},
    host::WorkerHost,
    job::WatchNext,
};

/// Patterns that one watch may have.
const PATTERNS: usize = 64;

#[derive(Default)]
pub(super) struct WorkerWatches(Lock<WatchTable>);

#[derive(Default)]
struct WatchTable {
    watches: HashMap<u64, Weak<Queue>>,
    subscriptions: HashSet<u64>,
    closed: bool,
}

/// What one watch has to show.
struct Queue {
    state: Lock<Shown>,
    more: Notify,
}

struct Shown {
    events: VecDeque<EventData>,
    /// How many there may be, and of how many bytes.
    capacity: usize,
    bytes: u64,
    most_bytes: u64,
    missed: u64,
    ended: bool,
}

/// A watch of the plugin. Dropping it ends it.
pub(super) struct WorkerWatch {
    number: u64,
    queue: Arc<Queue>,
    host: Arc<WorkerHost>,
}

impl Drop for WorkerWatch {
    fn drop(&mut self) {
        if self.host.watches.0.lock().watches.remove(&self.number).is_some() {
            self.host.put(FromWorker::Unwatch, self.number);
        }
    }
}

impl WorkerWatches {
    /// What the host has for a watch.
    pub(super) fn show(&self, id: u64, step: WatchNext) {
        let queue = self.0.lock().watches.get(&id).and_then(Weak::upgrade);
        if let Some(queue) = queue {
            queue.add(step);
        }
    }

    /// The host refuses this watch or subscription; whether there was one.
    pub(super) fn refused(&self, id: u64) -> bool {
        let (queue, subscribed) = {
            let mut table = self.0.lock();
            (table.watches.get(&id).and_then(Weak::upgrade), table.subscriptions.remove(&id))
        };
        if let Some(queue) = &queue {
            queue.add(WatchNext::Ended);
        }
        queue.is_some() || subscribed
    }

    /// Ends all watches, and takes nothing more.
    pub(super) fn close(&self) {
        let all: Vec<_> = {
            let mut table = self.0.lock();
            table.closed = true;
            table.subscriptions.clear();
            table.watches.values().filter_map(Weak::upgrade).collect()
        };
        all.iter().for_each(|queue| queue.add(WatchNext::Ended));
    }
}

impl Queue {
    fn add(&self, step: WatchNext) {
        let mut waiting = self.state.lock();
        match step {
            WatchNext::Event(event) => {
                let bytes = event.bytes();
                // One may always wait.
                let fits = waiting.events.len() < waiting.capacity.max(1)
                    && (waiting.events.is_empty() || waiting.bytes + bytes <= waiting.most_bytes);
                if waiting.missed > 0 || !fits {
                    waiting.missed += 1;
                } else if !waiting.ended {
                    waiting.bytes += bytes;
                    waiting.events.push_back(event);
                }
            }
            WatchNext::Missed(count) => waiting.missed += count,
            WatchNext::Ended => waiting.ended = true,
        }
        drop(waiting);
        self.more.notify_one();
    }

    fn take(&self) -> Option<WatchStep> {
        let mut waiting = self.state.lock();
        if let Some(event) = waiting.events.pop_front() {
            waiting.bytes -= event.bytes();
            drop(waiting);
            let event = WorkerEvent::counted(Arc::new(event));
            return Some(WatchStep::Event(EventHandle::new(event)));
        }
        match waiting.missed {
            0 => waiting.ended.then_some(WatchStep::Ended),
            missed => Some(WatchStep::Missed(missed)),
        }
    }
}

impl WorkerWatch {
    /// What it shows next. Whoever drops this has taken nothing.
    pub(super) async fn next(this: Arc<Self>) -> WatchStep {
        loop {
            let more = this.queue.more.notified();
            if let Some(step) = this.queue.take() {
                return step;
            }
            more.await;
        }
    }
}

impl WorkerHost {
    /// Whether one subscription or watch more is allowed.
    fn one_more(&self, table: &WatchTable, verb: &str, code: RefusalCode) -> Result<(), Refusal> {
        let (plugin, limit) = (&self.plugin, self.limits.subscriptions);
        let held = table.watches.len() + table.subscriptions.len();
        if table.closed {
            let text = format_args!("{plugin} is being retired and cannot {verb} any more");
            return Err(Refusal::new(RefusalCode::RETIRING, text));
        }
        if held as u64 >= limit {
            let text = format_args!(
                "{plugin} has {held} subscriptions and watches made at run time, and {limit} are \
                 allowed (limits.subscriptions)"
            );
            return Err(Refusal::new(code, text));
        }
        Ok(())
    }

    pub(super) fn start_watch(
        self: &Arc<Self>,
        patterns: &[&str],
        capacity: usize,
    ) -> Result<WorkerWatch, Refusal> {
        if patterns.is_empty() || patterns.len() > PATTERNS {
            let text = format_args!(
                "a watch has from 1 to {PATTERNS} patterns, and {} were given",
                patterns.len()
            );
            return Err(Refusal::new(RefusalCode::INVALID_PATTERN, text));
        }
        patterns.iter().try_for_each(|it| parsed(it))?;
        let waiting = Shown {
            events: VecDeque::new(),
            capacity: capacity.min(usize::try_from(self.limits.watch_events).unwrap_or(usize::MAX)),
            bytes: 0,
            most_bytes: self.limits.watch_bytes,
            missed: 0,
            ended: false,
        };
        let queue = Arc::new(Queue { state: Lock::new(waiting), more: Notify::new() });
        let number = self.number();
        {
            let mut table = self.watches.0.lock();
            self.one_more(&table, "watch", RefusalCode::TOO_MANY_WATCHES)?;
            table.watches.insert(number, Arc::downgrade(&queue));
        }
        let watch = WorkerWatch { number, queue, host: self.clone() };
        let patterns: TextsBuf = patterns.iter().copied().collect();
        let (capacity, patterns) = (capacity as u64, patterns.texts());
        self.try_put(FromWorker::Watch(Watch { capacity, patterns }), number)
            .map_err(|error| Refusal::new(RefusalCode::TOO_LARGE, error))?;
        Ok(watch)
    }

    pub(super) fn start_subscription(
        &self,
        pattern: &str,
        handler: u64,
        options: &SubscribeOptions<'_>,
    ) -> Result<u64, Refusal> {
        parsed(pattern)?;
        options.check()?;
        let number = self.number();
        {
            let mut table = self.watches.0.lock();
            self.one_more(&table, "subscribe", RefusalCode::TOO_MANY_SUBSCRIPTIONS)?;
            table.subscriptions.insert(number);
        }
        let (priority, timeout, blocking) = (options.priority, options.timeout, options.blocking);
        let subscribe = Subscribe { handler, priority, timeout, blocking, pattern };
        self.try_put(FromWorker::Subscribe(subscribe), number)
            .map_err(|error| Refusal::new(RefusalCode::TOO_LARGE, error))?;
        Ok(number)
    }

    pub(super) fn end_subscription(&self, number: u64) -> bool {
        let there = self.watches.0.lock().subscriptions.remove(&number);
        if there {
            self.put(FromWorker::Unsubscribe, number);
        }
        there
    }
}

fn parsed(pattern: &str) -> Result<(), Refusal> {
    let pattern = Pattern::parse(pattern);
    pattern.map(drop).map_err(|error| Refusal::new(RefusalCode::INVALID_PATTERN, error))
}
