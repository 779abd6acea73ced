//! Taps: watchers that see events pass without handling them.
//!
//! A tap never slows an emitter down. Its queue is bounded; when it is full the tap is closed, and its reader learns
//! how many events it has missed by then.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use ksi_plugin_api::Pattern;
use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
};

use super::matcher::Matcher;
use crate::event::Event;
use ksi_plugin_api::abi::Counted;

/// All taps of a router.
#[derive(Default)]
pub(crate) struct Taps {
    list: Mutex<Vec<(Vec<Pattern>, Arc<Tap>)>>,
    matcher: ArcSwap<Matcher<Arc<Tap>>>,
    /// Spares emitters the look-up while nobody watches.
    any: AtomicBool,
}

struct Tap {
    /// `None` once it was full: then the reader comes to the end of what fitted.
    sender: Mutex<Option<mpsc::Sender<Counted<Event>>>>,
    /// Events that did not fit.
    missed: AtomicU64,
    overflowed: Notify,
}

/// What a watcher reads.
#[derive(Debug)]
pub enum Watched {
    /// An event that matches.
    Event(Counted<Event>),
    /// The last item of a watcher that was too slow: so many events did not fit into its queue.
    Missed(u64),
}

/// A watcher's end of a tap. Dropping it ends the watch.
pub struct Watch {
    receiver: mpsc::Receiver<Counted<Event>>,
    tap: Arc<Tap>,
    taps: Arc<Taps>,
    over: bool,
}

impl Taps {
    pub(crate) fn watch(self: &Arc<Self>, patterns: &[Pattern], capacity: usize) -> Watch {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let sender = Mutex::new(Some(sender));
        let tap = Tap { sender, missed: AtomicU64::new(0), overflowed: Notify::new() };
        let tap = Arc::new(tap);
        let mut list = self.lock();
        list.push((patterns.to_vec(), tap.clone()));
        self.publish_list(&list);
        drop(list);
        Watch { receiver, tap, taps: self.clone(), over: false }
    }

    /// Whether anybody watches events of this name.
    pub(crate) fn is_watched(&self, name: &str) -> bool {
        self.any.load(Ordering::Relaxed) && !self.matcher.load().find(name).is_empty()
    }

    /// Shows an event to everybody who watches it.
    pub(crate) fn show(&self, event: &Counted<Event>) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut taps = self.matcher.load().find(event.name());
        // A tap of several patterns is found once a pattern.
        taps.sort_unstable_by_key(|tap| Arc::as_ptr(tap).addr());
        taps.dedup_by(|a, b| Arc::ptr_eq(a, b));
        if taps.is_empty() {
            return;
        }
        // Watchers keep events for any time, on any thread: so they get one without a plugin's value.
        let event = match Event::to_json(event) {
            Ok(event) => event,
            Err(failure) => {
                // There may be no handler that it fails in, and it must not vanish.
                let (name, message) = (event.name(), &failure.message);
                tracing::warn!(event = name, "those who watch it do not see it: {message}");
                return;
            }
        };
        for tap in taps {
            tap.show(&event);
        }
    }

    fn remove(&self, tap: &Arc<Tap>) {
        let mut list = self.lock();
        list.retain(|(_, known)| !Arc::ptr_eq(known, tap));
        self.publish_list(&list);
    }

    fn publish_list(&self, list: &[(Vec<Pattern>, Arc<Tap>)]) {
        let mut matcher = Matcher::default();
        for (patterns, tap) in list {
            for pattern in patterns {
                matcher.insert(pattern, tap.clone());
            }
        }
        self.matcher.store(Arc::new(matcher));
        self.any.store(!list.is_empty(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Vec<Pattern>, Arc<Tap>)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    fn show(&self, event: &Counted<Event>) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let full = match &*sender {
            Some(open) => matches!(open.try_send(event.clone()), Err(TrySendError::Full(_))),
            None => true,
        };
        if full {
            // In this order, because the reader looks at the number when it has come to the end.
            self.missed.fetch_add(1, Ordering::AcqRel);
            *sender = None;
            self.overflowed.notify_waiters();
        }
    }
}

impl Watch {
    /// The next event; `None` after a [`Watched::Missed`].
    pub async fn next(&mut self) -> Option<Watched> {
        if self.over {
            return None;
        }
        match self.receiver.recv().await {
            Some(event) => Some(Watched::Event(event)),
            None => {
                self.over = true;
                self.taps.remove(&self.tap);
                Some(Watched::Missed(self.tap.missed.load(Ordering::Acquire)))
            }
        }
    }

    /// How many events did not fit so far.
    pub fn missed(&self) -> u64 {
        self.tap.missed.load(Ordering::Acquire)
    }

    /// Gives up what waits to be read; how many events that were.
    pub fn discard(&mut self) -> u64 {
        let mut discarded = 0;
        while self.receiver.try_recv().is_ok() {
            discarded += 1;
        }
        discarded
    }

    /// Resolves when an event did not fit. What fitted can still be read; nothing is added to it.
    pub async fn overflowed(&self) {
        loop {
            let mut overflowed = std::pin::pin!(self.tap.overflowed.notified());
            overflowed.as_mut().enable();
            if self.tap.missed.load(Ordering::Acquire) > 0 {
                return;
            }
            overflowed.await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.over {
            self.taps.remove(&self.tap);
        }
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

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_watcher_sees_each_matching_event_once() {
        let (taps, ids) = (Arc::new(Taps::default()), EventIds::new());
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
        let (taps, ids) = (Arc::new(Taps::default()), EventIds::new());
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
        let (taps, ids) = (Arc::new(Taps::default()), EventIds::new());
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
}
