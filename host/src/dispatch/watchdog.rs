//! Sees calls that do not return from a poll. They can't be ended inside a process: they are reported, and when they
//! hold every call thread, new threads take over.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Weak, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{slot::Slot, workers::Workers};

/// How often it looks while anything runs. While nothing runs it sleeps.
const TICK: Duration = Duration::from_millis(5);
/// How long every call thread must stand still, with work waiting, before new threads take over.
const ALL_STUCK: Duration = Duration::from_millis(50);

/// A call that has not returned from one poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StuckCall {
    /// The key of its handler; 0 when it is no call but a task.
    pub(crate) handler: u64,
    /// The number of its event.
    pub(crate) event: u64,
    /// For how long by now.
    pub(crate) since: Duration,
}

/// Starts the watchdog's thread, which ends with the workers. `report` is told once of every call that has been stuck
/// for `stuck`; at most `abandoned` threads are given up on.
pub(crate) fn start(
    workers: &Arc<Workers>,
    stuck: Duration,
    abandoned: usize,
    report: impl Fn(StuckCall) + Send + 'static,
) -> io::Result<()> {
    let weak = Arc::downgrade(workers);
    let thread = thread::Builder::new().name("ksi-watchdog".to_owned());
    let handle = thread.spawn(move || watch(&weak, stuck, abandoned, &report))?;
    workers.set_watchdog(handle.thread().clone());
    Ok(())
}

fn watch(workers: &Weak<Workers>, stuck: Duration, abandoned: usize, report: &dyn Fn(StuckCall)) {
    let mut watched: HashMap<*const Slot, Watched> = HashMap::new();
    loop {
        let Some(workers) = workers.upgrade() else { return };
        let (slots, now) = (workers.slots(), Instant::now());
        // A thread that was exchanged is watched on until it returns from its poll, or that it does not is told.
        let mut exchanged = 0;
        watched.retain(|known, seen| {
            let at_work = slots.iter().any(|slot| Arc::as_ptr(slot) == *known);
            let stuck = !at_work && !seen.reported && !seen.look(now).is_zero();
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
        let waiting = workers.nudge();
        let mut still = 0;
        for slot in &slots {
            let seen = watched.entry(Arc::as_ptr(slot)).or_insert_with(|| Watched::new(slot, now));
            still += usize::from(seen.look(now) >= ALL_STUCK);
        }
        for seen in watched.values_mut().filter(|seen| !seen.reported) {
            let since = seen.look(now);
            if since >= stuck {
                seen.reported = true;
                report(StuckCall {
                    handler: seen.slot.handler.load(Ordering::Relaxed),
                    event: seen.slot.event.load(Ordering::Relaxed),
                    since,
                });
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

struct Watched {
    slot: Arc<Slot>,
    polls: u64,
    since: Instant,
    reported: bool,
}

impl Watched {
    fn new(slot: &Arc<Slot>, now: Instant) -> Self {
        Watched { slot: slot.clone(), polls: 0, since: now, reported: false }
    }

    /// For how long the thread has been in one and the same poll.
    fn look(&mut self, now: Instant) -> Duration {
        let polls = self.slot.polls.load(Ordering::Relaxed);
        if polls != self.polls {
            (self.polls, self.since, self.reported) = (polls, now, false);
        }
        if polls.is_multiple_of(2) { Duration::ZERO } else { now - self.since }
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
        start(&workers, Duration::from_millis(20), 8, move |call| {
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
