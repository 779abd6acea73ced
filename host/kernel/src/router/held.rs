//! Events of a plugin whose state is on its way to another generation: the plugin's handlers are
//! called once [the gate](crate::call::gate) opens, those of all others at once, and the report
//! waits for all.

use std::{
    cmp::Reverse,
    collections::HashMap,
    future::{Future, poll_fn},
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
use smallvec::SmallVec;

use super::{
    Router,
    fan_out::{How, PendingFuture, QueuePlace},
    outcomes::{Handlers, Outcomes},
    pending::{FanOutStart, PendingFanOut},
    progress::Progress,
    table::Called,
};
use crate::{
    call::{
        self, CallBegun, HandlerInfo, Target, UncountedCalls, UnfinishedCall,
        gate::{Admission, HeldAtGate},
        outcome::CallOutcome,
    },
    event::Event,
};

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

impl Router {
    /// Calls handlers of which some may have to wait.
    pub(super) fn dispatch_held(
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

    /// Calls a handler of a plugin anew that was not called because nobody was there: as soon as
    /// the plugin's gate lets the event in, and before the event's deadline. To be polled on
    /// dispatch workers.
    pub async fn call_again(
        self: Arc<Self>,
        event: Counted<Event>,
        form: ReplyForm,
        unfinished: UnfinishedCall,
    ) -> CallOutcome {
        let since = Instant::now();
        loop {
            let targets = self.table.load().targets(event.name());
            let handler = unfinished.handler();
            let target = targets.iter().find(|target| {
                let info = target.info();
                info.plugin == handler.plugin && info.handler == handler.handler
            });
            let Some(target) = target else {
                let reason = format!(
                    "{} handles no {} any more: its process was gone before it got this event, and it was replaced or \
                     unloaded since",
                    handler.plugin,
                    event.name()
                );
                return unfinished.end(CallOutcome::Rejected { reason: reason.into() });
            };
            let entered = match &target.gate {
                None => Ok(None),
                Some(gate) => gate.enter_again(&event).map(|inside| Some(Arc::new(inside))),
            };
            let outside = match entered {
                Ok(inside) => {
                    let (entry, mut event) = (target.enter_by(), Some((event, inside)));
                    drop(targets);
                    let begun = poll_fn(|cx| match event.take() {
                        Some((event, inside)) => {
                            let held = || entry.clone();
                            Poll::Ready(call::begin(
                                &entry, held, event, inside, &form, &self.site, cx,
                            ))
                        }
                        None => Poll::Pending,
                    });
                    let begun = begun.await;
                    drop(entry);
                    unfinished.moved();
                    return match begun {
                        CallBegun::Ended(ended) => ended,
                        CallBegun::GoesOn(call) => call.await,
                    };
                }
                Err(outside) => outside,
            };
            drop(targets);
            if !self.wait(&outside, &event).await {
                let after = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                let after = Duration::from_millis(after);
                return unfinished.end(CallOutcome::TimedOut { after });
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
