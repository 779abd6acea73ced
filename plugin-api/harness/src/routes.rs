//! Who handles which event: the plugin's handlers, declared and subscribed at run time, and
//! stand-ins for others.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use ksi_abi::{CallEnd, Pattern};
use ksi_plugin_api::{
    __private::testing::{call_end, decode, failed},
    Plugin, Result,
};
use serde::{Serialize, de::DeserializeOwned};

/// What a handler may take when it does not say.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The event that goes to the plugin alone, when it is retired. It is never routed.
pub(super) const SHUTDOWN_EVENT: &str = "module:shutdown";

/// The name under which stand-ins appear in reports.
pub(super) const STAND_IN: &str = "stand-in";

/// Something that can be called.
pub(super) struct Handler {
    pub(super) plugin: &'static str,
    pub(super) name: String,
    pub(super) timeout: Duration,
    pub(super) target: Target,
}

type StandIn = Box<dyn Fn(&[u8]) -> CallEnd + Send + Sync>;

/// What is called.
pub(super) enum Target {
    /// The plugin's handler of this number.
    Plugin(u64),
    /// A closure of the test.
    StandIn(StandIn),
}

/// One subscription.
pub(super) struct Route {
    pub(super) number: u64,
    pub(super) pattern: Pattern,
    pub(super) priority: i32,
    pub(super) handler: Arc<Handler>,
}

impl Route {
    /// A closure of the test in place of another plugin.
    pub(super) fn stand_in<D, R>(
        number: u64,
        pattern: &str,
        closure: impl Fn(D) -> Result<R> + Send + Sync + 'static,
    ) -> Result<Self>
    where
        D: DeserializeOwned,
        R: Serialize,
    {
        let answer = move |data: &[u8]| match decode(data) {
            Ok(data) => call_end(closure(data), None),
            Err(error) => failed(error),
        };
        let handler = Arc::new(Handler {
            plugin: STAND_IN,
            name: pattern.to_owned(),
            timeout: DEFAULT_TIMEOUT,
            target: Target::StandIn(Box::new(answer)),
        });
        Ok(Route { number, pattern: Pattern::parse(pattern)?, priority: 0, handler })
    }
}

fn timeout(millis: u64) -> Duration {
    match millis {
        0 => DEFAULT_TIMEOUT,
        millis => Duration::from_millis(millis),
    }
}

/// What a plugin declares: its routes, and the handlers of [`SHUTDOWN_EVENT`].
pub(super) struct Declared {
    pub(super) routes: Vec<Route>,
    pub(super) at_shutdown: Vec<Arc<Handler>>,
}

impl Declared {
    /// Of plugin `P`. A pattern that is none is refused; the macro lets none pass.
    pub(super) fn of<P: Plugin>() -> Result<Self> {
        let mut declared = Declared { routes: Vec::new(), at_shutdown: Vec::new() };
        for (number, handler) in (0u64..).zip(P::HANDLERS) {
            let target = Arc::new(Handler {
                plugin: P::NAME,
                name: handler.name.to_owned(),
                timeout: timeout(handler.timeout_ms),
                target: Target::Plugin(number),
            });
            for subscription in handler.subscriptions {
                if *subscription == SHUTDOWN_EVENT {
                    declared.at_shutdown.push(target.clone());
                    continue;
                }
                let (handler, priority) = (target.clone(), handler.priority);
                let pattern = Pattern::parse(subscription)?;
                declared.routes.push(Route { number, pattern, priority, handler });
            }
        }
        Ok(declared)
    }
}

/// The handlers of an event, in the order in which they are called and reported.
pub(super) fn matching(routes: &[Route], event: &str) -> Vec<Arc<Handler>> {
    let mut found: Vec<&Route> =
        routes.iter().filter(|route| route.pattern.matches(event)).collect();
    found.sort_by_key(|route| (Reverse(route.priority), route.handler.plugin, route.number));
    let mut handlers: Vec<Arc<Handler>> = Vec::with_capacity(found.len());
    for route in found {
        // A handler that matches by two of its patterns is called once.
        if !handlers.iter().any(|known| Arc::ptr_eq(known, &route.handler)) {
            handlers.push(route.handler.clone());
        }
    }
    handlers
}
