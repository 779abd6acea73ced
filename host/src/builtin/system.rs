//! `system:*`: how the host is, what events it knows, and its end.

use std::{future::Future, sync::atomic::Ordering, time::UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    SOON,
    catalog::{self, Described, Entry},
    handle, handle_event,
};
use crate::{
    event::Event,
    host::Host,
    router::native::Failure,
    stopping::{StopStage, drain::Inside},
};

pub(super) fn register(host: &Host) {
    handle(
        host,
        Described::new("system:health", "Whether the host is well, and how busy."),
        health,
    );
    let discover = Described::new("system:discover", "Which events there are.")
        .takes(
            "level",
            "str",
            false,
            "\"summary\": namespaces; \"namespace\" or \"full\": a flat table",
        )
        .takes("namespace", "str", false, "Only events of this namespace")
        .takes("event", "str", false, "Only this event")
        .takes("module", "str", false, "Only events of this plugin");
    handle(host, discover, discover_events);
    let help = Described::new("system:help", "What an event takes, with an example.")
        .takes("event", "str", true, "Its name");
    handle(host, help, explain);
    let clients = Described::new("system:clients", "Who is connected to the control socket.");
    handle(host, clients, clients_connected);
    let disconnect = Described::new("system:disconnect", "Ends a client's connection.").takes(
        "id",
        "int",
        true,
        "Its number, as system:clients has it",
    );
    handle(host, disconnect, disconnect_client);
    let stop = Described::new("system:shutdown_request", "Asks the host to stop in order.");
    handle_event(SOON, host, stop, shutdown_request);
}

#[derive(Deserialize)]
struct Nothing {}

async fn health(host: Host, _: Nothing) -> Result<Value, Failure> {
    let inner = host.inner();
    let live = inner.supervisor.registry().last_started_first();
    let unkept = host.unkept_state().into_iter().map(|unkept| {
        let since = unkept.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let live = live.iter().any(|name| **name == *unkept.plugin);
        json!({ "name": unkept.plugin, "reason": unkept.reason, "since": since, "live": live })
    });
    let (plugins, unkept) = (live.len(), unkept.collect::<Vec<_>>());
    let budget = host.budget();
    let stage = inner.stop.stage();
    let starting = inner.start_up.told().filter(|_| stage == StopStage::Running);
    let status = match stage {
        StopStage::Running if starting.is_some() => "starting",
        StopStage::Running if unkept.is_empty() => "healthy",
        StopStage::Running => "degraded",
        _ => "stopping",
    };
    let mut health = json!({
        "status": status,
        "state_not_kept": unkept,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": inner.started.elapsed().as_secs_f64(),
        "pid": std::process::id(),
        "plugins": plugins,
        "events": host.event_names().len(),
        "events_emitted": inner.router.traffic.total(),
        "counts": inner.router.all_counts(),
        "memory": {
            "waiting_bytes": budget.used(),
            "limit": budget.limit(),
            "given_up": budget.given_up(),
        },
    });
    if let Some(starting) = starting {
        health["starting"] = starting;
    }
    if let Some(since) = inner.stop.since() {
        let waits_for = Inside::now(&inner.stop, &inner.router, &inner.supervisor);
        let seconds = since.elapsed().as_secs_f64();
        health["stopping"] = json!({ "stage": stage, "seconds": seconds, "waits_for": waits_for });
    }
    Ok(health)
}

#[derive(Deserialize)]
struct Discover {
    #[serde(default)]
    level: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    module: Option<String>,
}

async fn discover_events(host: Host, ask: Discover) -> Result<Value, Failure> {
    let mut entries = catalog::entries(&host);
    let in_namespace = |entry: &Entry, space: &str| entry.event.split(':').next() == Some(space);
    entries.retain(|entry| {
        ask.namespace.as_ref().is_none_or(|space| in_namespace(entry, space))
            && ask.event.as_ref().is_none_or(|event| *event == entry.event)
            && ask.module.as_ref().is_none_or(|module| *module == entry.module)
    });
    let spaces = catalog::by_namespace(&entries);
    match ask.level.as_deref() {
        None => {
            let events: Map<String, Value> = spaces
                .iter()
                .map(|(space, entries)| {
                    ((*space).to_owned(), entries.iter().map(|entry| brief(entry)).collect())
                })
                .collect();
            Ok(json!({ "events": events }))
        }
        Some("summary") => {
            let namespaces: Map<String, Value> = spaces
                .iter()
                .map(|(space, entries)| {
                    let names: Vec<&str> =
                        entries.iter().map(|entry| entry.event.as_str()).collect();
                    let value = json!({ "count": names.len(), "description": names.join(", ") });
                    ((*space).to_owned(), value)
                })
                .collect();
            Ok(json!({ "namespaces": namespaces, "_level": "summary" }))
        }
        Some(level @ ("namespace" | "full")) => {
            let names: Vec<&&str> = spaces.keys().collect();
            let events: Map<String, Value> = spaces
                .values()
                .flatten()
                .map(|entry| {
                    (entry.event.clone(), if level == "full" { full(entry) } else { brief(entry) })
                })
                .collect();
            Ok(
                json!({ "total": events.len(), "events": events, "namespaces": names, "_level": level }),
            )
        }
        Some(level) => Err(Failure::new(
            "invalid_payload",
            format_args!(
                "there is no level {level:?}; the levels are \"summary\", \"namespace\" and \"full\""
            ),
        )),
    }
}

fn brief(entry: &Entry) -> Value {
    json!({ "event": entry.event, "summary": entry.summary, "parameters": entry.parameters })
}

fn full(entry: &Entry) -> Value {
    json!({
        "event": entry.event,
        "summary": entry.summary,
        "parameters": entry.parameters,
        "module": entry.module,
        "handler": entry.handler,
    })
}

#[derive(Deserialize)]
struct Help {
    event: String,
}

async fn explain(host: Host, ask: Help) -> Result<Value, Failure> {
    let entries = catalog::entries(&host);
    let Some(entry) = entries.iter().find(|entry| entry.event == ask.event) else {
        let text = format!("nobody handles {}; `system:discover` shows what there is", ask.event);
        return Err(Failure::new("unknown_event", text));
    };
    let example = json!({ "event": entry.event, "data": catalog::example(&entry.parameters) });
    let mut help = full(entry);
    help["examples"] = json!([example]);
    Ok(help)
}

async fn clients_connected(host: Host, _: Nothing) -> Result<Value, Failure> {
    let clients = host.clients().facts(crate::clock::unix_time().as_secs_f64());
    let limit = host.inner().config.limits.connections;
    Ok(json!({ "count": clients.len(), "limit": limit, "clients": clients }))
}

#[derive(Deserialize)]
struct Disconnect {
    id: u64,
}

async fn disconnect_client(host: Host, Disconnect { id }: Disconnect) -> Result<Value, Failure> {
    match host.clients().end(id) {
        true => Ok(json!({ "status": "disconnected", "id": id })),
        false => Err(Failure::new(
            "unknown_client",
            format_args!("there is no client {id}; `system:clients` lists those that there are"),
        )),
    }
}

/// Of clients and of the program, each request counts: the second one has the host go on to its next stage. A plugin can
/// only have it begin, because several may ask for one and the same reason.
fn shutdown_request(
    host: Host,
    event: &Event,
    _: Nothing,
) -> impl Future<Output = Result<Value, Failure>> + Send + use<> {
    let is_from_outside = event.parent().is_none() && matches!(event.source(), "" | "socket");
    let stop = &host.inner().stop;
    let next = match is_from_outside || stop.stage() == StopStage::Running {
        true => stop.request(),
        false => None,
    };
    match next {
        Some(StopStage::Draining) => tracing::info!(
            "stopping, as a client or a plugin asked: what is inside may end; a further request does not wait for it"
        ),
        Some(stage) => tracing::warn!(%stage, "stopping: going on, as a client asked once more"),
        None => {}
    }
    let stays = host.inner().socket_stays.load(Ordering::Acquire);
    let answer = json!({ "status": "stopping", "stage": stop.stage(), "socket_stays": stays });
    std::future::ready(Ok(answer))
}
