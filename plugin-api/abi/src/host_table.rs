//! The functions by which a plugin reaches its host, and what stands behind them in the host.

use std::{
    future::{Future, poll_fn},
    marker::PhantomData,
    mem::ManuallyDrop,
    panic::resume_unwind,
    ptr,
    sync::Arc,
    task::Context,
    time::Duration,
};

use abi_stable::{
    StableAbi,
    prefix_type::WithMetadata,
    std_types::{RErr, ROk, RResult, RSlice, RStr},
};

use super::{
    BoundaryFuture, Buffer, Content, Counted, EmitOptions, LogRecord, Refusal, RefusalCode,
    ReportHandle, SpanRecord, SubscribeOptions, Value,
    host::{HostApi, ReplyEnd, ReplyForm, SpanStep, Start, To, WaitEnd, WatchStep},
    kept,
    object::event_of,
    panic::{discard, guarded},
    waker::{self, WakerBase},
};

#[repr(C, u64)]
#[derive(StableAbi)]
pub(super) enum Started<T> {
    Ready(T),
    Pending(BoundaryFuture<T>),
    /// The host panicked with this message.
    Panicked(Buffer),
}

/// Name and content of what is emitted. The name is looked at when the route is null.
#[repr(C)]
#[derive(StableAbi)]
pub(super) struct Emission<'a> {
    pub(super) parent: *const (),
    pub(super) route: *const (),
    pub(super) name: RStr<'a>,
    /// Taken out by who emits it.
    pub(super) content: Content,
    pub(super) options: Option<&'a EmitOptions<'a>>,
}

/// How a request began: a [`ReplyEnd`] with two cases more, flat, so that it comes back in two
/// registers.
#[repr(C, u64)]
#[derive(StableAbi)]
pub(super) enum Requested {
    Value(Value),
    Bytes(Buffer),
    Report(ReportHandle),
    Pending(BoundaryFuture<ReplyEnd>),
    /// The host panicked with this message.
    Panicked(Buffer),
}

impl From<Started<ReplyEnd>> for Requested {
    #[inline]
    fn from(started: Started<ReplyEnd>) -> Self {
        match started {
            Started::Ready(ReplyEnd::Value(value)) => Requested::Value(value),
            Started::Ready(ReplyEnd::Bytes(reply)) => Requested::Bytes(reply),
            Started::Ready(ReplyEnd::Report(report)) => Requested::Report(report),
            Started::Pending(future) => Requested::Pending(future),
            Started::Panicked(message) => Requested::Panicked(message),
        }
    }
}

impl Requested {
    #[inline]
    pub(super) fn into_result(self) -> Result<Start<ReplyEnd, BoundaryFuture<ReplyEnd>>, Buffer> {
        Ok(Start::Ready(match self {
            Requested::Value(value) => ReplyEnd::Value(value),
            Requested::Bytes(reply) => ReplyEnd::Bytes(reply),
            Requested::Report(report) => ReplyEnd::Report(report),
            Requested::Pending(future) => return Ok(Start::Pending(future)),
            Requested::Panicked(message) => return Err(message),
        }))
    }
}

impl<T> Started<T> {
    pub(super) fn into_result(self) -> Result<Start<T, BoundaryFuture<T>>, Buffer> {
        match self {
            Started::Ready(value) => Ok(Start::Ready(value)),
            Started::Pending(future) => Ok(Start::Pending(future)),
            Started::Panicked(message) => Err(message),
        }
    }
}

/// Functions of the host that a plugin calls, all of which every host has.
///
/// One that is appended without a new number of the ABI goes behind the last, and is one that may
/// be missing.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostTableRef)))]
#[sabi(missing_field(panic))]
pub struct HostTable {
    pub(super) retain: unsafe extern "C" fn(*const ()),
    pub(super) release: unsafe extern "C" fn(*const ()),
    /// Null when there is no such name.
    pub(super) resolve: unsafe extern "C" fn(*const (), RStr<'_>) -> *const (),
    pub(super) release_route: unsafe extern "C" fn(*const ()),
    pub(super) emit: unsafe extern "C" fn(
        *const (),
        &mut Emission<'_>,
        *const WakerBase,
    ) -> Started<ReportHandle>,
    pub(super) request: unsafe extern "C" fn(
        *const (),
        &mut Emission<'_>,
        &ReplyForm,
        *const WakerBase,
    ) -> Requested,
    pub(super) send: unsafe extern "C" fn(*const (), &mut Emission<'_>) -> RResult<u64, Refusal>,
    pub(super) wait_for: unsafe extern "C" fn(*const (), RStr<'_>, u64) -> BoundaryFuture<WaitEnd>,
    /// Events that pass, for `next`.
    pub(super) watch:
        unsafe extern "C" fn(*const (), RSlice<'_, RStr<'_>>, u64) -> RResult<*const (), Refusal>,
    /// What a watch of this host shows next.
    pub(super) next: unsafe extern "C" fn(*const (), *const ()) -> BoundaryFuture<WatchStep>,
    pub(super) release_watch: unsafe extern "C" fn(*const ()),
    pub(super) subscribe: unsafe extern "C" fn(
        *const (),
        RStr<'_>,
        u64,
        &SubscribeOptions<'_>,
    ) -> RResult<u64, Refusal>,
    pub(super) unsubscribe: unsafe extern "C" fn(*const (), u64) -> bool,
    pub(super) sleep: unsafe extern "C" fn(*const (), u64) -> BoundaryFuture<u8>,
    pub(super) spawn: unsafe extern "C" fn(*const (), BoundaryFuture<u8>) -> RResult<u64, Refusal>,
    pub(super) cancel: unsafe extern "C" fn(*const (), u64),
    pub(super) now: unsafe extern "C" fn(*const ()) -> u64,
    pub(super) max_level: unsafe extern "C" fn(*const ()) -> u8,
    pub(super) log: unsafe extern "C" fn(*const (), &LogRecord<'_>),
    pub(super) span: unsafe extern "C" fn(*const (), &SpanRecord<'_>) -> u64,
    pub(super) span_step: unsafe extern "C" fn(*const (), u64, SpanStep),
    pub(super) is_trial: unsafe extern "C" fn(*const ()) -> bool,
    /// A descriptor that the caller owns from then on.
    pub(super) listener: unsafe extern "C" fn(*const (), RStr<'_>) -> RResult<i32, Refusal>,
    /// Takes over a descriptor that the caller owned.
    pub(super) keep: unsafe extern "C" fn(*const (), RStr<'_>, i32) -> RResult<u64, Refusal>,
    /// As `listener`; -1 when there is none of that name.
    pub(super) kept: unsafe extern "C" fn(*const (), RStr<'_>) -> RResult<i32, Refusal>,
    pub(super) stop_keeping: unsafe extern "C" fn(*const (), RStr<'_>) -> bool,
    /// The bytes of a path, or nothing.
    #[sabi(last_prefix_field)]
    pub(super) file: unsafe extern "C" fn(*const ()) -> Buffer,
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) struct HostShims<H>(PhantomData<H>);

/// The event in whose handler something is emitted; its count stays with the plugin's handle.
type Parent<H> = Option<ManuallyDrop<Counted<<H as HostApi>::Event>>>;

fn answer<T>(result: Result<Result<T, Refusal>, Buffer>) -> RResult<T, Refusal> {
    match result {
        Ok(Ok(value)) => ROk(value),
        Ok(Err(refusal)) => RErr(refusal),
        Err(panic) => RErr(Refusal::new(RefusalCode::HOST_PANICKED, panic.to_text())),
    }
}

/// The functions that a [`HostTable`] points to. In all of them `object` is the pointer of a live
/// [`HostRef`] made for an `H`, and an event is null or the pointer of a live handle made for an
/// `H::Event`: a plugin gets both from its host alone and passes back what it got.
impl<H: HostApi> HostShims<H> {
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

    /// The same for a future that the host makes: on a thread that is about to end, it may have no
    /// more timers.
    fn made_by_host<T, F>(host: &Arc<H>, make: impl FnOnce() -> F) -> BoundaryFuture<T>
    where
        T: 'static,
        F: Future<Output = T> + Send + 'static,
    {
        match guarded(make) {
            Ok(future) => Self::of_host(host, future),
            Err(message) => {
                Self::of_host(host, poll_fn(move |_| resume_unwind(Box::new(message.to_text()))))
            }
        }
    }

    /// Lets `begin` begin something with a waker that the host may keep, and makes what goes on a
    /// future that does the same.
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
        // SAFETY: promised by the caller: the parent is an event of this host, and the route one
        // that it gave and that the plugin has not released.
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
            Ok(Some(route)) => Box::into_raw(Box::new(route)).cast_const().cast(),
            Ok(None) | Err(_) => ptr::null(),
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
            Self::start(&host, base, |cx| {
                let content = emission.content.take();
                host.emit(parent.as_deref(), to, content, emission.options, cx)
            })
        }
    }

    unsafe extern "C" fn request(
        object: *const (),
        emission: &mut Emission<'_>,
        wants: &ReplyForm,
        base: *const WakerBase,
    ) -> Requested {
        // SAFETY: as in `emit`.
        unsafe {
            let (host, (parent, to)) = (Self::host(object), Self::emitted(emission));
            Self::start(&host, base, |cx| {
                let content = emission.content.take();
                host.request(parent.as_deref(), to, content, emission.options, wants, cx)
            })
            .into()
        }
    }

    unsafe extern "C" fn send(
        object: *const (),
        emission: &mut Emission<'_>,
    ) -> RResult<u64, Refusal> {
        // SAFETY: see above.
        let (host, (parent, to)) = unsafe { (Self::host(object), Self::emitted(emission)) };
        let (content, options) = (emission.content.take(), emission.options);
        answer(guarded(|| host.send(parent.as_deref(), to, content, options).map(|()| 0)))
    }

    unsafe extern "C" fn wait_for(
        object: *const (),
        pattern: RStr<'_>,
        timeout: u64,
    ) -> BoundaryFuture<WaitEnd> {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        Self::made_by_host(&host, || host.wait_for(pattern.as_str(), Duration::from_nanos(timeout)))
    }

    unsafe extern "C" fn watch(
        object: *const (),
        patterns: RSlice<'_, RStr<'_>>,
        capacity: u64,
    ) -> RResult<*const (), Refusal> {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        let patterns: Vec<&str> = patterns.as_slice().iter().map(RStr::as_str).collect();
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        let watch = guarded(|| host.watch(&patterns, capacity));
        answer(watch.map(|it| it.map(|watch| Arc::into_raw(Arc::new(watch)).cast())))
    }

    unsafe extern "C" fn next(object: *const (), watch: *const ()) -> BoundaryFuture<WatchStep> {
        // SAFETY: see above; the watch is one that `watch` gave for an `H`, and its count stays
        // with the `WatchRef`.
        let (host, watch) = unsafe {
            (Self::host(object), ManuallyDrop::new(Arc::from_raw(watch.cast::<H::Watch>())))
        };
        Self::made_by_host(&host, || H::next(&watch))
    }

    unsafe extern "C" fn release_watch(watch: *const ()) {
        // SAFETY: the watch came from `watch`, and is not used again.
        discard(unsafe { Arc::from_raw(watch.cast::<H::Watch>()) });
    }

    unsafe extern "C" fn subscribe(
        object: *const (),
        pattern: RStr<'_>,
        handler: u64,
        options: &SubscribeOptions<'_>,
    ) -> RResult<u64, Refusal> {
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
        Self::made_by_host(&host, || host.sleep(Duration::from_nanos(duration)))
    }

    unsafe extern "C" fn spawn(
        object: *const (),
        future: BoundaryFuture<u8>,
    ) -> RResult<u64, Refusal> {
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

    unsafe extern "C" fn listener(object: *const (), address: RStr<'_>) -> RResult<i32, Refusal> {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        answer(guarded(|| kept::listener(&**host, address.as_str())))
    }

    unsafe extern "C" fn keep(
        object: *const (),
        name: RStr<'_>,
        descriptor: i32,
    ) -> RResult<u64, Refusal> {
        // SAFETY: see above; the caller gives the descriptor away.
        unsafe {
            let host = Self::host(object);
            answer(guarded(|| kept::keep(&**host, name.as_str(), descriptor).map(|()| 0)))
        }
    }

    unsafe extern "C" fn kept(object: *const (), name: RStr<'_>) -> RResult<i32, Refusal> {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        answer(guarded(|| kept::kept(&**host, name.as_str())))
    }

    unsafe extern "C" fn stop_keeping(object: *const (), name: RStr<'_>) -> bool {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        guarded(|| kept::stop_keeping(&**host, name.as_str())).unwrap_or(false)
    }

    unsafe extern "C" fn file(object: *const ()) -> Buffer {
        // SAFETY: see above.
        let host = unsafe { Self::host(object) };
        let file = guarded(|| host.file()).unwrap_or_default();
        file.map(|file| Buffer::from(&*file)).unwrap_or_default()
    }

    abi_stable::staticref! {
        pub(super) const TABLE: WithMetadata<HostTable> = WithMetadata::new(HostTable {
            retain: Self::retain,
            release: Self::release,
            resolve: Self::resolve,
            release_route: Self::release_route,
            emit: Self::emit,
            request: Self::request,
            send: Self::send,
            wait_for: Self::wait_for,
            watch: Self::watch,
            next: Self::next,
            release_watch: Self::release_watch,
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
            listener: Self::listener,
            keep: Self::keep,
            kept: Self::kept,
            stop_keeping: Self::stop_keeping,
            file: Self::file,
        });
    }
}
