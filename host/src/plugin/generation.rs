//! A generation: one loaded version of a plugin, from its file to its instance.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock, Weak, atomic::Ordering},
    task::Context,
    time::Duration,
};

use ksi_plugin_api::{
    Description,
    abi::{Counted, EventHandle, Instance, ReplyForm, Start},
};
use serde::Serialize;
use tokio::sync::oneshot;

use super::{
    configs::PluginConfig, host_side::HostSide, load::PluginLibrary, manifest::Manifest,
    private_copy::PrivateCopy,
};
use crate::{
    crash::{self, About, Journal, Noted},
    dispatch::{
        call::{Callee, HandlerInfo, Started},
        ended::Ended,
        tally::Counts,
    },
    event::Event,
};

/// An event that goes to one plugin alone, when it is retired. It is never routed.
pub(crate) const SHUTDOWN_EVENT: &str = "module:shutdown";

/// An instance that can be called.
///
/// Routes and calls in flight hold it. When the last of them lets go, the instance goes to whoever retires the
/// generation, wherever that happens: it is never dropped here, because dropping it runs plugin code.
pub(crate) struct LiveInstance {
    instance: Option<Instance>,
    unused: Option<oneshot::Sender<Instance>>,
    first_calls: FirstCalls,
}

/// How first calls of its handlers are noted.
pub(crate) struct FirstCalls {
    pub(crate) facts: Arc<Facts>,
    pub(crate) journal: Option<Arc<Journal>>,
}

impl LiveInstance {
    /// The instance, and where it comes out again when nobody uses it any more.
    pub(crate) fn new(
        instance: Instance,
        first_calls: FirstCalls,
    ) -> (Arc<Self>, oneshot::Receiver<Instance>) {
        let (sender, receiver) = oneshot::channel();
        let (instance, unused) = (Some(instance), Some(sender));
        (Arc::new(LiveInstance { instance, unused, first_calls }), receiver)
    }
}

impl LiveInstance {
    /// The instance, which is there for as long as somebody holds this.
    pub(super) fn instance(&self) -> Option<&Instance> {
        self.instance.as_ref()
    }

    /// The version of the plugin that it is of.
    pub(super) fn version(&self) -> &str {
        &self.first_calls.facts.manifest.version
    }
}

impl Callee for LiveInstance {
    fn start(
        &self,
        handler: u64,
        event: Counted<Event>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Started {
        let Some(instance) = &self.instance else {
            return Started::Ready(Ended::Rejected { reason: "the plugin is gone".into() });
        };
        match instance.call(handler, EventHandle::new(event), form, cx).into_start() {
            Start::Ready(end) => Started::Ready(end.into()),
            Start::Pending(future) => Started::Plugin(future),
        }
    }

    fn note(&self, handler: u64, event: &str) -> Option<Noted> {
        let FirstCalls { facts, journal } = &self.first_calls;
        let journal = journal.as_ref()?;
        let handlers = &facts.manifest.handlers;
        let declared = usize::try_from(handler).ok().and_then(|number| handlers.get(number));
        let step = match declared {
            Some(declared) => format!("the first call of {}, with event {event}", declared.name),
            None => format!("the first call of a subscription, with event {event}"),
        };
        Some(crash::note(Some(journal), &facts.about(step)))
    }
}

impl Drop for LiveInstance {
    fn drop(&mut self) {
        if let (Some(instance), Some(unused)) = (self.instance.take(), self.unused.take())
            && let Err(instance) = unused.send(instance)
        {
            // Whoever was to retire it is gone: the host is ending. Its library stays mapped with it.
            std::mem::forget(instance);
        }
    }
}

/// What is known of a generation from its trial, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", content = "reason", rename_all = "lowercase")]
pub(crate) enum Tried {
    /// It went well.
    Passed,
    /// It told nothing, for this reason.
    Unsure(String),
    /// There was none, for this reason.
    Skipped(String),
}

/// What is known of a generation, without holding it.
pub(crate) struct Facts {
    pub(crate) plugin: Arc<str>,
    pub(crate) number: u64,
    pub(crate) manifest: Manifest,
    pub(crate) description: Description,
    /// The configuration that its instances are made with.
    pub(crate) config: PluginConfig,
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

impl Facts {
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
        self.handlers().iter().for_each(|info| sum.add(info.counts.now()));
        sum
    }

    /// Its calls that have not ended, for people.
    pub(crate) fn running(&self) -> String {
        let active = self.handlers().iter().filter_map(|info| {
            // A call that is stuck in its first poll counts as in flight alone, and one that was given up on as active.
            let in_flight = i64::try_from(info.counts.now().in_flight).unwrap_or(i64::MAX);
            let calls = info.active.load(Ordering::Acquire).max(in_flight);
            (calls > 0).then(|| format!("{calls} of {}", info.handler))
        });
        let active: Vec<String> = active.collect();
        match active.is_empty() {
            true => "a run-time subscription, a snapshot or a restore".to_owned(),
            false => active.join(", "),
        }
    }

    /// The numbers of the handlers that are called when it is retired, and for nothing else.
    pub(crate) fn at_shutdown(&self) -> impl Iterator<Item = u64> {
        let numbered = (0..).zip(&self.manifest.handlers);
        numbered
            .filter(|(_, handler)| handler.subscriptions.iter().any(|name| name == SHUTDOWN_EVENT))
            .map(|(number, _)| number)
    }
}

/// A generation with all that it holds. The order of the fields is the order in which they may go: the way to the host
/// (the plugin's references to it are counted), the library, then the file that it is mapped from.
pub(crate) struct Generation {
    pub(crate) facts: Arc<Facts>,
    pub(crate) host_side: Arc<HostSide>,
    /// The ways to the host of further instances that were made of its library. It is needed until they are gone, too.
    pub(crate) others: Vec<Weak<HostSide>>,
    /// The instance for whoever asks it for its state, without keeping it.
    pub(crate) live: Weak<LiveInstance>,
    /// The instance, once no route and no call uses it any more; `None` when it was never made.
    pub(crate) unused: Option<oneshot::Receiver<Instance>>,
    pub(crate) library: PluginLibrary,
    /// Shared with those who may go back to it.
    pub(crate) copy: Arc<PrivateCopy>,
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
