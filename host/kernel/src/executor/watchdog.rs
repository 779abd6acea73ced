//! Sees calls that do not return from a poll. They can't be ended inside a process: they are
//! reported, whoever waits for one is answered when it is late ([`apart`](super::apart)), and when
//! they hold every call thread, new threads take over.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    cpu::{CpuClocks, Sampler},
    slot::Slot,
    workers::Workers,
};

/// How often it looks while anything runs. While nothing runs it sleeps.
const TICK: Duration = Duration::from_millis(5);
/// How long every call thread must stand still, with work waiting, before new threads take over.
const ALL_STUCK: Duration = Duration::from_millis(50);

/// How often any of them has looked. A call whose first poll began and ended at the same number was
/// short.
pub(crate) static LOOKS: AtomicU32 = AtomicU32::new(0);

/// A call that has not returned from one poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StuckPoll {
    /// The key of its handler; 0 when it is no call but a task.
    pub(crate) handler: u64,
    /// The number of its event.
    pub(crate) event: u64,
    /// For how long by now.
    pub(crate) since: Duration,
}

/// What the watchdog asks, and whom it tells.
pub(crate) trait Overseer: Send + 'static {
    /// What a call of the handler with this key may take, if there is such a handler.
    fn timeout_of(&self, handler: u64) -> Option<Duration>;
    /// A call has not returned for long. Told once.
    fn stuck(&self, call: StuckPoll);
    /// A call of the handler with this key has run for so many nanoseconds, as far as was sampled.
    fn ran(&self, handler: u64, nanos: u64);
}

#[cfg(test)]
impl<F: Fn(StuckPoll) + Send + 'static> Overseer for F {
    fn timeout_of(&self, _: u64) -> Option<Duration> {
        None
    }

    fn stuck(&self, call: StuckPoll) {
        self(call);
    }

    fn ran(&self, _: u64, _: u64) {}
}

/// Starts the watchdog's thread, which ends with the workers. `overseer` is told once of every call
/// that has been stuck for `stuck`; at most `abandoned` threads are given up on. `clocks` tell how
/// long threads have run.
pub(crate) fn start(
    workers: &Arc<Workers>,
    stuck: Duration,
    abandoned: usize,
    clocks: CpuClocks,
    overseer: impl Overseer,
) -> io::Result<()> {
    let (weak, sampler) = (Arc::downgrade(workers), Sampler::new(clocks));
    let thread = thread::Builder::new().name("ksi-watchdog".to_owned());
    let handle = thread.spawn(move || watch(&weak, stuck, abandoned, sampler, &overseer))?;
    workers.set_watchdog(handle.thread().clone());
    Ok(())
}

fn watch(
    workers: &Weak<Workers>,
    stuck: Duration,
    abandoned: usize,
    mut sampler: Sampler,
    overseer: &dyn Overseer,
) {
    let mut watched: HashMap<*const Slot, WatchedSlot> = HashMap::new();
    loop {
        let Some(workers) = workers.upgrade() else { return };
        let (slots, now) = (workers.slots(), Instant::now());
        sampler.look(&workers.all_slots(), |handler, nanos| overseer.ran(handler, nanos));
        // A thread that was exchanged is watched on until it returns from its poll, or that it does
        // not is told.
        let mut exchanged = 0;
        watched.retain(|known, seen| {
            let at_work = slots.iter().any(|slot| Arc::as_ptr(slot) == *known);
            let stuck = !at_work && !seen.is_done_with() && !seen.look(now).is_zero();
            exchanged += usize::from(stuck);
            at_work || stuck
        });
        if exchanged == 0 && workers.is_idle() {
            watched.clear();
            drop((slots, workers));
            // A bound, so that the thread notices the end of the workers.
            thread::park_timeout(Duration::from_secs(1));
            // Not at once: work that comes and goes would wake it each time.
            thread::sleep(TICK);
            continue;
        }
        LOOKS.fetch_add(1, Ordering::Relaxed);
        let waiting = workers.nudge();
        let mut still = 0;
        for slot in &slots {
            let seen =
                watched.entry(Arc::as_ptr(slot)).or_insert_with(|| WatchedSlot::new(slot, now));
            still += usize::from(seen.look(now) >= ALL_STUCK);
        }
        for seen in watched.values_mut() {
            let since = seen.look(now);
            seen.look_at_calls(now, |handler| overseer.timeout_of(handler));
            if since >= stuck && !seen.reported {
                seen.reported = true;
                let [handler, event] = seen.slot.polled_call();
                overseer.stuck(StuckPoll { handler, event, since });
            }
        }
        let given_up = workers.leaving() * slots.len();
        if waiting && still == slots.len() && given_up + slots.len() <= abandoned {
            tracing::warn!("every dispatch worker is stuck in a call: new ones take over");
            if let Err(error) = workers.exchange() {
                tracing::error!(%error, "no further dispatch workers can be started");
            }
        }
        drop((slots, workers));
        thread::sleep(TICK);
    }
}

struct WatchedSlot {
    slot: Arc<Slot>,
    polls: u64,
    since: Instant,
    reported: bool,
    /// The call that is being polled, and the one that it is polled inside of, if it is another.
    call: WatchedCall,
    outermost: WatchedCall,
}

/// The call that is being polled inside a poll of its thread: handler and event.
struct WatchedCall {
    call: [u64; 2],
    since: Instant,
    /// What it may take, once it was asked for.
    timeout: Option<Duration>,
    late: bool,
}

impl WatchedCall {
    fn new(call: [u64; 2], since: Instant) -> Self {
        WatchedCall { call, since, timeout: None, late: false }
    }
}

impl WatchedSlot {
    fn new(slot: &Arc<Slot>, now: Instant) -> Self {
        let [call, outermost] = [(); 2].map(|()| WatchedCall::new([0; 2], now));
        WatchedSlot { slot: slot.clone(), polls: 0, since: now, reported: false, call, outermost }
    }

    /// For how long the thread has been in one and the same poll.
    fn look(&mut self, now: Instant) -> Duration {
        let polls = self.slot.polls.load(Ordering::Relaxed);
        if polls != self.polls {
            (self.polls, self.since, self.reported) = (polls, now, false);
            self.call = WatchedCall::new(self.slot.polled_call(), now);
            self.outermost = WatchedCall::new(self.slot.outermost_call().0, now);
        }
        if polls.is_multiple_of(2) { Duration::ZERO } else { now - self.since }
    }

    /// Looks at the calls that are being polled, after [`look`](Self::look): are they late?
    fn look_at_calls(&mut self, now: Instant, timeout_of: impl Fn(u64) -> Option<Duration>) {
        let Self { slot, call, outermost, polls, .. } = self;
        let polled = slot.polled_call();
        if polled[0] == 0 {
            // Not in a call: between two of them, or in a task of the host.
            return;
        }
        let (first, due) = slot.outermost_call();
        if call.is_late(polled, None, now, &timeout_of).is_some() {
            slot.is_late(polled);
        }
        if let Some(after) = outermost.is_late(first, due, now, &timeout_of) {
            slot.give_up(*polls, first, after);
        }
    }

    /// Whether there is nothing more to tell of the poll that its thread is in.
    fn is_done_with(&self) -> bool {
        let in_call = self.slot.polled_call()[0] != 0;
        self.reported && (!in_call || self.call.late && self.outermost.late)
    }
}

impl WatchedCall {
    /// What it had, if this is the moment at which it is late: told once of each call.
    fn is_late(
        &mut self,
        call: [u64; 2],
        due: Option<Instant>,
        now: Instant,
        timeout_of: impl Fn(u64) -> Option<Duration>,
    ) -> Option<Duration> {
        if call != self.call {
            *self = WatchedCall::new(call, now);
        }
        let since = now - self.since;
        // Most calls have ended by the second look.
        if self.late || since < TICK {
            return None;
        }
        let of_call = || timeout_of(call[0]).unwrap_or(Duration::MAX);
        let timeout = *self.timeout.get_or_insert_with(of_call);
        let is_due = due.is_some_and(|due| now >= due);
        self.late = since >= timeout || is_due;
        // Of an event with a deadline of its own, nobody knows here when it was emitted.
        self.late.then(|| timeout.min(Duration::from_millis(since.as_millis() as u64)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_stuck_call_is_reported_once_and_the_others_go_on() {
        let workers = Arc::new(Workers::start(1, 1).unwrap());
        let (reports, reported) = mpsc::channel();
        start(&workers, Duration::from_millis(20), 8, Box::new(|_| None), move |call| {
            let _ = reports.send(call);
        })
        .unwrap();
        let (release, stuck) = mpsc::channel::<()>();
        workers
            .spawn(async move {
                let _ = stuck.recv();
            })
            .detach();
        let (done, others) = mpsc::channel();
        workers
            .spawn(async move {
                let _ = done.send(());
            })
            .detach();
        let call = reported.recv_timeout(Duration::from_secs(10)).expect("a report");
        assert!(call.since >= Duration::from_millis(20));
        others.recv_timeout(Duration::from_secs(10)).expect("new threads take over");
        drop(release);
        assert!(reported.try_recv().is_err(), "it is reported once");
    }
}
