//! The handlers as actors: tasks with a queue, which answer through a channel of each request's
//! own.

use ksi_bench_events::{Laps, Letter, Numbers, Ran, Run};
use tokio::sync::{mpsc, oneshot};

/// Requests that wait for one actor at most; there is never more than one.
const QUEUE: usize = 16;

/// Plain data, asked of as many actors as the run has handlers.
pub(crate) async fn numbers(run: Run) -> Ran {
    let answers = |reply: &_, number| ksi_bench_events::Added::answers(reply, number);
    emit(run, Numbers::ask, |asked: Numbers| asked.answer(), answers).await
}

/// The same with letters.
pub(crate) async fn letters(run: Run) -> Ran {
    emit(run, Letter::ask, |asked: Letter| asked.answer(), Letter::answers).await
}

async fn emit<E, R, F>(
    run: Run,
    ask: impl Fn(u64, bool) -> E,
    answer: impl Fn(E) -> F + Copy + Send + 'static,
    right: impl Fn(&R, u64) -> bool,
) -> Ran
where
    E: Send + 'static,
    R: Send + 'static,
    F: Future<Output = R> + Send,
{
    let actors: Vec<_> = (0..run.handlers())
        .map(|_| {
            let (actor, mut requests) = mpsc::channel::<(E, oneshot::Sender<R>)>(QUEUE);
            tokio::spawn(async move {
                while let Some((asked, reply)) = requests.recv().await {
                    // Whoever asked waits, or is gone, and then the reply is nobody's.
                    let _ = reply.send(answer(asked).await);
                }
            });
            actor
        })
        .collect();
    let mut laps = Laps::begin(&run);
    let mut replies = Vec::with_capacity(actors.len());
    while let Some(number) = laps.round() {
        for actor in &actors {
            let (sender, reply) = oneshot::channel();
            if actor.send((ask(number, run.pending), sender)).await.is_ok() {
                replies.push(reply);
            }
        }
        for reply in replies.drain(..) {
            laps.replied(reply.await.is_ok_and(|reply| right(&reply, number)));
        }
    }
    laps.end()
}
