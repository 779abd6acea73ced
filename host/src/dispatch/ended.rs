//! How a call ended, as it came from the callee: nothing is copied, decoded or encoded before somebody asks for it.

use std::time::Duration;

use ksi_plugin_api::abi::{Buffer, CallEnd, Fingerprint, OutcomeCode, Value};

use super::call::Entry;
use crate::{
    report::OutcomeKind,
    shared_value::{Encoded, SharedValue, Unencodable},
};

/// See [`OutcomeKind`], which is what it is outside of the host's core.
pub(crate) enum Ended {
    Replied(Reply),
    NoReply,
    Failed { code: Buffer, message: Buffer },
    Panicked { message: Buffer },
    TimedOut { after: Duration },
    Rejected { reason: String },
}

/// A reply.
pub(crate) enum Reply {
    /// As JSON.
    Bytes(Buffer),
    /// A value that nothing keeps the library of: it goes no further than the call's entry.
    Loose(Value),
    /// A value with what keeps its library.
    Shared(SharedValue),
}

impl From<CallEnd> for Ended {
    fn from(end: CallEnd) -> Self {
        match end {
            CallEnd::Reply(reply) => Ended::Replied(Reply::Bytes(reply)),
            CallEnd::Value(value) => Ended::Replied(Reply::Loose(value)),
            CallEnd::NoReply => Ended::NoReply,
            CallEnd::Failed(code, message) => Ended::Failed { code, message },
            CallEnd::Panicked(message) => Ended::Panicked { message },
        }
    }
}

impl From<Unencodable> for Ended {
    fn from(Unencodable { code, message }: Unencodable) -> Self {
        Ended::Failed { code: (&*code).into(), message: (&*message).into() }
    }
}

impl From<Encoded> for Ended {
    fn from(encoded: Encoded) -> Self {
        match encoded.into_result() {
            Ok(payload) => Ended::Replied(Reply::Bytes(payload.as_json().into())),
            Err(failure) => failure.into(),
        }
    }
}

impl Ended {
    /// What may leave a call that entered by `entry`. Plain data of the layout that the emitter wants stays as it is, because letting
    /// it go runs no code of the callee; any other value keeps the callee's library from here on.
    #[inline]
    pub(super) fn of(self, entry: &Entry, wants: Option<Fingerprint>) -> Self {
        let Ended::Replied(Reply::Loose(value)) = self else { return self };
        if wants == Some(value.fingerprint()) && !value.needs_maker_to_drop() {
            return Ended::Replied(Reply::Loose(value));
        }
        match &entry.keeper {
            Some(keeper) => Ended::Replied(Reply::Shared(SharedValue::new(value, keeper.clone()))),
            // Handlers of the host itself reply in JSON.
            None => Encoded::of(&value).into(),
        }
    }

    /// With a reply that needs no code of the callee any more: a value with its library becomes JSON. One without stays
    /// what it is. It is plain data in the layout that is wanted, and by now the code that could encode it may be gone.
    /// Where plugin code may run.
    pub(crate) fn without_code(self) -> Self {
        match &self {
            Ended::Replied(Reply::Shared(shared)) => shared.encode().into(),
            _ => self,
        }
    }

    pub(crate) fn is_ok(&self) -> bool {
        matches!(self, Ended::Replied(_) | Ended::NoReply)
    }

    pub(crate) fn code(&self) -> OutcomeCode {
        match self {
            Ended::Replied(_) => OutcomeCode::Replied,
            Ended::NoReply => OutcomeCode::NoReply,
            Ended::Failed { .. } => OutcomeCode::Failed,
            Ended::Panicked { .. } => OutcomeCode::Panicked,
            Ended::TimedOut { .. } => OutcomeCode::TimedOut,
            Ended::Rejected { .. } => OutcomeCode::Rejected,
        }
    }

    /// What went wrong, in texts; `None` when all is well.
    pub(crate) fn failure(&self) -> Option<OutcomeKind> {
        Some(match self {
            Ended::Replied(_) | Ended::NoReply => return None,
            Ended::Failed { code, message } => {
                OutcomeKind::Failed { code: code.to_text(), message: message.to_text() }
            }
            Ended::Panicked { message } => OutcomeKind::Panicked { message: message.to_text() },
            Ended::TimedOut { after } => OutcomeKind::TimedOut { after: *after },
            Ended::Rejected { reason } => OutcomeKind::Rejected { reason: reason.clone() },
        })
    }
}

impl From<Ended> for OutcomeKind {
    /// A reply that is a value becomes JSON: one without its library only right after its call, while the callee is there.
    /// Where plugin code may run.
    fn from(ended: Ended) -> Self {
        let ended = match &ended {
            Ended::Replied(Reply::Loose(value)) => Encoded::of(value).into(),
            _ => ended.without_code(),
        };
        match ended {
            Ended::Replied(Reply::Bytes(reply)) => OutcomeKind::Replied(reply.into()),
            Ended::Replied(_) | Ended::NoReply => OutcomeKind::NoReply,
            bad => bad.failure().unwrap_or(OutcomeKind::NoReply),
        }
    }
}
