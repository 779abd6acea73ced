//! One plugin in full.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Overview, Timings};
use crate::{Counts, Word};

/// The reply to `module:inspect`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inspect {
    /// What `module:list` says of it.
    #[serde(flatten)]
    pub overview: Overview,
    /// Its background tasks; null if it is not live.
    pub background_tasks: Option<usize>,
    /// Names of the events that it declares to emit.
    pub emits: Vec<String>,
    /// JSON Schemas of their payloads, of those that it declares by a type.
    pub emits_schemas: BTreeMap<String, Value>,
    /// How what it emits gets to the handlers of live plugins, and what those emit to its own.
    pub exchanges: Vec<Exchange>,
    /// How the calls of the live generation ended.
    pub generation_counts: Option<Counts>,
    /// In the order of declaration.
    pub handlers: Vec<Handler>,
    /// Of its file's bytes.
    pub hash: String,
    /// What the host keeps for it over its generations.
    pub kept_resources: Vec<KeptResource>,
    /// As it stands in its file.
    pub manifest: Value,
    /// How long the steps of its loading took.
    pub timings_ms: Timings,
    /// What an instance in a process of its own told before this one was made.
    pub trial: Option<Trial>,
    /// The patterns of each watch that it has now, separated by commas.
    pub watches: Vec<String>,
}

/// A handler of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handler {
    /// It may block its thread.
    pub blocking: bool,
    /// How its calls ended, over all generations.
    pub counts: Option<Counts>,
    /// Its name.
    pub name: String,
    /// What its payload has, by name: `type`, `required`, and perhaps a `description`.
    pub parameters: Option<Map<String, Value>>,
    /// A JSON Schema of its payload.
    pub payload_schema: Option<Value>,
    /// Higher ones are called first.
    pub priority: i32,
    /// A JSON Schema of its reply.
    pub reply_schema: Option<Value>,
    /// Event names or patterns.
    pub subscriptions: Vec<String>,
    /// What it does, in one line.
    pub summary: Option<String>,
    /// Its deadline; 0 stands for the host's default.
    pub timeout_ms: u64,
}

/// How an event gets from a plugin that declares to emit it to a handler.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exchange {
    /// Who emits it.
    pub emitter: String,
    /// The event.
    pub event: String,
    /// `value` if the handler reads the very value, `json` if it reads that, and `unknown`.
    pub form: Word,
    /// Who handles it.
    pub handler: String,
    /// The plugin of the handler.
    pub module: String,
    /// As what it is emitted; null if only the name is declared, or that is not told.
    pub sent_type: Option<String>,
    /// As what it is handled; null if that is not told.
    pub taken_type: Option<String>,
    /// Why it goes so: `same_definition`; `other_layout`, of one name; `other_type`;
    /// `sent_as_json` and `taken_as_json`, of a type whose layout cannot be proved; `process`, if
    /// one of them lives in its own; `python`; `declared_by_name`; `not_told`, of a handler that
    /// is subscribed while its plugin runs, or of a build that says nothing of its types.
    pub why: Word,
}

/// A descriptor that the host keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptResource {
    /// Where it listens.
    pub address: Option<String>,
    /// By which the plugin asks for it.
    pub name: String,
}

/// What a trial told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trial {
    /// Why it told nothing; missing if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `passed`, `unsure` or `skipped`.
    pub result: Word,
}
