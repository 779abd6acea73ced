//! Runs the handlers of one accepted event and gathers their outcomes.
//!
//! A plugin whose state is on its way to another generation holds its events ([`dispatch::hold`](crate::dispatch::hold)).
//! Its handlers are then called later, and those of all other plugins at once; the report waits for all.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream::FuturesUnordered,
};
use tokio::sync::OwnedSemaphorePermit;

use super::Router;
use crate::{
    dispatch::{
        call::{self, HandlerInfo, Target, Waiting},
        hold::{Inside, Outside},
    },
    event::Event,
    report::{Outcome, OutcomeKind, Report},
};

/// An outcome with its place in the report: priority, plugin, order of declaration.
type Ranked = (Reverse<i32>, Arc<str>, u64, Outcome);

/// A handler that is to be called, and where its event has entered if the generation has a gate.
type Admitted = (Arc<Target>, Option<Arc<Inside>>);

/// The handlers of a plugin that holds its events.
struct HeldBack {
    outside: Outside,
    plugin: Arc<str>,
    handlers: Vec<Arc<HandlerInfo>>,
    rank: (Reverse<i32>, u64),
}

impl Target {
    /// Lets an event in, as its generation's gate says.
    fn enter(&self, event: &Event) -> Result<Option<Arc<Inside>>, Outside> {
        self.gate.as_ref().map(|gate| gate.enter(event).map(Arc::new)).transpose()
    }
}

impl Router {
    /// Calls every handler of an event, by the routing table of this moment. `place` is the event's place in the queue of
    /// what was sent. An event that waits for a plugin's state gives it up, as it counts among those that wait for that
    /// plugin: other plugins' events would be refused for it otherwise.
    pub(super) async fn dispatch(
        &self,
        event: Arc<Event>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Report {
        let targets = self.table.load().targets(event.name());
        if let [target] = &*targets
            && let Ok(inside) = target.enter(&event)
        {
            let target = target.clone();
            drop(targets);
            return Report::new(vec![call::call(target, event, inside, &self.site).await]);
        }
        let (admitted, held) = admit(&targets, &event);
        drop(targets);
        let calls = self.call_all(admitted, &event);
        let mut outcomes = match held.is_empty() {
            true => calls.await,
            false => {
                drop(place);
                let later = held.into_iter().map(|held| self.call_later(held, &event));
                let (mut outcomes, later) = join(calls, join_all(later)).await;
                outcomes.extend(later.into_iter().flatten());
                outcomes
            }
        };
        outcomes.sort_unstable_by(|a, b| (a.0, &a.1, a.2).cmp(&(b.0, &b.1, b.2)));
        Report::new(outcomes.into_iter().map(|(.., outcome)| outcome).collect())
    }

    async fn call_all(&self, admitted: Vec<Admitted>, event: &Arc<Event>) -> Vec<Ranked> {
        let calls: FuturesUnordered<_> = admitted
            .into_iter()
            .map(|(target, inside)| {
                let (priority, order) = (Reverse(target.priority), target.order);
                let outcome = call::call(target, event.clone(), inside, &self.site);
                async move {
                    let outcome = outcome.await;
                    (priority, outcome.plugin.clone(), order, outcome)
                }
            })
            .collect();
        calls.collect().await
    }

    /// Waits until the plugin's state has arrived somewhere, and calls the handlers that it has then.
    async fn call_later(&self, held: HeldBack, event: &Arc<Event>) -> Vec<Ranked> {
        let HeldBack { mut outside, plugin, handlers, rank } = held;
        let waiting = Waiting::begin(handlers);
        let since = Instant::now();
        loop {
            if !self.wait(&outside, event).await {
                let after = Duration::from_millis(
                    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
                );
                return ranked(rank, waiting.ended(&OutcomeKind::TimedOut { after }));
            }
            let targets = self.table.load().targets(event.name());
            let own = targets.iter().filter(|target| target.info.plugin == plugin);
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
                    return ranked(rank, waiting.ended(&OutcomeKind::Rejected { reason }));
                }
            };
            match entered {
                Ok(inside) => {
                    waiting.arrived();
                    let own = own.into_iter().map(|target| (target, inside.clone())).collect();
                    drop(inside);
                    return self.call_all(own, event).await;
                }
                Err(again) => outside = again,
            }
        }
    }

    /// Whether the event may be routed again before its deadline.
    async fn wait(&self, outside: &Outside, event: &Event) -> bool {
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

fn ranked((priority, order): (Reverse<i32>, u64), outcomes: Vec<Outcome>) -> Vec<Ranked> {
    outcomes.into_iter().map(|outcome| (priority, outcome.plugin.clone(), order, outcome)).collect()
}

/// Tells the handlers that may be called now from those that are held. All handlers of a plugin go the same way, or an
/// event would reach two generations of it.
fn admit(targets: &[Arc<Target>], event: &Event) -> (Vec<Admitted>, Vec<HeldBack>) {
    let mut admitted = Vec::with_capacity(targets.len());
    let mut held: Vec<HeldBack> = Vec::new();
    // By plugin: where the event has entered, or the place in `held`.
    let mut entered: HashMap<&Arc<str>, Result<Option<Arc<Inside>>, usize>> = HashMap::new();
    for target in targets {
        if target.gate.is_none() {
            admitted.push((target.clone(), None));
            continue;
        }
        let plugin = &target.info.plugin;
        let way = entered.entry(plugin).or_insert_with(|| {
            target.enter(event).map_err(|outside| {
                let rank = (Reverse(target.priority), target.order);
                held.push(HeldBack { outside, plugin: plugin.clone(), handlers: Vec::new(), rank });
                held.len() - 1
            })
        });
        match way {
            Ok(inside) => admitted.push((target.clone(), inside.clone())),
            Err(place) => held[*place].handlers.push(target.info.clone()),
        }
    }
    (admitted, held)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ksi_plugin_api::Pattern;
    use tokio::runtime::Handle;

    use super::*;
    use crate::{
        dispatch::{call::CallSite, hold::Gate, workers::Workers},
        event::{NewEvent, Payload},
        router::{
            emit::{NewTarget, RouterLimits},
            native::{Failure, Native},
            table::{Owner, Route},
        },
    };

    fn router(queued_events: usize) -> Arc<Router> {
        let workers = Arc::new(Workers::start(1, 1).unwrap());
        let timeout = Duration::from_secs(20);
        let limits =
            RouterLimits { queued_events, event_depth: 9, payload_bytes: 1 << 10, timeout };
        Router::new(CallSite { workers, runtime: Handle::current() }, limits)
    }

    /// Makes `handled` count the events `a:b` of a plugin behind this gate.
    fn handles(router: &Router, gate: &Arc<Gate>, handled: &Arc<AtomicUsize>) {
        let handled = handled.clone();
        let callee = Native::new(Handle::current(), move |_| {
            handled.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok::<_, Failure>(()))
        });
        let target = router.target(NewTarget {
            plugin: "p".into(),
            handler: "h".into(),
            counted_as: "h".into(),
            callee: Arc::new(callee),
            number: 0,
            priority: 0,
            order: 0,
            timeout: None,
            blocking: false,
            cancel: Arc::default(),
            gate: Some(gate.clone()),
        });
        let route = Route { pattern: Pattern::parse("a:b").unwrap(), target };
        router.change(|table| table.with(Owner::Plugin("p".into()), vec![route]));
    }

    fn event() -> NewEvent {
        NewEvent::valid("a:b", Payload::from_json_bytes(b"{}".to_vec()))
    }

    async fn until(what: impl Fn() -> bool) {
        let looking = async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), looking).await.expect("it comes to pass");
    }

    #[tokio::test]
    async fn sent_events_that_wait_for_a_hand_over_take_no_place_in_the_queue() {
        let (router, gate, handled) = (router(1), Gate::new(9), Arc::default());
        handles(&router, &gate, &handled);
        let hold = gate.hold();
        for sent in 1..=3 {
            router.send(event(), None).expect("those before it only wait");
            until(|| gate.waiting() == sent).await;
        }
        drop(hold);
        until(|| handled.load(Ordering::SeqCst) == 3).await;
        assert_eq!(router.all_counts().no_reply, 3);
        router.forget_plugin("p");
        assert_eq!(router.all_counts().no_reply, 3, "the sum of all never falls");
    }
}
