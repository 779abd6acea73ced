//! How a plugin does lately.

use serde::{Deserialize, Serialize};

use crate::router::Latency;

/// How a plugin does lately.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lately {
    /// Calls in a second, over the last five to ten seconds; null in the first second of a host.
    pub calls_per_second: Option<f64>,
    /// Those that did not end well.
    pub failed_per_second: Option<f64>,
    /// The last call that did not end well, of any generation, as long as it is known.
    pub last_failure: Option<LastFailure>,
    /// How long the calls of the live generation took, of all its handlers; null if there were
    /// none.
    pub latency: Option<Latency>,
}

impl Lately {
    /// Whether nothing is known, as in an older host.
    pub(super) fn is_nothing(&self) -> bool {
        *self == Lately::default()
    }
}

/// The last call that did not end well.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastFailure {
    /// When it ended, in seconds since 1970.
    pub at: f64,
    /// What went wrong, for programs.
    pub code: String,
    /// How many calls of the handler ended with that code.
    pub count: u64,
    /// The event that it was called with.
    pub event: String,
    /// Of the plugin.
    pub generation: u64,
    /// The handler.
    pub handler: String,
    /// What went wrong, for people.
    pub message: String,
    /// The number of the first event of the chain.
    pub root_id: String,
}
