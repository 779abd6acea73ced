//! Dispatch workers: the only threads that run plugin code.
//!
//! A thread-local with a destructor, made by plugin code on one of these threads, keeps the
//! plugin's library mapped until the thread ends. So the threads can be
//! [exchanged](Workers::exchange): new ones take over the same run queue, the old ones leave after
//! their present poll. A task belongs to no thread, so nothing is moved and nothing is lost, and
//! tasks of other plugins do not notice.
//!
//! There are three queues: one for calls, which must not block, with a fixed number of threads; one
//! for blocking handlers; and one for the beginnings and ends of plugins, which may block too and
//! must not wait for blocking handlers. Threads of the latter two come when they are needed and
//! leave when they are not. The queues themselves have no bound: what is in them has been accepted
//! before (a request, a queued event, a background task), and that is where the limits are.

use std::{future::Future, io, sync::Arc, thread::Thread, time::Duration};

pub use async_task::Task;
use tokio::runtime::Handle;

use super::{
    idle_io::IdleIo,
    leaving::{NotJoined, Sets},
    pool::{Crew, Pool},
    slot::{Slot, Unreturned},
};
use crate::lock::Lock;

/// Plugins that begin or end at the same time; further ones wait.
const LIFE_CYCLE: usize = 32;
/// How long a blocking thread waits for work before it leaves.
const IDLE: Duration = Duration::from_secs(10);

/// The threads, and the queues that outlive them.
pub struct Workers {
    calls: Arc<Pool>,
    io: Handle,
    blocking: Arc<Pool>,
    life_cycle: Arc<Pool>,
    sets: Arc<Sets>,
    /// Threads that the system gave no thread to wait for. The lock makes exchanges happen one at a
    /// time.
    not_joined: Lock<Vec<NotJoined>>,
}

impl Workers {
    /// Starts `calls` threads for calls; up to `blocking` come later for blocking handlers.
    ///
    /// # Errors
    /// The system gives no thread, or no descriptors to wait for I/O with.
    pub(crate) fn start(calls: usize, blocking: usize) -> io::Result<Self> {
        let (idle_io, sets) = (IdleIo::new()?, Arc::default());
        let workers = Workers {
            io: idle_io.handle().clone(),
            calls: Arc::new(Pool::lasting("ksi-dispatch", calls, idle_io, &sets)),
            blocking: Arc::new(Pool::new("ksi-blocking", blocking, IDLE, &sets)),
            life_cycle: Arc::new(Pool::new("ksi-life-cycle", LIFE_CYCLE, IDLE, &sets)),
            sets,
            not_joined: Lock::default(),
        };
        workers.calls.replace_crew(calls)?;
        Ok(workers)
    }

    /// Without a thread: whatever is spawned waits in this one queue.
    #[cfg(feature = "in-place")]
    pub(super) fn without_threads(pool: &Arc<Pool>, io: Handle, sets: Arc<Sets>) -> Self {
        let [calls, blocking, life_cycle] = [(); 3].map(|()| pool.clone());
        Workers { calls, io, blocking, life_cycle, sets, not_joined: Lock::default() }
    }

    /// With what to register sockets whose I/O the call threads wait for while they are idle, which
    /// saves those that are served by tasks there a thread to wake.
    pub fn io(&self) -> &Handle {
        &self.io
    }

    /// Runs a future on the call threads.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Pool::spawn(&self.calls, future)
    }

    /// Runs a future on threads that may be blocked.
    pub(crate) fn spawn_blocking<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Pool::spawn(&self.blocking, future)
    }

    /// Runs the beginning or the end of a plugin, on threads that may be blocked.
    pub fn spawn_life_cycle<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Pool::spawn(&self.life_cycle, future)
    }

    /// Starts new threads and lets the old ones go, after their present poll. Returns the number of
    /// the set that goes, for [`joined`](Self::joined).
    ///
    /// # Errors
    /// The system gives no thread; then the old ones stay at work.
    pub fn exchange(&self) -> io::Result<u64> {
        let mut not_joined = self.not_joined.lock();
        // Without them nothing is exchanged, and nothing counted: the old ones have not left.
        let fresh = self.calls.new_crew(self.calls.limit)?;
        // Counted before the new ones begin: whoever reads the number from here on knows that he
        // needs an exchange after this one.
        let leaving = self.sets.replace();
        let set = leaving.set;
        let mut threads = self.calls.hand_over(fresh);
        for pool in [&self.blocking, &self.life_cycle] {
            // What waits there has lost its threads, and nobody may push again.
            let waiting = pool.lock().ready.len();
            let replaced = pool.replace_crew(waiting.min(pool.limit));
            // No thread is none that could fail.
            threads.extend(replaced.unwrap_or_else(|_| pool.hand_over(Crew::default())));
        }
        // By a thread of its own, because one of those that leave may be stuck in plugin code for
        // ever.
        not_joined.push((leaving, threads));
        for (leaving, threads) in std::mem::take(&mut *not_joined) {
            if let Err((error, threads)) = leaving.join(threads) {
                tracing::error!(%error, "threads that leave are joined at the next exchange");
                not_joined.push(threads);
            }
        }
        Ok(set)
    }

    /// The number of the set that is at work.
    pub fn current_set(&self) -> u64 {
        self.sets.current()
    }

    /// Waits until every set up to number `set` has ended.
    pub async fn joined(&self, set: u64) {
        self.sets.joined(set).await;
    }

    /// What threads of the sets up to number `set` have not returned from.
    pub fn unreturned(&self, set: u64) -> Vec<Unreturned> {
        self.sets.unreturned(set)
    }

    /// How many sets have not ended although others have taken over.
    pub(crate) fn leaving(&self) -> usize {
        self.sets.left()
    }

    /// What the call threads that are at work are doing.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        self.calls.crew().threads.iter().map(|thread| thread.slot.clone()).collect()
    }

    /// The same of all threads, those for what may block too.
    pub(crate) fn all_slots(&self) -> Vec<Arc<Slot>> {
        let pools = [&self.calls, &self.blocking];
        let crews = pools.map(|pool| pool.crew());
        let threads = crews.iter().flat_map(|crew| &crew.threads);
        threads.map(|thread| thread.slot.clone()).collect()
    }

    /// Wakes a call thread if one sleeps and there is work, or I/O that nobody looks after; whether
    /// there is work. See [`Pool::push`].
    pub(crate) fn nudge(&self) -> bool {
        let mut state = self.calls.lock();
        if state.ready.is_empty() {
            self.calls.have_io_watched(&mut state);
            drop(state);
            return self.calls.look_for_those_at_work();
        }
        self.calls.wake_one(&mut state);
        true
    }

    /// Unparks `watchdog` whenever a call thread awakes from idleness.
    pub(crate) fn set_watchdog(&self, watchdog: Thread) {
        self.calls.lock().watchdog = Some(watchdog);
    }

    /// Whether every call thread sleeps.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.calls.lock();
        state.ready.is_empty() && state.idle() >= self.calls.limit
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // The threads hold only their queue and end after their present poll; nobody waits for
        // them.
        let _ = self.calls.replace_crew(0);
        let _ = self.blocking.replace_crew(0);
        let _ = self.life_cycle.replace_crew(0);
    }
}

#[cfg(test)]
mod tests;
