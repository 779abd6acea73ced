//! `module:*`: the plugins, and the files that are none.
//!
//! What is announced of them is in [`announced`].

pub mod announced;
mod changed;
mod history;
mod inspect;
mod lately;
mod schemas;

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use changed::{Changed, ConfigTaken, Lost};
pub use history::{AskHistory, History, HistoryBy, HistoryEntry, HistoryKind, HistoryVersion};
pub use inspect::{Exchange, Handler, Inspect, KeptResource, Trial};
pub use lately::{LastFailure, Lately};
pub use schemas::{AskSchemas, Emitted, EventSchemas, Handled, Required, Schemas};

use crate::Counts;

/// Asks for something of a plugin: `module:inspect`, `module:reload`, `module:unload`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Named {
    /// The plugin.
    pub module_name: String,
}

/// Loads a file, by `module:load`, or asks what would become of it then, by `module:check`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Load {
    /// The file.
    pub path: PathBuf,
    /// Further files, which go live by the same swap, or none of them does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<PathBuf>,
}

/// What would become of files: the reply to `module:check`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckedFiles {
    /// Whether a host takes all of them.
    pub ok: bool,
    /// Each of them.
    pub checked: Vec<CheckedFile>,
}

/// What would become of a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckedFile {
    /// The file, by its absolute path.
    pub file: PathBuf,
    /// Whether a host takes it.
    pub ok: bool,
    /// What kind of reason there is why not; see [`codes`](crate::codes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it does not: what it says then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the file says of itself, if a host takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Value>,
    /// What somebody should know, each for itself.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// Goes back to an earlier version, by `module:rollback`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(expecting = "struct Back")]
pub struct Rollback {
    /// The plugin.
    pub module_name: String,
    /// Also if that gives up what the live version has done to its state.
    #[serde(default)]
    pub force: bool,
}

/// The reply to `module:list`: an [`Overview`] for whoever reads it, and an [`Entry`] for the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct List<Entry = Overview> {
    /// How many there are.
    #[serde(default)]
    pub count: usize,
    /// The plugins by name, then the files that are none by path.
    pub modules: Vec<Entry>,
}

/// An entry of `module:list` as the host writes it. A file that is no plugin has fewer keys;
/// whoever reads it as an [`Overview`] finds their defaults.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Entry {
    /// A plugin.
    Plugin(Box<Overview>),
    /// A file that did not become one.
    File(Box<RefusedFile>),
}

/// That a plugin goes on with the configuration before the one that its host was last given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigRefused {
    /// For programs: the plugin's own, or what went wrong.
    pub code: String,
    /// Why it has not taken it.
    pub reason: String,
    /// When, in seconds since 1970.
    pub since: f64,
}

/// A plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overview {
    /// What kind of reason a file that is no plugin is refused for; see [`codes`](crate::codes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What the configuration file says of it, and it has not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_refused: Option<ConfigRefused>,
    /// How the calls of all its generations ended.
    pub counts: Counts,
    /// The plugin that a refused file would be, which another file is already. It is tried again
    /// when that one goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<String>,
    /// Retired generations beside those in `retired`, all of which have left memory.
    pub earlier_unmapped: usize,
    /// What it subscribes to.
    pub events: Vec<String>,
    /// Its old instance goes before the new one is made.
    pub exclusive: bool,
    /// Where it comes from.
    pub file: Option<String>,
    /// The one that is live, or was last.
    pub generation: Option<u64>,
    /// Events that wait for its state to be handed over.
    pub held: usize,
    /// The version of the snapshots that it writes; null if it keeps no state.
    pub keeps_state: Option<u32>,
    /// Why its file, or its last replacement, did not become live.
    pub last_error: Option<String>,
    /// How it does lately.
    #[serde(skip_serializing_if = "Lately::is_nothing")]
    pub lately: Lately,
    /// Events that it requires and nobody handles.
    pub missing: Vec<String>,
    /// Its name; the name of the file if it is no plugin.
    pub name: String,
    /// What somebody should know of how its library is linked.
    pub notices: Vec<String>,
    /// Why it lives in the process of the host although it asks for one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_isolated: Option<String>,
    /// It is compared with the version before it.
    pub on_probation: bool,
    /// Its snapshot on the disk.
    pub persisted: Option<Persisted>,
    /// What a rollback can go back to, the next first.
    pub previous: Vec<Previous>,
    /// A version that the host does not try by itself, or not yet.
    pub quarantined: Option<Quarantined>,
    /// How often an instance of a version was made again, because its replacement failed.
    pub reinstated: u64,
    /// How often it was replaced.
    pub reloads: u64,
    /// Events that it requires.
    pub requires: Vec<String>,
    /// Where its live generation lives, if not in the process of the host.
    #[serde(skip_serializing_if = "Residence::is_host")]
    pub residence: Residence,
    /// The latest generations that were replaced, and those that are still in memory.
    pub retired: Vec<Retired>,
    /// When its file is tried again.
    pub retry_in_ms: Option<u64>,
    /// How often it was replaced by an earlier version.
    pub rollbacks: u64,
    /// The signals that its live generation wants something of.
    pub signals: Vec<Signal>,
    /// What it does.
    pub state: ModuleState,
    /// Why its state is not on the disk as it is.
    pub state_not_kept: Option<NotKept>,
    /// What somebody should know of the state that it has.
    pub state_notice: Option<String>,
    /// As its manifest has it.
    pub version: Option<String>,
}

/// A file that did not become a plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RefusedFile {
    /// It had no calls.
    pub counts: Counts,
    /// What kind of reason it is refused for; see [`codes`](crate::codes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The plugin that it would be, which another file is already.
    pub duplicate_of: Option<String>,
    /// None.
    pub events: Vec<String>,
    /// The file.
    pub file: String,
    /// Null.
    pub generation: Option<u64>,
    /// Why it did not become one.
    pub last_error: String,
    /// Events that it requires and nobody handles.
    pub missing: Vec<String>,
    /// The name of the file.
    pub name: String,
    /// Why the host does not try it by itself, or not yet.
    pub quarantined: Option<Quarantined>,
    /// None.
    pub retired: Vec<Retired>,
    /// When it is tried again.
    pub retry_in_ms: Option<u64>,
    /// Waiting, refused or quarantined.
    pub state: ModuleState,
    /// Null.
    pub version: Option<String>,
}

/// What a plugin, or a file that is none, does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleState {
    /// It handles events.
    Live,
    /// Its old instance is released, and the new one is not there yet.
    Replacing,
    /// Its process has ended, and another one is not there yet.
    Restarting,
    /// It is unloaded, and calls of it have not ended.
    Draining,
    /// It is unloaded.
    Unloaded,
    /// It requires events that nobody handles.
    Waiting,
    /// It did not become a plugin.
    Refused,
    /// It did worse than the version before it, or the host died of it.
    Quarantined,
    /// A word of another version of the host; nothing if it says none.
    #[serde(untagged)]
    Other(String),
}

/// Where a live generation lives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Residence {
    /// In the process of the host; or nowhere, of one that is not live.
    #[default]
    Host,
    /// In a process of its own.
    Process(Process),
    /// Somewhere that this version does not know.
    #[serde(other)]
    Other,
}

impl Residence {
    /// Whether it is the process of the host.
    pub fn is_host(&self) -> bool {
        matches!(self, Residence::Host)
    }
}

/// The process of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// The state that the next process begins with if this one ends; null if there is none.
    pub checkpoint: Option<Checkpoint>,
    /// What it has run, in milliseconds of all its threads; null if that is not known.
    pub cpu_ms: Option<u64>,
    /// How it ended, while another one is not there yet.
    pub ended: Option<String>,
    /// Calls that ended in it when nobody waited for them any more.
    pub late_calls: u64,
    /// Its number.
    pub pid: u32,
    /// The memory that it has, shared memory included; null if that is not known.
    pub resident_kib: Option<u64>,
    /// How often the plugin got another one because one had ended.
    pub restarts: u64,
}

/// State of a plugin that is kept in memory, for when its process ends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    /// How long it is.
    pub bytes: u64,
    /// How many calls of its generation had ended before it was asked for.
    pub calls: u64,
    /// When it was given, in seconds since the Unix epoch.
    pub taken: f64,
}

/// What has become of a generation that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetiredState {
    /// Calls of it have not ended, or its library is being closed.
    Draining,
    /// It has left memory.
    Unmapped,
    /// It stays in memory.
    Pinned,
    /// A word of another version of the host; nothing if it says none.
    #[serde(untagged)]
    Other(String),
}

/// A generation that is not live any more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retired {
    /// Why it stays in memory.
    pub cause: Option<String>,
    /// Its number.
    pub generation: u64,
    /// What the host's process held when it had left memory, in KiB.
    pub resident_kib: Option<u64>,
    /// What has become of it.
    pub state: RetiredState,
    /// How long the steps of its end took.
    pub timings_ms: Timings,
    /// As its manifest had it.
    pub version: Option<String>,
}

/// How long steps took, in milliseconds, by their names.
pub type Timings = BTreeMap<String, Option<f64>>;

/// A version that can be gone back to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Previous {
    /// The number that it had.
    pub generation: u64,
    /// As its manifest has it.
    pub version: Option<String>,
}

/// A version that the host does not try again by itself, or not yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quarantined {
    /// How often it was tried.
    pub attempts: u32,
    /// Of its bytes.
    pub hash: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When it is tried again.
    pub retry_in_ms: Option<u64>,
    /// As its manifest has it.
    pub version: Option<String>,
}

/// A snapshot on the disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Persisted {
    /// How long it is.
    pub bytes: u64,
    /// The version of its format.
    pub version: u32,
    /// Seconds since the Unix epoch.
    pub written: f64,
}

/// Why the state of a plugin is not on the disk as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotKept {
    /// Why the last attempt failed.
    pub reason: String,
    /// When it failed for the first time, in seconds since the Unix epoch.
    pub since: f64,
    /// How often it has failed.
    pub times: u64,
}

/// A signal that a plugin wants something of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Signal {
    /// The program has a handler of its own, which is called as well.
    pub host_too: bool,
    /// It wants it ignored; otherwise it has a handler.
    pub ignored: bool,
    /// Its name.
    pub signal: String,
}

/// The reply to `module:events`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Who handles it, by event or pattern.
    pub events: BTreeMap<String, Vec<Subscriber>>,
}

/// A handler of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subscriber {
    /// Its name.
    pub handler: String,
    /// Its plugin, or `host`.
    pub module: String,
    /// Higher ones are called first.
    pub priority: i32,
}

impl Default for ModuleState {
    fn default() -> Self {
        ModuleState::Other(String::new())
    }
}

impl Default for RetiredState {
    fn default() -> Self {
        RetiredState::Other(String::new())
    }
}

impl ModuleState {
    /// The word for it.
    pub fn as_str(&self) -> &str {
        match self {
            ModuleState::Live => "live",
            ModuleState::Replacing => "replacing",
            ModuleState::Restarting => "restarting",
            ModuleState::Draining => "draining",
            ModuleState::Unloaded => "unloaded",
            ModuleState::Waiting => "waiting",
            ModuleState::Refused => "refused",
            ModuleState::Quarantined => "quarantined",
            ModuleState::Other(word) => word,
        }
    }
}

impl RetiredState {
    /// The word for it.
    pub fn as_str(&self) -> &str {
        match self {
            RetiredState::Draining => "draining",
            RetiredState::Unmapped => "unmapped",
            RetiredState::Pinned => "pinned",
            RetiredState::Other(word) => word,
        }
    }
}
