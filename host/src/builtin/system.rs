//! `system:*`: how the host is, what events it knows, and its end.

mod log;

use std::{
    collections::BTreeMap, future::Future, sync::Arc, sync::atomic::Ordering, time::UNIX_EPOCH,
};

use ksi_kernel::{event, router::host_handler::Failure};
use ksi_wire::{
    Word,
    system::{
        ByNamespace, Clients, Disconnect, Disconnected, Discover, Discovered, Event, Example, Flat,
        Health, Help, Memory, Namespace, Shutdown, Stopping, Summary, UnkeptState,
    },
};

use super::{Nothing, SOON, counts, handle, handle_event};
use crate::{
    catalog::{self, CatalogEntry, Described},
    core::{Core, drain::Inside},
    stopping::StopStage,
};

pub(super) fn register(core: &Arc<Core>) {
    handle(
        core,
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
    handle(core, discover, discover_events);
    let help = Described::new("system:help", "What an event takes, with an example.")
        .takes("event", "str", true, "Its name");
    handle(core, help, explain);
    let clients = Described::new("system:clients", "Who is connected to the control socket.");
    handle(core, clients, clients_connected);
    let disconnect = Described::new("system:disconnect", "Ends a client's connection.").takes(
        "id",
        "int",
        true,
        "Its number, as system:clients has it",
    );
    handle(core, disconnect, disconnect_client);
    let log = Described::new("system:log", "What is written of the log, and changes of that.")
        .takes("set", "dict", false, "New levels by plugin or target; \"*\" for all others")
        .takes("reset", "bool", false, "Forgets the levels that were asked for before");
    handle(core, log, log::log);
    let stop = Described::new("system:shutdown_request", "Asks the host to stop in order.");
    handle_event(SOON, core, stop, shutdown_request);
}

async fn health(core: Arc<Core>, _: Nothing) -> Result<Health, Failure> {
    let live = core.supervisor.registry().last_started_first();
    let unkept = core.unkept_state().into_iter().map(|unkept| {
        let since = unkept.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let live = live.iter().any(|name| **name == *unkept.plugin);
        UnkeptState { live, name: unkept.plugin, reason: unkept.reason, since }
    });
    let (plugins, state_not_kept) = (live.len(), unkept.collect::<Vec<_>>());
    let budget = core.budget();
    let stage = core.stop.stage();
    let starting = core.start_up.told().filter(|_| stage == StopStage::Running);
    let status = match stage {
        StopStage::Running if starting.is_some() => "starting",
        StopStage::Running if state_not_kept.is_empty() => "healthy",
        StopStage::Running => "degraded",
        _ => "stopping",
    };
    let stopping = core.stop.since().map(|since| Stopping {
        seconds: since.elapsed().as_secs_f64(),
        stage: word(stage),
        waits_for: Inside::now(&core.stop, &core.router, &core.supervisor).told(),
    });
    Ok(Health {
        counts: counts(core.router.all_counts()),
        events: core.event_names().len(),
        events_emitted: core.router.events_emitted(),
        memory: Memory {
            given_up: budget.given_up(),
            limit: budget.limit(),
            waiting_bytes: budget.used(),
        },
        pid: std::process::id(),
        plugins,
        starting,
        state_not_kept,
        status: status.into(),
        stopping,
        uptime: core.started.elapsed().as_secs_f64(),
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

fn word(stage: StopStage) -> Word {
    stage.to_string().into()
}

async fn discover_events(core: Arc<Core>, ask: Discover) -> Result<Discovered, Failure> {
    let mut entries = core.catalog();
    let in_namespace =
        |entry: &CatalogEntry, space: &str| entry.event.split(':').next() == Some(space);
    entries.retain(|entry| {
        ask.namespace.as_ref().is_none_or(|space| in_namespace(entry, space))
            && ask.event.as_ref().is_none_or(|event| *event == entry.event)
            && ask.module.as_ref().is_none_or(|module| *module == entry.module)
    });
    let spaces = catalog::by_namespace(&entries);
    match ask.level.as_deref() {
        None => {
            let each = spaces.into_iter();
            let events = each.map(|(space, entries)| {
                (space.to_owned(), entries.into_iter().map(brief).collect())
            });
            Ok(Discovered::ByNamespace(ByNamespace { events: events.collect() }))
        }
        Some("summary") => {
            let namespaces = spaces.iter().map(|(space, entries)| {
                let names: Vec<&str> = entries.iter().map(|entry| entry.event.as_str()).collect();
                let namespace = Namespace { count: names.len(), description: names.join(", ") };
                ((*space).to_owned(), namespace)
            });
            let (level, namespaces) = ("summary".into(), namespaces.collect());
            Ok(Discovered::Summary(Summary { level, namespaces }))
        }
        Some(level @ ("namespace" | "full")) => {
            let namespaces = spaces.keys().map(|&space| space.to_owned()).collect();
            let told = if level == "full" { full } else { brief };
            let each = spaces.values().flatten();
            let events = each.map(|entry| (entry.event.clone(), told(entry)));
            let events: BTreeMap<_, _> = events.collect();
            let (level, total) = (level.to_owned().into(), events.len());
            Ok(Discovered::Flat(Flat { level, events, namespaces, total }))
        }
        Some(level) => Err(Failure::new(
            "invalid_payload",
            format_args!(
                "there is no level {level:?}; the levels are \"summary\", \"namespace\" and \"full\""
            ),
        )),
    }
}

fn brief(entry: &CatalogEntry) -> Event {
    Event {
        event: entry.event.clone(),
        parameters: entry.parameters.clone(),
        summary: entry.summary.clone(),
        ..Event::default()
    }
}

fn full(entry: &CatalogEntry) -> Event {
    Event {
        handler: Some(entry.handler.clone()),
        module: Some(entry.module.clone()),
        ..brief(entry)
    }
}

async fn explain(core: Arc<Core>, ask: Help) -> Result<Event, Failure> {
    let entries = core.catalog();
    let Some(entry) = entries.iter().find(|entry| entry.event == ask.event) else {
        let text = format!("nobody handles {}; `system:discover` shows what there is", ask.event);
        return Err(Failure::new("unknown_event", text));
    };
    let (data, event) = (catalog::example(&entry.parameters), entry.event.clone());
    Ok(Event { examples: vec![Example { data, event }], ..full(entry) })
}

async fn clients_connected(core: Arc<Core>, _: Nothing) -> Result<Clients, Failure> {
    let clients = core.clients().all(ksi_kernel::executor::clock::unix_time().as_secs_f64());
    let limit = core.config.limits.connections;
    Ok(Clients { count: clients.len(), clients, limit })
}

async fn disconnect_client(
    core: Arc<Core>,
    Disconnect { id }: Disconnect,
) -> Result<Disconnected, Failure> {
    match core.clients().end(id) {
        true => Ok(Disconnected { id, status: "disconnected".into() }),
        false => Err(Failure::new(
            "unknown_client",
            format_args!("there is no client {id}; `system:clients` lists those that there are"),
        )),
    }
}

/// Of clients and of the program, each request counts: the second one has the host go on to its
/// next stage. A plugin can only have it begin, because several may ask for one and the same
/// reason.
fn shutdown_request(
    core: Arc<Core>,
    event: &event::Event,
    _: Nothing,
) -> impl Future<Output = Result<Shutdown, Failure>> + Send + use<> {
    let is_from_outside = event.parent().is_none() && matches!(event.source(), "" | "socket");
    let stop = &core.stop;
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
    let socket_stays = core.socket_stays.load(Ordering::Acquire);
    let (stage, status) = (word(stop.stage()), "stopping".into());
    std::future::ready(Ok(Shutdown { socket_stays, stage, status }))
}
