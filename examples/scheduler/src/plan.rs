//! What is planned, and what of it is due. Knows neither the host nor any task.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ksi_plugin_api::prelude::*;

/// All that is planned, which is the plugin's state.
#[payload]
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) entries: BTreeMap<String, Entry>,
}

/// One event that is to come. It is kept over restarts, so its time is one of the calendar.
#[payload]
pub(crate) struct Entry {
    /// In milliseconds since the Unix epoch.
    pub(crate) due_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) every_ms: Option<u64>,
    pub(crate) event: String,
    pub(crate) data: Value,
}

impl Plan {
    /// When something is due next.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.entries.values().map(|entry| entry.due_ms).min()
    }

    /// Takes what is due, in the order of its times. What comes again stays, for its next time: of
    /// times that nobody was there for there is one.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Vec<(String, Entry)> {
        let mut due = Vec::new();
        self.entries.retain(|id, entry| {
            if entry.due_ms > now_ms {
                return true;
            }
            due.push((id.clone(), entry.clone()));
            let Some(every) = entry.every_ms else { return false };
            let missed = (now_ms - entry.due_ms) / every;
            entry.due_ms = entry.due_ms.saturating_add((missed + 1).saturating_mul(every));
            true
        });
        due.sort_by_key(|(_, entry)| entry.due_ms);
        due
    }

    /// Puts something back that could not be emitted, unless there is something new under its
    /// name. What comes again is there, for its next time.
    pub(crate) fn put_off(&mut self, id: String, entry: Entry) {
        self.entries.entry(id).or_insert(entry);
    }
}

/// The calendar's time by the host's clock, which a test can move. A change of the system's time is
/// seen by the next generation.
pub(crate) struct Clock {
    /// The calendar's time when the host's clock was 0.
    zero: Duration,
}

impl Clock {
    pub(crate) fn started_at(now: Duration) -> Self {
        let calendar = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { zero: calendar.saturating_sub(now) }
    }

    pub(crate) fn now_ms(&self, now: Duration) -> u64 {
        (self.zero + now).as_millis().try_into().unwrap_or(u64::MAX)
    }
}
