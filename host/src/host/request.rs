//! A question that one handler answers.

use ksi_kernel::{event::InvalidEvent, report::Report};
use serde::de::DeserializeOwned;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// What was asked is no event.
    #[error(transparent)]
    Invalid(#[from] InvalidEvent),
    /// Nobody handles the event.
    #[error("nobody handles it")]
    Unhandled,
    /// A handler did not end well.
    #[error("{message} [{code}]")]
    Failed {
        /// The plugin that was called; empty for the host itself.
        plugin: String,
        /// Its handler.
        handler: String,
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// Every handler ended well, and none replied.
    #[error("nobody replied to it")]
    NoReply,
    /// More than one handler replied.
    #[error("{0} handlers replied to it, and one answer was expected")]
    SeveralReplies(usize),
    /// The reply is not what was expected.
    #[error("its reply is not understood: {0}")]
    Reply(#[source] serde_json::Error),
}

/// The one reply there is.
pub(super) fn only_reply<R: DeserializeOwned>(report: &Report) -> Result<R, RequestError> {
    if report.unhandled() {
        return Err(RequestError::Unhandled);
    }
    if let Some(outcome) = report.error() {
        return Err(RequestError::Failed {
            plugin: outcome.plugin.to_string(),
            handler: outcome.handler.to_string(),
            code: outcome.result.code().to_owned(),
            message: outcome.result.message(),
        });
    }
    let mut replies = report.replies();
    match (replies.next(), replies.count()) {
        (None, _) => Err(RequestError::NoReply),
        (Some(reply), 0) => reply.decode().map_err(RequestError::Reply),
        (Some(_), more) => Err(RequestError::SeveralReplies(more + 1)),
    }
}
