//! How far the handlers of an event have come, for somebody who may have to be answered before all of them have ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ksi_abi::Buffer;

use super::fan_out::{Handlers, Outcomes};
use crate::call::{
    HandlerInfo,
    outcome::{CallOutcome, CallReply},
};

/// Of a reply that stays with those that are stuck: a value, or one that is too large to be there twice.
const UNTOLD: &str =
    "it replied, and its reply cannot be told: another handler of the event does not return";
/// Up to how many bytes a reply is there twice.
const LARGEST: usize = 64 << 10;

/// Filled while the handlers of one event are called.
#[derive(Default)]
pub struct Progress(Mutex<State>);

#[derive(Default)]
struct State {
    handlers: Arc<[Arc<HandlerInfo>]>,
    /// Those that have ended, by the keys of their handlers; `None` where that cannot be told twice.
    ended: Vec<(u64, Option<CallOutcome>)>,
}

impl Progress {
    /// Of these handlers, of which none is known to have ended.
    pub(super) fn of(handlers: Arc<[Arc<HandlerInfo>]>) -> Arc<Self> {
        Arc::new(Progress(Mutex::new(State { handlers, ended: Vec::new() })))
    }

    /// These handlers are called.
    pub(super) fn begins(&self, handlers: Arc<[Arc<HandlerInfo>]>) {
        self.state().handlers = handlers;
    }

    /// One of several handlers has ended so.
    pub(super) fn ended(&self, handler: &HandlerInfo, how: &CallOutcome) {
        let copy = copied(how);
        self.state().ended.push((handler.key, copy));
    }

    /// What is known when one of them has not returned in `after`, and no other can go on because of that. `called` are
    /// those that are called, as far as anybody knows, if it was not noted.
    pub(crate) fn given_up(
        &self,
        after: Duration,
        called: impl FnOnce() -> Arc<[Arc<HandlerInfo>]>,
    ) -> Outcomes {
        let State { mut handlers, ended } = std::mem::take(&mut *self.state());
        if handlers.is_empty() {
            handlers = called();
        }
        let mut ended: HashMap<u64, Option<CallOutcome>> = ended.into_iter().collect();
        let all = handlers.iter().map(|handler| match ended.remove(&handler.key) {
            Some(Some(ended)) => ended,
            Some(None) => CallOutcome::Rejected { reason: UNTOLD.into() },
            None => CallOutcome::TimedOut { after },
        });
        Outcomes { ended: all.collect(), handlers: Handlers::Known(handlers) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same end once more, if it can be told twice.
fn copied(how: &CallOutcome) -> Option<CallOutcome> {
    Some(match how {
        CallOutcome::Replied(CallReply::Bytes(json)) if json.len() <= LARGEST => {
            CallOutcome::Replied(CallReply::Bytes(Buffer::from(&**json)))
        }
        CallOutcome::Replied(_) => return None,
        CallOutcome::NoReply => CallOutcome::NoReply,
        CallOutcome::Failed(failure) => {
            let (code, message) = failure.to_texts();
            CallOutcome::Failed(ksi_abi::Failure::new(&code, &message))
        }
        CallOutcome::Panicked { message } => {
            CallOutcome::Panicked { message: Buffer::from(&**message) }
        }
        CallOutcome::TimedOut { after } => CallOutcome::TimedOut { after: *after },
        CallOutcome::Rejected { reason } => CallOutcome::Rejected { reason: reason.clone() },
    })
}
