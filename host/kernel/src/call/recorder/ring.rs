//! The last calls that ended on a thread: a ring of fixed size, which its thread writes without a
//! lock and anybody reads.
//!
//! Each entry has a number, which is taken away while it is written: a reader that sees the same
//! one before and after has read what was written as a whole.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::lock::Lock;

/// What an entry holds, beside its number.
pub(super) type Words = [u64; 7];

/// Takes a cache line, and so many bytes.
const ENTRY_BYTES: usize = size_of::<Entry>();

#[derive(Default)]
#[repr(align(64))]
struct Entry {
    /// One more than how many were written before it; 0 for none, or while it is written.
    number: AtomicU64,
    words: [AtomicU64; 7],
}

/// The last calls of a thread, or of all threads that have no ring of their own.
pub(super) struct Ring {
    entries: Box<[Entry]>,
    next: AtomicU64,
    /// For those who share it.
    turn: Lock<()>,
}

impl Ring {
    /// Of so many entries: a power of two.
    pub(super) fn new(capacity: usize) -> Self {
        let entries = (0..capacity).map(|_| Entry::default()).collect();
        Ring { entries, next: AtomicU64::new(0), turn: Lock::default() }
    }

    /// Adds one, in place of the oldest when it is full. By the thread whose ring it is. Words that
    /// are not given are those of somebody else.
    #[inline(always)]
    pub(super) fn push<const N: usize>(&self, words: &[u64; N]) {
        let next = self.next.load(Ordering::Relaxed);
        let Some(entry) = self.entries.get(next as usize & self.entries.len().wrapping_sub(1))
        else {
            return;
        };
        entry.number.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        for (there, word) in entry.words.iter().zip(words) {
            there.store(*word, Ordering::Relaxed);
        }
        entry.number.store(next + 1, Ordering::Release);
        self.next.store(next + 1, Ordering::Release);
    }

    /// The same by one of several threads.
    #[cold]
    pub(super) fn push_shared(&self, words: &Words) {
        let _turn = self.turn.lock();
        self.push(words);
    }

    /// How many were written so far.
    pub(super) fn written(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.entries.len() * ENTRY_BYTES
    }

    /// Those that are still there of what was written after the first `after`, oldest first. How
    /// many were written by then.
    pub(super) fn read(&self, after: u64, mut each: impl FnMut(&Words)) -> u64 {
        let written = self.written();
        let there = written.saturating_sub(self.entries.len() as u64);
        for number in there.max(after)..written {
            let at = number as usize & self.entries.len().wrapping_sub(1);
            let Some(entry) = self.entries.get(at) else { break };
            if entry.number.load(Ordering::Acquire) != number + 1 {
                continue;
            }
            let words = entry.words.each_ref().map(|word| word.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if entry.number.load(Ordering::Relaxed) == number + 1 {
                each(&words);
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    fn read(ring: &Ring, after: u64) -> Vec<u64> {
        let mut seen = Vec::new();
        ring.read(after, |words| seen.push(words[0]));
        seen
    }

    #[test]
    fn the_newest_are_kept_in_order() {
        let ring = Ring::new(8);
        assert!(read(&ring, 0).is_empty());
        (1..=20).for_each(|call| ring.push(&[call; 7]));
        assert_eq!(read(&ring, 0), (13..=20).collect::<Vec<_>>());
        assert_eq!(read(&ring, 18), [19, 20]);
        assert_eq!((ring.written(), ring.bytes()), (20, 8 * 64));
    }

    #[test]
    fn one_that_is_read_while_it_is_overwritten_is_read_as_a_whole_or_not_at_all() {
        let ring = Arc::new(Ring::new(4));
        let writer = {
            let ring = ring.clone();
            thread::spawn(move || (1..=200_000).for_each(|call| ring.push(&[call; 7])))
        };
        while !writer.is_finished() {
            ring.read(0, |words| {
                assert!(words.iter().all(|word| *word == words[0]), "{words:?}");
            });
        }
        writer.join().unwrap();
        assert_eq!(read(&ring, 0), (199_997..=200_000).collect::<Vec<_>>());
    }
}
