//! The host's own handlers. They are registered with the router like any plugin's: there is no second mechanism
//! beside events.
//!
//! They are the operator's way to a host that does not do well, so `timeouts.handler`, which is for plugins, does not hold for
//! them.
//!
//! [`system`] speaks of the host, [`module`] of its plugins, [`state`] of what is kept of them, [`config`] of the configuration,
//! [`flow`] of the events between them, [`metrics`] of how calls ended, [`catalog`] gathers what events there are and what they
//! take.

mod catalog;
mod config;
mod flow;
mod metrics;
mod module;
mod state;
mod system;

use std::{future::Future, time::Duration};

use ksi_abi::Pattern;
use ksi_wire as wire;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(crate) use catalog::Described;

use crate::{dispatch::tally::Counts, event::Event, host::Host, router::native::Failure};
use ksi_abi::Counted;

/// What an event asks that asks nothing.
#[derive(Deserialize)]
struct Nothing {}

/// Registers all of them.
pub(crate) fn register(host: &Host) {
    system::register(host);
    module::register(host);
    state::register(host);
    config::register(host);
    flow::register(host);
    metrics::register(host);
}

/// What an answer may take that needs nobody else.
const SOON: Duration = Duration::from_secs(30);
/// The same where plugins are changed. Each step of that has a limit of its own, which says more than this one would; this
/// is only so that there is one.
const IN_ITS_TIME: Duration = Duration::from_secs(24 * 3_600);

/// The host's own events that change plugins, or what is kept of them.
const CHANGES: &[&str] = &[
    "module:load",
    "module:reload",
    "module:unload",
    "module:rollback",
    "module:state_restore",
    "module:state_drop",
    "config:reload",
];

/// Whether this is an event of the host's own by which plugins are changed.
pub(crate) fn changes_plugins(event: &str) -> bool {
    CHANGES.contains(&event)
}

/// Registers one that [changes plugins](changes_plugins).
fn handle_change<F, Fut, P, R>(host: &Host, described: Described, handler: F)
where
    F: Fn(Host, P) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send + 'static,
    P: DeserializeOwned + Send + 'static,
    R: Serialize + 'static,
{
    debug_assert!(changes_plugins(described.event), "{} is to be listed", described.event);
    handle_within(IN_ITS_TIME, host, described, handler);
}

/// Registers one that answers soon.
fn handle<F, Fut, P, R>(host: &Host, described: Described, handler: F)
where
    F: Fn(Host, P) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send + 'static,
    P: DeserializeOwned + Send + 'static,
    R: Serialize + 'static,
{
    handle_within(SOON, host, described, handler);
}

fn handle_within<F, Fut, P, R>(timeout: Duration, host: &Host, described: Described, handler: F)
where
    F: Fn(Host, P) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send + 'static,
    P: DeserializeOwned + Send + 'static,
    R: Serialize + 'static,
{
    handle_event(timeout, host, described, move |host, _, payload| handler(host, payload));
}

/// Registers one: what it is for the catalogue, and what it does. It alone answers its event: a plugin that subscribes to
/// it, or to everything, must not stand between an operator and the host.
fn handle_event<F, Fut, P, R>(timeout: Duration, host: &Host, described: Described, handler: F)
where
    F: Fn(Host, &Event, P) -> Fut + Send + Sync + Clone + 'static,
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
    host.describe([described]);
    // The router belongs to the host, so its handlers must not keep the host alive.
    let weak = host.downgrade();
    host.inner().router.add_native(
        name,
        &[pattern],
        Some(timeout),
        move |event: Counted<Event>| {
            let (host, handler) = (weak.upgrade().map(Host::from_inner), handler.clone());
            async move {
                let host = host.ok_or_else(|| Failure::new("stopping", "the host is stopping"))?;
                host.inner().router.show_onlookers(&event);
                let payload = event
                    .payload()
                    .decode()
                    .map_err(|error| Failure::new("invalid_payload", error))?;
                handler(host, &event, payload).await
            }
        },
    );
}

/// As they go out.
fn counts(counts: Counts) -> wire::Counts {
    let Counts { accepted, replied, no_reply, failed, panicked, timed_out, rejected, in_flight } =
        counts;
    wire::Counts { accepted, failed, in_flight, no_reply, panicked, rejected, replied, timed_out }
}

/// Of a reply that is put together from parts: its keys in order.
fn sorted(reply: &impl Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(reply).map_err(|error| Failure::new("encode", error))
}
