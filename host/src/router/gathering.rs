//! What goes on of an emit after its first poll, wherever it is polled.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use smallvec::smallvec;
use tokio::sync::oneshot;

use super::{
    Router,
    gather::{Gathered, GatheringFuture, Handlers, Place},
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
    /// Of the only handler, whose call goes on. It is polled here, on a dispatch worker, for as long as it stays on one.
    #[inline]
    pub(super) fn one(call: OnlyCall, router: Arc<Router>) -> Self {
        Gathering { state: State::One(call), router }
    }

    /// Of several, which tell how far they have come; polled likewise.
    pub(super) fn several(
        gathering: GatheringFuture,
        progress: Arc<Progress>,
        router: Arc<Router>,
    ) -> Self {
        Gathering { state: State::Several(gathering, progress), router }
    }
}

/// The call of an event's only handler, after its first poll.
pub(super) struct OnlyCall {
    pub(super) call: Pin<Box<dyn Future<Output = Ended> + Send>>,
    pub(super) handler: Arc<HandlerInfo>,
    /// The name of the event.
    pub(super) event: Arc<str>,
    pub(super) place: Place,
}

impl OnlyCall {
    fn poll(&mut self, router: &Arc<Router>, cx: &mut Context<'_>) -> Poll<Gathered> {
        let ended = ready!(self.call.as_mut().poll(cx));
        self.place = None;
        router.note(&self.event, &self.handler, &ended);
        let handlers = Handlers::Known(Arc::new([self.handler.clone()]));
        Poll::Ready(Gathered { handlers, ended: smallvec![ended] })
    }
}

enum State {
    One(OnlyCall),
    Several(GatheringFuture, Arc<Progress>),
    There(oneshot::Receiver<Gathered>),
    Done,
}

impl Gathering {
    /// Goes on in a task on the workers.
    fn moves(&mut self) {
        *self = match std::mem::replace(&mut self.state, State::Done) {
            State::One(mut call) => {
                let progress = Progress::of(Arc::new([call.handler.clone()]));
                let router = self.router.clone();
                let there = async move { poll_fn(|cx| call.poll(&router, cx)).await };
                self.router.moved(there, progress)
            }
            State::Several(gathering, progress) => self.router.moved(gathering, progress),
            State::There(_) | State::Done => return,
        };
    }
}

impl Future for Gathering {
    type Output = Gathered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Gathered> {
        if !may_poll_here() && matches!(self.state, State::One(_) | State::Several(..)) {
            self.moves();
        }
        let Gathering { state, router } = &mut *self;
        let polled = match state {
            State::One(call) => call.poll(router, cx),
            State::Several(gathering, _) => gathering.as_mut().poll(cx),
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
        if matches!(self.state, State::One(_) | State::Several(..)) && !on_worker() {
            let state = std::mem::replace(&mut self.state, State::Done);
            self.router.spawn_detached(async move { drop(state) });
        }
    }
}
