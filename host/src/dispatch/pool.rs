//! A run queue and the threads that serve it.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::Duration,
};

use async_task::{Runnable, Task};

use super::{
    slot::{self, Slot, with_slot},
    stripe::Lease,
};
use crate::clock;

/// The stack of a worker: room for [`NESTED`] handlers with large futures, in a debug build too.
const STACK: usize = 8 << 20;

/// A queue and the threads that serve it.
pub(super) struct Pool {
    name: &'static str,
    /// The number of threads: exactly so many, or at the most when they come and go.
    pub(super) limit: usize,
    /// How long a thread waits for work before it leaves; `None` for ever.
    patience: Option<Duration>,
    queue: Mutex<Queue>,
    more: Condvar,
    crew: Mutex<Crew>,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) ready: VecDeque<Runnable>,
    /// Threads that wait in `more`.
    pub(super) idle: usize,
    /// A thread was notified and has not come back yet. One at a time is enough: it wakes the next.
    waking: bool,
    pub(super) watchdog: Option<Thread>,
}

/// The threads that are at work.
#[derive(Default)]
pub(super) struct Crew {
    stop: Arc<AtomicBool>,
    pub(super) threads: Vec<WorkerThread>,
}

pub(super) struct WorkerThread {
    handle: JoinHandle<()>,
    pub(super) slot: Arc<Slot>,
}

impl Pool {
    pub(super) fn new(name: &'static str, limit: usize, patience: Option<Duration>) -> Self {
        Pool {
            name,
            limit,
            patience,
            queue: Mutex::default(),
            more: Condvar::new(),
            crew: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn crew(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn spawn<F>(self: &Arc<Self>, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let pool = self.clone();
        let (runnable, task) = async_task::spawn(future, move |runnable| pool.push(runnable));
        runnable.schedule();
        task
    }

    /// Makes a task ready.
    ///
    /// A worker that makes one task ready takes it itself after its present poll, which saves waking a colleague. If
    /// that poll then never ends, the watchdog wakes one.
    fn push(self: &Arc<Self>, runnable: Runnable) {
        let mut queue = self.lock();
        let mine = self.patience.is_none()
            && queue.ready.is_empty()
            && with_slot(|slot| slot.for_calls) == Some(true);
        queue.ready.push_back(runnable);
        if mine {
            return;
        }
        self.wake_one(&mut queue);
        drop(queue);
        if self.patience.is_some() {
            self.add_missing();
        }
    }

    /// Adds a thread, within the limit, if there is more work than threads that wait for it.
    fn add_missing(self: &Arc<Self>) {
        let mut crew = self.crew();
        // Those that left are joined and not forgotten: they count as ended only when their thread-locals are gone.
        for thread in crew.threads.extract_if(.., |thread| thread.handle.is_finished()) {
            let _ = thread.handle.join();
        }
        let (missing, present) = {
            // Threads say that they leave under this lock.
            let queue = self.lock();
            let left = |thread: &&WorkerThread| thread.slot.left.load(Ordering::Relaxed);
            let left = crew.threads.iter().filter(left).count();
            (queue.ready.len() > queue.idle, crew.threads.len() - left)
        };
        if missing
            && present < self.limit
            && let Err(error) = self.add_thread(&mut crew)
        {
            tracing::error!(%error, "no thread can be started for a blocking handler; it waits for one");
        }
    }

    pub(super) fn wake_one(&self, queue: &mut Queue) {
        if queue.idle > 0 && !queue.waking {
            queue.waking = true;
            self.more.notify_one();
        }
    }

    pub(super) fn add_thread(self: &Arc<Self>, crew: &mut Crew) -> io::Result<()> {
        let slot = Arc::new(Slot::new(self.patience.is_none()));
        let (pool, stop, own) = (self.clone(), crew.stop.clone(), slot.clone());
        let thread = thread::Builder::new().name(self.name.to_owned()).stack_size(STACK);
        let handle = thread.spawn(move || pool.work(&stop, own))?;
        crew.threads.push(WorkerThread { handle, slot });
        Ok(())
    }

    /// Starts `count` new threads and tells the old ones to leave, which are returned to be joined.
    pub(super) fn replace_crew(self: &Arc<Self>, count: usize) -> io::Result<Vec<JoinHandle<()>>> {
        let mut fresh = Crew::default();
        for _ in 0..count {
            if let Err(error) = self.add_thread(&mut fresh) {
                self.dismiss(&fresh.stop);
                return Err(error);
            }
        }
        let old = std::mem::replace(&mut *self.crew(), fresh);
        self.dismiss(&old.stop);
        Ok(old.threads.into_iter().map(|thread| thread.handle).collect())
    }

    fn dismiss(&self, stop: &AtomicBool) {
        // Under the lock, so that no thread looks at `stop` before and goes to sleep after.
        let queue = self.lock();
        stop.store(true, Ordering::Relaxed);
        drop(queue);
        self.more.notify_all();
    }

    /// Polls until `stop`. Between two polls a thread may leave: nothing is queued with it.
    fn work(self: Arc<Self>, stop: &AtomicBool, slot: Arc<Slot>) {
        slot::enter(slot.clone());
        // Those that come and go share a stripe: they would take those of the threads that count at each event.
        let _stripe = self.patience.is_none().then(Lease::take);
        let mut queue = self.lock();
        while !stop.load(Ordering::Relaxed) {
            if let Some(runnable) = queue.ready.pop_front() {
                if !queue.ready.is_empty() {
                    self.wake_one(&mut queue);
                }
                drop(queue);
                slot.polls.fetch_add(1, Ordering::Relaxed);
                clock::forget();
                // A plugin's panic is caught before it gets here; this one would be the host's own.
                if catch_unwind(AssertUnwindSafe(|| runnable.run())).is_err() {
                    tracing::error!("a task of the host panicked on a dispatch worker");
                }
                slot.polls.fetch_add(1, Ordering::Relaxed);
                queue = self.lock();
                continue;
            }
            queue.idle += 1;
            let timed_out;
            (queue, timed_out) = self.wait(queue);
            queue.idle -= 1;
            queue.waking = false;
            if timed_out && queue.ready.is_empty() {
                break;
            }
            if let Some(watchdog) = &queue.watchdog {
                watchdog.unpark();
            }
        }
        slot.left.store(true, Ordering::Relaxed);
        // A notification that was meant for work may have come to this thread on its way out.
        if !queue.ready.is_empty() {
            self.wake_one(&mut queue);
            drop(queue);
            if self.patience.is_some() {
                self.add_missing();
            }
        }
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> (MutexGuard<'a, Queue>, bool) {
        match self.patience {
            None => (self.more.wait(queue).unwrap_or_else(PoisonError::into_inner), false),
            Some(patience) => {
                let waited = self.more.wait_timeout(queue, patience);
                let (queue, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                (queue, waited.timed_out())
            }
        }
    }
}
