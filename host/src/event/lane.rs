//! Whether events of a name that a plugin emits go as values or as bytes.

use std::sync::{
    Arc,
    atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed},
    },
};

/// What was learned of the events of one name from one plugin. A value that nobody looks at and that becomes JSON all the same
/// is a detour: the next ones go as bytes, until the routes change.
pub(crate) struct Lane {
    /// How often the routes have changed so far.
    changes: Arc<AtomicU64>,
    /// The state of the routes in which bytes are better.
    bytes_at: AtomicU64,
}

impl Lane {
    /// `changes` is counted up whenever the routes have changed, and never 0.
    pub(crate) fn new(changes: Arc<AtomicU64>) -> Self {
        Lane { changes, bytes_at: AtomicU64::new(0) }
    }

    /// Which state of the routes an event that is emitted now meets, or a later one.
    #[inline]
    pub(crate) fn state(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// Whether the next event is better given as bytes.
    #[inline]
    pub(crate) fn wants_bytes(&self) -> bool {
        self.bytes_at.load(Relaxed) == self.state()
    }

    /// A value that was emitted in this state of the routes is let go: whether somebody looked at it, and whether it became
    /// JSON.
    #[inline]
    pub(super) fn learn(&self, state: u64, viewed: bool, encoded: bool) {
        let bytes_at = self.bytes_at.load(Relaxed);
        // Mostly it is as before, and then nobody else's cache line is taken.
        if encoded && !viewed {
            if bytes_at != state {
                self.bytes_at.store(state, Relaxed);
            }
        } else if viewed && bytes_at == state {
            self.bytes_at.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_wanted_after_a_value_for_nothing_until_the_routes_change() {
        let changes = Arc::new(AtomicU64::new(1));
        let lane = Lane::new(changes.clone());
        assert!(!lane.wants_bytes());
        lane.learn(lane.state(), false, false);
        assert!(!lane.wants_bytes(), "nobody wanted it in any form");
        lane.learn(lane.state(), true, true);
        assert!(!lane.wants_bytes(), "somebody took the value");
        lane.learn(lane.state(), false, true);
        assert!(lane.wants_bytes());
        let before = lane.state();
        changes.fetch_add(1, Relaxed);
        assert!(!lane.wants_bytes(), "there may be somebody else now");
        lane.learn(before, false, true);
        assert!(!lane.wants_bytes(), "that one met the routes before");
    }
}
