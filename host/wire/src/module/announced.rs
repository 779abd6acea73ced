//! What the host announces of plugins, as events of its own: their names, and what each says.

use serde::{Deserialize, Serialize};

use super::{Lost, Timings};

/// A plugin is there that was not.
pub const LOADED: &str = "module:loaded";
/// A file did not become a plugin.
pub const LOAD_FAILED: &str = "module:load_failed";
/// A new generation goes on where another was.
pub const RELOADED: &str = "module:reloaded";
/// A generation goes on because what should replace it cannot.
pub const RELOAD_FAILED: &str = "module:reload_failed";
/// An earlier version is live again.
pub const ROLLED_BACK: &str = "module:rolled_back";
/// The file of a version is not tried again for now.
pub const QUARANTINED: &str = "module:quarantined";
/// A generation is no longer live, and no other takes its place.
pub const UNLOADED: &str = "module:unloaded";
/// A generation has been let go.
pub const RETIRED: &str = "module:retired";
/// The library of a generation stays in memory for now.
pub const PINNED: &str = "module:pinned";
/// The state of a generation is kept again.
pub const STATE_KEPT: &str = "module:state_kept";
/// The state of a generation is not kept.
pub const STATE_NOT_KEPT: &str = "module:state_not_kept";
/// The process of a live plugin has ended.
pub const WORKER_DOWN: &str = "module:worker_down";
/// The plugin has another process.
pub const WORKER_RESTARTED: &str = "module:worker_restarted";
/// A call does not return: [`CallStuck`].
pub const CALL_STUCK: &str = "module:call_stuck";
/// Calls failed: [`CallFailed`].
pub const CALL_FAILED: &str = "module:call_failed";

/// All of them, and that a generation is to shut down, which that alone is told.
pub const ALL: [&str; 16] = [
    LOADED,
    LOAD_FAILED,
    RELOADED,
    RELOAD_FAILED,
    ROLLED_BACK,
    QUARANTINED,
    UNLOADED,
    RETIRED,
    PINNED,
    STATE_KEPT,
    STATE_NOT_KEPT,
    WORKER_DOWN,
    WORKER_RESTARTED,
    CALL_STUCK,
    CALL_FAILED,
    "module:shutdown",
];

/// The payload of all of these events but [`CALL_STUCK`] and [`CALL_FAILED`]. A file that did not
/// become a plugin has `file` and `reason` alone; each event adds what is its own, and what is
/// another's is missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Announced {
    /// [`ROLLED_BACK`]: the host did it by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automatic: Option<bool>,
    /// [`RETIRED`]: why the generation stays in memory; null if it does not.
    #[serde(deserialize_with = "crate::there", skip_serializing_if = "Option::is_none")]
    pub cause: Option<Option<String>>,
    /// [`STATE_KEPT`]: how often it had failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u64>,
    /// The file.
    pub file: String,
    /// [`ROLLED_BACK`]: the generation that was live before; null if none was.
    #[serde(deserialize_with = "crate::there", skip_serializing_if = "Option::is_none")]
    pub from_generation: Option<Option<u64>>,
    /// [`ROLLED_BACK`]: its version.
    #[serde(deserialize_with = "crate::there", skip_serializing_if = "Option::is_none")]
    pub from_version: Option<Option<String>>,
    /// The generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// [`QUARANTINED`]: of the file's bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// [`RELOADED`], [`ROLLED_BACK`]: where what was given up is kept; null if it is not kept, and
    /// missing if nothing was given up.
    #[serde(deserialize_with = "crate::there", skip_serializing_if = "Option::is_none")]
    pub kept_aside: Option<Option<String>>,
    /// [`STATE_NOT_KEPT`]: there will be no further attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<bool>,
    /// [`ROLLED_BACK`]: what was given up; missing if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
    /// The plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happened, for people.
    pub reason: String,
    /// [`WORKER_RESTARTED`]: how often that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
    /// [`LOADED`], [`RELOADED`], [`ROLLED_BACK`]: what state it goes on with, such as
    /// `handed_over` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// [`RETIRED`]: how long the steps of its end took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings_ms: Option<Timings>,
    /// [`RETIRED`]: it has left memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmapped: Option<bool>,
    /// As its manifest has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// [`RELOADED`]: the kept snapshot that somebody chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub which: Option<String>,
}

/// The payload of [`CALL_FAILED`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallFailed {
    /// What went wrong, for programs.
    pub code: String,
    /// How many calls of this handler failed so since the last that was told of.
    pub count: u64,
    /// The event that it handles.
    pub event: String,
    /// The handler.
    pub handler: String,
    /// What went wrong with the first of them, for people.
    pub message: String,
    /// The plugin.
    pub name: String,
}

/// The payload of [`CALL_STUCK`].
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
