//! What async transformers have begun, and whose answer goes somewhere.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ksi_plugin_api::prelude::*;

use crate::registry::Key;

/// One that is awaited.
#[payload]
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Begun {
    pub(crate) id: String,
    pub(crate) transformer: Key,
    /// The event that it was begun for.
    pub(crate) source_event: String,
    /// Seconds since the Unix epoch; a replacement and a restart leave it as it is.
    pub(crate) until: u64,
}

/// All of them, up to a number; the earliest gives way.
#[derive(Default)]
pub(crate) struct Pending {
    by_id: BTreeMap<String, Begun>,
    order: VecDeque<String>,
}

impl Pending {
    /// Notes one. Gives back the one that had to give way before its time.
    pub(crate) fn begin(&mut self, begun: Begun, limit: usize, now: SystemTime) -> Option<Begun> {
        self.expire(now);
        let oldest = match self.by_id.len() >= limit.max(1) {
            true => self.take_oldest(),
            false => None,
        };
        self.order.push_back(begun.id.clone());
        self.by_id.insert(begun.id.clone(), begun);
        oldest
    }

    /// The one of this id, if it is this transformer's and it is not too late.
    pub(crate) fn of(&mut self, id: &str, transformer: &Key, now: SystemTime) -> Option<Begun> {
        self.expire(now);
        self.by_id.get(id).filter(|begun| begun.transformer == *transformer).cloned()
    }

    /// Ends one; whether there was one. Of two answers only one finds it.
    pub(crate) fn end(&mut self, id: &str) -> bool {
        // Its place in the order goes when it comes to the front, or when most are such.
        let known = self.by_id.remove(id).is_some();
        if self.order.len() > 2 * self.by_id.len() + 16 {
            self.order.retain(|id| self.by_id.contains_key(id));
        }
        known
    }

    pub(crate) fn all(&self) -> Vec<Begun> {
        self.order.iter().filter_map(|id| self.by_id.get(id)).cloned().collect()
    }

    fn expire(&mut self, now: SystemTime) {
        let now = seconds(now);
        while let Some(id) = self.order.front() {
            match self.by_id.get(id) {
                Some(begun) if begun.until > now => return,
                _ => drop(self.order.pop_front().and_then(|id| self.by_id.remove(&id))),
            }
        }
    }

    fn take_oldest(&mut self) -> Option<Begun> {
        loop {
            let id = self.order.pop_front()?;
            if let Some(begun) = self.by_id.remove(&id) {
                return Some(begun);
            }
        }
    }
}

/// When one ends that begins now.
pub(crate) fn deadline(now: SystemTime, timeout: Duration) -> u64 {
    seconds(now).saturating_add(timeout.as_secs())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
