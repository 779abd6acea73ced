//! `[recovery]`: how often a plugin that did not come up is tried again, and where it is noted that
//! the host died of one.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Problem, file, range};

/// The retries of a plugin that did not initialize, or that was rolled back. TOML: `[recovery]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Recovery {
    /// The wait before the first retry of a plugin that did not initialize; it doubles with each
    /// further one. Above zero and at most `longest`. Default: 1 s.
    #[serde(deserialize_with = "file::duration")]
    pub first: Duration,
    /// The longest wait before a retry; at most thirty days. Default: 5 min.
    #[serde(deserialize_with = "file::duration")]
    pub longest: Duration,
    /// How many retries there are. After the last one, only a change of the file or a command tries
    /// again. Zero: none. Default: 5.
    pub attempts: u32,
    /// The wait before the first retry of a file that was rolled back from; above zero and at most
    /// thirty days. Default: 1 min.
    #[serde(deserialize_with = "file::duration")]
    pub after_rollback: Duration,
    /// The folder of the crash journal and of what is quarantined, for one host alone. What code is
    /// about to run for the first time is noted there; if the host dies of it, the next start names
    /// it and does not run it again. Default: none, so nothing is noted; `ksi run` and `ksi dev`
    /// choose one.
    pub dir: Option<PathBuf>,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            attempts: 5,
            after_rollback: Duration::from_secs(60),
            dir: None,
        }
    }
}

/// Doubled waits reach the longest one long before; this only keeps "for ever" from being written
/// as a number.
const MOST_ATTEMPTS: u32 = 1_000_000;

impl Recovery {
    pub(super) fn check(&self) -> Result<(), Problem> {
        let Self { first, longest, attempts, after_rollback, ref dir } = *self;
        if dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
            return Err(range::outside("recovery", "dir", "\"\"", "a path"));
        }
        let all = [("first", first), ("longest", longest), ("after_rollback", after_rollback)];
        range::durations("recovery", &all)?;
        if first > longest {
            let range = format!("at most recovery.longest, which is {}", range::shown(longest));
            return Err(range::outside("recovery", "first", range::shown(first), &range));
        }
        range::count("recovery", "attempts", attempts, 0..=MOST_ATTEMPTS)
    }
}
