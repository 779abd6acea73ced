//! How a call ended, as it came from the callee: nothing is copied, decoded or encoded before
//! somebody asks for it.

use std::{sync::Arc, time::Duration};

use ksi_abi::{Buffer, CallEnd, Failure, OutcomeCode, ReplyForm, Value};

use crate::{
    event::Payload,
    report::OutcomeKind,
    value::{Keeper, SharedValue, Unencodable},
};

/// See [`OutcomeKind`], which is what it is outside of the host's core.
pub enum CallOutcome {
    /// With a reply.
    Replied(CallReply),
    /// Well, without one.
    NoReply,
    /// With an error.
    Failed(Failure),
    /// With a panic.
    Panicked {
        /// What it said.
        message: Buffer,
    },
    /// The process that it ran in ended first.
    Crashed {
        /// How, for people.
        message: Arc<str>,
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
pub enum CallReply {
    /// As JSON.
    Bytes(Buffer),
    /// A value that nothing keeps the library of: it goes no further than the call's entry.
    Loose(Value),
    /// A value with what keeps its library.
    Shared(SharedValue),
}

impl From<CallEnd> for CallOutcome {
    fn from(end: CallEnd) -> Self {
        match end {
            CallEnd::Reply(reply) => CallOutcome::Replied(CallReply::Bytes(reply)),
            CallEnd::Value(value) => CallOutcome::Replied(CallReply::Loose(value)),
            CallEnd::NoReply => CallOutcome::NoReply,
            CallEnd::Failed(failure) => CallOutcome::Failed(failure),
            CallEnd::Panicked(message) => CallOutcome::Panicked { message },
        }
    }
}

impl From<Unencodable> for CallOutcome {
    fn from(Unencodable { code, message }: Unencodable) -> Self {
        CallOutcome::Failed(Failure::new(&code, &message))
    }
}

/// A reply that is a value, with what keeps its library if it is taken, and as JSON otherwise.
#[cold]
#[inline(never)]
fn kept(value: Value, taken: bool, keeper: Option<&Arc<dyn Keeper>>) -> CallOutcome {
    match keeper {
        Some(keeper) if taken => {
            CallOutcome::Replied(CallReply::Shared(SharedValue::new(value, keeper.clone())))
        }
        _ => CallOutcome::Replied(CallReply::Loose(value)).encoded(),
    }
}

impl CallOutcome {
    /// What may leave a call of somebody whose library this keeps. Plain data of the layout that
    /// the emitter wants stays as it is, because letting it go runs no code of the callee; a value
    /// of another layout than the wanted one becomes JSON; and what the emitter may look at in any
    /// way keeps the callee's library from here on.
    #[inline(always)]
    pub(super) fn of(self, keeper: Option<&Arc<dyn Keeper>>, form: &ReplyForm) -> Self {
        let CallOutcome::Replied(CallReply::Loose(value)) = self else { return self };
        let taken = form.takes(Some(value.fingerprint()));
        // Taken apart and put together again, so that it is not moved as a whole.
        match taken && *form != ReplyForm::Any && !value.needs_maker_to_drop() {
            true => CallOutcome::Replied(CallReply::Loose(value)),
            false => kept(value, taken, keeper),
        }
    }

    /// With a reply that is a value as JSON. Where plugin code may run.
    pub(crate) fn encoded(self) -> Self {
        let encoded = match &self {
            CallOutcome::Replied(CallReply::Loose(value)) => value.encode(),
            CallOutcome::Replied(CallReply::Shared(shared)) => shared.encode(),
            _ => return self,
        };
        match encoded {
            Ok(json) => CallOutcome::Replied(CallReply::Bytes(json)),
            Err(failure) => CallOutcome::Failed(failure),
        }
    }

    /// With a reply that needs no code of the callee any more: a value with its library becomes
    /// JSON. One without stays what it is: plain data in the layout that is wanted, and by now the
    /// code that could encode it may be gone. Where plugin code may run.
    pub(crate) fn without_code(self) -> Self {
        match &self {
            CallOutcome::Replied(CallReply::Shared(_)) => self.encoded(),
            _ => self,
        }
    }

    pub(crate) fn is_ok(&self) -> bool {
        matches!(self, CallOutcome::Replied(_) | CallOutcome::NoReply)
    }

    pub(crate) fn code(&self) -> OutcomeCode {
        match self {
            CallOutcome::Replied(_) => OutcomeCode::REPLIED,
            CallOutcome::NoReply => OutcomeCode::NO_REPLY,
            CallOutcome::Failed(_) => OutcomeCode::FAILED,
            CallOutcome::Panicked { .. } => OutcomeCode::PANICKED,
            CallOutcome::Crashed { .. } => OutcomeCode::CRASHED,
            CallOutcome::TimedOut { .. } => OutcomeCode::TIMED_OUT,
            CallOutcome::Rejected { .. } => OutcomeCode::REJECTED,
        }
    }

    /// What went wrong, in texts; `None` when all is well.
    pub(crate) fn failure(&self) -> Option<OutcomeKind> {
        Some(match self {
            CallOutcome::Replied(_) | CallOutcome::NoReply => return None,
            CallOutcome::Failed(failure) => {
                let (code, message) = failure.to_texts();
                OutcomeKind::Failed { code, message }
            }
            CallOutcome::Panicked { message } => {
                OutcomeKind::Panicked { message: message.to_text() }
            }
            CallOutcome::Crashed { message } => {
                OutcomeKind::Crashed { message: message.to_string() }
            }
            CallOutcome::TimedOut { after } => OutcomeKind::TimedOut { after: *after },
            CallOutcome::Rejected { reason } => {
                OutcomeKind::Rejected { reason: reason.to_string() }
            }
        })
    }
}

impl From<CallOutcome> for OutcomeKind {
    /// A reply that is a value becomes JSON. Where plugin code may run.
    fn from(ended: CallOutcome) -> Self {
        match ended.encoded() {
            CallOutcome::Replied(CallReply::Bytes(reply)) => {
                OutcomeKind::Replied(Payload::of_buffer(reply))
            }
            CallOutcome::Replied(_) | CallOutcome::NoReply => OutcomeKind::NoReply,
            bad => bad.failure().unwrap_or(OutcomeKind::NoReply),
        }
    }
}
