//! `[log]`: in which form a host logs, and how much.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Problem, range};
use crate::log_levels::{LogLevel, check_name};

/// What `ksi run` and `ksi dev` write to standard error. TOML: `[log]`. A program that embeds a
/// host logs by a subscriber of its own, and has no use for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Log {
    /// The form of a line. Default: `"human"`.
    pub format: LogFormat,
    /// What is written of all that has no level of its own. Default: none, so it is `"info"`.
    pub level: Option<LogLevel>,
    /// What is written of single plugins and targets. TOML: `[log.levels]`, with the names of
    /// plugins, and targets such as `"ksi_host::plugin"`. Default: none.
    pub levels: BTreeMap<String, LogLevel>,
}

/// The form of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogFormat {
    /// A line of text. `"human"`.
    #[default]
    Human,
    /// A JSON object a line. `"json"`.
    Json,
}

impl Log {
    pub(super) fn check(&self) -> Result<(), Problem> {
        let bad = self.levels.keys().find(|name| check_name(name).is_err());
        match bad {
            Some(name) => {
                let expected = "the name of a plugin or a target such as `ksi_host::plugin`";
                Err(range::outside("log", "levels", format!("{name:?}"), expected))
            }
            None => Ok(()),
        }
    }
}
