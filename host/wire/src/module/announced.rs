//! What the host announces of plugins, as events of its own.

use serde::{Deserialize, Serialize};

use super::Timings;

/// The payload of `module:loaded`, `module:reloaded`, `module:rolled_back`, `module:unloaded`,
/// `module:retired`, `module:pinned`, `module:quarantined`, `module:load_failed`,
/// `module:reload_failed`, `module:state_kept` and `module:state_not_kept`, for whoever reads it. A
/// file that did not become a plugin has `file` and `reason` alone; each event adds what is its
/// own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Announced {
    /// `module:retired`: why the generation stays in memory.
    pub cause: Option<String>,
    /// The file.
    pub file: String,
    /// The generation.
    pub generation: Option<u64>,
    /// `module:reloaded`, `module:rolled_back`: where what was given up is kept.
    pub kept_aside: Option<String>,
    /// `module:state_not_kept`: there will be no further attempt.
    pub last: bool,
    /// The plugin.
    pub name: Option<String>,
    /// What happened, for people.
    pub reason: String,
    /// `module:loaded`, `module:reloaded`, `module:rolled_back`: what state it goes on with, such
    /// as `handed_over` or `none`.
    pub state: Option<String>,
    /// `module:retired`: how long the steps of its end took.
    pub timings_ms: Timings,
    /// `module:retired`: it has left memory.
    pub unmapped: bool,
    /// As its manifest has it.
    pub version: Option<String>,
}

/// The payload of `module:call_stuck`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallStuck {
    /// The number of the event that it handles.
    pub event_id: String,
    /// The handler.
    pub handler: String,
    /// The plugin.
    pub name: String,
    /// For how long it has not returned.
    pub seconds: f64,
}
