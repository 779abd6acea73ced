//! Handlers of the host itself, and of the program that embeds it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use ksi_abi::{Buffer, Counted, ReplyForm, panic::guarded};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::{
    call::{
        Callee, Started,
        outcome::{CallOutcome, CallReply},
    },
    event::{Event, EventRef},
};

/// Why a handler of the host failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

impl Failure {
    /// A failure of this code and message.
    pub fn new(code: &str, message: impl std::fmt::Display) -> Self {
        Failure { code: code.to_owned(), message: message.to_string() }
    }
}

type HostHandlerFuture = Pin<Box<dyn Future<Output = CallOutcome> + Send>>;

/// One such handler.
pub(crate) struct HostHandler {
    handler: Box<dyn Fn(EventRef) -> HostHandlerFuture + Send + Sync>,
    runtime: Handle,
}

impl HostHandler {
    /// A handler from a function. A reply that encodes as `null` is none.
    pub(crate) fn new<F, Fut, R>(runtime: Handle, handler: F) -> Self
    where
        F: Fn(EventRef) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Serialize,
    {
        let handler = Box::new(move |event| -> HostHandlerFuture {
            let future = handler(event);
            Box::pin(async move { outcome(future.await) })
        });
        HostHandler { handler, runtime }
    }
}

fn outcome<R: Serialize>(result: Result<R, Failure>) -> CallOutcome {
    let failed =
        |code: &str, message: &str| CallOutcome::Failed(ksi_abi::Failure::new(code, message));
    match result {
        Ok(reply) => {
            let mut json = Buffer::with_capacity(128);
            match serde_json::to_writer(&mut json, &reply) {
                Ok(()) if *json == *b"null" => CallOutcome::NoReply,
                Ok(()) => CallOutcome::Replied(CallReply::Bytes(json)),
                Err(error) => failed("encode", &error.to_string()),
            }
        }
        Err(Failure { code, message }) => failed(&code, &message),
    }
}

impl Callee for HostHandler {
    fn start(&self, _: u64, event: Counted<Event>, _: &ReplyForm, cx: &mut Context<'_>) -> Started {
        // It may keep the event for any time, on any thread: so it gets one without a plugin's
        // value.
        let event = match Event::to_json(&event) {
            Ok(event) => event,
            Err(failure) => return Started::Ready(failure.into()),
        };
        let _inside = self.runtime.enter();
        let mut future = match guarded(|| (self.handler)(EventRef::new(event))) {
            Ok(future) => future,
            Err(message) => return Started::Ready(CallOutcome::Panicked { message }),
        };
        match guarded(|| future.as_mut().poll(cx)) {
            Ok(Poll::Ready(ended)) => Started::Ready(ended),
            Ok(Poll::Pending) => {
                Started::Host(Box::pin(InRuntime { future, runtime: self.runtime.clone() }))
            }
            Err(message) => Started::Ready(CallOutcome::Panicked { message }),
        }
    }
}

/// Polls inside the host's runtime, so that a handler may use tokio; and catches what panics.
struct InRuntime {
    future: HostHandlerFuture,
    runtime: Handle,
}

impl Future for InRuntime {
    type Output = CallOutcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallOutcome> {
        let this = &mut *self;
        let _inside = this.runtime.enter();
        match guarded(|| this.future.as_mut().poll(cx)) {
            Ok(polled) => polled,
            Err(message) => Poll::Ready(CallOutcome::Panicked { message }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::event::{EventIds, NewEvent, Payload};

    fn panics_at_once(event: EventRef) -> std::future::Ready<Result<(), Failure>> {
        panic!("no {} here", event.name())
    }

    #[tokio::test]
    async fn a_handler_that_panics_before_it_gives_a_future_is_an_outcome() {
        let handler = HostHandler::new(Handle::current(), panics_at_once);
        let event = NewEvent::valid("a:b", Payload::from_json_bytes(b"{}".to_vec()));
        let event = Counted::new(Event::new(event, None, &EventIds::new(), 0));
        match handler.start(0, event, &ReplyForm::Json, &mut Context::from_waker(Waker::noop())) {
            Started::Ready(CallOutcome::Panicked { message }) => {
                assert!(message.to_text().contains("no a:b here"), "{message:?}");
            }
            _ => panic!("a panic was to be told"),
        }
    }
}
