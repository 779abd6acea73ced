//! What events carry. The soak itself has its own types for the same JSON: the wire is what both
//! agree on.

use std::collections::BTreeMap;

use ksi_plugin_api::prelude::*;

use crate::counted::{Entries, Inner};

#[payload]
#[derive(Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Bytes of entries that are kept beside the lanes, for a state of some size.
    pub(crate) entries_bytes: usize,
    /// The lanes that clients inside this plugin drive.
    pub(crate) inside: Vec<u64>,
}

/// A request that is to be answered with its own number.
#[payload]
pub(crate) struct Ask {
    pub(crate) number: u64,
    pub(crate) lane: u64,
    /// How long to wait, where something waits.
    #[serde(default)]
    pub(crate) micros: u64,
    /// The event that a request is passed on as.
    #[serde(default)]
    pub(crate) to: Option<String>,
    /// The event that whoever handles it shall ask in turn.
    #[serde(default)]
    pub(crate) via: Option<String>,
}

#[payload]
#[derive(Default)]
pub(crate) struct Answer {
    /// That of the request.
    pub(crate) number: u64,
    /// Of the library that answers.
    pub(crate) version: u32,
    /// What was counted on the lane, with this request.
    pub(crate) count: Option<u64>,
    /// The number that was counted on the lane before this one.
    pub(crate) previous: Option<u64>,
    /// The answer to what was asked in turn.
    pub(crate) inner: Option<Box<Answer>>,
    /// Why there is none.
    pub(crate) trouble: Option<String>,
}

/// Tells the soak of a request that was sent, so that nobody waits for its outcome.
#[payload]
pub(crate) struct Applied {
    pub(crate) lane: u64,
    pub(crate) answer: Answer,
}

/// What is counted on one lane.
#[payload]
#[derive(Clone, Copy, Default)]
pub(crate) struct Lane {
    pub(crate) count: u64,
    /// The number that was counted last; 0 before the first.
    pub(crate) last: u64,
}

/// The state, version 2.
#[payload]
pub(crate) struct Saved {
    lanes: BTreeMap<u64, Lane>,
    entries: Entries,
}

/// The state, version 1: lane, count and last number in a row.
#[payload]
pub(crate) struct SavedV1 {
    counted: Vec<(u64, u64, u64)>,
    entries: Entries,
}

impl From<Inner> for Saved {
    fn from(Inner { lanes, entries }: Inner) -> Self {
        Saved { lanes, entries }
    }
}

impl From<Saved> for Inner {
    fn from(Saved { lanes, entries }: Saved) -> Self {
        Inner { lanes, entries }
    }
}

impl From<Inner> for SavedV1 {
    fn from(Inner { lanes, entries }: Inner) -> Self {
        let counted = lanes.into_iter().map(|(lane, it)| (lane, it.count, it.last));
        SavedV1 { counted: counted.collect(), entries }
    }
}

impl From<SavedV1> for Inner {
    fn from(SavedV1 { counted, entries }: SavedV1) -> Self {
        let lanes = counted.into_iter().map(|(lane, count, last)| (lane, Lane { count, last }));
        Inner { lanes: lanes.collect(), entries }
    }
}

/// Everything, for the comparison at the end.
#[payload]
pub(crate) struct Whole {
    pub(crate) version: u32,
    pub(crate) lanes: BTreeMap<u64, Lane>,
    pub(crate) entries: usize,
    pub(crate) entries_bytes: usize,
    /// Of all keys and values.
    pub(crate) checksum: u64,
}

/// What a client inside asks the soak: what to do next, with what became of the last.
#[payload]
pub(crate) struct Turn {
    pub(crate) lane: u64,
    pub(crate) ended: Option<Ended>,
}

#[payload]
pub(crate) struct Ended {
    pub(crate) micros: u64,
    pub(crate) outcomes: Vec<Outcome>,
}

#[payload]
pub(crate) struct Outcome {
    /// `replied`, `no_reply`, `panicked`, `timed_out`, `rejected`, or a failure's own code.
    pub(crate) code: String,
    pub(crate) reply: Option<Value>,
    pub(crate) message: String,
}

/// The soak's answer to a [`Turn`].
#[payload]
pub(crate) struct Next {
    /// Nothing more is to be done, ever.
    pub(crate) over: bool,
    /// `None`: ask again a little later.
    pub(crate) request: Option<Request>,
}

#[payload]
pub(crate) struct Request {
    pub(crate) event: String,
    pub(crate) data: Value,
}
