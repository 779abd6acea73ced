//! `[state]`: whether the state of plugins outlives the host, and where.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Problem, file, range};

/// Where snapshots of plugins' state are kept, and how often they are written. TOML: `[state]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StateFiles {
    /// Whether state is written at all, and restored at the next start. Default: yes, if there is a
    /// `dir`.
    pub persist: bool,
    /// The folder of the snapshots, for one host alone. Default: none, so nothing is written;
    /// `ksi run` and `ksi dev` choose one.
    pub dir: Option<PathBuf>,
    /// How long after one round of snapshots the next is taken; above zero and at most thirty days.
    /// Default: 30 s.
    #[serde(deserialize_with = "file::duration")]
    pub interval: Duration,
}

impl Default for StateFiles {
    fn default() -> Self {
        Self { persist: true, dir: None, interval: Duration::from_secs(30) }
    }
}

impl StateFiles {
    pub(super) fn check(&self) -> Result<(), Problem> {
        let Self { persist: _, dir, interval } = self;
        if dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
            return Err(range::outside("state", "dir", "\"\"", "a path"));
        }
        range::durations("state", &[("interval", *interval)])
    }
}
