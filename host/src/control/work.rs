//! What one line of a client asks for.

use super::{
    monitor::Monitor,
    request::{Malformed, Request},
};

/// What one line asks for.
pub(super) enum Work<'a> {
    Request(Request<'a>),
    Malformed(Malformed<'a>),
}

impl<'a> From<Result<Request<'a>, Malformed<'a>>> for Work<'a> {
    fn from(parsed: Result<Request<'a>, Malformed<'a>>) -> Self {
        match parsed {
            Ok(request) => Work::Request(request),
            Err(malformed) => Work::Malformed(malformed),
        }
    }
}

impl Work<'_> {
    pub(super) fn is_correlated(&self) -> bool {
        match self {
            Work::Request(request) => request.correlation_id.is_given(),
            Work::Malformed(malformed) => malformed.correlation_id.is_given(),
        }
    }

    pub(super) fn into_owned(self) -> Work<'static> {
        match self {
            Work::Request(request) => Work::Request(request.into_owned()),
            Work::Malformed(malformed) => Work::Malformed(malformed.into_owned()),
        }
    }

    /// The event that is asked for.
    pub(super) fn event(&self) -> Option<&str> {
        match self {
            Work::Request(request) => Some(&request.event),
            Work::Malformed(_) => None,
        }
    }

    pub(super) fn is_subscription(&self) -> bool {
        matches!(self, Work::Request(request) if Monitor::is_for(request))
    }
}
