//! A plugin's reference to its host.

#[cfg(unix)]
use std::os::fd::{IntoRawFd, OwnedFd};
use std::{ptr, sync::Arc, task::Context, time::Duration};

use abi_stable::{
    StableAbi,
    std_types::{RSlice, RStr},
};

use super::{
    BoundaryFuture, Buffer, Content, EmitOptions, EventHandle, LogRecord, Refusal, ReportHandle,
    SpanRecord, SubscribeOptions,
    host::{HostApi, ReplyEnd, ReplyForm, SpanStep, Start, To, WaitEnd, WatchStep},
    host_table::{Emission, HostShims, HostTableRef, nanos},
    kept,
    waker::{self, LentWaker},
};

/// A counted reference to the host, for one generation of a plugin. As long as one exists, the
/// library stays.
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

impl HostRef {
    /// A reference to `host`.
    pub fn new<H: HostApi>(host: Arc<H>) -> Self {
        HostRef {
            object: Arc::into_raw(host).cast(),
            table: HostTableRef(HostShims::<H>::TABLE.as_prefix()),
        }
    }

    /// See [`HostApi::resolve`]. None when the host refuses: then it says why when the name is
    /// emitted.
    pub fn resolve(&self, name: &str) -> Option<RouteRef> {
        // SAFETY: `self` holds the object.
        let route = unsafe { (self.table.resolve())(self.object, RStr::from_str(name)) };
        (!route.is_null()).then(|| RouteRef { route, table: self.table })
    }

    /// See [`HostApi::emit`].
    ///
    /// # Errors
    /// The message of a panic in the host.
    ///
    /// # Safety
    /// The parent is an event that this host gave, and the route one that it resolved.
    #[inline]
    pub unsafe fn emit(
        &self,
        parent: Option<&EventHandle>,
        to: To<'_, RouteRef>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        cx: &mut Context<'_>,
    ) -> Result<Start<ReportHandle, BoundaryFuture<ReportHandle>>, Buffer> {
        let lent = LentWaker::new(cx.waker());
        let mut emission = emission(parent, &to, content, options);
        let base = waker::unwrapped(cx.waker()).unwrap_or_else(|| lent.as_base());
        // SAFETY: `self` holds the object; what the emission and the waker point to is alive during
        // the call, and of this host, as the caller promises.
        unsafe { (self.table.emit())(self.object, &mut emission, base) }.into_result()
    }

    /// See [`HostApi::request`].
    ///
    /// # Errors
    /// As in [`emit`](Self::emit).
    ///
    /// # Safety
    /// As in [`emit`](Self::emit).
    #[inline]
    pub unsafe fn request(
        &self,
        parent: Option<&EventHandle>,
        to: To<'_, RouteRef>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        wants: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Result<Start<ReplyEnd, BoundaryFuture<ReplyEnd>>, Buffer> {
        let lent = LentWaker::new(cx.waker());
        let mut emission = emission(parent, &to, content, options);
        let base = waker::unwrapped(cx.waker()).unwrap_or_else(|| lent.as_base());
        // SAFETY: as in `emit`.
        unsafe { (self.table.request())(self.object, &mut emission, wants, base) }.into_result()
    }

    /// See [`HostApi::send`].
    ///
    /// # Safety
    /// As in [`emit`](Self::emit).
    pub unsafe fn send(
        &self,
        parent: Option<&EventHandle>,
        to: To<'_, RouteRef>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<(), Refusal> {
        let mut emission = emission(parent, &to, content, options);
        // SAFETY: as in `emit`.
        let end = unsafe { (self.table.send())(self.object, &mut emission) };
        end.into_result().map(drop)
    }

    /// See [`HostApi::wait_for`].
    pub fn wait_for(&self, pattern: &str, timeout: Duration) -> BoundaryFuture<WaitEnd> {
        // SAFETY: `self` holds the object.
        unsafe { (self.table.wait_for())(self.object, RStr::from_str(pattern), nanos(timeout)) }
    }

    /// See [`HostApi::watch`].
    ///
    /// # Errors
    /// Why the host does not show them.
    pub fn watch(&self, patterns: &[&str], capacity: usize) -> Result<WatchRef, Refusal> {
        let patterns: Vec<RStr<'_>> = patterns.iter().map(|pattern| (*pattern).into()).collect();
        let (patterns, capacity) = (RSlice::from_slice(&patterns), capacity as u64);
        // SAFETY: `self` holds the object; the patterns are alive during the call.
        let watch = unsafe { (self.table.watch())(self.object, patterns, capacity) };
        watch.into_result().map(|watch| WatchRef { watch, host: self.clone() })
    }

    /// See [`HostApi::subscribe`].
    pub fn subscribe(
        &self,
        pattern: &str,
        handler: u64,
        options: &SubscribeOptions<'_>,
    ) -> Result<u64, Refusal> {
        // SAFETY: `self` holds the object.
        let end = unsafe {
            (self.table.subscribe())(self.object, RStr::from_str(pattern), handler, options)
        };
        end.into_result()
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
    pub fn spawn(&self, future: BoundaryFuture<u8>) -> Result<u64, Refusal> {
        // SAFETY: `self` holds the object.
        let end = unsafe { (self.table.spawn())(self.object, future) };
        end.into_result()
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
            extensions: RSlice::EMPTY,
        };
        // SAFETY: `self` holds the object.
        unsafe { (self.table.log())(self.object, &record) }
    }

    /// See [`HostApi::span`].
    pub fn span(&self, level: u8, target: &str, name: &str, fields: &str) -> u64 {
        let record = SpanRecord {
            level,
            target: target.into(),
            name: name.into(),
            fields: fields.into(),
            extensions: RSlice::EMPTY,
        };
        // SAFETY: `self` holds the object.
        unsafe { (self.table.span())(self.object, &record) }
    }

    /// See [`HostApi::span_step`].
    pub fn span_step(&self, span: u64, step: SpanStep) {
        // SAFETY: `self` holds the object.
        unsafe { (self.table.span_step())(self.object, span, step) }
    }

    /// See [`HostApi::is_trial`].
    pub fn is_trial(&self) -> bool {
        // SAFETY: `self` holds the object.
        unsafe { (self.table.is_trial())(self.object) }
    }

    /// See [`HostApi::file`].
    pub fn file(&self) -> Option<Vec<u8>> {
        // SAFETY: `self` holds the object.
        let path = unsafe { (self.table.file())(self.object) };
        (!path.is_empty()).then(|| path.to_vec())
    }

    /// See [`HostApi::listener`].
    #[cfg(unix)]
    pub fn listener(&self, address: &str) -> Result<OwnedFd, Refusal> {
        // SAFETY: `self` holds the object.
        let end = unsafe { (self.table.listener())(self.object, RStr::from_str(address)) };
        // SAFETY: the host gives the descriptor away.
        end.into_result().map(|it| unsafe { kept::owned(it) })
    }

    /// See [`HostApi::keep`].
    #[cfg(unix)]
    pub fn keep(&self, name: &str, descriptor: OwnedFd) -> Result<(), Refusal> {
        let (name, descriptor) = (RStr::from_str(name), descriptor.into_raw_fd());
        // SAFETY: `self` holds the object; the descriptor is given away.
        let end = unsafe { (self.table.keep())(self.object, name, descriptor) };
        end.into_result().map(drop)
    }

    /// See [`HostApi::kept`].
    #[cfg(unix)]
    pub fn kept(&self, name: &str) -> Result<Option<OwnedFd>, Refusal> {
        // SAFETY: `self` holds the object.
        let end = unsafe { (self.table.kept())(self.object, RStr::from_str(name)) };
        // SAFETY: the host gives the descriptor away, if there is one.
        end.into_result().map(|it| unsafe { kept::owned_if_any(it) })
    }

    /// See [`HostApi::stop_keeping`].
    #[cfg(unix)]
    pub fn stop_keeping(&self, name: &str) -> bool {
        // SAFETY: `self` holds the object.
        unsafe { (self.table.stop_keeping())(self.object, RStr::from_str(name)) }
    }
}

/// Events that the host shows to this plugin. It holds the host.
pub struct WatchRef {
    watch: *const (),
    host: HostRef,
}

// SAFETY: a watch of the host is `Send + Sync`.
unsafe impl Send for WatchRef {}
// SAFETY: as above.
unsafe impl Sync for WatchRef {}

impl WatchRef {
    /// See [`HostApi::next`].
    pub fn next(&self) -> BoundaryFuture<WatchStep> {
        // SAFETY: the host that is held gave the watch, which is not released before `self` is
        // gone.
        unsafe { (self.host.table.next())(self.host.object, self.watch) }
    }
}

impl Drop for WatchRef {
    fn drop(&mut self) {
        // SAFETY: the watch came from the host that is held, and is not used again.
        unsafe { (self.host.table.release_watch())(self.watch) }
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
    options: Option<&'a EmitOptions<'a>>,
) -> Emission<'a> {
    let (route, name) = match to {
        To::Route(route) => (route.route, RStr::from_str("")),
        To::Name(name) => (ptr::null(), RStr::from_str(name)),
    };
    let parent = parent.map_or(ptr::null(), EventHandle::object);
    Emission { parent, route, name, content, options }
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
