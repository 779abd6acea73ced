//! The lines of a connection: one JSON object each.
//!
//! The host writes replies and pushes byte by byte around payloads that it does not decode; these
//! are the same lines for whoever reads them. Payloads stay the text that came.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// Keys beside `event`, `data` and `correlation_id` that an event carries on as its attributes.
pub const ATTRIBUTES: [&str; 7] = [
    "_client_id",
    "_agent_id",
    "_event_id",
    "_correlation_id",
    "_parent_event_id",
    "_root_event_id",
    "_event_depth",
];

/// A request.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Request<'a, Data, Id> {
    /// The event that is emitted.
    pub event: &'a str,
    /// Its payload, as JSON or as what becomes it.
    pub data: Data,
    /// By what its reply is known again: a text, a number or a bool. Requests that have one are
    /// served beside one another.
    pub correlation_id: Id,
}

/// A line from the host: a reply if it has a correlation id or no event id, else a push. Whoever
/// knows which it is reads a [`Reply`] or a [`Push`].
#[derive(Debug, Default, Deserialize)]
pub struct Reply<'a> {
    /// The one result, or a list of none or several.
    #[serde(default, borrow)]
    pub data: Option<&'a RawValue>,
    /// How many results there are.
    #[serde(default)]
    pub count: Option<usize>,
    /// As the request had it.
    #[serde(default, borrow)]
    pub correlation_id: Option<&'a RawValue>,
    /// `data` is the host's own word on a failure, and no handler's answer: a [`FailedReply`] or an
    /// [`UnknownEvent`].
    #[serde(default)]
    pub failed: bool,
    /// The failures beside the answers in `data`, or all of them if there are several:
    /// [`FailureBeside`].
    #[serde(default)]
    pub errors: Vec<Value>,
    /// The request itself could not be served.
    #[serde(default)]
    pub error: Option<Value>,
}

/// A line for an event that was subscribed to.
#[derive(Debug, Default, Deserialize)]
pub struct Push<'a> {
    /// The event.
    #[serde(default)]
    pub event: Option<String>,
    /// Its payload.
    #[serde(default, borrow)]
    pub data: Option<&'a RawValue>,
    /// Seconds since the Unix epoch.
    #[serde(default)]
    pub timestamp: Option<f64>,
    /// The number of the event. A line without one is no event but the host's word on the
    /// subscription.
    #[serde(default, rename = "_event_id")]
    pub event_id: Option<String>,
    /// The plugin that emitted it; empty for the host.
    #[serde(default, rename = "_source")]
    pub source: Option<String>,
}

/// A failed call, where it stands for the whole reply.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct FailedReply {
    /// `failed`.
    pub status: Cow<'static, str>,
    /// What went wrong, for people.
    pub error: String,
    /// What went wrong, for programs.
    pub code: String,
    /// The plugin whose handler it was, or `host`.
    pub module: String,
    /// The handler.
    pub handler: String,
}

/// A failed call beside others.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct FailureBeside {
    /// What went wrong, for programs.
    pub code: String,
    /// What went wrong, for people.
    pub error: String,
    /// The handler.
    pub handler: String,
    /// The plugin whose handler it was, or `host`.
    pub module: String,
}

/// Nobody handles the event.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct UnknownEvent {
    /// What there is instead.
    pub details: Known,
    /// What went wrong, for people.
    pub error: String,
    /// `error`.
    pub status: Cow<'static, str>,
}

/// What there is in place of an event that nobody handles.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Known {
    /// The namespaces of all events.
    pub namespaces: Vec<String>,
    /// Names like the one that was asked for, the most similar first.
    pub similar: Vec<String>,
}

/// What is said to a client that made no request, or is ended.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Refusal {
    /// Why, for people.
    pub error: String,
}
