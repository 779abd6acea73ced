//! What is known of calls that have ended, with the names of what they were: for those who look
//! later.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ksi_abi::Pattern;

use super::Router;
use crate::{
    call::{
        HandlerInfo,
        outcome_taps::OutcomeStatus,
        recorder::{
            Cursor, FailureKind, RawCall, Recorded,
            latency::{LatencySummary, LatencyTotals, Merged},
        },
    },
    event::EventId,
    executor::clock,
};

/// A call that has ended; or an event that nobody handled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedCall {
    /// The event.
    pub event: EventId,
    /// The one in whose handler it was emitted.
    pub parent: Option<EventId>,
    /// The first one of the chain.
    pub root: EventId,
    /// The event's name; empty where so many names are in use that this one is not told apart.
    pub name: Arc<str>,
    /// Who emitted it: a plugin; empty for the host.
    pub source: Arc<str>,
    /// The plugin that was called; empty for the host.
    pub plugin: Arc<str>,
    /// Its handler.
    pub handler: Arc<str>,
    /// Of the plugin; 0 for the host.
    pub generation: u64,
    /// How it ended; `None` where nobody handled the event.
    pub outcome: Option<OutcomeStatus>,
    /// When it began. Of one that was not measured, up to 10 ms before that.
    pub begun: SystemTime,
    /// How long its event had waited for that: in a queue, for a thread, or while the plugin was
    /// replaced.
    pub waited: Duration,
    /// How long it took; `None` if it was not measured, because it ended at its first poll and
    /// others like it were measured in its place.
    pub took: Option<Duration>,
    /// Whether [`took`](Self::took) is right to the nanosecond, or to 10 ms.
    pub is_exact: bool,
    /// Nobody waited for it.
    pub is_sent: bool,
    /// Of a failure, as long as that is kept: its code,
    pub code: String,
    /// and what was said.
    pub message: String,
}

/// Which calls are wanted. By default all that are known.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CallQuery {
    /// Of this root event.
    pub root: Option<EventId>,
    /// That did not end well.
    pub failed: bool,
    /// That took at least so long, as far as they were measured.
    pub at_least: Option<Duration>,
    /// That ended since.
    pub since: Option<SystemTime>,
    /// Of events that match.
    pub event: Option<Pattern>,
    /// Of this plugin.
    pub plugin: Option<String>,
    /// Of plugins alone, and events that nobody handled: what the host itself answers is left out.
    pub of_plugins: bool,
    /// No more than the last so many.
    pub most: Option<usize>,
}

/// Calls of a handler that failed with the same code.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecordedFailures {
    /// Of the handler's code; empty for all codes of a handler beyond the 16 that are told apart.
    pub code: String,
    /// How many there were.
    pub count: u64,
    /// And in the last minute, to 5 seconds.
    pub last_minute: u64,
    /// When the first of them ended,
    pub first: SystemTime,
    /// and the last.
    pub last: SystemTime,
    /// The last ones, the newest last. There is one at least.
    pub recent: Vec<RecordedCall>,
}

/// What a handler took since the start, over all its generations.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HandlerTotals {
    /// The plugin; empty for the host.
    pub plugin: Arc<str>,
    /// Its handler.
    pub handler: Arc<str>,
    /// How long its calls took.
    pub latency: LatencyTotals,
    /// Processor time, sampled every few milliseconds; of those in the host's own process.
    pub cpu: Duration,
    /// In so many looks it was seen to run: `cpu` is off by one part in the root of that, more or
    /// less.
    pub cpu_looks: u64,
}

fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

impl Router {
    /// Those that are wanted of the calls that are known, as they began.
    pub fn recorded_calls(&self, query: &CallQuery) -> Vec<RecordedCall> {
        let since = query.since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        let since = since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        let at_least =
            query.at_least.map(|least| u64::try_from(least.as_nanos()).unwrap_or(u64::MAX));
        let mut names = Names::new(self);
        let raw = self.recorder.calls(|call| {
            query.root.is_none_or(|root| root.number() == call.root())
                && (!query.failed || call.outcome().is_some_and(|how| !how.is_ok()))
                && at_least.is_none_or(|least| call.took().is_some_and(|(took, _)| took >= least))
                && call.ended() >= since
        });
        let wanted = raw.into_iter().rev().filter(|call| {
            let of_plugin = query.plugin.as_deref().is_none_or(|plugin| {
                names.handler(call.key()).is_some_and(|handler| *handler.0 == *plugin)
            });
            let is_of_host = query.of_plugins
                && names.handler(call.key()).is_some_and(|handler| handler.0.is_empty());
            of_plugin
                && !is_of_host
                && query.event.as_ref().is_none_or(|pattern| {
                    names.pair(call.pair()).is_some_and(|(_, event)| pattern.matches(&event))
                })
        });
        let most = query.most.unwrap_or(usize::MAX);
        let mut wanted: Vec<RawCall> = wanted.take(most).collect();
        wanted.reverse();
        self.named(&wanted)
    }

    /// The first event of the chain that this one is of, if a call of it is known.
    pub fn recorded_root(&self, event: EventId) -> Option<EventId> {
        let calls = self.recorder.calls(|call| call.event() == event.number());
        calls.first().map(|call| EventId::of_number(call.root()))
    }

    /// Those that ended since; and how many more did, which are not known any more.
    pub fn recorded_since(&self, cursor: &mut Cursor) -> (Vec<RecordedCall>, u64) {
        let (calls, missed) = self.recorder.calls_since(cursor);
        (self.named(&calls), missed)
    }

    /// Where those that end from now on follow.
    pub fn recorded_end(&self, cursor: &mut Cursor) {
        self.recorder.end_of(cursor);
    }

    /// Calls that did not end well, by handler and code; the last seen first.
    pub fn recorded_failures(&self) -> Vec<RecordedFailures> {
        let now = u64::try_from(clock::unix_time().as_nanos()).unwrap_or(u64::MAX);
        let mut names = Names::new(self);
        let kinds = self.recorder.failures().into_iter().map(|kind| {
            let recent = kind.recent.iter();
            let recent = recent.map(|failed| names.failed(&failed.call, &kind, &failed.message));
            RecordedFailures {
                recent: recent.collect(),
                code: kind.code.to_string(),
                count: kind.count,
                last_minute: kind.last_minute(now),
                first: time(kind.first),
                last: time(kind.last),
            }
        });
        let mut kinds: Vec<RecordedFailures> = kinds.collect();
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.last));
        kinds
    }

    /// How much is kept of calls that have ended.
    pub fn recorded(&self) -> Recorded {
        self.recorder.recorded()
    }

    /// How long the calls of handlers took in the last one to two minutes, together for those of
    /// which `of` gives the same; of handlers that are there.
    pub fn latencies<K: Eq + Hash>(
        &self,
        of: impl Fn(&HandlerInfo) -> Option<K>,
    ) -> HashMap<K, LatencySummary> {
        let mut merged: HashMap<K, Merged> = HashMap::new();
        for info in self.all_infos() {
            if let Some(key) = of(&info) {
                merged.entry(key).or_insert_with(Merged::new).add(&info.latency);
            }
        }
        merged.into_iter().map(|(key, merged)| (key, merged.summary())).collect()
    }

    /// What each plugin's handlers took since the start.
    pub fn handler_totals(&self) -> Vec<HandlerTotals> {
        let counts = self.counts.lock();
        let all = counts.iter().map(|((plugin, handler), sums)| {
            let (nanos, cpu_looks) = sums.cpu.now();
            HandlerTotals {
                plugin: plugin.clone(),
                handler: handler.clone(),
                latency: sums.latency.now(),
                cpu: Duration::from_nanos(nanos),
                cpu_looks,
            }
        });
        all.collect()
    }

    fn named(&self, calls: &[RawCall]) -> Vec<RecordedCall> {
        let failed = calls.iter().filter(|call| call.outcome().is_some_and(|how| !how.is_ok()));
        let failed: HashSet<_> = failed.map(RawCall::same).collect();
        let mut said = HashMap::new();
        if !failed.is_empty() {
            for kind in self.recorder.failures() {
                for known in kind.recent.iter().filter(|known| failed.contains(&known.call.same()))
                {
                    let texts = (kind.code.to_string(), known.message.to_string());
                    said.insert(known.call.same(), texts);
                }
            }
        }
        let mut names = Names::new(self);
        let named = calls.iter().map(|call| {
            let (code, message) = said.get(&call.same()).cloned().unwrap_or_default();
            names.call(call, code, message)
        });
        named.collect()
    }
}

type HandlerNames = (Arc<str>, Arc<str>, u64);
type PairNames = (Arc<str>, Arc<str>);

/// The names of what calls are of, each looked up once.
struct Names<'a> {
    router: &'a Router,
    handlers: HashMap<u64, Option<HandlerNames>>,
    pairs: HashMap<u32, Option<PairNames>>,
}

impl<'a> Names<'a> {
    fn new(router: &'a Router) -> Self {
        Names { router, handlers: HashMap::new(), pairs: HashMap::new() }
    }

    fn handler(&mut self, key: u64) -> Option<HandlerNames> {
        let Names { router, handlers, .. } = self;
        handlers.entry(key).or_insert_with(|| router.names_of_handler(key)).clone()
    }

    /// Source and event.
    fn pair(&mut self, number: u32) -> Option<PairNames> {
        let Names { router, pairs, .. } = self;
        pairs.entry(number).or_insert_with(|| router.traffic.names(number)).clone()
    }

    fn failed(&mut self, call: &RawCall, kind: &FailureKind, message: &str) -> RecordedCall {
        self.call(call, kind.code.to_string(), message.to_owned())
    }

    fn call(&mut self, call: &RawCall, code: String, message: String) -> RecordedCall {
        let (source, name) = self.pair(call.pair()).unwrap_or_default();
        let (plugin, handler, generation) = self.handler(call.key()).unwrap_or_default();
        let took = call.took();
        RecordedCall {
            event: EventId::of_number(call.event()),
            parent: (call.parent() != 0).then(|| EventId::of_number(call.parent())),
            root: EventId::of_number(call.root()),
            name,
            source,
            plugin,
            handler,
            generation,
            outcome: call.outcome(),
            begun: time(call.begun()),
            waited: Duration::from_micros(call.waited()),
            took: took.map(|(nanos, _)| Duration::from_nanos(nanos)),
            is_exact: took.is_some_and(|(_, is_exact)| is_exact),
            is_sent: call.is_sent(),
            code,
            message,
        }
    }
}

#[cfg(test)]
mod tests;
