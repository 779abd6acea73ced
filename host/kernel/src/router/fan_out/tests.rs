use std::time::Duration;

use futures_util::FutureExt;
use ksi_abi::Pattern;
use tokio::{runtime::Handle, sync::watch};

use super::*;
use crate::{
    call::{CallSite, Callee, Started, Undelivered, gate::Gate, outcome_taps::OutcomeStatus},
    event::{NewEvent, Payload},
    executor::{watchdog, workers::Workers},
    memory::Budget,
    report::{OutcomeKind, Report},
    router::{
        emit::RouterLimits,
        host_handler::{Failure, HostHandler},
        table::{Owner, Route},
        targets::NewTarget,
    },
};

const QUEUED_BYTES: usize = 8 << 10;

fn gate(router: &Router) -> Arc<Gate> {
    Gate::new(9, router.budget().limited(1 << 20))
}

fn router(queued_events: usize) -> Arc<Router> {
    let workers = Arc::new(Workers::start(1, 1).unwrap());
    let timeout = Duration::from_secs(20);
    let limits = RouterLimits {
        recorder: Default::default(),
        queued_events,
        queued_bytes: QUEUED_BYTES,
        subscriber_bytes: 1 << 20,
        event_depth: 9,
        payload_bytes: 1 << 10,
        timeout,
    };
    Router::new(CallSite { workers, runtime: Handle::current() }, limits, Budget::new(1 << 20))
}

/// Makes `handled` count the events `a:b` of a plugin behind this gate.
fn handles(router: &Router, gate: &Arc<Gate>, handled: &watch::Sender<usize>) {
    let handled = handled.clone();
    let handler = move || {
        handled.send_modify(|count| *count += 1);
        std::future::ready(Ok(()))
    };
    also_handles(router, "p", Some(gate.clone()), handler);
}

/// Somebody who turns out to be gone once he is told to look.
struct Gone {
    router: Arc<Router>,
    looks: watch::Sender<bool>,
}

impl Callee for Gone {
    fn start(
        &self,
        _: u64,
        event: Counted<Event>,
        form: &ReplyForm,
        _: &mut Context<'_>,
    ) -> Started {
        let (router, form, mut looks) = (self.router.clone(), *form, self.looks.subscribe());
        Started::Elsewhere(Box::pin(async move {
            let _ = looks.wait_for(|looks| *looks).await;
            Err(Undelivered::new(move |call| router.call_again(event, form, call)))
        }))
    }
}

/// Events `a:b` go to somebody who is gone: they wait at this gate, and are on their way until he
/// looks.
fn gone(router: &Arc<Router>, gate: &Arc<Gate>) -> watch::Sender<bool> {
    let looks = watch::Sender::new(false);
    let callee = Arc::new(Gone { router: router.clone(), looks: looks.clone() });
    handled_by(router, "p", Some(gate.clone()), callee);
    looks
}

#[tokio::test]
async fn a_call_that_nobody_was_there_for_holds_up_no_successor_and_goes_to_it() {
    let router = router(1);
    let (old, handled) = (gate(&router), watch::Sender::new(0));
    let looks = gone(&router, &old);
    let (emitting, mut outcomes) = (router.clone(), router.watch_outcomes(9));
    let emitted = tokio::spawn(async move { emitting.emit(event(), None).await });
    until(|| router.all_counts().in_flight == 1).await;
    let hold = old.hold();
    assert!(hold.quiet().now_or_never().is_none(), "it is inside");
    looks.send_replace(true);
    in_time(hold.quiet()).await.expect("it is not inside any more");
    until(|| old.waiting() == 1).await;
    assert_eq!(router.all_counts().in_flight, 1, "it has begun, and not ended");
    handles(&router, &gate(&router), &handled);
    hold.moved();
    let report = in_time(emitted).await.unwrap();
    assert!(matches!(report.outcomes()[0].result, OutcomeKind::NoReply), "{report:?}");
    let counts = router.all_counts();
    assert_eq!((counts.accepted, counts.no_reply, counts.in_flight), (1, 1, 0));
    assert_eq!(*handled.borrow(), 1);
    assert!(outcomes.next().now_or_never().flatten().is_some(), "its end is seen");
    assert!(outcomes.next().now_or_never().is_none(), "once");
}

#[tokio::test]
async fn a_call_that_nobody_was_there_for_ends_with_its_deadline_or_its_plugin() {
    for goes in [false, true] {
        let router = router(1);
        let old = gate(&router);
        let (emitting, timeout) = (router.clone(), Duration::from_millis(200));
        let looks = gone(&router, &old);
        let emission = async move { emitting.emit(event().timeout(timeout), None).await };
        let emitted = tokio::spawn(emission);
        until(|| router.all_counts().in_flight == 1).await;
        let hold = old.hold();
        looks.send_replace(true);
        until(|| old.waiting() == 1).await;
        if goes {
            router.withdraw("p");
            hold.moved();
        }
        let report = in_time(emitted).await.unwrap();
        let counts = router.all_counts();
        match (&report.outcomes()[0].result, goes) {
            (OutcomeKind::TimedOut { .. }, false) => assert_eq!(counts.timed_out, 1),
            (OutcomeKind::Rejected { reason }, true) => {
                assert!(reason.contains("handles no a:b any more"), "{reason}");
                assert_eq!(counts.rejected, 1);
            }
            (other, _) => panic!("{other:?}"),
        }
        assert_eq!((counts.accepted, counts.in_flight), (1, 0));
    }
}

/// Makes `handler` one of the handlers of `a:b`.
fn also_handles<F>(
    router: &Router,
    plugin: &str,
    gate: Option<Arc<Gate>>,
    handler: impl Fn() -> F + Send + Sync + 'static,
) where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let callee = HostHandler::new(Handle::current(), move |_| handler());
    handled_by(router, plugin, gate, Arc::new(callee));
}

fn handled_by(router: &Router, plugin: &str, gate: Option<Arc<Gate>>, callee: Arc<dyn Callee>) {
    let target = router.target(NewTarget {
        plugin: plugin.into(),
        generation: 1,
        handler: "h".into(),
        label: None,
        counted_as: "h".into(),
        callee,
        number: 0,
        priority: 0,
        order: 0,
        timeout: None,
        blocking: false,
        answers_alone: false,
        cancel: Arc::default(),
        gate,
        keeper: None,
    });
    let route = Route { pattern: Pattern::parse("a:b").unwrap(), target };
    router.change(|table| table.with(Owner::Plugin(plugin.into()), vec![route]));
}

fn event() -> NewEvent {
    NewEvent::valid("a:b", Payload::from_json_bytes(b"{}".to_vec()))
}

/// For what nobody tells of, but comes to pass on another thread at once.
async fn until(what: impl Fn() -> bool) {
    let looking = async {
        while !what() {
            tokio::task::yield_now().await;
        }
    };
    in_time(looking).await;
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it comes to pass")
}

#[tokio::test]
async fn sent_events_that_wait_for_a_hand_over_take_no_place_in_the_queue() {
    let router = router(1);
    let (gate, handled) = (gate(&router), watch::Sender::new(0));
    handles(&router, &gate, &handled);
    let hold = gate.hold();
    for sent in 1..=3 {
        let accept = || router.accept(event(), None);
        router.send_once_accepted("a:b", 2, accept).expect("those before it only wait");
        until(|| gate.waiting() == sent).await;
    }
    drop(hold);
    in_time(handled.subscribe().wait_for(|count| *count == 3)).await.expect("it is there");
    assert_eq!(router.all_counts().no_reply, 3);
    router.forget_plugin("p");
    assert_eq!(router.all_counts().no_reply, 3, "the sum of all never falls");
}

#[tokio::test]
async fn the_call_of_an_event_that_is_given_up_while_it_is_held_is_seen_to_end() {
    let router = router(1);
    let (gate, handled) = (gate(&router), watch::Sender::new(0));
    handles(&router, &gate, &handled);
    let _hold = gate.hold();
    let mut outcomes = router.watch_outcomes(9);
    let report = router.emit(event().timeout(Duration::from_millis(1)), None).await;
    assert!(matches!(report.outcomes()[0].result, OutcomeKind::TimedOut { .. }), "{report:?}");
    let seen = outcomes.next().now_or_never().flatten().expect("it was seen to end");
    assert_eq!((&*seen.plugin, &*seen.handler), ("p", "h"));
    assert_eq!(seen.outcome, OutcomeStatus::TimedOut);
    assert_eq!(*handled.borrow(), 0);
}

/// Times out at once whatever does not return.
struct Impatient(Arc<Router>);

impl watchdog::Overseer for Impatient {
    fn ran(&self, _: u64, _: u64) {}

    fn timeout_of(&self, handler: u64) -> Option<Duration> {
        self.0.info(handler).map(|_| Duration::from_millis(1))
    }

    fn stuck(&self, _: watchdog::StuckPoll) {}
}

#[tokio::test]
async fn whoever_emits_from_outside_is_answered_although_the_call_does_not_return() {
    let router = router(1);
    let overseer = Impatient(router.clone());
    watchdog::start(&router.site.workers, Duration::from_secs(20), 8, Box::new(|_| None), overseer)
        .unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let pattern = Pattern::parse("a:b").unwrap();
    router.add_host_handler("held", &[pattern], None, move |_| {
        // Ends with the other end, which is after the answer.
        let _ = held.lock().unwrap().recv();
        std::future::ready(Ok::<_, Failure>("late"))
    });
    let report = router.emit(event(), None).await;
    assert!(matches!(report.outcomes()[0].result, OutcomeKind::TimedOut { .. }), "{report:?}");
    assert_eq!(router.all_counts().in_flight, 1);
    drop(release);
    until(|| router.all_counts().timed_out == 1).await;
    assert_eq!(router.all_counts().replied, 0, "its late end is no success");
}

#[tokio::test]
async fn whoever_goes_on_to_wait_elsewhere_is_told_what_had_ended_before() {
    let router = router(1);
    let overseer = Impatient(router.clone());
    watchdog::start(&router.site.workers, Duration::from_secs(20), 8, Box::new(|_| None), overseer)
        .unwrap();
    let pattern = || [Pattern::parse("a:b").unwrap()];
    let at_once = |_| std::future::ready(Ok::<_, Failure>("at once"));
    router.add_host_handler("quick", &pattern(), None, at_once);
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let goes = go.clone();
    router.add_host_handler("stuck", &pattern(), None, move |_| {
        let (held, goes) = (held.clone(), goes.clone());
        async move {
            let _ = goes.acquire().await;
            let _ = held.lock().unwrap().recv();
            Ok::<_, Failure>("late")
        }
    });
    // Begun on a worker, and waited for here.
    let (emitter, event) = (router.clone(), router.accept(event(), None).unwrap());
    let (begun, taken) = tokio::sync::oneshot::channel();
    let begins = async move {
        let begins = poll_fn(|cx| Poll::Ready(emitter.begin(event.clone(), None, &How::PLAIN, cx)));
        let _ = begun.send(begins.await);
    };
    router.site.workers.spawn(begins).detach();
    let Ok(FanOutStart::GoesOn(pending)) = taken.await else { panic!("one of them goes on") };
    go.close();
    let report = Report::from(pending.await);
    let of = |handler: &str| {
        let outcome = report.outcomes().iter().find(|outcome| &*outcome.handler == handler);
        &outcome.unwrap().result
    };
    assert!(matches!(of("stuck"), OutcomeKind::TimedOut { .. }), "{report:?}");
    assert!(matches!(of("quick"), OutcomeKind::Replied(_)), "{report:?}");
    drop(release);
}

#[tokio::test]
async fn sent_events_are_refused_when_those_that_wait_are_too_large_and_taken_again_afterwards() {
    let (router, never) = (router(100), Arc::new(tokio::sync::Semaphore::new(0)));
    let waiting = never.clone();
    router.add_host_handler("waits", &[Pattern::parse("a:b").unwrap()], None, move |_| {
        let waiting = waiting.clone();
        async move {
            let _ = waiting.acquire().await;
            Ok::<_, Failure>(())
        }
    });
    let send = || router.send_once_accepted("a:b", 3_000, || router.accept(event(), None));
    let taken = (0..100).take_while(|_| send().is_ok()).count();
    assert!((1..=QUEUED_BYTES / 3_000).contains(&taken), "{taken}");
    let refused = send().unwrap_err().to_string();
    assert!(refused.contains("limits.queued_bytes"), "{refused}");
    never.close();
    until(|| send().is_ok()).await;
}

#[tokio::test]
async fn an_event_that_was_expected_to_be_quick_is_followed_once_it_goes_on() {
    for followed in [true, false] {
        let router = router(1);
        also_handles(&router, "at_once", None, || std::future::ready(Ok(())));
        also_handles(&router, "for_ever", None, std::future::pending);
        let progress = Arc::new(Progress::unfollowed());
        let (emitting, seen) = (router.clone(), progress.clone());
        let (polled, was_polled) = tokio::sync::oneshot::channel();
        router.spawn_detached(async move {
            let mut emission = Box::pin(emitting.emit_followed(event(), seen.clone()));
            for poll in 0..2 {
                let poll = poll_fn(|cx| Poll::Ready((poll, emission.as_mut().poll(cx).is_ready())));
                let (poll, is_over) = poll.await;
                assert!(!is_over);
                if poll == 0 && followed {
                    seen.follow();
                }
            }
            let _ = polled.send(());
            emission.await;
        });
        was_polled.await.unwrap();
        let report = router.late_report("a:b", Duration::from_secs(1), &progress);
        let ends = report.outcomes().iter().map(|it| it.result.code()).collect::<Vec<_>>();
        let first = if followed { "no_reply" } else { "timed_out" };
        assert_eq!(ends, [first, "timed_out"], "{report:?}");
    }
}
