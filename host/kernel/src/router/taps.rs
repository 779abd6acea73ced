//! Taps: watchers that see events pass without handling them.
//!
//! A tap never slows an emitter down. Its queue is bounded, by a count and in bytes; when it is
//! full the tap is closed, and its reader learns how many events it has missed by then. When all
//! that waits in the host is too much, the tap that holds the most is given up: what waits in it is
//! missed, too.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{
        Arc, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use ksi_abi::Pattern;
use tokio::sync::Notify;

use super::matcher::Matcher;
use crate::event::{Event, EventRef};
use crate::lock::Lock;
use crate::memory::{Account, Budget, Shared};
use ksi_abi::Counted;

/// All taps of a router.
pub(crate) struct Taps {
    budget: Arc<Budget>,
    /// Bytes that may wait in one of them.
    queue_bytes: usize,
    /// One who changes it holds the lock.
    matcher: ArcSwap<Matcher<Arc<Tap>>>,
    writers: Lock<()>,
    /// Spares emitters the look-up while nobody watches.
    any: AtomicBool,
}

struct Tap {
    patterns: Vec<Pattern>,
    /// Events that may wait.
    capacity: usize,
    /// Their bytes.
    limit: usize,
    account: Arc<Account>,
    queue: Lock<TapQueue>,
    arrived: Notify,
    closed: Notify,
    /// It is shown nothing any more. Whoever has set this takes it out.
    removed: AtomicBool,
}

#[derive(Default)]
struct TapQueue {
    waiting: VecDeque<Shown>,
    /// Nothing is added any more: the reader comes to the end of what fitted.
    closed: bool,
    /// Events that did not fit.
    missed: u64,
}

/// An event, and what it takes for as long as it waits for anybody.
type Shown = Arc<(Counted<Event>, Shared)>;

/// What a watcher reads.
#[derive(Debug)]
#[non_exhaustive]
pub enum Watched {
    /// An event that matches.
    Event(EventRef),
    /// The last item of a watcher that was too slow: so many events did not fit into its queue.
    Missed(u64),
}

/// A watcher's end of a tap. Dropping it ends the watch.
#[must_use = "a watch ends when it is dropped"]
pub struct Watch {
    tap: Arc<Tap>,
    taps: Arc<Taps>,
    over: bool,
}

/// Ends a watch that somebody else reads: nothing more is shown to it.
#[derive(Clone)]
pub struct WatchEnd {
    tap: Arc<Tap>,
    taps: Arc<Taps>,
}

/// Watches that have ended, and are still to be taken out.
pub struct EndedWatches {
    watches: Vec<Arc<Tap>>,
    taps: Option<Arc<Taps>>,
}

impl WatchEnd {
    /// What ends this watch from elsewhere.
    pub fn of(watch: &Watch) -> Self {
        WatchEnd { tap: watch.tap.clone(), taps: watch.taps.clone() }
    }

    /// Ends this watch, and has its reader come to the end of what waits in it.
    pub(crate) fn close(&self) {
        self.taps.remove(&self.tap);
        self.tap.close(self.tap.queue());
    }

    /// Ends watches of one host. What waits in them can still be read.
    pub fn all<'a>(ends: impl Iterator<Item = &'a WatchEnd>) -> EndedWatches {
        let mut ends = ends.peekable();
        let taps = ends.peek().map(|end| end.taps.clone());
        let ended = ends.filter(|end| end.tap.is_removed_by_this());
        EndedWatches { watches: ended.map(|end| end.tap.clone()).collect(), taps }
    }
}

impl EndedWatches {
    /// With one change, however many they are; it takes its time where they have many patterns.
    pub fn take_out(self) {
        if let Some(taps) = self.taps {
            taps.take_out(&self.watches);
        }
    }
}

impl Taps {
    pub(crate) fn new(budget: Arc<Budget>, queue_bytes: usize) -> Arc<Taps> {
        let (matcher, writers, any) = (ArcSwap::default(), Lock::default(), AtomicBool::default());
        Arc::new(Taps { budget, queue_bytes, matcher, writers, any })
    }

    pub(crate) fn watch(self: &Arc<Self>, patterns: &[Pattern], capacity: usize) -> Watch {
        let tap = Arc::new_cyclic(|tap: &Weak<Tap>| {
            let tap = tap.clone();
            let give_up = move || {
                if let Some(tap) = tap.upgrade() {
                    tap.give_up();
                }
            };
            Tap {
                patterns: patterns.to_vec(),
                capacity: capacity.max(1),
                limit: self.queue_bytes,
                account: self.budget.account(give_up),
                queue: Lock::default(),
                arrived: Notify::new(),
                closed: Notify::new(),
                removed: AtomicBool::new(false),
            }
        });
        self.change(|matcher| {
            for pattern in &tap.patterns {
                matcher.insert(pattern, tap.clone());
            }
        });
        Watch { tap, taps: self.clone(), over: false }
    }

    /// Whether anybody watches events of this name.
    pub(crate) fn is_watched(&self, name: &str) -> bool {
        self.any.load(Ordering::Relaxed) && !self.matcher.load().find(name).is_empty()
    }

    /// Shows an event to everybody who watches it.
    #[inline]
    pub(crate) fn show(&self, event: &Counted<Event>) {
        if self.any.load(Ordering::Relaxed) {
            self.show_watchers(event);
        }
    }

    #[cold]
    fn show_watchers(&self, event: &Counted<Event>) {
        let mut taps = self.matcher.load().find(event.name());
        // A tap of several patterns is found once a pattern.
        taps.sort_unstable_by_key(|tap| Arc::as_ptr(tap).addr());
        taps.dedup_by(|a, b| Arc::ptr_eq(a, b));
        // Those that only count what they miss need no event to be made for them.
        taps.retain(|tap| !tap.misses());
        if taps.is_empty() {
            return;
        }
        // Watchers keep events for any time, on any thread: so they get one without a plugin's
        // value.
        let event = match Event::to_json(event) {
            Ok(event) => event,
            Err(failure) => {
                // There may be no handler that it fails in, and it must not vanish.
                let (name, message) = (event.name(), &failure.message);
                tracing::warn!(event = name, "those who watch it do not see it: {message}");
                return;
            }
        };
        let bytes = event.bytes();
        // Before any queue is locked: this may give up any tap.
        let shown = Arc::new((event, self.budget.share(bytes)));
        for tap in taps {
            tap.show(&shown, bytes);
        }
    }

    /// Removes it, if nobody has done so.
    fn remove(&self, tap: &Arc<Tap>) {
        if tap.is_removed_by_this() {
            self.take_out(std::slice::from_ref(tap));
        }
    }

    fn take_out(&self, taps: &[Arc<Tap>]) {
        if taps.is_empty() {
            return;
        }
        self.change(|matcher| {
            for tap in taps {
                for pattern in &tap.patterns {
                    matcher.remove(pattern, |known| Arc::ptr_eq(known, tap));
                }
            }
        });
    }

    /// Changes what is touched, and shares all else with the one before.
    fn change(&self, change: impl FnOnce(&mut Matcher<Arc<Tap>>)) {
        let _turn = self.writers.lock();
        let mut matcher = Matcher::clone(&self.matcher.load());
        change(&mut matcher);
        self.any.store(!matcher.is_empty(), Ordering::Relaxed);
        self.matcher.store(Arc::new(matcher));
    }
}

impl Tap {
    fn is_removed_by_this(&self) -> bool {
        !self.removed.swap(true, Ordering::Relaxed)
    }

    fn show(&self, event: &Shown, bytes: usize) {
        if self.removed.load(Ordering::Relaxed) {
            return;
        }
        let mut queue = self.queue();
        // One event is taken however large it is.
        let fits = queue.waiting.is_empty()
            || (queue.waiting.len() < self.capacity && self.account.bytes() + bytes <= self.limit);
        if fits && !queue.closed && !self.account.is_over() {
            self.account.hold(bytes);
            queue.waiting.push_back(event.clone());
            let first = queue.waiting.len() == 1;
            drop(queue);
            if first {
                self.arrived.notify_one();
            }
        } else {
            queue.missed += 1;
            self.close(queue);
        }
    }

    /// Whether nothing is added to it any more; then one more event is missed, if anybody is still
    /// to be told.
    fn misses(&self) -> bool {
        let mut queue = self.queue();
        queue.missed += u64::from(queue.closed);
        queue.closed
    }

    fn close(&self, mut queue: MutexGuard<'_, TapQueue>) {
        queue.closed = true;
        drop(queue);
        self.arrived.notify_one();
        self.closed.notify_waiters();
    }

    /// Lets go of all that waits, which counts as missed.
    fn give_up(&self) {
        let mut queue = self.queue();
        let waiting = std::mem::take(&mut queue.waiting);
        queue.missed += waiting.len() as u64;
        self.account.let_go(waiting.iter().map(|shown| shown.0.bytes()).sum());
        self.close(queue);
    }

    fn queue(&self) -> MutexGuard<'_, TapQueue> {
        self.queue.lock()
    }
}

impl Watch {
    /// The next event; `None` after a [`Watched::Missed`], which tells of none where a watch was
    /// closed.
    pub async fn next(&mut self) -> Option<Watched> {
        if self.over {
            return None;
        }
        loop {
            {
                let mut queue = self.tap.queue();
                if let Some(shown) = queue.waiting.pop_front() {
                    self.tap.account.let_go(shown.0.bytes());
                    drop(queue);
                    return Some(Watched::Event(EventRef::new(shown.0.clone())));
                }
                if queue.closed {
                    self.over = true;
                    let missed = queue.missed;
                    drop(queue);
                    self.taps.remove(&self.tap);
                    return Some(Watched::Missed(missed));
                }
            }
            self.tap.arrived.notified().await;
        }
    }

    /// How many events did not fit so far.
    pub fn missed(&self) -> u64 {
        self.tap.queue().missed
    }

    /// Gives up what waits to be read, which counts as missed from then on, and what comes.
    pub fn discard(&mut self) {
        self.tap.give_up();
    }

    /// Resolves when an event did not fit. What fitted can still be read; nothing is added to it.
    pub async fn overflowed(&self) {
        loop {
            let mut closed = pin!(self.tap.closed.notified());
            closed.as_mut().enable();
            if self.tap.queue().closed {
                return;
            }
            closed.await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.taps.remove(&self.tap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventIds, NewEvent, Payload};

    fn event(ids: &EventIds, name: &str) -> Counted<Event> {
        let new = NewEvent::new(name, Payload::from_json_bytes(b"{}".to_vec())).unwrap();
        Counted::new(Event::new(new, None, ids))
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
        Counted::new(Event::new(NewEvent::new("a:b", payload).unwrap(), None, ids))
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
    async fn many_that_do_not_read_hold_no_more_than_the_budget_and_one_that_reads_misses_nothing()
    {
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
        let mut watches: Vec<_> =
            (0..16).map(|_| taps.watch(&patterns(&["a:b", "*"]), 8)).collect();
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
        assert!(
            Arc::ptr_eq(&changed, &taps.matcher.load_full()),
            "there is nothing left to change"
        );
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
}
