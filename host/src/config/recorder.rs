//! `[recorder]`: what is kept of calls that have ended.

use std::time::Duration;

use ksi_kernel::call::recorder::RecorderLimits;
use serde::Deserialize;

use super::{Problem, file, range};

/// What is kept of calls that have ended, for `ksi trace` and whatever shows times and failures.
/// TOML: `[recorder]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Recorder {
    /// The last calls of each dispatch worker, 64 bytes each; rounded up to a power of two. 0 turns
    /// all of it off. Default: 4096.
    pub calls: usize,
    /// Calls of root events in which something failed or was slow, 56 bytes each. Default: 16384.
    pub kept: usize,
    /// Bytes of failures: the last of each handler and code, with what was said. Default: 4 MiB.
    pub failure_bytes: usize,
    /// A call that takes as long is slow: all calls of its root event are kept for longer. Default:
    /// 100 ms.
    #[serde(deserialize_with = "file::duration")]
    pub slow: Duration,
}

impl Default for Recorder {
    fn default() -> Self {
        // Those of the kernel.
        let RecorderLimits { calls, kept, failure_bytes, slow } = RecorderLimits::default();
        Recorder { calls, kept, failure_bytes, slow }
    }
}

impl Recorder {
    pub(super) fn check(&self) -> Result<(), Problem> {
        let Self { calls, kept, failure_bytes, slow } = *self;
        range::count("recorder", "calls", calls, 0..=1 << 20)?;
        range::count("recorder", "kept", kept, 0..=1 << 24)?;
        range::count("recorder", "failure_bytes", failure_bytes, 0..=1 << 30)?;
        range::durations("recorder", &[("slow", slow)])
    }

    pub(crate) fn limits(&self) -> RecorderLimits {
        let Self { calls, kept, failure_bytes, slow } = *self;
        RecorderLimits { calls, kept, failure_bytes, slow }
    }
}
