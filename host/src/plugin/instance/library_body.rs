//! An instance in a library of this process.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use ksi_abi::{CallStart, Counted, EventHandle, Instance, ReplyForm, Start};
use ksi_kernel::{
    call::{Started, outcome::CallOutcome},
    event::Event,
    report::OutcomeKind,
    value::Keeper,
};

use super::{
    body::{Answer, Body, Unused},
    live::{FirstCalls, Live, LiveInstance},
};

/// An instance that a library made.
pub(crate) struct LibraryBody {
    instance: Instance,
    /// It goes after the instance.
    keeper: Option<Arc<dyn Keeper>>,
}

impl LibraryBody {
    /// One whose library is kept so, unless that stays for as long as the process does.
    pub(crate) fn new(instance: Instance, keeper: Option<Arc<dyn Keeper>>) -> Self {
        LibraryBody { instance, keeper }
    }
}

impl Body for LibraryBody {
    // A call of `Live` is one jump for it.
    #[inline(always)]
    fn start(
        &self,
        handler: u64,
        event: Counted<Event>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Started {
        match self.instance.call(handler, EventHandle::new(event), form, cx).into_start() {
            Start::Ready(end) => Started::Ready(end.into()),
            Start::Pending(future) => Started::Plugin(future),
        }
    }

    fn snapshot(&self, version: u32) -> Answer<'_> {
        Box::pin(async move {
            ended(poll_fn(|cx| Poll::Ready(self.instance.snapshot(version, cx))).await).await
        })
    }

    fn restore<'a>(&'a self, version: u32, bytes: &'a [u8]) -> Answer<'a> {
        Box::pin(async move {
            ended(poll_fn(|cx| Poll::Ready(self.instance.restore(version, bytes, cx))).await).await
        })
    }

    fn read_back<'a>(&'a self, version: u32, bytes: &'a [u8]) -> Answer<'a> {
        Box::pin(async move { CallOutcome::from(self.instance.read_back(version, bytes)).into() })
    }

    fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        self.keeper.clone()
    }

    fn into_live(self: Box<Self>, first_calls: FirstCalls) -> (Arc<dyn LiveInstance>, Unused) {
        let (live, unused) = Live::new(*self, first_calls);
        (live, unused)
    }
}

async fn ended(started: CallStart) -> OutcomeKind {
    match started.into_start() {
        Start::Ready(end) => CallOutcome::from(end).into(),
        Start::Pending(future) => match future.await {
            Ok(end) => CallOutcome::from(end).into(),
            Err(message) => OutcomeKind::Panicked { message: message.to_text() },
        },
    }
}
