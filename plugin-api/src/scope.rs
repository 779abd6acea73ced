//! What stands behind a context: what all contexts of an instance share, and the event of a call.
//!
//! Invariant: an event and a route stand beside the host that gave them. Whoever emits passes both
//! back to it, and a host takes them for its own.

#![allow(unsafe_code)]

use std::{sync::Arc, task};

use ksi_abi::{
    BoundaryFuture, Buffer, Content, EmitOptions, EventHandle, HostRef, Refusal, ReplyEnd,
    ReplyForm, ReportHandle, Start, To,
    export::{LentArc, Shared},
    host::RouteRef,
};

use crate::{
    event::EventSlot, routes::Routes, runtime::RuntimeHandle, subscriptions::Subscriptions,
};

/// What all contexts of one instance share.
pub(crate) struct Scope {
    pub(crate) host: HostRef,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) runtime: RuntimeHandle,
    routes: Routes,
}

impl Scope {
    pub(crate) fn new(host: HostRef, runtime: RuntimeHandle) -> Self {
        let (subscriptions, routes) = (Subscriptions::default(), Routes::default());
        Scope { host, subscriptions, runtime, routes }
    }
}

/// Who asks the host for something: an instance, perhaps in a call.
#[derive(Clone)]
pub(crate) struct Caller {
    scope: LentArc<Scope>,
    event: Option<EventHandle>,
}

/// Something that begins in the host, or the message of a panic there.
type Begun<T> = Result<Start<T, BoundaryFuture<T>>, Buffer>;

impl Caller {
    /// An instance outside of calls.
    pub(crate) fn new(scope: Arc<Scope>) -> Self {
        Caller { scope: LentArc::counted(scope), event: None }
    }

    /// A call of the instance that keeps the selected scope; without an event if the host itself
    /// calls.
    ///
    /// # Safety
    /// The instance keeps this scope for its whole life. What is made, and is no clone of it, is
    /// dropped with the call. The event is of the scope's host.
    pub(crate) unsafe fn of_call<P>(
        this: Shared<P>,
        scope: impl FnOnce(&P) -> &Arc<Scope>,
        event: Option<EventHandle>,
    ) -> Self {
        // SAFETY: promised by the caller.
        Caller { scope: unsafe { LentArc::of(this, scope) }, event }
    }

    /// The same without the event.
    pub(crate) fn detached(self) -> Self {
        Caller { scope: self.scope, event: None }
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(crate) fn event(&self) -> Option<&EventHandle> {
        self.event.as_ref()
    }

    /// See [`HostApi::emit`](ksi_abi::HostApi::emit). Inlined,
    /// so that the content is not moved on its way.
    #[inline(always)]
    pub(crate) fn emit(
        &self,
        name: &str,
        slot: Option<&EventSlot>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        cx: &mut task::Context<'_>,
    ) -> Begun<ReportHandle> {
        // SAFETY: the event and the route are of this host.
        unsafe { self.scope.host.emit(self.event(), self.to(name, slot), content, options, cx) }
    }

    /// See [`HostApi::request`](ksi_abi::HostApi::request). Inlined,
    /// so that the content is not moved on its way.
    #[inline(always)]
    pub(crate) fn request(
        &self,
        name: &str,
        slot: Option<&EventSlot>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
        wants: &ReplyForm,
        cx: &mut task::Context<'_>,
    ) -> Begun<ReplyEnd> {
        let (host, to) = (&self.scope.host, self.to(name, slot));
        // SAFETY: as in `emit`.
        unsafe { host.request(self.event(), to, content, options, wants, cx) }
    }

    /// See [`HostApi::send`](ksi_abi::HostApi::send).
    pub(crate) fn send(
        &self,
        name: &str,
        slot: Option<&EventSlot>,
        content: Content,
        options: Option<&EmitOptions<'_>>,
    ) -> Result<(), Refusal> {
        // SAFETY: as in `emit`.
        unsafe { self.scope.host.send(self.event(), self.to(name, slot), content, options) }
    }

    /// The way of events of a type, if there is one that the host has found before.
    #[inline]
    fn to<'a>(&'a self, name: &'a str, slot: Option<&EventSlot>) -> To<'a, RouteRef> {
        let route = slot.and_then(|slot| self.scope.routes.get(slot, name, &self.scope.host));
        route.map_or(To::Name(name), To::Route)
    }
}
