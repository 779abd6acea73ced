//! How a call ended, as it came from the callee: nothing is copied, decoded or encoded before somebody asks for it.

use std::{sync::Arc, time::Duration};

use ksi_abi::{Buffer, CallEnd, Failure, OutcomeCode, ReplyForm, Value};

use crate::{
    report::OutcomeKind,
    value::{Keeper, SharedValue, Unencodable},
};

/// See [`OutcomeKind`], which is what it is outside of the host's core.
pub enum Ended {
    /// With a reply.
    Replied(Reply),
    /// Well, without one.
    NoReply,
    /// With an error.
    Failed(Failure),
    /// With a panic.
    Panicked {
        /// What it said.
        message: Buffer,
    },
    /// It took too long.
    TimedOut {
        /// What it had.
        after: Duration,
    },
    /// It was not run, or not to its end.
    Rejected {
        /// Why, for people.
        reason: Box<str>,
    },
}

/// A reply.
pub enum Reply {
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
            CallEnd::Failed(failure) => Ended::Failed(failure),
            CallEnd::Panicked(message) => Ended::Panicked { message },
        }
    }
}

impl From<Unencodable> for Ended {
    fn from(Unencodable { code, message }: Unencodable) -> Self {
        Ended::Failed(Failure::new(&code, &message))
    }
}

/// A reply that is a value, with what keeps its library if it is taken, and as JSON otherwise.
#[cold]
#[inline(never)]
fn kept(value: Value, taken: bool, keeper: Option<&Arc<dyn Keeper>>) -> Ended {
    match keeper {
        Some(keeper) if taken => {
            Ended::Replied(Reply::Shared(SharedValue::new(value, keeper.clone())))
        }
        _ => Ended::Replied(Reply::Loose(value)).encoded(),
    }
}

impl Ended {
    /// What may leave a call of somebody whose library this keeps. Plain data of the layout that the emitter wants stays as it is, because
    /// letting it go runs no code of the callee; a value of another layout than the wanted one becomes JSON; and what the
    /// emitter may look at in any way keeps the callee's library from here on.
    #[inline(always)]
    pub(super) fn of(self, keeper: Option<&Arc<dyn Keeper>>, form: &ReplyForm) -> Self {
        let Ended::Replied(Reply::Loose(value)) = self else { return self };
        let taken = form.takes(Some(value.fingerprint()));
        // Taken apart and put together again, so that it is not moved as a whole.
        match taken && *form != ReplyForm::Any && !value.needs_maker_to_drop() {
            true => Ended::Replied(Reply::Loose(value)),
            false => kept(value, taken, keeper),
        }
    }

    /// With a reply that is a value as JSON. Where plugin code may run.
    pub(crate) fn encoded(self) -> Self {
        let encoded = match &self {
            Ended::Replied(Reply::Loose(value)) => value.encode(),
            Ended::Replied(Reply::Shared(shared)) => shared.encode(),
            _ => return self,
        };
        match encoded {
            Ok(json) => Ended::Replied(Reply::Bytes(json)),
            Err(failure) => Ended::Failed(failure),
        }
    }

    /// With a reply that needs no code of the callee any more: a value with its library becomes JSON. One without stays what
    /// it is: plain data in the layout that is wanted, and by now the code that could encode it may be gone. Where plugin
    /// code may run.
    pub(crate) fn without_code(self) -> Self {
        match &self {
            Ended::Replied(Reply::Shared(_)) => self.encoded(),
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
            Ended::Failed(_) => OutcomeCode::Failed,
            Ended::Panicked { .. } => OutcomeCode::Panicked,
            Ended::TimedOut { .. } => OutcomeCode::TimedOut,
            Ended::Rejected { .. } => OutcomeCode::Rejected,
        }
    }

    /// What went wrong, in texts; `None` when all is well.
    pub(crate) fn failure(&self) -> Option<OutcomeKind> {
        Some(match self {
            Ended::Replied(_) | Ended::NoReply => return None,
            Ended::Failed(failure) => {
                let (code, message) = failure.to_texts();
                OutcomeKind::Failed { code, message }
            }
            Ended::Panicked { message } => OutcomeKind::Panicked { message: message.to_text() },
            Ended::TimedOut { after } => OutcomeKind::TimedOut { after: *after },
            Ended::Rejected { reason } => OutcomeKind::Rejected { reason: reason.to_string() },
        })
    }
}

impl From<Ended> for OutcomeKind {
    /// A reply that is a value becomes JSON. Where plugin code may run.
    fn from(ended: Ended) -> Self {
        match ended.encoded() {
            Ended::Replied(Reply::Bytes(reply)) => OutcomeKind::Replied(reply.into()),
            Ended::Replied(_) | Ended::NoReply => OutcomeKind::NoReply,
            bad => bad.failure().unwrap_or(OutcomeKind::NoReply),
        }
    }
}
