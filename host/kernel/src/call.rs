//! One guarded call: from the first poll of a handler to its one outcome. A handler's first one is
//! noted.
//!
//! [`outcome`] is how it ended, [`outcome_taps`] are who sees that, the [`recorder`] keeps it,
//! [`tally`] counts how calls end, and a [`gate`] lets a plugin's events wait while its state
//! moves. `limit` is until when a call is waited for, `cancel` ends those of a generation,
//! `accounted` sees to it that each ends that has begun, `undelivered` is one that never got where
//! it was to run, and [`check`] is what a payload has to be, where somebody asks before.

// Its events may have to wait,
pub mod gate;
// the first one is noted,
mod first;
// none is waited for without an end,
mod cancel;
mod limit;
// each ends in one way,
mod accounted;
pub mod outcome;
mod undelivered;
// is shown to whoever looks,
pub mod outcome_taps;
// is kept for whoever looks later,
pub mod recorder;
// and is counted.
pub mod tally;
// Before any of it somebody may ask whether the payload is one.
pub mod check;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ksi_abi::{BoundaryFuture, CallEnd, Counted, ReplyForm};
use tokio::runtime::Handle;

pub use self::undelivered::{Undelivered, UnfinishedCall};
pub(crate) use self::{accounted::UncountedCalls, cancel::Cancel};
use self::{
    accounted::{Accounted, Active, Beginning},
    check::Check,
    gate::{Admission, Gate},
    limit::Limit,
    outcome::CallOutcome,
    outcome_taps::{ObservedStart, OutcomeStatus, OutcomeTaps},
    recorder::{CallStart, Recorder, latency::Latency},
    tally::{CallCounts, Counts},
};
use crate::{
    event::Event,
    executor::{
        cpu::CpuTime,
        slot::{EventNumbers, polling},
        stripe::{Striped, own_stripe},
        workers::Workers,
    },
    label::Label,
    memory::Budget,
    value::Keeper,
};

/// Something whose handlers can be called: a generation of a plugin, or the host itself.
///
/// Whoever holds one keeps it callable, so a route and a call in flight are what an old generation
/// waits for.
pub trait Callee: Send + Sync + 'static {
    /// Starts a call with its first poll. Entered and polled on dispatch workers only.
    ///
    /// A reply comes in this form if the callee can give it; otherwise in any.
    fn start(
        &self,
        handler: u64,
        event: Counted<Event>,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> Started;

    /// Runs `poll`, a poll of the first call of a handler, with an event of this name. `call` is
    /// the handler's key and the event's number. Whoever does not run it has it run all the same,
    /// right after.
    fn first_call(&self, _handler: u64, _event: &str, _call: (u64, u64), poll: &mut dyn FnMut()) {
        poll();
    }
}

/// How a call began.
pub enum Started {
    /// It has ended already.
    Ready(CallOutcome),
    /// It goes on in a plugin.
    Plugin(BoundaryFuture<CallEnd>),
    /// It goes on in the host.
    Host(Pin<Box<dyn Future<Output = CallOutcome> + Send>>),
    /// It goes on where it may turn out that nobody was there to get it.
    Elsewhere(Pin<Box<dyn Future<Output = Result<CallOutcome, Undelivered>> + Send>>),
}

/// What is known of a handler of one generation, without holding that generation.
#[derive(Debug)]
pub struct HandlerInfo {
    /// The plugin; empty for the host and the program around it.
    pub plugin: Arc<str>,
    /// Its name among those of the plugin.
    pub handler: Arc<str>,
    /// Stands for this handler in a worker's slot; that of the label, or zero for nobody.
    pub(crate) key: u64,
    /// Whether no call of it was seen to come back from its first poll.
    pub(crate) untried: AtomicBool,
    pub(crate) counts: Arc<CallCounts>,
    /// Of its plugin; 0 for the host and the program around it.
    pub(crate) generation: u64,
    /// Of the host's own, which refuse what they are asked for without having failed.
    pub(crate) is_of_host: bool,
    /// How long its calls take.
    pub(crate) latency: Latency,
    /// How much processor time they take.
    pub(crate) cpu: Arc<CpuTime>,
    /// Where it is kept how its calls ended.
    pub(crate) recorder: Arc<Recorder>,
    /// Who sees how its calls end.
    pub(crate) outcome_taps: Arc<OutcomeTaps>,
    /// Calls of this generation that have not ended, of those that did not end at once.
    pub(crate) active: AtomicI64,
    /// What each of its calls may take.
    pub timeout: Duration,
    /// What its payload has to be, once somebody has told.
    pub check: Check,
    /// What its key stands for if the host dies of it.
    pub(crate) _label: Option<Label>,
}

impl HandlerInfo {
    /// Whose it is, for people: handlers of the host and of the program around it are no plugin's.
    pub fn owner(&self) -> &str {
        if self.plugin.is_empty() { "host" } else { &self.plugin }
    }

    /// Of its plugin; 0 for the host and the program around it.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How its calls ended so far.
    pub fn counts(&self) -> Counts {
        self.counts.now()
    }

    /// Its calls that have not ended, of those that did not end at once.
    pub fn active(&self) -> i64 {
        self.active.load(Ordering::Acquire)
    }

    /// A call of it has ended: that is counted, and shown to whoever looks.
    #[inline(always)]
    fn end(&self, start: &CallStart, how: &CallOutcome, observed: Option<&ObservedStart>) {
        let status = OutcomeStatus::from(how);
        let stripe = own_stripe();
        self.counts.end(status, stripe);
        self.recorder.ended(start, self, (how, status), stripe);
        if let Some(start) = observed {
            self.outcome_taps.ended(start, self, how);
        }
    }

    /// Stands for the host where it answers in place of a handler.
    pub(crate) fn nobody() -> Arc<Self> {
        Arc::new(HandlerInfo {
            plugin: "".into(),
            handler: "".into(),
            key: 0,
            untried: AtomicBool::new(false),
            counts: Arc::default(),
            generation: 0,
            is_of_host: true,
            latency: Latency::default(),
            cpu: Arc::default(),
            recorder: Recorder::none(),
            outcome_taps: OutcomeTaps::new(Budget::new(0), 0),
            active: AtomicI64::new(0),
            timeout: Duration::MAX,
            check: Check::new(),
            _label: None,
        })
    }
}

/// A handler that events are routed to.
pub(crate) struct Target {
    pub(crate) priority: i32,
    /// Its place among the plugin's declarations; run-time subscriptions come after them.
    pub(crate) order: u64,
    /// Of a generation that keeps state, or is replaced exclusively.
    pub(crate) gate: Option<Arc<Gate>>,
    /// Whoever else subscribes to an event of this handler sees it, and has no part in the answer.
    pub(crate) answers_alone: bool,
    pub(crate) entry: CallTarget,
    /// The entry once more for each dispatch worker: calls hold it, and workers that call one
    /// handler at the same time would meet at one count.
    own: Striped<OnceLock<Arc<CallTarget>>>,
}

/// What a call enters by. Whoever holds it keeps the generation callable.
#[derive(Clone)]
pub(crate) struct CallTarget {
    pub(crate) info: Arc<HandlerInfo>,
    pub(crate) callee: Arc<dyn Callee>,
    pub(crate) number: u64,
    pub(crate) timeout: Duration,
    pub(crate) blocking: bool,
    pub(crate) cancel: Arc<Cancel>,
    /// Keeps its library mapped for replies that are values; `None` for handlers of the host.
    pub(crate) keeper: Option<Arc<dyn Keeper>>,
}

impl Target {
    pub(crate) fn new(
        priority: i32,
        order: u64,
        gate: Option<Arc<Gate>>,
        answers_alone: bool,
        entry: CallTarget,
    ) -> Self {
        Target { priority, order, gate, answers_alone, entry, own: Striped::default() }
    }

    /// The same handler behind another gate and with another entry.
    pub(crate) fn remade(&self, gate: Option<Arc<Gate>>, entry: CallTarget) -> Self {
        Target::new(self.priority, self.order, gate, self.answers_alone, entry)
    }

    /// What is known of the handler without holding its generation.
    pub(crate) fn info(&self) -> &Arc<HandlerInfo> {
        &self.entry.info
    }

    /// The entry, held.
    #[inline]
    pub(crate) fn enter_by(&self) -> Arc<CallTarget> {
        self.own.of_this_thread().get_or_init(|| Arc::new(self.entry.clone())).clone()
    }
}

/// What a call needs of the host.
#[derive(Clone)]
pub(crate) struct CallSite {
    pub(crate) workers: Arc<Workers>,
    /// The host's own runtime, whose timers a call may use and which never polls one.
    pub(crate) runtime: Handle,
}

/// What a call that has begun gives.
pub(crate) enum CallBegun {
    /// It has ended at its first poll.
    Ended(CallOutcome),
    /// It goes on. To be polled and dropped on dispatch workers.
    GoesOn(Pin<Box<dyn Future<Output = CallOutcome> + Send>>),
}

/// Begins a call of one handler, with its first poll. On a dispatch worker.
///
/// A call that is ready then costs no task, no timer, no future of the host, and no count that
/// another core writes too. `held` gives the entry to a call that goes on; `inside` is where the
/// event has entered, if the generation has a gate; `form` is how the emitter takes replies.
#[inline]
pub(crate) fn begin(
    entry: &CallTarget,
    held: impl FnOnce() -> Arc<CallTarget>,
    event: Counted<Event>,
    inside: Option<Arc<Admission>>,
    form: &ReplyForm,
    site: &CallSite,
    cx: &mut Context<'_>,
) -> CallBegun {
    let mut start_of_call = CallStart::of(&event);
    start_of_call.measure_if_due(&event);
    let beginning = Beginning::of(&entry.info, &start_of_call, &event);
    let since = entry.cancel.now();
    if entry.blocking {
        let call = Call::new(held(), inside, None, beginning.goes_on());
        return CallBegun::GoesOn(Box::pin(call.block(event, since, *form, site.clone())));
    }
    let (numbers, deadline) = (event.numbers(), event.deadline());
    let mut late = false;
    let started = start(entry, event, deadline, form, &mut late, cx);
    let going = match started {
        Started::Ready(_) if late => {
            return CallBegun::Ended(beginning.timed_out(entry));
        }
        Started::Ready(ended) => {
            // In this order: a reply that cannot become what is wanted is a failure of the handler.
            let ended = ended.of(entry.keeper.as_ref(), form);
            beginning.end(&ended);
            return CallBegun::Ended(ended);
        }
        Started::Plugin(future) => Going::Plugin(future),
        Started::Host(future) => Going::Host(future),
        Started::Elsewhere(future) => Going::Elsewhere(future),
    };
    let call = Call::new(held(), inside, Some(going), beginning.goes_on());
    // Most calls are ready at once, so the timer is armed only here.
    let limit = Limit::of(entry, deadline, site);
    CallBegun::GoesOn(Box::pin(call.go_on(numbers, since, *form, limit)))
}

/// The first poll of a call; `late` becomes whether it took longer than it may. Inlined, so that
/// what the callee gives is not moved.
#[inline(always)]
fn start(
    entry: &CallTarget,
    event: Counted<Event>,
    due: Option<Instant>,
    form: &ReplyForm,
    late: &mut bool,
    cx: &mut Context<'_>,
) -> Started {
    if entry.info.untried.load(Ordering::Relaxed) {
        return first::start(entry, event, due, form, late, cx);
    }
    let (key, numbers) = (entry.info.key, event.numbers());
    polling(key, numbers, due, late, || entry.callee.start(entry.number, event, form, cx))
}

fn ended_in_plugin(end: <BoundaryFuture<CallEnd> as Future>::Output) -> CallOutcome {
    match end {
        Ok(end) => end.into(),
        Err(message) => CallOutcome::Panicked { message },
    }
}

/// What goes on after the first poll.
enum Going {
    Plugin(BoundaryFuture<CallEnd>),
    Host(Pin<Box<dyn Future<Output = CallOutcome> + Send>>),
    Elsewhere(Pin<Box<dyn Future<Output = Result<CallOutcome, Undelivered>> + Send>>),
}

impl Going {
    /// One that nobody was there for is rejected, and `undelivered` has it then.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        undelivered: &mut Option<Undelivered>,
    ) -> Poll<CallOutcome> {
        match self {
            Going::Plugin(future) => Pin::new(future).poll(cx).map(ended_in_plugin),
            Going::Host(future) => future.as_mut().poll(cx),
            Going::Elsewhere(future) => future.as_mut().poll(cx).map(|ended| {
                ended.unwrap_or_else(|nobody| {
                    *undelivered = Some(nobody);
                    CallOutcome::Rejected { reason: "the plugin is gone".into() }
                })
            }),
        }
    }
}

/// A call that goes on. The order of the fields is the order in which they go: the plugin's future
/// before all that keeps the plugin.
struct Call {
    going: Option<Going>,
    active: Option<Active>,
    accounted: Accounted,
    entry: Arc<CallTarget>,
}

impl Call {
    fn new(
        entry: Arc<CallTarget>,
        inside: Option<Arc<Admission>>,
        going: Option<Going>,
        (start, observed): (CallStart, Option<Box<ObservedStart>>),
    ) -> Self {
        let accounted = Accounted { info: entry.info.clone(), ended: false, start, observed };
        let active = Some(Active::begin(entry.info.clone(), inside));
        Call { going, active, accounted, entry }
    }

    async fn go_on(
        mut self,
        numbers: EventNumbers,
        since: u64,
        form: ReplyForm,
        limit: Limit,
    ) -> CallOutcome {
        let key = self.entry.info.key;
        let going = &mut self.going;
        let due = limit.timer.deadline().into_std();
        let mut undelivered = None;
        let call = poll_fn(|cx| match going {
            Some(going) => {
                let poll = || going.poll(cx, &mut undelivered);
                polling(key, numbers, Some(due), &mut false, poll)
            }
            None => Poll::Pending,
        });
        let ended = limit.hold(&self.entry, since, call).await;
        self.going = None;
        if let (Some(undelivered), CallOutcome::Rejected { .. }) = (undelivered, &ended) {
            // It holds nobody up, and nothing of whoever was to get it.
            let Call { accounted, active, entry, .. } = self;
            drop((active, entry));
            return undelivered.goes_on(UnfinishedCall::new(accounted)).await;
        }
        let ended = ended.of(self.entry.keeper.as_ref(), &form);
        self.active = None;
        self.accounted.end(&ended);
        ended
    }

    /// On a thread that may be blocked. Its emitter waits no longer than the deadline, although the
    /// thread may.
    async fn block(
        mut self,
        event: Counted<Event>,
        since: u64,
        form: ReplyForm,
        site: CallSite,
    ) -> CallOutcome {
        let limit = Limit::of(&self.entry, event.deadline(), &site);
        // If it is given up on, the task is dropped: before it has begun, or after its present
        // poll. The call counts as active until then.
        let (active, entry, site_there) = (self.active.take(), self.entry.clone(), site.clone());
        let task = site.workers.spawn_blocking(async move {
            let ended = run(&entry, event, &form, &site_there, since).await;
            drop(active);
            ended.of(entry.keeper.as_ref(), &form)
        });
        let ended = limit.hold(&self.entry, since, task).await;
        self.accounted.end(&ended);
        ended
    }
}

async fn run(
    entry: &CallTarget,
    event: Counted<Event>,
    form: &ReplyForm,
    site: &CallSite,
    since: u64,
) -> CallOutcome {
    let (key, numbers) = (entry.info.key, event.numbers());
    let limit = Limit::of(entry, event.deadline(), site);
    let mut event = Some(event);
    let started = poll_fn(|cx| match event.take() {
        Some(event) => Poll::Ready(start(entry, event, None, form, &mut false, cx)),
        None => Poll::Pending,
    })
    .await;
    let mut going = match started {
        Started::Ready(ended) => return ended,
        Started::Host(future) => Going::Host(future),
        Started::Plugin(future) => Going::Plugin(future),
        Started::Elsewhere(future) => Going::Elsewhere(future),
    };
    let call = poll_fn(|cx| polling(key, numbers, None, &mut false, || going.poll(cx, &mut None)));
    limit.hold(entry, since, call).await
}

#[cfg(test)]
mod tests;
