//! How calls ended.

use serde::{Deserialize, Serialize};

/// How often the calls of a handler, of a plugin or of the host ended in which way. `accepted` is
/// the sum of all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Calls begun.
    pub accepted: u64,
    /// Ended with the process that they ran in.
    pub crashed: u64,
    /// Ended with an error.
    pub failed: u64,
    /// Not ended yet.
    pub in_flight: u64,
    /// Ended well without a reply.
    pub no_reply: u64,
    /// Ended with a panic.
    pub panicked: u64,
    /// Not run, or not to the end.
    pub rejected: u64,
    /// Ended with a reply.
    pub replied: u64,
    /// Took too long.
    pub timed_out: u64,
}
