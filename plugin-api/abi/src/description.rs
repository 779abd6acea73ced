//! What a library says of itself beyond its manifest. It crosses as JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::layout::Fingerprint;

/// What a library says of itself beyond its manifest, for discovery and help.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Description {
    /// One entry a handler, in order of declaration.
    pub handlers: Vec<HandlerDescription>,
    /// One entry an event that it declares to emit, in order of declaration.
    #[serde(default)]
    pub emits: Vec<EmitDescription>,
    /// One entry an event that it requires, in order of declaration.
    #[serde(default)]
    pub requires: Vec<RequirementDescription>,
}

/// See [`Description`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EmitDescription {
    /// The event's name.
    pub event: String,
    /// JSON Schema of its payload; null where only the name is declared.
    pub schema: Value,
    /// The same as its own type reads it, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Value>,
    /// The type of its payload, where that is declared. Builds before there was this say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_type: Option<TypeDescription>,
}

/// See [`Description`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RequirementDescription {
    /// The event's name.
    pub event: String,
    /// JSON Schema of what it reads of the reply; null where it does not say.
    pub reply: Value,
}

/// See [`Description`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HandlerDescription {
    /// The method's name.
    pub name: String,
    /// The first paragraph of its documentation.
    pub summary: String,
    /// JSON Schema of its payload.
    pub payload: Value,
    /// JSON Schema of its reply.
    pub reply: Value,
    /// The same as its own type reads it, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_read: Option<Value>,
    /// The type of its payload. Builds before there was this say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_type: Option<TypeDescription>,
}

/// A type of the plugin's, and whether its values cross as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeDescription {
    /// With its path, for people: a compiler may write it in another way than the one before it.
    pub name: String,
    /// What proves that somebody else means the same by it; none if all get JSON.
    pub fingerprint: Option<Fingerprint>,
}
