//! Why a prompt was not completed.

use std::time::Duration;

use ksi_plugin_api::Error;
use thiserror::Error as ThisError;

/// One variant a failed step. No variant holds the API key; see `openai::Secret`.
#[derive(Debug, ThisError)]
pub(crate) enum Failure {
    #[error("no model is named: name one in the request, or set `model` in the configuration")]
    NoModel,
    #[error(
        "{limit} requests are waiting for {place} already: try again later, or raise max_concurrent"
    )]
    Busy { place: String, limit: usize },
    #[error("the request to {place} cannot be written")]
    Unwritable { place: String, source: serde_json::Error },
    #[error("{place} cannot be reached: is base_url right, and does the server run?")]
    Unreachable { place: String, source: reqwest::Error },
    #[error("the connection to {place} broke before its answer was there")]
    Disconnected { place: String, source: reqwest::Error },
    #[error("{place} did not finish within {after:?}: raise timeout_seconds if it is only slow")]
    TimedOut { place: String, after: Duration },
    #[error("{place} refused the request with status {status}: {message}")]
    Refused { place: String, status: u16, message: String },
    #[error("{place} failed with status {status}: {message}")]
    ServerFailed { place: String, status: u16, message: String },
    #[error("{place} gave up in the middle of its answer: {message}")]
    FailedMidway { place: String, message: String },
    #[error("the stream of {place} broke after {pieces} pieces")]
    BrokenStream { place: String, pieces: u64, source: reqwest::Error },
    #[error("the stream of {place} ended after {pieces} pieces without saying that it is done")]
    CutStream { place: String, pieces: u64 },
    #[error("{place} answered with something that is no chat completion")]
    Malformed { place: String, source: serde_json::Error },
    #[error("{place} answered without a text")]
    NoText { place: String },
    #[error(
        "the answer of {place} has more than {limit} bytes: raise max_response_bytes if it should"
    )]
    TooLarge { place: String, limit: usize },
}

impl Failure {
    fn code(&self) -> &'static str {
        match self {
            Failure::NoModel | Failure::Unwritable { .. } => "invalid_request",
            Failure::Busy { .. } => "busy",
            Failure::Unreachable { .. } | Failure::Disconnected { .. } => "unreachable",
            Failure::TimedOut { .. } => "timed_out",
            Failure::Refused { .. } => "provider_refused",
            Failure::ServerFailed { .. } | Failure::FailedMidway { .. } => "provider_failed",
            Failure::BrokenStream { .. } | Failure::CutStream { .. } => "broken_stream",
            Failure::Malformed { .. } | Failure::NoText { .. } => "invalid_response",
            Failure::TooLarge { .. } => "too_large",
        }
    }

    /// With the code of the variant, and the causes in the message.
    pub(crate) fn into_error(self) -> Error {
        let code = self.code();
        Error::new(code, Error::from(self))
    }
}
