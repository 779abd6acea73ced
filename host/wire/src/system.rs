//! `system:*`: how the host is, what events it knows, who is connected, and its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Counts, Word};

/// The reply to `system:health`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// How all calls so far ended.
    pub counts: Counts,
    /// Names that somebody handles.
    pub events: usize,
    /// Events that were accepted so far.
    pub events_emitted: u64,
    /// What waits.
    pub memory: Memory,
    /// The host's process.
    pub pid: u32,
    /// Plugins that are live.
    pub plugins: usize,
    /// How far the start is; missing when it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starting: Option<Starting>,
    /// Plugins whose state is not on the disk as it is.
    pub state_not_kept: Vec<UnkeptState>,
    /// `starting`, `healthy`, `degraded` or `stopping`.
    pub status: Word,
    /// How far the stop is; missing while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Stopping>,
    /// Seconds since the host was started.
    pub uptime: f64,
    /// Of the host.
    pub version: Word,
}

/// What waits in the host for somebody to take it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// How often somebody was given up because too much waited.
    pub given_up: u64,
    /// What may wait, in bytes.
    pub limit: usize,
    /// What waits, in bytes.
    pub waiting_bytes: usize,
}

/// How far a host is that loads its plugins still.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Starting {
    /// The file that is being loaded; missing before the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loading: Option<String>,
    /// Which one it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
    /// How many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<usize>,
    /// For how long it has been starting.
    pub seconds: f64,
}

/// A plugin whose state is not on the disk as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnkeptState {
    /// It is live, so there will be another attempt.
    pub live: bool,
    /// The plugin.
    pub name: String,
    /// Why the last attempt failed.
    pub reason: String,
    /// When it failed for the first time, in seconds since the Unix epoch.
    pub since: f64,
}

/// How far a host is that stops.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stopping {
    /// For how long it has been stopping.
    pub seconds: f64,
    /// `draining`, `unloading` or `leaving`.
    pub stage: Word,
    /// What it waits for.
    pub waits_for: Inside,
}

/// What is inside a host that stops, and has to end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inside {
    /// By plugin and handler.
    pub calls: Vec<Calls>,
    /// Clients' events that have no report yet.
    pub events_of_clients: u64,
    /// Events that were sent and have not been handled.
    pub sent_events: usize,
}

/// Calls of one handler that have not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calls {
    /// How many.
    pub calls: u64,
    /// What it subscribes to.
    pub events: Vec<String>,
    /// The handler.
    pub handler: String,
    /// Its plugin.
    pub plugin: String,
}

/// Asks for the events that there are, by `system:discover`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Discover {
    /// `summary`, `namespace` or `full`; else all of them by namespace.
    pub level: Option<String>,
    /// Only events of this namespace.
    pub namespace: Option<String>,
    /// Only this event.
    pub event: Option<String>,
    /// Only events of this plugin.
    pub module: Option<String>,
}

/// The reply to `system:discover`, by the level that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Discovered {
    /// Without one.
    ByNamespace(ByNamespace),
    /// `summary`.
    Summary(Summary),
    /// `namespace` and `full`.
    Flat(Flat),
}

/// All events, by namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ByNamespace {
    /// By namespace.
    pub events: BTreeMap<String, Vec<Event>>,
}

/// The namespaces alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// `summary`.
    #[serde(rename = "_level")]
    pub level: Word,
    /// By name.
    pub namespaces: BTreeMap<String, Namespace>,
}

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// How many events it has.
    pub count: usize,
    /// Their names.
    pub description: String,
}

/// All events in one table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flat {
    /// `namespace` or `full`.
    #[serde(rename = "_level")]
    pub level: Word,
    /// By name.
    pub events: BTreeMap<String, Event>,
    /// Those that the events are of.
    pub namespaces: Vec<String>,
    /// How many events there are.
    pub total: usize,
}

/// Asks what an event takes, by `system:help`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Help {
    /// Its name.
    pub event: String,
}

/// An event that somebody handles; the reply to `system:help`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Its name.
    pub event: String,
    /// How it is sent. In the reply to `system:help` alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
    /// Who handles it. Missing where events are told in brief.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The plugin that handles it, or `host`. Missing where events are told in brief.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// What its payload has, by name: `type`, `required`, and perhaps a `description`.
    pub parameters: Map<String, Value>,
    /// What it does, in one line.
    pub summary: String,
}

/// An event with a payload that it takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Example {
    /// The payload.
    pub data: Value,
    /// The event.
    pub event: String,
}

/// The reply to `system:clients`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clients {
    /// In the order in which they came.
    pub clients: Vec<Client>,
    /// How many there are.
    pub count: usize,
    /// How many there may be.
    pub limit: usize,
}

/// A client of the control socket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Client {
    /// What waits for it or because of it.
    pub bytes: usize,
    /// By which `system:disconnect` knows it.
    pub id: u64,
    /// For how many seconds nothing was heard of it.
    pub idle: f64,
    /// Its process.
    pub pid: Option<i32>,
    /// Lines that came from it.
    pub requests: u64,
    /// Slots of requests that are being served.
    pub serving: usize,
    /// When it came, in seconds since the Unix epoch.
    pub since: f64,
    /// How many it has.
    pub subscriptions: usize,
    /// The user that its process belongs to.
    pub uid: Option<u32>,
}

/// Ends a client's connection, by `system:disconnect`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Disconnect {
    /// Its number, as `system:clients` has it.
    pub id: u64,
}

/// The reply to `system:disconnect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disconnected {
    /// The client's number.
    pub id: u64,
    /// `disconnected`.
    pub status: Word,
}

/// Asks by `system:log` what is written of the log, and changes it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Forgets the levels that were asked for before.
    pub reset: bool,
    /// New levels, by the names of plugins and targets; `*` is all that has none of its own.
    pub set: BTreeMap<String, String>,
}

/// The reply to `system:log`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogInEffect {
    /// What is in effect, `*` first.
    pub levels: Vec<LogLevel>,
    /// Names among those that were set of which no plugin is live, and which are no target of the
    /// host.
    pub unknown: Vec<String>,
}

/// What is written of a plugin or a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLevel {
    /// Who says so: `asked`, `environment` (`KSI_LOG`), `file` (the configuration), `default`, or
    /// `subscriber`, that of a program that embeds the host.
    pub from: Word,
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The plugin or target; `*` for all that has none of its own.
    pub name: String,
}

/// The reply to `system:shutdown_request`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shutdown {
    /// Clients can connect to the socket also when the host has ended.
    pub socket_stays: bool,
    /// `draining`, `unloading` or `leaving`.
    pub stage: Word,
    /// `stopping`.
    pub status: Word,
}

/// The payload of `system:startup`, `system:ready` and `system:shutdown`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostAnnounced {
    /// The host's process.
    pub pid: u32,
    /// Plugins that are live.
    pub plugins: usize,
    /// Of the host.
    pub version: Word,
}
