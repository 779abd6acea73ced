//! Pending calls of a generation that are not waited for any longer.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// Tells the pending calls of one generation that they will not be waited for any longer.
#[derive(Debug, Default)]
pub(crate) struct Cancel {
    /// How often calls were cancelled; [`FOR_GOOD`] for all that there are and will be.
    round: AtomicU64,
    changed: Notify,
}

const FOR_GOOD: u64 = u64::MAX;

impl Cancel {
    /// Ends every pending call at its present await, now and later; see [the module](super).
    pub(crate) fn cancel(&self) {
        self.round.store(FOR_GOOD, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Ends the calls that have begun, and none that begins later.
    pub(crate) fn cancel_present(&self) {
        // In one step: a host that stops may cancel for good meanwhile, and that must stay.
        let next = |round| (round != FOR_GOOD).then(|| round + 1);
        let _ = self.round.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        self.changed.notify_waiters();
    }

    pub(super) fn now(&self) -> u64 {
        self.round.load(Ordering::Acquire)
    }

    /// Waits until a call that began at `since` is cancelled.
    pub(super) async fn wait(&self, since: u64) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let round = self.now();
            if round == FOR_GOOD || round > since {
                return;
            }
            changed.await;
        }
    }
}
