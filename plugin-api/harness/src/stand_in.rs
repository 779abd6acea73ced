//! Closures of the test in place of handlers of other plugins.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Context,
};

use ksi_abi::{Counted, EventObject, Pattern, ReplyForm};
use ksi_kernel::{
    call::{Callee, Started, outcome::CallOutcome},
    event::Event,
    label::Label,
    lock::Lock,
    session::HandlerSpec,
};
use ksi_plugin_api::{
    __private::testing::{call_end, decode, failed},
    Error, Result,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Harness, world::World};

/// The name under which stand-ins appear in reports.
pub(super) const STAND_IN: &str = "stand-in";

type Answer = Box<dyn Fn(&[u8]) -> CallOutcome + Send + Sync>;

/// A panic of the test's own code, on its way to the test.
pub(super) type FailedTest = Arc<Lock<Option<Box<dyn Any + Send>>>>;

/// One closure.
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
        StandIn::answering(pattern, move |data| call_end(closure(data), None).into())
    }

    fn answering<D: DeserializeOwned>(
        pattern: &str,
        answer: impl Fn(D) -> CallOutcome + Send + Sync + 'static,
    ) -> Result<Arc<Self>> {
        let answer = move |data: &[u8]| match decode(data) {
            Ok(data) => answer(data),
            Err(error) => failed(error).into(),
        };
        Ok(Arc::new(StandIn { pattern: Pattern::parse(pattern)?, answer: Box::new(answer) }))
    }
}

impl Harness {
    /// From now on `stand_in` handles the events that match, in place of another plugin. A reply
    /// that encodes as `null` is none. A panic in it fails the test.
    ///
    /// ```
    /// # use ksi_harness::Harness;
    /// # use ksi_plugin_api::prelude::*;
    /// # #[derive(Default)]
    /// # struct Reader;
    /// # #[plugin]
    /// # impl Reader {
    /// #     #[event_handler("reader:read")]
    /// #     async fn read(&self, ctx: &Context, key: Value) -> Result<Value> {
    /// #         ctx.request(named("state:get", &key)).await
    /// #     }
    /// # }
    /// # fn main() {
    /// # let plugin = Harness::start::<Reader>();
    /// plugin.on("state:get", |_: Value| Ok(json!({"value": 1})));
    /// # assert_eq!(plugin.emit("reader:read", "k").results(), [json!({"value": 1})]);
    /// # }
    /// ```
    ///
    /// # Panics
    /// When `pattern` is none.
    #[track_caller]
    pub fn on<D, R>(&self, pattern: &str, stand_in: impl Fn(D) -> Result<R> + Send + Sync + 'static)
    where
        D: DeserializeOwned,
        R: Serialize,
    {
        self.add(StandIn::new(pattern, stand_in));
    }

    #[track_caller]
    fn add(&self, stand_in: Result<Arc<StandIn>>) {
        match stand_in {
            Ok(stand_in) => self.world.stand_in(stand_in),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// All that there are, by their numbers.
struct StandIns {
    all: Vec<Arc<StandIn>>,
    failed: FailedTest,
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
            (None, _) => CallOutcome::NoReply,
            (Some(stand_in), Ok(payload)) => (stand_in.answer)(payload.as_bytes()),
            (_, Err((code, message))) => failed(Error::new(code, message)).into(),
        };
        Started::Ready(catch_unwind(AssertUnwindSafe(answer)).unwrap_or_else(|panic| {
            // It fails the test, and not the plugin that may be on the stack here.
            self.failed.lock().get_or_insert(panic);
            CallOutcome::Panicked { message: "a stand-in of the test panicked".into() }
        }))
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
