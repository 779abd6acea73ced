//! What routes events and calls handlers, as a whole: the threads, the router on them, and the
//! watch over both.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::runtime::Handle;

#[cfg(feature = "in-place")]
use crate::executor::in_place::InPlace;
use crate::{
    call::{CallSite, HandlerInfo},
    executor::{
        cpu::CpuClocks,
        watchdog::{self, Overseer},
        workers::Workers,
    },
    memory::Budget,
    router::{Router, emit::RouterLimits},
};

/// Bounds of a kernel.
#[derive(Debug, Clone)]
pub struct KernelLimits {
    /// Threads that call handlers.
    pub workers: usize,
    /// Threads that run what may block.
    pub blocking_threads: usize,
    /// Bytes that may wait anywhere.
    pub waiting_bytes: usize,
    /// Of what the router accepts.
    pub router: RouterLimits,
}

/// A router with its threads.
pub struct Kernel {
    /// Where its events go.
    pub router: Arc<Router>,
}

/// A call, or a background task, that has not returned from one poll.
pub struct StuckCall {
    /// Whose call; `None` for a background task.
    pub handler: Option<Arc<HandlerInfo>>,
    /// The number of its event.
    pub event: u64,
    /// For how long by now.
    pub since: Duration,
}

impl Kernel {
    /// Starts the threads. `runtime` is the host's own, whose timers calls use and which never
    /// polls one.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(limits: KernelLimits, runtime: Handle) -> io::Result<Self> {
        let KernelLimits { workers, blocking_threads, waiting_bytes, router } = limits;
        let workers = Arc::new(Workers::start(workers, blocking_threads)?);
        let site = CallSite { workers, runtime };
        Ok(Kernel { router: Router::new(site, router, Budget::new(waiting_bytes)) })
    }

    /// Without threads: one thread does their work in place, by a clock of its own.
    ///
    /// # Errors
    /// The system gives no runtime.
    #[cfg(feature = "in-place")]
    pub fn in_place(limits: KernelLimits) -> io::Result<(Self, InPlace)> {
        let (in_place, workers, runtime) = InPlace::new()?;
        let site = CallSite { workers, runtime };
        let router = Router::new(site, limits.router, Budget::new(limits.waiting_bytes));
        Ok((Kernel { router }, in_place))
    }

    /// Starts the thread that sees calls which do not return. It calls `told` once of each that has
    /// been stuck for `stuck`, and gives up on at most `abandoned` threads. It ends with the
    /// workers. By `clocks` it samples how much processor time handlers take.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn watch_over(
        &self,
        stuck: Duration,
        abandoned: usize,
        clocks: CpuClocks,
        told: impl Fn(StuckCall) + Send + 'static,
    ) -> io::Result<()> {
        let overseer = ToldOfStuck { router: Arc::downgrade(&self.router), told };
        watchdog::start(self.router.workers(), stuck, abandoned, clocks, overseer)
    }
}

/// Knows handlers by the keys that the watchdog sees.
struct ToldOfStuck<F> {
    router: Weak<Router>,
    told: F,
}

impl<F: Fn(StuckCall) + Send + 'static> Overseer for ToldOfStuck<F> {
    fn timeout_of(&self, handler: u64) -> Option<Duration> {
        Some(self.router.upgrade()?.info(handler)?.timeout)
    }

    fn ran(&self, handler: u64, nanos: u64) {
        if let Some(info) = self.router.upgrade().and_then(|router| router.info(handler)) {
            info.cpu.add(nanos);
        }
    }

    fn stuck(&self, watchdog::StuckPoll { handler, event, since }: watchdog::StuckPoll) {
        if let Some(router) = self.router.upgrade() {
            (self.told)(StuckCall { handler: router.info(handler), event, since });
        }
    }
}
