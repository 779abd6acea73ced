//! What events carry, by JSON Schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Asks by `module:schemas` for what is said of an event.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AskSchemas {
    /// Its name, or the pattern that a handler subscribes to; all that live plugins say if it is
    /// missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

/// The reply to `module:schemas`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Schemas {
    /// By event or pattern. The events that the host alone answers are there if one of them is
    /// asked for.
    pub events: BTreeMap<String, EventSchemas>,
}

/// Who has to do with an event, and as what. Whoever listens to everything is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventSchemas {
    /// Who declares to emit it, by plugin.
    pub emits: Vec<Emitted>,
    /// Who handles it, by its name or a pattern.
    pub handles: Vec<Handled>,
    /// Who requires it.
    pub requires: Vec<Required>,
}

/// An event as a plugin emits it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Emitted {
    /// The plugin.
    pub module: String,
    /// A JSON Schema of the payload; null if the event is declared by its name alone.
    pub payload_schema: Option<Value>,
    /// The plugin's version.
    pub version: Option<String>,
}

/// An event as a handler takes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handled {
    /// The handler.
    pub handler: String,
    /// Its plugin, or `host`.
    pub module: String,
    /// A JSON Schema of the payload; null for a handler that is subscribed while its plugin runs,
    /// and for the host's own.
    pub payload_schema: Option<Value>,
    /// A JSON Schema of the reply; null as above.
    pub reply_schema: Option<Value>,
    /// The name or pattern that it subscribes to.
    pub subscription: String,
    /// What it does, in one line.
    pub summary: Option<String>,
    /// The plugin's version; null for the host.
    pub version: Option<String>,
}

/// An event as a plugin requires it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Required {
    /// The plugin.
    pub module: String,
    /// A JSON Schema of what it reads of the reply; null if it does not say.
    pub reply_schema: Option<Value>,
    /// The plugin's version.
    pub version: Option<String>,
}
