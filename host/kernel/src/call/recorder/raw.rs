//! A call that has ended, as a ring holds it: numbers alone.

use super::{
    ring::Words,
    start::{CallStart, Took},
};
use crate::call::outcome_taps::OutcomeStatus;

const OUTCOME: u32 = 48;
const FLAGS: u32 = 56;
const KEY: u64 = (1 << OUTCOME) - 1;

const MEASURED: u64 = 1;
const ABOUT: u64 = 1 << 1;
const SENT: u64 = 1 << 2;

/// In place of an outcome, where nobody handled the event.
const NOBODY: u64 = 0xff;

/// A call that has ended; or an event that nobody handled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawCall(Words);

impl RawCall {
    pub(super) fn new(
        start: &CallStart,
        key: u64,
        how: Option<OutcomeStatus>,
        took: Option<&Took>,
    ) -> Self {
        let outcome = how.map_or(NOBODY, |how| how as u64);
        let (nanos, measured) = match took {
            Some(Took { nanos, is_exact: true, .. }) => (*nanos, MEASURED),
            Some(Took { nanos, is_exact: false, .. }) => (*nanos, ABOUT),
            None => (0, 0),
        };
        let sent = if start.is_sent() { SENT } else { 0 };
        let waited = (start.waited() / 1_000).min(u64::from(u32::MAX));
        RawCall([
            start.event,
            start.parent,
            start.root,
            key & KEY | outcome << OUTCOME | (measured | sent) << FLAGS,
            start.begun(),
            start.pair | waited,
            nanos,
        ])
    }

    /// The same of a call that was not measured and was short: without the last word, which is the
    /// time that it took.
    #[inline(always)]
    pub(super) fn of_short(start: &CallStart, key: u64, how: OutcomeStatus) -> [u64; 6] {
        let what = key | (how as u64) << OUTCOME;
        [start.event, start.parent, start.root, what, start.emitted, start.pair]
    }

    pub(super) fn of_words(words: &Words) -> Self {
        RawCall(*words)
    }

    pub(super) fn words(&self) -> &Words {
        &self.0
    }

    pub(crate) fn event(&self) -> u64 {
        self.0[0]
    }

    /// 0 for none.
    pub(crate) fn parent(&self) -> u64 {
        self.0[1]
    }

    pub(crate) fn root(&self) -> u64 {
        self.0[2]
    }

    /// The handler's; 0 for none.
    pub(crate) fn key(&self) -> u64 {
        self.0[3] & KEY
    }

    /// `None` where nobody handled the event.
    pub(crate) fn outcome(&self) -> Option<OutcomeStatus> {
        OutcomeStatus::ALL.get((self.0[3] >> OUTCOME & 0xff) as usize).copied()
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.0[3] >> FLAGS & SENT != 0
    }

    /// In nanoseconds since the Unix epoch.
    pub(crate) fn begun(&self) -> u64 {
        self.0[4]
    }

    /// In nanoseconds, if it was measured, and whether exactly.
    pub(crate) fn took(&self) -> Option<(u64, bool)> {
        let flags = self.0[3] >> FLAGS;
        (flags & (MEASURED | ABOUT) != 0).then_some((self.0[6], flags & MEASURED != 0))
    }

    /// When it ended, in nanoseconds since the Unix epoch.
    pub(crate) fn ended(&self) -> u64 {
        self.begun().saturating_add(self.took().map_or(0, |(nanos, _)| nanos))
    }

    /// Stands for the event's name and source; 0 for one that is not known.
    pub(crate) fn pair(&self) -> u32 {
        (self.0[5] >> 32) as u32
    }

    /// In microseconds, until it began.
    pub(crate) fn waited(&self) -> u64 {
        self.0[5] & u64::from(u32::MAX)
    }

    /// Whether it is the same call.
    pub(crate) fn same(&self) -> (u64, u64) {
        (self.event(), self.key())
    }
}
