//! A process that waits to be used: starting an interpreter takes longer than opening a file in it.
//!
//! One waits from when it is first asked for. It is started when nobody is waiting for anything,
//! and ends with all others when the host stops.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ksi_kernel::lock::Lock;

use super::{link::Link, process::Program, residence::Spawner};

/// See the module.
pub(crate) struct Spares {
    spawner: Arc<Spawner>,
    program: Arc<Program>,
    waiting: Lock<Option<Arc<Link>>>,
    /// One is on its way.
    starting: AtomicBool,
}

impl Spares {
    /// For processes of this program. None is started yet.
    pub(crate) fn new(spawner: Arc<Spawner>, program: Arc<Program>) -> Arc<Self> {
        let (waiting, starting) = (Lock::default(), AtomicBool::new(false));
        Arc::new(Spares { spawner, program, waiting, starting })
    }

    /// The one that waits.
    pub(super) fn take(&self) -> Option<Arc<Link>> {
        // Somebody may have ended it while it waited.
        self.waiting.lock().take().filter(|link| link.death().is_none())
    }

    /// Has one wait, if none does. If none can be started now, whoever needs one starts its own.
    pub(crate) fn refill(self: &Arc<Self>) {
        let there = self.waiting.lock().as_ref().is_some_and(|link| link.death().is_none());
        let Ok(runtime) = self.spawner.processes.runtime() else { return };
        if there || self.starting.swap(true, Ordering::AcqRel) {
            return;
        }
        let spares = self.clone();
        runtime.spawn(async move {
            let started = spares.spawner.start(&spares.program).await;
            if let Ok(link) = started {
                *spares.waiting.lock() = Some(link);
            }
            spares.starting.store(false, Ordering::Release);
        });
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.lock().take() {
            waiting.process().kill("nobody needs it any more");
        }
    }
}
