//! How much processor time handlers take: sampled, because to read a clock before and after every
//! poll would cost more than most polls.
//!
//! The watchdog looks at each worker every few milliseconds. What the worker's thread has run since
//! the look before is put down to the handler whose call it polls at that moment, or to nobody.
//! Over many looks that is right on average: what was seen in `n` looks is off by one part in `√n`,
//! more or less.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::slot::Slot;

/// What was sampled of a handler, over all its generations.
#[derive(Debug, Default)]
pub(crate) struct CpuTime {
    nanos: AtomicU64,
    looks: AtomicU64,
}

impl CpuTime {
    pub(crate) fn add(&self, nanos: u64) {
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    /// Nanoseconds, and in how many looks they were seen.
    pub(crate) fn now(&self) -> (u64, u64) {
        (self.nanos.load(Ordering::Relaxed), self.looks.load(Ordering::Relaxed))
    }
}

/// Tells how many nanoseconds a thread has run so far; `None` when it cannot any more.
pub type CpuClock = Box<dyn FnMut() -> Option<u64> + Send>;
/// Gives the clock of a thread of this process, by the number that the system has for it.
pub type CpuClocks = Box<dyn Fn(u32) -> Option<CpuClock> + Send>;

/// The threads that are looked at.
pub(super) struct Sampler {
    clocks: CpuClocks,
    /// By the numbers that the system has for them.
    threads: HashMap<u32, Thread>,
}

struct Thread {
    clock: Option<CpuClock>,
    last: u64,
}

impl Sampler {
    pub(super) fn new(clocks: CpuClocks) -> Self {
        Sampler { clocks, threads: HashMap::new() }
    }

    /// Looks at the threads of these slots, and at no others any more. `ran` is told of each
    /// handler that was seen, by its key, and for how many nanoseconds.
    pub(super) fn look(&mut self, slots: &[Arc<Slot>], mut ran: impl FnMut(u64, u64)) {
        let Sampler { clocks, threads } = self;
        threads.retain(|known, _| slots.iter().any(|slot| slot.thread_number() == Some(*known)));
        for slot in slots {
            let Some(thread) = slot.thread_number() else { continue };
            let known =
                threads.entry(thread).or_insert_with(|| Thread { clock: clocks(thread), last: 0 });
            let Some(now) = known.clock.as_mut().and_then(|clock| clock()) else { continue };
            let since = now.saturating_sub(known.last);
            // What it ran before it was looked at for the first time is nobody's.
            let is_first = std::mem::replace(&mut known.last, now) == 0;
            let [handler, _] = slot.polled_call();
            if handler != 0 && since > 0 && !is_first {
                ran(handler, since);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::executor::slot::{self, EventNumbers, polling};

    fn event(number: u64) -> EventNumbers {
        EventNumbers { number, root: number }
    }

    #[test]
    fn what_a_thread_has_run_since_the_last_look_is_put_down_to_the_handler_that_it_polls() {
        let slot = Arc::new(Slot::new("worker", true));
        let ran = Arc::new(AtomicU64::new(5));
        let clock = ran.clone();
        let clocks: CpuClocks = Box::new(move |_| {
            let ran = clock.clone();
            Some(Box::new(move || Some(ran.load(Ordering::Relaxed))))
        });
        let mut sampler = Sampler::new(clocks);
        let looked = slot.clone();
        let mut look = move || {
            let mut seen = Vec::new();
            sampler.look(std::slice::from_ref(&looked), |handler, nanos| {
                seen.push((handler, nanos));
            });
            seen
        };
        assert_eq!(look(), [], "it has not begun");
        let worker = thread::spawn(move || {
            slot::enter(slot);
            let run = |nanos| {
                ran.fetch_add(nanos, Ordering::Relaxed);
            };
            polling(7, event(1), None, &mut false, || {
                assert_eq!(look(), [], "what it ran before is nobody's");
                run(10);
                assert_eq!(look(), [(7, 10)]);
                assert_eq!(look(), [], "it has not run");
                run(5);
            });
            assert_eq!(look(), [], "it polls nothing");
            run(5);
            polling(8, event(2), None, &mut false, || assert_eq!(look(), [(8, 5)]));
        });
        worker.join().unwrap();
    }
}
