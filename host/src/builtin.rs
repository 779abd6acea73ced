//! The host's own handlers. They are registered with the router like any plugin's: there is no
//! second mechanism beside events.
//!
//! They are the operator's way to a host that does not do well, so `timeouts.handler`, which is for
//! plugins, does not hold for them.
//!
//! [`system`] speaks of the host, [`module`] of its plugins, [`state`] of what is kept of them,
//! [`config`] of the configuration, [`flow`] of the events between them, [`metrics`] of how calls
//! ended, and [`calls`] of each by itself.

mod calls;
mod config;
mod flow;
mod metrics;
mod module;
mod state;
mod system;

use std::{future::Future, sync::Arc, time::Duration};

use ksi_abi::Pattern;
use ksi_kernel::{
    call::tally::Counts,
    event::{Event, EventRef},
    router::host_handler::Failure,
};
use ksi_wire::{self as wire, module::HistoryBy};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    catalog::{Described, changes_plugins},
    clients::PEER,
    core::{Core, rates},
    history,
};

/// What an event asks that asks nothing.
#[derive(Deserialize)]
struct Nothing {}

/// Registers all of them.
pub(crate) fn register(core: &Arc<Core>) {
    rates::follow(core);
    system::register(core);
    module::register(core);
    state::register(core);
    config::register(core);
    flow::register(core);
    metrics::register(core);
    calls::register(core);
}

/// What an answer may take that needs nobody else.
const SOON: Duration = Duration::from_secs(30);
/// The same where plugins are changed. Each step of that has a limit of its own, which says more
/// than this one would; this is only so that there is one.
const IN_ITS_TIME: Duration = Duration::from_secs(24 * 3_600);

/// Registers one that [changes plugins](changes_plugins), and is told who asks.
fn handle_change<F, Fut, P, R>(core: &Arc<Core>, described: Described, handler: F)
where
    F: Fn(Arc<Core>, HistoryBy, P) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send + 'static,
    P: DeserializeOwned + Send + 'static,
    R: Serialize + 'static,
{
    debug_assert!(changes_plugins(described.event), "{} is to be listed", described.event);
    handle_event(IN_ITS_TIME, core, described, move |core, event, payload| {
        handler(core, who_asks(event), payload)
    });
}

/// Who asks by an event. What a client says of itself counts for nothing.
fn who_asks(event: &Event) -> HistoryBy {
    let from = match (event.parent(), event.source()) {
        (None, "socket") => event.attribute(PEER).unwrap_or("a client").to_owned(),
        (None, "") => "the program around the host".to_owned(),
        (_, source) => format!("plugin {source}"),
    };
    history::request(event.name(), from)
}

/// Registers one that answers soon.
fn handle<F, Fut, P, R>(core: &Arc<Core>, described: Described, handler: F)
where
    F: Fn(Arc<Core>, P) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send + 'static,
    P: DeserializeOwned + Send + 'static,
    R: Serialize + 'static,
{
    handle_within(SOON, core, described, handler);
}

fn handle_within<F, Fut, P, R>(
    timeout: Duration,
    core: &Arc<Core>,
    described: Described,
    handler: F,
) where
    F: Fn(Arc<Core>, P) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send + 'static,
    P: DeserializeOwned + Send + 'static,
    R: Serialize + 'static,
{
    handle_event(timeout, core, described, move |core, _, payload| handler(core, payload));
}

/// Registers one: what it is for the catalogue, and what it does. It alone answers its event: a
/// plugin that subscribes to it, or to everything, must not stand between an operator and the host.
fn handle_event<F, Fut, P, R>(timeout: Duration, core: &Arc<Core>, described: Described, handler: F)
where
    F: Fn(Arc<Core>, &Event, P) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send + 'static,
    P: DeserializeOwned + Send + 'static,
    R: Serialize + 'static,
{
    let name = described.event;
    let pattern = match Pattern::parse(name) {
        Ok(pattern) => pattern,
        Err(error) => {
            debug_assert!(false, "{error}");
            return;
        }
    };
    core.describe([described]);
    // The router belongs to the host, so its handlers must not keep the host alive.
    let weak = Arc::downgrade(core);
    core.router.add_host_handler(name, &[pattern], Some(timeout), move |event: EventRef| {
        let (core, handler) = (weak.upgrade(), handler.clone());
        async move {
            let core = core.ok_or_else(|| Failure::new("stopping", "the host is stopping"))?;
            core.router.show_onlookers(&event);
            let payload =
                event.payload().decode().map_err(|error| Failure::new("invalid_payload", error))?;
            handler(core, &event, payload).await
        }
    });
}

/// As they go out.
fn counts(counts: Counts) -> wire::Counts {
    let Counts {
        accepted,
        replied,
        no_reply,
        failed,
        panicked,
        crashed,
        timed_out,
        rejected,
        in_flight,
    } = counts;
    wire::Counts {
        accepted,
        crashed,
        failed,
        in_flight,
        no_reply,
        panicked,
        rejected,
        replied,
        timed_out,
    }
}

/// Of a reply that is put together from parts: its keys in order.
fn sorted(reply: &impl Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(reply).map_err(|error| Failure::new("encode", error))
}
