//! How long requests took, by plugin and by phase of the run.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::{CreationError, Histogram};
use serde::Serialize;

use crate::roles::{ROLES, Role};

/// Longer ones count as this long.
const LONGEST: Duration = Duration::from_secs(120);

/// What the run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is measured.
    Between,
    /// Load, and no reloads.
    Quiet,
    /// Load, and ten reloads a second.
    Paced,
    /// Load, and reloads as fast as they go.
    Fast,
}

const PHASES: usize = 4;

/// Durations, in microseconds. Of fixed size, so that a long run does not look like a leak.
pub(crate) struct Spread(Mutex<Histogram<u64>>);

/// What is read off a [`Spread`], in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn new() -> Result<Self, CreationError> {
        let longest = u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX);
        Ok(Spread(Mutex::new(Histogram::new_with_bounds(1, longest, 3)?)))
    }

    pub(crate) fn record(&self, took: Duration) {
        self.lock().saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures::of(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Figures {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| milliseconds(histogram.value_at_quantile(quantile));
        Figures {
            count: histogram.len(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: milliseconds(histogram.max()),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 microseconds")]
fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1e3
}

/// All spreads of a run.
pub(crate) struct Latency {
    phase: AtomicUsize,
    requests: Vec<Spread>,
    /// Requests to the plugin with a megabyte of state that waited for a hand-over.
    pub(crate) held: Spread,
}

impl Latency {
    pub(crate) fn new() -> Result<Self, CreationError> {
        let requests = (0..PHASES * ROLES).map(|_| Spread::new()).collect::<Result<_, _>>()?;
        let phase = AtomicUsize::new(Phase::Between as usize);
        Ok(Latency { phase, requests, held: Spread::new()? })
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as usize, Relaxed);
    }

    /// A request to `role` that has just ended.
    pub(crate) fn record(&self, role: Role, took: Duration) {
        let phase = self.phase.load(Relaxed);
        if phase != Phase::Between as usize {
            self.requests[phase * ROLES + role.index()].record(took);
        }
    }

    /// Of the requests to one plugin.
    pub(crate) fn of(&self, phase: Phase, role: Role) -> Figures {
        self.requests[phase as usize * ROLES + role.index()].figures()
    }

    /// Of all requests, save those that wait for a timer in the plugin.
    pub(crate) fn of_all(&self, phase: Phase) -> Figures {
        let mut sum: Option<Histogram<u64>> = None;
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Tokio) {
            let spread = self.requests[phase as usize * ROLES + role.index()].lock();
            match &mut sum {
                // Equal bounds, so this cannot fail.
                Some(sum) => drop(sum.add(&*spread)),
                None => sum = Some(spread.clone()),
            }
        }
        sum.as_ref().map(Figures::of).unwrap_or_default()
    }
}
