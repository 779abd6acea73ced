//! An instance that can be called, and who still calls it.

use std::{sync::Arc, task::Context};

use ksi_abi::{Counted, ReplyForm};
use ksi_kernel::{
    call::{Callee, Started, outcome::CallOutcome},
    event::Event,
    value::Keeper,
};
use tokio::sync::oneshot;

use super::{
    body::{Body, Unused},
    info::GenerationInfo,
};
use crate::crash::{self, Journal};

/// An instance that can be called, for those who ask more of it than calls.
pub(crate) trait LiveInstance: Callee {
    /// The instance, which is there for as long as somebody holds this.
    fn body(&self) -> Option<&dyn Body>;

    /// The version of the plugin that it is of.
    fn version(&self) -> &str;

    /// What keeps the code of values that it gives, if it gives any.
    fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        self.body()?.keeper()
    }
}

/// An instance that can be called.
///
/// Routes and calls in flight hold it. When the last of them lets go, the instance goes to whoever
/// retires the generation, wherever that happens: it is never dropped here, because dropping it
/// runs plugin code.
///
/// The instance itself lies in it, so that a call is one jump from the route to the code that is of
/// this kind of instance.
pub(crate) struct Live<B: Body> {
    body: Option<B>,
    unused: Option<oneshot::Sender<Box<dyn Body>>>,
    first_calls: FirstCalls,
}

/// How first calls of its handlers are noted.
pub(crate) struct FirstCalls {
    pub(crate) info: Arc<GenerationInfo>,
    pub(crate) journal: Option<Arc<Journal>>,
}

impl<B: Body> Live<B> {
    /// The instance, and where it comes out again when nobody uses it any more.
    pub(crate) fn new(body: B, first_calls: FirstCalls) -> (Arc<Self>, Unused) {
        let (sender, receiver) = oneshot::channel();
        let (body, unused) = (Some(body), Some(sender));
        (Arc::new(Live { body, unused, first_calls }), receiver)
    }
}

impl<B: Body> LiveInstance for Live<B> {
    fn body(&self) -> Option<&dyn Body> {
        self.body.as_ref().map(|body| body as &dyn Body)
    }

    fn version(&self) -> &str {
        &self.first_calls.info.manifest.version
    }
}

impl<B: Body> Callee for Live<B> {
    fn start(
        &self,
        handler: u64,
        event: Counted<Event>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Started {
        let Some(body) = &self.body else {
            return Started::Ready(CallOutcome::Rejected { reason: "the plugin is gone".into() });
        };
        body.start(handler, event, form, cx)
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

impl<B: Body> Drop for Live<B> {
    fn drop(&mut self) {
        if let (Some(body), Some(unused)) = (self.body.take(), self.unused.take())
            && let Err(body) = unused.send(Box::new(body))
        {
            // Whoever was to retire it is gone: the host is ending. Its library stays mapped with
            // it.
            std::mem::forget(body);
        }
    }
}

/// What stands in the place of an instance while there is none. Whoever calls it is told so; mostly
/// a gate is closed before it, so that nobody does.
pub(crate) struct NoInstance;

impl Callee for NoInstance {
    fn start(&self, _: u64, _: Counted<Event>, _: &ReplyForm, _: &mut Context<'_>) -> Started {
        Started::Ready(CallOutcome::Rejected { reason: "the plugin is being replaced".into() })
    }
}

impl LiveInstance for NoInstance {
    fn body(&self) -> Option<&dyn Body> {
        None
    }

    fn version(&self) -> &str {
        ""
    }
}
