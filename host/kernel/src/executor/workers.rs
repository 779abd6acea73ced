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
mod tests {
    use std::{
        io::Write,
        sync::{atomic::Ordering, mpsc},
        thread,
    };

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::executor::{slot, watchdog};

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
    async fn what_a_thread_that_is_to_leave_has_not_returned_from_is_told_until_it_returns() {
        let workers = Workers::start(1, 1).unwrap();
        let (release, stuck) = mpsc::channel::<()>();
        let (entered, inside) = mpsc::channel();
        let blocked = workers.spawn(async move {
            slot::polling(7, 42, None, &mut false, || {
                let _ = entered.send(());
                let _ = stuck.recv();
            });
        });
        inside.recv_timeout(Duration::from_secs(20)).expect("it is stuck");
        let set = workers.exchange().unwrap();
        let call = Unreturned { thread: "ksi-dispatch", handler: 7, event: 42 };
        assert_eq!(workers.unreturned(set), [call]);
        drop(release);
        blocked.await;
        workers.joined(set).await;
        assert_eq!(workers.unreturned(set), []);
    }

    #[tokio::test]
    async fn an_exchange_that_fails_counts_for_nothing_and_leaves_the_threads_at_work() {
        let workers = Workers::start(2, 2).unwrap();
        let before: Vec<_> = workers.slots().iter().map(Arc::as_ptr).collect();
        let set = workers.current_set();
        // The first of the new threads is started, the second one is not.
        workers.calls.refused_from.store(1, Ordering::Relaxed);
        workers.exchange().unwrap_err();
        assert_eq!((workers.current_set(), workers.leaving()), (set, 0));
        assert_eq!(workers.slots().iter().map(Arc::as_ptr).collect::<Vec<_>>(), before);
        assert_eq!(workers.spawn(async { 7 }).await, 7);
        workers.calls.refused_from.store(usize::MAX, Ordering::Relaxed);
        assert_eq!(workers.exchange().unwrap(), set);
        workers.joined(set).await;
        assert_eq!(workers.spawn(async { 8 }).await, 8);
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

    /// A task that passes on what comes out of a pipe, and the pipe.
    fn piped(workers: &Workers) -> (std::io::PipeWriter, mpsc::Receiver<u8>) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut reader = {
            let _inside = workers.io().enter();
            tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).unwrap()
        };
        let (sender, received) = mpsc::channel();
        let pass_on = async move {
            while let Ok(byte) = reader.read_u8().await {
                let _ = sender.send(byte);
            }
        };
        workers.spawn(pass_on).detach();
        (writer, received)
    }

    #[tokio::test]
    async fn io_goes_on_whichever_thread_is_exchanged_or_at_work() {
        let workers = Workers::start(2, 2).unwrap();
        let (mut pipe, received) = piped(&workers);
        for round in 0..50 {
            let set = workers.exchange().unwrap();
            if round % 2 == 0 {
                workers.joined(set).await;
            }
            pipe.write_all(&[round]).unwrap();
            assert_eq!(received.recv_timeout(Duration::from_secs(20)), Ok(round));
        }
        // Never idle: they look at I/O in between.
        let busy = |_| {
            workers.spawn(async {
                loop {
                    tokio::task::yield_now().await;
                }
            })
        };
        let _busy: Vec<Task<()>> = (0..4).map(busy).collect();
        while workers.calls.lock().idle() > 0 {
            thread::yield_now();
        }
        pipe.write_all(&[99]).unwrap();
        assert_eq!(received.recv_timeout(Duration::from_secs(20)), Ok(99));
    }

    #[test]
    fn io_that_a_stuck_thread_has_left_is_waited_for_when_the_watchdog_looks() {
        let workers = Arc::new(Workers::start(2, 2).unwrap());
        let long = Duration::from_secs(60);
        watchdog::start(&workers, long, 8, |_| ()).unwrap();
        let (mut pipe, received) = piped(&workers);
        let (release, stuck) = mpsc::channel::<()>();
        let (entered, inside) = mpsc::channel();
        let (reader, mut stuck_pipe) = std::io::pipe().unwrap();
        let _inside = workers.io().enter();
        let mut reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).unwrap();
        let blocks = async move {
            let _ = reader.read_u8().await;
            let _ = entered.send(());
            let _ = stuck.recv();
        };
        workers.spawn(blocks).detach();
        while !workers.is_idle() {
            thread::yield_now();
        }
        stuck_pipe.write_all(&[1]).unwrap();
        inside.recv_timeout(Duration::from_secs(20)).expect("it is stuck");
        pipe.write_all(&[2]).unwrap();
        assert_eq!(received.recv_timeout(Duration::from_secs(20)), Ok(2));
        drop(release);
    }

    #[test]
    fn io_is_looked_after_when_exactly_every_thread_is_stuck_and_no_task_waits() {
        const THREADS: usize = 2;
        let workers = Arc::new(Workers::start(THREADS, 2).unwrap());
        let long = Duration::from_secs(60);
        watchdog::start(&workers, long, 8, |_| ()).unwrap();
        let (mut pipe, received) = piped(&workers);
        pipe.write_all(&[1]).unwrap();
        assert_eq!(received.recv_timeout(Duration::from_secs(20)), Ok(1));
        // From here on its task waits for I/O, so that only I/O makes it ready.
        while !workers.is_idle() {
            thread::yield_now();
        }
        let (entered, inside) = mpsc::channel();
        let stuck: Vec<_> = (0..THREADS)
            .map(|_| {
                let (release, stuck) = mpsc::channel::<()>();
                let entered = entered.clone();
                let blocks = async move {
                    let _ = entered.send(());
                    let _ = stuck.recv();
                };
                workers.spawn(blocks).detach();
                inside.recv_timeout(Duration::from_secs(20)).expect("it is stuck");
                release
            })
            .collect();
        pipe.write_all(&[2]).unwrap();
        assert_eq!(received.recv_timeout(Duration::from_secs(20)), Ok(2));
        drop(stuck);
    }

    #[tokio::test]
    async fn when_every_thread_is_stuck_an_exchange_lets_the_others_go_on() {
        let workers = Workers::start(2, 2).unwrap();
        let (release, stuck) = mpsc::channel::<()>();
        let stuck = Arc::new(Lock::new(stuck));
        let (entered, both) = mpsc::channel();
        for _ in 0..2 {
            let (stuck, entered) = (stuck.clone(), entered.clone());
            workers
                .spawn(async move {
                    let _ = entered.send(());
                    let _ = stuck.lock().recv();
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

    #[tokio::test]
    async fn blocking_handlers_that_never_end_keep_no_plugin_from_beginning_or_ending() {
        let workers = Workers::start(1, 1).unwrap();
        let (release, stuck) = mpsc::channel::<()>();
        let blocked = workers.spawn_blocking(async move {
            let _ = stuck.recv();
        });
        assert_eq!(workers.spawn_life_cycle(async { 7 }).await, 7);
        drop(release);
        blocked.await;
    }
}
