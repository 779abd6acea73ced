//! `module:state_*`: what is kept of the plugins' state.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Word;

/// Asks for what is kept of all plugins, or of one: `module:state_list`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(expecting = "struct Maybe")]
pub struct OfPlugin {
    /// Of this one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_name: Option<String>,
}

/// Asks for a kept snapshot, or for something to be done with it: `module:state_show`,
/// `module:state_restore` and `module:state_drop`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(expecting = "struct Ask")]
pub struct Which {
    /// The plugin.
    pub module_name: String,
    /// As `module:state_list` calls it. What is meant without it depends on what is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub which: Option<String>,
}

/// The reply to `module:state_list`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptList {
    /// How many there are.
    pub count: usize,
    /// All of them, by plugin.
    pub snapshots: Vec<Kept>,
}

/// A kept snapshot. All but its name and place is missing if it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// How long it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why it cannot be read.
    pub error: Option<String>,
    /// Where it lies.
    pub file: String,
    /// Of its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The plugin.
    pub name: String,
    /// The version of the plugin that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin_version: Option<String>,
    /// The version of its format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Its place among those of its plugin, such as `newest` or `aside-1`.
    pub which: String,
    /// Seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<f64>,
}

/// The reply to `module:state_show`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Shown {
    /// How long it is.
    pub bytes: usize,
    /// Where it lies.
    pub file: String,
    /// The plugin.
    pub name: String,
    /// Why its content is not shown.
    pub not_shown: Option<String>,
    /// Its content.
    pub state: Option<Box<RawValue>>,
    /// The version of its format.
    pub version: u32,
    /// Its place among those of its plugin.
    pub which: String,
    /// Seconds since the Unix epoch.
    pub written: f64,
}

/// The reply to `module:state_restore`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restored {
    /// The generation that goes on from it, if the plugin is live.
    pub generation: Option<u64>,
    /// Where what was newest before is kept.
    pub kept_aside: Option<String>,
    /// Whether the plugin is live.
    pub live: bool,
    /// The plugin.
    pub name: String,
    /// Why what was newest before is not kept.
    pub not_kept_aside: Option<String>,
    /// `restored`.
    pub status: Word,
    /// The version of the plugin that is live.
    pub version: Option<String>,
    /// Its place among those of its plugin.
    pub which: String,
}

/// The reply to `module:state_drop`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dropped {
    /// What is gone, as `module:state_list` called it.
    pub dropped: Vec<String>,
    /// The plugin.
    pub name: String,
    /// `dropped`.
    pub status: Word,
}
