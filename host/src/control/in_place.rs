//! The request that a connection's own task is serving, for whoever has to answer it when it does
//! not return.
//!
//! All that is kept of it is what its answer takes, in memory that is used again for the next one;
//! and the replies before it, which nobody would write otherwise.

use std::{sync::MutexGuard, time::Duration};

use ksi_kernel::executor::apart::Late;
use ksi_kernel::lock::Lock;

use super::{request::CorrelationId, writer::Batch};

#[derive(Default)]
pub(super) struct InPlace(Lock<InPlaceState>);

#[derive(Default)]
struct InPlaceState {
    now: InPlaceStep,
    event: String,
    correlation_id: String,
    /// Replies that go first.
    before: Batch,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum InPlaceStep {
    #[default]
    Nothing,
    Serving,
    /// Somebody else answers it.
    GivenUp,
}

/// A request that somebody else answers.
pub(super) struct TakenOver {
    pub(super) event: String,
    pub(super) correlation_id: CorrelationId<'static>,
    pub(super) before: Vec<u8>,
    /// What its handler had.
    pub(super) after: Duration,
}

impl InPlace {
    /// A request is being served, after these replies.
    pub(super) fn begin(&self, event: &str, id: &CorrelationId<'_>, replies: &mut Batch) {
        let mut state = self.state();
        state.now = InPlaceStep::Serving;
        state.event.clear();
        state.event.push_str(event);
        state.correlation_id.clear();
        state.correlation_id.push_str(id.as_json());
        state.before = std::mem::take(replies);
    }

    /// It was served. Whether it is to be answered: then the replies before it are here again.
    pub(super) fn end(&self, replies: &mut Batch) -> bool {
        let mut state = self.state();
        if state.now == InPlaceStep::GivenUp {
            return false;
        }
        state.now = InPlaceStep::Nothing;
        *replies = std::mem::take(&mut state.before);
        true
    }

    /// The request that the late call is of, if it is not served by now; nobody else answers it
    /// from here on.
    pub(super) fn give_up(&self, late: &Late<'_>) -> Option<TakenOver> {
        let mut state = self.state();
        if state.now != InPlaceStep::Serving || !late.is_going_on() {
            return None;
        }
        state.now = InPlaceStep::GivenUp;
        Some(TakenOver {
            event: std::mem::take(&mut state.event),
            correlation_id: CorrelationId::of_json(std::mem::take(&mut state.correlation_id)),
            before: state.before.take(),
            after: late.after,
        })
    }

    fn state(&self) -> MutexGuard<'_, InPlaceState> {
        self.0.lock()
    }
}
