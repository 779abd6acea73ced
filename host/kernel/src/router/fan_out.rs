//! Runs the handlers of one accepted event and gathers how they ended.
//!
//! Handlers are called one after another, each up to its first await; what is ready then is done,
//! and only the rest becomes a future. A plugin whose state is on its way to another generation
//! holds its events ([the gate](crate::call::gate)): its handlers are called later, those
//! of all other plugins at once; the report waits for all.

use std::{
    cmp::Reverse,
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    slice,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream::FuturesUnordered,
};
use ksi_abi::{Counted, ReplyForm};
use smallvec::{SmallVec, smallvec};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Router,
    names::HeldName,
    pending::{FanOutStart, GoingOn, OnlyCall, PendingFanOut, SeveralCalls},
    progress::Progress,
    table::{Called, Targets},
};
use crate::{
    call::{
        self, CallBegun, CallTarget, HandlerInfo, Target, UncountedCalls,
        gate::{Admission, HeldAtGate},
        outcome::CallOutcome,
    },
    event::Event,
    memory::Charge,
    report::{Outcome, Report},
};

/// Whose handlers they were, and how each ended, in the router's order: priority, then plugin name,
/// then order of declaration.
pub(crate) struct Outcomes {
    pub(crate) handlers: Handlers,
    pub(crate) ended: SmallVec<[CallOutcome; 1]>,
}

/// Whose handlers they were.
pub(crate) enum Handlers {
    /// The one that was called, with its generation: for those who let go of it at once.
    Called(Arc<CallTarget>),
    /// The only one, without its generation.
    One(Arc<HandlerInfo>),
    /// Those of a name.
    Known(Arc<[Arc<HandlerInfo>]>),
}

impl Handlers {
    /// What is known of each.
    pub(crate) fn infos(&self) -> &[Arc<HandlerInfo>] {
        match self {
            Handlers::Called(entry) => slice::from_ref(&entry.info),
            Handlers::One(info) => slice::from_ref(info),
            Handlers::Known(known) => known,
        }
    }

    /// The same handlers, without holding a generation.
    pub(crate) fn without_generation(self) -> Self {
        match self {
            Handlers::Called(entry) => Handlers::One(entry.info.clone()),
            other => other,
        }
    }
}

impl Outcomes {
    /// Of the only handler.
    pub(crate) fn one(entry: Arc<CallTarget>, ended: CallOutcome) -> Self {
        Outcomes { handlers: Handlers::Called(entry), ended: smallvec![ended] }
    }

    /// The same for somebody who lets go of it anywhere. Where plugin code may run.
    pub(crate) fn without_code(mut self) -> Self {
        self.ended = self.ended.into_iter().map(CallOutcome::without_code).collect();
        // Nor does it keep the generation that was called.
        self.handlers = self.handlers.without_generation();
        self
    }

    /// What became of an event that was not accepted.
    pub(crate) fn refused(reason: String) -> Self {
        let reason = reason.into();
        Outcomes {
            handlers: Handlers::One(HandlerInfo::nobody()),
            ended: smallvec![CallOutcome::Rejected { reason }],
        }
    }
}

impl From<Outcomes> for Report {
    /// Replies that are values become JSON. Where plugin code may run.
    fn from(Outcomes { handlers, ended }: Outcomes) -> Self {
        let outcomes = handlers.infos().iter().zip(ended).map(|(handler, ended)| Outcome {
            plugin: handler.plugin.clone(),
            handler: handler.handler.clone(),
            result: ended.into(),
        });
        Report::new(outcomes.collect())
    }
}

/// What an emitter brings along.
pub(crate) struct How<'a> {
    /// In which form it can take replies.
    pub(crate) form: &'a ReplyForm,
    /// The name, if it holds it: then its handlers are found without a look-up.
    pub(crate) held: Option<&'a HeldName>,
    /// Where it is noted how far they have come, for somebody who may have to be answered before
    /// they have ended.
    pub(crate) progress: Option<&'a Arc<Progress>>,
}

impl How<'_> {
    /// For somebody who holds nothing, and wants a report in JSON.
    pub(crate) const PLAIN: How<'static> =
        How { form: &ReplyForm::Json, held: None, progress: None };
}

/// An event's place in the queue of what was sent, and its bytes. One that waits for a plugin's
/// state gives it up, as it counts among those that wait for that plugin: other plugins' events
/// would be refused for it otherwise.
pub(crate) type QueuePlace = Option<(OwnedSemaphorePermit, Charge)>;

pub(crate) type PendingFuture = Pin<Box<dyn Future<Output = Outcomes> + Send>>;

/// An outcome with what its place in the report follows from: priority, plugin, order of
/// declaration.
struct Ranked {
    rank: (Reverse<i32>, u64),
    handler: Arc<HandlerInfo>,
    ended: CallOutcome,
}

/// A handler that is to be called, and where its event has entered if the generation has a gate.
type Admitted = (Arc<Target>, Option<Arc<Admission>>);

/// The handlers of a plugin that holds its events.
struct HeldBack {
    outside: HeldAtGate,
    plugin: Arc<str>,
    handlers: Vec<Arc<HandlerInfo>>,
    rank: (Reverse<i32>, u64),
}

impl Target {
    /// Lets an event in, as its generation's gate says. Inlined, because most have none.
    #[inline(always)]
    fn enter(&self, event: &Event) -> Result<Option<Arc<Admission>>, HeldAtGate> {
        match &self.gate {
            None => Ok(None),
            Some(gate) => gate.enter(event).map(|inside| Some(Arc::new(inside))),
        }
    }
}

impl Router {
    /// Calls every handler of an event, by the routing table of this moment. On a dispatch worker.
    #[inline]
    pub(super) fn dispatch(
        self: &Arc<Self>,
        event: Counted<Event>,
        place: QueuePlace,
        how: &How<'_>,
        cx: &mut Context<'_>,
    ) -> FanOutStart {
        let table = self.table.load();
        let called = match how.held.and_then(|held| table.held(held)) {
            Some(called) => Some(called),
            None => table.known(event.name()),
        };
        // No call holds the table: one that does not return would keep every generation that is in
        // it.
        let Some(called) = called else {
            let called = Called::from(table.targets(event.name()));
            drop(table);
            return self.dispatch_all(called, event, place, how, cx);
        };
        if let [target] = &*called.targets
            && let Ok(inside) = target.enter(&event)
        {
            let entry = target.enter_by();
            drop(table);
            if let Some(progress) = how.progress {
                progress.begins(Arc::new([entry.info.clone()]));
            }
            return self.dispatch_one(entry, inside, event, place, how, cx);
        }
        let called = called.clone();
        drop(table);
        self.dispatch_all(called, event, place, how, cx)
    }

    /// Calls these handlers of an event and no others, on a dispatch worker.
    pub(super) async fn seen(
        self: &Arc<Self>,
        targets: Targets,
        event: Counted<Event>,
        place: QueuePlace,
    ) -> Outcomes {
        let mut given = Some((Called::from(targets), event, place));
        let begun = poll_fn(|cx| match given.take() {
            Some((called, event, place)) => {
                Poll::Ready(self.dispatch_all(called, event, place, &How::PLAIN, cx))
            }
            None => Poll::Pending,
        });
        begun.await.ended().await
    }

    /// Calls the only handler.
    #[inline]
    fn dispatch_one(
        self: &Arc<Self>,
        entry: Arc<CallTarget>,
        inside: Option<Arc<Admission>>,
        event: Counted<Event>,
        place: QueuePlace,
        how: &How<'_>,
        cx: &mut Context<'_>,
    ) -> FanOutStart {
        // Who holds the name need not count another reference to it for every event.
        let name = how.held.is_none().then(|| event.shared_name().clone());
        let held = || entry.clone();
        match call::begin(&entry, held, event, inside, how.form, &self.site, cx) {
            CallBegun::Ended(ended) => {
                // Looked at here, because most events have none and to have it dropped is a call.
                if let Some(place) = place {
                    drop(place);
                }
                FanOutStart::One(entry, ended)
            }
            CallBegun::GoesOn(mut call) => match call.as_mut().poll(cx) {
                Poll::Ready(ended) => FanOutStart::One(entry, ended),
                Poll::Pending => {
                    let name = name.or_else(|| how.held.map(|held| held.name().clone()));
                    let event = name.unwrap_or_default();
                    let call = OnlyCall { call, handler: entry.info.clone(), event, place };
                    FanOutStart::GoesOn(PendingFanOut::one(call, self.clone()))
                }
            },
        }
    }

    /// Calls any number of handlers.
    fn dispatch_all(
        self: &Arc<Self>,
        called: Called,
        event: Counted<Event>,
        place: QueuePlace,
        how: &How<'_>,
        cx: &mut Context<'_>,
    ) -> FanOutStart {
        if let Some(progress) = how.progress {
            progress.begins(called.handlers.clone());
        }
        match called.targets.iter().any(|target| target.gate.is_some()) {
            true => self.dispatch_held(&called, event, place, how, cx),
            false => self.dispatch_ungated(called, event, place, how, cx),
        }
    }

    /// Calls many handlers of generations without a gate.
    fn dispatch_ungated(
        self: &Arc<Self>,
        called: Called,
        event: Counted<Event>,
        place: QueuePlace,
        how: &How<'_>,
        cx: &mut Context<'_>,
    ) -> FanOutStart {
        let mut ended = SmallVec::with_capacity(called.targets.len());
        // Made for the first call that goes on: most events have none.
        let mut going_on: Option<FuturesUnordered<GoingOn>> = None;
        for (index, target) in called.targets.iter().enumerate() {
            let held = || target.enter_by();
            match call::begin(&target.entry, held, event.clone(), None, how.form, &self.site, cx) {
                CallBegun::Ended(end) => {
                    if let Some(progress) = how.progress {
                        progress.ended(target.info(), &end);
                    }
                    ended.push(end);
                }
                CallBegun::GoesOn(call) => {
                    // Stands for the outcome that is to come.
                    ended.push(CallOutcome::NoReply);
                    going_on.get_or_insert_default().push(GoingOn { index, call });
                }
            }
        }
        let known = called.handlers;
        // What is not called any more is not held.
        drop(called.targets);
        let Some(calls) = going_on else {
            self.note_all(event.name(), &known, &ended);
            return FanOutStart::Done(Outcomes { handlers: Handlers::Known(known), ended });
        };
        let mut calls = SeveralCalls {
            calls,
            handlers: known,
            ended,
            event: event.shared_name().clone(),
            place,
            progress: how.progress.cloned(),
            is_noted: how.progress.is_some_and(|progress| progress.is_followed()),
        };
        // Its timers are armed now, and whatever wakes it from here on finds it waiting.
        match calls.poll(self, cx) {
            Poll::Ready(outcomes) => FanOutStart::Done(outcomes),
            Poll::Pending => FanOutStart::GoesOn(PendingFanOut::several(calls, self.clone())),
        }
    }

    /// Calls handlers of which some may have to wait.
    fn dispatch_held(
        self: &Arc<Self>,
        called: &Called,
        event: Counted<Event>,
        place: QueuePlace,
        how: &How<'_>,
        cx: &mut Context<'_>,
    ) -> FanOutStart {
        let form = *how.form;
        let (admitted, held) = admit(&called.targets, &event);
        let place = place.filter(|_| held.is_empty());
        let progress = how.progress.cloned().unwrap_or_default();
        progress.follow();
        progress.begins(called.handlers.clone());
        let calls = self.begin_all(admitted, &event, &form, &progress, cx);
        let (router, noted) = (self.clone(), progress.clone());
        let pending = async move {
            let later = held.into_iter().map(|held| router.call_later(held, &event, &form, &noted));
            let (mut outcomes, later) = join(calls, join_all(later)).await;
            outcomes.extend(later.into_iter().flatten());
            drop(place);
            outcomes.sort_by(|a, b| {
                let (a, b) = ((a.rank, &a.handler.plugin), (b.rank, &b.handler.plugin));
                (a.0.0, a.1, a.0.1).cmp(&(b.0.0, b.1, b.0.1))
            });
            let mut handlers = Vec::with_capacity(outcomes.len());
            let mut ended = SmallVec::with_capacity(outcomes.len());
            for outcome in outcomes {
                handlers.push(outcome.handler);
                ended.push(outcome.ended);
            }
            router.note_all(event.name(), &handlers, &ended);
            Outcomes { handlers: Handlers::Known(handlers.into()), ended }
        };
        let mut pending: PendingFuture = Box::pin(pending);
        match pending.as_mut().poll(cx) {
            Poll::Ready(outcomes) => FanOutStart::Done(outcomes),
            Poll::Pending => {
                FanOutStart::GoesOn(PendingFanOut::held(pending, progress, self.clone()))
            }
        }
    }

    /// Begins the calls now; what is given waits for those that go on.
    fn begin_all(
        &self,
        admitted: Vec<Admitted>,
        event: &Counted<Event>,
        form: &ReplyForm,
        progress: &Arc<Progress>,
        cx: &mut Context<'_>,
    ) -> impl Future<Output = Vec<Ranked>> + Send + use<> {
        let calls: FuturesUnordered<_> = admitted
            .into_iter()
            .map(|(target, inside)| {
                let (rank, handler) = (rank(&target), target.info().clone());
                let (entry, held, event) = (&target.entry, || target.enter_by(), event.clone());
                let begun = call::begin(entry, held, event, inside, form, &self.site, cx);
                let progress = progress.clone();
                if let CallBegun::Ended(ended) = &begun {
                    // Before the next one is called, which may not return.
                    progress.ended(&handler, ended);
                }
                async move {
                    let ended = match begun {
                        CallBegun::Ended(ended) => ended,
                        CallBegun::GoesOn(call) => {
                            let ended = call.await;
                            progress.ended(&handler, &ended);
                            ended
                        }
                    };
                    Ranked { rank, handler, ended }
                }
            })
            .collect();
        calls.collect()
    }

    /// Waits until the plugin's state has arrived somewhere, and calls the handlers that it has
    /// then.
    async fn call_later(
        self: &Arc<Self>,
        held: HeldBack,
        event: &Counted<Event>,
        form: &ReplyForm,
        progress: &Arc<Progress>,
    ) -> Vec<Ranked> {
        let HeldBack { mut outside, plugin, handlers, rank } = held;
        let waiting = UncountedCalls::begin(handlers, event);
        let since = Instant::now();
        loop {
            if !self.wait(&outside, event).await {
                let after = Duration::from_millis(
                    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
                );
                return ranked(rank, waiting.ended(|| CallOutcome::TimedOut { after }));
            }
            let targets = self.table.load().targets(event.name());
            let own = targets.iter().filter(|target| target.info().plugin == plugin);
            let own: Vec<Arc<Target>> = own.cloned().collect();
            drop(targets);
            let entered = match own.first() {
                Some(target) => target.enter(event),
                None => {
                    let reason = format!(
                        "{plugin} handles no {} any more: it was replaced or unloaded while this event waited for \
                         its state to be handed over",
                        event.name()
                    );
                    let ended = || CallOutcome::Rejected { reason: reason.as_str().into() };
                    return ranked(rank, waiting.ended(ended));
                }
            };
            match entered {
                Ok(inside) => {
                    waiting.arrived();
                    let own: Vec<Admitted> =
                        own.into_iter().map(|target| (target, inside.clone())).collect();
                    drop(inside);
                    let mut own = Some(own);
                    let calls = poll_fn(|cx| {
                        let own = own.take().unwrap_or_default();
                        Poll::Ready(self.begin_all(own, event, form, progress, cx))
                    });
                    return calls.await.await;
                }
                Err(again) => outside = again,
            }
        }
    }

    /// Whether the event may be routed again before its deadline.
    async fn wait(&self, outside: &HeldAtGate, event: &Event) -> bool {
        let Some(deadline) = event.deadline() else {
            outside.wait().await;
            return true;
        };
        let timer = {
            let _inside = self.site.runtime.enter();
            tokio::time::sleep_until(deadline.into())
        };
        tokio::select! {
            biased;
            () = outside.wait() => true,
            () = timer => false,
        }
    }
}

fn rank(target: &Target) -> (Reverse<i32>, u64) {
    (Reverse(target.priority), target.order)
}

fn ranked(rank: (Reverse<i32>, u64), ended: Vec<(Arc<HandlerInfo>, CallOutcome)>) -> Vec<Ranked> {
    ended.into_iter().map(|(handler, ended)| Ranked { rank, handler, ended }).collect()
}

/// Tells the handlers that may be called now from those that are held. All handlers of a plugin go
/// the same way, or an event would reach two generations of it.
fn admit(targets: &[Arc<Target>], event: &Event) -> (Vec<Admitted>, Vec<HeldBack>) {
    let mut admitted = Vec::with_capacity(targets.len());
    let mut held: Vec<HeldBack> = Vec::new();
    // By plugin: where the event has entered, or the place in `held`.
    let mut entered: HashMap<&Arc<str>, Result<Option<Arc<Admission>>, usize>> = HashMap::new();
    for target in targets {
        if target.gate.is_none() {
            admitted.push((target.clone(), None));
            continue;
        }
        let plugin = &target.info().plugin;
        let way = entered.entry(plugin).or_insert_with(|| {
            target.enter(event).map_err(|outside| {
                let rank = rank(target);
                held.push(HeldBack { outside, plugin: plugin.clone(), handlers: Vec::new(), rank });
                held.len() - 1
            })
        });
        match way {
            Ok(inside) => admitted.push((target.clone(), inside.clone())),
            Err(place) => held[*place].handlers.push(target.info().clone()),
        }
    }
    (admitted, held)
}

#[cfg(test)]
mod tests;
