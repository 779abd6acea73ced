//! What is known of calls that have ended: `router:calls`, `router:failures`, `router:latency`.

use serde::{Deserialize, Serialize};

use crate::Word;

/// Which calls are wanted, of `router:calls`. By default the last thousand that are known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskCalls {
    /// That ended after those of the reply that this cursor is of. Nothing else is looked at then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// That took at least so many milliseconds, as far as they were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least_ms: Option<f64>,
    /// Of events that match this pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// That did not end well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// That ended in the last so many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ms: Option<f64>,
    /// No more than the last so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Of plugins alone, and events that nobody handled: what the host itself answers is left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub of_plugins: bool,
    /// Of this plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Of this event, and of all others of its chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

/// The reply to `router:calls`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calls {
    /// As they began.
    pub calls: Vec<Call>,
    /// To ask for those that end later.
    pub cursor: String,
    /// How many more ended since the cursor that was asked for, which are not known any more.
    pub missed: u64,
}

/// A call that has ended; or an event that nobody handled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Call {
    /// When it began, in microseconds since the Unix epoch.
    pub begun_us: u64,
    /// Of a failure, as long as that is kept: what went wrong, for programs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// The event; empty where so many names are in use that this one is not told apart.
    pub event: String,
    /// Its number.
    pub event_id: String,
    /// Of the plugin; 0 for the host.
    pub generation: u64,
    /// The handler.
    pub handler: String,
    /// Of a failure, as long as that is kept: what went wrong, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How it ended, as in [`Counts`](crate::Counts); `unhandled` where nobody handled the event.
    pub outcome: Word,
    /// The number of the event in whose handler this one was emitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// The plugin; empty for the host.
    pub plugin: String,
    /// The number of the first event of the chain.
    pub root_id: String,
    /// Nobody waited for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sent: bool,
    /// Who emitted the event: a plugin; empty for the host.
    pub source: String,
    /// How long it took, in milliseconds; null if it was not measured, because it ended at once and
    /// others like it were measured in its place.
    pub took_ms: Option<f64>,
    /// That is right to 10 ms only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub took_about: bool,
    /// How long its event had waited before it began, in milliseconds.
    pub waited_ms: f64,
}

impl Call {
    /// What stands for the outcome of an event that nobody handled.
    pub const UNHANDLED: &str = "unhandled";

    /// Whether it ended well, or nobody handled its event.
    pub fn is_ok(&self) -> bool {
        matches!(&*self.outcome, "replied" | "no_reply" | Call::UNHANDLED)
    }
}

/// Which failures are wanted, of `router:failures`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskFailures {
    /// Of events that match this pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Of which the last one ended in the last so many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ms: Option<f64>,
    /// Of this plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
}

/// The reply to `router:failures`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failures {
    /// The last seen first.
    pub failures: Vec<Failure>,
}

/// Calls of a handler of one generation that failed alike.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// What went wrong, for programs; empty for all codes of a handler beyond the first 16.
    pub code: String,
    /// How many there were.
    pub count: u64,
    /// When the first of them ended, in microseconds since the Unix epoch.
    pub first_us: u64,
    /// How many there were in the last minute, to 5 seconds.
    pub last_minute: u64,
    /// When the last of them ended, in microseconds since the Unix epoch.
    pub last_us: u64,
    /// The last ones, the newest last; one at least.
    pub recent: Vec<Call>,
}

/// The reply to `router:latency`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latencies {
    /// The upper bounds of the classes in [`HandlerLatency::classes`], in seconds.
    pub bounds: Vec<f64>,
    /// Each handler of the host and of all plugins.
    pub handlers: Vec<HandlerLatency>,
    /// How much is kept of calls that have ended.
    pub recorder: Recorder,
}

/// How long the calls of a handler took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandlerLatency {
    /// How many took how long since the start: no longer than each bound and longer than the one
    /// before, and then those that took longer than all.
    pub classes: Vec<u64>,
    /// In so many looks it was seen to run: `cpu_seconds` is off by one part in the root of that,
    /// more or less.
    pub cpu_looks: u64,
    /// Processor time since the start, as far as it ran in the host's own process: sampled every
    /// few milliseconds.
    pub cpu_seconds: f64,
    /// The handler.
    pub handler: String,
    /// Of the generation that is live, in the last one to two minutes; null if there was none.
    pub latency: Option<Latency>,
    /// The plugin; empty for the host.
    pub plugin: String,
    /// Of all since the start, in seconds.
    pub sum: f64,
}

/// How long calls took in the last one to two minutes. Of those that ended at once only some are
/// measured where there are many, which stand for the others; percentiles are right to a sixteenth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// How many there were, about.
    pub calls: u64,
    /// The longest that was measured.
    pub max_ms: f64,
    /// Half took no longer.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
}

/// How much is kept of calls that have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recorder {
    /// Bytes of all that is kept.
    pub bytes: usize,
    /// Calls that were recorded since the start.
    pub calls: u64,
    /// Calls of root events with a failure or a slow call that newer ones took the place of.
    pub dropped: u64,
    /// Kinds of failures that newer ones took the place of.
    pub failures_dropped: u64,
    /// Calls that newer ones took the place of.
    pub overwritten: u64,
}
