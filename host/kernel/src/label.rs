//! Texts that a signal handler can read: of fixed size, in atomics, found by a number.
//!
//! A text stays for as long as its [`Label`] does. When there is no room, a number simply has no
//! text. What the texts say, nobody here knows.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many texts there may be. Handlers beyond it are told by their event alone.
const ENTRIES: usize = 4096;
/// How many places a text may be in.
const PROBES: usize = 64;
/// Eight bytes each.
const LENGTH: usize = 28;
/// In place of the number, while the text is written.
const BEING_WRITTEN: u64 = u64::MAX;

struct LabelEntry {
    /// Zero for one that is free.
    key: AtomicU64,
    text: [AtomicU64; LENGTH],
}

static TABLE: [LabelEntry; ENTRIES] = [const { LabelEntry::new() }; ENTRIES];
static NEXT: AtomicU64 = AtomicU64::new(1);

impl LabelEntry {
    const fn new() -> Self {
        LabelEntry { key: AtomicU64::new(0), text: [const { AtomicU64::new(0) }; LENGTH] }
    }

    fn write(&self, text: &str) {
        let end = text.floor_char_boundary(LENGTH * 8);
        let mut pieces = text.as_bytes()[..end].chunks(8);
        for word in &self.text {
            let mut bytes = [0; 8];
            let piece = pieces.next().unwrap_or_default();
            bytes[..piece.len()].copy_from_slice(piece);
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
    }
}

/// A number, unique in this process and never zero, and a text that stands for it.
#[derive(Debug)]
pub struct Label {
    key: u64,
    at: Option<usize>,
}

impl Label {
    /// The text is cut after 224 bytes.
    pub fn new(text: &str) -> Self {
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        let free = |at: &usize| {
            let taken = TABLE[*at].key.compare_exchange(
                0,
                BEING_WRITTEN,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            taken.is_ok()
        };
        let at = places(key).find(free);
        if let Some(at) = at {
            TABLE[at].write(text);
            TABLE[at].key.store(key, Ordering::Release);
        }
        Label { key, at }
    }

    /// A number alone.
    pub(crate) fn blank() -> Self {
        Label { key: NEXT.fetch_add(1, Ordering::Relaxed), at: None }
    }

    /// The number.
    pub fn key(&self) -> u64 {
        self.key
    }
}

impl Drop for Label {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            TABLE[at].key.store(0, Ordering::Release);
        }
    }
}

/// Hands over the text of a number in pieces, if it has one. For signal handlers.
pub fn read(key: u64, mut piece: impl FnMut(&[u8])) -> bool {
    let Some(at) = places(key).find(|at| TABLE[*at].key.load(Ordering::Acquire) == key) else {
        return false;
    };
    for word in &TABLE[at].text {
        let bytes = word.load(Ordering::Relaxed).to_le_bytes();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        piece(&bytes[..end]);
    }
    true
}

fn places(key: u64) -> impl Iterator<Item = usize> {
    let first = (key % ENTRIES as u64) as usize;
    (first..first + PROBES).map(|place| place % ENTRIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(key: u64) -> Option<String> {
        let mut text = Vec::new();
        read(key, |piece| text.extend_from_slice(piece)).then(|| String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_text_is_read_by_its_number_for_as_long_as_it_is_kept() {
        let long = "ä".repeat(LENGTH * 8);
        let [short, cut] = ["plugin \"chaos\"", &long].map(Label::new);
        assert_eq!(text(short.key()).as_deref(), Some("plugin \"chaos\""));
        assert_eq!(text(cut.key()), Some("ä".repeat(LENGTH * 4)));
        assert_eq!(text(Label::blank().key()), None);
        let key = short.key();
        drop(short);
        assert_eq!(text(key), None);
    }
}
