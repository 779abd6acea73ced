//! The host as an instance in a library of this process reaches it, through the boundary: what
//! [every instance has](HostServices), and beside that the log and wakers.
//!
//! This object is what counts. Each reference that the plugin holds to it, and each waker of the
//! plugin that the host keeps, and each value of it on its way, holds it as a [`Keeper`]: while
//! there is one, the library must stay.

use std::{
    future::Future,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use ksi_abi::{
    BoundaryFuture, Content, Counted, EmitOptions, HostApi, LogRecord, Refusal, ReplyEnd,
    ReplyForm, ReportHandle, SpanRecord, Start, SubscribeOptions, To, Value,
    host::{SpanStep, WaitEnd, WatchStep},
};
use ksi_kernel::{
    boundary::{self, Boundary},
    event::Event,
    router::{Router, resolved::Resolved},
    session::{self, Emitting, Requesting, Session, SessionWatch},
    value::Keeper,
};

use super::{
    log::{self, Spans},
    services::HostServices,
    waker,
};

/// The host, for one instance; see the module.
pub(crate) struct HostApiShim {
    /// The one of the services: each emit goes through it, and would have to get it from there.
    session: Arc<Session>,
    services: Arc<HostServices>,
    spans: Spans,
}

impl HostApiShim {
    /// The way to these services.
    pub(crate) fn new(services: Arc<HostServices>) -> Arc<Self> {
        let (session, spans) = (services.session().clone(), Spans::default());
        Arc::new(HostApiShim { session, services, spans })
    }

    pub(crate) fn router(&self) -> &Arc<Router> {
        self.session.router()
    }

    /// What keeps the library: this, counted.
    pub(crate) fn keeper(self: &Arc<Self>) -> Arc<dyn Keeper> {
        self.clone()
    }
}

impl Keeper for HostApiShim {
    fn drop_later(self: Arc<Self>, value: Value) {
        let router = self.session.router().clone();
        router.spawn_detached(async move {
            drop(value);
            drop(self);
        });
    }
}

impl HostApi for HostApiShim {
    type Event = Event;
    type Route = Resolved;
    type Emitting = Emitting<Boundary>;
    type Requesting = Requesting<Boundary>;
    type Watch = SessionWatch;

    fn resolve(self: &Arc<Self>, name: &str) -> Option<Resolved> {
        self.session.resolve(name, self.keeper()).ok()
    }

    fn emit(
        self: &Arc<Self>,
        parent: Option<&Counted<Event>>,
        to: To<'_, Resolved>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        cx: &mut Context<'_>,
    ) -> Start<ReportHandle, Self::Emitting> {
        self.session.emit::<Boundary>(parent, &to, content, options, cx)
    }

    fn request(
        self: &Arc<Self>,
        parent: Option<&Counted<Event>>,
        to: To<'_, Resolved>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Start<ReplyEnd, Self::Requesting> {
        self.session.request::<Boundary>(parent, &to, content, options, form, cx)
    }

    fn send(
        self: &Arc<Self>,
        parent: Option<&Counted<Event>>,
        to: To<'_, Resolved>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<(), Refusal> {
        self.session.send(parent, &to, content, options)
    }

    fn wait_for(
        self: &Arc<Self>,
        pattern: &str,
        timeout: Duration,
    ) -> impl Future<Output = WaitEnd> + Send + 'static {
        let waiting = self.session.wait_for(pattern, timeout);
        async move { boundary::waited(waiting.await) }
    }

    fn watch(
        self: &Arc<Self>,
        patterns: &[&str],
        capacity: usize,
    ) -> Result<SessionWatch, Refusal> {
        self.session.watch(patterns, capacity)
    }

    fn next(watch: &Arc<SessionWatch>) -> impl Future<Output = WatchStep> + Send + 'static {
        let next = watch.next();
        async move { boundary::passed(next.await) }
    }

    fn subscribe(
        self: &Arc<Self>,
        pattern: &str,
        handler: u64,
        options: &SubscribeOptions<'_>,
    ) -> Result<u64, Refusal> {
        options.check()?;
        let (timeout, &SubscribeOptions { priority, blocking, .. }) = (options.timeout(), options);
        let options = session::SubscribeOptions { priority, timeout, blocking };
        self.session.subscribe(pattern, handler, options, Some(&self.keeper()))
    }

    fn unsubscribe(&self, number: u64) -> bool {
        self.session.unsubscribe(number)
    }

    fn sleep(self: &Arc<Self>, duration: Duration) -> impl Future<Output = u8> + Send + 'static {
        let timer = self.session.sleep(duration);
        async move {
            timer.await;
            0
        }
    }

    fn spawn(self: &Arc<Self>, future: BoundaryFuture<u8>) -> Result<u64, Refusal> {
        self.session.spawn(future, Some(self.keeper()))
    }

    fn cancel(&self, number: u64) {
        self.session.cancel(number);
    }

    fn now(&self) -> Duration {
        self.services.now()
    }

    fn max_level(&self) -> u8 {
        self.services.levels().most_of_plugin(self.session.plugin())
    }

    fn log(&self, record: &LogRecord<'_>) {
        log::line(&self.services, record);
    }

    fn span(&self, record: &SpanRecord<'_>) -> u64 {
        self.spans.open(&self.services, record)
    }

    fn span_step(&self, number: u64, step: SpanStep) {
        self.spans.step(number, step);
    }

    fn adopt_waker(self: &Arc<Self>, waker: Waker) -> Waker {
        waker::adopt(waker, self.keeper(), self.session.router().clone())
    }

    fn file(&self) -> Option<Vec<u8>> {
        Some(self.services.file().as_os_str().as_bytes().to_vec())
    }

    fn listener(&self, address: &str) -> Result<OwnedFd, Refusal> {
        self.services.resources().listener(address)
    }

    fn keep(&self, name: &str, descriptor: OwnedFd) -> Result<(), Refusal> {
        self.services.resources().keep(name, descriptor)
    }

    fn kept(&self, name: &str) -> Result<Option<OwnedFd>, Refusal> {
        self.services.resources().kept(name)
    }

    fn stop_keeping(&self, name: &str) -> bool {
        self.services.resources().stop_keeping(name)
    }
}
