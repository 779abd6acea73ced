//! What is kept of calls that have ended: always, at a cost that no call notices, and within
//! bounds.
//!
//! The last calls of each thread are in its `ring`, failures are kept by themselves and for longer
//! (`failures`), with all calls of their root event (`trees`), and how long calls took is summed up
//! for each handler ([`latency`]). `start` is what is noted when a call begins, and says which
//! calls are measured; `raw` is what a ring holds: numbers, of which the router knows the names. No
//! payload is kept.

mod failures;
pub mod latency;
mod raw;
mod ring;
mod start;
mod trees;

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;

pub use self::start::{MEASURED, SAMPLED};
pub(crate) use self::{failures::FailureKind, raw::RawCall, start::CallStart};
use self::{failures::Failures, ring::Ring, trees::Trees};
use super::{HandlerInfo, outcome::CallOutcome, outcome_taps::OutcomeStatus};
use crate::{
    event::Event,
    executor::{
        clock,
        stripe::{STRIPES, Striped, own_stripe},
    },
};

/// Bounds of what is kept of calls that have ended.
#[derive(Debug, Clone, Copy)]
pub struct RecorderLimits {
    /// Calls of each dispatch worker, 64 bytes each; the next power of two. 0 for none: then
    /// failures and times are not kept either.
    pub calls: usize,
    /// Calls of root events in which something failed or was slow, 56 bytes each.
    pub kept: usize,
    /// Bytes of failures.
    pub failure_bytes: usize,
    /// A call that takes as long is slow.
    pub slow: Duration,
}

impl Default for RecorderLimits {
    fn default() -> Self {
        RecorderLimits {
            calls: 4_096,
            kept: 16_384,
            failure_bytes: 4 << 20,
            slow: Duration::from_millis(100),
        }
    }
}

/// Keeps what is known of calls that have ended.
pub(crate) struct Recorder {
    limits: RecorderLimits,
    rings: Striped<OnceLock<Ring>>,
    failures: Failures,
    trees: Trees,
    /// Somebody lets go of root events that are watched for long.
    lets_go: AtomicBool,
    /// Where it looks for calls of a root event, and itself for that.
    later: Option<(Handle, Weak<Recorder>)>,
}

/// How much is kept at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Calls that were recorded since the start.
    pub calls: u64,
    /// Those of them that newer ones took the place of.
    pub overwritten: u64,
    /// Calls of root events with a failure, or a slow call, that newer ones took the place of.
    pub dropped: u64,
    /// Kinds of failures of which nothing is known any more.
    pub failures_dropped: u64,
    /// Bytes of all rings, and of the calls that are kept for longer.
    pub bytes: usize,
}

/// How far somebody has read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(Vec<u64>);

impl Cursor {
    /// As numbers, which [`of`](Self::of) understands.
    pub fn positions(&self) -> &[u64] {
        &self.0
    }

    /// From what [`positions`](Self::positions) gave.
    pub fn of(positions: Vec<u64>) -> Self {
        Cursor(positions)
    }
}

impl Recorder {
    pub(crate) fn new(mut limits: RecorderLimits, runtime: &Handle) -> Arc<Self> {
        // A bound against a mistake, far above what is of use.
        const MOST: usize = 1 << 22;
        if limits.calls > 0 {
            limits.calls = limits.calls.min(MOST).next_power_of_two();
        }
        Arc::new_cyclic(|recorder: &Weak<Recorder>| Recorder {
            limits,
            rings: Striped::default(),
            failures: Failures::default(),
            trees: Trees::default(),
            lets_go: AtomicBool::new(false),
            later: Some((runtime.clone(), recorder.clone())),
        })
    }

    /// One that keeps nothing.
    pub(crate) fn none() -> Arc<Self> {
        let limits = RecorderLimits { calls: 0, ..RecorderLimits::default() };
        Arc::new(Recorder {
            limits,
            rings: Striped::default(),
            failures: Failures::default(),
            trees: Trees::default(),
            lets_go: AtomicBool::new(false),
            later: None,
        })
    }

    /// A call of this handler has ended, on the thread of this stripe.
    #[inline(always)]
    pub(super) fn ended(
        &self,
        start: &CallStart,
        handler: &HandlerInfo,
        (how, status): (&CallOutcome, OutcomeStatus),
        stripe: Option<usize>,
    ) {
        // Most are short, and end well, and nothing has failed in their chain.
        if let Some(stripe) = stripe
            && start.was_short()
            && status.is_ok()
            && !self.trees.may_be_watched(start.root)
            && let Some(ring) = self.rings.made(stripe).and_then(OnceLock::get)
        {
            ring.push(&RawCall::of_short(start, handler.key, status));
            return;
        }
        self.ended_otherwise(start, handler, how);
    }

    #[inline(never)]
    fn ended_otherwise(&self, start: &CallStart, handler: &HandlerInfo, how: &CallOutcome) {
        if self.limits.calls == 0 {
            return;
        }
        let took = start.took();
        let call = RawCall::new(start, handler.key, Some(how.into()), took.as_ref());
        self.push(&call);
        if let Some(took) = took {
            handler.latency.add(&took);
            if u128::from(took.nanos) >= self.limits.slow.as_nanos() {
                self.keep_tree(&call);
            }
        }
        if !how.is_ok() {
            self.failed(&call, handler, how);
        }
        if self.trees.may_be_watched(call.root()) {
            self.trees.keep(call, self.limits.kept);
        }
    }

    /// Nobody handles this event.
    pub(crate) fn unhandled(&self, event: &Event) {
        // Of one whose name is not known nobody could tell anything.
        if self.limits.calls > 0 && event.pair() != 0 {
            let call = RawCall::new(&CallStart::of(event), 0, None, None);
            self.push(&call);
            if self.trees.may_be_watched(call.root()) {
                self.trees.keep(call, self.limits.kept);
            }
        }
    }

    fn rings(&self) -> impl Iterator<Item = (usize, &Ring)> {
        self.rings.numbered().filter_map(|(thread, ring)| Some((thread, ring.get()?)))
    }

    fn push(&self, call: &RawCall) {
        let ring = self.rings.of_this_thread().get_or_init(|| Ring::new(self.limits.calls));
        match own_stripe() {
            Some(_) => ring.push(call.words()),
            None => ring.push_shared(call.words()),
        }
    }

    #[cold]
    fn failed(&self, call: &RawCall, handler: &HandlerInfo, how: &CallOutcome) {
        // The host refuses what somebody asks for, and tells them why: nothing has failed.
        if handler.is_of_host && matches!(how, CallOutcome::Failed(_)) {
            return;
        }
        if let Some(kind) = how.failure() {
            let bytes = self.limits.failure_bytes;
            let said = (kind.code(), &*kind.message());
            self.failures.add(*call, clock::moment().unix, said, bytes);
        }
        self.keep_tree(call);
    }

    #[cold]
    fn keep_tree(&self, call: &RawCall) {
        if !self.trees.watch(call, clock::steady()) {
            return;
        }
        // Not here: the emitter waits, and all that was recorded lately is looked through.
        let Some((runtime, recorder)) = &self.later else { return };
        let (recorder, root) = (recorder.clone(), call.root());
        let is_first = !self.lets_go.swap(true, Ordering::Relaxed);
        runtime.spawn(async move {
            if let Some(recorder) = recorder.upgrade() {
                recorder.keep_ended(root);
            }
            if is_first {
                let_go_in_time(recorder).await;
            }
        });
    }

    /// Those of a root event that have ended.
    fn keep_ended(&self, root: u64) {
        let mut calls = Vec::new();
        for (_, ring) in self.rings() {
            ring.read(0, |words| {
                let call = RawCall::of_words(words);
                if call.root() == root {
                    calls.push(call);
                }
            });
        }
        calls.into_iter().for_each(|call| self.trees.keep(call, self.limits.kept));
    }

    /// All that are known and wanted, each once, as they began.
    pub(crate) fn calls(&self, is_wanted: impl Fn(&RawCall) -> bool) -> Vec<RawCall> {
        let mut calls = self.trees.calls();
        calls.extend(
            self.failures
                .all()
                .into_iter()
                .flat_map(|kind| kind.recent.into_iter().map(|failed| failed.call)),
        );
        calls.retain(&is_wanted);
        for (_, ring) in self.rings() {
            ring.read(0, |words| {
                let call = RawCall::of_words(words);
                if is_wanted(&call) {
                    calls.push(call);
                }
            });
        }
        calls.sort_unstable_by_key(|call| (call.begun(), call.same()));
        calls.dedup_by_key(|call| (call.begun(), call.same()));
        calls
    }

    /// Where those that end from now on follow.
    pub(crate) fn end_of(&self, cursor: &mut Cursor) {
        cursor.0.resize(STRIPES + 1, 0);
        for (thread, ring) in self.rings() {
            cursor.0[thread] = ring.written();
        }
    }

    /// Those that ended since, as they are found; how many others there were.
    pub(crate) fn calls_since(&self, cursor: &mut Cursor) -> (Vec<RawCall>, u64) {
        cursor.0.resize(STRIPES + 1, 0);
        let (mut calls, mut missed) = (Vec::new(), 0);
        for (thread, ring) in self.rings() {
            let after = cursor.0[thread];
            let before = calls.len();
            let written = ring.read(after, |words| calls.push(RawCall::of_words(words)));
            let seen = (calls.len() - before) as u64;
            missed += written.saturating_sub(after).saturating_sub(seen);
            cursor.0[thread] = written;
        }
        calls.sort_unstable_by_key(|call| (call.begun(), call.same()));
        (calls, missed)
    }

    /// Calls that did not end well, by handler and code.
    pub(crate) fn failures(&self) -> Vec<FailureKind> {
        self.failures.all()
    }

    /// How much is kept.
    pub(crate) fn recorded(&self) -> Recorded {
        let rings = || self.rings().map(|(_, ring)| ring);
        let over = |ring: &Ring| ring.written().saturating_sub(self.limits.calls as u64);
        Recorded {
            calls: rings().map(Ring::written).sum(),
            overwritten: rings().map(over).sum(),
            dropped: self.trees.dropped(),
            failures_dropped: self.failures.dropped(),
            bytes: rings().map(Ring::bytes).sum::<usize>() + self.trees.bytes(),
        }
    }
}

/// Lets go of root events that are watched for long, until none is.
async fn let_go_in_time(recorder: Weak<Recorder>) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let Some(recorder) = recorder.upgrade() else { return };
        if !recorder.trees.let_go(clock::steady()) {
            recorder.lets_go.store(false, Ordering::Relaxed);
            return;
        }
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("limits", &self.limits).finish_non_exhaustive()
    }
}
