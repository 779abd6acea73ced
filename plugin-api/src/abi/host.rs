//! What a plugin may ask of the host.

use std::{
    future::Future,
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use abi_stable::{
    StableAbi,
    prefix_type::WithMetadata,
    std_types::{RErr, ROk, ROption, RResult, RStr},
};

use super::{
    BoundaryFuture, Buffer, Content, EventHandle, EventObject, Fingerprint, ReportHandle, Value,
    object::event_of,
    panic::{discard, guarded},
    waker::{self, Lent, WakerBase},
};

/// A line of a plugin's log.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct LogRecord<'a> {
    /// 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub level: u8,
    /// Where in the plugin it comes from.
    pub target: RStr<'a>,
    /// The message.
    pub message: RStr<'a>,
    /// Further fields as `name=value`, separated by spaces.
    pub fields: RStr<'a>,
}

/// A span that a plugin opens.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct SpanRecord<'a> {
    /// As in [`LogRecord`].
    pub level: u8,
    /// Where in the plugin it comes from.
    pub target: RStr<'a>,
    /// Its name.
    pub name: RStr<'a>,
    /// Its fields as `name=value`, separated by spaces.
    pub fields: RStr<'a>,
}

/// What becomes of an open span.
#[repr(u8)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanStep {
    /// This thread enters it.
    Enter,
    /// This thread leaves it.
    Exit,
    /// One more reference to it.
    Clone,
    /// One reference less.
    Close,
}

/// Options of a subscription made at run time.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default)]
pub struct SubscribeOptions {
    /// Higher ones are called first.
    pub priority: i32,
    /// In milliseconds; 0 stands for the host's default.
    pub timeout_ms: u64,
}

/// How a `wait_for` ended.
#[repr(C, u64)]
#[derive(StableAbi)]
pub enum WaitEnd {
    /// The event came.
    Event(EventHandle),
    /// It did not come in time.
    TimedOut,
    /// The host refused to wait, and why.
    Refused(Buffer),
}

/// Which event is emitted.
pub enum To<'a, R> {
    /// One whose name was resolved.
    Route(&'a R),
    /// One of this name.
    Name(&'a str),
}

/// How something that may take time began.
pub enum Start<T, F> {
    /// It is done already.
    Ready(T),
    /// It goes on; the waker that was given is registered.
    Pending(F),
}

/// What became of a request.
#[repr(C, u64)]
#[derive(StableAbi)]
pub enum ReplyEnd {
    /// There is one reply, of the layout that was wanted. It is plain data, which needs nothing of its maker.
    Value(Value),
    /// There is one reply, encoded.
    Bytes(Buffer),
    /// Anything else.
    Report(ReportHandle),
}

#[repr(C, u64)]
#[derive(StableAbi)]
enum Started<T> {
    Ready(T),
    Pending(BoundaryFuture<T>),
    /// The host panicked with this message.
    Panicked(Buffer),
}

/// Name and content of what is emitted. The name is looked at when the route is null.
#[repr(C)]
#[derive(StableAbi)]
struct Emission<'a> {
    parent: *const (),
    route: *const (),
    name: RStr<'a>,
    /// Taken out by who emits it.
    content: Content,
}

/// The host, as one generation of a plugin sees it.
///
/// Refusals are texts for the author of the plugin.
pub trait HostApi: Send + Sync + 'static {
    /// The events that this host gives to plugins. A handle that a plugin passes back is always one of these.
    type Event: EventObject;

    /// What stands for an event name that a plugin emits often.
    type Route: Send + Sync + 'static;
    /// The rest of an emit.
    type Emitting: Future<Output = ReportHandle> + Send + 'static;
    /// The rest of a request.
    type Requesting: Future<Output = ReplyEnd> + Send + 'static;

    /// Finds out once what an emit of this name would find out each time.
    fn resolve(self: &Arc<Self>, name: &str) -> Result<Self::Route, String>;

    /// Runs every handler of an event, all up to their first await before this returns.
    fn emit(
        self: &Arc<Self>,
        parent: Option<&Arc<Self::Event>>,
        to: To<'_, Self::Route>,
        content: Content,
        cx: &mut Context<'_>,
    ) -> Start<ReportHandle, Self::Emitting>;

    /// The same for an emitter that wants one reply, best as a value of this fingerprint.
    fn request(
        self: &Arc<Self>,
        parent: Option<&Arc<Self::Event>>,
        to: To<'_, Self::Route>,
        content: Content,
        wants: Option<Fingerprint>,
        cx: &mut Context<'_>,
    ) -> Start<ReplyEnd, Self::Requesting>;

    /// Accepts an event into the queue, or refuses it.
    fn send(
        self: &Arc<Self>,
        parent: Option<&Arc<Self::Event>>,
        to: To<'_, Self::Route>,
        content: Content,
    ) -> Result<(), String>;

    /// Awaits the next event that matches.
    fn wait_for(
        self: &Arc<Self>,
        pattern: &str,
        timeout: Duration,
    ) -> impl Future<Output = WaitEnd> + Send + 'static;

    /// Calls `handler` of this plugin for every event that matches; the subscription's number.
    fn subscribe(
        self: &Arc<Self>,
        pattern: &str,
        handler: u64,
        options: SubscribeOptions,
    ) -> Result<u64, String>;

    /// Ends a subscription; whether there was one.
    fn unsubscribe(&self, subscription: u64) -> bool;

    /// Waits.
    fn sleep(self: &Arc<Self>, duration: Duration) -> impl Future<Output = u8> + Send + 'static;

    /// Runs a background task until it ends or the plugin is retired; its number.
    fn spawn(self: &Arc<Self>, future: BoundaryFuture<u8>) -> Result<u64, String>;

    /// Drops a background task.
    fn cancel(&self, task: u64);

    /// The host's monotonic clock.
    fn now(&self) -> Duration;

    /// The most detailed level that anybody listens to, as in [`LogRecord`]; 0 for none.
    fn max_level(&self) -> u8;

    /// Writes a line of the log.
    fn log(&self, record: &LogRecord<'_>);

    /// Opens a span; its number, or 0 when nobody listens.
    fn span(&self, record: &SpanRecord<'_>) -> u64;

    /// Moves an open span on.
    fn span_step(&self, span: u64, step: SpanStep);

    /// Wraps a waker whose code lies in the plugin, so that the host may keep it: it holds the library, and is woken
    /// and dropped where plugin code may run.
    fn adopt_waker(self: &Arc<Self>, waker: Waker) -> Waker;

    /// Whether the plugin is only tried out: it reaches nobody, and is dropped again.
    fn is_trial(&self) -> bool {
        false
    }
}

/// Functions of the host that a plugin calls.
///
/// A function that is appended later goes behind `span_step`, so that plugins and hosts built before still meet.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostTableRef)))]
#[sabi(missing_field(panic))]
pub struct HostTable {
    retain: unsafe extern "C" fn(*const ()),
    release: unsafe extern "C" fn(*const ()),
    /// Null when there is no such name.
    resolve: unsafe extern "C" fn(*const (), RStr<'_>) -> *const (),
    release_route: unsafe extern "C" fn(*const ()),
    emit: unsafe extern "C" fn(
        *const (),
        &mut Emission<'_>,
        *const WakerBase,
    ) -> Started<ReportHandle>,
    request: unsafe extern "C" fn(
        *const (),
        &mut Emission<'_>,
        ROption<Fingerprint>,
        *const WakerBase,
    ) -> Started<ReplyEnd>,
    send: unsafe extern "C" fn(*const (), &mut Emission<'_>) -> RResult<u64, Buffer>,
    wait_for: unsafe extern "C" fn(*const (), RStr<'_>, u64) -> BoundaryFuture<WaitEnd>,
    subscribe:
        unsafe extern "C" fn(*const (), RStr<'_>, u64, SubscribeOptions) -> RResult<u64, Buffer>,
    unsubscribe: unsafe extern "C" fn(*const (), u64) -> bool,
    sleep: unsafe extern "C" fn(*const (), u64) -> BoundaryFuture<u8>,
    spawn: unsafe extern "C" fn(*const (), BoundaryFuture<u8>) -> RResult<u64, Buffer>,
    cancel: unsafe extern "C" fn(*const (), u64),
    now: unsafe extern "C" fn(*const ()) -> u64,
    max_level: unsafe extern "C" fn(*const ()) -> u8,
    log: unsafe extern "C" fn(*const (), &LogRecord<'_>),
    span: unsafe extern "C" fn(*const (), &SpanRecord<'_>) -> u64,
    #[sabi(last_prefix_field)]
    span_step: unsafe extern "C" fn(*const (), u64, SpanStep),
    #[sabi(missing_field(option))]
    is_trial: unsafe extern "C" fn(*const ()) -> bool,
}

/// A counted reference to the host, for one generation of a plugin. As long as one exists, the library stays.
#[repr(C)]
#[derive(StableAbi)]
pub struct HostRef {
    object: *const (),
    table: HostTableRef,
}

// SAFETY: the object is `Send + Sync` and its count is atomic.
unsafe impl Send for HostRef {}
// SAFETY: as above.
unsafe impl Sync for HostRef {}

struct Shims<H>(PhantomData<H>);

/// The event in whose handler something is emitted; its count stays with the plugin's handle.
type Parent<H> = Option<ManuallyDrop<Arc<<H as HostApi>::Event>>>;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn answer(result: Result<Result<u64, String>, Buffer>) -> RResult<u64, Buffer> {
    match result {
        Ok(Ok(value)) => ROk(value),
        Ok(Err(refusal)) => RErr(Buffer::from(&*refusal)),
        Err(panic) => RErr(panic),
    }
}

/// The functions that a [`HostTable`] points to. In all of them `object` is the pointer of a live [`HostRef`] made
/// for an `H`, and an event is null or the pointer of a live handle made for an `H::Event`: a plugin gets both from
/// its host alone and passes back what it got.
impl<H: HostApi> Shims<H> {
    /// # Safety
    /// `object` is the pointer of a live `HostRef` that was made for an `H`.
    unsafe fn host(object: *const ()) -> ManuallyDrop<Arc<H>> {
        // SAFETY: promised by the caller; the count stays with the `HostRef`.
        ManuallyDrop::new(unsafe { Arc::from_raw(object.cast::<H>()) })
    }

    unsafe extern "C" fn retain(object: *const ()) {
        // SAFETY: see above.
        unsafe { Arc::increment_strong_count(object.cast::<H>()) }
    }

    unsafe extern "C" fn release(object: *const ()) {
        // SAFETY: see above; the `HostRef` gives up its count.
        unsafe { Arc::decrement_strong_count(object.cast::<H>()) }
    }

    fn of_host<T, F>(host: &Arc<H>, future: F) -> BoundaryFuture<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let host = host.clone();
        BoundaryFuture::of_host(future, move |waker| host.adopt_waker(waker))
    }

    /// Lets `begin` begin something with a waker that the host may keep, and makes what goes on a future that does the
    /// same.
    ///
    /// # Safety
    /// `base` is valid during the call.
    unsafe fn start<T, F>(
        host: &Arc<H>,
        base: *const WakerBase,
        begin: impl FnOnce(&mut Context<'_>) -> Start<T, F>,
    ) -> Started<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        // SAFETY: promised by the caller.
        let own = unsafe { waker::own(base) };
        let begun = guarded(|| match own {
            Some(own) => begin(&mut Context::from_waker(own)),
            None => {
                // SAFETY: as above.
                let adopted = host.adopt_waker(unsafe { waker::cloned(base) });
                begin(&mut Context::from_waker(&adopted))
            }
        });
        match begun {
            Ok(Start::Ready(value)) => Started::Ready(value),
            Ok(Start::Pending(future)) => Started::Pending(Self::of_host(host, future)),
            Err(message) => Started::Panicked(message),
        }
    }

    /// # Safety
    /// `emission` came from a `HostRef` that was made for an `H`.
    unsafe fn emitted<'a>(emission: &Emission<'a>) -> (Parent<H>, To<'a, H::Route>) {
        // SAFETY: promised by the caller: the parent is an event of this host, and the route one that it gave and that
        // the plugin has not released.
        unsafe {
            let to = match emission.route.cast::<H::Route>().as_ref() {
                Some(route) => To::Route(route),
                None => To::Name(emission.name.as_str()),
            };
            (event_of::<H::Event>(emission.parent), to)
        }
    }

    unsafe extern "C" fn resolve(object: *const (), name: RStr<'_>) -> *const () {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        match guarded(|| host.resolve(name.as_str())) {
            Ok(Ok(route)) => Box::into_raw(Box::new(route)).cast_const().cast(),
            Ok(Err(_)) | Err(_) => ptr::null(),
        }
    }

    unsafe extern "C" fn release_route(route: *const ()) {
        // SAFETY: the route came from the box in `resolve`, and is not used again.
        let route = unsafe { Box::from_raw(route.cast::<H::Route>().cast_mut()) };
        discard(route);
    }

    unsafe extern "C" fn emit(
        object: *const (),
        emission: &mut Emission<'_>,
        base: *const WakerBase,
    ) -> Started<ReportHandle> {
        // SAFETY: see above; `base` is valid during the call.
        unsafe {
            let (host, (parent, to)) = (Self::host(object), Self::emitted(emission));
            let content = emission.content.take();
            Self::start(&host, base, |cx| host.emit(parent.as_deref(), to, content, cx))
        }
    }

    unsafe extern "C" fn request(
        object: *const (),
        emission: &mut Emission<'_>,
        wants: ROption<Fingerprint>,
        base: *const WakerBase,
    ) -> Started<ReplyEnd> {
        // SAFETY: as in `emit`.
        unsafe {
            let (host, (parent, to)) = (Self::host(object), Self::emitted(emission));
            let (content, wants) = (emission.content.take(), wants.into_option());
            Self::start(&host, base, |cx| host.request(parent.as_deref(), to, content, wants, cx))
        }
    }

    unsafe extern "C" fn send(
        object: *const (),
        emission: &mut Emission<'_>,
    ) -> RResult<u64, Buffer> {
        // SAFETY: see above.
        let (host, (parent, to)) = unsafe { (Self::host(object), Self::emitted(emission)) };
        let content = emission.content.take();
        answer(guarded(|| host.send(parent.as_deref(), to, content).map(|()| 0)))
    }

    unsafe extern "C" fn wait_for(
        object: *const (),
        pattern: RStr<'_>,
        timeout: u64,
    ) -> BoundaryFuture<WaitEnd> {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        Self::of_host(&host, host.wait_for(pattern.as_str(), Duration::from_nanos(timeout)))
    }

    unsafe extern "C" fn subscribe(
        object: *const (),
        pattern: RStr<'_>,
        handler: u64,
        options: SubscribeOptions,
    ) -> RResult<u64, Buffer> {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        answer(guarded(|| host.subscribe(pattern.as_str(), handler, options)))
    }

    unsafe extern "C" fn unsubscribe(object: *const (), subscription: u64) -> bool {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        guarded(|| host.unsubscribe(subscription)).unwrap_or(false)
    }

    unsafe extern "C" fn sleep(object: *const (), duration: u64) -> BoundaryFuture<u8> {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        Self::of_host(&host, host.sleep(Duration::from_nanos(duration)))
    }

    unsafe extern "C" fn spawn(
        object: *const (),
        future: BoundaryFuture<u8>,
    ) -> RResult<u64, Buffer> {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        answer(guarded(|| host.spawn(future)))
    }

    unsafe extern "C" fn cancel(object: *const (), task: u64) {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        let _ = guarded(|| host.cancel(task));
    }

    unsafe extern "C" fn now(object: *const ()) -> u64 {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        guarded(|| nanos(host.now())).unwrap_or(0)
    }

    unsafe extern "C" fn max_level(object: *const ()) -> u8 {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        guarded(|| host.max_level()).unwrap_or(0)
    }

    unsafe extern "C" fn log(object: *const (), record: &LogRecord<'_>) {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        let _ = guarded(|| host.log(record));
    }

    unsafe extern "C" fn span(object: *const (), record: &SpanRecord<'_>) -> u64 {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        guarded(|| host.span(record)).unwrap_or(0)
    }

    unsafe extern "C" fn span_step(object: *const (), span: u64, step: SpanStep) {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        let _ = guarded(|| host.span_step(span, step));
    }

    unsafe extern "C" fn is_trial(object: *const ()) -> bool {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        guarded(|| host.is_trial()).unwrap_or(false)
    }

    abi_stable::staticref! {
        const TABLE: WithMetadata<HostTable> = WithMetadata::new(HostTable {
            retain: Self::retain,
            release: Self::release,
            resolve: Self::resolve,
            release_route: Self::release_route,
            emit: Self::emit,
            request: Self::request,
            send: Self::send,
            wait_for: Self::wait_for,
            subscribe: Self::subscribe,
            unsubscribe: Self::unsubscribe,
            sleep: Self::sleep,
            spawn: Self::spawn,
            cancel: Self::cancel,
            now: Self::now,
            max_level: Self::max_level,
            log: Self::log,
            span: Self::span,
            span_step: Self::span_step,
            is_trial: Self::is_trial,
        });
    }
}

impl HostRef {
    /// A reference to `host`.
    pub fn new<H: HostApi>(host: Arc<H>) -> Self {
        HostRef {
            object: Arc::into_raw(host).cast(),
            table: HostTableRef(Shims::<H>::TABLE.as_prefix()),
        }
    }

    /// See [`HostApi::resolve`]. None when the host refuses: then it says why when the name is emitted.
    pub fn resolve(&self, name: &str) -> Option<RouteRef> {
        // SAFETY: `self` holds the object.
        let route = unsafe { (self.table.resolve())(self.object, RStr::from_str(name)) };
        (!route.is_null()).then(|| RouteRef { route, table: self.table })
    }

    /// See [`HostApi::emit`].
    ///
    /// # Errors
    /// The message of a panic in the host.
    pub fn emit(
        &self,
        parent: Option<&EventHandle>,
        to: To<'_, RouteRef>,
        content: Content,
        cx: &mut Context<'_>,
    ) -> Result<Start<ReportHandle, BoundaryFuture<ReportHandle>>, Buffer> {
        let (mut emission, lent) = (emission(parent, &to, content), Lent::new(cx.waker()));
        let base = waker::unwrapped(cx.waker()).unwrap_or_else(|| lent.as_base());
        // SAFETY: `self` holds the object; what the emission and the waker point to is alive during the call.
        unsafe { (self.table.emit())(self.object, &mut emission, base) }.into_result()
    }

    /// See [`HostApi::request`].
    ///
    /// # Errors
    /// As in [`emit`](Self::emit).
    pub fn request(
        &self,
        parent: Option<&EventHandle>,
        to: To<'_, RouteRef>,
        content: Content,
        wants: Option<Fingerprint>,
        cx: &mut Context<'_>,
    ) -> Result<Start<ReplyEnd, BoundaryFuture<ReplyEnd>>, Buffer> {
        let (mut emission, lent) = (emission(parent, &to, content), Lent::new(cx.waker()));
        let base = waker::unwrapped(cx.waker()).unwrap_or_else(|| lent.as_base());
        // SAFETY: as in `emit`.
        unsafe { (self.table.request())(self.object, &mut emission, wants.into(), base) }
            .into_result()
    }

    /// See [`HostApi::send`].
    pub fn send(
        &self,
        parent: Option<&EventHandle>,
        to: To<'_, RouteRef>,
        content: Content,
    ) -> Result<(), String> {
        // SAFETY: as in `emit`.
        let end = unsafe { (self.table.send())(self.object, &mut emission(parent, &to, content)) };
        end.into_result().map(drop).map_err(|refusal| refusal.to_text())
    }

    /// See [`HostApi::wait_for`].
    pub fn wait_for(&self, pattern: &str, timeout: Duration) -> BoundaryFuture<WaitEnd> {
        // SAFETY: `self` holds the object.
        unsafe { (self.table.wait_for())(self.object, RStr::from_str(pattern), nanos(timeout)) }
    }

    /// See [`HostApi::subscribe`].
    pub fn subscribe(
        &self,
        pattern: &str,
        handler: u64,
        options: SubscribeOptions,
    ) -> Result<u64, String> {
        // SAFETY: `self` holds the object.
        let end = unsafe {
            (self.table.subscribe())(self.object, RStr::from_str(pattern), handler, options)
        };
        end.into_result().map_err(|refusal| refusal.to_text())
    }

    /// See [`HostApi::unsubscribe`].
    pub fn unsubscribe(&self, subscription: u64) -> bool {
        // SAFETY: `self` holds the object.
        unsafe { (self.table.unsubscribe())(self.object, subscription) }
    }

    /// See [`HostApi::sleep`].
    pub fn sleep(&self, duration: Duration) -> BoundaryFuture<u8> {
        // SAFETY: `self` holds the object.
        unsafe { (self.table.sleep())(self.object, nanos(duration)) }
    }

    /// See [`HostApi::spawn`].
    pub fn spawn(&self, future: BoundaryFuture<u8>) -> Result<u64, String> {
        // SAFETY: `self` holds the object.
        let end = unsafe { (self.table.spawn())(self.object, future) };
        end.into_result().map_err(|refusal| refusal.to_text())
    }

    /// See [`HostApi::cancel`].
    pub fn cancel(&self, task: u64) {
        // SAFETY: `self` holds the object.
        unsafe { (self.table.cancel())(self.object, task) }
    }

    /// See [`HostApi::now`].
    pub fn now(&self) -> Duration {
        // SAFETY: `self` holds the object.
        Duration::from_nanos(unsafe { (self.table.now())(self.object) })
    }

    /// See [`HostApi::max_level`].
    pub fn max_level(&self) -> u8 {
        // SAFETY: `self` holds the object.
        unsafe { (self.table.max_level())(self.object) }
    }

    /// See [`HostApi::log`].
    pub fn log(&self, level: u8, target: &str, message: &str, fields: &str) {
        let record = LogRecord {
            level,
            target: target.into(),
            message: message.into(),
            fields: fields.into(),
        };
        // SAFETY: `self` holds the object.
        unsafe { (self.table.log())(self.object, &record) }
    }

    /// See [`HostApi::span`].
    pub fn span(&self, level: u8, target: &str, name: &str, fields: &str) -> u64 {
        let record =
            SpanRecord { level, target: target.into(), name: name.into(), fields: fields.into() };
        // SAFETY: `self` holds the object.
        unsafe { (self.table.span())(self.object, &record) }
    }

    /// See [`HostApi::span_step`].
    pub fn span_step(&self, span: u64, step: SpanStep) {
        // SAFETY: `self` holds the object.
        unsafe { (self.table.span_step())(self.object, span, step) }
    }

    /// See [`HostApi::is_trial`]. A host that was built before there were trials makes none.
    pub fn is_trial(&self) -> bool {
        // SAFETY: `self` holds the object.
        self.table.is_trial().is_some_and(|is_trial| unsafe { is_trial(self.object) })
    }
}

/// An event name that the host has resolved for this plugin.
pub struct RouteRef {
    route: *const (),
    table: HostTableRef,
}

// SAFETY: a route of the host is `Send + Sync`.
unsafe impl Send for RouteRef {}
// SAFETY: as above.
unsafe impl Sync for RouteRef {}

impl Drop for RouteRef {
    fn drop(&mut self) {
        // SAFETY: the route came from `resolve` of a host with this table, and is not used again.
        unsafe { (self.table.release_route())(self.route) }
    }
}

fn emission<'a>(
    parent: Option<&EventHandle>,
    to: &To<'a, RouteRef>,
    content: Content,
) -> Emission<'a> {
    let (route, name) = match to {
        To::Route(route) => (route.route, RStr::from_str("")),
        To::Name(name) => (ptr::null(), RStr::from_str(name)),
    };
    Emission { parent: parent.map_or(ptr::null(), EventHandle::object), route, name, content }
}

impl<T> Started<T> {
    fn into_result(self) -> Result<Start<T, BoundaryFuture<T>>, Buffer> {
        match self {
            Started::Ready(value) => Ok(Start::Ready(value)),
            Started::Pending(future) => Ok(Start::Pending(future)),
            Started::Panicked(message) => Err(message),
        }
    }
}

impl Clone for HostRef {
    fn clone(&self) -> Self {
        // SAFETY: `self` holds the object; the clone gets a count of its own.
        unsafe { (self.table.retain())(self.object) };
        HostRef { object: self.object, table: self.table }
    }
}

impl Drop for HostRef {
    fn drop(&mut self) {
        // SAFETY: gives up the count.
        unsafe { (self.table.release())(self.object) }
    }
}
