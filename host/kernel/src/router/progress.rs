//! How far the handlers of an event have come, for somebody who may have to be answered before all
//! of them have ended.

use std::{
    collections::HashMap,
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ksi_abi::Buffer;

use super::{
    outcomes::{Handlers, Outcomes},
    plugin_report::PluginReport,
};
use crate::call::{
    HandlerInfo,
    outcome::{CallOutcome, CallReply},
};
use crate::lock::Lock;

/// Of a reply that stays with those that are stuck: a value, or one that is too large to be there
/// twice.
const UNTOLD: &str =
    "it replied, and its reply cannot be told: another handler of the event does not return";
/// Up to how many bytes a reply is there twice.
const LARGEST: usize = 64 << 10;

/// Filled while the handlers of one event are called.
#[derive(Default)]
pub struct Progress {
    /// Nothing is noted yet, because the event is expected to be over at once.
    unfollowed: AtomicBool,
    state: Lock<ProgressState>,
}

#[derive(Default)]
struct ProgressState {
    handlers: Arc<[Arc<HandlerInfo>]>,
    /// Those that have ended, by the keys of their handlers; `None` where that cannot be told
    /// twice.
    ended: Vec<(u64, Option<CallOutcome>)>,
}

impl Progress {
    /// Of an event that is expected to be over after its first poll. Noting how far it has come
    /// costs something, and is not done before somebody says to [`follow`](Self::follow).
    pub fn unfollowed() -> Self {
        Progress { unfollowed: AtomicBool::new(true), state: Lock::default() }
    }

    /// From the next poll on it is noted how far the handlers have come, also those that have ended
    /// by now.
    pub fn follow(&self) {
        self.unfollowed.store(false, Ordering::Release);
    }

    pub(super) fn is_followed(&self) -> bool {
        !self.unfollowed.load(Ordering::Acquire)
    }

    /// Of these handlers, of which none is known to have ended.
    pub(super) fn of(handlers: Arc<[Arc<HandlerInfo>]>) -> Arc<Self> {
        let progress = Progress::default();
        progress.begins(handlers);
        Arc::new(progress)
    }

    /// These handlers are called.
    pub(super) fn begins(&self, handlers: Arc<[Arc<HandlerInfo>]>) {
        if self.is_followed() {
            self.state().handlers = handlers;
        }
    }

    /// One of several handlers has ended so.
    pub(super) fn ended(&self, handler: &HandlerInfo, how: &CallOutcome) {
        if !self.is_followed() {
            return;
        }
        let copy = copied(how);
        self.state().ended.push((handler.key, copy));
    }

    /// What is known when one of them has not returned in `after`, and no other can go on because
    /// of that. `called` are those that are called, as far as anybody knows, if it was not noted.
    pub(crate) fn given_up(
        &self,
        after: Duration,
        called: impl FnOnce() -> Arc<[Arc<HandlerInfo>]>,
    ) -> Outcomes {
        self.so_far(|| CallOutcome::TimedOut { after }, called)
    }

    /// What is known when their emitter waits for them no longer, for this reason.
    pub fn rejected(&self, reason: &str) -> PluginReport {
        let rejected = || CallOutcome::Rejected { reason: reason.into() };
        self.so_far(rejected, Arc::default).into()
    }

    fn so_far(
        &self,
        unended: impl Fn() -> CallOutcome,
        called: impl FnOnce() -> Arc<[Arc<HandlerInfo>]>,
    ) -> Outcomes {
        let ProgressState { mut handlers, ended } = std::mem::take(&mut *self.state());
        if handlers.is_empty() {
            handlers = called();
        }
        let mut ended: HashMap<u64, Option<CallOutcome>> = ended.into_iter().collect();
        let all = handlers.iter().map(|handler| match ended.remove(&handler.key) {
            Some(Some(ended)) => ended,
            Some(None) => CallOutcome::Rejected { reason: UNTOLD.into() },
            None => unended(),
        });
        Outcomes { ended: all.collect(), handlers: Handlers::Known(handlers) }
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock()
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
        CallOutcome::Crashed { message } => CallOutcome::Crashed { message: message.clone() },
        CallOutcome::TimedOut { after } => CallOutcome::TimedOut { after: *after },
        CallOutcome::Rejected { reason } => CallOutcome::Rejected { reason: reason.clone() },
    })
}
