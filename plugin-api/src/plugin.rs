//! What the `#[plugin]` attribute implements, and how it becomes an instance that a host can call.

use std::{future::Future, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    abi::{
        Buffer, CallEnd, CallStart, EventHandle, HostRef,
        export::{self, Exported, Failure, FirstPoll, Lent, LibHeader, Shared},
        panic,
    },
    call::Call,
    context::{Context, Scope},
    error::{Error, Result},
    log, payload,
    routes::Routes,
    runtime::OwnRuntime,
    state::{self, Restore, Snapshot},
    subscriptions::{FIRST_DYNAMIC, Subscriptions, failed},
    types::{Configuration, HandlerPayload, HandlerReply, LentPayload},
};

/// A reference to the plugin that a call may keep until it ends.
pub type PluginRef<P> = Shared<P>;

/// A named unit of behaviour. Written through the `#[plugin]` attribute, not by hand.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// Its name, the same in all its versions.
    const NAME: &'static str;
    /// Its version.
    const VERSION: &'static str;
    /// Whether it has a tokio runtime of its own.
    const RUNTIME: bool;
    /// The events that it says it emits.
    const EMITS: &'static [&'static str];
    /// The events that it needs somebody to handle.
    const REQUIRES: &'static [&'static str];
    /// The versions of snapshots that it writes, highest first; none when it keeps no state.
    const SNAPSHOTS: &'static [Snapshot<Self>];
    /// The versions of snapshots that it restores, highest first.
    const RESTORES: &'static [Restore<Self>];
    /// Its handlers, in order of declaration.
    const HANDLERS: &'static [Handler<Self>];

    /// Makes it from its configuration.
    fn initialize(ctx: Context, config: RawConfig) -> impl Future<Output = Result<Self>> + Send;
}

/// One declared handler.
pub struct Handler<P> {
    /// The method's name.
    pub name: &'static str,
    /// The first paragraph of its documentation.
    pub summary: &'static str,
    /// Event names and patterns.
    pub subscriptions: &'static [&'static str],
    /// Higher ones are called first.
    pub priority: i32,
    /// In milliseconds; 0 stands for the host's default.
    pub timeout_ms: u64,
    /// Whether it is called on a thread that may block.
    pub blocking: bool,
    /// JSON Schema of its payload.
    pub payload_schema: fn() -> Value,
    /// JSON Schema of its reply.
    pub reply_schema: fn() -> Value,
    /// Starts a call.
    pub call: fn(Call<'_, P>) -> CallStart,
}

/// A plugin's configuration as the host gives it: the plugin's table of the host's configuration.
pub struct RawConfig(Vec<u8>);

impl RawConfig {
    pub(crate) fn new(json: Vec<u8>) -> Self {
        RawConfig(json)
    }

    /// Decodes it.
    ///
    /// # Errors
    /// `invalid_config`, with the path inside it.
    pub fn decode<C: Configuration>(self) -> Result<C> {
        payload::decode(&self.0).map_err(|error| {
            Error::new("invalid_config", format_args!("in its configuration: {error}"))
        })
    }

    /// Refuses a configuration for a plugin that takes none.
    ///
    /// # Errors
    /// `invalid_config` when there is one.
    pub fn expect_empty(self) -> Result<()> {
        let config: Value = self.decode()?;
        match config.as_object().and_then(|table| table.keys().next()) {
            Some(key) => {
                let text = format!("this plugin takes no configuration, but {key:?} is set");
                Err(Error::new("invalid_config", text))
            }
            None => Ok(()),
        }
    }
}

/// What a library says of itself beyond its manifest, for discovery and help.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Description {
    /// One entry a handler, in order of declaration.
    pub handlers: Vec<HandlerDescription>,
}

/// See [`Description`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HandlerDescription {
    /// The method's name.
    pub name: String,
    /// The first paragraph of its documentation.
    pub summary: String,
    /// JSON Schema of its payload.
    pub payload: Value,
    /// JSON Schema of its reply.
    pub reply: Value,
}

/// A plugin with what belongs to it. The order of the fields is the order in which they go: the plugin first, then its
/// runtime with all tasks on it, and the way to the host last.
pub(crate) struct Running<P> {
    plugin: P,
    _runtime: OwnRuntime,
    scope: Arc<Scope>,
}

impl<P> Drop for Running<P> {
    fn drop(&mut self) {
        // A handler that was subscribed at run time may hold a context, and with it the scope that holds the handler.
        self.scope.subscriptions.clear();
    }
}

impl<P: Plugin> Exported for Running<P> {
    fn describe() -> Result<Buffer, Failure> {
        let handlers = P::HANDLERS.iter().map(|handler| HandlerDescription {
            name: handler.name.to_owned(),
            summary: handler.summary.to_owned(),
            payload: (handler.payload_schema)(),
            reply: (handler.reply_schema)(),
        });
        payload::encode(&Description { handlers: handlers.collect() }).map_err(Error::into_parts)
    }

    fn enter_library(host: &HostRef) {
        panic::install_hook(log::uncaught_panic);
        log::forward_to(host);
    }

    fn leave_library() {
        // The panic hook stays: thread-locals and threads of the plugin may panic after its end.
        log::stop_forwarding();
    }

    async fn create(host: HostRef, config: Vec<u8>) -> Result<Self, Failure> {
        let (runtime, handle) = OwnRuntime::start(P::RUNTIME).map_err(Error::into_parts)?;
        let (subscriptions, routes) = (Subscriptions::default(), Routes::default());
        let scope = Scope { host, subscriptions, runtime: handle, routes };
        let scope = Arc::new(scope);
        let made = P::initialize(Context::new(scope.clone()), RawConfig::new(config));
        match scope.runtime.enter(made).await {
            Ok(plugin) => Ok(Running { plugin, _runtime: runtime, scope }),
            Err(error) => {
                scope.subscriptions.clear();
                Err(error.into_parts())
            }
        }
    }

    fn call(
        this: Shared<Self>,
        handler: u64,
        event: EventHandle,
        first: FirstPoll<'_>,
    ) -> CallStart {
        let scope = Lent::of(this, |running| &running.scope);
        let ctx = Context::of_call(scope, event);
        if handler >= FIRST_DYNAMIC {
            return call_dynamic(handler, &ctx, first);
        }
        match usize::try_from(handler).ok().and_then(|index| P::HANDLERS.get(index)) {
            Some(handler) => {
                let plugin = this.part(|running| &running.plugin);
                (handler.call)(Call { plugin, ctx, first })
            }
            None => unknown(handler).into(),
        }
    }

    fn snapshot(this: Shared<Self>, version: u32, first: FirstPoll<'_>) -> CallStart {
        let ctx = Context::of_instance(Lent::of(this, |running| &running.scope));
        state::snapshot(this.part(|running| &running.plugin), ctx, version, first)
    }

    fn restore(this: Shared<Self>, version: u32, state: &[u8], first: FirstPoll<'_>) -> CallStart {
        let ctx = Context::of_instance(Lent::of(this, |running| &running.scope));
        state::restore(this.part(|running| &running.plugin), ctx, version, state, first)
    }

    fn read_back(version: u32, state: &[u8]) -> Result<(), Failure> {
        state::read_back::<P>(version, state).map_err(Error::into_parts)
    }
}

fn call_dynamic(handler: u64, ctx: &Context, first: FirstPoll<'_>) -> CallStart {
    match ctx.scope().subscriptions.get(handler) {
        Some(subscribed) => subscribed(ctx, first),
        // It was unsubscribed between the router's look-up and this call.
        None => CallStart::NoReply,
    }
}

fn unknown(handler: u64) -> CallEnd {
    failed(Error::new(
        "no_such_handler",
        format_args!("this plugin has no handler number {handler}"),
    ))
}

/// The header of a library that exports `P`; the macro makes it the library's only symbol.
pub const fn header<P: Plugin>() -> LibHeader {
    export::header::<Running<P>>()
}

/// The JSON Schema of a payload, for [`Handler`].
pub fn payload_schema<T: HandlerPayload>() -> Value {
    schema::<T>()
}

/// The same for one that may borrow.
pub fn lent_schema<T: LentPayload<'static>>() -> Value {
    schema::<T>()
}

/// The JSON Schema of a reply, for [`Handler`].
pub fn reply_schema<T: HandlerReply>() -> Value {
    schema::<T>()
}

fn schema<T: schemars::JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}
