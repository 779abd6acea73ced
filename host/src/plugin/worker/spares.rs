//! A process that waits to be used: starting an interpreter takes longer than opening a file in it.
//!
//! One waits from when it is first asked for. It is started when nobody is waiting for anything,
//! and ends with all others when the host stops.

use std::sync::{Arc, MutexGuard};

use ksi_kernel::lock::Lock;

use super::{link::Link, process::Program, residence::Spawner};

/// See the module.
pub(crate) struct Spares {
    spawner: Arc<Spawner>,
    program: Arc<Program>,
    state: Lock<State>,
}

/// Both under one lock: else one that is started beside the one that waits would take its place,
/// and nobody would end that.
#[derive(Default)]
struct State {
    waiting: Option<Arc<Link>>,
    /// One is on its way.
    starting: bool,
}

impl Spares {
    /// For processes of this program. None is started yet.
    pub(crate) fn new(spawner: Arc<Spawner>, program: Arc<Program>) -> Arc<Self> {
        Arc::new(Spares { spawner, program, state: Lock::default() })
    }

    /// The one that waits.
    pub(super) fn take(&self) -> Option<Arc<Link>> {
        // Somebody may have ended it while it waited.
        self.state().waiting.take().filter(|link| link.death().is_none())
    }

    /// Has one wait, if none does. If none can be started now, whoever needs one starts its own.
    pub(crate) fn refill(self: &Arc<Self>) {
        let Ok(runtime) = self.spawner.processes.runtime() else { return };
        {
            let mut state = self.state();
            let there = state.waiting.as_ref().is_some_and(|link| link.death().is_none());
            if there || std::mem::replace(&mut state.starting, true) {
                return;
            }
        }
        let spares = self.clone();
        runtime.spawn(async move {
            let started = spares.spawner.start(&spares.program).await;
            let mut state = spares.state();
            state.starting = false;
            if let Ok(link) = started {
                state.waiting = Some(link);
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        if let Some(waiting) = self.state().waiting.take() {
            waiting.process().kill("nobody needs it any more");
        }
    }
}
