//! How a host stops: in stages, of which each ends early when somebody asks once more.
//!
//! 1. [`Draining`](StopStage::Draining): clients' events are refused, and what is inside ends, with
//!    every plugin still there to answer the others. `core/drain.rs` waits for that.
//! 2. [`Unloading`](StopStage::Unloading): plugins go one after another, the last started first:
//!    calls that have not ended are cancelled, state is kept, shutdown handlers run.
//! 3. [`Leaving`](StopStage::Leaving): what is left of the plugins' state is kept, side by side,
//!    and nothing else is waited for.
//!
//! Each request goes on to the next stage, and so does the host when a stage has nothing to wait
//! for any more. No stage is gone back to. Whoever waits inside the host for something that could
//! take long looks here whether he still should.
//!
//! This does not know what is done in a stage: see [`Host::shutdown`](crate::Host::shutdown) and
//! `plugin/supervisor/stop.rs`.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    time::Instant,
};

use ksi_kernel::executor::stripe::Count;
use serde::Serialize;
use tokio::sync::watch;

/// How far a host has come with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopStage {
    /// It is not stopping.
    #[default]
    Running,
    /// Clients' events are refused; calls inside go on to their end.
    Draining,
    /// Plugins are taken out, one after another. Calls that have not ended are cancelled.
    Unloading,
    /// What is left of the plugins' state is kept; nothing else is waited for.
    Leaving,
}

impl StopStage {
    fn next(self) -> Option<Self> {
        match self {
            StopStage::Running => Some(StopStage::Draining),
            StopStage::Draining => Some(StopStage::Unloading),
            StopStage::Unloading => Some(StopStage::Leaving),
            StopStage::Leaving => None,
        }
    }
}

impl fmt::Display for StopStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StopStage::Running => "running",
            StopStage::Draining => "draining",
            StopStage::Unloading => "unloading",
            StopStage::Leaving => "leaving",
        })
    }
}

/// Asks a host to stop, at any moment of its life: also while it is only starting, when there is no
/// [`Host`](crate::Host) to be asked. A clone asks the same host.
///
/// ```no_run
/// # async fn run(entry: ksi_host::ChildEntry) -> Result<(), ksi_host::StartError> {
/// let stop = ksi_host::StopHandle::new();
/// let asks = stop.clone();
/// std::thread::spawn(move || {
///     // When the operator wants it:
///     asks.request();
/// });
/// // Comes back soon after the request, whatever the plugins do meanwhile.
/// let host = ksi_host::Host::builder(entry).plugins("plugins").stopped_by(&stop).start().await?;
/// host.wait_stopped().await;
/// host.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopHandle(Arc<Stopping>);

#[derive(Debug, Default)]
struct Stopping {
    stage: watch::Sender<StopStage>,
    /// The same as a stage beyond `Running`, for those who look at every event.
    refuses: AtomicBool,
    /// Clients' events that were let in, and that have got their report.
    entered: Count,
    left: Count,
    began: std::sync::OnceLock<Instant>,
}

/// The host is stopping, so an event from outside is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

impl Refused {
    /// For programs.
    pub(crate) const CODE: &str = "stopping";
    /// For people.
    pub(crate) const MESSAGE: &str = "the host is stopping and takes no further events from clients; send it again when a host is back";
}

/// An event from outside that was let in, until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Stopping>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.left.up();
    }
}

impl StopHandle {
    /// For a host that is yet to be started; see
    /// [`HostBuilder::stopped_by`](crate::HostBuilder::stopped_by).
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the host to stop; one that is stopping, to go on to its next stage. The stage that
    /// begins, or `None` if the host was in its last one.
    pub fn request(&self) -> Option<StopStage> {
        let next = self.stage().next()?;
        self.reach(next);
        Some(next)
    }

    /// How far the host has come with its end.
    pub fn stage(&self) -> StopStage {
        *self.0.stage.borrow()
    }

    /// Waits until somebody asks the host to stop.
    pub async fn requested(&self) {
        self.reached(StopStage::Draining).await;
    }

    /// Goes on to this stage, unless it is reached.
    pub(crate) fn reach(&self, stage: StopStage) {
        if stage > StopStage::Running {
            self.0.began.get_or_init(Instant::now);
            self.0.refuses.store(true, Ordering::SeqCst);
        }
        self.0.stage.send_if_modified(|now| {
            let further = stage > *now;
            *now = (*now).max(stage);
            further
        });
    }

    /// Waits until this stage is reached.
    pub(crate) async fn reached(&self, stage: StopStage) {
        // The sender lives in `self`, so there is no other end.
        let _ = self.0.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    /// Whether the host is stopping.
    pub(crate) fn is_requested(&self) -> bool {
        self.0.refuses.load(Ordering::Acquire)
    }

    /// Since when the host is stopping.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.0.began.get().copied()
    }

    /// Lets an event from outside in, unless the host is stopping.
    pub(crate) fn enter(&self) -> Result<Permit, Refused> {
        self.0.entered.up();
        let inside = Permit(self.0.clone());
        // Whoever stops the host sets the flag first and counts then; here it is the other way
        // round. So either this one sees the flag, or that one sees this one.
        fence(Ordering::SeqCst);
        match self.0.refuses.load(Ordering::SeqCst) {
            false => Ok(inside),
            true => Err(Refused),
        }
    }

    /// How many events from outside are inside.
    pub(crate) fn inside(&self) -> u64 {
        fence(Ordering::SeqCst);
        // In this order, so that what leaves in between counts as inside.
        let left = self.0.left.sum();
        self.0.entered.sum().saturating_sub(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_request_goes_on_to_the_next_stage_and_none_goes_back() {
        let stop = StopHandle::new();
        assert_eq!((stop.stage(), stop.is_requested()), (StopStage::Running, false));
        assert_eq!(stop.request(), Some(StopStage::Draining));
        stop.requested().await;
        stop.reach(StopStage::Unloading);
        assert_eq!(stop.request(), Some(StopStage::Leaving), "what the host has reached counts");
        stop.reach(StopStage::Draining);
        assert_eq!((stop.stage(), stop.request()), (StopStage::Leaving, None));
    }

    #[test]
    fn an_event_from_outside_is_let_in_until_the_host_stops_and_counts_until_its_end() {
        let stop = StopHandle::new();
        let inside = stop.enter().expect("it runs");
        assert_eq!(stop.inside(), 1);
        stop.request();
        assert!(stop.enter().is_err());
        assert_eq!(stop.inside(), 1, "what was refused does not count");
        drop(inside);
        assert_eq!(stop.inside(), 0);
    }

    #[test]
    fn whoever_stops_misses_nobody_who_was_let_in() {
        for _ in 0..200 {
            let stop = StopHandle::new();
            let (let_in, counted) = std::thread::scope(|scope| {
                let enters = scope.spawn(|| stop.enter().ok());
                let stops = scope.spawn(|| {
                    stop.request();
                    stop.inside()
                });
                (enters.join().expect("no panic"), stops.join().expect("no panic"))
            });
            assert!(let_in.is_none() || counted > 0, "one was let in behind the count");
        }
    }
}
