//! `router:*`: the events between plugins.

mod calls;

use serde::{Deserialize, Serialize};

pub use calls::{
    AskCalls, AskFailures, Call, Calls, Failure, Failures, HandlerLatency, Latencies, Latency,
    Recorder,
};

use crate::{Counts, Word};

/// The reply to `router:graph`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Who emits and who handles what.
    pub edges: Vec<Edge>,
    /// Plugins, events, and the host itself.
    pub nodes: Vec<Node>,
}

/// Somebody emits an event, or handles it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// How often that was seen so far.
    #[serde(default)]
    pub count: u64,
    /// A manifest, or a subscription, says so.
    #[serde(default)]
    pub declared: bool,
    /// Of `handles`: how many calls of these handlers failed, panicked, crashed, timed out or were
    /// rejected, by whichever event they were called. Missing if none did.
    #[serde(default, skip_serializing_if = "is_none")]
    pub failed: u64,
    /// A node.
    pub from: String,
    /// `emits` or `handles`.
    #[serde(default)]
    pub kind: Word,
    /// A node.
    pub to: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none(number: &u64) -> bool {
    *number == 0
}

/// A plugin, an event, or the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Of a plugin: how many calls of its handlers failed, panicked, crashed, timed out or were
    /// rejected. Missing if none did.
    #[serde(default, skip_serializing_if = "is_none")]
    pub failed: u64,
    /// By which edges name it.
    pub id: String,
    /// `plugin`, `event` or `host`.
    #[serde(default)]
    pub kind: Word,
}

/// The reply to `router:stats`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// How all calls so far ended.
    #[serde(flatten)]
    pub counts: Counts,
    /// Events that were accepted so far.
    pub events_emitted: u64,
    /// Seconds since the host was started.
    pub uptime: f64,
}
