//! What the plugin hears, answers and says.

use ksi_plugin_api::prelude::*;

/// One operation on the state, named in the payload.
#[event("state:update")]
pub(crate) struct Update {
    /// What to do. `set` if it is left out.
    #[serde(default)]
    pub(crate) operation: Operation,
    /// Needed by all but `list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    /// Needed by all but `list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Needed by `set`; `null` is a value too.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Value>,
}

/// What `state:update` does.
#[payload]
#[derive(Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    #[default]
    Set,
    Get,
    Delete,
    List,
}

/// Store a value.
#[event("state:set")]
pub(crate) struct Set {
    pub(crate) namespace: String,
    pub(crate) key: String,
    pub(crate) value: Value,
}

/// Read a value.
#[event("state:get")]
pub(crate) struct Get {
    pub(crate) namespace: String,
    pub(crate) key: String,
}

/// Remove a value.
#[event("state:delete")]
pub(crate) struct Delete {
    pub(crate) namespace: String,
    pub(crate) key: String,
}

/// List the keys of a namespace, or all namespaces.
#[event("state:list")]
pub(crate) struct List {
    /// Left out: the namespaces are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
}

/// A value was set. Sent after every `set`, also when the value is the same again.
#[event("state:changed")]
pub(crate) struct Changed {
    pub(crate) namespace: String,
    pub(crate) key: String,
    pub(crate) value: Value,
    /// What it replaced.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<Value>,
}

/// A value was removed.
#[event("state:deleted")]
pub(crate) struct Deleted {
    pub(crate) namespace: String,
    pub(crate) key: String,
    /// What it was.
    pub(crate) previous: Value,
}

/// This instance of the plugin ends, with so much in it. At a replacement the next one has it
/// already.
#[event("state:persisting")]
pub(crate) struct Persisting {
    pub(crate) namespaces: usize,
    pub(crate) keys: usize,
}

/// What became of a `set` or a `delete`.
#[payload]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum Status {
    /// The value is stored.
    Set,
    /// The value is gone.
    Deleted,
    /// There was none to delete.
    NotFound,
}

/// What a `get` found.
#[payload]
pub(crate) struct Found {
    /// `null` if there is none.
    pub(crate) value: Value,
    /// `false` if there is none, else left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<bool>,
}

impl Found {
    pub(crate) fn new(value: Option<Value>) -> Self {
        let found = value.is_none().then_some(false);
        Found { value: value.unwrap_or_default(), found }
    }
}

/// What a `list` found, in alphabetical order.
#[payload]
#[serde(rename_all = "snake_case")]
pub(crate) enum Listed {
    /// Of the namespace that was asked for.
    Keys(Vec<String>),
    /// When none was.
    Namespaces(Vec<String>),
}

/// The reply to `state:update`: that of the operation.
#[payload]
#[serde(untagged)]
pub(crate) enum Reply {
    Status(Status),
    Found(Found),
    Listed(Listed),
}

/// Tells `null` from a missing field.
fn given<'de, D: serde::Deserializer<'de>>(
    value: D,
) -> std::result::Result<Option<Value>, D::Error> {
    serde::Deserialize::deserialize(value).map(Some)
}
