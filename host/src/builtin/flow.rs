//! `router:*`: the events between plugins, as a graph and as counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ksi_kernel::router::host_handler::Failure;
use ksi_wire::router::{Edge, Graph, Node, Stats};
use serde_json::Value;

use super::{Nothing, counts, handle, sorted};
use crate::{catalog::Described, core::Core};

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
        for event in &plugin.info.manifest.emits {
            events.insert(event.clone());
            let edge = edges.entry((name.to_string(), event.clone(), "emits")).or_default();
            edge.declared = true;
        }
    }
    let mut emitted: BTreeMap<String, u64> = BTreeMap::new();
    for (source, event, count) in core.router.traffic() {
        *emitted.entry(event.to_string()).or_default() += count;
        let source = node(&source, &plugins);
        events.insert(event.to_string());
        edges.entry((source, event.to_string(), "emits")).or_default().count += count;
    }
    for subscriber in core.router.subscribers().iter() {
        let pattern = subscriber.pattern.to_string();
        events.insert(pattern.clone());
        let handler = node(&subscriber.handler.plugin, &plugins);
        let edge = edges.entry((pattern, handler, "handles")).or_default();
        edge.declared = true;
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
        .map(|(id, kind)| Node { id: id.to_owned(), kind: kind.into() })
        .collect();
    let edges = edges.into_iter().map(|((from, to, kind), Seen { count, declared })| Edge {
        count,
        declared,
        from,
        kind: kind.into(),
        to,
    });
    Ok(Graph { edges: edges.collect(), nodes })
}

/// What is known of an edge.
#[derive(Default)]
struct Seen {
    count: u64,
    declared: bool,
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
