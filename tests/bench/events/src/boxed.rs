//! The handlers as boxed futures in one binary: the price of a call to somebody who is known at run
//! time only.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use crate::{Added, Laps, Letter, Numbers, Ran, Run};

type Boxed<R> = Pin<Box<dyn Future<Output = Result<R, String>> + Send>>;
/// One that has been polled or will be, and what it came to.
type Call<R> = (Boxed<R>, Option<Result<R, String>>);
type Handler<E, R> = Arc<dyn Fn(Arc<E>) -> Boxed<R> + Send + Sync>;

/// Handlers that share the event and may keep it, like a plugin's.
pub async fn numbers(run: Run) -> Ran {
    let answer =
        |asked: Arc<Numbers>| -> Boxed<Added> { Box::pin(async move { Ok(asked.answer().await) }) };
    emit(run, Numbers::ask, answer, Added::answers).await
}

/// The same with a payload on the heap. The handler answers with a copy: the event is not its own.
pub async fn letters(run: Run) -> Ran {
    let answer = |asked: Arc<Letter>| -> Boxed<Letter> {
        Box::pin(async move { Ok(Letter::clone(&asked).answer().await) })
    };
    emit(run, Letter::ask, answer, Letter::answers).await
}

async fn emit<E: Send + Sync + 'static, R>(
    run: Run,
    ask: impl Fn(u64, bool) -> E,
    answer: impl Fn(Arc<E>) -> Boxed<R> + Copy + Send + Sync + 'static,
    right: impl Fn(&R, u64) -> bool,
) -> Ran {
    let handlers: Vec<Handler<E, R>> =
        (0..run.handlers()).map(|_| Arc::new(answer) as Handler<E, R>).collect();
    // So that nothing of them is known where they are called.
    let handlers = std::hint::black_box(handlers);
    let mut laps = Laps::begin(&run);
    while let Some(number) = laps.round() {
        let event = Arc::new(ask(number, run.pending));
        if let [handler] = &handlers[..] {
            let reply = handler(event).await;
            laps.replied(reply.is_ok_and(|reply| right(&reply, number)));
        } else {
            for reply in all(handlers.iter().map(|handler| handler(event.clone()))).await {
                laps.replied(reply.is_ok_and(|reply| right(&reply, number)));
            }
        }
    }
    laps.end()
}

/// Polls all of them until each is ready; what they came to, in their order.
async fn all<R>(calls: impl Iterator<Item = Boxed<R>>) -> Vec<Result<R, String>> {
    let mut calls: Vec<Call<R>> = calls.map(|call| (call, None)).collect();
    poll_fn(|cx| {
        let mut ready = true;
        for (call, reply) in calls.iter_mut().filter(|(_, reply)| reply.is_none()) {
            match call.as_mut().poll(cx) {
                Poll::Ready(it) => *reply = Some(it),
                Poll::Pending => ready = false,
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    calls.into_iter().filter_map(|(_, reply)| reply).collect()
}

/// The leanest that is still a boxed future: one handler that borrows the event.
pub async fn borrowed(run: Run) -> Ran {
    type Borrowing<'a> = Pin<Box<dyn Future<Output = Added> + Send + 'a>>;
    type BorrowingHandler = Box<dyn for<'a> Fn(&'a Numbers) -> Borrowing<'a> + Send + Sync>;
    let handler: BorrowingHandler = Box::new(|asked| Box::pin(asked.answer()));
    let handler = std::hint::black_box(handler);
    let mut laps = Laps::begin(&run);
    while let Some(number) = laps.round() {
        let reply = handler(&Numbers::ask(number, run.pending)).await;
        laps.replied(reply.answers(number));
    }
    laps.end()
}
