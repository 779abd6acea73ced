//! Runs the handlers of one accepted event and gathers how they ended.
//!
//! Handlers are called one after another, each up to its first await; what is ready then is done,
//! and only the rest becomes a future. A plugin whose state is on its way to another generation
//! holds its events ([the gate](crate::call::gate)): its handlers are called later, those
//! of all other plugins at once; the report waits for all.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::stream::FuturesUnordered;
use ksi_abi::{Counted, ReplyForm};
use smallvec::SmallVec;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Router,
    names::HeldName,
    outcomes::{Handlers, Outcomes},
    pending::{FanOutStart, GoingOn, OnlyCall, PendingFanOut, SeveralCalls},
    progress::Progress,
    table::{Called, Targets},
};
use crate::{
    call::{
        self, CallBegun, CallTarget, Target,
        gate::{Admission, HeldAtGate},
        outcome::CallOutcome,
    },
    event::Event,
    memory::Charge,
};

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

impl Target {
    /// Lets an event in, as its generation's gate says. Inlined, because most have none.
    #[inline(always)]
    pub(super) fn enter(&self, event: &Event) -> Result<Option<Arc<Admission>>, HeldAtGate> {
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
        if called.targets.is_empty() {
            self.recorder.unhandled(&event);
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
}

#[cfg(test)]
mod tests;
