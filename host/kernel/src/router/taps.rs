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
mod tests;
