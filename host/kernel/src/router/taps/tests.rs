use super::*;
use crate::event::{EventIds, NewEvent, Payload};

fn event(ids: &EventIds, name: &str) -> Counted<Event> {
    let new = NewEvent::new(name, Payload::from_json_bytes(b"{}".to_vec())).unwrap();
    Counted::new(Event::new(new, None, ids, 0))
}

fn taps() -> Arc<Taps> {
    Taps::new(Budget::new(1 << 20), 1 << 19)
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

#[tokio::test]
async fn a_watcher_sees_each_matching_event_once() {
    let (taps, ids) = (taps(), EventIds::new());
    let mut watch = taps.watch(&patterns(&["a:*", "a:b", "*:b"]), 8);
    for name in ["a:b", "c:d", "a:c"] {
        taps.show(&event(&ids, name));
    }
    for name in ["a:b", "a:c"] {
        match watch.next().await {
            Some(Watched::Event(event)) => assert_eq!(event.name(), name),
            other => panic!("{other:?}"),
        }
    }
    drop(watch);
    assert!(!taps.any.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_slow_watcher_gets_what_fitted_and_then_the_number_it_missed() {
    let (taps, ids) = (taps(), EventIds::new());
    let mut watch = taps.watch(&patterns(&["*"]), 2);
    for _ in 0..5 {
        taps.show(&event(&ids, "a:b"));
    }
    assert!(matches!(watch.next().await, Some(Watched::Event(_))));
    assert!(matches!(watch.next().await, Some(Watched::Event(_))));
    assert!(matches!(watch.next().await, Some(Watched::Missed(3))));
    assert!(watch.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_reads_while_its_queue_overflows_learns_of_the_end() {
    let (taps, ids) = (taps(), EventIds::new());
    let event = event(&ids, "a:b");
    for _ in 0..3_000 {
        let mut watch = taps.watch(&patterns(&["*"]), 1);
        let (taps, event) = (taps.clone(), event.clone());
        let emitting = tokio::spawn(async move { (0..8).for_each(|_| taps.show(&event)) });
        let mut seen = 0;
        while seen < 8 {
            let next = tokio::time::timeout(std::time::Duration::from_secs(20), watch.next());
            match next.await.expect("an event or the end") {
                Some(Watched::Event(_)) => seen += 1,
                Some(Watched::Missed(_)) => break,
                None => panic!("the end is told"),
            }
        }
        emitting.await.unwrap();
    }
}

fn large(ids: &EventIds, bytes: usize) -> Counted<Event> {
    let payload = Payload::from_json_bytes(vec![b' '; bytes]);
    Counted::new(Event::new(NewEvent::new("a:b", payload).unwrap(), None, ids, 0))
}

#[tokio::test]
async fn a_queue_is_full_of_few_events_when_they_are_large() {
    let (taps, ids) = (taps(), EventIds::new());
    let mut watch = taps.watch(&patterns(&["*"]), 1000);
    for _ in 0..5 {
        taps.show(&large(&ids, 200_000));
    }
    for _ in 0..2 {
        assert!(matches!(watch.next().await, Some(Watched::Event(_))));
    }
    assert!(matches!(watch.next().await, Some(Watched::Missed(3))));
    assert_eq!(taps.budget.used(), 0);
    let mut watch = taps.watch(&patterns(&["*"]), 1000);
    taps.show(&large(&ids, 900_000));
    assert!(matches!(watch.next().await, Some(Watched::Event(_))), "one is taken all the same");
}

#[tokio::test]
async fn a_watch_that_has_overflowed_costs_a_count_and_has_nothing_made_for_it() {
    let (taps, ids) = (Taps::new(Budget::new(1 << 20), 1 << 22), EventIds::new());
    let mut full = taps.watch(&patterns(&["a:*"]), 1);
    let mut other = taps.watch(&patterns(&["other:*"]), 9);
    taps.show(&event(&ids, "other:b"));
    for _ in 0..2 {
        taps.show(&event(&ids, "a:b"));
    }
    // Alone, it would be too much for all that waits.
    taps.show(&large(&ids, 2 << 20));
    assert_eq!(taps.budget.given_up(), 0);
    assert!(matches!(other.next().await, Some(Watched::Event(_))));
    assert!(matches!(full.next().await, Some(Watched::Event(_))));
    assert!(matches!(full.next().await, Some(Watched::Missed(2))));
}

#[tokio::test]
async fn many_that_do_not_read_hold_no_more_than_the_budget_and_one_that_reads_misses_nothing() {
    let (taps, ids) = (Taps::new(Budget::new(1 << 20), 1 << 22), EventIds::new());
    let idle: Vec<_> = (0..20).map(|_| taps.watch(&patterns(&["a:*"]), 1000)).collect();
    let mut reading = taps.watch(&patterns(&["a:b"]), 1000);
    for _ in 0..100 {
        taps.show(&large(&ids, 30_000));
        assert!(taps.budget.used() <= taps.budget.limit(), "{}", taps.budget.used());
        assert!(matches!(reading.next().await, Some(Watched::Event(_))));
    }
    assert!(idle.iter().all(|idle| idle.missed() > 0));
    assert!(taps.budget.given_up() > 0);
    drop(idle);
    assert_eq!(taps.budget.used(), 0);
}

#[tokio::test]
async fn watches_that_end_together_are_one_change_and_what_waits_in_them_can_be_read() {
    let (taps, ids) = (taps(), EventIds::new());
    let mut watches: Vec<_> = (0..16).map(|_| taps.watch(&patterns(&["a:b", "*"]), 8)).collect();
    taps.show(&event(&ids, "a:b"));
    let ends: Vec<_> = watches.iter().map(WatchEnd::of).collect();
    let ended = WatchEnd::all(ends.iter());
    taps.show(&event(&ids, "a:b"));
    ended.take_out();
    let changed = taps.matcher.load_full();
    assert!(changed.is_empty() && !taps.any.load(Ordering::Relaxed));
    taps.show(&event(&ids, "a:b"));
    assert!(matches!(watches[3].next().await, Some(Watched::Event(_))));
    assert_eq!(watches[3].tap.queue().waiting.len(), 0, "one was shown before the end");
    drop(watches);
    assert!(Arc::ptr_eq(&changed, &taps.matcher.load_full()), "there is nothing left to change");
}

#[test]
fn a_watch_costs_its_own_patterns_however_many_others_there_are() {
    let taps = taps();
    let own = |number: usize| {
        let texts: Vec<String> = (0..64).map(|n| format!("n{number}:e{n}:*")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        taps.watch(&patterns(&texts), 8)
    };
    let others: Vec<_> = (0..500).map(own).collect();
    let begin = std::time::Instant::now();
    for number in 0..20 {
        drop(own(1_000 + number));
    }
    // Building all of it anew, as was done once, takes a second in an unoptimized test.
    let took = begin.elapsed();
    assert!(took < std::time::Duration::from_millis(500), "{took:?}");
    drop(others);
    assert!(taps.matcher.load().is_empty() && !taps.any.load(Ordering::Relaxed));
}
