//! The state of a plugin on its way out of one instance and into another, of the same version or of
//! another one.
//!
//! The version of a snapshot is that of its shape, not that of the plugin. This module knows which
//! ones a plugin writes and restores, and that nothing is given away that could not be read back
//! (`carried`); it knows neither where snapshots are kept nor when they are taken.

mod carried;

use ksi_abi::CallStart;

use crate::{
    call::{Call, Restoring, Taking},
    error::{Error, Result},
    payload,
    plugin::Plugin,
    subscriptions::failed,
    types::RestoredSnapshot,
};

pub(crate) use carried::encode;

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
    /// Reads one and lets it go: [`read_as`] of its type.
    pub read: fn(&[u8]) -> Result<()>,
}

/// Reads a snapshot of type `S`.
///
/// # Errors
/// Where in it the type does not fit.
pub fn read_as<S: RestoredSnapshot>(state: &[u8]) -> Result<()> {
    payload::decode::<S>(state).map(drop)
}

/// Reads a snapshot of `version` as it is read to restore it, and changes nothing.
pub(crate) fn read_back<P: Plugin>(version: u32, state: &[u8]) -> Result<()> {
    match P::RESTORES.iter().find(|known| known.version == version) {
        Some(known) => (known.read)(state).map_err(|error| invalid(version, &error)),
        None => Err(not_restored::<P>(version)),
    }
}

pub(crate) fn invalid(version: u32, error: &Error) -> Error {
    let text = format_args!("the snapshot is not one of version {version}: {error}");
    Error::new("invalid_snapshot", text)
}

/// Starts to take a snapshot of `version`.
pub(crate) fn snapshot<P: Plugin>(call: Call<'_, P>, version: u32) -> CallStart {
    if let Some(known) = P::SNAPSHOTS.iter().find(|known| known.version == version) {
        return (known.call)(Taking(call));
    }
    let written: Vec<u32> = P::SNAPSHOTS.iter().map(|known| known.version).collect();
    let what = format_args!("and one of version {version} was asked for");
    failed(unknown("writes", &written, what)).into()
}

/// Starts to restore a snapshot of `version`.
pub(crate) fn restore<P: Plugin>(call: Call<'_, P>, version: u32, state: &[u8]) -> CallStart {
    if let Some(known) = P::RESTORES.iter().find(|known| known.version == version) {
        return (known.call)(Restoring { call, version, state });
    }
    failed(not_restored::<P>(version)).into()
}

fn not_restored<P: Plugin>(version: u32) -> Error {
    let restored: Vec<u32> = P::RESTORES.iter().map(|known| known.version).collect();
    let what = format_args!(
        "and this one is of version {version}: load a version of the plugin that wrote it, or give this one a \
         #[restore(version = {version})]"
    );
    unknown("restores", &restored, what)
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
