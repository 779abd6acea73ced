//! A question that one handler answers. What counts as its answer is what a plugin's
//! `ctx.request` takes for one.

use std::{any::TypeId, fmt};

use ksi_kernel::{event::InvalidEvent, report::Report};
use serde::de::DeserializeOwned;
use serde_json::Value;

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
    /// Nobody replied, and a handler did not end well.
    #[error("{}: {message} [{code}]", Callee { plugin, handler })]
    Failed {
        /// The plugin that was called; empty for the host itself.
        plugin: String,
        /// Its handler.
        handler: String,
        /// For programs; of a failure its own. How a call ended, whatever the code, is in the
        /// report that [`Host::emit`](crate::Host::emit) gives.
        code: String,
        /// For people.
        message: String,
    },
    /// Every handler ended well, and none replied, where a reply has to be: it is not awaited as
    /// `()`, an `Option`, or another type that reads `null`.
    #[error("nobody replied to it")]
    NoReply,
    /// More than one handler replied.
    #[error("{0} handlers replied to it, and one answer was expected")]
    SeveralReplies(usize),
    /// The reply is not what was expected.
    #[error("its reply is not understood: {0}")]
    Reply(#[source] serde_json::Error),
}

/// Who was called.
struct Callee<'a> {
    plugin: &'a str,
    handler: &'a str,
}

impl fmt::Display for Callee<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.handler, self.plugin) {
            ("", _) => f.write_str("it is not accepted"),
            (handler, "") => write!(f, "handler {handler} of the host"),
            (handler, plugin) => write!(f, "plugin {plugin}, handler {handler}"),
        }
    }
}

/// The one reply there is.
pub(super) fn only_reply<R: DeserializeOwned + 'static>(
    report: &Report,
) -> Result<R, RequestError> {
    let mut replies = report.replies();
    match (replies.next(), replies.count()) {
        (Some(reply), 0) => return reply.decode().map_err(RequestError::Reply),
        (Some(_), more) => return Err(RequestError::SeveralReplies(more + 1)),
        (None, _) if report.unhandled() => return Err(RequestError::Unhandled),
        (None, _) => {}
    }
    match report.error() {
        Some(outcome) => Err(RequestError::Failed {
            plugin: outcome.plugin.to_string(),
            handler: outcome.handler.to_string(),
            code: outcome.result.code().to_owned(),
            message: outcome.result.message(),
        }),
        None => nothing().ok_or(RequestError::NoReply),
    }
}

/// What stands for a reply that there need not be. A [`Value`] would do as well, but whoever takes
/// any reply wants one.
fn nothing<R: DeserializeOwned + 'static>() -> Option<R> {
    let any = TypeId::of::<R>() == TypeId::of::<Value>();
    if any { None } else { serde_json::from_value(Value::Null).ok() }
}
