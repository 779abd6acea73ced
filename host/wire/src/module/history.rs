//! `module:history`: what has become of plugins, over restarts of the host.

use serde::{Deserialize, Serialize};

use crate::Word;

/// Asks for the newest entries, by `module:history`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskHistory {
    /// Only of these kinds; of all if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<HistoryKind>,
    /// How many at the most; 100 if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only of this plugin, or of the file that has this path or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_name: Option<String>,
    /// None from before that, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<f64>,
}

/// The reply to `module:history`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// What was asked for, the newest last.
    pub entries: Vec<HistoryEntry>,
    /// The file that it is kept in over restarts; null if it ends with the host.
    pub file: Option<String>,
    /// How many there are of what was asked for, with those beyond the limit.
    pub matching: usize,
    /// How many are in no file, because that could not be written.
    pub unwritten: u64,
}

/// Something that happened. It is also a line of the file in which a host keeps them: what a kind
/// has nothing to say of is missing, and later versions add kinds and keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// When, in seconds since the Unix epoch.
    pub at: f64,
    /// The version that was live before: what was replaced or gone back from, or goes on instead of
    /// what was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<HistoryVersion>,
    /// Who had it done.
    pub by: HistoryBy,
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Of the file's bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// What.
    pub kind: HistoryKind,
    /// The plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The process that the plugin has of its own, or that of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
    /// Why, for people.
    pub reason: String,
    /// As its manifest has it; of a start or stop, that of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// The host began.
    Started,
    /// The host ended in order.
    Stopped,
    /// A generation went live.
    Live,
    /// A plugin that lived in the process of the host has one of its own now.
    Isolated,
    /// A file did not go live.
    Refused,
    /// An earlier version went live again.
    RolledBack,
    /// An earlier version should have, and could not.
    NotRolledBack,
    /// Bytes are not tried again by the host, or not yet.
    Quarantined,
    /// A generation is no longer live, and no other took its place.
    Unloaded,
    /// The process of a plugin ended.
    Died,
    /// A plugin got another process.
    Restarted,
    /// A word of another version of the host; nothing if it says none.
    #[serde(untagged)]
    Other(String),
}

/// Who had something done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryBy {
    /// The event that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Whose it was: `uid=1000 pid=4711` for a client, or `plugin NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `start`: it lay in a folder when the host started. `folder`: its file has changed.
    /// `configuration`: the configuration file has. `request`: an event asked for it. `program`: the
    /// program around the host. `retry`: the host tried again. `probation`: the host judged by
    /// calls. `host`: something else that the host does.
    pub kind: Word,
}

/// A version that was live before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryVersion {
    /// Its number.
    pub generation: u64,
    /// As its manifest has it.
    pub version: String,
}

impl HistoryKind {
    /// All that this version knows.
    pub const KNOWN: [HistoryKind; 11] = [
        HistoryKind::Started,
        HistoryKind::Stopped,
        HistoryKind::Live,
        HistoryKind::Isolated,
        HistoryKind::Refused,
        HistoryKind::RolledBack,
        HistoryKind::NotRolledBack,
        HistoryKind::Quarantined,
        HistoryKind::Unloaded,
        HistoryKind::Died,
        HistoryKind::Restarted,
    ];

    /// The word for it.
    pub fn as_str(&self) -> &str {
        match self {
            HistoryKind::Started => "started",
            HistoryKind::Stopped => "stopped",
            HistoryKind::Live => "live",
            HistoryKind::Isolated => "isolated",
            HistoryKind::Refused => "refused",
            HistoryKind::RolledBack => "rolled_back",
            HistoryKind::NotRolledBack => "not_rolled_back",
            HistoryKind::Quarantined => "quarantined",
            HistoryKind::Unloaded => "unloaded",
            HistoryKind::Died => "died",
            HistoryKind::Restarted => "restarted",
            HistoryKind::Other(word) => word,
        }
    }
}

impl Default for HistoryKind {
    fn default() -> Self {
        HistoryKind::Other(String::new())
    }
}
