//! What the `#[plugin]` attribute implements, and how it becomes an instance that a host can call.

use std::{future::Future, sync::Arc, task};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    abi::{
        Buffer, CallEnd, CallStart, EventHandle, HostRef,
        export::{Exported, Failure, Lent, Shared},
        panic,
        probe::{Giver, Taker, Viewer},
    },
    context::{Context, Scope},
    error::{Error, Result},
    log, payload,
    runtime::OwnRuntime,
    state::{self, Restore, Snapshot},
    subscriptions::{FIRST_DYNAMIC, Subscriptions, call_end, failed},
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
    pub call: fn(Call<'_, '_, P>) -> CallStart,
}

/// A call that is about to start.
pub struct Call<'a, 'b, P> {
    plugin: PluginRef<P>,
    ctx: Context,
    cx: &'a mut task::Context<'b>,
}

impl<P> Call<'_, '_, P> {
    /// With a payload that the handler owns: a copy of the event's value, or else decoded. Polls the handler once.
    pub fn run<D, R, F, Fut>(
        self,
        take: Option<Taker<D>>,
        give: Option<Giver<R>>,
        handler: F,
    ) -> CallStart
    where
        D: DeserializeOwned,
        R: Serialize + 'static,
        F: FnOnce(PluginRef<P>, Context, D) -> Fut,
        Fut: Future<Output = Result<R>> + Send + 'static,
    {
        match owned(&self.ctx, take) {
            Ok(data) => self.start(give, |plugin, ctx| handler(plugin, ctx, data)),
            Err(error) => CallStart::Ready(failed(error)),
        }
    }

    /// With a payload that the handler sees: the event's value itself, or else decoded. Polls the handler once.
    pub fn run_ref<D, R, F, Fut>(
        self,
        view: Option<Viewer<D>>,
        give: Option<Giver<R>>,
        handler: F,
    ) -> CallStart
    where
        D: DeserializeOwned,
        R: Serialize + 'static,
        F: FnOnce(PluginRef<P>, Context, Lended<D>) -> Fut,
        Fut: Future<Output = Result<R>> + Send + 'static,
    {
        match Lended::of(&self.ctx, view) {
            Ok(data) => self.start(give, |plugin, ctx| handler(plugin, ctx, data)),
            Err(error) => CallStart::Ready(failed(error)),
        }
    }

    /// With a payload that borrows from its encoding, so that the handler itself decodes it. Polls the handler once.
    pub fn run_borrowed<R, F, Fut>(self, give: Option<Giver<R>>, handler: F) -> CallStart
    where
        R: Serialize + 'static,
        F: FnOnce(PluginRef<P>, Context) -> Fut,
        Fut: Future<Output = Result<R>> + Send + 'static,
    {
        self.start(give, handler)
    }

    fn start<R, F, Fut>(self, give: Option<Giver<R>>, handler: F) -> CallStart
    where
        R: Serialize + 'static,
        F: FnOnce(PluginRef<P>, Context) -> Fut,
        Fut: Future<Output = Result<R>> + Send + 'static,
    {
        let runtime = self.ctx.scope().runtime.clone();
        let future = handler(self.plugin, self.ctx);
        runtime.start(async move { call_end(future.await, give) }, self.cx)
    }
}

/// A payload of the handler's own.
pub(crate) fn owned<D: DeserializeOwned>(ctx: &Context, take: Option<Taker<D>>) -> Result<D> {
    if let (Some(value), Some(take)) = (ctx.value(), take)
        && let Some(data) = take(value)
    {
        return Ok(data);
    }
    ctx.borrow_payload()
}

/// A payload that a handler sees for as long as its call lasts.
pub enum Lended<T> {
    /// The event came as bytes, or as a value of another type.
    Decoded(T),
    /// It lies in the event, which the call's context holds.
    OfEvent(Viewer<T>),
}

impl<T: DeserializeOwned> Lended<T> {
    fn of(ctx: &Context, view: Option<Viewer<T>>) -> Result<Self> {
        if let (Some(value), Some(view)) = (ctx.value(), view)
            && view(value).is_some()
        {
            return Ok(Lended::OfEvent(view));
        }
        ctx.borrow_payload().map(Lended::Decoded)
    }
}

impl<T> Lended<T> {
    /// The payload. `ctx` is that of the same call.
    ///
    /// # Errors
    /// `invalid_payload` when it is that of another one.
    pub fn get<'a>(&'a self, ctx: &'a Context) -> Result<&'a T> {
        match self {
            Lended::Decoded(data) => Ok(data),
            Lended::OfEvent(view) => ctx
                .value()
                .and_then(view)
                .ok_or_else(|| Error::new("invalid_payload", "the event's value is not there")),
        }
    }
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
    pub fn decode<C: DeserializeOwned>(self) -> Result<C> {
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
pub struct Running<P> {
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
        log::stop_forwarding();
        panic::remove_hook();
    }

    async fn create(host: HostRef, config: Vec<u8>) -> Result<Self, Failure> {
        let (runtime, handle) = OwnRuntime::start(P::RUNTIME).map_err(Error::into_parts)?;
        let scope = Scope { host, subscriptions: Subscriptions::default(), runtime: handle };
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
        cx: &mut task::Context<'_>,
    ) -> CallStart {
        let ctx = Context::of_call(Lent::of(this, |running| &running.scope), event);
        if handler >= FIRST_DYNAMIC {
            return call_dynamic(handler, ctx, cx);
        }
        match usize::try_from(handler).ok().and_then(|index| P::HANDLERS.get(index)) {
            Some(handler) => {
                let plugin = this.part(|running| &running.plugin);
                (handler.call)(Call { plugin, ctx, cx })
            }
            None => CallStart::Ready(unknown(handler)),
        }
    }

    fn snapshot(this: Shared<Self>, version: u32, cx: &mut task::Context<'_>) -> CallStart {
        let ctx = Context::of_instance(Lent::of(this, |running| &running.scope));
        state::snapshot(this.part(|running| &running.plugin), ctx, version, cx)
    }

    fn restore(
        this: Shared<Self>,
        version: u32,
        state: &[u8],
        cx: &mut task::Context<'_>,
    ) -> CallStart {
        let ctx = Context::of_instance(Lent::of(this, |running| &running.scope));
        state::restore(this.part(|running| &running.plugin), ctx, version, state, cx)
    }
}

fn call_dynamic(handler: u64, ctx: Context, cx: &mut task::Context<'_>) -> CallStart {
    let Some(subscribed) = ctx.scope().subscriptions.get(handler) else {
        // It was unsubscribed between the router's look-up and this call.
        return CallStart::Ready(CallEnd::NoReply);
    };
    // A clone, because the handler takes it by value and may keep it: it must count.
    subscribed(Context::clone(&ctx), cx)
}

fn unknown(handler: u64) -> CallEnd {
    failed(Error::new(
        "no_such_handler",
        format_args!("this plugin has no handler number {handler}"),
    ))
}

/// The JSON Schema of a type, for [`Handler`].
pub fn schema<T: schemars::JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}
