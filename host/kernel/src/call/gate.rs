//! Holding a plugin's events while its state moves from one generation to the next.
//!
//! Each generation that keeps state, or is exclusive, has a [`Gate`], and every event enters it
//! before that generation's handlers are called. While the gate is held, new events wait outside,
//! and those that are inside end. An event that comes from one that is inside (a handler emits, and
//! the event reaches the same plugin again, directly or through others) is let in all the same: the
//! call that emitted it would otherwise wait for its own plugin for ever.
//!
//! Gates of several plugins can be held [together](Gate::hold_together), because their generations
//! are to change as one: what is inside one of them is let into all of them, and they are quiet at
//! one moment.
//!
//! Nothing here knows what state is or where events go afterwards.

use std::{
    fmt,
    future::Future,
    pin::pin,
    sync::{
        Arc, MutexGuard, Weak,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::event::Event;
use crate::lock::Lock;
use crate::memory::{Account, Charge};

/// Events go in and out of different shards without meeting.
const SHARDS: usize = 8;

/// Everything enters.
const OPEN: u8 = 0;
/// What comes from inside enters.
const HELD: u8 = 1;
/// Nothing is inside, and nothing enters until it is known where to.
const QUIET: u8 = 2;
/// Nothing enters any more: there is another generation.
const MOVED: u8 = 3;

/// What the events of one generation pass through.
#[derive(Debug)]
pub struct Gate {
    state: AtomicU8,
    /// How many hold it: it opens again with the last of them.
    holds: AtomicUsize,
    /// The numbers of the events that are inside, one entry for each time they entered.
    inside: [Lock<Vec<u64>>; SHARDS],
    waiting: HeldQueue,
    /// The other gates that it is held together with.
    together: Lock<Vec<Weak<Gate>>>,
    /// The state has changed.
    changed: Notify,
    /// An event has left while the gate was held.
    left: Notify,
}

/// How many events wait, and how many may; of how many bytes, and of how many they may be.
#[derive(Debug)]
struct HeldQueue {
    count: AtomicUsize,
    limit: usize,
    account: Arc<Account>,
    full: Notify,
}

impl HeldQueue {
    /// Waits until as many wait as may.
    async fn is_full(&self) -> Overfull {
        loop {
            let mut full = pin!(self.full.notified());
            full.as_mut().enable();
            if let Some(overfull) = self.overfull() {
                return overfull;
            }
            full.await;
        }
    }

    fn overfull(&self) -> Option<Overfull> {
        if self.count.load(Ordering::Acquire) >= self.limit {
            Some(Overfull::Events(self.limit))
        } else if self.account.bytes() > self.account.limit() {
            Some(Overfull::Bytes(self.account.limit()))
        } else {
            None
        }
    }
}

/// An event that is inside a gate, until this is dropped: its calls hold it.
#[derive(Debug)]
pub(crate) struct Admission {
    gate: Arc<Gate>,
    event: u64,
}

/// An event did not get in: it is to wait, then to be routed anew.
#[derive(Debug)]
pub(crate) struct HeldAtGate {
    gate: Arc<Gate>,
    bytes: usize,
}

/// As much waits as may, and what it waits for is not done.
#[derive(Debug, PartialEq, Eq)]
pub enum Overfull {
    /// So many events.
    Events(usize),
    /// More than so many bytes of them.
    Bytes(usize),
}

impl fmt::Display for Overfull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overfull::Events(limit) => write!(f, "{limit} events (limits.held_events)"),
            Overfull::Bytes(limit) => {
                write!(f, "events of more than {limit} bytes (limits.held_bytes)")
            }
        }
    }
}

impl Gate {
    /// An open gate. When it is held, `limit` events wait at the most, of as many bytes as the
    /// account allows.
    pub(crate) fn new(limit: usize, account: Arc<Account>) -> Arc<Self> {
        let (count, full) = (AtomicUsize::new(0), Notify::new());
        let waiting = HeldQueue { count, limit, account, full };
        Arc::new(Gate {
            state: AtomicU8::new(OPEN),
            holds: AtomicUsize::new(0),
            inside: Default::default(),
            waiting,
            together: Lock::default(),
            changed: Notify::new(),
            left: Notify::new(),
        })
    }

    /// Lets an event in, unless the gate is held or the plugin has moved on.
    pub(crate) fn enter(self: &Arc<Self>, event: &Event) -> Result<Admission, HeldAtGate> {
        let number = event.id().number();
        let enter = || {
            let mut shard = self.shard(number);
            // Read under the shard's lock; see `hold`.
            let open = self.state.load(Ordering::Acquire) == OPEN;
            if open {
                shard.push(number);
            }
            open
        };
        if enter() {
            return Ok(Admission { gate: self.clone(), event: number });
        }
        if self.state.load(Ordering::Acquire) == HELD && self.comes_from_inside(event) {
            // If its ancestor has left meanwhile, nobody waits for this event any more, and the
            // gate may be quiet.
            let mut shard = self.shard(number);
            if self.state.load(Ordering::Acquire) == HELD {
                shard.push(number);
                drop(shard);
                return Ok(Admission { gate: self.clone(), event: number });
            }
        }
        Err(HeldAtGate { gate: self.clone(), bytes: event.bytes() })
    }

    /// Lets an event in that has left once because nobody was there to get it: not as long as the
    /// gate is held, whatever it comes from.
    pub(crate) fn enter_again(self: &Arc<Self>, event: &Event) -> Result<Admission, HeldAtGate> {
        let number = event.id().number();
        let mut shard = self.shard(number);
        if self.state.load(Ordering::Acquire) != OPEN {
            return Err(HeldAtGate { gate: self.clone(), bytes: event.bytes() });
        }
        shard.push(number);
        Ok(Admission { gate: self.clone(), event: number })
    }

    /// Whether the event, or one that it comes from, is inside this gate or one that is held
    /// together with it.
    fn comes_from_inside(&self, event: &Event) -> bool {
        let inside =
            |gate: &Gate| event.lineage().any(|number| gate.shard(number).contains(&number));
        inside(self) || self.others().iter().any(|other| inside(other))
    }

    /// The gates that it is held together with.
    fn others(&self) -> Vec<Arc<Gate>> {
        self.together.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn shard(&self, number: u64) -> MutexGuard<'_, Vec<u64>> {
        let index = usize::try_from(number).unwrap_or(0) % SHARDS;
        self.inside[index].lock()
    }

    /// How many events wait.
    pub fn waiting(&self) -> usize {
        self.waiting.count.load(Ordering::Acquire)
    }

    /// Holds new events from here on, until the result is dropped or says that the plugin has
    /// moved. Of several who hold it, the last one opens it.
    pub fn hold(self: &Arc<Self>) -> GateHold {
        self.holds.fetch_add(1, Ordering::AcqRel);
        // One that the plugin has left stays so.
        let held = |state| (state != MOVED).then_some(HELD);
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, held);
        // Whoever has a shard's lock after this sees the state; whoever had it before is inside.
        self.inside.iter().for_each(|shard| {
            drop(shard.lock());
        });
        GateHold(self.clone())
    }

    /// Holds several gates at once, as [`hold`](Self::hold) does each: what comes from inside one
    /// of them enters the others too, and none is quiet before all are.
    pub fn hold_together(gates: &[Arc<Gate>]) -> Vec<GateHold> {
        for gate in gates {
            let others = gates.iter().filter(|other| !Arc::ptr_eq(other, gate));
            *gate.together.lock() = others.map(Arc::downgrade).collect();
        }
        gates.iter().map(Gate::hold).collect()
    }

    /// Closes the gate, and those that it is held together with, for everything if nothing is
    /// inside any of them.
    fn close_if_empty(self: &Arc<Self>) -> bool {
        let mut gates = self.others();
        gates.retain(|gate| gate.is_held());
        gates.push(self.clone());
        // All locks at once, always in this order: nobody enters between the look and the change.
        gates.sort_unstable_by_key(|gate| Arc::as_ptr(gate).addr());
        let shards: Vec<MutexGuard<'_, Vec<u64>>> =
            gates.iter().flat_map(|gate| &gate.inside).map(Lock::lock).collect();
        let empty = shards.iter().all(|shard| shard.is_empty());
        if empty {
            // One that the plugin has left stays so.
            let quiet = |state| (state != MOVED).then_some(QUIET);
            for gate in &gates {
                let _ = gate.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, quiet);
            }
        }
        empty
    }

    /// Whether everything enters.
    pub fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPEN
    }

    fn is_held(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), HELD | QUIET)
    }

    fn end_hold(&self, state: u8) {
        self.together.lock().clear();
        self.state.store(state, Ordering::Release);
        self.changed.notify_waiters();
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut shard = self.gate.shard(self.event);
        if let Some(place) = shard.iter().position(|number| *number == self.event) {
            shard.swap_remove(place);
        }
        let quiet = shard.is_empty();
        drop(shard);
        if quiet && self.gate.is_held() {
            self.gate.left.notify_waiters();
            self.gate.others().iter().for_each(|other| other.left.notify_waiters());
        }
    }
}

impl HeldAtGate {
    /// Waits until the event may be routed again.
    pub(crate) async fn wait(&self) {
        let gate = &*self.gate;
        let _waiting = HeldEvent::begin(&gate.waiting, self.bytes);
        loop {
            let mut changed = pin!(gate.changed.notified());
            changed.as_mut().enable();
            if !gate.is_held() {
                return;
            }
            changed.await;
        }
    }
}

struct HeldEvent<'a>(&'a HeldQueue, #[allow(dead_code)] Charge);

impl<'a> HeldEvent<'a> {
    fn begin(waiting: &'a HeldQueue, bytes: usize) -> Self {
        waiting.count.fetch_add(1, Ordering::AcqRel);
        let charge = waiting.account.charge(bytes);
        if waiting.overfull().is_some() {
            waiting.full.notify_waiters();
        }
        HeldEvent(waiting, charge)
    }
}

impl Drop for HeldEvent<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A held gate. It opens again when this is dropped, which lets the generation go on as if nothing
/// had been.
#[derive(Debug)]
pub struct GateHold(Arc<Gate>);

impl GateHold {
    /// Waits until no event is inside; from then on none enters.
    ///
    /// # Errors
    /// As many events wait as may.
    pub async fn quiet(&self) -> Result<(), Overfull> {
        let gate = &self.0;
        let mut full = pin!(gate.waiting.is_full());
        loop {
            let mut left = pin!(gate.left.notified());
            left.as_mut().enable();
            if gate.close_if_empty() {
                return Ok(());
            }
            tokio::select! {
                () = left => {}
                overfull = &mut full => return Err(overfull),
            }
        }
    }

    /// Does what is to be done while events wait, unless as many wait as may before it is done.
    pub async fn while_waiting<T>(&self, work: impl Future<Output = T>) -> Result<T, Overfull> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            overfull = self.0.waiting.is_full() => Err(overfull),
        }
    }

    /// Waits until as much waits as may.
    pub async fn full(&self) -> Overfull {
        self.0.waiting.is_full().await
    }

    /// The next generation has taken over: what waits goes there, and nothing enters this gate any
    /// more.
    pub fn moved(self) {
        self.0.end_hold(MOVED);
    }
}

impl Drop for GateHold {
    fn drop(&mut self) {
        let last = self.0.holds.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && self.0.is_held() {
            self.0.end_hold(OPEN);
        }
    }
}

#[cfg(test)]
mod tests;
