//! Why an event that was sent is not accepted.

use ksi_abi::{Refusal, RefusalCode};
use thiserror::Error;

/// Why an event that was sent is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// Too many are waiting.
    #[error(
        "{event} is not accepted: {limit} sent events are not handled yet; send fewer, or use emit, which waits"
    )]
    QueueFull {
        /// The event.
        event: String,
        /// How many there may be.
        limit: usize,
    },
    /// Those that are waiting are too large.
    #[error(
        "{event} is not accepted: with its {bytes} bytes, sent events that are not handled yet would have more than the \
         {limit} that are allowed (limits.queued_bytes), or all that waits in the host more than limits.waiting_bytes; send \
         fewer, or use emit, which waits"
    )]
    QueueBytes {
        /// The event.
        event: String,
        /// How many bytes it has.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
    /// It is no event, or is too large or too deep.
    #[error("{0}")]
    Refused(String),
}

/// The same on its way to whoever has sent it.
#[derive(Debug, Error)]
pub(crate) enum NotSent {
    /// There is no place for it.
    #[error(transparent)]
    NoPlace(SendError),
    /// It is too large or too deep.
    #[error("{0}")]
    Refused(Refusal),
}

impl From<NotSent> for SendError {
    fn from(not_sent: NotSent) -> Self {
        match not_sent {
            NotSent::NoPlace(error) => error,
            NotSent::Refused(refusal) => SendError::Refused(refusal.text()),
        }
    }
}

impl From<NotSent> for Refusal {
    fn from(not_sent: NotSent) -> Self {
        let error = match not_sent {
            NotSent::NoPlace(error) => error,
            NotSent::Refused(refusal) => return refusal,
        };
        let code = match &error {
            SendError::QueueFull { .. } => RefusalCode::QUEUE_FULL,
            SendError::QueueBytes { .. } | SendError::Refused(_) => RefusalCode::QUEUE_BYTES,
        };
        Refusal::new(code, error)
    }
}
