//! What was done to a plugin by hand.

use serde::{Deserialize, Serialize};

use crate::Word;

/// The reply to `module:load`, `module:reload`, `module:rollback` and `module:unload`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changed {
    /// Which configuration it was reloaded with; missing if there is but one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigTaken>,
    /// What is wrong with the configuration file; missing if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_error: Option<String>,
    /// What it gave up, for people; missing if it gave up nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// The one that is live, or was.
    pub generation: u64,
    /// Where what was given up is kept; missing if nothing was given up.
    #[serde(deserialize_with = "crate::there", skip_serializing_if = "Option::is_none")]
    pub kept_aside: Option<Option<String>>,
    /// What it gave up, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
    /// The plugin.
    pub name: String,
    /// Why what was given up is not kept; missing if nothing was given up.
    #[serde(deserialize_with = "crate::there", skip_serializing_if = "Option::is_none")]
    pub not_kept_aside: Option<Option<String>>,
    /// `loaded`, `reloaded`, `rolled_back` or `unloaded`.
    pub status: Word,
    /// The file of an unloaded plugin that a host which is started finds again; missing if none
    /// does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stays_in_folder: Option<String>,
    /// So many generations are in memory that it is not loaded again for now; missing if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub still_in_memory: Option<usize>,
    /// As its manifest has it.
    pub version: String,
    /// What became of the others that were loaded with it; missing if there were none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<Changed>,
}

/// Which configuration a plugin was reloaded with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigTaken {
    /// What the file says of it now.
    Changed,
    /// What it had: the file is not valid.
    AsBefore,
    /// A word of another version of the host.
    #[serde(untagged)]
    Other(String),
}

/// What going back to an earlier version gives up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lost {
    /// Why the state as it is now cannot go on.
    pub because: String,
    /// Calls that were answered since the later version took over.
    pub calls: u64,
    /// For so many seconds it has been live.
    pub seconds: u64,
}
