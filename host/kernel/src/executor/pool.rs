//! A run queue and the threads that serve it.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use async_task::{Runnable, Task};

use super::clock;
use super::{
    idle_io::IdleIo,
    leaving::Sets,
    slot::{self, Slot, with_slot},
    stripe::Lease,
};
use crate::lock::Lock;

/// The stack of a worker: room for `NESTED` handlers with large futures, in a debug build too.
const STACK: usize = 8 << 20;
/// How long I/O is left alone at the most while every thread is at work.
const LOOK: Duration = Duration::from_micros(200);
/// A poll of this length is worth waking a colleague for who waits for I/O meanwhile. A client's
/// turn is far shorter, also when its thread loses the core to that client in between.
const LONG: Duration = Duration::from_micros(250);
/// What a long poll counts for against short ones, from when on long ones are expected, and the
/// most they add up to. One alone tells nothing: the thread may have lost its core.
const LONG_WEIGHT: u32 = 8;
const LONG_EXPECTED: u32 = 12;
const LONG_MOST: u32 = 32;

/// A queue and the threads that serve it.
pub(super) struct Pool {
    name: &'static str,
    /// The number of threads: exactly so many, or at the most when they come and go.
    pub(super) limit: usize,
    /// How long a thread waits for work before it leaves; `None` for ever.
    patience: Option<Duration>,
    /// What one of the idle threads waits for.
    pub(super) io: Option<IdleIo>,
    queue: Lock<Queue>,
    more: Condvar,
    crew: Lock<Crew>,
    sets: Arc<Sets>,
    /// A crew gets no more threads than this.
    #[cfg(test)]
    pub(super) refused_from: std::sync::atomic::AtomicUsize,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) ready: VecDeque<Runnable>,
    /// Threads that wait in `more`.
    asleep: usize,
    /// A thread was notified and has not come back yet. One at a time is enough: it wakes the next.
    waking: bool,
    /// Who looks after I/O.
    watch: IoWatch,
    /// When somebody did.
    looked: Option<Instant>,
    /// Whether polls have been long lately; see [`LONG_WEIGHT`].
    long: u32,
    pub(super) watchdog: Option<Thread>,
}

/// Who looks after the pool's I/O.
///
/// A thread that has waited for it and takes a task leaves it to nobody: usually it is back before
/// a colleague were awake. If its poll takes long, the watchdog wakes one; and while polls have
/// been long lately, it does so itself.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum IoWatch {
    #[default]
    Nobody,
    /// A thread that is at work, and does not wait.
    Looking,
    /// An idle thread.
    Waiting,
    /// An idle thread that was told to come back.
    Called,
}

impl IoWatch {
    fn is_idle(self) -> bool {
        matches!(self, IoWatch::Waiting | IoWatch::Called)
    }
}

impl Queue {
    /// Threads that wait for work.
    pub(super) fn idle(&self) -> usize {
        self.asleep + usize::from(self.watch.is_idle())
    }
}

/// The threads that are at work.
#[derive(Default)]
pub(super) struct Crew {
    /// The number of its set.
    set: u64,
    stop: Arc<AtomicBool>,
    /// What the threads wait for before they begin, if they are not to do so at once.
    held_back: Option<Arc<OnceLock<()>>>,
    pub(super) threads: Vec<WorkerThread>,
}

pub(super) struct WorkerThread {
    pub(super) handle: JoinHandle<()>,
    pub(super) slot: Arc<Slot>,
}

impl Crew {
    fn begin(&self) {
        if let Some(begin) = &self.held_back {
            let _ = begin.set(());
        }
    }
}

impl Pool {
    /// A pool whose threads stay. One of them waits for I/O while it is idle.
    pub(super) fn lasting(name: &'static str, limit: usize, io: IdleIo, sets: &Arc<Sets>) -> Self {
        Pool { io: Some(io), patience: None, ..Pool::new(name, limit, Duration::ZERO, sets) }
    }

    /// A pool whose threads come when they are needed.
    pub(super) fn new(
        name: &'static str,
        limit: usize,
        patience: Duration,
        sets: &Arc<Sets>,
    ) -> Self {
        Pool {
            name,
            limit,
            patience: Some(patience),
            io: None,
            queue: Lock::default(),
            more: Condvar::new(),
            crew: Lock::default(),
            sets: sets.clone(),
            #[cfg(test)]
            refused_from: usize::MAX.into(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    pub(super) fn crew(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock()
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
    /// A worker that makes one task ready takes it itself after its present poll, which saves
    /// waking a colleague. If that poll then never ends, the watchdog wakes one.
    fn push(self: &Arc<Self>, runnable: Runnable) {
        let mut queue = self.lock();
        let mine = self.patience.is_none()
            && queue.ready.is_empty()
            && with_slot(|slot| slot.for_calls) == Some(true);
        queue.ready.push_back(runnable);
        if IdleIo::waits_here() {
            // This is the thread that waits for I/O, and what it is for. It wakes a colleague if
            // there is more of it.
            self.call_back(&mut queue);
            return;
        }
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
        self.let_go_of_those_that_left();
        let mut crew = self.crew();
        let (missing, present) = {
            // Threads say that they leave under this lock.
            let queue = self.lock();
            let left = |thread: &&WorkerThread| thread.slot.left.load(Ordering::Relaxed);
            let left = crew.threads.iter().filter(left).count();
            (queue.ready.len() > queue.idle(), crew.threads.len() - left)
        };
        if missing
            && present < self.limit
            && let Err(error) = self.add_thread(&mut crew)
        {
            tracing::error!(%error, "no thread can be started for a blocking handler; it waits for one");
        }
    }

    /// Has those joined that left by themselves. They are not forgotten: they have ended only when
    /// their thread-locals are gone. And they are not waited for: this may be one of them.
    fn let_go_of_those_that_left(&self) {
        let (left, leaving) = {
            let mut crew = self.crew();
            let finished = |thread: &mut WorkerThread| thread.handle.is_finished();
            let left: Vec<WorkerThread> = crew.threads.extract_if(.., finished).collect();
            if left.is_empty() {
                return;
            }
            // Under the lock: from here on the set has not ended, and who replaces it comes later.
            (left, self.sets.leave_early(crew.set))
        };
        if let Err((error, (_, left))) = leaving.join(left) {
            tracing::warn!(%error, "threads that have left are joined later");
            self.crew().threads.extend(left);
        }
    }

    pub(super) fn wake_one(&self, queue: &mut Queue) {
        if queue.asleep > 0 {
            if !queue.waking {
                queue.waking = true;
                self.more.notify_one();
            }
        } else {
            self.call_back(queue);
        }
    }

    /// Has the thread come back that waits for I/O, if one does.
    fn call_back(&self, queue: &mut Queue) {
        if queue.watch == IoWatch::Waiting
            && let Some(io) = &self.io
        {
            queue.watch = IoWatch::Called;
            io.end();
        }
    }

    /// Wakes a thread that sleeps while nobody looks after I/O.
    pub(super) fn have_io_watched(&self, queue: &mut Queue) {
        if self.io.is_some() && queue.watch == IoWatch::Nobody {
            self.wake_one(queue);
        }
    }

    /// Looks after I/O if every thread is at work, which may be for ever; whether that gave work.
    /// For the watchdog: what is woken here is only made ready.
    pub(super) fn look_for_those_at_work(&self) -> bool {
        let Some(io) = &self.io else { return false };
        let mut queue = self.lock();
        if queue.watch != IoWatch::Nobody || queue.idle() > 0 {
            return false;
        }
        queue.watch = IoWatch::Looking;
        drop(queue);
        io.look();
        let mut queue = self.lock();
        queue.watch = IoWatch::Nobody;
        // One that has fallen asleep meanwhile left I/O to this thread.
        self.have_io_watched(&mut queue);
        !queue.ready.is_empty()
    }

    pub(super) fn add_thread(self: &Arc<Self>, crew: &mut Crew) -> io::Result<()> {
        #[cfg(test)]
        if crew.threads.len() >= self.refused_from.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let slot = Arc::new(Slot::new(self.name, self.patience.is_none()));
        let (pool, stop, own) = (self.clone(), crew.stop.clone(), slot.clone());
        let held_back = crew.held_back.clone();
        let thread = thread::Builder::new().name(self.name.to_owned()).stack_size(STACK);
        let handle = thread.spawn(move || {
            if let Some(begin) = held_back {
                begin.wait();
            }
            if !stop.load(Ordering::Relaxed) {
                pool.work(&stop, own);
            }
        })?;
        crew.threads.push(WorkerThread { handle, slot });
        Ok(())
    }

    /// Starts `count` new threads, which do nothing until they [take over](Self::hand_over).
    ///
    /// # Errors
    /// The system gives no further thread. Those that it gave have ended.
    pub(super) fn new_crew(self: &Arc<Self>, count: usize) -> io::Result<Crew> {
        let mut fresh = Crew { held_back: Some(Arc::default()), ..Crew::default() };
        for _ in 0..count {
            if let Err(error) = self.add_thread(&mut fresh) {
                fresh.stop.store(true, Ordering::Relaxed);
                fresh.begin();
                for thread in fresh.threads {
                    // It has run nothing, so this does not take long.
                    let _ = thread.handle.join();
                }
                return Err(error);
            }
        }
        Ok(fresh)
    }

    /// Has new threads take over, and tells the old ones to leave, which are returned to be joined.
    pub(super) fn hand_over(&self, mut fresh: Crew) -> Vec<WorkerThread> {
        fresh.set = self.sets.current();
        let old = {
            let mut crew = self.crew();
            let old = std::mem::replace(&mut *crew, fresh);
            crew.begin();
            old
        };
        self.dismiss(&old.stop);
        old.threads
    }

    /// Both at once.
    pub(super) fn replace_crew(self: &Arc<Self>, count: usize) -> io::Result<Vec<WorkerThread>> {
        let fresh = self.new_crew(count)?;
        Ok(self.hand_over(fresh))
    }

    fn dismiss(&self, stop: &AtomicBool) {
        // Under the lock, so that no thread looks at `stop` before and goes to sleep after.
        let mut queue = self.lock();
        stop.store(true, Ordering::Relaxed);
        self.call_back(&mut queue);
        drop(queue);
        self.more.notify_all();
    }

    /// Polls until `stop`. Between two polls a thread may leave: nothing is queued with it.
    fn work(self: Arc<Self>, stop: &AtomicBool, slot: Arc<Slot>) {
        slot::enter(slot.clone());
        // Those that come and go share a stripe: they would take those of the threads that count at
        // each event.
        let _stripe = self.patience.is_none().then(Lease::take);
        let mut queue = self.lock();
        while !stop.load(Ordering::Relaxed) {
            if let Some(runnable) = queue.ready.pop_front() {
                if !queue.ready.is_empty() {
                    self.wake_one(&mut queue);
                } else if queue.long >= LONG_EXPECTED {
                    self.have_io_watched(&mut queue);
                }
                drop(queue);
                let begin = Instant::now();
                slot.polls.fetch_add(1, Ordering::Relaxed);
                clock::forget();
                // A plugin's panic is caught before it gets here; this one would be the host's own.
                if catch_unwind(AssertUnwindSafe(|| runnable.run())).is_err() {
                    tracing::error!("a task of the host panicked on a dispatch worker");
                }
                slot.polls.fetch_add(1, Ordering::Relaxed);
                queue = self.look(begin);
                continue;
            }
            let timed_out;
            (queue, timed_out) = self.wait(queue);
            if timed_out && queue.ready.is_empty() {
                break;
            }
            if let Some(watchdog) = &queue.watchdog {
                watchdog.unpark();
            }
        }
        slot.left.store(true, Ordering::Relaxed);
        self.have_io_watched(&mut queue);
        // A notification that was meant for work may have come to this thread on its way out.
        if !queue.ready.is_empty() {
            self.wake_one(&mut queue);
            drop(queue);
            if self.patience.is_some() {
                self.add_missing();
            }
        }
    }

    /// After a poll that began at `begin`: sees to I/O if nobody has for a while.
    fn look(&self, begin: Instant) -> MutexGuard<'_, Queue> {
        let Some(io) = &self.io else { return self.lock() };
        let now = Instant::now();
        let mut queue = self.lock();
        queue.long = match now - begin > LONG {
            true => (queue.long + LONG_WEIGHT).min(LONG_MOST),
            false => queue.long.saturating_sub(1),
        };
        if queue.watch == IoWatch::Nobody
            && !queue.ready.is_empty()
            && queue.looked.is_none_or(|looked| now.saturating_duration_since(looked) > LOOK)
        {
            queue.watch = IoWatch::Looking;
            queue.looked = Some(now);
            drop(queue);
            io.look();
            queue = self.lock();
            queue.watch = IoWatch::Nobody;
        }
        queue
    }

    /// Waits for work, or for I/O if nobody else does; whether that was in vain for too long.
    fn wait<'a>(&'a self, queue: MutexGuard<'a, Queue>) -> (MutexGuard<'a, Queue>, bool) {
        if let Some(io) = &self.io
            && queue.watch == IoWatch::Nobody
        {
            return (self.wait_for_io(queue, || io.wait()), false);
        }
        self.wait_for_more(queue, self.patience)
    }

    /// Waits for I/O by `wait`, which a push ends.
    pub(super) fn wait_for_io<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        wait: impl FnOnce(),
    ) -> MutexGuard<'a, Queue> {
        queue.watch = IoWatch::Waiting;
        drop(queue);
        wait();
        let mut queue = self.lock();
        queue.watch = IoWatch::Nobody;
        queue.looked = Some(Instant::now());
        queue
    }

    /// Waits for work, and for so long at the most; whether that was in vain.
    pub(super) fn wait_for_more<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        most: Option<Duration>,
    ) -> (MutexGuard<'a, Queue>, bool) {
        queue.asleep += 1;
        let (mut queue, timed_out) = match most {
            None => (self.more.wait(queue).unwrap_or_else(PoisonError::into_inner), false),
            Some(most) => {
                let waited = self.more.wait_timeout(queue, most);
                let (queue, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                (queue, waited.timed_out())
            }
        };
        queue.asleep -= 1;
        queue.waking = false;
        (queue, timed_out)
    }
}

#[cfg(test)]
mod tests;
