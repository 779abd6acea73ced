//! Who has emitted what, and how often, for the graph of events.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::executor::stripe::Count;

/// How many pairs of source and event are told apart. Beyond it, events still count in the total.
const LIMIT: usize = 10_000;
/// The same for events from outside: they must not crowd out those of plugins. Those that nobody
/// handles are not told apart: anybody can make up names, and what is kept of each, between memory
/// that comes and goes, costs many times its size.
const FROM_OUTSIDE: usize = 2_000;

/// Counts by event, then by source.
#[derive(Default)]
pub(crate) struct Traffic {
    pairs: RwLock<Pairs>,
    /// What is not told apart.
    others: Arc<Count>,
}

#[derive(Default)]
struct Pairs {
    number: usize,
    events: HashMap<Arc<str>, HashMap<Arc<str>, Arc<Count>>>,
}

fn limit(outside: bool) -> usize {
    if outside { FROM_OUTSIDE } else { LIMIT }
}

impl Traffic {
    /// Counts an event; `outside` for one that no plugin has emitted.
    pub(crate) fn count(
        &self,
        source: &Arc<str>,
        event: &Arc<str>,
        outside: bool,
        is_handled: impl FnOnce() -> bool,
    ) {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = pairs.events.get(&**event).and_then(|sources| sources.get(source)) {
            return count.up();
        }
        if pairs.number >= limit(outside) || (outside && !is_handled()) {
            return self.others.up();
        }
        drop(pairs);
        self.pair(source, event, outside).up();
    }

    /// The counter of a pair, for whoever emits it often.
    pub(crate) fn pair(&self, source: &Arc<str>, event: &Arc<str>, outside: bool) -> Arc<Count> {
        let mut pairs = self.pairs.write().unwrap_or_else(PoisonError::into_inner);
        let pairs = &mut *pairs;
        if let Some(count) = pairs.events.get(event).and_then(|sources| sources.get(source)) {
            return count.clone();
        }
        if pairs.number >= limit(outside) {
            return self.others.clone();
        }
        pairs.number += 1;
        let sources = pairs.events.entry(event.clone()).or_default();
        sources.entry(source.clone()).or_default().clone()
    }

    /// Events emitted since the start.
    pub(crate) fn total(&self) -> u64 {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        let counts = pairs.events.values().flat_map(HashMap::values);
        counts.map(|count| count.sum()).sum::<u64>() + self.others.sum()
    }

    /// Source, event and count of every pair that was emitted.
    pub(crate) fn pairs(&self) -> Vec<(Arc<str>, Arc<str>, u64)> {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        let all = pairs.events.iter().flat_map(|(event, sources)| {
            sources.iter().map(|(source, count)| (source.clone(), event.clone(), count.sum()))
        });
        all.filter(|(.., count)| *count > 0).collect()
    }
}
