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
    progress::Progress,
};
use crate::dispatch::{
    apart::apart,
    call::{Entry, HandlerInfo},
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

impl Begun {
    /// Leaves a trace of the only handler's failure. Those of several, and of what goes on, leave theirs when they end.
    ///
    /// It looks and takes nothing: what a call gave is too large to be moved once more.
    #[inline]
    pub(crate) fn note(&self, event: &str, router: &Arc<Router>) {
        if let Begun::One(entry, ended) = self {
            router.note(event, &entry.info, ended);
        }
    }

    /// Waits for those that go on.
    pub(super) async fn ended(self) -> Gathered {
        match self {
            Begun::One(entry, ended) => Gathered::one(entry, ended),
            Begun::Done(gathered) => gathered,
            Begun::GoesOn(gathering) => gathering.await,
        }
    }
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
        progress: Arc<Progress>,
    ) -> Gathering {
        // Replies become JSON there, because code of those who replied must not run elsewhere.
        let there = async move { gathering.await.without_code() };
        let instead = move |after| progress.given_up(after, Arc::default);
        let receiver = apart(&self.site.workers, there, instead);
        Gathering { state: State::There(receiver), router: self.clone() }
    }
}

impl Gathering {
    /// One that is polled here, on a dispatch worker, for as long as it stays on one.
    pub(super) fn here(gathering: GatheringFuture, known: Known, router: Arc<Router>) -> Self {
        Gathering { state: State::Here(gathering, known), router }
    }
}

/// What is known of the handlers that are called, by whoever has to answer in their place.
pub(super) enum Known {
    /// There is one.
    Only(Arc<HandlerInfo>),
    /// There may be several: how far they have come.
    All(Arc<Progress>),
}

impl Known {
    fn progress(self) -> Arc<Progress> {
        match self {
            Known::Only(handler) => Progress::of(Arc::new([handler])),
            Known::All(progress) => progress,
        }
    }
}

enum State {
    Here(GatheringFuture, Known),
    There(oneshot::Receiver<Gathered>),
    Done,
}

impl Future for Gathering {
    type Output = Gathered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Gathered> {
        if !may_poll_here()
            && let State::Here(..) = self.state
            && let State::Here(gathering, known) = std::mem::replace(&mut self.state, State::Done)
        {
            *self = self.router.moved(gathering, known.progress());
        }
        let polled = match &mut self.state {
            State::Here(gathering, _) => gathering.as_mut().poll(cx),
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
        if let State::Here(gathering, _) = std::mem::replace(&mut self.state, State::Done)
            && !on_worker()
        {
            self.router.spawn_detached(async move { drop(gathering) });
        }
    }
}
