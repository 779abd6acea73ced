//! Clients inside a plugin: tasks that emit what the soak tells them to, and tell it what became of
//! it.

use std::{future::poll_fn, task::Poll, time::Duration};

use ksi_plugin_api::prelude::*;

use crate::payloads::{Ended, Next, Outcome, Request, Turn};

/// Before the soak is asked again, when it has nothing to do or does not answer yet.
const PAUSE: Duration = Duration::from_millis(5);

/// Drives one lane until the soak says that it is over.
pub(crate) async fn client(ctx: Context, lane: u64) {
    let mut ended = None;
    loop {
        let turn = Turn { lane, ended: ended.take() };
        match ctx.request::<Next>(named("soak:turn", &turn)).await {
            Ok(Next { over: true, .. }) => return,
            Ok(Next { request: Some(request), .. }) => {
                ended = Some(emit(&ctx, request).await);
                give_way().await;
            }
            Ok(Next { request: None, .. }) => ctx.sleep(PAUSE).await,
            Err(_) => {
                // The soak handles this event only once the host has started; what was not told is
                // told then.
                ended = turn.ended;
                ctx.sleep(PAUSE).await;
            }
        }
    }
}

/// Lets others have the thread. Requests are mostly answered at once, so that a client would keep
/// it for itself.
async fn give_way() {
    let mut gave = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut gave, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn emit(ctx: &Context, request: Request) -> Ended {
    let began = ctx.now();
    let report = ctx.emit(named(&request.event, &request.data)).await;
    let micros = u64::try_from((ctx.now() - began).as_micros()).unwrap_or(u64::MAX);
    let outcomes = report.outcomes().into_iter().map(|outcome| {
        let (code, reply, message) = match outcome.result {
            OutcomeKind::Replied(reply) => ("replied".to_owned(), Some(reply), String::new()),
            OutcomeKind::NoReply => ("no_reply".to_owned(), None, String::new()),
            OutcomeKind::Failed { code, message } => (code, None, message),
            OutcomeKind::Panicked { message } => ("panicked".to_owned(), None, message),
            OutcomeKind::Crashed { message } => ("crashed".to_owned(), None, message),
            OutcomeKind::TimedOut { message } => ("timed_out".to_owned(), None, message),
            OutcomeKind::Rejected { reason } => ("rejected".to_owned(), None, reason),
            other => ("new".to_owned(), None, format!("{other:?}")),
        };
        Outcome { code, reply, message }
    });
    Ended { micros, outcomes: outcomes.collect() }
}
