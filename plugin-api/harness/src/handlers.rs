//! What can be called of the plugin under test: its instances, by the handlers that it declares.

use std::{sync::Arc, task::Context, time::Duration};

use ksi_abi::{
    CallEnd, Counted, Pattern, ReplyForm, Start,
    local::{GoesOn, Local},
};
use ksi_kernel::{
    call::{Callee, Started, outcome::CallOutcome},
    event::Event,
    label::Label,
    session::HandlerSpec,
};
use ksi_plugin_api::{Plugin, Result};
use tokio::sync::oneshot;

use super::generation::Generation;

/// The event that goes to the plugin alone, when it is retired. It is never routed.
pub(super) const SHUTDOWN_EVENT: &str = "module:shutdown";
/// The same, with another configuration for it.
pub(super) const CONFIGURE_EVENT: &str = "module:configure";

/// Which handlers are meant.
pub(super) enum Declared {
    /// Those that events are routed to.
    Routed,
    /// Those that are called with this event alone.
    Only(&'static str),
}

pub(super) use Declared::{Only, Routed};

/// An instance, as the router knows it. When the last one lets go of it, no call uses it any more,
/// and whoever waits for that gets what it was.
pub(super) struct Instance {
    local: Option<Local<Generation>>,
    unused: Option<oneshot::Sender<Local<Generation>>>,
}

impl Instance {
    pub(super) fn new(
        local: Local<Generation>,
    ) -> (Arc<Self>, oneshot::Receiver<Local<Generation>>) {
        let (unused, wait) = oneshot::channel();
        (Arc::new(Instance { local: Some(local), unused: Some(unused) }), wait)
    }

    /// What it is asked beside calls.
    pub(super) fn local(&self) -> Option<&Local<Generation>> {
        self.local.as_ref()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some((local, unused)) = self.local.take().zip(self.unused.take()) {
            // If nobody waits for it, it ends here.
            drop(unused.send(local));
        }
    }
}

impl Callee for Instance {
    fn start(
        &self,
        handler: u64,
        event: Counted<Event>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Started {
        // It is taken out in `drop` alone.
        let Some(local) = &self.local else { return Started::Ready(CallOutcome::NoReply) };
        match local.call(handler, event, form, cx) {
            Start::Ready(end) => Started::Ready(end.into()),
            Start::Pending(call) => Started::Host(Box::pin(async move { call.await.into() })),
        }
    }
}

/// Nobody: what an exclusive plugin's events would reach while it has no instance.
pub(super) struct NoInstance;

impl Callee for NoInstance {
    fn start(&self, _: u64, _: Counted<Event>, _: &ReplyForm, _: &mut Context<'_>) -> Started {
        Started::Ready(CallOutcome::Rejected { reason: "the plugin has no instance now".into() })
    }
}

/// What an instance is asked beside calls.
pub(super) type Asked = Start<CallEnd, GoesOn>;

/// The handlers of plugin `P`, in the order of declaration, each with the patterns that are meant.
/// A pattern that is none is refused; the macro lets none pass.
pub(super) fn declared<P: Plugin>(meant: Declared) -> Result<Vec<HandlerSpec>> {
    let is_meant = |pattern: &str| match meant {
        Only(event) => pattern == event,
        Routed => ![SHUTDOWN_EVENT, CONFIGURE_EVENT].contains(&pattern),
    };
    let spec = |handler: &ksi_plugin_api::Handler<P>| {
        let own = handler.subscriptions.iter();
        let own = own.filter(|pattern| is_meant(pattern));
        Ok(HandlerSpec {
            name: handler.name.into(),
            label: Label::new(P::NAME),
            patterns: own.map(|pattern| Pattern::parse(pattern)).collect::<Result<_, _>>()?,
            priority: handler.priority,
            timeout: (handler.timeout_ms > 0).then(|| Duration::from_millis(handler.timeout_ms)),
            blocking: handler.blocking,
        })
    };
    P::HANDLERS.iter().map(spec).collect()
}
