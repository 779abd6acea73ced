//! What goes on of an emit after its first poll, wherever it is polled.

use std::{
    collections::HashSet,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;

use super::{
    Router,
    fan_out::{PendingFuture, QueuePlace},
    outcomes::{Handlers, Outcomes},
    progress::Progress,
};
use crate::{
    call::{CallTarget, HandlerInfo, outcome::CallOutcome},
    executor::{
        apart::apart,
        slot::{may_poll_here, on_worker},
    },
};

/// How the handlers of an event began.
pub(crate) enum FanOutStart {
    /// The only one has ended.
    One(Arc<CallTarget>, CallOutcome),
    /// All of them have ended.
    Done(Outcomes),
    /// Some go on.
    GoesOn(PendingFanOut),
}

impl FanOutStart {
    /// Leaves a trace of the only handler's failure. Those of several, and of what goes on, leave
    /// theirs when they end.
    ///
    /// It looks and takes nothing: what a call gave is too large to be moved once more.
    #[inline]
    pub(crate) fn note(&self, event: &str, router: &Arc<Router>) {
        if let FanOutStart::One(entry, ended) = self {
            router.note(event, &entry.info, ended);
        }
    }

    /// Waits for those that go on.
    pub(super) async fn ended(self) -> Outcomes {
        match self {
            FanOutStart::One(entry, ended) => Outcomes::one(entry, ended),
            FanOutStart::Done(outcomes) => outcomes,
            FanOutStart::GoesOn(pending) => pending.await,
        }
    }
}

/// A future that holds calls into plugins. It is polled and dropped on dispatch workers only:
/// wherever else somebody polls it (a client's task, a plugin's own runtime), or too deep inside
/// other calls, it moves to a task of its own on the workers.
pub(crate) struct PendingFanOut {
    state: PendingState,
    router: Arc<Router>,
}

impl Router {
    /// A future that a task on the workers polls.
    pub(super) fn moved(
        self: &Arc<Self>,
        pending: impl Future<Output = Outcomes> + Send + 'static,
        progress: Arc<Progress>,
    ) -> PendingFanOut {
        // Replies become JSON there, because code of those who replied must not run elsewhere.
        let there = async move { pending.await.without_code() };
        let instead = move |after| progress.given_up(after, Arc::default);
        let receiver = apart(&self.site.workers, there, instead);
        PendingFanOut { state: PendingState::There(receiver), router: self.clone() }
    }
}

impl PendingFanOut {
    /// Of the only handler, whose call goes on. It is polled here, on a dispatch worker, for as
    /// long as it stays on one.
    #[inline]
    pub(super) fn one(call: OnlyCall, router: Arc<Router>) -> Self {
        PendingFanOut { state: PendingState::One(call), router }
    }

    /// Of several; polled likewise.
    #[inline]
    pub(super) fn several(calls: SeveralCalls, router: Arc<Router>) -> Self {
        PendingFanOut { state: PendingState::Several(calls), router }
    }

    /// Of those of which some were held back, and which tell how far they have come; polled
    /// likewise.
    pub(super) fn held(
        pending: PendingFuture,
        progress: Arc<Progress>,
        router: Arc<Router>,
    ) -> Self {
        PendingFanOut { state: PendingState::Held(pending, progress), router }
    }
}

/// The call of an event's only handler, after its first poll.
pub(super) struct OnlyCall {
    pub(super) call: Pin<Box<dyn Future<Output = CallOutcome> + Send>>,
    pub(super) handler: Arc<HandlerInfo>,
    /// The name of the event.
    pub(super) event: Arc<str>,
    pub(super) place: QueuePlace,
}

impl OnlyCall {
    fn poll(&mut self, router: &Arc<Router>, cx: &mut Context<'_>) -> Poll<Outcomes> {
        let ended = ready!(self.call.as_mut().poll(cx));
        self.place = None;
        router.note(&self.event, &self.handler, &ended);
        let handlers = Handlers::One(self.handler.clone());
        Poll::Ready(Outcomes { handlers, ended: smallvec![ended] })
    }
}

/// A call that goes on, with its place in the report.
pub(super) struct GoingOn {
    pub(super) index: usize,
    pub(super) call: Pin<Box<dyn Future<Output = CallOutcome> + Send>>,
}

impl Future for GoingOn {
    type Output = (usize, CallOutcome);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let index = self.index;
        self.call.as_mut().poll(cx).map(|ended| (index, ended))
    }
}

/// The calls of an event's handlers, of which some go on.
pub(super) struct SeveralCalls {
    pub(super) calls: FuturesUnordered<GoingOn>,
    pub(super) handlers: Arc<[Arc<HandlerInfo>]>,
    /// How each ended, as far as it has.
    pub(super) ended: SmallVec<[CallOutcome; 1]>,
    /// The name of the event.
    pub(super) event: Arc<str>,
    pub(super) place: QueuePlace,
    /// Where it is noted how far they have come, if anybody may ask.
    pub(super) progress: Option<Arc<Progress>>,
    /// Whether what has ended is noted there.
    pub(super) is_noted: bool,
}

impl SeveralCalls {
    pub(super) fn poll(&mut self, router: &Arc<Router>, cx: &mut Context<'_>) -> Poll<Outcomes> {
        if !self.is_noted && self.progress.as_ref().is_some_and(|progress| progress.is_followed()) {
            self.progress();
        }
        while let Some((index, ended)) = ready!(self.calls.poll_next_unpin(cx)) {
            if let Some(progress) = &self.progress {
                progress.ended(&self.handlers[index], &ended);
            }
            self.ended[index] = ended;
        }
        self.place = None;
        router.note_all(&self.event, &self.handlers, &self.ended);
        let (handlers, ended) = (self.handlers.clone(), std::mem::take(&mut self.ended));
        Poll::Ready(Outcomes { handlers: Handlers::Known(handlers), ended })
    }

    /// How far they have come, noted from here on: whoever waits for the others may do so on a
    /// thread that is stuck in one of them.
    fn progress(&mut self) -> Arc<Progress> {
        let SeveralCalls { calls, handlers, ended, progress, is_noted, .. } = self;
        let progress = progress.get_or_insert_with(Arc::default);
        if !std::mem::replace(is_noted, true) {
            progress.follow();
            progress.begins(handlers.clone());
            let go_on: HashSet<usize> = calls.iter().map(|call| call.index).collect();
            for (index, end) in ended.iter().enumerate().filter(|(index, _)| !go_on.contains(index))
            {
                progress.ended(&handlers[index], end);
            }
        }
        progress.clone()
    }
}

enum PendingState {
    One(OnlyCall),
    Several(SeveralCalls),
    Held(PendingFuture, Arc<Progress>),
    There(oneshot::Receiver<Outcomes>),
    Done,
}

impl PendingState {
    fn holds_calls(&self) -> bool {
        matches!(self, PendingState::One(_) | PendingState::Several(_) | PendingState::Held(..))
    }
}

impl PendingFanOut {
    /// Goes on in a task on the workers.
    fn moves(&mut self) {
        *self = match std::mem::replace(&mut self.state, PendingState::Done) {
            PendingState::One(mut call) => {
                let progress = Progress::of(Arc::new([call.handler.clone()]));
                let router = self.router.clone();
                let there = async move { poll_fn(|cx| call.poll(&router, cx)).await };
                self.router.moved(there, progress)
            }
            PendingState::Several(mut calls) => {
                let (progress, router) = (calls.progress(), self.router.clone());
                let there = async move { poll_fn(|cx| calls.poll(&router, cx)).await };
                self.router.moved(there, progress)
            }
            PendingState::Held(pending, progress) => self.router.moved(pending, progress),
            PendingState::There(_) | PendingState::Done => return,
        };
    }
}

impl Future for PendingFanOut {
    type Output = Outcomes;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcomes> {
        if !may_poll_here() && self.state.holds_calls() {
            self.moves();
        }
        let PendingFanOut { state, router } = &mut *self;
        let polled = match state {
            PendingState::One(call) => call.poll(router, cx),
            PendingState::Several(calls) => calls.poll(router, cx),
            PendingState::Held(pending, _) => pending.as_mut().poll(cx),
            PendingState::There(receiver) => Pin::new(receiver).poll(cx).map(|outcomes| {
                outcomes.unwrap_or_else(|_| Outcomes::refused("the host is stopping".to_owned()))
            }),
            PendingState::Done => Poll::Pending,
        };
        if polled.is_ready() {
            self.state = PendingState::Done;
        }
        polled
    }
}

impl Drop for PendingFanOut {
    fn drop(&mut self) {
        if self.state.holds_calls() && !on_worker() {
            let state = std::mem::replace(&mut self.state, PendingState::Done);
            self.router.spawn_detached(async move { drop(state) });
        }
    }
}
