//! What a handler has of the host: the event that it was called for, and ways to cause further ones.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    abi::{
        BoundaryFuture, EventHandle, HostRef, Layout, SubscribeOptions, Value, export::Lent,
        host::WaitEnd,
    },
    error::{Error, Result},
    event::Emit,
    payload,
    report::Report,
    runtime::RuntimeHandle,
    subscriptions::{self, Subscriptions},
};

/// What all contexts of one instance share.
pub(crate) struct Scope {
    pub(crate) host: HostRef,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) runtime: RuntimeHandle,
}

#[cfg(test)]
std::thread_local! {
    /// Stands for the value of every event on this thread, until the boundary carries one.
    pub(crate) static GIVEN: std::cell::Cell<Option<&'static Value>> = const { std::cell::Cell::new(None) };
}

/// The way of a plugin to its host.
///
/// A handler gets one by reference; a clone may be kept, and moved into tasks. What is emitted through the context of
/// a call is a child of that call's event: it carries its root, its depth and its deadline. A clone that outlives the
/// plugin's shutdown keeps the library mapped, so tasks and threads of the plugin must end with it.
#[derive(Clone)]
pub struct Context {
    scope: Lent<Scope>,
    event: Option<EventHandle>,
}

impl Context {
    pub(crate) fn new(scope: Arc<Scope>) -> Self {
        Context { scope: Lent::counted(scope), event: None }
    }

    pub(crate) fn of_call(scope: Lent<Scope>, event: EventHandle) -> Self {
        Context { scope, event: Some(event) }
    }

    /// For a call of the host itself, without an event.
    pub(crate) fn of_instance(scope: Lent<Scope>) -> Self {
        Context { scope, event: None }
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(crate) fn payload(&self) -> &[u8] {
        match &self.event {
            Some(event) => event.view().payload.as_slice(),
            None => b"null",
        }
    }

    /// The event's payload as a value, if it came as one.
    #[doc(hidden)]
    pub fn value(&self) -> Option<&Value> {
        #[cfg(test)]
        return self.event.as_ref().and_then(|_| GIVEN.get());
        #[cfg(not(test))]
        None
    }

    /// The payload, decoded, with what it can borrow from its encoding.
    ///
    /// # Errors
    /// `invalid_payload`, with the path inside it.
    #[doc(hidden)]
    pub fn borrow_payload<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        payload::decode(self.payload())
    }

    /// The event of this call. `None` in `initialize`, in snapshots and restores, and in tasks that were spawned there.
    pub fn event(&self) -> Option<EventInfo<'_>> {
        self.event.as_ref().map(|handle| EventInfo { handle })
    }

    /// Runs every handler of the event, all at once, and gathers their outcomes.
    ///
    /// It never fails: what went wrong stands in the report, also when the event's name is none or its payload
    /// cannot be encoded. An event that is given away, and not lent, is not copied.
    pub async fn emit<E: Emit>(&self, event: E) -> Report {
        let name = event.owned_name();
        let emitted = self.try_emit(&name, event);
        emitted.await.unwrap_or_else(|error| Report::new(subscriptions::refused(error), &name))
    }

    async fn try_emit<E: Emit>(&self, name: &str, event: E) -> Result<Report> {
        let payload = payload::bytes_of(event.into_content()?)?;
        let emitted = self.scope.host.emit(self.event.as_ref(), name, payload);
        match emitted.await {
            Ok(handle) => Ok(Report::new(handle, name)),
            Err(panic) => Err(Error::new("host_panicked", panic.to_text())),
        }
    }

    /// Emits, and wants exactly one reply.
    ///
    /// # Errors
    /// `no_handler`, `no_reply`, `several_replies`, `invalid_reply`, or the first failure, with its own code.
    pub async fn request<R>(&self, event: impl Emit) -> Result<R>
    where
        R: DeserializeOwned + Layout + Clone,
    {
        let name = event.owned_name();
        self.try_emit(&name, event).await?.into_reply()
    }

    /// Hands the event over without waiting for its handlers.
    ///
    /// # Errors
    /// `rejected` when the host's queue is full or the event is none: it was not accepted then.
    pub fn send(&self, event: impl Emit) -> Result<()> {
        let name = event.owned_name();
        let payload = payload::bytes_of(event.into_content()?)?;
        let sent = self.scope.host.send(self.event.as_ref(), &name, payload);
        sent.map_err(|refusal| Error::new("rejected", refusal))
    }

    /// Awaits the next event that matches `pattern`. It starts to listen when it is called, not when it is polled.
    ///
    /// # Errors
    /// `timed_out`, or `rejected` when the pattern is none.
    pub fn wait_for(
        &self,
        pattern: &str,
        timeout: Duration,
    ) -> impl Future<Output = Result<Received>> + Send + 'static {
        let waiting = self.scope.host.wait_for(pattern, timeout);
        let pattern = pattern.to_owned();
        async move {
            match waiting.await {
                Ok(WaitEnd::Event(handle)) => Ok(Received { handle }),
                Ok(WaitEnd::TimedOut) => {
                    let text = format!("no event matched {pattern:?} within {timeout:?}");
                    Err(Error::new("timed_out", text))
                }
                Ok(WaitEnd::Refused(reason)) => Err(Error::new("rejected", reason.to_text())),
                Err(panic) => Err(Error::new("host_panicked", panic.to_text())),
            }
        }
    }

    /// From now on calls `handler` for every event that matches `pattern`, until [`unsubscribe`](Self::unsubscribe)
    /// or the end of this generation.
    ///
    /// # Errors
    /// `rejected` when the pattern is none, or the plugin has too many subscriptions.
    pub fn subscribe<D, R, F, Fut>(&self, pattern: &str, handler: F) -> Result<SubscriptionId>
    where
        D: DeserializeOwned + Layout + Clone + Send + 'static,
        R: Serialize + Layout + Clone + Send + Sync,
        F: Fn(Context, D) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R>> + Send + 'static,
    {
        let number = self.scope.subscriptions.add(handler);
        let options = SubscribeOptions::default();
        match self.scope.host.subscribe(pattern, number, options) {
            Ok(subscription) => {
                self.scope.subscriptions.name(number, subscription);
                Ok(SubscriptionId(subscription))
            }
            Err(refusal) => {
                self.scope.subscriptions.remove(number);
                Err(Error::new("rejected", refusal))
            }
        }
    }

    /// Ends a subscription. Calls that have begun go on. Tells whether there was one.
    pub fn unsubscribe(&self, subscription: SubscriptionId) -> bool {
        let known = self.scope.host.unsubscribe(subscription.0);
        self.scope.subscriptions.remove_named(subscription.0);
        known
    }

    /// Waits.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        let sleep = self.scope.host.sleep(duration);
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
            let sleep = sleep.get_or_insert_with(|| self.scope.host.sleep(limit));
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

    /// Runs a background task. It ends when its future does, when it is cancelled, or when the plugin is retired.
    /// A panic in it is logged by the host.
    ///
    /// # Errors
    /// `rejected` when the plugin has too many tasks or is being retired.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<Task> {
        let entered = self.scope.runtime.enter(async move {
            future.await;
            0
        });
        match self.scope.host.spawn(BoundaryFuture::of_plugin(entered)) {
            Ok(number) => Ok(Task { ctx: Context::clone(self).detached(), number }),
            Err(refusal) => Err(Error::new("rejected", refusal)),
        }
    }

    fn detached(self) -> Self {
        Context { scope: self.scope, event: None }
    }

    /// Whether this instance is only tried out: made, in a process of its own, to see whether it initializes and
    /// restores the state of the version that it is to replace, and then dropped. In a trial nobody is reached:
    /// events are refused, background tasks do not run. Leave out there what others would notice, such as opening a
    /// port or taking a lock.
    pub fn is_trial(&self) -> bool {
        self.scope.host.is_trial()
    }

    /// The host's monotonic clock, since an arbitrary start.
    pub fn now(&self) -> Duration {
        self.scope.host.now()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("event", &self.event()).finish()
    }
}

/// The event of a call.
#[derive(Clone, Copy)]
pub struct EventInfo<'a> {
    handle: &'a EventHandle,
}

impl<'a> EventInfo<'a> {
    /// Its name; useful to a handler of several names or of a pattern.
    pub fn name(&self) -> &'a str {
        self.handle.view().name.as_str()
    }

    /// Its number, unique in this host.
    pub fn id(&self) -> u64 {
        self.handle.view().id
    }

    /// The event in whose handler it was emitted.
    pub fn parent(&self) -> Option<u64> {
        Some(self.handle.view().parent).filter(|&parent| parent != 0)
    }

    /// The first event of the chain; itself, when it is the first.
    pub fn root(&self) -> u64 {
        self.handle.view().root
    }

    /// How many events lie between it and the first one.
    pub fn depth(&self) -> u32 {
        self.handle.view().depth
    }

    /// The plugin that emitted it; empty for the host itself and its clients.
    pub fn source(&self) -> &'a str {
        self.handle.view().source.as_str()
    }

    /// When it was emitted, since the Unix epoch.
    pub fn timestamp(&self) -> Duration {
        Duration::from_nanos(self.handle.view().timestamp)
    }

    /// What a client attached to it, or to the event it came from: `_correlation_id`, `_agent_id`, `_client_id`.
    pub fn attribute(&self, key: &str) -> Option<&'a str> {
        self.handle.attribute(key)
    }
}

impl fmt::Debug for EventInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventInfo").field("name", &self.name()).field("id", &self.id()).finish()
    }
}

/// An event that [`Context::wait_for`] caught.
pub struct Received {
    handle: EventHandle,
}

impl Received {
    /// What the event is.
    pub fn info(&self) -> EventInfo<'_> {
        EventInfo { handle: &self.handle }
    }

    /// Its payload, decoded.
    ///
    /// # Errors
    /// `invalid_payload`, with the path inside it.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T> {
        payload::decode(self.handle.view().payload.as_slice())
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Received").field(&self.info()).finish()
    }
}

/// A subscription made at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubscriptionId(u64);

/// A background task. Dropping this does not end it.
#[derive(Debug)]
pub struct Task {
    ctx: Context,
    number: u64,
}

impl Task {
    /// Drops the task's future at once, or after its present poll.
    pub fn cancel(self) {
        self.ctx.scope.host.cancel(self.number);
    }
}

/// See [`Context::interval`].
#[derive(Debug)]
pub struct Interval {
    ctx: Context,
    period: Duration,
    next: Duration,
}

impl Interval {
    /// Awaits the next tick. Ticks that were missed while nobody waited are left out.
    pub async fn tick(&mut self) {
        let now = self.ctx.now();
        if let Some(wait) = self.next.checked_sub(now) {
            self.ctx.sleep(wait).await;
        } else {
            self.next = now;
        }
        self.next += self.period;
    }
}
