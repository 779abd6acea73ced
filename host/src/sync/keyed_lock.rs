//! Locks by key: one deployment at a time for each file, and for each plugin.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, MutexGuard},
};

use ksi_kernel::lock::Lock;
use tokio::sync::{OwnedMutexGuard, watch};

/// What only one at a time may work on. Whoever needs both takes the file first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum LockKey {
    File(PathBuf),
    Plugin(Arc<str>),
}

/// The lock of one key.
#[derive(Default)]
struct Slot {
    mutex: Arc<tokio::sync::Mutex<()>>,
    /// How many wait for it.
    waiting: watch::Sender<usize>,
}

/// All locks that somebody has or waits for.
#[derive(Default)]
pub(crate) struct KeyedLock(Lock<HashMap<LockKey, Arc<Slot>>>);

/// A lock that somebody has, until it is dropped.
pub(crate) struct LockGuard {
    locks: Arc<KeyedLock>,
    key: LockKey,
    slot: Arc<Slot>,
    guard: Option<OwnedMutexGuard<()>>,
}

/// Somebody waits for a lock, until this is dropped.
struct Waiting<'a>(&'a Slot);

impl<'a> Waiting<'a> {
    fn begin(slot: &'a Slot) -> Self {
        slot.waiting.send_modify(|waiting| *waiting += 1);
        Waiting(slot)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

impl KeyedLock {
    /// Waits for the lock of a key. Those who wait get it in the order in which they came.
    pub(crate) async fn lock(self: &Arc<Self>, key: LockKey) -> LockGuard {
        let slot = self.all().entry(key.clone()).or_default().clone();
        let guard = {
            let _waiting = Waiting::begin(&slot);
            slot.mutex.clone().lock_owned().await
        };
        LockGuard { locks: self.clone(), key, slot, guard: Some(guard) }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<LockKey, Arc<Slot>>> {
        self.0.lock()
    }
}

impl LockGuard {
    /// Waits until somebody else waits for it.
    pub(crate) async fn wanted(&self) {
        // The sender lives in the slot, so there is no other end.
        let _ = self.slot.waiting.subscribe().wait_for(|waiting| *waiting > 0).await;
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let mut locks = self.locks.all();
        // Whoever waits holds a count of its own, as this one does.
        self.guard = None;
        if locks.get(&self.key).is_some_and(|slot| Arc::strong_count(slot) == 2) {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_is_had_by_one_at_a_time_and_forgotten_after_the_last() {
        let locks = Arc::new(KeyedLock::default());
        let first = locks.lock(LockKey::Plugin("a".into())).await;
        let other = locks.lock(LockKey::Plugin("b".into())).await;
        let mut second = std::pin::pin!(locks.lock(LockKey::Plugin("a".into())));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut wanted = Box::pin(first.wanted());
        assert!(wanted.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert!(wanted.as_mut().poll(&mut cx).is_ready(), "somebody waits for it");
        drop(wanted);
        drop((first, other));
        let second = second.await;
        assert!(std::pin::pin!(second.wanted()).poll(&mut cx).is_pending(), "nobody does");
        assert_eq!(locks.all().len(), 1);
        drop(second);
        assert!(locks.all().is_empty());
    }
}
