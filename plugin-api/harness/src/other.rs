//! Other plugins, played by the test.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{self, Poll, Waker},
};

use ksi_abi::local::Local;
use ksi_plugin_api::{
    __private::{RawConfig, Restore, Snapshot, testing::InProcess},
    Context, Emit, Error, Handler, Plugin, Report, Result, SubscribeOptions, SubscribedPayload,
    SubscribedReply, SubscriptionId, Value,
};

use super::{
    Harness,
    call::{Call, Said},
    generation::{Generation, Origin},
    handlers::Instance,
    stand_in::{FailedTest, STAND_IN},
};

/// Another plugin of the same host, played by the test; see [`Harness::other`].
pub struct Other<'a> {
    harness: &'a Harness,
    played: Arc<Played>,
}

/// What there is of one.
pub(super) struct Played {
    name: String,
    generation: Arc<Generation>,
    ctx: Context,
}

impl Harness {
    /// Plays another plugin of this name, from its first use to the end of the harness: its
    /// handlers are closures with all that a handler of a plugin has, a [`Context`] with the event
    /// and its attributes included, and it emits in its own name.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Shop;
    ///
    /// #[plugin]
    /// impl Shop {
    ///     #[event_handler("shop:order")]
    ///     async fn order(&self, ctx: &Context, item: String) -> Result<u32> {
    ///         let in_time = EmitOptions::new().timeout(Duration::from_secs(2));
    ///         ctx.with(in_time).request(named("stock:take", &item)).await
    ///     }
    ///
    ///     #[event_handler("stock:low")]
    ///     async fn low(&self, ctx: &Context, _: Value) -> Result<String> {
    ///         Ok(ctx.event().map(|event| event.source().to_owned()).unwrap_or_default())
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let shop = Harness::start::<Shop>();
    /// let warehouse = shop.other("warehouse");
    /// warehouse.on("stock:take", |ctx: Context, item: String| async move {
    ///     ctx.sleep(Duration::from_secs(if item == "a pen" { 1 } else { 3 })).await;
    ///     ctx.send(named("stock:taken", &item))?;
    ///     Ok(41)
    /// });
    ///
    /// let (pen, desk) = (shop.begin("shop:order", "a pen"), shop.begin("shop:order", "a desk"));
    /// shop.advance(Duration::from_secs(2));
    /// assert_eq!(pen.finished().unwrap().results(), [json!(41)]);
    /// // The warehouse was too slow for the shop.
    /// assert!(desk.finished().unwrap().failed());
    ///
    /// let report = warehouse.emit(named("stock:low", &0));
    /// assert_eq!(report.results(), [json!("warehouse")]);
    /// # }
    /// ```
    ///
    /// # Panics
    /// When it is the name of the plugin under test, or empty.
    #[track_caller]
    pub fn other(&self, name: &str) -> Other<'_> {
        let own = self.world.plugin;
        assert!(
            name != own && name != STAND_IN && !name.is_empty(),
            "{name:?} is no name of another plugin: {own:?} is the plugin under test, and {STAND_IN:?} are the closures of \
             `Harness::on`"
        );
        let known = self.world.state.lock().others.get(name).cloned();
        let played = known.unwrap_or_else(|| {
            let played = Arc::new(self.play(name));
            self.world.state.lock().others.insert(name.to_owned(), played.clone());
            played
        });
        Other { harness: self, played }
    }

    fn play(&self, name: &str) -> Played {
        let origin = Origin { trial: false, file: None };
        let generation = Generation::new(&self.world, name, false, origin);
        let mut creating = pin!(Local::create::<InProcess<Player>>(generation.clone(), b"{}"));
        let mut cx = task::Context::from_waker(Waker::noop());
        let made = self.world.in_place.as_worker(|| creating.as_mut().poll(&mut cx));
        let (Poll::Ready(Ok(local)), Some(ctx)) = (made, CONTEXT.take()) else {
            unreachable!("it is made at once")
        };
        let (instance, _) = Instance::new(local);
        let session = &generation.session;
        let declared = session.declared([], instance.clone(), None);
        session.attach(declared, instance, Some(&self.world.keeper()));
        Played { name: name.to_owned(), generation, ctx }
    }
}

impl Other<'_> {
    /// From now on `handler` is called for the events that match, as one that a plugin
    /// [subscribes](Context::subscribe). A panic in it fails the test.
    ///
    /// # Panics
    /// When `pattern` is none.
    #[track_caller]
    pub fn on<D, R, F, Fut>(&self, pattern: &str, handler: F) -> SubscriptionId
    where
        D: SubscribedPayload + 'static,
        R: SubscribedReply + 'static,
        F: Fn(Context, D) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R>> + Send + 'static,
    {
        self.on_with(pattern, SubscribeOptions::new(), handler)
    }

    /// The same with a priority or a timeout, as [`Context::subscribe_with`] has them.
    ///
    /// # Panics
    /// When `pattern` is none.
    #[track_caller]
    pub fn on_with<D, R, F, Fut>(
        &self,
        pattern: &str,
        options: SubscribeOptions,
        handler: F,
    ) -> SubscriptionId
    where
        D: SubscribedPayload + 'static,
        R: SubscribedReply + 'static,
        F: Fn(Context, D) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R>> + Send + 'static,
    {
        let (failed, handler) = (self.harness.world.failed.clone(), Arc::new(handler));
        let handler = move |ctx, data| {
            let (failed, handler) = (failed.clone(), handler.clone());
            failing_the_test(async move { handler(ctx, data).await }, failed)
        };
        match self.played.ctx.subscribe_with(pattern, options, handler) {
            Ok(subscription) => subscription,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// What the plugin has of the host, outside of a call: to send, to watch, to unsubscribe.
    pub fn context(&self) -> &Context {
        &self.played.ctx
    }

    /// Emits an event in its name, and runs everything that follows from it.
    ///
    /// # Panics
    /// As [`Harness::emit`].
    #[track_caller]
    pub fn emit(&self, event: impl Emit) -> Report {
        self.harness.wait(&self.begin(event))
    }

    /// The same as far as it goes without time passing.
    #[track_caller]
    pub fn begin(&self, event: impl Emit) -> Call {
        let said = Said { source: self.played.name.clone(), ..Said::default() };
        self.harness.begin_said(event, &said)
    }

    /// Unloads it: its handlers get no event any more, and what it still does is given up.
    pub fn unload(self) {
        self.harness.world.state.lock().others.remove(&self.played.name);
        self.harness.end_played(&self.played);
        self.harness.settle();
    }
}

impl Harness {
    /// All that the test plays ends.
    pub(super) fn end_others(&self) {
        let others = std::mem::take(&mut self.world.state.lock().others);
        others.values().for_each(|played| self.end_played(played));
    }

    fn end_played(&self, played: &Played) {
        let session = &played.generation.session;
        played.generation.detach();
        self.world.router().withdraw(&played.name);
        session.cancel_calls();
        self.world.in_place.as_worker(|| session.end_tasks());
    }
}

/// The same future. A panic in it fails the test, and not the plugin that may be on the stack here.
async fn failing_the_test<T>(
    future: impl Future<Output = Result<T>>,
    failed: FailedTest,
) -> Result<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled,
        Err(panic) => {
            failed.lock().get_or_insert(panic);
            Poll::Ready(Err(Error::new("panicked", "a handler that the test plays panicked")))
        }
    })
    .await
}

thread_local! {
    /// Of the one that is being made on this thread.
    static CONTEXT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// A plugin that does nothing but to give its context away.
struct Player;

impl Plugin for Player {
    const NAME: &'static str = "player";
    const VERSION: &'static str = "1.0.0";
    const RUNTIME: bool = false;
    const EMITS: &'static [&'static str] = &[];
    const EMIT_SCHEMAS: &'static [fn() -> ksi_plugin_api::__private::SentSchemas] = &[];
    const EMIT_TYPES: &'static [fn() -> Option<ksi_plugin_api::__private::TypeDescription>] = &[];
    const REQUIRES: &'static [&'static str] = &[];
    const REPLY_SCHEMAS: &'static [fn() -> Value] = &[];
    const SNAPSHOTS: &'static [Snapshot<Self>] = &[];
    const RESTORES: &'static [Restore<Self>] = &[];
    const HANDLERS: &'static [Handler<Self>] = &[];

    async fn initialize(ctx: Context, _: RawConfig) -> Result<Self> {
        CONTEXT.set(Some(ctx));
        Ok(Player)
    }
}
