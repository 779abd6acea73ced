//! `monitor:*`: events that are pushed to a connection.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Word;

/// Asks for events, by `monitor:subscribe`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Subscribe {
    /// The client's name for this subscription.
    pub client_id: String,
    /// `*` is one segment, `**` any number, a bare `*` every event.
    pub event_patterns: Vec<String>,
}

/// Ends a subscription, by `monitor:unsubscribe`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// The name that it was given.
    pub client_id: String,
}

/// The reply to `monitor:subscribe`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subscribed {
    /// The name of the subscription.
    pub client_id: String,
    /// The patterns as they were written.
    pub event_patterns: Vec<Value>,
    /// `subscribed`.
    pub status: Word,
}

/// The reply to `monitor:unsubscribe`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unsubscribed {
    /// The name that was given.
    pub client_id: String,
    /// `unsubscribed` or `not_subscribed`.
    pub status: Word,
}

/// The name on the last line to a subscriber that was too slow.
pub const DROPPED: &str = "monitor:dropped";

/// What that line says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SubscriberDropped {
    /// The name of the subscription.
    #[serde(default)]
    pub client_id: String,
    /// Events that were left out.
    pub missed: u64,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
}
