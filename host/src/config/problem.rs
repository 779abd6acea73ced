//! What can be wrong with a configuration, in words an operator can act on.

use std::path::PathBuf;

use super::origin::below;

/// Why a configuration file was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be opened or read, or is not UTF-8.
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no configuration, or somebody meant another one.
    #[error("the configuration file {} is longer than 1 MiB: is it the right one?", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The text was read, and something in it is not right.
    #[error("the configuration {} is not valid: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is not right.
        #[source]
        problem: Problem,
    },
}

/// What is not right in a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// No TOML, an unknown key, or a value of the wrong type; the source tells the line.
    #[error("{source}{}", suggestion.as_ref().map(|key| format!("did you mean `{key}`?")).unwrap_or_default())]
    Toml {
        /// Line, column and reason.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// The known key that an unknown one looks like.
        suggestion: Option<String>,
    },
    /// A value outside its range.
    #[error("`{key}` is {value}, and must be {range}")]
    OutOfRange {
        /// The key with its table, as in `limits.connections`.
        key: String,
        /// The value found.
        value: String,
        /// The values that are accepted.
        range: String,
    },
    /// What a process of its own is to be limited to cannot be meant.
    #[error("`{key}` {text}")]
    Limit {
        /// The key with its table, as in `isolation.plugins.hello.memory`.
        key: String,
        /// What is wrong with it, and what it must be.
        text: String,
    },
    /// A reference to a secret that is none.
    #[error("`{key}` {text}")]
    Secret {
        /// The key with its tables, as in `plugin.hello.api_key`.
        key: String,
        /// What is wrong with it.
        text: String,
    },
    /// A number that JSON, in which a plugin gets its configuration, cannot hold.
    #[error("`{key}` is {value}, which no plugin can be given: use a finite number")]
    NotFinite {
        /// The key with its tables, as in `plugin.hello.rate`.
        key: String,
        /// The value found.
        value: f64,
    },
    /// A plugin's configuration that is no JSON object.
    #[error("the configuration of the plugin {name} must be a table of keys and values")]
    NotATable {
        /// The plugin.
        name: String,
    },
    /// A table that is to be named after a plugin, and is not.
    #[error(
        "`{table}.{name}` names no plugin: a plugin's name has at most 64 letters, digits, `_` and `-`, and begins with a letter or digit"
    )]
    NoPluginName {
        /// The table around it, as in `reload.plugins`.
        table: &'static str,
        /// The name found.
        name: String,
    },
    /// A table that is to be named after an event or a pattern of events, and is not.
    #[error("`{table}.{name:?}` names no event: {reason}")]
    NoEventName {
        /// The table around it, as in `contracts.events`.
        table: &'static str,
        /// The name found.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Problem {
    /// The key that it is about, as it is written.
    pub(super) fn key(&self) -> Option<String> {
        match self {
            Self::Toml { .. } => None,
            Self::OutOfRange { key, .. }
            | Self::Limit { key, .. }
            | Self::Secret { key, .. }
            | Self::NotFinite { key, .. } => Some(key.clone()),
            Self::NotATable { name } => Some(below("plugin", name)),
            Self::NoPluginName { table, name } | Self::NoEventName { table, name, .. } => {
                Some(below(table, name))
            }
        }
    }
}
