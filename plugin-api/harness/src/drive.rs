//! What makes a harness go: running tasks, letting time pass, and the end.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ksi_abi::Buffer;
use ksi_plugin_api::Report;

use super::{
    Harness,
    event::Outcomes,
    routes::SHUTDOWN_EVENT,
    tasks::{Tasks, lock},
};

/// How long the handlers of `module:shutdown` may take, on the clock of the harness.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(60);

impl Harness {
    /// Runs what can run without time passing.
    #[track_caller]
    pub(super) fn settle(&self) {
        if self.world.tasks.settle().is_err() {
            panic!("the plugin does not come to rest: its tasks wake one another without end");
        }
    }

    /// Runs until `done`, with the clock standing still. Unless it is known that only `time` can
    /// help, it waits for wakers from other threads, in real time.
    #[track_caller]
    pub(super) fn wait_until<T>(&self, time: bool, done: impl Fn() -> Option<T>) -> Option<T> {
        let until = Instant::now() + *lock(&self.patience);
        loop {
            self.settle();
            if let Some(value) = done() {
                return Some(value);
            }
            let only_time = time && self.world.clock.plugin_waits_until().is_some();
            if only_time || !self.world.tasks.wait(until) {
                return None;
            }
        }
    }

    /// Runs until `done`, with time passing: at once where the plugin waits for nothing else, in
    /// real time where it does I/O. It does not panic, because it runs in `drop`.
    pub(super) fn pass_time<T>(&self, limit: Duration, done: impl Fn() -> Option<T>) -> Option<T> {
        let clock = &self.world.clock;
        let end = clock.now().saturating_add(limit);
        loop {
            self.world.tasks.settle().ok()?;
            if let Some(value) = done() {
                return Some(value);
            }
            let now = clock.now();
            if now >= end {
                return None;
            }
            let next = clock.next().unwrap_or(end).min(end);
            if self.runtime {
                let started = Instant::now();
                self.world.tasks.wait(started + next.saturating_sub(now));
                let reached = now.saturating_add(started.elapsed()).min(end);
                while clock.step(reached) {
                    self.world.tasks.settle().ok()?;
                }
            } else if clock.plugin_waits_until().is_some()
                || !self.world.tasks.wait(Instant::now() + *lock(&self.patience))
            {
                clock.step(next);
            }
        }
    }

    pub(super) fn what_it_waits_for(&self) -> String {
        match self.world.clock.plugin_waits_until() {
            Some(at) => format!("the plugin waits for time, until {at:?} (it is {:?})", self.now()),
            None => format!("nothing happened within {:?}", *lock(&self.patience)),
        }
    }

    /// Does not panic on its own account, because it runs in `drop`.
    pub(super) fn retire(&self) -> Report {
        self.world.retire();
        let accepted = self.world.accept("", None, SHUTDOWN_EVENT, Buffer::from("{}"), None);
        let outcomes = match accepted {
            Ok(event) => {
                let emission = self.world.start(&event, |_| self.at_shutdown.clone());
                let ended = self.pass_time(SHUTDOWN_LIMIT, || emission.finished());
                ended.unwrap_or_else(|| Outcomes::rejected("it did not end"))
            }
            Err(refusal) => Outcomes::refused(refusal),
        };
        // Once more, for what the handlers have left behind.
        self.end_instance();
        outcomes.into_report(SHUTDOWN_EVENT)
    }

    /// Gives up what the plugin still does, and drops its instance.
    pub(super) fn end_instance(&self) {
        self.world.retire();
        let instance = lock(&self.world.state).instance.take();
        drop(instance);
    }

    /// Runs `wait`, which may block, while the plugin goes on: for a test that plays the server
    /// that the plugin speaks to, and waits until something has arrived there.
    ///
    /// # Panics
    /// When `wait` does. It should have a time limit of its own.
    #[track_caller]
    pub fn meanwhile<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        let (over, tasks) = (AtomicBool::new(false), &self.world.tasks);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let _over = Over(&over, tasks);
                wait()
            });
            loop {
                self.settle();
                // Looked at behind `settle`, which may have run the task that says so.
                if over.load(Ordering::Acquire) {
                    break;
                }
                tasks.wait(Instant::now() + *lock(&self.patience));
            }
            waiting.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

/// Ends [`Harness::meanwhile`], also when what it waits for panics.
struct Over<'a>(&'a AtomicBool, &'a Arc<Tasks>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.spawn(async {});
    }
}
