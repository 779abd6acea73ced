//! What the plugin keeps: a count for each lane, and entries that make the state as large as it is
//! to be.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::payloads::Lane;

/// Bytes of an entry's value.
const VALUE: usize = 240;

pub(crate) type Entries = Arc<BTreeMap<String, String>>;

#[derive(Default)]
pub(crate) struct Counted {
    inner: Mutex<Inner>,
}

#[derive(Default, Clone)]
pub(crate) struct Inner {
    pub(crate) lanes: BTreeMap<u64, Lane>,
    pub(crate) entries: Entries,
}

impl Counted {
    /// Begins with as many entries as it takes to fill so many bytes.
    pub(crate) fn with_entries(bytes: usize) -> Self {
        let entry = |index: usize| {
            let key = format!("entry-{index:08}");
            let value = (0..VALUE).map(|at| letter(index * 31 + at * at)).collect();
            (key, value)
        };
        let entries = Arc::new((0..bytes / (VALUE + 16)).map(entry).collect());
        Counted { inner: Mutex::new(Inner { lanes: BTreeMap::new(), entries }) }
    }

    /// Counts a request on its lane: the count with it, and the number before it.
    pub(crate) fn add(&self, lane: u64, number: u64) -> (u64, u64) {
        let mut inner = self.lock();
        let lane = inner.lanes.entry(lane).or_default();
        let previous = std::mem::replace(&mut lane.last, number);
        lane.count += 1;
        (lane.count, previous)
    }

    /// Goes on with what another instance kept.
    pub(crate) fn replace(&self, inner: Inner) {
        *self.lock() = inner;
    }

    pub(crate) fn all(&self) -> Inner {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn letter(seed: usize) -> char {
    char::from(b'a' + u8::try_from(seed % 26).unwrap_or_default())
}

/// A number for all keys and values, in order.
pub(crate) fn checksum(entries: &Entries) -> u64 {
    let bytes = entries.iter().flat_map(|(key, value)| key.bytes().chain(value.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
