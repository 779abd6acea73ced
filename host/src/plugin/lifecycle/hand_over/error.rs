//! Why a plugin's state is not handed over.

use std::{fmt, time::Duration};

use ksi_kernel::call::gate::Overfull;
use thiserror::Error;

use crate::plugin::state::snapshot::StateError;

/// Why state was not handed over. The old generation goes on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandOverError {
    /// The new version keeps no state, and the old one does.
    #[error(
        "the live generation keeps state, and this file keeps none: it would be lost. To give it up, unload the plugin \
         and load this file then"
    )]
    NoState,
    /// The new version cannot read what the old one writes.
    #[error(
        "the live generation writes snapshots of {writes}, and this file restores {restores}. Let it restore one of \
         those (#[restore(version = ..)]), or let the live version write an older one (#[snapshot(version = ..)])",
        writes = Versions(writes), restores = Versions(restores)
    )]
    NoCommonVersion {
        /// What the live generation writes.
        writes: Vec<u32>,
        /// What the new version restores.
        restores: Vec<u32>,
    },
    /// Calls did not end.
    #[error(
        "its state cannot be handed over: {calls} did not end within {} (timeouts.hold)",
        humantime::format_duration(*.after)
    )]
    Busy {
        /// Which calls.
        calls: String,
        /// How long events waited for them.
        after: Duration,
    },
    /// The generation that was unloaded before still has it.
    #[error(
        "the generation that was unloaded before has not ended within {}, so its state is not kept yet. `ksi inspect` tells \
         what holds it",
        humantime::format_duration(*.after)
    )]
    Leaving {
        /// How long it was waited for.
        after: Duration,
    },
    /// An earlier instance is not gone, and two must not be there at a time.
    #[error(
        "it is exclusive, and an earlier instance of it is not gone after {}: it does not end, or its initialize or its \
         shutdown does not return. `ksi inspect` tells what holds it",
        humantime::format_duration(*.after)
    )]
    NotReleased {
        /// How long it was waited for.
        after: Duration,
    },
    /// The new version of an exclusive plugin did not initialize in time.
    #[error(
        "the new version did not initialize within {}, while the events of the plugin waited (timeouts.hold; \
         timeouts.init)", humantime::format_duration(*.after)
    )]
    NotReady {
        /// What it was given.
        after: Duration,
    },
    /// Too many events wait.
    #[error("its state cannot be handed over: {limit} waited for it before {step}")]
    TooManyHeld {
        /// How many may wait, and which setting says so.
        limit: String,
        /// What had not come to its end.
        step: String,
    },
    /// The state that is to be given up could not be kept aside.
    #[error(
        "the state that it has now would be lost, and cannot be kept aside: {reason}. Nothing was changed"
    )]
    NotAside {
        /// Why.
        reason: String,
    },
    /// The old generation gives no snapshot.
    #[error("the live generation cannot hand its state over: {0}")]
    Snapshot(#[source] StateError),
    /// The new version does not take it.
    #[error("the state of the live generation was not taken over: {0}")]
    Restore(#[source] StateError),
}

struct Versions<'a>(&'a [u32]);

impl fmt::Display for Versions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        match &*numbers {
            [one] => write!(f, "version {one}"),
            all => write!(f, "versions {}", all.join(", ")),
        }
    }
}

/// State that is to be kept aside before it is given up is not to be had for now.
pub(in crate::plugin) fn not_aside(required: bool, error: HandOverError) -> HandOverError {
    if !required {
        return error;
    }
    let reason = match error {
        HandOverError::Busy { calls, after } => {
            format!(
                "{calls} did not end within {} (timeouts.hold)",
                humantime::format_duration(after)
            )
        }
        HandOverError::TooManyHeld { limit, step } => {
            format!("{limit} waited for it before {step}")
        }
        other => other.to_string(),
    };
    HandOverError::NotAside { reason }
}

pub(super) fn overfull(step: String, full: Overfull) -> HandOverError {
    HandOverError::TooManyHeld { limit: full.to_string(), step }
}
