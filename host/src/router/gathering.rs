//! What goes on of an emit after its first poll, wherever it is polled.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::{
    Router,
    gather::{Gathered, GatheringFuture},
};
use crate::dispatch::{
    call::Entry,
    ended::Ended,
    slot::{may_poll_here, on_worker},
};

/// How the handlers of an event began.
pub(crate) enum Begun {
    /// The only one has ended.
    One(Arc<Entry>, Ended),
    /// All of them have ended.
    Done(Gathered),
    /// Some go on.
    GoesOn(Gathering),
}

/// A future that holds calls into plugins. It is polled and dropped on dispatch workers only: wherever else somebody
/// polls it (a client's task, a plugin's own runtime), or too deep inside other calls, it moves to a task of its own on
/// the workers.
pub(crate) struct Gathering {
    state: State,
    router: Arc<Router>,
}

impl Router {
    /// A future that a task on the workers polls.
    pub(super) fn moved(
        self: &Arc<Self>,
        gathering: impl Future<Output = Gathered> + Send + 'static,
    ) -> Gathering {
        let (sender, receiver) = oneshot::channel();
        self.spawn_detached(async move {
            // Replies become JSON here, because code of those who replied must not run elsewhere. If nobody waits any
            // more, the event was accepted and has been handled all the same.
            let _ = sender.send(gathering.await.without_code());
        });
        Gathering { state: State::There(receiver), router: self.clone() }
    }
}

impl Gathering {
    /// One that is polled here, on a dispatch worker, for as long as it stays on one.
    pub(super) fn here(gathering: GatheringFuture, router: Arc<Router>) -> Self {
        Gathering { state: State::Here(gathering), router }
    }
}

enum State {
    Here(GatheringFuture),
    There(oneshot::Receiver<Gathered>),
    Done,
}

impl Future for Gathering {
    type Output = Gathered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Gathered> {
        if !may_poll_here()
            && let State::Here(_) = self.state
            && let State::Here(gathering) = std::mem::replace(&mut self.state, State::Done)
        {
            *self = self.router.moved(gathering);
        }
        let polled = match &mut self.state {
            State::Here(gathering) => gathering.as_mut().poll(cx),
            State::There(receiver) => Pin::new(receiver).poll(cx).map(|gathered| {
                gathered.unwrap_or_else(|_| Gathered::refused("the host is stopping".to_owned()))
            }),
            State::Done => Poll::Pending,
        };
        if polled.is_ready() {
            self.state = State::Done;
        }
        polled
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        if let State::Here(gathering) = std::mem::replace(&mut self.state, State::Done)
            && !on_worker()
        {
            self.router.spawn_detached(async move { drop(gathering) });
        }
    }
}
