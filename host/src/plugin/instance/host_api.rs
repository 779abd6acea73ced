//! The host as one generation of a plugin reaches it through the boundary: its [session](Session),
//! and beside that the log, wakers, descriptors that are kept, and its file.
//!
//! This object is what counts. Each reference that the plugin holds to it, and each waker of the
//! plugin that the host keeps, and each value of it on its way, holds it as a [`Keeper`]: while
//! there is one, the library must stay.

use std::{
    future::Future,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use ksi_abi::{
    BoundaryFuture, Content, Counted, EmitOptions, HostApi, LogRecord, Refusal, ReplyEnd,
    ReplyForm, ReportHandle, SpanRecord, Start, SubscribeOptions, To, Value,
    host::{SpanStep, WaitEnd, WatchStep},
};
use ksi_kernel::{
    call::Callee,
    event::Event,
    router::resolved::Resolved,
    session::{DeclaredRoutes, Emitting, Requesting, Session, SessionWatch},
    value::Keeper,
};

use super::{
    kept_resources::{KeptResources, PluginResources},
    log::{self, Spans},
    waker,
};

/// The host, for one generation; see the module.
pub(crate) struct HostApiShim {
    session: Arc<Session>,
    /// Where the plugin was copied from.
    file: PathBuf,
    resources: PluginResources,
    epoch: Instant,
    spans: Spans,
}

impl HostApiShim {
    /// A way to the host for the generation of this session.
    pub(crate) fn new(
        session: Arc<Session>,
        file: PathBuf,
        resources: &Arc<KeptResources>,
        epoch: Instant,
    ) -> Arc<Self> {
        let (resources, spans) = (resources.of(session.plugin().clone()), Spans::default());
        Arc::new(HostApiShim { session, file, resources, epoch, spans })
    }

    /// What the generation may do towards the host.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What keeps the library: this, counted.
    pub(crate) fn keeper(self: &Arc<Self>) -> Arc<dyn Keeper> {
        self.clone()
    }

    /// The instance is there and becomes live; see [`Session::attach`].
    pub(crate) fn attach(self: &Arc<Self>, declared: DeclaredRoutes, live: Arc<dyn Callee>) {
        self.resources.is_live();
        self.session.attach(declared, live, &self.keeper());
    }

    /// The generation goes; see [`Session::detach`].
    pub(crate) fn detach(&self) {
        self.session.detach();
        self.resources.leaves();
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
    type Emitting = Emitting;
    type Requesting = Requesting;
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
        self.session.emit(parent, &to, content, options, cx)
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
        self.session.request(parent, &to, content, options, form, cx)
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
        self.session.wait_for(pattern, timeout)
    }

    fn watch(
        self: &Arc<Self>,
        patterns: &[&str],
        capacity: usize,
    ) -> Result<SessionWatch, Refusal> {
        self.session.watch(patterns, capacity)
    }

    fn next(watch: &Arc<SessionWatch>) -> impl Future<Output = WatchStep> + Send + 'static {
        watch.next()
    }

    fn subscribe(
        self: &Arc<Self>,
        pattern: &str,
        handler: u64,
        options: SubscribeOptions,
    ) -> Result<u64, Refusal> {
        self.session.subscribe(pattern, handler, options, &self.keeper())
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
        self.session.spawn(future, self.keeper())
    }

    fn cancel(&self, number: u64) {
        self.session.cancel(number);
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn max_level(&self) -> u8 {
        log::max_level()
    }

    fn log(&self, record: &LogRecord<'_>) {
        log::line(self.session.plugin(), record);
    }

    fn span(&self, record: &SpanRecord<'_>) -> u64 {
        self.spans.open(self.session.plugin(), record)
    }

    fn span_step(&self, number: u64, step: SpanStep) {
        self.spans.step(number, step);
    }

    fn adopt_waker(self: &Arc<Self>, waker: Waker) -> Waker {
        waker::adopt(waker, self.keeper(), self.session.router().clone())
    }

    fn file(&self) -> Option<Vec<u8>> {
        Some(self.file.as_os_str().as_bytes().to_vec())
    }

    fn listener(&self, address: &str) -> Result<OwnedFd, Refusal> {
        self.resources.listener(address)
    }

    fn keep(&self, name: &str, descriptor: OwnedFd) -> Result<(), Refusal> {
        self.resources.keep(name, descriptor)
    }

    fn kept(&self, name: &str) -> Result<Option<OwnedFd>, Refusal> {
        self.resources.kept(name)
    }

    fn stop_keeping(&self, name: &str) -> bool {
        self.resources.stop_keeping(name)
    }
}
