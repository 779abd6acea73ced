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
    events: HashMap<Arc<str>, HashMap<Arc<str>, Pair>>,
    /// Source and event, each at the place that is one below its number.
    names: Vec<(Arc<str>, Arc<str>)>,
}

/// A source and an event of it.
#[derive(Clone)]
pub(crate) struct Pair {
    /// How often it was emitted.
    pub(crate) count: Arc<Count>,
    /// Stands for both names; 0 for all that are not told apart.
    pub(crate) number: u32,
}

fn limit(outside: bool) -> usize {
    if outside { FROM_OUTSIDE } else { LIMIT }
}

impl Traffic {
    /// Counts an event, and gives the number of its [`Pair`]; `outside` for one that no plugin has
    /// emitted.
    pub(crate) fn count(
        &self,
        source: &Arc<str>,
        event: &Arc<str>,
        outside: bool,
        is_handled: impl FnOnce() -> bool,
    ) -> u32 {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = pairs.events.get(&**event).and_then(|sources| sources.get(source)) {
            pair.count.up();
            return pair.number;
        }
        if pairs.names.len() >= limit(outside) || (outside && !is_handled()) {
            self.others.up();
            return 0;
        }
        drop(pairs);
        let pair = self.pair(source, event, outside);
        pair.count.up();
        pair.number
    }

    /// The counter of a pair, for whoever emits it often.
    pub(crate) fn pair(&self, source: &Arc<str>, event: &Arc<str>, outside: bool) -> Pair {
        let mut pairs = self.pairs.write().unwrap_or_else(PoisonError::into_inner);
        let pairs = &mut *pairs;
        if let Some(pair) = pairs.events.get(event).and_then(|sources| sources.get(source)) {
            return pair.clone();
        }
        if pairs.names.len() >= limit(outside) {
            return Pair { count: self.others.clone(), number: 0 };
        }
        pairs.names.push((source.clone(), event.clone()));
        let number = u32::try_from(pairs.names.len()).unwrap_or(0);
        let pair = Pair { count: Arc::default(), number };
        pairs.events.entry(event.clone()).or_default().insert(source.clone(), pair.clone());
        pair
    }

    /// The source and the event that a number stands for.
    pub(crate) fn names(&self, number: u32) -> Option<(Arc<str>, Arc<str>)> {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        pairs.names.get((number as usize).checked_sub(1)?).cloned()
    }

    /// Events emitted since the start.
    pub(crate) fn total(&self) -> u64 {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        let counts = pairs.events.values().flat_map(HashMap::values);
        counts.map(|pair| pair.count.sum()).sum::<u64>() + self.others.sum()
    }

    /// Source, event and count of every pair that was emitted.
    pub(crate) fn pairs(&self) -> Vec<(Arc<str>, Arc<str>, u64)> {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        let all = pairs.events.iter().flat_map(|(event, sources)| {
            sources.iter().map(|(source, pair)| (source.clone(), event.clone(), pair.count.sum()))
        });
        all.filter(|(.., count)| *count > 0).collect()
    }
}
