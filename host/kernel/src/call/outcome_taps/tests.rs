use std::{future::poll_fn, task::Poll};

use futures_util::FutureExt;
use ksi_abi::{Counted, Pattern};
use tokio::runtime::Handle;

use super::*;
use crate::{
    event::{EventIds, NewEvent, Payload},
    kernel::{Kernel, KernelLimits},
    router::{Router, emit::RouterLimits, host_handler::Failure},
};

fn event(name: &str) -> NewEvent {
    NewEvent::new(name, Payload::nothing().clone()).unwrap()
}

fn router() -> Arc<Router> {
    let router = RouterLimits {
        recorder: Default::default(),
        queued_events: 9,
        queued_bytes: 1 << 20,
        subscriber_bytes: 1 << 20,
        event_depth: 9,
        payload_bytes: 1 << 20,
        timeout: Duration::from_secs(60),
    };
    let (workers, blocking_threads, waiting_bytes) = (1, 1, 1 << 20);
    let limits = KernelLimits { workers, blocking_threads, waiting_bytes, router };
    Kernel::start(limits, Handle::current()).unwrap().router
}

/// Has events of this name handled.
fn handle<F, Fut>(router: &Router, name: &str, handler: F)
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<u8>, Failure>> + Send + 'static,
{
    let pattern = Pattern::parse(name).unwrap();
    router.add_host_handler(name, &[pattern], None, move |_| handler());
}

/// A call is seen to end before its report is there.
fn seen(outcomes: &mut OutcomeWatch) -> ObservedCall {
    outcomes.next().now_or_never().flatten().expect("it was seen to end")
}

/// Ends a call of a handler without a name, with an event of this name, before whoever looks.
fn end(taps: &OutcomeTaps, name: &str) {
    let event = Counted::new(Event::new(event(name), None, &EventIds::new(), 0));
    let start = taps.begun(&event).expect("somebody looks");
    taps.ended(&start, &HandlerInfo::nobody(), &CallOutcome::NoReply);
}

#[tokio::test]
async fn the_end_of_each_call_is_seen_with_its_handler_event_outcome_and_time() {
    let router = router();
    handle(&router, "a:replies", || async { Ok(Some(1)) });
    handle(&router, "a:fails", || async { Err(Failure::new("no", "it does not")) });
    handle(&router, "a:panics", || async { panic!("at once") });
    handle(&router, "a:waits", || async {
        tokio::task::yield_now().await;
        Ok(None)
    });
    let mut outcomes = router.watch_outcomes(9);
    let began = Instant::now();
    for (name, expected) in [
        ("a:replies", OutcomeStatus::Replied),
        ("a:fails", OutcomeStatus::Failed),
        ("a:panics", OutcomeStatus::Panicked),
        ("a:waits", OutcomeStatus::NoReply),
    ] {
        router.emit(event(name), None).await;
        let call = seen(&mut outcomes);
        assert_eq!((&*call.plugin, &*call.handler, &*call.event_name), ("", name, name));
        assert_eq!(call.outcome, expected, "{name}");
        assert!(call.begun >= began && call.took <= began.elapsed(), "{call:?}");
    }
    assert_eq!((outcomes.next().now_or_never().is_none(), outcomes.missed()), (true, 0));
}

#[tokio::test]
async fn a_call_that_is_given_up_by_its_emitter_is_seen_as_rejected() {
    let router = router();
    handle(&router, "a:never", std::future::pending);
    let mut outcomes = router.watch_outcomes(9);
    let workers = router.workers().clone();
    let emitted = router.clone();
    // On a worker the call is polled where it was emitted, and goes with that.
    workers
        .spawn(async move {
            let mut report = Box::pin(emitted.emit(event("a:never"), None));
            let polled = poll_fn(|cx| Poll::Ready(report.as_mut().poll(cx)));
            assert!(polled.await.is_pending());
        })
        .await;
    assert_eq!(seen(&mut outcomes).outcome, OutcomeStatus::Rejected);
}

#[tokio::test]
async fn a_call_that_began_before_anybody_looked_is_not_seen() {
    let router = router();
    let (entered, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enters, until) = (entered.clone(), goes_on.clone());
    handle(&router, "a:goes_on", move || {
        let (enters, until) = (enters.clone(), until.clone());
        async move {
            enters.notify_one();
            until.notified().await;
            Ok(None)
        }
    });
    let mut report = Box::pin(router.emit(event("a:goes_on"), None));
    assert!((&mut report).now_or_never().is_none());
    // By then it was looked who looks: a call is counted before that.
    entered.notified().await;
    let mut outcomes = router.watch_outcomes(9);
    goes_on.notify_one();
    report.await;
    assert!(outcomes.next().now_or_never().is_none());
}

#[test]
fn what_does_not_fit_is_missed_by_count_and_by_bytes_and_what_fits_later_is_seen() {
    let budget = Budget::new(1 << 20);
    let taps = OutcomeTaps::new(budget.clone(), 2_000);
    let mut by_count = taps.watch(2);
    (0..3).for_each(|_| end(&taps, "a:b"));
    assert_eq!(by_count.missed(), 1);
    assert!(by_count.next().now_or_never().is_some());
    end(&taps, "a:c");
    assert_eq!(by_count.missed(), 1, "there was room again");
    drop(by_count);
    assert_eq!(budget.used(), 0, "nothing waits for it any more");
    let by_bytes = taps.watch(1_000);
    (0..1_000).for_each(|_| end(&taps, "a:b"));
    assert!(budget.used() <= 2_000 && by_bytes.missed() > 900, "{}", by_bytes.missed());
}

#[test]
fn a_watch_is_given_up_when_all_that_waits_is_too_much_and_its_reader_is_told() {
    let budget = Budget::new(1_000);
    let taps = OutcomeTaps::new(budget.clone(), 1 << 20);
    let mut watch = taps.watch(1_000);
    let given_up_after = (1..=100).find(|_| {
        end(&taps, "a:b");
        watch.tap.waiting().given_up
    });
    let given_up_after = given_up_after.expect("it is given up");
    assert!(budget.used() <= 1_000);
    assert!(watch.next().now_or_never().is_some_and(|seen| seen.is_none()));
    assert_eq!(watch.missed(), given_up_after);
    let event = Counted::new(Event::new(event("a:b"), None, &EventIds::new(), 0));
    assert!(taps.begun(&event).is_none(), "calls are noted for nobody");
}

#[test]
fn nothing_is_noted_while_nobody_looks() {
    let taps = OutcomeTaps::new(Budget::new(1 << 20), 1 << 20);
    let event = Counted::new(Event::new(event("a:b"), None, &EventIds::new(), 0));
    assert!(taps.begun(&event).is_none());
    let watch = taps.watch(1);
    assert!(taps.begun(&event).is_some());
    drop(watch);
    assert!(taps.begun(&event).is_none());
}
