//! A candidate's `initialize` and `restore`, tried in a probe's process with a copy of the state that it would get.
//!
//! What kills or hangs that process is an error message in the host. There is no router there: whatever the plugin emits
//! is refused, its tasks never run, and `Context::is_trial` tells it so. An `initialize` that fails for that is no verdict.

use std::{convert::Infallible, future::Future, sync::Arc, task::Waker, time::Duration};

use ksi_plugin_api::abi::{
    BoundaryFuture, Buffer, CallEnd, EventObject, EventView, HostApi, HostRef, LogRecord, ModuleRef,
    ReportHandle, SpanRecord, SubscribeOptions,
    host::{SpanStep, WaitEnd},
    module,
};

use super::state;

/// What a candidate is tried with.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    /// The plugin's configuration, encoded.
    pub(crate) config: Vec<u8>,
    /// What is to be restored.
    pub(crate) snapshot: state::Snapshot,
}
