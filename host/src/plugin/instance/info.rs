//! What is known of a generation, which holds nothing of it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ksi_abi::Description;
use ksi_kernel::{
    call::{HandlerInfo, tally::Counts},
    lock::Lock,
};

use super::configs::PluginConfig;
use crate::{crash::About, plugin::file::manifest::Manifest};

/// An event that goes to one plugin alone, when it is retired. It is never routed.
pub(crate) const SHUTDOWN_EVENT: &str = "module:shutdown";

/// An event that goes to one plugin alone, with another configuration for it, which it takes or
/// refuses. It is never routed.
pub(crate) const CONFIGURE_EVENT: &str = "module:configure";

/// Whether an event goes to one plugin alone, and comes from the host alone.
pub(crate) fn is_directed(event: &str) -> bool {
    [SHUTDOWN_EVENT, CONFIGURE_EVENT].contains(&event)
}

/// What is known of a generation from its trial, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tried {
    /// It went well.
    Passed,
    /// It told nothing, for this reason.
    Unsure(String),
    /// There was none, for this reason.
    Skipped(String),
}

/// What is known of a generation, without holding it.
pub(crate) struct GenerationInfo {
    pub(crate) plugin: Arc<str>,
    pub(crate) number: u64,
    pub(crate) manifest: Manifest,
    pub(crate) description: Description,
    /// The configuration that its next instance is made with.
    pub(crate) config: Lock<PluginConfig>,
    /// What its trial told.
    pub(crate) tried: Tried,
    /// The file that it was copied from, and the hash of its bytes.
    pub(crate) file: PathBuf,
    pub(crate) hash: blake3::Hash,
    /// Its declared handlers, in order of declaration, once it could be called.
    pub(crate) handlers: OnceLock<Vec<Arc<HandlerInfo>>>,
    pub(crate) timings: Timings,
    /// How long its state took to arrive, if it took over from another generation.
    pub(crate) hand_over: OnceLock<Timings>,
}

impl GenerationInfo {
    /// What is noted, or remembered, of its bytes.
    pub(crate) fn about(&self, step: String) -> About {
        About {
            hash: self.hash.to_hex().to_string(),
            file: self.file.to_string_lossy().into_owned(),
            plugin: self.plugin.to_string(),
            version: self.manifest.version.clone(),
            step,
        }
    }

    /// Its declared handlers.
    pub(crate) fn handlers(&self) -> &[Arc<HandlerInfo>] {
        self.handlers.get().map_or(&[], Vec::as_slice)
    }

    /// The version of the snapshots that it writes, if it keeps state.
    pub(crate) fn writes(&self) -> Option<u32> {
        self.manifest.state.as_ref().and_then(|state| state.writes.iter().copied().max())
    }

    /// How the calls of its declared handlers ended.
    pub(crate) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.handlers().iter().for_each(|handler| sum += handler.counts());
        sum
    }

    /// Its calls that have not ended, for people.
    pub(crate) fn running(&self) -> String {
        let active = self.handlers().iter().filter_map(|handler| {
            // A call that is stuck in its first poll counts as in flight alone, and one that was
            // given up on as active.
            let in_flight = i64::try_from(handler.counts().in_flight).unwrap_or(i64::MAX);
            let calls = handler.active().max(in_flight);
            (calls > 0).then(|| format!("{calls} of {}", handler.handler))
        });
        let active: Vec<String> = active.collect();
        match active.is_empty() {
            true => "a run-time subscription, a snapshot or a restore".to_owned(),
            false => active.join(", "),
        }
    }

    /// The numbers of the handlers that are called when it is retired, and for nothing else.
    pub(crate) fn at_shutdown(&self) -> impl Iterator<Item = u64> {
        self.handlers_of(SHUTDOWN_EVENT)
    }

    /// The numbers of the handlers that are called with another configuration, and for nothing
    /// else; none of a plugin that is made anew for that.
    pub(crate) fn at_configure(&self) -> impl Iterator<Item = u64> {
        self.handlers_of(CONFIGURE_EVENT)
    }

    fn handlers_of(&self, event: &'static str) -> impl Iterator<Item = u64> {
        let numbered = (0..).zip(&self.manifest.handlers);
        numbered
            .filter(move |(_, handler)| handler.subscriptions.iter().any(|name| name == event))
            .map(|(number, _)| number)
    }
}

/// How long each step of its loading took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timings(BTreeMap<&'static str, Duration>);

impl Timings {
    pub(crate) fn note(&mut self, step: &'static str, took: Duration) {
        self.0.insert(step, took);
    }

    /// In milliseconds.
    pub(crate) fn millis(&self) -> BTreeMap<&'static str, f64> {
        self.0.iter().map(|(step, took)| (*step, took.as_secs_f64() * 1e3)).collect()
    }
}
