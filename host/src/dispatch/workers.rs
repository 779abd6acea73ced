//! Dispatch workers: the only threads that run plugin code.
//!
//! A thread-local with a destructor, made by plugin code on one of these threads, keeps the plugin's library mapped
//! until the thread ends. So the threads can be [exchanged](Workers::exchange): new ones take over the same run
//! queue, the old ones leave after their present poll. A task belongs to no thread, so nothing is moved and nothing
//! is lost, and tasks of other plugins do not notice.
//!
//! There are two queues: one for calls, which must not block, with a fixed number of threads; and one for blocking
//! handlers, whose threads come when they are needed and leave when they are not. The queues themselves have no
//! bound: what is in them has been accepted before (a request, a queued event, a background task), and that is
//! where the limits are.

use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::Duration,
};

use async_task::{Runnable, Task};
use tokio::sync::Notify;

/// How long a blocking thread waits for work before it leaves.
const IDLE: Duration = Duration::from_secs(10);

thread_local! {
    /// What this thread is doing, if it is a dispatch worker.
    static SLOT: RefCell<Option<Arc<Slot>>> = const { RefCell::new(None) };
}

/// What a worker is doing at the moment, for the watchdog and for log lines.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// The key of the handler whose call is being polled; 0 for none.
    pub(crate) handler: AtomicU64,
    /// The number of its event.
    pub(crate) event: AtomicU64,
    /// Counts begun and ended polls: odd while one runs.
    pub(crate) polls: AtomicU64,
    /// How many calls are being polled inside one another.
    nested: AtomicU64,
    /// Whether it is a thread for calls, and not one that may be blocked.
    for_calls: bool,
    /// It has taken its last task.
    left: AtomicBool,
}

/// How many calls may be polled inside one another on one stack. A handler's emit polls the handlers of that event in
/// place, which is cheap; a long chain of events would fill the stack.
const NESTED: u64 = 8;

/// The stack of a worker: room for [`NESTED`] handlers with large futures, in a debug build too.
const STACK: usize = 8 << 20;

/// Whether this thread is a dispatch worker.
pub(crate) fn on_worker() -> bool {
    SLOT.with(|slot| slot.borrow().is_some())
}

/// Whether a call may be polled here and now: on a dispatch worker, and not too deep inside others.
pub(crate) fn may_poll_here() -> bool {
    with_slot(|slot| slot.nested.load(Ordering::Relaxed) < NESTED) == Some(true)
}

/// Runs the poll of a call, with this worker's slot saying whose it is: a handler's key and an event's number.
pub(crate) fn polling<T>(handler: u64, event: u64, poll: impl FnOnce() -> T) -> T {
    let mark = |handler, event| {
        with_slot(|slot| {
            (
                slot.handler.swap(handler, Ordering::Relaxed),
                slot.event.swap(event, Ordering::Relaxed),
            )
        })
    };
    let outer = mark(handler, event);
    with_slot(|slot| slot.nested.fetch_add(1, Ordering::Relaxed));
    let result = poll();
    with_slot(|slot| slot.nested.fetch_sub(1, Ordering::Relaxed));
    if let Some((handler, event)) = outer {
        mark(handler, event);
    }
    result
}

/// Looks at what this thread is doing, if it is a dispatch worker.
pub(crate) fn with_slot<T>(look: impl FnOnce(&Slot) -> T) -> Option<T> {
    SLOT.with(|slot| slot.borrow().as_deref().map(look))
}

/// The threads, and the queues that outlive them.
pub(crate) struct Workers {
    calls: Arc<Pool>,
    blocking: Arc<Pool>,
    sets: Arc<Sets>,
}

impl Workers {
    /// Starts `calls` threads for calls; up to `blocking` come later for blocking handlers.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(calls: usize, blocking: usize) -> io::Result<Self> {
        let workers = Workers {
            calls: Arc::new(Pool::new("ksi-dispatch", calls, None)),
            blocking: Arc::new(Pool::new("ksi-blocking", blocking, Some(IDLE))),
            sets: Arc::default(),
        };
        let mut crew = workers.calls.crew();
        for _ in 0..calls {
            workers.calls.add_thread(&mut crew)?;
        }
        drop(crew);
        Ok(workers)
    }

    /// Runs a future on the call threads.
    pub(crate) fn spawn<F>(&self, future: F) -> Task<F::Output>
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

    /// Starts new threads and lets the old ones go, after their present poll. Returns the number of the set that
    /// goes, for [`joined`](Self::joined).
    ///
    /// # Errors
    /// The system gives no thread; then the old ones stay at work.
    pub(crate) fn exchange(&self) -> io::Result<u64> {
        // Counted first: whoever reads the number from here on knows that he needs an exchange after this one.
        let set = self.sets.begin();
        let exchanged = self.begin_exchange(set);
        if exchanged.is_err() {
            self.sets.end(set);
        }
        exchanged.map(|()| set)
    }

    fn begin_exchange(&self, set: u64) -> io::Result<()> {
        let mut leaving = self.calls.replace_crew(self.calls.limit)?;
        // What waits there has lost its threads, and nobody may push again.
        let waiting = self.blocking.lock().ready.len();
        let blocking = self.blocking.replace_crew(waiting.min(self.blocking.limit));
        leaving.extend(blocking.or_else(|_| self.blocking.replace_crew(0))?);
        let sets = self.sets.clone();
        // A thread of its own, because one of those that leave may be stuck in plugin code for ever.
        thread::Builder::new().name("ksi-join".to_owned()).spawn(move || {
            for thread in leaving {
                // Workers catch what panics in a task, so there is no result to look at.
                let _ = thread.join();
            }
            sets.end(set);
        })?;
        Ok(())
    }

    /// The number of the set that is at work.
    pub(crate) fn current_set(&self) -> u64 {
        self.sets.lock().next
    }

    /// Waits until every set up to number `set` has ended.
    pub(crate) async fn joined(&self, set: u64) {
        loop {
            let mut changed = std::pin::pin!(self.sets.changed.notified());
            changed.as_mut().enable();
            if self.sets.lock().leaving.first().is_none_or(|&first| first > set) {
                return;
            }
            changed.await;
        }
    }

    /// How many sets have not ended although others have taken over.
    pub(crate) fn leaving(&self) -> usize {
        self.sets.lock().leaving.len()
    }

    /// What the call threads that are at work are doing.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        self.calls.crew().threads.iter().map(|thread| thread.slot.clone()).collect()
    }

    /// Wakes a call thread if there is work and one sleeps; whether there is work. See [`Pool::push`].
    pub(crate) fn nudge(&self) -> bool {
        let mut state = self.calls.lock();
        if state.ready.is_empty() {
            return false;
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
        state.ready.is_empty() && state.idle >= self.calls.limit
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // The threads hold only their queue and end after their present poll; nobody waits for them.
        let _ = self.calls.replace_crew(0);
        let _ = self.blocking.replace_crew(0);
    }
}

/// The sets of threads that have been told to leave and may still be there.
#[derive(Default)]
struct Sets {
    state: Mutex<SetState>,
    changed: Notify,
}

#[derive(Default)]
struct SetState {
    next: u64,
    leaving: BTreeSet<u64>,
}

impl Sets {
    fn lock(&self) -> MutexGuard<'_, SetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> u64 {
        let mut state = self.lock();
        let set = state.next;
        state.next += 1;
        state.leaving.insert(set);
        set
    }

    fn end(&self, set: u64) {
        self.lock().leaving.remove(&set);
        self.changed.notify_waiters();
    }
}

/// A queue and the threads that serve it.
struct Pool {
    name: &'static str,
    /// The number of threads: exactly so many, or at the most when they come and go.
    limit: usize,
    /// How long a thread waits for work before it leaves; `None` for ever.
    patience: Option<Duration>,
    queue: Mutex<Queue>,
    more: Condvar,
    crew: Mutex<Crew>,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Runnable>,
    /// Threads that wait in `more`.
    idle: usize,
    /// A thread was notified and has not come back yet. One at a time is enough: it wakes the next.
    waking: bool,
    watchdog: Option<Thread>,
}

/// The threads that are at work.
#[derive(Default)]
struct Crew {
    stop: Arc<AtomicBool>,
    threads: Vec<WorkerThread>,
}

struct WorkerThread {
    handle: JoinHandle<()>,
    slot: Arc<Slot>,
}

impl Pool {
    fn new(name: &'static str, limit: usize, patience: Option<Duration>) -> Self {
        Pool {
            name,
            limit,
            patience,
            queue: Mutex::default(),
            more: Condvar::new(),
            crew: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn crew(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn<F>(self: &Arc<Self>, future: F) -> Task<F::Output>
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

    fn wake_one(&self, queue: &mut Queue) {
        if queue.idle > 0 && !queue.waking {
            queue.waking = true;
            self.more.notify_one();
        }
    }

    fn add_thread(self: &Arc<Self>, crew: &mut Crew) -> io::Result<()> {
        let for_calls = self.patience.is_none();
        let slot = Arc::new(Slot { for_calls, ..Slot::default() });
        let (pool, stop, own) = (self.clone(), crew.stop.clone(), slot.clone());
        let thread = thread::Builder::new().name(self.name.to_owned()).stack_size(STACK);
        let handle = thread.spawn(move || pool.work(&stop, own))?;
        crew.threads.push(WorkerThread { handle, slot });
        Ok(())
    }

    /// Starts `count` new threads and tells the old ones to leave, which are returned to be joined.
    fn replace_crew(self: &Arc<Self>, count: usize) -> io::Result<Vec<JoinHandle<()>>> {
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
        SLOT.with(|own| *own.borrow_mut() = Some(slot.clone()));
        let mut queue = self.lock();
        while !stop.load(Ordering::Relaxed) {
            if let Some(runnable) = queue.ready.pop_front() {
                if !queue.ready.is_empty() {
                    self.wake_one(&mut queue);
                }
                drop(queue);
                slot.polls.fetch_add(1, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn block_on<T: Send + 'static>(
        workers: &Workers,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (sender, receiver) = mpsc::channel();
        workers
            .spawn(async move {
                let _ = sender.send(future.await);
            })
            .detach();
        receiver.recv_timeout(Duration::from_secs(20)).expect("the task ends")
    }

    #[tokio::test]
    async fn old_threads_end_at_an_exchange_and_the_new_ones_go_on() {
        let workers = Workers::start(2, 2).unwrap();
        for _ in 0..50 {
            let before = workers.spawn(async { thread::current().id() }).await;
            let set = workers.exchange().unwrap();
            workers.joined(set).await;
            let after = workers.spawn(async { thread::current().id() }).await;
            assert_ne!(before, after);
        }
        assert_eq!(workers.leaving(), 0);
    }

    #[tokio::test]
    async fn when_every_thread_is_stuck_an_exchange_lets_the_others_go_on() {
        let workers = Workers::start(2, 2).unwrap();
        let (release, stuck) = mpsc::channel::<()>();
        let stuck = Arc::new(Mutex::new(stuck));
        let (entered, both) = mpsc::channel();
        for _ in 0..2 {
            let (stuck, entered) = (stuck.clone(), entered.clone());
            workers
                .spawn(async move {
                    let _ = entered.send(());
                    let _ = stuck.lock().unwrap().recv();
                })
                .detach();
        }
        both.recv().unwrap();
        let waiting = workers.spawn(async { 7 });
        let set = workers.exchange().unwrap();
        assert_eq!(waiting.await, 7);
        assert_eq!(workers.leaving(), 1);
        drop(release);
        workers.joined(set).await;
        assert_eq!(workers.leaving(), 0);
    }

    #[test]
    fn blocking_handlers_get_threads_up_to_the_limit() {
        let workers = Workers::start(1, 3).unwrap();
        let barrier = Arc::new(std::sync::Barrier::new(3));
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let barrier = barrier.clone();
                workers.spawn_blocking(async move { barrier.wait().is_leader() })
            })
            .collect();
        let leaders = block_on(&workers, async move {
            let mut leaders = 0;
            for task in tasks {
                leaders += usize::from(task.await);
            }
            leaders
        });
        assert_eq!(leaders, 1);
    }
}
