//! What the operator decides about the replacement of each plugin.

use std::{sync::Arc, time::Duration};

/// How one plugin is replaced and judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// What calls in flight on the old generation get.
    pub(crate) drain: Duration,
    /// How long events wait while state is handed over.
    pub(crate) hold: Duration,
    /// What becomes of calls that have not ended by then: cancelled, or let go on.
    pub(crate) keep_calls: bool,
    /// How long a new version is watched; zero for not at all.
    pub(crate) probation: Duration,
    /// By how much its share of bad calls may be above its predecessor's.
    pub(crate) margin: f64,
    /// How many calls must have ended before it is judged.
    pub(crate) min_calls: u64,
    /// Whether the operator wants the old generation released before the new one is initialized.
    pub(crate) exclusive: bool,
    /// Whether an instance of it is tried in a process of its own first.
    pub(crate) trial: bool,
}

/// The policy of each plugin, by name.
pub(crate) type Policies = Arc<dyn Fn(&str) -> Policy + Send + Sync>;
