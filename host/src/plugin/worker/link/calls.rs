//! What a worker was asked and has not answered, and what it may still refer to.

use std::{
    collections::HashMap,
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ksi_abi::Counted;
use ksi_kernel::{call::outcome::CallOutcome, event::Event, lock::Lock};
use tokio::sync::{Notify, oneshot};
use tracing::Span;

use super::outbox::Position;
use crate::plugin::instance::log::span_of_emitter;

/// Contexts of calls that are over and kept by the plugin all the same. What is emitted in further
/// ones has no parent.
const KEPT_CONTEXTS: usize = 4_096;

/// How a call of a worker ended.
pub(super) enum Ending {
    /// In this way.
    Ended(CallOutcome),
    /// It never got there: its process was gone.
    Undelivered,
}

/// All calls of one process.
#[derive(Default)]
pub(super) struct Calls {
    state: Lock<State>,
    next: AtomicU64,
    /// Calls that nobody waited for any more when they ended.
    late: AtomicU64,
    /// One of those has ended.
    late_end: Notify,
}

#[derive(Default)]
struct State {
    going_on: HashMap<u64, GoingOn>,
    /// The events of calls that are over, whose contexts the plugin has still.
    kept: HashMap<u64, Counted<Event>>,
    /// Set at the process's end: how every call ends from then on, and up to where all was written.
    dead: Option<(Arc<str>, Position)>,
}

struct GoingOn {
    /// What it is called for; `None` of what is no call of a handler.
    event: Option<Counted<Event>>,
    /// Who waits for it; `None` once nobody does.
    done: Option<oneshot::Sender<Ending>>,
    /// Since when nobody waits.
    given_up: Option<Instant>,
    /// Where its frame ends, once that is known.
    end: Option<Position>,
    /// The span that its emitter is in.
    span: Option<Box<Span>>,
}

impl GoingOn {
    /// Its process has ended so, and was sent everything up to there.
    fn die(self, how: &Arc<str>, written: Position) {
        let Some(done) = self.done else { return };
        let undelivered = self.end.is_some_and(|end| end > written);
        let crashed = || Ending::Ended(CallOutcome::Crashed { message: how.clone() });
        let _ = done.send(if undelivered { Ending::Undelivered } else { crashed() });
    }
}

/// A call that is noted.
pub(super) struct Begun {
    pub(super) number: u64,
    pub(super) ending: oneshot::Receiver<Ending>,
    /// Whether no other was going on.
    pub(super) alone: bool,
}

impl Calls {
    /// Notes a call, which is about to be sent: whoever does that says [where it
    /// ends](Self::is_put), or that it [was not](Self::is_not_put). What is no call of a handler
    /// need not be said. `None` when the process is gone.
    pub(super) fn begin(&self, event: Option<Counted<Event>>) -> Option<Begun> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (done, ending) = oneshot::channel();
        // Where one ends that is no call of a handler makes no difference.
        let end = event.is_none().then_some(0);
        let span = event.as_ref().and_then(|_| span_of_emitter());
        let going_on = GoingOn { event, done: Some(done), given_up: None, end, span };
        let mut state = self.state();
        if state.dead.is_some() {
            return None;
        }
        let alone = state.going_on.is_empty();
        state.going_on.insert(number, going_on);
        Some(Begun { number, ending, alone })
    }

    /// Where the frame of a call ends.
    pub(super) fn is_put(&self, number: u64, end: Position) {
        let mut state = self.state();
        let Some(call) = state.going_on.get_mut(&number) else { return };
        call.end = Some(end);
        // The process ended in between.
        if let Some((how, written)) = state.dead.clone()
            && let Some(call) = state.going_on.remove(&number)
        {
            drop(state);
            call.die(&how, written);
        }
    }

    /// A call that is noted was not sent, and never will be.
    pub(super) fn is_not_put(&self, number: u64) {
        let unsent = self.state().going_on.remove(&number);
        drop(unsent);
    }

    /// A call has ended, and the plugin may keep its context.
    pub(super) fn end(&self, number: u64, keeps: bool, outcome: CallOutcome) {
        let mut state = self.state();
        let Some(ended) = state.going_on.remove(&number) else { return };
        let GoingOn { event, done, given_up, .. } = ended;
        if let (true, Some(event)) = (keeps, event)
            && state.kept.len() < KEPT_CONTEXTS
        {
            state.kept.insert(number, event);
        }
        drop(state);
        if given_up.is_some() {
            self.late.fetch_add(1, Ordering::Relaxed);
            self.late_end.notify_waiters();
        }
        if let Some(done) = done {
            let _ = done.send(Ending::Ended(outcome));
        }
    }

    /// The plugin does not keep the context of this call any more.
    pub(super) fn release(&self, number: u64) {
        let released = self.state().kept.remove(&number);
        drop(released);
    }

    /// Nobody waits for this call any more. Whether it has not ended.
    pub(super) fn give_up(&self, number: u64) -> bool {
        let mut state = self.state();
        let Some(call) = state.going_on.get_mut(&number) else { return false };
        call.done = None;
        call.given_up = Some(Instant::now());
        true
    }

    /// The event that a call is for which goes on, or whose context is kept.
    pub(super) fn event(&self, number: u64) -> Option<Counted<Event>> {
        let state = self.state();
        let going_on = state.going_on.get(&number).and_then(|call| call.event.as_ref());
        going_on.or_else(|| state.kept.get(&number)).cloned()
    }

    /// The span that whoever emitted the event of a call was in, while the call goes on.
    pub(super) fn span_of_emitter(&self, number: u64) -> Option<Span> {
        self.state().going_on.get(&number)?.span.as_deref().cloned()
    }

    /// Ends all that goes on in this way; but what was not written in full, and all that is begun
    /// from here on, as undelivered. What is being sent ends as soon as it is known where it ends.
    pub(super) fn die(&self, how: &Arc<str>, written: Position) {
        let ended = {
            let mut state = self.state();
            state.dead.get_or_insert_with(|| (how.clone(), written));
            state.kept = HashMap::new();
            let ended = state.going_on.extract_if(|_, call| call.end.is_some());
            ended.map(|(_, call)| call).collect::<Vec<_>>()
        };
        self.late_end.notify_waiters();
        ended.into_iter().for_each(|call| call.die(how, written));
    }

    /// How many go on that somebody waits for.
    pub(super) fn awaited(&self) -> usize {
        self.state().going_on.values().filter(|call| call.given_up.is_none()).count()
    }

    /// For how long the oldest call goes on that nobody waits for.
    pub(super) fn oldest_given_up(&self) -> Option<Duration> {
        let state = self.state();
        state.going_on.values().filter_map(|call| call.given_up).min().map(|since| since.elapsed())
    }

    /// Waits until none goes on that nobody waits for.
    pub(super) async fn late_ones_end(&self) {
        loop {
            let ended = self.late_end.notified();
            if self.oldest_given_up().is_none() {
                return;
            }
            ended.await;
        }
    }

    /// How many calls have ended that nobody waited for any more.
    pub(super) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_being_sent_when_its_process_ended_is_delivered_if_it_was_written_and_waits_if_not()
    {
        for (end, waits) in [(8, false), (9, true)] {
            let calls = Calls::default();
            let mut begun = calls.begin(None).unwrap();
            // As one of a handler.
            calls.state().going_on.get_mut(&begun.number).unwrap().end = None;
            calls.die(&"it is gone".into(), 8);
            assert!(begun.ending.try_recv().is_err(), "where it ends is not known yet");
            calls.is_put(begun.number, end);
            let ending = begun.ending.try_recv().unwrap();
            assert_eq!(matches!(ending, Ending::Undelivered), waits, "{end}");
            assert_eq!(calls.awaited(), 0);
        }
    }

    #[test]
    fn what_could_not_be_sent_goes_on_no_more() {
        let calls = Calls::default();
        let begun = calls.begin(None).unwrap();
        calls.is_not_put(begun.number);
        assert!(!calls.give_up(begun.number), "nobody is told to give it up");
        assert!(calls.oldest_given_up().is_none());
    }
}
