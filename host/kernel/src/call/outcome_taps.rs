//! Who sees how calls end: their handler, event, outcome and time, for metrics and traces.
//!
//! An observer never slows a call down. What waits for it is bounded, by a count and in bytes, and
//! what does not fit is counted as missed. While nobody observes, a call costs one look at a flag;
//! nothing is noted of it, and no clock is read. A call that has begun by then is not seen when it
//! ends.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{HandlerInfo, outcome::CallOutcome};
use crate::{
    event::{Event, EventId},
    lock::Lock,
    memory::{Account, Budget, Charge},
};

/// Everybody who sees how the calls of a router end.
pub(crate) struct OutcomeTaps {
    budget: Arc<Budget>,
    /// Bytes that may wait for one of them.
    queue_bytes: usize,
    taps: Lock<Vec<Arc<OutcomeTap>>>,
    /// Spares calls all else while nobody looks.
    any: AtomicBool,
}

/// What is noted of a call while it goes on, if anybody looks.
#[derive(Clone)]
pub(crate) struct ObservedStart {
    event: EventId,
    event_name: Arc<str>,
    begun: Instant,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutcomeStatus {
    /// With a reply.
    Replied,
    /// Well, without one.
    NoReply,
    /// With an error.
    Failed,
    /// With a panic.
    Panicked,
    /// With the process that it ran in.
    Crashed,
    /// It took too long.
    TimedOut,
    /// It was not run, or not to its end.
    Rejected,
}

impl OutcomeStatus {
    /// All of them, each at the place of its number.
    pub(crate) const ALL: [OutcomeStatus; 7] = [
        OutcomeStatus::Replied,
        OutcomeStatus::NoReply,
        OutcomeStatus::Failed,
        OutcomeStatus::Panicked,
        OutcomeStatus::Crashed,
        OutcomeStatus::TimedOut,
        OutcomeStatus::Rejected,
    ];

    /// As it is written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            OutcomeStatus::Replied => "replied",
            OutcomeStatus::NoReply => "no_reply",
            OutcomeStatus::Failed => "failed",
            OutcomeStatus::Panicked => "panicked",
            OutcomeStatus::Crashed => "crashed",
            OutcomeStatus::TimedOut => "timed_out",
            OutcomeStatus::Rejected => "rejected",
        }
    }

    /// Whether it ended well.
    pub fn is_ok(self) -> bool {
        matches!(self, OutcomeStatus::Replied | OutcomeStatus::NoReply)
    }
}

impl From<&CallOutcome> for OutcomeStatus {
    fn from(outcome: &CallOutcome) -> Self {
        match outcome {
            CallOutcome::Replied(_) => OutcomeStatus::Replied,
            CallOutcome::NoReply => OutcomeStatus::NoReply,
            CallOutcome::Failed(_) => OutcomeStatus::Failed,
            CallOutcome::Panicked { .. } => OutcomeStatus::Panicked,
            CallOutcome::Crashed { .. } => OutcomeStatus::Crashed,
            CallOutcome::TimedOut { .. } => OutcomeStatus::TimedOut,
            CallOutcome::Rejected { .. } => OutcomeStatus::Rejected,
        }
    }
}

/// A call that has ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ObservedCall {
    /// The plugin; empty for the host and the program around it.
    pub plugin: Arc<str>,
    /// Its handler.
    pub handler: Arc<str>,
    /// The event that it was called with.
    pub event: EventId,
    /// The name of that.
    pub event_name: Arc<str>,
    /// How it ended.
    pub outcome: OutcomeStatus,
    /// When it began.
    pub begun: Instant,
    /// How long it took from there, with all that it waited for. While a plugin's state moves to
    /// its next version, an event waits before its call begins: that is not in it, but for a call
    /// that ended while it waited so.
    pub took: Duration,
}

impl ObservedCall {
    /// About how much memory it keeps. Names are counted although others may share them.
    fn bytes(&self) -> usize {
        let names = self.plugin.len() + self.handler.len() + self.event_name.len();
        size_of::<(ObservedCall, Charge)>() + names
    }
}

/// Sees how calls end. Dropping it ends that.
#[must_use = "nothing is seen any more once it is dropped"]
pub struct OutcomeWatch {
    tap: Arc<OutcomeTap>,
    taps: Arc<OutcomeTaps>,
}

struct OutcomeTap {
    /// Calls that may wait to be read.
    capacity: usize,
    account: Arc<Account>,
    waiting: Lock<WaitingOutcomes>,
    arrived: Notify,
}

#[derive(Default)]
struct WaitingOutcomes {
    calls: VecDeque<(ObservedCall, Charge)>,
    missed: u64,
    /// It was given up for others that wait in the host: nothing is added any more.
    given_up: bool,
}

impl fmt::Debug for OutcomeTaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutcomeTaps").finish_non_exhaustive()
    }
}

impl OutcomeTaps {
    pub(crate) fn new(budget: Arc<Budget>, queue_bytes: usize) -> Arc<Self> {
        let (taps, any) = (Lock::default(), AtomicBool::new(false));
        Arc::new(OutcomeTaps { budget, queue_bytes, taps, any })
    }

    /// Lets somebody see how calls end from now on, of which at most so many wait to be read.
    pub(crate) fn watch(self: &Arc<Self>, capacity: usize) -> OutcomeWatch {
        let tap = Arc::new_cyclic(|tap: &Weak<OutcomeTap>| {
            let tap = tap.clone();
            let give_up = move || tap.upgrade().iter().for_each(|tap| tap.give_up());
            OutcomeTap {
                capacity: capacity.max(1),
                account: self.budget.account(give_up),
                waiting: Lock::default(),
                arrived: Notify::new(),
            }
        });
        let mut taps = self.taps();
        taps.push(tap.clone());
        self.any.store(true, Ordering::Relaxed);
        drop(taps);
        OutcomeWatch { tap, taps: self.clone() }
    }

    /// A call of this event begins: what is noted of it, if anybody looks.
    #[inline]
    pub(crate) fn begun(&self, event: &Event) -> Option<Box<ObservedStart>> {
        match self.any.load(Ordering::Relaxed) {
            false => None,
            true => Some(noted(event)),
        }
    }

    /// It has ended.
    #[cold]
    #[inline(never)]
    pub(super) fn ended(&self, start: &ObservedStart, handler: &HandlerInfo, how: &CallOutcome) {
        let ObservedStart { event, event_name, begun } = start;
        let call = ObservedCall {
            plugin: handler.plugin.clone(),
            handler: handler.handler.clone(),
            event: *event,
            event_name: event_name.clone(),
            outcome: how.into(),
            begun: *begun,
            took: begun.elapsed(),
        };
        let taps = self.taps().clone();
        let mut over = false;
        for tap in &taps {
            over |= !tap.show(call.clone(), self.queue_bytes);
        }
        if over {
            // Or calls would go on being noted for those who are told nothing any more.
            self.keep(|tap| !tap.waiting().given_up);
        }
    }

    fn remove(&self, tap: &Arc<OutcomeTap>) {
        self.keep(|known| !Arc::ptr_eq(known, tap));
    }

    fn keep(&self, keep: impl Fn(&Arc<OutcomeTap>) -> bool) {
        let mut taps = self.taps();
        taps.retain(keep);
        self.any.store(!taps.is_empty(), Ordering::Relaxed);
    }

    fn taps(&self) -> MutexGuard<'_, Vec<Arc<OutcomeTap>>> {
        self.taps.lock()
    }
}

#[cold]
#[inline(never)]
fn noted(event: &Event) -> Box<ObservedStart> {
    let (id, event_name) = (event.id(), event.shared_name().clone());
    Box::new(ObservedStart { event: id, event_name, begun: Instant::now() })
}

impl OutcomeTap {
    /// Shows it a call, or counts that as missed; whether it is to be shown others.
    fn show(&self, call: ObservedCall, limit: usize) -> bool {
        let bytes = call.bytes();
        let fits = |waiting: &WaitingOutcomes| {
            let calls = &waiting.calls;
            let within = calls.len() < self.capacity && self.account.bytes() + bytes <= limit;
            !waiting.given_up && (within || calls.is_empty())
        };
        {
            let mut waiting = self.waiting();
            if !fits(&waiting) {
                waiting.missed += 1;
                return !waiting.given_up;
            }
        }
        // Without the lock: this may give up whoever holds the most, and that may be this one.
        let charge = self.account.charge(bytes);
        let mut waiting = self.waiting();
        if waiting.given_up || waiting.calls.len() >= self.capacity {
            waiting.missed += 1;
            return !waiting.given_up;
        }
        waiting.calls.push_back((call, charge));
        let is_first = waiting.calls.len() == 1;
        drop(waiting);
        if is_first {
            self.arrived.notify_one();
        }
        true
    }

    fn give_up(&self) {
        let calls = {
            let mut waiting = self.waiting();
            waiting.given_up = true;
            waiting.missed += waiting.calls.len() as u64;
            std::mem::take(&mut waiting.calls)
        };
        drop(calls);
        self.arrived.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingOutcomes> {
        self.waiting.lock()
    }
}

impl OutcomeWatch {
    /// The next call that has ended. `None` once too much waited in the host as a whole, and this
    /// watch was given up for it: nothing is seen any more then.
    pub async fn next(&mut self) -> Option<ObservedCall> {
        loop {
            {
                let mut waiting = self.tap.waiting();
                if let Some((call, _charge)) = waiting.calls.pop_front() {
                    return Some(call);
                }
                if waiting.given_up {
                    return None;
                }
            }
            self.tap.arrived.notified().await;
        }
    }

    /// How many calls were not seen so far, because as many as may wait did; of a watch that was
    /// given up, about until then.
    pub fn missed(&self) -> u64 {
        self.tap.waiting().missed
    }
}

impl Drop for OutcomeWatch {
    fn drop(&mut self) {
        self.taps.remove(&self.tap);
    }
}

#[cfg(test)]
mod tests;
