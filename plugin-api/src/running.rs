//! How a plugin becomes what its library exports.
//!
//! A call gets the instance, its scope and its runtime without counts, because counting costs each
//! call a locked instruction. All of them are there until the instance ends, which waits for the
//! futures of its calls and for nothing else.

#![allow(unsafe_code)]

use std::sync::Arc;

use ksi_abi::{
    Buffer, CallEnd, CallStart, Description, EmitDescription, EventHandle, HandlerDescription,
    HostRef, ModuleRef, RequirementDescription,
    export::{self, Exported, FailureTexts, FirstPoll, LibHeader, Shared},
    panic,
};

use crate::{
    call::Call,
    context::Context,
    error::{Error, Result},
    log, payload,
    plugin::{Plugin, RawConfig, SentSchemas},
    runtime::OwnRuntime,
    scope::{Caller, Scope},
    state,
    subscriptions::{FIRST_DYNAMIC, failed},
};

/// A plugin with what belongs to it. The order of the fields is the order in which they go: the
/// plugin first, then its runtime with all tasks on it, and the way to the host last.
struct Running<P> {
    plugin: P,
    _runtime: OwnRuntime,
    scope: Arc<Scope>,
}

impl<P> Drop for Running<P> {
    fn drop(&mut self) {
        // A handler that was subscribed at run time may hold a context, and with it the scope that
        // holds the handler.
        self.scope.subscriptions.clear();
    }
}

/// Ends subscriptions of an instance that is not made, however that comes: their handlers may hold
/// its context, and it holds them.
struct ClearedUnlessMade(Option<Arc<Scope>>);

impl ClearedUnlessMade {
    fn made(mut self) {
        self.0 = None;
    }
}

impl Drop for ClearedUnlessMade {
    fn drop(&mut self) {
        if let Some(scope) = &self.0 {
            scope.subscriptions.clear();
        }
    }
}

impl<P> Running<P> {
    /// What a call gets: the plugin and a context without counts of their own. They go into the
    /// call's future, which the unsafe functions of [`Call`] see to, or nowhere.
    ///
    /// # Safety
    /// The event is of the host that the instance was made with.
    #[inline]
    unsafe fn begun(
        this: Shared<Self>,
        event: Option<EventHandle>,
        first: FirstPoll<'_>,
    ) -> Call<'_, P> {
        // SAFETY: an instance keeps the scope that it was made with for its whole life. The context
        // goes into the call's future or nowhere. The event is the caller's promise.
        let caller = unsafe { Caller::of_call(this, |running| &running.scope, event) };
        Call { plugin: this.part(|running| &running.plugin), ctx: Context::of(caller), first }
    }
}

// SAFETY: what a call gets goes into its future alone; see `begun`.
unsafe impl<P: Plugin> Exported for Running<P> {
    fn describe() -> Result<Buffer, FailureTexts> {
        let handlers = P::HANDLERS.iter().map(|handler| {
            let SentSchemas { sent, read } = (handler.reply_schema)();
            HandlerDescription {
                name: handler.name.to_owned(),
                summary: handler.summary.to_owned(),
                payload: (handler.payload_schema)(),
                reply: sent,
                reply_read: read,
                payload_type: Some((handler.payload_type)()),
            }
        });
        let emits = P::EMITS.iter().zip(P::EMIT_SCHEMAS).zip(P::EMIT_TYPES);
        let emits = emits.map(|((event, schemas), payload_type)| {
            let SentSchemas { sent, read } = schemas();
            let (event, payload_type) = ((*event).to_owned(), payload_type());
            EmitDescription { event, schema: sent, read, payload_type }
        });
        let requires = P::REQUIRES.iter().zip(P::REPLY_SCHEMAS);
        let requires = requires.map(|(event, reply)| RequirementDescription {
            event: (*event).to_owned(),
            reply: reply(),
        });
        let description = Description {
            handlers: handlers.collect(),
            emits: emits.collect(),
            requires: requires.collect(),
        };
        payload::encode(&description).map_err(Error::into_parts)
    }

    fn enter_library(host: &HostRef) {
        panic::install_hook(log::uncaught_panic);
        log::forward_to(host);
    }

    fn log_level_changed() {
        log::level_changed();
    }

    fn leave_library() {
        // The panic hook stays: thread-locals and threads of the plugin may panic after its end.
        log::stop_forwarding();
    }

    async fn create(host: HostRef, config: Vec<u8>) -> Result<Self, FailureTexts> {
        let (runtime, handle) = OwnRuntime::start(P::RUNTIME).map_err(Error::into_parts)?;
        let scope = Arc::new(Scope::new(host, handle));
        let unless_made = ClearedUnlessMade(Some(scope.clone()));
        let ctx = Context::of(Caller::new(scope.clone()));
        let made = P::initialize(ctx, RawConfig::new(config));
        let plugin = scope.runtime.clone().enter(made).await.map_err(Error::into_parts)?;
        unless_made.made();
        Ok(Running { plugin, _runtime: runtime, scope })
    }

    #[inline]
    unsafe fn call(
        this: Shared<Self>,
        handler: u64,
        event: EventHandle,
        first: FirstPoll<'_>,
    ) -> CallStart {
        // SAFETY: the event is of the host that the instance was made with, as the caller promises.
        let begun = |event, first| unsafe { Self::begun(this, Some(event), first) };
        if handler >= FIRST_DYNAMIC {
            return call_dynamic(handler, begun(event, first));
        }
        match usize::try_from(handler).ok().and_then(|index| P::HANDLERS.get(index)) {
            // Begun where it goes, because it would be moved there otherwise.
            Some(handler) => (handler.call)(begun(event, first)),
            None => unknown(handler).into(),
        }
    }

    fn snapshot(this: Shared<Self>, version: u32, first: FirstPoll<'_>) -> CallStart {
        // SAFETY: there is no event.
        state::snapshot(unsafe { Self::begun(this, None, first) }, version)
    }

    fn restore(this: Shared<Self>, version: u32, state: &[u8], first: FirstPoll<'_>) -> CallStart {
        // SAFETY: as above.
        state::restore(unsafe { Self::begun(this, None, first) }, version, state)
    }

    fn read_back(version: u32, state: &[u8]) -> Result<(), FailureTexts> {
        state::read_back::<P>(version, state).map_err(Error::into_parts)
    }
}

fn call_dynamic<P>(handler: u64, call: Call<'_, P>) -> CallStart {
    match call.ctx.scope().subscriptions.get(handler) {
        Some(subscribed) => subscribed(&call.ctx, call.first),
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

/// The module of a plugin that is compiled into this binary, for tests of hosts.
pub fn module<P: Plugin>() -> ModuleRef {
    export::module::<InProcess<P>>()
}

/// The plugin without what it would do to a library of its own: the test keeps its panic hook and
/// its `tracing`.
pub struct InProcess<P>(Running<P>);

// SAFETY: all goes to `Running`, for which it holds.
unsafe impl<P: Plugin> Exported for InProcess<P> {
    fn describe() -> Result<Buffer, FailureTexts> {
        Running::<P>::describe()
    }

    fn enter_library(_: &HostRef) {}

    fn log_level_changed() {}

    fn leave_library() {}

    async fn create(host: HostRef, config: Vec<u8>) -> Result<Self, FailureTexts> {
        Running::<P>::create(host, config).await.map(InProcess)
    }

    unsafe fn call(
        this: Shared<Self>,
        handler: u64,
        event: EventHandle,
        first: FirstPoll<'_>,
    ) -> CallStart {
        // SAFETY: promised by the caller.
        unsafe { Running::call(this.part(|this| &this.0), handler, event, first) }
    }

    fn snapshot(this: Shared<Self>, version: u32, first: FirstPoll<'_>) -> CallStart {
        Running::snapshot(this.part(|this| &this.0), version, first)
    }

    fn restore(this: Shared<Self>, version: u32, state: &[u8], first: FirstPoll<'_>) -> CallStart {
        Running::restore(this.part(|this| &this.0), version, state, first)
    }

    fn read_back(version: u32, state: &[u8]) -> Result<(), FailureTexts> {
        Running::<P>::read_back(version, state)
    }
}
