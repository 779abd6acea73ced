//! The bodies of the rare frames, which are JSON. A key that is not known is passed over, and one
//! that is not there is what it is by default.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{FRAME_LIMIT, ProtocolError, VERSION, Version};

/// What a worker says first. HELLO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What it speaks.
    pub protocol: Version,
    /// Its process.
    #[serde(default)]
    pub pid: u32,
    /// What else it can do, by name. None are defined yet.
    #[serde(default)]
    pub features: Vec<String>,
}

impl Hello {
    /// That of a process that speaks what is written here.
    pub fn of(pid: u32) -> Self {
        Hello { protocol: VERSION, pid, features: Vec::new() }
    }

    /// As it goes into a frame.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Reads one of a worker that speaks what is spoken here.
    ///
    /// # Errors
    /// [`ProtocolError::Version`] if it speaks another version, whatever else it says, and
    /// [`ProtocolError::Json`].
    pub fn read(json: &[u8]) -> Result<Self, ProtocolError> {
        understood("HELLO", json)?;
        read("HELLO", json)
    }
}

/// What a worker is to open, and within which limits. OPEN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// What the host speaks.
    pub protocol: Version,
    /// The plugin's name.
    pub plugin: String,
    /// The file to open, in the system's bytes.
    pub path: Vec<u8>,
    /// The symbol of the root module of a native library.
    #[serde(default)]
    pub header: String,
    /// The file that this is a copy of, in the system's bytes.
    #[serde(default)]
    pub file: Vec<u8>,
    /// Whether the plugin is only tried out.
    #[serde(default)]
    pub trial: bool,
    /// The most detailed level that anybody listens to: 0 none, 1 error to 5 trace.
    #[serde(default)]
    pub level: u8,
    /// What `CLOCK_MONOTONIC` showed when the host's clock was zero, in nanoseconds.
    #[serde(default)]
    pub clock_zero: u64,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// What the process is to do to itself before it opens the file. Its form is no matter of the
    /// protocol.
    #[serde(default)]
    pub sandbox: serde_json::Value,
    /// What a worker that runs Python is told beyond that; null for all others.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub python: serde_json::Value,
}

impl Default for Open {
    /// That of nothing in particular, by a host without a configuration.
    fn default() -> Self {
        Open {
            protocol: VERSION,
            plugin: String::new(),
            path: Vec::new(),
            header: String::new(),
            file: Vec::new(),
            trial: false,
            level: 0,
            clock_zero: 0,
            limits: Limits::default(),
            sandbox: serde_json::Value::Null,
            python: serde_json::Value::Null,
        }
    }
}

impl Open {
    /// As it goes into a frame.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Reads one of a host that speaks what is spoken here.
    ///
    /// # Errors
    /// As in [`Hello::read`].
    pub fn read(json: &[u8]) -> Result<Self, ProtocolError> {
        understood("OPEN", json)?;
        read("OPEN", json)
    }
}

/// Bounds that a worker keeps by itself, so that it can answer a plugin without asking its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of a frame's body, in both directions.
    pub frame: u32,
    /// Bytes of an event's payload, and of a reply.
    pub payload: u64,
    /// Bytes of a snapshot.
    pub state: u64,
    /// Events that lie between one and the first of its chain.
    pub depth: u32,
    /// Background tasks that run.
    pub tasks: u64,
    /// Threads for handlers that block, where the worker has a pool of them.
    pub blocking_threads: u64,
    /// Subscriptions and watches that are made at run time, all together.
    pub subscriptions: u64,
    /// Emits and waits that are not answered.
    pub emits: u64,
    /// Events that were sent and are not handled.
    pub sends: u64,
    /// Contexts of calls that are over, and are kept.
    pub kept_contexts: u64,
    /// Events that wait in one watch.
    pub watch_events: u64,
    /// Bytes of events that wait in one watch.
    pub watch_bytes: u64,
}

impl Default for Limits {
    /// Those of a host without a configuration.
    fn default() -> Self {
        Limits {
            frame: FRAME_LIMIT,
            payload: 10 << 20,
            state: 64 << 20,
            depth: 64,
            tasks: 4_096,
            blocking_threads: 64,
            subscriptions: 1_024,
            emits: 4_096,
            sends: 1_024,
            kept_contexts: 4_096,
            watch_events: 1_024,
            watch_bytes: 32 << 20,
        }
    }
}

/// What a worker's process takes. STATS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Bytes of its memory that are in use.
    pub memory: u64,
    /// Background tasks that run.
    pub tasks: u64,
    /// Contexts of calls that are over, and are kept.
    pub kept_contexts: u64,
    /// Calls that have begun and not ended.
    pub calls: u64,
}

impl Stats {
    /// As it goes into a frame.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`ProtocolError::Json`].
    pub fn read(json: &[u8]) -> Result<Self, ProtocolError> {
        read("STATS", json)
    }
}

/// Whether this side understands one that says so, whatever else it says.
fn understood(frame: &'static str, json: &[u8]) -> Result<(), ProtocolError> {
    #[derive(Deserialize)]
    struct Speaks {
        protocol: Version,
    }
    let (ours, theirs) = (VERSION, read::<Speaks>(frame, json)?.protocol);
    match ours.understands(theirs) {
        true => Ok(()),
        false => Err(ProtocolError::Version { ours, theirs }),
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Numbers, texts and lists of them have JSON.
    serde_json::to_vec(value).unwrap_or_default()
}

fn read<T: DeserializeOwned>(frame: &'static str, json: &[u8]) -> Result<T, ProtocolError> {
    serde_json::from_slice(json)
        .map_err(|error| ProtocolError::Json { frame, reason: error.to_string() })
}
