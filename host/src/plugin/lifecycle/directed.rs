//! Calls that go to one instance and are routed nowhere: what the host asks of a plugin itself.

use std::{future::poll_fn, task::Poll, time::Duration};

use ksi_abi::ReplyForm;
use ksi_kernel::{
    call::{Started, outcome::CallOutcome},
    event::{self, Payload},
    report::OutcomeKind,
    router::Router,
};
use tokio::time::timeout;

use crate::plugin::instance::body::Body;

/// Calls a handler of an instance with an event that nobody else gets. On a dispatch worker.
pub(crate) async fn call(
    instance: &dyn Body,
    handler: u64,
    (event, payload): (&'static str, Payload),
    limit: Duration,
    router: &Router,
) -> OutcomeKind {
    let event = router.directed(event::of_host(event, payload));
    let started =
        poll_fn(|cx| Poll::Ready(instance.start(handler, event.clone(), &ReplyForm::Json, cx)));
    let ended = async {
        match started.await {
            Started::Ready(ended) => ended.into(),
            Started::Host(future) => future.await.into(),
            Started::Elsewhere(future) => match future.await {
                Ok(ended) => ended.into(),
                Err(_) => OutcomeKind::Rejected { reason: "its process is gone".to_owned() },
            },
            Started::Plugin(future) => match future.await {
                Ok(end) => CallOutcome::from(end).into(),
                Err(message) => OutcomeKind::Panicked { message: message.to_text() },
            },
        }
    };
    let timed = {
        let _inside = router.runtime().enter();
        timeout(limit, ended)
    };
    timed.await.unwrap_or(OutcomeKind::TimedOut { after: limit })
}
