//! The first call of a handler of a generation: noted while it is polled, so that whoever looks at
//! what is left of a host knows whose call it was that the host died of.
//!
//! A handler counts as tried once a first poll of it has come back. From then on its calls cost one
//! look at a flag. The first call itself, if it goes on, is noted for some more polls.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Instant,
};

use ksi_abi::{BoundaryFuture, CallEnd, Counted, ReplyForm};

use super::outcome::CallOutcome;
use super::{CallTarget, Callee, Started, ended_in_plugin};
use crate::{event::Event, executor::slot::polling};

/// How many polls of a first call are noted. One that goes on for longer is a loop that has gone
/// round often.
const POLLS: u32 = 64;

/// Starts a call of a handler that is not tried yet.
#[cold]
#[inline(never)]
pub(super) fn start(
    entry: &CallTarget,
    event: Counted<Event>,
    due: Option<Instant>,
    form: &ReplyForm,
    late: &mut bool,
    cx: &mut Context<'_>,
) -> Started {
    let (key, numbers) = (entry.info.key, event.numbers());
    let event_name: Arc<str> = event.name().into();
    let callee = entry.callee.clone();
    let first =
        FirstCall { callee, handler: entry.number, call: (key, numbers.number), event_name };
    let start = || entry.callee.start(entry.number, event, form, cx);
    let started = first.during(|| polling(key, numbers, due, late, start));
    entry.info.untried.store(false, Ordering::Relaxed);
    match started {
        Started::Plugin(future) => Started::Host(Box::pin(GoesOn { future, first, polls: 0 })),
        ended => ended,
    }
}

struct FirstCall {
    callee: Arc<dyn Callee>,
    handler: u64,
    /// The handler's key and the event's number.
    call: (u64, u64),
    event_name: Arc<str>,
}

impl FirstCall {
    fn during<T>(&self, poll: impl FnOnce() -> T) -> T {
        let mut poll = Once::Before(poll);
        self.callee.first_call(self.handler, &self.event_name, self.call, &mut || poll.run());
        poll.into_result()
    }
}

/// Something that is run once, and what it gave.
enum Once<F, T> {
    Before(F),
    Runs,
    After(T),
}

impl<F: FnOnce() -> T, T> Once<F, T> {
    fn run(&mut self) {
        *self = match std::mem::replace(self, Once::Runs) {
            Once::Before(run) => Once::After(run()),
            ran => ran,
        };
    }

    fn into_result(self) -> T {
        match self {
            Once::Before(run) => run(),
            Once::After(result) => result,
            Once::Runs => unreachable!("a poll that has unwound is not asked for its result"),
        }
    }
}

/// The plugin's future goes before what keeps the plugin.
struct GoesOn {
    future: BoundaryFuture<CallEnd>,
    first: FirstCall,
    polls: u32,
}

impl Future for GoesOn {
    type Output = CallOutcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallOutcome> {
        let GoesOn { future, first, polls } = self.get_mut();
        let poll = || Pin::new(future).poll(cx).map(ended_in_plugin);
        *polls += 1;
        match *polls <= POLLS {
            true => first.during(poll),
            false => poll(),
        }
    }
}
