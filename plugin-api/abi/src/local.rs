//! An instance of a plugin that is compiled into this very binary, for tests without a library.
//!
//! What an [`Instance`] asks of its owner is held by types here: a call that goes on keeps the
//! instance, events are those of the host that it was made with, and there is no library to be
//! closed.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    BoundaryFuture, CallEnd, CallStart, Counted, EventHandle, HostApi, HostRef, Instance,
    ReplyForm, Start,
    export::{self, Exported},
    module,
};

/// An instance in this binary, which has `H` for its host.
pub struct Local<H> {
    instance: Arc<Instance>,
    host: PhantomData<fn(H)>,
}

impl<H> Clone for Local<H> {
    fn clone(&self) -> Self {
        Local { instance: self.instance.clone(), host: PhantomData }
    }
}

impl<H: HostApi> Local<H> {
    /// Makes an instance of `P`.
    pub fn create<P: Exported>(
        host: Arc<H>,
        config: &[u8],
    ) -> impl Future<Output = Result<Self, CallEnd>> + Send + use<P, H> {
        // SAFETY: this binary is never closed; events come in as those of `H`; and what goes on
        // holds the instance.
        let made = unsafe { module::create(export::module::<P>(), HostRef::new(host), config) };
        async move { Ok(Local { instance: Arc::new(made.await?), host: PhantomData }) }
    }

    /// See [`Instance::call`].
    pub fn call(
        &self,
        handler: u64,
        event: Counted<H::Event>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Start<CallEnd, GoesOn> {
        self.held(self.instance.call(handler, EventHandle::new(event), form, cx))
    }

    /// See [`Instance::snapshot`].
    pub fn snapshot(&self, version: u32, cx: &mut Context<'_>) -> Start<CallEnd, GoesOn> {
        self.held(self.instance.snapshot(version, cx))
    }

    /// See [`Instance::restore`].
    pub fn restore(
        &self,
        version: u32,
        state: &[u8],
        cx: &mut Context<'_>,
    ) -> Start<CallEnd, GoesOn> {
        self.held(self.instance.restore(version, state, cx))
    }

    /// See [`Instance::read_back`].
    pub fn read_back(&self, version: u32, state: &[u8]) -> CallEnd {
        self.instance.read_back(version, state)
    }

    fn held(&self, started: CallStart) -> Start<CallEnd, GoesOn> {
        match started.into_start() {
            Start::Ready(end) => Start::Ready(end),
            Start::Pending(future) => {
                Start::Pending(GoesOn { future, _instance: self.instance.clone() })
            }
        }
    }
}

/// The rest of a call. The order of the fields is the order in which they go: the call before its
/// instance.
pub struct GoesOn {
    future: BoundaryFuture<CallEnd>,
    _instance: Arc<Instance>,
}

impl Future for GoesOn {
    type Output = CallEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallEnd> {
        Pin::new(&mut self.future).poll(cx).map(|end| end.unwrap_or_else(CallEnd::Panicked))
    }
}
