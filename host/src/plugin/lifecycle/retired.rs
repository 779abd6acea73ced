//! What is known of a generation that was let go.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use ksi_kernel::lock::Lock;

use crate::plugin::instance::info::{GenerationInfo, Timings};

/// How far a generation has come on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RetiredState {
    /// It is on its way.
    Draining,
    /// Its code has left memory.
    Unmapped,
    /// Its code is still in memory, for this reason. It may yet go.
    Pinned(String),
}

/// What the registry shows of a retired generation.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) generation: u64,
    pub(crate) version: String,
    state: Lock<RetiredState>,
    timings: Lock<Timings>,
    /// What the process held when its code had left memory.
    pub(super) resident_kib: OnceLock<u64>,
}

impl Retired {
    pub(crate) fn new(info: &GenerationInfo) -> Arc<Self> {
        Arc::new(Retired {
            generation: info.number,
            version: info.manifest.version.clone(),
            state: Lock::new(RetiredState::Draining),
            timings: Lock::default(),
            resident_kib: OnceLock::new(),
        })
    }

    /// How long the steps of its end took.
    pub(crate) fn timings(&self) -> Timings {
        self.timings.lock().clone()
    }

    /// What the process held when this generation's code had left memory, in KiB.
    pub(crate) fn resident_kib(&self) -> Option<u64> {
        self.resident_kib.get().copied()
    }

    pub(in crate::plugin) fn note(&self, step: &'static str, since: Instant) {
        let mut timings = self.timings.lock();
        timings.note(step, since.elapsed());
    }

    pub(crate) fn state(&self) -> RetiredState {
        self.state.lock().clone()
    }

    pub(in crate::plugin) fn set(&self, state: RetiredState) {
        *self.state.lock() = state;
    }
}
