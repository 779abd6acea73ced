//! `router:*`: the events between plugins, as a graph and as counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ksi_kernel::{call::tally::Counts, router::host_handler::Failure};
use ksi_wire::{
    module::announced::ALL,
    router::{Edge, Graph, Node, Stats},
};
use serde_json::Value;

use super::{Nothing, counts, handle, sorted};
use crate::{catalog::Described, core::Core};

/// What the host announces of itself and of events, beside [what becomes of plugins](ALL).
const ANNOUNCED: [&str; 4] =
    ["metrics:report", "system:ready", "system:shutdown", "system:startup"];

pub(super) fn register(core: &Arc<Core>) {
    let graph = Described::new(
        "router:graph",
        "Who emits and who handles which event, with counts so far.",
    );
    handle(core, graph, draw);
    handle(core, Described::new("router:stats", "How all calls so far ended."), stats);
}

async fn stats(core: Arc<Core>, _: Nothing) -> Result<Value, Failure> {
    sorted(&Stats {
        counts: counts(core.router.all_counts()),
        events_emitted: core.router.events_emitted(),
        uptime: core.started.elapsed().as_secs_f64(),
    })
}

async fn draw(core: Arc<Core>, _: Nothing) -> Result<Graph, Failure> {
    let mut plugins = BTreeSet::new();
    let mut events = BTreeSet::new();
    // By from, to and kind.
    let mut edges: BTreeMap<(String, String, &'static str), Seen> = BTreeMap::new();
    for (name, plugin) in &core.supervisor.registry().plugins {
        if plugin.live.is_none() {
            continue;
        }
        plugins.insert(name.to_string());
        // What it requires, it sends to whoever answers.
        let manifest = &plugin.info.manifest;
        for event in manifest.emits.iter().chain(&manifest.requires) {
            events.insert(event.clone());
            let edge = edges.entry((name.to_string(), event.clone(), "emits")).or_default();
            edge.declared = true;
        }
    }
    for event in ANNOUNCED.iter().chain(&ALL).map(|event| (*event).to_owned()) {
        let edge = edges.entry(("host".to_owned(), event.clone(), "emits")).or_default();
        edge.declared = true;
        events.insert(event);
    }
    let mut emitted: BTreeMap<String, u64> = BTreeMap::new();
    for (source, event, count) in core.router.traffic() {
        *emitted.entry(event.to_string()).or_default() += count;
        let source = node(&source, &plugins);
        events.insert(event.to_string());
        edges.entry((source, event.to_string(), "emits")).or_default().count += count;
    }
    let mut of_plugins: BTreeMap<&str, BTreeMap<Arc<str>, u64>> = BTreeMap::new();
    let subscribers = core.router.subscribers();
    for subscriber in subscribers.iter() {
        let pattern = subscriber.pattern.to_string();
        events.insert(pattern.clone());
        let handler = node(&subscriber.handler.plugin, &plugins);
        let edge = edges.entry((pattern, handler, "handles")).or_default();
        edge.declared = true;
        let failures = of_plugins.entry(&subscriber.handler.plugin).or_insert_with_key(|plugin| {
            let counts = core.router.counts_of(plugin).into_iter();
            counts.map(|(handler, counts)| (handler, gone_wrong(&counts))).collect()
        });
        // Of a handler that has several of these patterns, each time.
        edge.failed += failures.get(&subscriber.handler.handler).copied().unwrap_or_default();
        // Several handlers of one plugin each get the event once.
        let matching = emitted.iter().filter(|(event, _)| subscriber.pattern.matches(event));
        edge.count = edge.count.max(matching.map(|(_, count)| count).sum());
    }
    let kinds = plugins.iter().map(|id| (id.as_str(), "plugin"));
    let kinds = kinds.chain(events.iter().map(|id| (id.as_str(), "event")));
    let kinds = kinds.chain(["host", "client"].map(|id| (id, "host")));
    let used = |id: &str| edges.keys().any(|(from, to, _)| from == id || to == id);
    let nodes = kinds
        .filter(|(id, kind)| *kind != "host" || used(id))
        .map(|(id, kind)| {
            let failed = of_plugins.get(id).map_or(0, |of_handlers| of_handlers.values().sum());
            Node { failed, id: id.to_owned(), kind: kind.into() }
        })
        .collect();
    let edges = edges.into_iter().map(|((from, to, kind), Seen { count, declared, failed })| {
        Edge { count, declared, failed, from, kind: kind.into(), to }
    });
    Ok(Graph { edges: edges.collect(), nodes })
}

/// What is known of an edge.
#[derive(Default)]
struct Seen {
    count: u64,
    declared: bool,
    failed: u64,
}

/// Calls that did not end well.
fn gone_wrong(counts: &Counts) -> u64 {
    let Counts { failed, panicked, crashed, timed_out, rejected, .. } = counts;
    failed + panicked + crashed + timed_out + rejected
}

/// The node of whoever emits or handles: a plugin by its name, the host, or whatever else sends
/// events into it.
fn node(name: &str, plugins: &BTreeSet<String>) -> String {
    match name {
        "" => "host".to_owned(),
        name if plugins.contains(name) => name.to_owned(),
        _ => "client".to_owned(),
    }
}
