//! The handlers that routes lead to: made with their counters, which outlive them, and found by the
//! keys that stand for them.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use ksi_abi::Pattern;
use serde::Serialize;

use super::{
    Router,
    host_handler::{Failure, HostHandler},
    table::{Owner, Route},
};
use crate::{
    call::{
        self, CallTarget, HandlerInfo, Target,
        gate::Gate,
        recorder::latency::LatencySums,
        tally::{Counts, Tally},
    },
    event::EventRef,
    executor::cpu::CpuTime,
    label::Label,
    value::Keeper,
};

/// What a [`Target`] is made from.
pub(crate) struct NewTarget {
    pub(crate) plugin: Arc<str>,
    /// Of the plugin; 0 for the host.
    pub(crate) generation: u64,
    pub(crate) handler: Arc<str>,
    /// What is told of it if the host dies of it; `None` for the host's own.
    pub(crate) label: Option<Label>,
    /// Under which name its calls are counted, over all generations.
    pub(crate) counted_as: Arc<str>,
    pub(crate) callee: Arc<dyn call::Callee>,
    pub(crate) number: u64,
    pub(crate) priority: i32,
    /// Its place among the plugin's declarations; run-time subscriptions come after them.
    pub(crate) order: u64,
    /// `None` for the host's default.
    pub(crate) timeout: Option<Duration>,
    pub(crate) blocking: bool,
    /// See [`Target::answers_alone`].
    pub(crate) answers_alone: bool,
    /// Shared by all targets of a generation.
    pub(crate) cancel: Arc<call::Cancel>,
    /// The same; `None` for a generation that keeps no state.
    pub(crate) gate: Option<Arc<Gate>>,
    /// The same; `None` for the host.
    pub(crate) keeper: Option<Arc<dyn Keeper>>,
}

/// Handlers by their keys. Those that are gone are swept out whenever the number has doubled.
#[derive(Default)]
pub(super) struct Infos {
    by_key: HashMap<u64, Weak<HandlerInfo>>,
    sweep_at: usize,
}

impl Infos {
    fn add(&mut self, info: &Arc<HandlerInfo>) {
        if self.by_key.len() >= self.sweep_at {
            self.by_key.retain(|_, info| info.strong_count() > 0);
            self.sweep_at = 2 * self.by_key.len() + 64;
        }
        self.by_key.insert(info.key, Arc::downgrade(info));
    }
}

/// What is summed up of a handler over all its generations.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) counts: Tally,
    pub(crate) latency: LatencySums,
    pub(crate) cpu: Arc<CpuTime>,
}

/// A handler, of which there may be none any more.
#[derive(Debug, Clone)]
struct KnownHandler {
    plugin: Arc<str>,
    handler: Arc<str>,
    generation: u64,
}

/// The last handlers that were made, by their keys. Calls that are kept name them after they have
/// gone.
#[derive(Default)]
pub(crate) struct KnownHandlers {
    by_key: HashMap<u64, KnownHandler>,
    order: VecDeque<u64>,
}

impl KnownHandlers {
    /// How many there are at the most.
    const MOST: usize = 8_192;

    fn add(&mut self, key: u64, handler: KnownHandler) {
        if self.order.len() >= Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
        self.by_key.insert(key, handler);
        self.order.push_back(key);
    }
}

impl Router {
    /// A target of this router, with its counters over all generations.
    pub(crate) fn target(&self, new: NewTarget) -> Arc<Target> {
        let NewTarget {
            plugin,
            generation,
            handler,
            label,
            counted_as,
            callee,
            number,
            priority,
            order,
            timeout,
            blocking,
            answers_alone,
            cancel,
            gate,
            keeper,
        } = new;
        let label = label.unwrap_or_else(Label::blank);
        let (key, untried) = (label.key(), AtomicBool::new(keeper.is_some()));
        let (counts, latency, cpu) = {
            let mut counts = self.counts.lock();
            let sums = counts.entry((plugin.clone(), counted_as)).or_default();
            (sums.counts.generation(), sums.latency.generation(), sums.cpu.clone())
        };
        let known = KnownHandler { plugin: plugin.clone(), handler: handler.clone(), generation };
        self.known.lock().add(key, known);
        let active = AtomicI64::new(0);
        let timeout = timeout.unwrap_or(self.limits.timeout);
        let info = HandlerInfo {
            plugin,
            handler,
            key,
            untried,
            counts,
            generation,
            is_of_host: answers_alone,
            latency,
            cpu,
            recorder: self.recorder.clone(),
            outcome_taps: self.outcome_taps.clone(),
            active,
            timeout,
            check: OnceLock::new(),
            _label: Some(label),
        };
        let info = Arc::new(info);
        self.infos.lock().add(&info);
        let entry = CallTarget { info, callee, number, timeout, blocking, cancel, keeper };
        Arc::new(Target::new(priority, order, gate, answers_alone, entry))
    }

    /// Forgets the counters of a plugin. They stay part of those of all handlers together.
    pub fn forget_plugin(&self, plugin: &str) {
        let mut counts = self.counts.lock();
        let mut forgotten = self.forgotten.lock();
        for (_, counts) in counts.extract_if(|(owner, _), _| **owner == *plugin) {
            *forgotten += counts.counts.now();
        }
    }

    /// The handler that a key in a worker's slot stands for.
    pub fn info(&self, key: u64) -> Option<Arc<HandlerInfo>> {
        let infos = self.infos.lock();
        infos.by_key.get(&key).and_then(Weak::upgrade)
    }

    /// Plugin, handler and generation that a key stands for, also after the handler has gone,
    /// unless many others came since.
    pub(super) fn names_of_handler(&self, key: u64) -> Option<(Arc<str>, Arc<str>, u64)> {
        if let Some(info) = self.info(key) {
            return Some((info.plugin.clone(), info.handler.clone(), info.generation));
        }
        let known = self.known.lock();
        let KnownHandler { plugin, handler, generation } = known.by_key.get(&key)?;
        Some((plugin.clone(), handler.clone(), *generation))
    }

    /// The handlers that are there.
    pub(super) fn all_infos(&self) -> Vec<Arc<HandlerInfo>> {
        let infos = self.infos.lock();
        infos.by_key.values().filter_map(Weak::upgrade).collect()
    }

    /// Adds a handler; the number it can be removed by. One of the host's `own` has a timeout of
    /// its own, and answers alone: whoever else subscribes to its events only [sees
    /// them](Self::show_onlookers).
    pub fn add_host_handler<F, Fut, R>(
        &self,
        name: &str,
        patterns: &[Pattern],
        own: Option<Duration>,
        handler: F,
    ) -> u64
    where
        F: Fn(EventRef) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Serialize,
    {
        let number = self.keys.fetch_add(1, Ordering::Relaxed);
        let target = self.target(NewTarget {
            plugin: "".into(),
            generation: 0,
            handler: name.into(),
            label: None,
            counted_as: name.into(),
            callee: Arc::new(HostHandler::new(self.site.runtime.clone(), handler)),
            number,
            priority: 0,
            order: number,
            timeout: own,
            blocking: false,
            answers_alone: own.is_some(),
            cancel: Arc::default(),
            gate: None,
            keeper: None,
        });
        let routes = patterns
            .iter()
            .map(|pattern| Route { pattern: pattern.clone(), target: target.clone() });
        let routes = routes.collect();
        self.change(|table| table.with(Owner::Host(number), routes));
        number
    }

    /// Removes a handler of the host.
    pub fn remove_host_handler(&self, number: u64) {
        self.change(|table| table.with(Owner::Host(number), Vec::new()));
    }

    /// The counters of a plugin's handlers, by handler.
    pub fn counts_of(&self, plugin: &str) -> Vec<(Arc<str>, Counts)> {
        let counts = self.counts.lock();
        let own = counts.iter().filter(|((owner, _), _)| **owner == *plugin);
        own.map(|((_, handler), sums)| (handler.clone(), sums.counts.now())).collect()
    }

    /// The same of all plugins, each with those of its handlers together.
    pub fn counts_by_plugin(&self) -> HashMap<Arc<str>, Counts> {
        let counts = self.counts.lock();
        let mut plugins: HashMap<Arc<str>, Counts> = HashMap::new();
        for ((plugin, _), sums) in counts.iter() {
            *plugins.entry(plugin.clone()).or_default() += sums.counts.now();
        }
        plugins
    }

    /// The counters of all handlers together.
    pub fn all_counts(&self) -> Counts {
        let counts = self.counts.lock();
        let mut sum = *self.forgotten.lock();
        counts.values().for_each(|sums| sum += sums.counts.now());
        sum
    }
}
