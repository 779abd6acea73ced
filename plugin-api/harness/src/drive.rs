//! What makes a harness go: running tasks, letting time pass, and the end.

use std::{
    future::Future,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ksi_kernel::{event::Payload, lock::Lock};
use ksi_plugin_api::{Error, Report, Result};

use super::{
    Harness,
    call::{Call, Said},
    handlers::{Only, SHUTDOWN_EVENT},
    world::World,
};

/// How long the handlers of `module:shutdown` may take, on the clock of the harness.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(60);
/// More than the steps of a replacement take together, each of which has a limit of its own.
const LIFE_CYCLE_LIMIT: Duration = Duration::from_secs(600);

impl Harness {
    /// Runs what can run without time passing.
    #[track_caller]
    pub(super) fn settle(&self) {
        if self.world.settle().is_err() {
            panic!("the plugin does not come to rest: its tasks wake one another without end");
        }
    }

    /// Runs until `done`, with the clock standing still. Unless it is known that only `time` can
    /// help, it waits for wakers from other threads, in real time.
    #[track_caller]
    pub(super) fn wait_until<T>(&self, time: bool, done: impl Fn() -> Option<T>) -> Option<T> {
        let until = Instant::now() + *self.patience.lock();
        loop {
            self.settle();
            if let Some(value) = done() {
                return Some(value);
            }
            let only_time = time && self.world.plugin_waits_until().is_some();
            if only_time || !self.world.in_place.wait(until) {
                return None;
            }
        }
    }

    /// Runs until `done`, with time passing: at once where the plugin waits for nothing else, in
    /// real time where it does I/O. It does not panic, because it runs in `drop`.
    pub(super) fn pass_time<T>(&self, limit: Duration, done: impl Fn() -> Option<T>) -> Option<T> {
        let clock = &self.world.in_place;
        let end = clock.now().saturating_add(limit);
        loop {
            self.world.settle().ok()?;
            if let Some(value) = done() {
                return Some(value);
            }
            if clock.now() >= end {
                return None;
            }
            if *self.runtime.lock() {
                clock.pass(end);
            } else if self.world.plugin_waits_until().is_some()
                || !clock.wait(Instant::now() + *self.patience.lock())
            {
                clock.step(end);
            }
        }
    }

    /// Runs a beginning or an end of the plugin. Time passes as it needs it.
    pub(super) fn run_life_cycle<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let ended = Arc::new(Lock::new(None));
        let running = {
            let ended = ended.clone();
            self.world.router().workers().spawn(async move {
                let end = work.await;
                *ended.lock() = Some(end);
            })
        };
        let end = self.pass_time(LIFE_CYCLE_LIMIT, || ended.lock().take());
        drop(running);
        end.unwrap_or_else(|| Err(Error::new("timed_out", "it did not end")))
    }

    pub(super) fn what_it_waits_for(&self) -> String {
        match self.world.plugin_waits_until() {
            Some(at) => format!("the plugin waits for time, until {at:?} (it is {:?})", self.now()),
            None => format!("nothing happened within {:?}", *self.patience.lock()),
        }
    }

    /// Does not panic on its own account, because it runs in `drop`.
    pub(super) fn retire(&self) -> Report {
        self.world.retire();
        // Those that were replaced go first, and a replacement that has not come to its end comes
        // to none.
        self.pass_time(LIFE_CYCLE_LIMIT, || {
            let state = self.world.state.lock();
            (state.leaving.is_empty() && !state.replacing).then_some(())
        });
        let live = self.world.state.lock().live.as_ref().map(|it| (it.of, it.instance.clone()));
        if let Some((of, instance)) = live {
            let (session, keeper) = (self.world.last_session(), self.world.keeper());
            let at_shutdown = (of.handlers)(Only(SHUTDOWN_EVENT)).unwrap_or_default();
            let declared = session.declared(at_shutdown, instance.clone(), Some(&keeper));
            session.attach(declared, instance, Some(&keeper));
        }
        let nothing = Payload::from_json_bytes(b"{}".to_vec());
        let call = Call::new(self.world.clone(), SHUTDOWN_EVENT, nothing, &Said::default());
        if self.pass_time(SHUTDOWN_LIMIT, || call.report()).is_none() {
            call.give_up("it did not end");
        }
        self.end_instance();
        call.report().unwrap_or_else(|| unreachable!("it was given up"))
    }

    /// Gives up what the plugin still does, and drops its instance.
    fn end_instance(&self) {
        self.world.retire();
        // Calls that were given up hold it until they have ended.
        let _ = self.world.settle();
        let live = self.world.state.lock().live.take();
        self.world.in_place.as_worker(|| drop(live));
    }

    /// Runs `wait`, which may block, while the plugin goes on: for a test that plays the server
    /// that the plugin speaks to, and waits until something has arrived there.
    ///
    /// # Panics
    /// When `wait` does. It should have a time limit of its own.
    #[track_caller]
    pub fn meanwhile<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        let (over, world) = (AtomicBool::new(false), &self.world);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let _over = Over(&over, world);
                wait()
            });
            loop {
                self.settle();
                // Looked at behind `settle`, which may have run the task that says so.
                if over.load(Ordering::Acquire) {
                    break;
                }
                world.in_place.wait(Instant::now() + *self.patience.lock());
            }
            waiting.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

/// Ends [`Harness::meanwhile`], also when what it waits for panics.
struct Over<'a>(&'a AtomicBool, &'a Arc<World>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.router().spawn_detached(async {});
    }
}
