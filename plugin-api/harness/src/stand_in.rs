//! Closures of the test in place of handlers of other plugins.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Context,
    time::Duration,
};

use ksi_abi::{Counted, EventObject, Failure, Pattern, ReplyForm};
use ksi_kernel::{
    call::{
        Callee, Started,
        outcome::{CallOutcome, CallReply},
    },
    event::Event,
    label::Label,
    lock::Lock,
    session::HandlerSpec,
};
use ksi_plugin_api::{
    __private::testing::{call_end, decode, encode, failed},
    Error, OutcomeKind, Result,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Harness, world::World};

/// The name under which stand-ins appear in reports.
pub(super) const STAND_IN: &str = "stand-in";

/// What a handler has by default, and what is told of one that is played to have taken longer.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

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
    /// It answers at once and sees nothing but the payload. One that takes time, that looks at the
    /// event or emits others, is a handler of a plugin that the test plays:
    /// [`other`](Self::other).
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

    /// The same for a call that may end in each way that there is: with a panic, with the end of
    /// the process that it ran in, or by its deadline. Of a time-out, the message is the host's.
    ///
    /// ```
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::{ErrorKind, prelude::*};
    ///
    /// #[derive(Default)]
    /// struct Shop;
    ///
    /// #[plugin]
    /// impl Shop {
    ///     #[event_handler("shop:sell")]
    ///     async fn sell(&self, ctx: &Context, item: String) -> Result<String> {
    ///         match ctx.request::<()>(named("till:ring", &item)).await {
    ///             Err(error) if error.kind() == ErrorKind::Crashed => Ok("on account".to_owned()),
    ///             rung => rung.map(|()| "paid".to_owned()),
    ///         }
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let shop = Harness::start::<Shop>();
    /// shop.on_outcome("till:ring", |_: Value| OutcomeKind::Crashed { message: "killed".into() });
    /// assert_eq!(shop.emit("shop:sell", "a pen").results(), [json!("on account")]);
    /// # }
    /// ```
    ///
    /// # Panics
    /// When `pattern` is none.
    #[track_caller]
    pub fn on_outcome<D: DeserializeOwned>(
        &self,
        pattern: &str,
        stand_in: impl Fn(D) -> OutcomeKind + Send + Sync + 'static,
    ) {
        self.add(StandIn::answering(pattern, move |data| outcome(stand_in(data))));
    }

    #[track_caller]
    fn add(&self, stand_in: Result<Arc<StandIn>>) {
        match stand_in {
            Ok(stand_in) => self.world.stand_in(stand_in),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// How the call ends that is told to end like this.
fn outcome(kind: OutcomeKind) -> CallOutcome {
    match kind {
        OutcomeKind::Replied(reply) => match encode(&reply) {
            Ok(reply) => CallOutcome::Replied(CallReply::Bytes(reply)),
            Err(error) => failed(error).into(),
        },
        OutcomeKind::NoReply => CallOutcome::NoReply,
        OutcomeKind::Failed { code, message } => CallOutcome::Failed(Failure::new(&code, &message)),
        OutcomeKind::Panicked { message } => {
            CallOutcome::Panicked { message: message.as_str().into() }
        }
        OutcomeKind::Crashed { message } => CallOutcome::Crashed { message: message.into() },
        OutcomeKind::TimedOut { .. } => CallOutcome::TimedOut { after: DEFAULT_TIMEOUT },
        OutcomeKind::Rejected { reason } => CallOutcome::Rejected { reason: reason.into() },
        other => failed(Error::new("unknown_outcome", format_args!("{other:?}"))).into(),
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
