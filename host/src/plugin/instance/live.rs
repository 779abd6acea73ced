//! An instance that can be called, and who still calls it.

use std::{sync::Arc, task::Context};

use ksi_abi::{Counted, EventHandle, Instance, ReplyForm, Start};
use ksi_kernel::{
    call::{Callee, Started, outcome::Ended},
    event::Event,
};
use tokio::sync::oneshot;

use super::info::GenerationInfo;
use crate::crash::{self, Journal};

/// An instance that can be called.
///
/// Routes and calls in flight hold it. When the last of them lets go, the instance goes to whoever retires the
/// generation, wherever that happens: it is never dropped here, because dropping it runs plugin code.
pub(crate) struct LiveInstance {
    instance: Option<Instance>,
    unused: Option<oneshot::Sender<Instance>>,
    first_calls: FirstCalls,
}

/// How first calls of its handlers are noted.
pub(crate) struct FirstCalls {
    pub(crate) info: Arc<GenerationInfo>,
    pub(crate) journal: Option<Arc<Journal>>,
}

impl LiveInstance {
    /// The instance, and where it comes out again when nobody uses it any more.
    pub(crate) fn new(
        instance: Instance,
        first_calls: FirstCalls,
    ) -> (Arc<Self>, oneshot::Receiver<Instance>) {
        let (sender, receiver) = oneshot::channel();
        let (instance, unused) = (Some(instance), Some(sender));
        (Arc::new(LiveInstance { instance, unused, first_calls }), receiver)
    }
}

impl LiveInstance {
    /// The instance, which is there for as long as somebody holds this.
    pub(in crate::plugin) fn instance(&self) -> Option<&Instance> {
        self.instance.as_ref()
    }

    /// The version of the plugin that it is of.
    pub(in crate::plugin) fn version(&self) -> &str {
        &self.first_calls.info.manifest.version
    }
}

impl Callee for LiveInstance {
    fn start(
        &self,
        handler: u64,
        event: Counted<Event>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Started {
        let Some(instance) = &self.instance else {
            return Started::Ready(Ended::Rejected { reason: "the plugin is gone".into() });
        };
        match instance.call(handler, EventHandle::new(event), form, cx).into_start() {
            Start::Ready(end) => Started::Ready(end.into()),
            Start::Pending(future) => Started::Plugin(future),
        }
    }

    fn first_call(&self, handler: u64, event: &str, call: (u64, u64), poll: &mut dyn FnMut()) {
        let FirstCalls { info, journal } = &self.first_calls;
        let Some(journal) = journal else { return poll() };
        let handlers = &info.manifest.handlers;
        let declared = usize::try_from(handler).ok().and_then(|number| handlers.get(number));
        let step = match declared {
            Some(declared) => format!("the first call of {}, with event {event}", declared.name),
            None => format!("the first call of a subscription, with event {event}"),
        };
        crash::note(Some(journal), &info.about(step)).during_call(call, poll);
    }
}

impl Drop for LiveInstance {
    fn drop(&mut self) {
        if let (Some(instance), Some(unused)) = (self.instance.take(), self.unused.take())
            && let Err(instance) = unused.send(instance)
        {
            // Whoever was to retire it is gone: the host is ending. Its library stays mapped with it.
            std::mem::forget(instance);
        }
    }
}
