//! What can be called: the plugin's handlers, and stand-ins for others.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Context,
    time::Duration,
};

use ksi_abi::{
    CallEnd, Counted, EventObject, Pattern, ReplyForm, Start,
    local::{GoesOn, Local},
};
use ksi_kernel::{
    call::{Callee, Started, outcome::CallOutcome},
    event::Event,
    label::Label,
    lock::Lock,
    session::HandlerSpec,
};
use ksi_plugin_api::{
    __private::testing::{call_end, decode, failed},
    Error, Plugin, Result,
};
use serde::{Serialize, de::DeserializeOwned};

use super::world::World;

/// The event that goes to the plugin alone, when it is retired. It is never routed.
pub(super) const SHUTDOWN_EVENT: &str = "module:shutdown";

/// The name under which stand-ins appear in reports.
pub(super) const STAND_IN: &str = "stand-in";

/// The plugin's instance.
pub(super) struct Instance(pub(super) Local<World>);

impl Callee for Instance {
    fn start(
        &self,
        handler: u64,
        event: Counted<Event>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Started {
        match self.0.call(handler, event, form, cx) {
            Start::Ready(end) => Started::Ready(end.into()),
            Start::Pending(call) => Started::Host(Box::pin(async move { call.await.into() })),
        }
    }
}

/// What an instance is asked beside calls.
pub(super) type Asked = Start<CallEnd, GoesOn>;

type Answer = Box<dyn Fn(&[u8]) -> CallEnd + Send + Sync>;

/// A closure of the test in place of a handler of another plugin.
pub(super) struct StandIn {
    pattern: Pattern,
    answer: Answer,
}

impl StandIn {
    pub(super) fn new<D, R>(
        pattern: &str,
        closure: impl Fn(D) -> Result<R> + Send + Sync + 'static,
    ) -> Result<Arc<Self>>
    where
        D: DeserializeOwned,
        R: Serialize,
    {
        let answer = move |data: &[u8]| match decode(data) {
            Ok(data) => call_end(closure(data), None),
            Err(error) => failed(error),
        };
        Ok(Arc::new(StandIn { pattern: Pattern::parse(pattern)?, answer: Box::new(answer) }))
    }
}

/// All that there are, by their numbers.
struct StandIns {
    all: Vec<Arc<StandIn>>,
    failed: Arc<Lock<Option<Box<dyn Any + Send>>>>,
}

impl Callee for StandIns {
    fn start(
        &self,
        handler: u64,
        event: Counted<Event>,
        _: &ReplyForm,
        _: &mut Context<'_>,
    ) -> Started {
        let stand_in = usize::try_from(handler).ok().and_then(|number| self.all.get(number));
        let answer = || match (stand_in, EventObject::payload(&*event)) {
            (None, _) => CallEnd::NoReply,
            (Some(stand_in), Ok(payload)) => (stand_in.answer)(payload.as_bytes()),
            (_, Err((code, message))) => failed(Error::new(code, message)),
        };
        Started::Ready(match catch_unwind(AssertUnwindSafe(answer)) {
            Ok(end) => end.into(),
            Err(panic) => {
                // It fails the test, and not the plugin that may be on the stack here.
                self.failed.lock().get_or_insert(panic);
                CallOutcome::Panicked { message: "a stand-in of the test panicked".into() }
            }
        })
    }
}

impl World {
    /// Leads events to one more stand-in.
    pub(super) fn stand_in(&self, stand_in: Arc<StandIn>) {
        let mut state = self.state.lock();
        state.handled_by.push(stand_in);
        let all = state.handled_by.clone();
        let spec = |stand_in: &Arc<StandIn>| HandlerSpec {
            name: stand_in.pattern.as_str().into(),
            label: Label::new(STAND_IN),
            patterns: vec![stand_in.pattern.clone()],
            priority: 0,
            timeout: None,
            blocking: false,
        };
        let specs: Vec<HandlerSpec> = all.iter().map(spec).collect();
        let callee: Arc<dyn Callee> = Arc::new(StandIns { all, failed: self.failed.clone() });
        let declared = self.stand_ins.declared(specs, callee.clone(), None);
        self.stand_ins.attach(declared, callee, None);
    }
}

/// The handlers of plugin `P`, in the order of declaration: for all that is routed to them, or for
/// [`SHUTDOWN_EVENT`] alone. A pattern that is none is refused; the macro lets none pass.
pub(super) fn declared<P: Plugin>(at_shutdown: bool) -> Result<Vec<HandlerSpec>> {
    let spec = |handler: &ksi_plugin_api::Handler<P>| {
        let own = handler.subscriptions.iter();
        let own = own.filter(|pattern| (**pattern == SHUTDOWN_EVENT) == at_shutdown);
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
