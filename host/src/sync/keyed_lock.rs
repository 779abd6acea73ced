//! Locks by key: one deployment at a time for each file, and for each plugin.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, MutexGuard},
};

use ksi_kernel::lock::Lock;
use tokio::sync::OwnedMutexGuard;

/// What only one at a time may work on. Whoever needs both takes the file first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum LockKey {
    File(PathBuf),
    Plugin(Arc<str>),
}

type Locks = HashMap<LockKey, Arc<tokio::sync::Mutex<()>>>;

/// All locks that somebody has or waits for.
#[derive(Default)]
pub(crate) struct KeyedLock(Lock<Locks>);

/// A lock that somebody has, until it is dropped.
pub(crate) struct LockGuard {
    locks: Arc<KeyedLock>,
    key: LockKey,
    guard: Option<OwnedMutexGuard<()>>,
}

impl KeyedLock {
    /// Waits for the lock of a key. Those who wait get it in the order in which they came.
    pub(crate) async fn lock(self: &Arc<Self>, key: LockKey) -> LockGuard {
        let lock = self.all().entry(key.clone()).or_default().clone();
        let guard = Some(lock.lock_owned().await);
        LockGuard { locks: self.clone(), key, guard }
    }

    fn all(&self) -> MutexGuard<'_, Locks> {
        self.0.lock()
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let mut locks = self.locks.all();
        // The guard holds a count of its own, and so does whoever waits.
        self.guard = None;
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
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
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop((first, other));
        let second = second.await;
        assert_eq!(locks.all().len(), 1);
        drop(second);
        assert!(locks.all().is_empty());
    }
}
