//! What the plugin hears and says.

use ksi_plugin_api::prelude::*;

/// Complete a prompt.
#[event("completion:request")]
pub(crate) struct Request {
    pub(crate) prompt: String,
    /// `echo` gives the prompt back, whatever the provider. Left out: the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// Left out: the provider's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    /// Whether `completion:chunk` is emitted for each piece of the answer.
    #[serde(default)]
    pub(crate) stream: bool,
    /// Comes back in all events of this request. Left out: the number of the request's event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
}

/// A prompt was completed. The reply to `completion:request` is the same.
#[event("completion:result")]
pub(crate) struct Completed {
    pub(crate) request_id: String,
    /// The model that the provider says it used.
    pub(crate) model: String,
    pub(crate) provider: String,
    pub(crate) text: String,
    /// Why the text ends there, in the provider's words: `stop`, `length`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) finish_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
}

/// What the provider counted.
#[payload]
#[derive(Copy)]
pub(crate) struct Usage {
    #[serde(default)]
    pub(crate) prompt_tokens: u64,
    #[serde(default)]
    pub(crate) completion_tokens: u64,
    #[serde(default)]
    pub(crate) total_tokens: u64,
}

/// A piece of an answer that is still being written.
#[event("completion:chunk")]
pub(crate) struct Chunk {
    pub(crate) request_id: String,
    /// Counts from 0.
    pub(crate) index: u64,
    pub(crate) text: String,
}

/// A prompt was not completed. `completion:request` fails with the same code and message.
#[event("completion:failed")]
pub(crate) struct Failed {
    pub(crate) request_id: String,
    pub(crate) model: String,
    pub(crate) provider: String,
    pub(crate) code: String,
    pub(crate) message: String,
}
