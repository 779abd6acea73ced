use std::thread;

use ksi_abi::Pattern;
use tokio::runtime::Handle;

use super::*;
use crate::{
    call::recorder::{MEASURED, RecorderLimits},
    event::{EventRef, NewEvent, Payload},
    kernel::{Kernel, KernelLimits},
    router::{emit::RouterLimits, host_handler::Failure},
};

fn event(name: &str) -> NewEvent {
    NewEvent::new(name, Payload::nothing().clone()).unwrap()
}

fn router(recorder: RecorderLimits) -> Arc<Router> {
    let router = RouterLimits { recorder, ..RouterLimits::default() };
    let (workers, blocking_threads, waiting_bytes) = (1, 1, 1 << 20);
    let limits = KernelLimits { workers, blocking_threads, waiting_bytes, router };
    let kernel = Kernel::start(limits, Handle::current()).unwrap();
    kernel.watch_over(Duration::from_secs(60), 0, Box::new(|_| None), |_| ()).unwrap();
    kernel.router
}

/// Has events of this name handled.
fn handle<F, Fut>(router: &Router, name: &str, handler: F)
where
    F: Fn(EventRef) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<u8>, Failure>> + Send + 'static,
{
    router.add_host_handler(name, &[Pattern::parse(name).unwrap()], None, handler);
}

fn failed() -> CallQuery {
    CallQuery { failed: true, ..CallQuery::default() }
}

fn names(calls: &[RecordedCall]) -> Vec<&str> {
    calls.iter().map(|call| &*call.name).collect()
}

async fn times(router: &Arc<Router>, name: &str, times: usize) {
    for _ in 0..times {
        router.emit(event(name), None).await;
    }
}

#[tokio::test]
async fn each_call_is_kept_with_its_handler_event_chain_outcome_and_times() {
    let router = router(RecorderLimits::default());
    let inner = router.clone();
    handle(&router, "a:outer", move |event_in| {
        let inner = inner.clone();
        async move {
            inner.emit(event("a:inner"), Some(event_in.counted().clone())).await;
            Ok(None)
        }
    });
    handle(&router, "a:inner", |_| async {
        tokio::time::sleep(Duration::from_millis(2)).await;
        Err(Failure::new("no", "it does not"))
    });
    let before = SystemTime::now();
    router.emit(event("a:outer").source("me"), None).await;
    let calls = router.recorded_calls(&CallQuery::default());
    let [outer, inner] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(
        (names(&calls), &*outer.source, &*inner.source),
        (vec!["a:outer", "a:inner"], "me", "")
    );
    assert_eq!((&*outer.handler, outer.outcome), ("a:outer", Some(OutcomeStatus::NoReply)));
    assert_eq!((inner.outcome, &*inner.code), (Some(OutcomeStatus::Failed), "no"));
    assert_eq!((&*inner.message, &*outer.code), ("it does not", ""));
    assert_eq!((outer.parent, outer.root, inner.parent), (None, outer.event, Some(outer.event)));
    assert_eq!((inner.root, inner.is_sent, inner.is_exact), (outer.root, false, true));
    assert!(inner.took >= Some(Duration::from_millis(2)) && outer.took >= inner.took, "{calls:?}");
    assert!(outer.begun >= before - Duration::from_millis(10) && inner.begun >= outer.begun);
    // By each of what can be asked for.
    let root = CallQuery { root: Some(outer.root), ..CallQuery::default() };
    let pattern = Some(Pattern::parse("*:inner").unwrap());
    let by_event = CallQuery { event: pattern, ..CallQuery::default() };
    let slow = CallQuery { at_least: Some(Duration::from_secs(60)), ..CallQuery::default() };
    let later = CallQuery { since: Some(SystemTime::now()), ..CallQuery::default() };
    let one = CallQuery { most: Some(1), ..CallQuery::default() };
    let of_plugin = CallQuery { plugin: Some("p".to_owned()), ..CallQuery::default() };
    for (query, found) in
        [(root, 2), (by_event, 1), (slow, 0), (later, 0), (one, 1), (of_plugin, 0), (failed(), 1)]
    {
        assert_eq!(router.recorded_calls(&query).len(), found, "{query:?}");
    }
}

#[tokio::test]
async fn an_event_that_is_sent_says_so_and_one_that_nobody_handles_too() {
    let router = router(RecorderLimits::default());
    let (ended, mut sent) = tokio::sync::mpsc::unbounded_channel();
    let inner = router.clone();
    handle(&router, "a:sent", move |event_in| {
        let (inner, ended) = (inner.clone(), ended.clone());
        async move {
            inner.emit(event("a:nobody").source("p"), Some(event_in.counted().clone())).await;
            let _ = ended.send(());
            Ok(None)
        }
    });
    // As a plugin emits it, so that it is told apart.
    router.traffic.pair(&"p".into(), &"a:nobody".into(), false);
    router.send(event("a:sent")).unwrap();
    sent.recv().await.unwrap();
    router.emit(event("a:sent"), None).await;
    let calls = router.recorded_calls(&CallQuery::default());
    let seen: Vec<_> = calls.iter().map(|call| (&*call.name, call.is_sent, call.outcome)).collect();
    let nobody = ("a:nobody", false, None);
    let called = |is_sent| ("a:sent", is_sent, Some(OutcomeStatus::NoReply));
    assert_eq!(seen, [called(true), nobody, called(false), nobody]);
}

#[tokio::test]
async fn a_failure_and_the_calls_of_its_root_event_are_kept_when_many_others_came_after() {
    let limits = RecorderLimits { calls: 64, ..RecorderLimits::default() };
    let router = router(limits);
    let inner = router.clone();
    handle(&router, "a:outer", move |event_in| {
        let inner = inner.clone();
        async move {
            for name in ["a:fine", "a:fails", "a:fine"] {
                inner.emit(event(name), Some(event_in.counted().clone())).await;
            }
            // What was kept before is looked for on another thread.
            let kept = || inner.recorder.calls(|call| call.root() != 0).len();
            while inner.recorded().bytes == 0 || kept() < 3 {
                tokio::task::yield_now().await;
            }
            Ok(Some(1))
        }
    });
    handle(&router, "a:fine", |_| async { Ok(None) });
    handle(&router, "a:fails", |_| async { Err(Failure::new("no", "it does not")) });
    router.emit(event("a:outer"), None).await;
    // The task that looks for them has run by the time that another one has.
    tokio::task::yield_now().await;
    times(&router, "a:fine", 1_000).await;
    let kept = router.recorded_calls(&failed());
    assert_eq!((names(&kept), &*kept[0].message), (vec!["a:fails"], "it does not"));
    let root = CallQuery { root: Some(kept[0].root), ..CallQuery::default() };
    let tree = router.recorded_calls(&root);
    assert_eq!(names(&tree), ["a:outer", "a:fine", "a:fails", "a:fine"]);
    let recorded = router.recorded();
    assert_eq!((recorded.calls, recorded.overwritten), (1_004, 1_004 - 64));
}

#[tokio::test]
async fn failures_that_are_alike_are_told_once_with_their_count() {
    let router = router(RecorderLimits::default());
    handle(&router, "a:fails", |_| async { Err(Failure::new("no", "it does not")) });
    handle(&router, "a:panics", |_| async { panic!("at once") });
    times(&router, "a:fails", 100).await;
    times(&router, "a:panics", 1).await;
    let failures = router.recorded_failures();
    let told: Vec<_> =
        failures.iter().map(|kind| (&*kind.code, kind.count, kind.last_minute)).collect();
    assert_eq!(told, [("panicked", 1, 1), ("no", 100, 100)]);
    let last = failures[1].recent.last().unwrap();
    assert_eq!((&*last.handler, &*last.message), ("a:fails", "it does not"));
    assert!(failures[1].first <= failures[1].last);
}

#[tokio::test]
async fn who_reads_on_gets_each_call_once_and_is_told_how_many_it_has_missed() {
    let router = router(RecorderLimits { calls: 16, ..RecorderLimits::default() });
    handle(&router, "a:fine", |_| async { Ok(None) });
    let mut cursor = Cursor::default();
    times(&router, "a:fine", 10).await;
    let (calls, missed) = router.recorded_since(&mut cursor);
    assert_eq!((calls.len(), missed), (10, 0));
    let mut again = Cursor::of(cursor.positions().to_vec());
    assert_eq!(router.recorded_since(&mut again).0, []);
    times(&router, "a:fine", 100).await;
    let (calls, missed) = router.recorded_since(&mut cursor);
    assert_eq!((calls.len(), missed), (16, 84));
}

#[tokio::test]
async fn slow_calls_are_found_also_where_not_every_call_is_measured() {
    let router = router(RecorderLimits::default());
    // More than are measured in any case, in one poll.
    let inner = router.clone();
    handle(&router, "a:all", move |event_in| {
        let inner = inner.clone();
        async move {
            let parent = || Some(event_in.counted().clone());
            for _ in 0..4 * MEASURED {
                inner.emit(event("a:fine"), parent()).await;
            }
            inner.emit(event("a:blocks"), parent()).await;
            Ok(None)
        }
    });
    handle(&router, "a:fine", |_| async { Ok(None) });
    handle(&router, "a:blocks", |_| async {
        thread::sleep(Duration::from_millis(150));
        Ok(None)
    });
    times(&router, "a:all", 1).await;
    let least = Some(Duration::from_millis(100));
    let calls = router.recorded_calls(&CallQuery { at_least: least, ..CallQuery::default() });
    // That of the one that was not measured may seem to have begun before it did.
    let mut slow = names(&calls);
    slow.sort_unstable();
    assert_eq!(slow, ["a:all", "a:blocks"]);
    let least = Some(Duration::from_millis(140));
    assert!(calls.iter().all(|call| call.took >= least), "{calls:?}");
    let latencies = router.latencies(|info| Some(info.handler.to_string()));
    assert!(latencies["a:blocks"].max >= Duration::from_millis(140), "{latencies:?}");
    assert!(latencies["a:fine"].calls >= u64::from(MEASURED), "{latencies:?}");
}

#[tokio::test]
async fn nothing_is_kept_where_nothing_is_to_be() {
    let router = router(RecorderLimits { calls: 0, ..RecorderLimits::default() });
    handle(&router, "a:fails", |_| async { Err(Failure::new("no", "it does not")) });
    times(&router, "a:fails", 3).await;
    assert_eq!(router.recorded_calls(&CallQuery::default()), []);
    assert!(router.recorded_failures().is_empty());
    assert_eq!(router.recorded().bytes, 0);
}
