//! The first stage of a stop: what is inside ends, with every plugin still there.
//!
//! Inside are the events of clients that were let in, the events that were sent and have not been
//! handled, and the calls of plugins' handlers, whoever they are made for: a call may wait for
//! others that it causes, so all are looked at in one moment. What they are is told in the log
//! while they are waited for, and by `system:health`.

use std::{fmt, time::Duration};

use ksi_kernel::router::Router;
use ksi_wire::system;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    plugin::supervisor::Supervisor,
    stopping::{StopHandle, StopStage},
};

/// How soon it is looked again whether something is inside: soon at first, and then less often,
/// because to look takes what is waited for some of its time.
const LOOK_SOON: Duration = Duration::from_millis(1);
const LOOK_LATER: Duration = Duration::from_millis(20);
/// When it is told for the first time what is waited for, and how often later.
const TOLD_FIRST: Duration = Duration::from_secs(1);
const TOLD_AGAIN: Duration = Duration::from_secs(10);
/// How many handlers are named.
const NAMED: usize = 16;

/// What a stop waits for.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    /// Clients' events that have no report yet.
    events_of_clients: u64,
    /// Events that were sent and have not been handled.
    sent_events: usize,
    calls: Vec<Calls>,
}

/// Calls of one handler.
#[derive(Debug)]
struct Calls {
    plugin: String,
    handler: String,
    /// What it subscribes to.
    events: Vec<String>,
    calls: u64,
}

impl Inside {
    /// What is inside now.
    pub(crate) fn now(stop: &StopHandle, router: &Router, supervisor: &Supervisor) -> Self {
        // In the order in which one causes the other: what goes on meanwhile is seen at the next
        // place, or was seen at this.
        let events_of_clients = stop.inside();
        let sent_events = router.sent_events();
        let registry = supervisor.registry();
        let live = registry.plugins.values().filter_map(|plugin| plugin.live.as_ref());
        let calls = live.flat_map(|live| {
            let (info, counts) = (&live.info, router.counts_of(&live.info.plugin));
            let plugin = &info.plugin;
            let calls = counts.into_iter().filter_map(move |(handler, counts)| {
                let known = info.handlers().iter().find(|it| it.handler == handler);
                // A call that nobody waits for any more counts as active alone.
                let active = known.map_or(0, |known| known.active());
                let calls = counts.in_flight.max(u64::try_from(active).unwrap_or(0));
                let declared = info.manifest.handlers.iter().find(|it| *it.name == *handler);
                let events = declared.map(|it| it.subscriptions.clone()).unwrap_or_default();
                let (plugin, handler) = (plugin.to_string(), handler.to_string());
                (calls > 0).then_some(Calls { plugin, handler, events, calls })
            });
            calls.collect::<Vec<_>>()
        });
        let mut calls: Vec<Calls> = calls.collect();
        calls.sort_by(|a, b| (&a.plugin, &a.handler).cmp(&(&b.plugin, &b.handler)));
        Inside { events_of_clients, sent_events, calls }
    }

    /// The same for programs.
    pub(crate) fn told(self) -> system::Inside {
        let Inside { events_of_clients, sent_events, calls } = self;
        let calls = calls.into_iter().map(|Calls { plugin, handler, events, calls }| {
            system::Calls { calls, events, handler, plugin }
        });
        system::Inside { calls: calls.collect(), events_of_clients, sent_events }
    }

    fn is_nothing(&self) -> bool {
        self.events_of_clients == 0 && self.sent_events == 0 && self.calls.is_empty()
    }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.calls.iter().take(NAMED).map(Calls::to_string).collect();
        if self.calls.len() > NAMED {
            parts.push(format!("calls of {} further handlers", self.calls.len() - NAMED));
        }
        if self.events_of_clients > 0 {
            parts.push(format!("{} events of clients", self.events_of_clients));
        }
        if self.sent_events > 0 {
            parts.push(format!("{} sent events", self.sent_events));
        }
        match parts.is_empty() {
            true => f.write_str("nothing"),
            false => f.write_str(&parts.join("; ")),
        }
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Calls { plugin, handler, events, calls } = self;
        write!(f, "plugin {plugin}, handler {handler}")?;
        if !events.is_empty() {
            write!(f, " of {}", events.join(" and "))?;
        }
        match calls {
            1 => f.write_str(" (1 call)"),
            calls => write!(f, " ({calls} calls)"),
        }
    }
}

/// Waits until nothing is inside, at most until `deadline`, and not beyond this stage. What is
/// waited for is told meanwhile.
pub(crate) async fn drained(
    stop: &StopHandle,
    router: &Router,
    supervisor: &Supervisor,
    deadline: Instant,
) {
    let inside = || Inside::now(stop, router, supervisor);
    let mut tell_at = Instant::now() + TOLD_FIRST;
    let mut look_in = LOOK_SOON;
    let nothing_is_inside = async {
        loop {
            let inside = inside();
            if inside.is_nothing() {
                return;
            }
            if Instant::now() >= tell_at {
                let rest = deadline.saturating_duration_since(Instant::now()).as_secs_f32().ceil();
                tracing::info!("stopping: waiting for {inside}, for {rest} s at the most");
                tell_at = Instant::now() + TOLD_AGAIN;
            }
            sleep(look_in).await;
            look_in = LOOK_LATER.min(look_in.mul_f32(1.25));
        }
    };
    tokio::select! {
        biased;
        ended = timeout_at(deadline, nothing_is_inside) => if ended.is_err() {
            tracing::warn!("stopping: not ended within the drain timeout: {}", inside());
        },
        () = stop.reached(StopStage::Unloading) => {
            tracing::warn!("stopping: not waited for any longer, as somebody asked: {}", inside());
        }
    }
}
