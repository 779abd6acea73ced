//! `[metrics]`: how often the host tells what its plugins have done.

use std::time::Duration;

use serde::Deserialize;

use super::{Problem, file, range};

/// The report of all counts, as an event. TOML: `[metrics]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Metrics {
    /// How long after one `metrics:report` the next is emitted, while somebody listens; above zero
    /// and at most thirty days. Default: 10 s.
    #[serde(deserialize_with = "file::duration")]
    pub interval: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10) }
    }
}

impl Metrics {
    pub(super) fn check(&self) -> Result<(), Problem> {
        let Self { interval } = *self;
        range::durations("metrics", &[("interval", interval)])
    }
}
