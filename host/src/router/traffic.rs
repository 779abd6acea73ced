//! Who has emitted what, and how often, for the graph of events.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// How many pairs of source and event are told apart. Beyond it, events still count in the total.
const LIMIT: usize = 10_000;
/// The same for events from outside, whose names anybody can make up: they must not crowd out those of plugins.
const FROM_OUTSIDE: usize = 2_000;

/// Counts by event, then by source.
#[derive(Default)]
pub(crate) struct Traffic {
    total: AtomicU64,
    pairs: RwLock<Pairs>,
}

#[derive(Default)]
struct Pairs {
    number: usize,
    events: HashMap<Arc<str>, HashMap<Arc<str>, AtomicU64>>,
}

impl Traffic {
    /// Counts an event; `outside` for one that no plugin has emitted.
    pub(crate) fn count(&self, source: &str, event: &Arc<str>, outside: bool) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = pairs.events.get(&**event).and_then(|sources| sources.get(source)) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let limit = if outside { FROM_OUTSIDE } else { LIMIT };
        if pairs.number >= limit {
            return;
        }
        drop(pairs);
        let mut pairs = self.pairs.write().unwrap_or_else(PoisonError::into_inner);
        let pairs = &mut *pairs;
        let sources = pairs.events.entry(event.clone()).or_default();
        let count = sources.entry(source.into()).or_insert_with(|| {
            pairs.number += 1;
            AtomicU64::new(0)
        });
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Events emitted since the start.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Source, event and count of every pair.
    pub(crate) fn pairs(&self) -> Vec<(Arc<str>, Arc<str>, u64)> {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        let all = pairs.events.iter().flat_map(|(event, sources)| {
            sources.iter().map(|(source, count)| {
                (source.clone(), event.clone(), count.load(Ordering::Relaxed))
            })
        });
        all.collect()
    }
}
