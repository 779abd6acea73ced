//! What is emitted, on its way through the host: asked for at the first poll, and often done then.

use std::{
    borrow::Cow,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    task::{self, Poll},
};

use ksi_abi::{BoundaryFuture, Buffer, Content, Encoding, Layout, ReplyEnd, ReplyForm, Start};
use serde::de::DeserializeOwned;

use super::{Context, REJECTED};
use crate::{
    emitting::Beside,
    error::{Error, Result},
    event::Emit,
    report::{Report, decode_reply},
    subscriptions,
    types::AwaitedReply,
};

/// Something that the host is asked for at the first poll, and that is often done then. What it is
/// to get is there before.
///
/// No `async` block: that would hold the event itself, and move it twice.
enum Asked<T> {
    /// Not yet: this is what it is to get.
    Content(Content),
    /// Nothing could be made to ask with.
    Failed(Box<Error>),
    GoesOn(BoundaryFuture<T>),
    Done,
}

impl<T> Asked<T> {
    #[inline]
    fn with(content: Result<Content>) -> Self {
        content.map_or_else(|error| Asked::Failed(Box::new(error)), Asked::Content)
    }

    #[inline]
    fn poll(
        &mut self,
        cx: &mut task::Context<'_>,
        begin: impl FnOnce(
            Content,
            &mut task::Context<'_>,
        ) -> Result<Start<T, BoundaryFuture<T>>, Buffer>,
    ) -> Poll<Result<T>> {
        let ended = match mem::replace(self, Asked::Done) {
            Asked::Content(content) => match begin(content, cx) {
                Ok(Start::Ready(value)) => return Poll::Ready(Ok(value)),
                Ok(Start::Pending(future)) => {
                    *self = Asked::GoesOn(future);
                    return Poll::Pending;
                }
                Err(panic) => Err(panic),
            },
            Asked::GoesOn(mut future) => match Pin::new(&mut future).poll(cx) {
                Poll::Ready(ended) => ended,
                Poll::Pending => {
                    *self = Asked::GoesOn(future);
                    return Poll::Pending;
                }
            },
            Asked::Failed(error) => return Poll::Ready(Err(*error)),
            // As an `async` block does.
            Asked::Done => panic!("polled after it had ended"),
        };
        Poll::Ready(ended.map_err(|panic| Error::new("host_panicked", panic.to_text())))
    }
}

impl Context {
    #[inline]
    pub(crate) fn emit_beside<E: Emit, B: Beside>(
        &self,
        event: E,
        beside: B,
    ) -> impl Future<Output = Report> + use<'_, E, B> {
        let (mut name, slot) = (event.owned_name(), event.slot());
        let mut asked = Asked::with(event.into_content());
        poll_fn(move |cx| {
            let polled = asked.poll(cx, |content, cx| {
                beside.lend(|options| self.caller.emit(&name, slot, content, options, cx))
            });
            polled.map(|ended| {
                Report::new(ended.unwrap_or_else(subscriptions::refused), mem::take(&mut name))
            })
        })
    }

    #[inline]
    pub(crate) fn request_beside<R, E, B>(
        &self,
        event: E,
        beside: B,
    ) -> impl Future<Output = Result<R>> + use<'_, R, E, B>
    where
        R: AwaitedReply,
        E: Emit,
        B: Beside,
    {
        let (name, slot) = (event.owned_name(), event.slot());
        let mut asked = Asked::with(event.into_content());
        poll_fn(move |cx| {
            let polled = asked.poll(cx, |content, cx| {
                let form = ReplyForm::of(R::fingerprint());
                beside.lend(|options| self.caller.request(&name, slot, content, options, &form, cx))
            });
            polled.map(|end| reply(end?, &name))
        })
    }

    pub(crate) fn send_beside(&self, event: impl Emit, beside: &impl Beside) -> Result<()> {
        let (name, slot) = (event.owned_name(), event.slot());
        let content = event.into_content()?;
        let sent = beside.lend(|options| self.caller.send(&name, slot, content, options));
        sent.map_err(|refusal| Error::refused(REJECTED, &refusal))
    }
}

/// The one reply that a request wants.
#[inline]
#[expect(clippy::ptr_arg, reason = "a report takes it as it is, mostly without a copy")]
fn reply<R>(end: ReplyEnd, name: &Cow<'static, str>) -> Result<R>
where
    R: DeserializeOwned + Layout + Clone,
{
    match end {
        // The host has compared the fingerprints.
        ReplyEnd::Value(value) => value.take().map_err(|_| {
            Error::new("invalid_reply", format_args!("the reply to {name} is of another type"))
        }),
        ReplyEnd::Bytes(reply) => decode_reply(name, Encoding::of(&reply)),
        ReplyEnd::Report(handle) => Report::new(handle, name.clone()).into_reply(),
    }
}
