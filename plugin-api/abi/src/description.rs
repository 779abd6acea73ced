//! What a library says of itself beyond its manifest. It crosses as JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a library says of itself beyond its manifest, for discovery and help.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Description {
    /// One entry a handler, in order of declaration.
    pub handlers: Vec<HandlerDescription>,
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
}
