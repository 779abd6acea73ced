//! Turns: one transaction at a time for each file, and for each plugin.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

/// What only one transaction at a time may work on. One that needs both takes the file first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Turn {
    File(PathBuf),
    Plugin(Arc<str>),
}

type Locks = HashMap<Turn, Arc<tokio::sync::Mutex<()>>>;

/// All turns that somebody has or waits for.
#[derive(Default)]
pub(crate) struct Turns(Mutex<Locks>);

/// A turn that somebody has, until it is dropped.
pub(crate) struct Taken {
    turns: Arc<Turns>,
    turn: Turn,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for a turn. Those who wait get it in the order in which they came.
    pub(crate) async fn take(self: &Arc<Self>, turn: Turn) -> Taken {
        let lock = self.lock().entry(turn.clone()).or_default().clone();
        let guard = Some(lock.lock_owned().await);
        Taken { turns: self.clone(), turn, guard }
    }

    fn lock(&self) -> MutexGuard<'_, Locks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut locks = self.turns.lock();
        // The guard holds a count of its own, and so does whoever waits.
        self.guard = None;
        if locks.get(&self.turn).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_is_had_by_one_at_a_time_and_forgotten_after_the_last() {
        let turns = Arc::new(Turns::default());
        let first = turns.take(Turn::Plugin("a".into())).await;
        let other = turns.take(Turn::Plugin("b".into())).await;
        let mut second = std::pin::pin!(turns.take(Turn::Plugin("a".into())));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop((first, other));
        let second = second.await;
        assert_eq!(turns.lock().len(), 1);
        drop(second);
        assert!(turns.lock().is_empty());
    }
}
