//! Every call that begins ends in one way, and is counted so, whatever becomes of its emitter.

use std::sync::{Arc, atomic::Ordering};

use super::{
    CallTarget, HandlerInfo, gate::Admission, outcome::CallOutcome, outcome_taps::ObservedStart,
    recorder::CallStart,
};
use crate::event::Event;

/// Counts a call that waits for a plugin's next generation, if it never gets there.
pub(crate) struct UncountedCalls {
    handlers: Vec<Arc<HandlerInfo>>,
    start: CallStart,
    observed: Option<Box<ObservedStart>>,
}

impl UncountedCalls {
    /// For these handlers of the generation that is about to go, of an event that waits from now
    /// on.
    pub(crate) fn begin(handlers: Vec<Arc<HandlerInfo>>, event: &Event) -> Self {
        let observed = handlers.first().and_then(|info| info.outcome_taps.begun(event));
        let mut start = CallStart::of(event);
        start.goes_on();
        UncountedCalls { handlers, start, observed }
    }

    /// The event has got to a generation, where its calls count.
    pub(crate) fn arrived(mut self) {
        self.handlers.clear();
    }

    /// It will not get there: how its calls end instead.
    pub(crate) fn ended(
        mut self,
        how: impl Fn() -> CallOutcome,
    ) -> Vec<(Arc<HandlerInfo>, CallOutcome)> {
        let ended = std::mem::take(&mut self.handlers).into_iter().map(|info| {
            let ended = how();
            info.counts.begin();
            info.end(&self.start, &ended, self.observed.as_deref());
            (info, ended)
        });
        ended.collect()
    }
}

impl Drop for UncountedCalls {
    fn drop(&mut self) {
        // Whoever is dropped without its end counts as rejected.
        self.handlers.drain(..).for_each(|info| {
            info.counts.begin();
            info.end(&self.start, &unread(), self.observed.as_deref());
        });
    }
}

/// What [`Accounted`] is for a call that goes on, while it begins: without a count of the
/// handler's, which others write too.
pub(super) struct Beginning<'a> {
    info: &'a HandlerInfo,
    /// Not in itself, so that it is not moved along.
    start: &'a CallStart,
    observed: Option<Box<ObservedStart>>,
}

impl<'a> Beginning<'a> {
    #[inline(always)]
    pub(super) fn of(info: &'a HandlerInfo, start: &'a CallStart, event: &Event) -> Self {
        info.counts.begin();
        Beginning { info, start, observed: info.outcome_taps.begun(event) }
    }

    #[inline(always)]
    pub(super) fn end(mut self, how: &CallOutcome) {
        self.info.end(self.start, how, self.observed.take().as_deref());
        std::mem::forget(self);
    }

    #[cold]
    pub(super) fn timed_out(self, entry: &CallTarget) -> CallOutcome {
        let ended = CallOutcome::TimedOut { after: entry.timeout };
        self.end(&ended);
        ended
    }

    /// It is accounted for elsewhere from here on.
    #[inline]
    pub(super) fn goes_on(mut self) -> (CallStart, Option<Box<ObservedStart>>) {
        let observed = self.observed.take();
        let mut start = *self.start;
        start.goes_on();
        std::mem::forget(self);
        (start, observed)
    }
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        // The host's own code has panicked, which tells nothing of the handler.
        self.info.end(self.start, &unread(), self.observed.as_deref());
    }
}

/// A call that was counted as begun: it counts as ended in exactly one way, also when its emitter
/// gives it up.
pub(super) struct Accounted {
    pub(super) info: Arc<HandlerInfo>,
    pub(super) ended: bool,
    pub(super) start: CallStart,
    pub(super) observed: Option<Box<ObservedStart>>,
}

impl Accounted {
    #[inline(always)]
    pub(super) fn end(&mut self, how: &CallOutcome) {
        self.info.end(&self.start, how, self.observed.as_deref());
        self.ended = true;
    }
}

impl Drop for Accounted {
    fn drop(&mut self) {
        if !self.ended {
            // The emitter's future was dropped, so nobody is there to read the reason.
            self.info.end(&self.start, &unread(), self.observed.as_deref());
        }
    }
}

/// How a call ended that nobody waits for any more.
fn unread() -> CallOutcome {
    CallOutcome::Rejected { reason: "its emitter did not wait for it any longer".into() }
}

/// Counts a call as one that the generation still has to finish.
pub(super) struct Active {
    info: Arc<HandlerInfo>,
    _inside: Option<Arc<Admission>>,
}

impl Active {
    pub(super) fn begin(info: Arc<HandlerInfo>, inside: Option<Arc<Admission>>) -> Self {
        info.active.fetch_add(1, Ordering::AcqRel);
        Active { info, _inside: inside }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.info.active.fetch_sub(1, Ordering::AcqRel);
    }
}
