//! Threads that leave, until they are joined.
//!
//! A thread has ended only when its thread-locals are gone. Their destructors are plugin code,
//! which may take any time and ask for further threads: so a thread of its own waits for them,
//! which holds no lock meanwhile.
//!
//! Threads come in sets, one at work at a time. Some of a set leave early, because they have
//! nothing to do; the rest leave together, when the next set takes over.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, mpsc},
    thread,
};

use tokio::sync::Notify;

use super::{
    pool::WorkerThread,
    slot::{Slot, Unreturned},
};
use crate::lock::Lock;

/// The sets of threads, of which some threads may still be there.
#[derive(Default)]
pub(super) struct Sets {
    state: Lock<LeavingState>,
    changed: Notify,
}

#[derive(Default)]
struct LeavingState {
    /// The number of the set that is at work.
    current: u64,
    joining: BTreeMap<u64, Joining>,
}

/// Threads of a set that are being joined.
#[derive(Default)]
struct Joining {
    /// How many times; with none left, all of them have ended.
    times: usize,
    /// What they are doing.
    slots: Vec<Arc<Slot>>,
}

/// Threads of a set that are to be joined; until this is dropped, the set has not ended.
pub(super) struct LeavingThreads {
    sets: Arc<Sets>,
    pub(super) set: u64,
}

/// Threads that nobody waits for yet.
pub(super) type NotJoined = (LeavingThreads, Vec<WorkerThread>);

impl Sets {
    /// The set at work leaves, and the next one is at work from here on.
    pub(super) fn replace(self: &Arc<Self>) -> LeavingThreads {
        let mut state = self.state.lock();
        let set = state.current;
        state.current += 1;
        Self::leave(self, &mut state, set)
    }

    /// Threads of a set leave that has not ended.
    pub(super) fn leave_early(self: &Arc<Self>, set: u64) -> LeavingThreads {
        Self::leave(self, &mut self.state.lock(), set)
    }

    fn leave(this: &Arc<Self>, state: &mut LeavingState, set: u64) -> LeavingThreads {
        state.joining.entry(set).or_default().times += 1;
        LeavingThreads { sets: this.clone(), set }
    }

    /// The number of the set that is at work.
    pub(super) fn current(&self) -> u64 {
        self.state.lock().current
    }

    /// How many sets have not ended although others have taken over.
    pub(super) fn left(&self) -> usize {
        let state = self.state.lock();
        state.joining.range(..state.current).count()
    }

    /// What threads of the sets up to number `set` have not returned from.
    pub(super) fn unreturned(&self, set: u64) -> Vec<Unreturned> {
        let state = self.state.lock();
        let slots = state.joining.range(..=set).flat_map(|(_, joining)| &joining.slots);
        slots.filter_map(|slot| slot.unreturned()).collect()
    }

    /// Waits until every set up to number `set` has ended.
    pub(super) async fn joined(&self, set: u64) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.state.lock().joining.first_key_value().is_none_or(|(&first, _)| first > set) {
                return;
            }
            changed.await;
        }
    }
}

impl LeavingThreads {
    /// Joins the threads.
    ///
    /// # Errors
    /// The system gives no thread that waits for them: here they are, not joined, with what says
    /// so.
    pub(super) fn join(self, threads: Vec<WorkerThread>) -> Result<(), (io::Error, NotJoined)> {
        self.note(&threads);
        let (sender, receiver) = mpsc::channel::<NotJoined>();
        let joins = thread::Builder::new().name("ksi-join".to_owned()).spawn(move || {
            for (leaving, threads) in receiver {
                for thread in threads {
                    // Workers catch what panics in a task, so there is no result to look at.
                    let _ = thread.handle.join();
                }
                drop(leaving);
            }
        });
        match joins {
            Ok(_) => sender
                .send((self, threads))
                .map_err(|lost| (io::ErrorKind::BrokenPipe.into(), lost.0)),
            Err(error) => Err((error, (self, threads))),
        }
    }
}

impl LeavingThreads {
    /// Remembers what the threads do, each once.
    fn note(&self, threads: &[WorkerThread]) {
        let mut state = self.sets.state.lock();
        let Some(joining) = state.joining.get_mut(&self.set) else { return };
        for WorkerThread { slot, .. } in threads {
            if !joining.slots.iter().any(|known| Arc::ptr_eq(known, slot)) {
                joining.slots.push(slot.clone());
            }
        }
    }
}

impl Drop for LeavingThreads {
    fn drop(&mut self) {
        let mut state = self.sets.state.lock();
        if let Some(joining) = state.joining.get_mut(&self.set) {
            joining.times -= 1;
            if joining.times == 0 {
                state.joining.remove(&self.set);
            }
        }
        drop(state);
        self.sets.changed.notify_waiters();
    }
}
