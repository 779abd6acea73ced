//! What is measured along the way.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::CreationError;
use ksi_wire::module::Timings;
use serde::Serialize;

use crate::{
    bare::Beside,
    latency::{Figures, Spread},
    memory::Sample,
};

/// Everything that the run itself measures; what clients measure is in the ledger.
pub(crate) struct Measured {
    /// From rename to first answer, host idle.
    pub(crate) idle: Spread,
    /// The same under load, of plugins without state.
    pub(crate) loaded: Spread,
    /// The quickest of both, beside a bare copy and open of the same files.
    pub(crate) idle_beside: Beside,
    pub(crate) loaded_beside: Beside,
    /// What the host says of these reloads, step by step.
    pub(crate) idle_steps: Steps,
    pub(crate) loaded_steps: Steps,
    /// And of those that hand a megabyte over.
    pub(crate) held_steps: Steps,
    pub(crate) quiet: Throughput,
    pub(crate) paced: Throughput,
    pub(crate) samples: Vec<Sample>,
    /// Reloads of the idle host.
    pub(crate) idle_reloads: u64,
}

impl Measured {
    /// For about so many reloads beside a bare copy and open.
    pub(crate) fn new(idle: u64, loaded: u64) -> Result<Self, CreationError> {
        Ok(Measured {
            idle_beside: Beside::of(idle),
            loaded_beside: Beside::of(loaded),
            idle: Spread::new()?,
            loaded: Spread::new()?,
            idle_steps: Steps::default(),
            loaded_steps: Steps::default(),
            held_steps: Steps::default(),
            quiet: Throughput::default(),
            paced: Throughput::default(),
            samples: Vec::with_capacity(128),
            idle_reloads: 0,
        })
    }
}

/// The host's own figures for the steps of reloads, by step.
#[derive(Default)]
pub(crate) struct Steps(BTreeMap<String, Spread>);

impl Steps {
    /// Adds what `module:inspect` says under `timings_ms`.
    pub(crate) fn add(&mut self, timings: &Timings) -> Result<(), CreationError> {
        for (step, milliseconds) in timings {
            let Some(milliseconds) = *milliseconds else { continue };
            if !self.0.contains_key(step) {
                self.0.insert(step.clone(), Spread::new()?);
            }
            if let (Some(spread), Ok(took)) =
                (self.0.get(step), Duration::try_from_secs_f64(milliseconds / 1e3))
            {
                spread.record(took);
            }
        }
        Ok(())
    }

    pub(crate) fn figures(&self) -> BTreeMap<String, Figures> {
        self.0.iter().map(|(step, spread)| (step.clone(), spread.figures())).collect()
    }
}

/// Requests over the stretches of one kind.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Throughput {
    requests: u64,
    files: u64,
    seconds: f64,
}

impl Throughput {
    pub(crate) fn add(&mut self, requests: u64, files: u64, time: Duration) {
        self.requests += requests;
        self.files += files;
        self.seconds += time.as_secs_f64();
    }

    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.over_time(self.requests)
    }

    /// Files a second.
    pub(crate) fn pace(&self) -> f64 {
        self.over_time(self.files)
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn over_time(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}
