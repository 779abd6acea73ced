//! One instance of a plugin, wherever it lives: what can be asked of it, and nothing of how it is
//! reached.
//!
//! The router calls it, and whoever keeps or hands over state asks it for that, without knowing
//! whether it is in a library of this process. All of it is plugin code: it runs on dispatch
//! workers, and so does its end.

use std::{future::Future, pin::Pin, sync::Arc, task::Context};

use ksi_abi::{Counted, ReplyForm};
use ksi_kernel::{call::Started, event::Event, report::OutcomeKind, value::Keeper};
use tokio::sync::oneshot;

use super::live::{FirstCalls, LiveInstance};

/// What an instance says in its own time.
pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = OutcomeKind> + Send + 'a>>;

/// An instance that comes out again once nobody uses it any more.
pub(crate) type Unused = oneshot::Receiver<Box<dyn Body>>;

/// An instance; see the module. Dropping it ends it.
pub(crate) trait Body: Send + Sync + 'static {
    /// Starts a call of a handler with its first poll.
    fn start(
        &self,
        handler: u64,
        event: Counted<Event>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Started;

    /// Takes a snapshot of its state, of this version.
    fn snapshot(&self, version: u32) -> Answer<'_>;

    /// Restores one.
    fn restore<'a>(&'a self, version: u32, bytes: &'a [u8]) -> Answer<'a>;

    /// Whether the type that restores a snapshot can read it; nothing is restored.
    fn read_back<'a>(&'a self, version: u32, bytes: &'a [u8]) -> Answer<'a>;

    /// Events come to it from here on: told before the first one does.
    fn goes_live(&self) {}

    /// Ends the background tasks that it has where its host does not run them.
    fn end_tasks(&self) -> Answer<'_> {
        Box::pin(async { OutcomeKind::NoReply })
    }

    /// Whether it can still be called: what it runs in is there.
    fn is_there(&self) -> bool {
        true
    }

    /// What keeps the code of values that it gives, if it gives any.
    fn keeper(&self) -> Option<Arc<dyn Keeper>>;

    /// Makes it callable. Routes hold the very instance and no reference to one: see
    /// [`Live`](super::live::Live).
    fn into_live(self: Box<Self>, first_calls: FirstCalls) -> (Arc<dyn LiveInstance>, Unused);
}
