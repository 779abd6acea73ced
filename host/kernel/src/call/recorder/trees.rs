//! The calls of those root events in which something failed or was slow: kept for longer than a
//! ring does, and with those that end later.
//!
//! While calls fail by the thousand, the trees of some are kept, and not always of the same
//! handler.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use super::raw::RawCall;
use crate::lock::Lock;

/// Root events whose calls are kept when they end, at a time.
const WATCHED: usize = 64;
/// How long one of them is watched at least before another one takes its place, in nanoseconds;
/// and how long after one of a handler the next one of the same handler is.
const AT_LEAST: u64 = 1_000_000_000;
const OF_HANDLER: u64 = 100_000_000;
/// Calls of one root event that are kept: nobody reads more, and a root event that goes on for
/// hours would take the place of all others.
const OF_ROOT: usize = 1_024;
/// And how long one is watched at the most.
const AT_MOST: u64 = 30_000_000_000;

const WORDS: usize = 64;

/// Calls of root events that are kept.
pub(super) struct Trees {
    /// A bit for each number that a watched root event has among so many.
    watched: [AtomicU64; WORDS],
    kept: Lock<Kept>,
}

#[derive(Default)]
struct Kept {
    roots: VecDeque<Root>,
    calls: VecDeque<RawCall>,
    dropped: u64,
}

struct Root {
    event: u64,
    /// Of the handler for whose sake it is watched.
    handler: u64,
    since: u64,
    /// How many calls of it were kept.
    kept: usize,
}

impl Default for Trees {
    fn default() -> Self {
        Trees { watched: [const { AtomicU64::new(0) }; WORDS], kept: Lock::default() }
    }
}

/// Numbers follow one another, so their last digits tell them apart.
#[inline(always)]
fn place(root: u64) -> (usize, u64) {
    ((root >> 6) as usize % WORDS, 1 << (root % 64))
}

impl Trees {
    /// Whether calls of this root event are to be [kept](Self::keep), most likely.
    #[inline(always)]
    pub(super) fn may_be_watched(&self, root: u64) -> bool {
        let (word, bit) = place(root);
        self.watched[word].load(Ordering::Relaxed) & bit != 0
    }

    /// Has the calls of this call's root event kept from here on; whether those that have ended are
    /// to be looked for, because they were not so far.
    pub(super) fn watch(&self, call: &RawCall, now: u64) -> bool {
        let mut kept = self.kept.lock();
        let roots = &mut kept.roots;
        if roots.iter().any(|root| root.event == call.root()) {
            return false;
        }
        let of_handler = roots.iter().rev().find(|root| root.handler == call.key());
        if of_handler.is_some_and(|root| now.saturating_sub(root.since) < OF_HANDLER) {
            return false;
        }
        if roots.len() >= WATCHED {
            match roots.front() {
                Some(oldest) if now.saturating_sub(oldest.since) < AT_LEAST => return false,
                _ => roots.pop_front(),
            };
        }
        roots.push_back(Root { event: call.root(), handler: call.key(), since: now, kept: 0 });
        self.mark(&kept);
        true
    }

    /// Lets go of root events that are watched for long: of them nothing is to come, most likely.
    /// Whether any is left.
    pub(super) fn let_go(&self, now: u64) -> bool {
        let mut kept = self.kept.lock();
        kept.roots.retain(|root| now.saturating_sub(root.since) < AT_MOST);
        self.mark(&kept);
        !kept.roots.is_empty()
    }

    fn mark(&self, kept: &Kept) {
        let mut watched = [0; WORDS];
        for root in kept.roots.iter().filter(|root| root.kept < OF_ROOT) {
            let (word, bit) = place(root.event);
            watched[word] |= bit;
        }
        for (there, word) in self.watched.iter().zip(watched) {
            there.store(word, Ordering::Relaxed);
        }
    }

    /// Keeps a call, if its root event is watched, in place of the oldest if there are so many.
    pub(super) fn keep(&self, call: RawCall, capacity: usize) {
        let mut kept = self.kept.lock();
        let root = kept.roots.iter_mut().find(|root| root.event == call.root());
        let Some(root) = root.filter(|root| capacity > 0 && root.kept < OF_ROOT) else { return };
        root.kept += 1;
        if root.kept == OF_ROOT {
            self.mark(&kept);
        }
        if kept.calls.len() >= capacity {
            kept.calls.pop_front();
            kept.dropped += 1;
        }
        kept.calls.push_back(call);
    }

    /// Those that are kept.
    pub(super) fn calls(&self) -> Vec<RawCall> {
        self.kept.lock().calls.iter().copied().collect()
    }

    /// How many were kept and are not any more.
    pub(super) fn dropped(&self) -> u64 {
        self.kept.lock().dropped
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.kept.lock().calls.capacity() * size_of::<RawCall>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(root: u64, key: u64) -> RawCall {
        RawCall::of_words(&[root + 1, root, root, key, 0, 0, 0])
    }

    #[test]
    fn calls_of_a_watched_root_event_are_kept_and_no_others() {
        let trees = Trees::default();
        assert!(!trees.may_be_watched(7));
        assert!(trees.watch(&call(7, 1), 0));
        assert!(trees.may_be_watched(7) && !trees.may_be_watched(8));
        for root in [7, 8, 7] {
            trees.keep(call(root, 2), 10);
        }
        assert_eq!(trees.calls().len(), 2);
        assert!(!trees.watch(&call(7, 3), 5 * OF_HANDLER), "it is already");
    }

    #[test]
    fn of_a_handler_that_fails_all_the_time_the_trees_of_some_are_kept_and_others_have_their_turn()
    {
        let trees = Trees::default();
        let often = (0..10_000).filter(|n| trees.watch(&call(*n, 1), n * 10_000)).count();
        assert_eq!(often, 1);
        assert!(trees.watch(&call(20_000, 2), 100_000));
        let all = (0..10_000).filter(|n| trees.watch(&call(n + 30_000, n + 10), 200_000)).count();
        assert_eq!(all, WATCHED - 2);
        assert!(trees.watch(&call(50_000, 3), 200_000 + AT_LEAST));
        assert!(!trees.may_be_watched(0), "the oldest");
    }

    #[test]
    fn a_root_event_with_calls_without_end_takes_no_place_of_others() {
        let trees = Trees::default();
        assert!(trees.watch(&call(7, 1), 0));
        (0..2 * OF_ROOT as u64).for_each(|key| trees.keep(call(7, key), 10 * OF_ROOT));
        assert_eq!(trees.calls().len(), OF_ROOT);
        assert!(!trees.may_be_watched(7), "its calls cost no more than others");
        assert!(!trees.watch(&call(7, 2), 9 * OF_HANDLER), "and it does not begin again");
    }

    #[test]
    fn a_root_event_is_not_watched_for_ever() {
        let trees = Trees::default();
        assert!(trees.watch(&call(7, 1), 0) && trees.watch(&call(8, 2), AT_MOST / 2));
        assert!(trees.let_go(AT_MOST));
        assert!(trees.may_be_watched(8) && !trees.may_be_watched(7));
        assert!(!trees.let_go(2 * AT_MOST) && !trees.may_be_watched(8));
    }

    #[test]
    fn no_more_are_kept_than_may_be() {
        let trees = Trees::default();
        assert!(trees.watch(&call(7, 1), 0));
        (0..100).for_each(|key| trees.keep(call(7, key), 10));
        let keys: Vec<u64> = trees.calls().iter().map(RawCall::key).collect();
        assert_eq!((keys, trees.dropped()), ((90..100).collect(), 90));
    }
}
