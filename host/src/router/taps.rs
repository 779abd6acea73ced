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
use tokio::sync::mpsc;

use super::matcher::Matcher;
use crate::event::Event;

/// All taps of a router.
#[derive(Default)]
pub(crate) struct Taps {
    list: Mutex<Vec<(Vec<Pattern>, Arc<Tap>)>>,
    matcher: ArcSwap<Matcher<Arc<Tap>>>,
    /// Spares emitters the look-up while nobody watches.
    any: AtomicBool,
}

struct Tap {
    sender: mpsc::Sender<Arc<Event>>,
    /// Events that found the queue full. Above 0 the tap is closed.
    missed: AtomicU64,
}

/// What a watcher reads.
#[derive(Debug)]
pub enum Watched {
    /// An event that matches.
    Event(Arc<Event>),
    /// The last item of a watcher that was too slow: so many events did not fit into its queue.
    Missed(u64),
}

/// A watcher's end of a tap. Dropping it ends the watch.
pub struct Watch {
    receiver: mpsc::Receiver<Arc<Event>>,
    tap: Arc<Tap>,
    taps: Arc<Taps>,
    over: bool,
}

impl Taps {
    pub(crate) fn watch(self: &Arc<Self>, patterns: &[Pattern], capacity: usize) -> Watch {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let tap = Arc::new(Tap { sender, missed: AtomicU64::new(0) });
        let mut list = self.lock();
        list.push((patterns.to_vec(), tap.clone()));
        self.publish_list(&list);
        drop(list);
        Watch { receiver, tap, taps: self.clone(), over: false }
    }

    /// Shows an event to everybody who watches it.
    pub(crate) fn show(&self, event: &Arc<Event>) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut taps = self.matcher.load().find(event.name());
        // A tap of several patterns is found once a pattern.
        taps.sort_unstable_by_key(|tap| Arc::as_ptr(tap).addr());
        taps.dedup_by(|a, b| Arc::ptr_eq(a, b));
        for tap in taps {
            tap.show(event);
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
    fn show(&self, event: &Arc<Event>) {
        let closed = self.missed.load(Ordering::Acquire) > 0;
        if closed
            || matches!(
                self.sender.try_send(event.clone()),
                Err(mpsc::error::TrySendError::Full(_))
            )
        {
            self.missed.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Watch {
    /// The next event; `None` after a [`Watched::Missed`].
    pub async fn next(&mut self) -> Option<Watched> {
        if self.over {
            return None;
        }
        // What came before the queue was full is delivered first.
        let missed = self.tap.missed.load(Ordering::Acquire);
        let next = match missed {
            0 => self.receiver.recv().await,
            _ => self.receiver.try_recv().ok(),
        };
        match next {
            Some(event) => Some(Watched::Event(event)),
            None => {
                self.over = true;
                self.taps.remove(&self.tap);
                Some(Watched::Missed(self.tap.missed.load(Ordering::Acquire)))
            }
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

    fn event(ids: &EventIds, name: &str) -> Arc<Event> {
        let new = NewEvent::new(name, Payload::from_json_bytes(b"{}".to_vec())).unwrap();
        Arc::new(Event::new(new, None, ids))
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
}
