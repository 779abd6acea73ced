//! Calls that did not end well, by handler and code: how many, since when, and the last of each
//! with what was said.
//!
//! One that fails a thousand times a second takes no place of others.

use std::collections::{HashMap, VecDeque};

use super::raw::RawCall;
use crate::lock::Lock;

/// Of calls that failed alike, so many are kept.
const RECENT: usize = 8;
/// Codes of one handler that are told apart; further ones count as one. A plugin may make them up.
const CODES: usize = 16;
/// Bytes of a message, and of a code.
const MESSAGE: usize = 512;
const CODE: usize = 64;
/// What one failure takes at the most.
const EACH: usize = MESSAGE + CODE + size_of::<Failed>();

/// What is counted of the last minute: in steps of so many nanoseconds, of which there are so many.
const STEP: u64 = 5_000_000_000;
const STEPS: usize = 13;

/// Failures of one handler that are alike.
#[derive(Debug, Clone)]
pub(crate) struct FailureKind {
    pub(crate) code: Box<str>,
    pub(crate) count: u64,
    /// When the first and the last of them ended, in nanoseconds since the Unix epoch.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The newest is the last.
    pub(crate) recent: VecDeque<Failed>,
    /// Which step each counts, and how many.
    steps: [(u64, u32); STEPS],
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    pub(crate) call: RawCall,
    pub(crate) message: Box<str>,
}

/// All that are known.
#[derive(Default)]
pub(super) struct Failures(Lock<Kinds>);

#[derive(Default)]
struct Kinds {
    handlers: HashMap<u64, Vec<FailureKind>>,
    number: usize,
    dropped: u64,
}

impl FailureKind {
    /// How many there were in the minute before `now`, in nanoseconds since the Unix epoch; to 5
    /// seconds.
    pub(crate) fn last_minute(&self, now: u64) -> u64 {
        let present = now / STEP;
        let counted = self.steps.iter().filter(|(step, _)| step + STEPS as u64 > present);
        counted.map(|(_, count)| u64::from(*count)).sum()
    }

    fn add(&mut self, call: RawCall, at: u64, message: &str) {
        self.count += 1;
        self.last = at;
        let step = at / STEP;
        let counted = &mut self.steps[(step % STEPS as u64) as usize];
        if counted.0 != step {
            *counted = (step, 0);
        }
        counted.1 = counted.1.saturating_add(1);
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Failed { call, message: cut(message, MESSAGE).into() });
    }
}

impl Failures {
    /// One more, which has ended at this time, within so many bytes for all.
    pub(super) fn add(&self, call: RawCall, at: u64, (code, message): (&str, &str), bytes: usize) {
        let places = bytes / (RECENT * EACH);
        let mut kinds = self.0.lock();
        let Kinds { handlers, number, dropped } = &mut *kinds;
        let code = cut(code, CODE);
        let of_handler = handlers.get(&call.key());
        let is_known = of_handler.is_some_and(|known| known.iter().any(|kind| *kind.code == *code));
        // Others than those that are told apart have no code.
        let code = match !is_known && of_handler.is_some_and(|known| known.len() >= CODES) {
            true => "",
            false => code,
        };
        let is_new = !of_handler.is_some_and(|known| known.iter().any(|kind| *kind.code == *code));
        if is_new && *number >= places {
            *dropped += 1;
            let Some(oldest) = oldest(handlers) else { return };
            *number -= 1;
            forget(handlers, oldest);
        }
        let of_handler = handlers.entry(call.key()).or_default();
        match of_handler.iter_mut().find(|kind| *kind.code == *code) {
            Some(kind) => kind.add(call, at, message),
            None => {
                let (recent, steps) = (VecDeque::new(), [(0, 0); STEPS]);
                let (code, count) = (code.into(), 0);
                let mut kind = FailureKind { code, count, first: at, last: at, recent, steps };
                kind.add(call, at, message);
                of_handler.push(kind);
                *number += 1;
            }
        }
    }

    /// Those of all handlers.
    pub(super) fn all(&self) -> Vec<FailureKind> {
        self.0.lock().handlers.values().flatten().cloned().collect()
    }

    /// Of how many kinds nothing is known any more.
    pub(super) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }
}

type Handlers = HashMap<u64, Vec<FailureKind>>;

/// The kind that was not seen for the longest time.
fn oldest(handlers: &Handlers) -> Option<(u64, usize)> {
    let all = handlers.iter().flat_map(|(key, kinds)| {
        kinds.iter().enumerate().map(|(at, kind)| (kind.last, (*key, at)))
    });
    all.min_by_key(|(last, _)| *last).map(|(_, which)| which)
}

fn forget(handlers: &mut Handlers, (key, at): (u64, usize)) {
    if let Some(kinds) = handlers.get_mut(&key) {
        kinds.swap_remove(at);
        if kinds.is_empty() {
            handlers.remove(&key);
        }
    }
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::{
        super::{raw::RawCall, ring::Words},
        *,
    };

    fn call(key: u64, event: u64) -> RawCall {
        let words: Words = [event, 0, event, key, 0, 0, 0];
        RawCall::of_words(&words)
    }

    fn key(kind: &FailureKind) -> u64 {
        kind.recent[0].call.key()
    }

    const BYTES: usize = 64 * RECENT * EACH;

    #[test]
    fn those_that_are_alike_are_counted_and_the_last_are_kept() {
        let failures = Failures::default();
        for event in 0..100 {
            failures.add(call(1, event), event * STEP, ("broken", "why"), BYTES);
        }
        failures.add(call(2, 7), 7, ("broken", &"ä".repeat(MESSAGE)), BYTES);
        let mut all = failures.all();
        all.sort_by_key(key);
        let kept: Vec<u64> = all[0].recent.iter().map(|failed| failed.call.event()).collect();
        assert_eq!((all[0].count, all[0].first, kept), (100, 0, (92..100).collect()));
        assert_eq!(all[0].last_minute(99 * STEP), STEPS as u64);
        assert_eq!(all[0].last_minute(200 * STEP), 0);
        assert_eq!((all[1].count, all[1].recent[0].message.len()), (1, MESSAGE));
    }

    #[test]
    fn codes_that_a_plugin_makes_up_take_no_place_of_others() {
        let failures = Failures::default();
        failures.add(call(2, 0), 0, ("broken", ""), BYTES);
        for event in 1..10_000 {
            failures.add(call(1, event), event, (&format!("code {event}"), ""), BYTES);
        }
        let all = failures.all();
        assert_eq!(all.len(), 1 + CODES + 1);
        let others = all.iter().find(|kind| kind.code.is_empty()).unwrap();
        assert_eq!(others.count, 9_999 - CODES as u64);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for_and_the_newest_is() {
        let failures = Failures::default();
        for handler in 0..1_000 {
            failures.add(call(handler, handler), handler, ("broken", ""), BYTES);
        }
        let mut kept: Vec<u64> = failures.all().iter().map(key).collect();
        kept.sort_unstable();
        assert_eq!(kept, (936..1_000).collect::<Vec<_>>());
        assert_eq!(failures.dropped(), 936);
    }
}
