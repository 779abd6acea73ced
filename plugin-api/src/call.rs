//! How the code that `#[plugin]` writes runs an author's methods: calls of handlers, snapshots and
//! restores.
//!
//! A method gets the plugin and a context without a count of either, because counting costs each
//! call a locked instruction. Both are there until the instance ends, which waits for the futures
//! of its calls and for nothing else. So whoever runs a method promises that both stay in its
//! future: the functions are unsafe, and generated code alone calls them.

#![allow(unsafe_code)]

use std::future::Future;

use ksi_abi::{
    CallEnd, CallStart,
    export::FirstPoll,
    probe::{Give, Giving},
};

use crate::{
    context::Context,
    error::Result,
    payload,
    plugin::PluginRef,
    runtime, state,
    subscriptions::{call_end, failed},
    types::{RestoredSnapshot, TakenSnapshot},
};

/// A call of a handler that is about to start, or another one that the host makes.
pub struct Call<'a, P> {
    pub(crate) plugin: PluginRef<P>,
    pub(crate) ctx: Context,
    pub(crate) first: FirstPoll<'a>,
}

impl<P> Call<'_, P> {
    /// Makes the future of a handler, which takes its payload from the context, and polls it once.
    ///
    /// # Safety
    /// The plugin and the context that `handler` gets go into the future that it gives, and nowhere
    /// else.
    #[inline]
    pub unsafe fn run<R, F, Fut>(self, give: Giving<R>, handler: F) -> CallStart
    where
        F: FnOnce(PluginRef<P>, Context, Give<R>) -> Fut,
        Fut: Future<Output = CallEnd> + Send + 'static,
    {
        let Call { plugin, ctx, first } = self;
        let (give, runtime) = (give(first.form()), ctx.scope().runtime.of_call());
        runtime::start(runtime, first, || handler(plugin, ctx, give))
    }
}

/// A snapshot that is about to be taken.
pub struct Taking<'a, P>(pub(crate) Call<'a, P>);

impl<P> Taking<'_, P> {
    /// Polls the method once; what it gives is encoded, unless some of it would not come back as it
    /// is.
    ///
    /// # Safety
    /// As in [`Call::run`], for the future of `method`.
    pub unsafe fn run<S, F, Fut>(self, method: F) -> CallStart
    where
        S: TakenSnapshot,
        F: FnOnce(PluginRef<P>, Context) -> Fut,
        Fut: Future<Output = Result<S>> + Send + 'static,
    {
        let Call { plugin, ctx, first } = self.0;
        let runtime = ctx.scope().runtime.of_call();
        let state = method(plugin, ctx);
        let ended = async move {
            // Not as replies are: a snapshot that encodes as `null` is one.
            match state.await.and_then(|state| state::encode(&state)) {
                Ok(snapshot) => CallEnd::Reply(snapshot),
                Err(error) => failed(error),
            }
        };
        runtime::start(runtime, first, || ended)
    }
}

/// A snapshot that is about to be restored.
pub struct Restoring<'a, P> {
    pub(crate) call: Call<'a, P>,
    pub(crate) version: u32,
    pub(crate) state: &'a [u8],
}

impl<P> Restoring<'_, P> {
    /// Decodes the snapshot, whose bytes are not kept, and polls the method once.
    ///
    /// # Safety
    /// As in [`Call::run`], for the future of `method`.
    pub unsafe fn run<S, F, Fut>(self, method: F) -> CallStart
    where
        S: RestoredSnapshot,
        F: FnOnce(PluginRef<P>, Context, S) -> Fut,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let state = match payload::decode(self.state) {
            Ok(state) => state,
            Err(error) => return failed(state::invalid(self.version, &error)).into(),
        };
        let Call { plugin, ctx, first } = self.call;
        let runtime = ctx.scope().runtime.of_call();
        let restored = method(plugin, ctx, state);
        runtime::start(runtime, first, || async move { call_end(restored.await, None) })
    }
}
