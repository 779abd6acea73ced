//! The work of all workers, done by one thread where it stands: for tests of plugins, in which
//! nothing may depend on how fast a machine is.
//!
//! It promises that nothing runs before it is told to, that what runs does so on the thread that
//! tells it, blocking handlers too, and that timers stand still until they are told to go on.
//! Nobody watches over calls here: one that does not return holds up the test.

use std::{
    cell::RefCell,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Handle};

use super::{
    clock,
    idle_io::IdleIo,
    pool::Pool,
    slot::{self, Slot},
    workers::Workers,
};

thread_local! {
    /// Whose clock this thread goes by, while it works in place.
    static CLOCK: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// The time by the clock of what this thread works for in place, if it does.
pub(super) fn now_here() -> Option<Instant> {
    // A thread that ends has none: a plugin's thread-local may emit when it is dropped.
    let now = CLOCK.try_with(|clock| clock.borrow().as_ref().map(now_of)).ok().flatten();
    now.map(tokio::time::Instant::into_std)
}

/// Whether this thread works for something in place.
pub(super) fn is_here() -> bool {
    CLOCK.try_with(|clock| clock.borrow().is_some()).unwrap_or(false)
}

fn now_of(runtime: &Handle) -> tokio::time::Instant {
    let _inside = runtime.enter();
    tokio::time::Instant::now()
}

/// What is ready, and the clock.
pub struct InPlace {
    pool: Arc<Pool>,
    runtime: Handle,
    slot: Arc<Slot>,
    began: tokio::time::Instant,
}

impl InPlace {
    pub(crate) fn new() -> io::Result<(Self, Arc<Workers>, Handle)> {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let (runtime, io) = (runtime.handle().clone(), IdleIo::of(runtime));
        let sets = Arc::default();
        let pool = Arc::new(Pool::lasting("ksi-in-place", 0, io, &sets));
        let workers = Arc::new(Workers::without_threads(&pool, runtime.clone(), sets));
        let slot = Arc::new(Slot::new("ksi-in-place", true));
        let began = now_of(&runtime);
        Ok((InPlace { pool, runtime: runtime.clone(), slot, began }, workers, runtime))
    }

    /// Polls what is ready until nothing is, and calls `between` after each poll; whether it came
    /// to rest within so many polls.
    pub fn settle(&self, polls: usize, mut between: impl FnMut()) -> bool {
        for _ in 0..polls {
            let next = self.pool.lock().ready.pop_front();
            let Some(runnable) = next else { return true };
            self.as_worker(|| {
                clock::forget();
                runnable.run();
            });
            between();
        }
        false
    }

    /// Runs something as a dispatch worker does: what drops or encodes values of the plugin.
    pub fn as_worker<T>(&self, run: impl FnOnce() -> T) -> T {
        let _clock = Clock(CLOCK.replace(Some(self.runtime.clone())));
        let _slot = slot::enter_in_place(self.slot.clone());
        run()
    }

    /// Waits until something is ready, in real time, and until `until` at the most; whether
    /// something is. The clock stands still.
    pub fn wait(&self, until: Instant) -> bool {
        let mut queue = self.pool.lock();
        while queue.ready.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            (queue, _) = self.pool.wait_for_more(queue, Some(left));
        }
        true
    }

    /// How much time has passed by the clock.
    pub fn now(&self) -> Duration {
        now_of(&self.runtime) - self.began
    }

    /// Moves the clock on to the next timer that makes something ready, and to `until` at the most.
    /// It goes in steps of a millisecond, as timers do.
    pub fn step(&self, until: Duration) {
        match Handle::try_current() {
            Err(_) => self.drive(until),
            // A runtime cannot be driven on a thread that drives another one, as a test of tokio's.
            Ok(_) => thread::scope(|scope| {
                scope.spawn(|| self.drive(until));
            }),
        }
    }

    /// The same with the clock going as every other one meanwhile.
    pub fn pass(&self, until: Duration) {
        let set = |clock: fn()| {
            let _inside = self.runtime.enter();
            clock();
        };
        set(tokio::time::resume);
        self.step(until);
        set(tokio::time::pause);
    }

    fn drive(&self, until: Duration) {
        let (Some(io), queue) = (&self.pool.io, self.pool.lock()) else { return };
        if queue.ready.is_empty() {
            let until = self.began.checked_add(until);
            drop(self.pool.wait_for_io(queue, || io.wait_until(until)));
        }
    }
}

/// Whose clock the thread went by before.
struct Clock(Option<Handle>);

impl Drop for Clock {
    fn drop(&mut self) {
        // Not there any more if this is the end of the thread.
        let _ = CLOCK.try_with(|clock| clock.replace(self.0.take()));
    }
}
