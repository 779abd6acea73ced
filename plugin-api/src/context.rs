//! What a handler has of the host: the event that it was called for, and ways to cause further
//! ones.

mod asked;
mod background;
mod event_info;

use std::{
    fmt,
    future::{Future, poll_fn},
    path::PathBuf,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use ksi_abi::{
    BoundaryFuture, Encoding, HostRef,
    host::WaitEnd,
    probe::{Taker, Viewer},
};
use serde::de::DeserializeOwned;

pub use self::{
    background::{Interval, Task},
    event_info::{EventInfo, Received},
};
use crate::{
    error::{Error, Result},
    event::Emit,
    payload,
    plugin::RawConfig,
    report::Report,
    scope::{Caller, Scope},
    subscriptions::SubscribeOptions,
    types::{
        AwaitedReply, Configuration, HandlerPayload, LentPayload, SubscribedPayload,
        SubscribedReply,
    },
};

/// The code of what the host refuses.
pub(crate) const REJECTED: &str = "rejected";

/// The way of a plugin to its host.
///
/// A handler gets one by reference; a clone may be kept, and moved into tasks. What is emitted
/// through the context of a call is a child of that call's event: it carries its root, its depth
/// and its deadline. A clone that outlives the plugin's shutdown keeps the library mapped, so tasks
/// and threads of the plugin must end with it.
#[derive(Clone)]
pub struct Context {
    caller: Caller,
}

impl Context {
    pub(crate) fn of(caller: Caller) -> Self {
        Context { caller }
    }

    pub(crate) fn scope(&self) -> &Scope {
        self.caller.scope()
    }

    fn host(&self) -> &HostRef {
        &self.scope().host
    }

    pub(crate) fn payload(&self) -> Result<Encoding<'_>> {
        match self.caller.event() {
            Some(event) => event.payload().map_err(|(code, message)| Error::new(code, message)),
            None => Ok(Encoding::Text("null")),
        }
    }

    /// The payload for somebody who owns it: a copy of the event's value, or else decoded.
    ///
    /// # Errors
    /// `invalid_payload`, with the path inside it.
    #[doc(hidden)]
    pub fn own_payload<T: HandlerPayload>(&self, take: Option<Taker<T>>) -> Result<T> {
        self.take_payload(take)
    }

    /// The same for a handler whose payload need have no schema.
    pub(crate) fn take_payload<T: DeserializeOwned>(&self, take: Option<Taker<T>>) -> Result<T> {
        match take.zip(self.caller.event()).and_then(|(take, event)| take(event)) {
            Some(data) => Ok(data),
            None => payload::decode_payload(self.payload()?),
        }
    }

    /// The configuration that a plugin is called with, decoded.
    ///
    /// # Errors
    /// `invalid_config`, with the path inside it.
    #[doc(hidden)]
    pub fn configuration<C: Configuration>(&self) -> Result<C> {
        RawConfig::new(self.payload()?.as_bytes().to_vec()).decode()
    }

    /// The event's value itself, for somebody who only looks at it.
    #[doc(hidden)]
    pub fn view_payload<T>(&self, view: Option<Viewer<T>>) -> Option<&T> {
        view.zip(self.caller.event()).and_then(|(view, event)| view(event))
    }

    /// The payload, decoded, with what it can borrow from its encoding.
    ///
    /// # Errors
    /// `invalid_payload`, with the path inside it.
    #[doc(hidden)]
    pub fn borrow_payload<'a, T: LentPayload<'a>>(&'a self) -> Result<T> {
        payload::decode_payload(self.payload()?)
    }

    /// The event of this call. `None` in `initialize`, in snapshots and restores, and in tasks that
    /// were spawned there.
    pub fn event(&self) -> Option<EventInfo<'_>> {
        self.caller.event().map(|handle| EventInfo { handle })
    }

    /// Runs every handler of the event, all at once, and gathers their outcomes.
    ///
    /// It never fails: what went wrong stands in the report, also when the event's name is none or
    /// its payload cannot be encoded. An event that is given away, and not lent, is not copied.
    pub fn emit<E: Emit>(&self, event: E) -> impl Future<Output = Report> {
        self.emit_beside(event, ())
    }

    /// Emits, and wants exactly one reply; at most one, if it is awaited as `()`, an `Option` or
    /// another type that reads `null` (but for a `Value`).
    ///
    /// # Errors
    /// `no_handler`, `no_reply`, `several_replies`, `invalid_reply`, or the first failure, with its
    /// own code.
    pub fn request<R>(&self, event: impl Emit) -> impl Future<Output = Result<R>>
    where
        R: AwaitedReply,
    {
        self.request_beside(event, ())
    }

    /// Hands the event over without waiting for its handlers.
    ///
    /// # Errors
    /// `rejected` when the host's queue is full or the event is none: it was not accepted then.
    /// Which of them it was, [`Error::refusal`] tells.
    pub fn send(&self, event: impl Emit) -> Result<()> {
        self.send_beside(event, &())
    }

    /// Awaits the next event that matches `pattern`. It starts to listen when it is called, not
    /// when it is polled. What came is a [`Received`]: its name is in [`info`](Received::info), its
    /// payload in [`data`](Received::data).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ksi_plugin_api::prelude::*;
    /// #[payload]
    /// struct Built {
    ///     target: String,
    /// }
    ///
    /// async fn next_target(ctx: &Context) -> Result<String> {
    ///     let done = ctx.wait_for("build:done", Duration::from_secs(60)).await?;
    ///     Ok(done.data::<Built>()?.target)
    /// }
    /// ```
    ///
    /// # Errors
    /// `timed_out`, or `rejected` when the pattern is none.
    pub fn wait_for(
        &self,
        pattern: &str,
        timeout: Duration,
    ) -> impl Future<Output = Result<Received>> + Send + 'static {
        let waiting = self.host().wait_for(pattern, timeout);
        let pattern = pattern.to_owned();
        async move {
            match waiting.await {
                Ok(WaitEnd::Event(handle)) => Ok(Received::new(handle)),
                Ok(WaitEnd::TimedOut) => {
                    let text = format!("no event matched {pattern:?} within {timeout:?}");
                    Err(Error::new("timed_out", text))
                }
                Ok(WaitEnd::Refused(refusal)) => Err(Error::refused(REJECTED, &refusal)),
                Err(panic) => Err(Error::new("host_panicked", panic.to_text())),
            }
        }
    }

    /// From now on calls `handler` for every event that matches `pattern`, until
    /// [`unsubscribe`](Self::unsubscribe) or the end of this generation.
    ///
    /// # Errors
    /// `rejected` when the pattern is none, or the plugin has too many subscriptions.
    pub fn subscribe<D, R, F, Fut>(&self, pattern: &str, handler: F) -> Result<SubscriptionId>
    where
        D: SubscribedPayload,
        R: SubscribedReply,
        F: Fn(Context, D) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R>> + Send + 'static,
    {
        self.subscribe_with(pattern, SubscribeOptions::new(), handler)
    }

    /// The same with a place among the handlers of an event, a timeout, or a thread that may block,
    /// as declared handlers have them.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ksi_plugin_api::prelude::*;
    ///
    /// /// Sees all lines before those who do something with them.
    /// fn note_first(ctx: &Context) -> Result<()> {
    ///     let options = SubscribeOptions::new().priority(100).timeout(Duration::from_secs(1));
    ///     ctx.subscribe_with("log:**", options, |_: Context, line: Value| async move {
    ///         tracing::debug!(%line);
    ///         Ok(())
    ///     })?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_with<D, R, F, Fut>(
        &self,
        pattern: &str,
        options: SubscribeOptions,
        handler: F,
    ) -> Result<SubscriptionId>
    where
        D: SubscribedPayload,
        R: SubscribedReply,
        F: Fn(Context, D) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R>> + Send + 'static,
    {
        let number = self.scope().subscriptions.add(handler);
        match self.host().subscribe(pattern, number, &options.crossing()) {
            Ok(subscription) => {
                self.scope().subscriptions.name(number, subscription);
                Ok(SubscriptionId(subscription))
            }
            Err(refusal) => {
                self.scope().subscriptions.remove(number);
                Err(Error::refused(REJECTED, &refusal))
            }
        }
    }

    /// Ends a subscription. Calls that have begun go on. Tells whether there was one.
    pub fn unsubscribe(&self, subscription: SubscriptionId) -> bool {
        let known = self.host().unsubscribe(subscription.0);
        self.scope().subscriptions.remove_named(subscription.0);
        known
    }

    /// Waits.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        let sleep = self.host().sleep(duration);
        async move {
            let _ = sleep.await;
        }
    }

    /// Awaits `future` for as long as `limit`.
    ///
    /// # Errors
    /// `timed_out`; the future is dropped.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output> {
        let mut future = pin!(future);
        let mut sleep: Option<BoundaryFuture<u8>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            // Armed at the first poll that has to wait: most have not.
            let sleep = sleep.get_or_insert_with(|| self.host().sleep(limit));
            Pin::new(sleep).poll(cx).map(|_| {
                Err(Error::new("timed_out", format_args!("it took longer than {limit:?}")))
            })
        })
        .await
    }

    /// Ticks every `period`, first after one period.
    pub fn interval(&self, period: Duration) -> Interval {
        Interval { ctx: self.clone(), period, next: self.now() + period }
    }

    /// Runs a background task. It ends when its future does, when it is cancelled, or when the
    /// plugin is retired. A panic in it is logged by the host.
    ///
    /// # Errors
    /// `rejected` when the plugin has too many tasks or is being retired.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<Task> {
        let entered = self.scope().runtime.clone().enter(async move {
            future.await;
            0
        });
        match self.host().spawn(BoundaryFuture::of_plugin(entered)) {
            Ok(number) => Ok(Task { ctx: Context::clone(self).detached(), number }),
            Err(refusal) => Err(Error::refused(REJECTED, &refusal)),
        }
    }

    fn detached(self) -> Self {
        Context { caller: self.caller.detached() }
    }

    /// Whether this instance is only tried out: made, in a process of its own, to see whether it
    /// initializes and, if there is state for it, restores a copy of that, and then given up with
    /// the process. Every plugin is tried before it is loaded or replaced, unless it
    /// ([`plugin`](macro@crate::plugin) with `trial = false`) or the operator says no.
    ///
    /// In a trial nobody is reached: events are refused, background tasks do not run. An
    /// `#[initialize]` that fails or waits for somebody there is not refused for that; one that
    /// ends the process, or never returns from a poll, is. Leave out what others would notice, such
    /// as opening a port, taking a lock or changing a file.
    ///
    /// ```
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::prelude::*;
    ///
    /// struct Ledger {
    ///     /// None in a trial: the file is the running version's.
    ///     file: Option<std::fs::File>,
    /// }
    ///
    /// #[plugin]
    /// impl Ledger {
    ///     #[initialize]
    ///     async fn open(ctx: &Context, _: Value) -> Result<Self> {
    ///         let path = std::env::temp_dir().join("ledger");
    ///         let file = match ctx.is_trial() {
    ///             true => None,
    ///             false => Some(std::fs::File::create(path)?),
    ///         };
    ///         Ok(Ledger { file })
    ///     }
    ///
    ///     #[event_handler("ledger:is_open")]
    ///     async fn is_open(&self, _: &Context, _: Value) -> Result<bool> {
    ///         Ok(self.file.is_some())
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let ledger = Harness::start::<Ledger>();
    /// assert_eq!(ledger.emit("ledger:is_open", json!({})).results(), [json!(true)]);
    /// # }
    /// ```
    pub fn is_trial(&self) -> bool {
        self.host().is_trial()
    }

    /// The plugin's own file, where the host found it: in its folder, under the name that it was
    /// dropped in by. What is mapped is a private copy of it elsewhere, so `$ORIGIN` and `dladdr`
    /// lead there. Files that belong to a plugin are found beside this one.
    ///
    /// The file may have changed since, or be gone. `None` in a
    /// `Harness` without `Setup::file`.
    ///
    /// ```
    /// use ksi_harness::Harness;
    /// use ksi_plugin_api::prelude::*;
    ///
    /// struct Templates {
    ///     page: String,
    /// }
    ///
    /// #[plugin]
    /// impl Templates {
    ///     #[initialize]
    ///     async fn load(ctx: &Context, _: Value) -> Result<Self> {
    ///         let file = ctx.file().ok_or_else(|| Error::other("the host does not tell where this plugin is"))?;
    ///         Ok(Templates { page: std::fs::read_to_string(file.with_file_name("page.html"))? })
    ///     }
    ///
    ///     #[event_handler("templates:page")]
    ///     async fn page(&self, _: &Context, _: Value) -> Result<String> {
    ///         Ok(self.page.clone())
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let folder = std::env::temp_dir().join(format!("ksi-doc-file-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # std::fs::write(folder.join("page.html"), "<p>")?;
    /// let plugin = Harness::setup::<Templates>().file(folder.join("libtemplates.so")).start().unwrap();
    /// assert_eq!(plugin.emit("templates:page", json!({})).results(), [json!("<p>")]);
    /// # std::fs::remove_dir_all(folder)
    /// # }
    /// ```
    #[cfg(unix)]
    pub fn file(&self) -> Option<PathBuf> {
        use std::{ffi::OsString, os::unix::ffi::OsStringExt};
        self.host().file().map(|path| OsString::from_vec(path).into())
    }

    /// The host's monotonic clock, since an arbitrary start.
    pub fn now(&self) -> Duration {
        self.host().now()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("event", &self.event()).finish()
    }
}

/// A subscription made at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubscriptionId(u64);
