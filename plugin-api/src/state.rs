//! The state of a plugin on its way out of one instance and into another, of the same version or of another one.
//!
//! The version of a snapshot is that of its shape, not that of the plugin. This module knows which ones a plugin writes
//! and restores; it knows neither where snapshots are kept nor when they are taken.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    abi::{CallEnd, CallStart, export::FirstPoll},
    context::Context,
    error::{Error, Result},
    payload,
    plugin::{Plugin, PluginRef},
    subscriptions::{call_end, failed},
};

/// One version of snapshots that a plugin writes.
pub struct Snapshot<P> {
    /// The version, at least 1.
    pub version: u32,
    /// Starts to take one.
    pub call: fn(Taking<'_, P>) -> CallStart,
}

/// One version of snapshots that a plugin restores.
pub struct Restore<P> {
    /// The version, at least 1.
    pub version: u32,
    /// Starts to restore one.
    pub call: fn(Restoring<'_, P>) -> CallStart,
}

/// A snapshot that is about to be taken.
pub struct Taking<'a, P> {
    plugin: PluginRef<P>,
    ctx: Context,
    first: FirstPoll<'a>,
}

impl<P> Taking<'_, P> {
    /// Polls the method once; what it gives is encoded.
    pub fn run<S, F, Fut>(self, method: F) -> CallStart
    where
        S: Serialize,
        F: FnOnce(PluginRef<P>, Context) -> Fut,
        Fut: Future<Output = Result<S>> + Send + 'static,
    {
        let scope = self.ctx.lent_scope();
        let state = method(self.plugin, self.ctx);
        let ended = async move {
            // Not as replies are: a snapshot that encodes as `null` is one.
            match state.await.and_then(|state| payload::encode(&state)) {
                Ok(snapshot) => CallEnd::Reply(snapshot),
                Err(error) => failed(error),
            }
        };
        scope.runtime.start(self.first, || ended)
    }
}

/// A snapshot that is about to be restored.
pub struct Restoring<'a, P> {
    plugin: PluginRef<P>,
    ctx: Context,
    version: u32,
    state: &'a [u8],
    first: FirstPoll<'a>,
}

impl<P> Restoring<'_, P> {
    /// Decodes the snapshot, whose bytes are not kept, and polls the method once.
    pub fn run<S, F, Fut>(self, method: F) -> CallStart
    where
        S: DeserializeOwned,
        F: FnOnce(PluginRef<P>, Context, S) -> Fut,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let state = match payload::decode(self.state) {
            Ok(state) => state,
            Err(error) => {
                let version = self.version;
                let text = format!("the snapshot is not one of version {version}: {error}");
                return failed(Error::new("invalid_snapshot", text)).into();
            }
        };
        let scope = self.ctx.lent_scope();
        let restored = method(self.plugin, self.ctx, state);
        scope.runtime.start(self.first, || async move { call_end(restored.await, None) })
    }
}

/// Starts to take a snapshot of `version`.
pub(crate) fn snapshot<P: Plugin>(
    plugin: PluginRef<P>,
    ctx: Context,
    version: u32,
    first: FirstPoll<'_>,
) -> CallStart {
    if let Some(known) = P::SNAPSHOTS.iter().find(|known| known.version == version) {
        return (known.call)(Taking { plugin, ctx, first });
    }
    let written: Vec<u32> = P::SNAPSHOTS.iter().map(|known| known.version).collect();
    let what = format_args!("and one of version {version} was asked for");
    failed(unknown("writes", &written, what)).into()
}

/// Starts to restore a snapshot of `version`.
pub(crate) fn restore<P: Plugin>(
    plugin: PluginRef<P>,
    ctx: Context,
    version: u32,
    state: &[u8],
    first: FirstPoll<'_>,
) -> CallStart {
    if let Some(known) = P::RESTORES.iter().find(|known| known.version == version) {
        return (known.call)(Restoring { plugin, ctx, version, state, first });
    }
    let restored: Vec<u32> = P::RESTORES.iter().map(|known| known.version).collect();
    let what = format_args!(
        "and this one is of version {version}: load a version of the plugin that wrote it, or give this one a \
         #[restore(version = {version})]"
    );
    failed(unknown("restores", &restored, what)).into()
}

fn unknown(does: &str, versions: &[u32], what: std::fmt::Arguments<'_>) -> Error {
    let mut ascending = versions.iter().rev().map(u32::to_string).collect::<Vec<_>>();
    let Some(last) = ascending.pop() else {
        return Error::new("no_state", "this plugin keeps no state: it has no #[snapshot]");
    };
    let listed = match ascending.as_slice() {
        [] => last,
        others => format!("{} and {last}", others.join(", ")),
    };
    let text = format_args!("this plugin {does} snapshots of version {listed}, {what}");
    Error::new("unknown_snapshot_version", text)
}
