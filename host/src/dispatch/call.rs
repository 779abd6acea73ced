//! One guarded call: from the first poll of a handler to its one outcome.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ksi_plugin_api::abi::{BoundaryFuture, CallEnd};
use serde::Serialize;
use tokio::{runtime::Handle, sync::Notify};

use super::{slot::polling, workers::Workers};
use crate::{
    event::Event,
    report::{Outcome, OutcomeKind},
};

/// Something whose handlers can be called: a generation of a plugin, or the host itself.
///
/// Whoever holds one keeps it callable, so a route and a call in flight are what an old generation waits for.
pub(crate) trait Callee: Send + Sync + 'static {
    /// Starts a call with its first poll. Entered and polled on dispatch workers only.
    fn start(&self, handler: u64, event: &Arc<Event>, cx: &mut Context<'_>) -> Started;
}

/// How a call began.
pub(crate) enum Started {
    /// It has ended already.
    Ready(OutcomeKind),
    /// It goes on in a plugin.
    Plugin(BoundaryFuture<CallEnd>),
    /// It goes on in the host.
    Host(Pin<Box<dyn Future<Output = OutcomeKind> + Send>>),
}

/// Why a call was given up on.
const CANCELLED: &str =
    "cancelled: the plugin is being retired and the call did not end within the drain timeout";

/// What a plugin's answer is to the host.
pub(crate) fn outcome_of(end: CallEnd) -> OutcomeKind {
    match end {
        CallEnd::Reply(reply) => OutcomeKind::Replied(reply.into()),
        CallEnd::NoReply => OutcomeKind::NoReply,
        CallEnd::Failed(code, message) => {
            OutcomeKind::Failed { code: code.to_text(), message: message.to_text() }
        }
        CallEnd::Panicked(message) => OutcomeKind::Panicked { message: message.to_text() },
    }
}

/// How often the calls of a handler ended in which way, over all generations.
#[derive(Debug, Default)]
pub(crate) struct CallCounts {
    accepted: AtomicU64,
    replied: AtomicU64,
    no_reply: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    timed_out: AtomicU64,
    rejected: AtomicU64,
}

/// How often calls ended in which way, at one moment. `accepted` is the sum of all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls begun.
    pub accepted: u64,
    /// Ended with a reply.
    pub replied: u64,
    /// Ended well without one.
    pub no_reply: u64,
    /// Ended with an error.
    pub failed: u64,
    /// Ended with a panic.
    pub panicked: u64,
    /// Took too long.
    pub timed_out: u64,
    /// Not run, or not to the end.
    pub rejected: u64,
    /// Not ended yet.
    pub in_flight: u64,
}

impl Counts {
    /// Adds up.
    pub(crate) fn add(&mut self, other: Counts) {
        self.accepted += other.accepted;
        self.replied += other.replied;
        self.no_reply += other.no_reply;
        self.failed += other.failed;
        self.panicked += other.panicked;
        self.timed_out += other.timed_out;
        self.rejected += other.rejected;
        self.in_flight += other.in_flight;
    }
}

impl CallCounts {
    /// The counts now. What ended is read first, so that a call that ends in between counts as in flight.
    pub(crate) fn now(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Acquire);
        let mut counts = Counts {
            replied: read(&self.replied),
            no_reply: read(&self.no_reply),
            failed: read(&self.failed),
            panicked: read(&self.panicked),
            timed_out: read(&self.timed_out),
            rejected: read(&self.rejected),
            ..Counts::default()
        };
        let ended = counts.replied
            + counts.no_reply
            + counts.failed
            + counts.panicked
            + counts.timed_out
            + counts.rejected;
        counts.accepted = read(&self.accepted);
        counts.in_flight = counts.accepted.saturating_sub(ended);
        counts
    }

    fn end(&self, kind: &OutcomeKind) {
        let count = match kind {
            OutcomeKind::Replied(_) => &self.replied,
            OutcomeKind::NoReply => &self.no_reply,
            OutcomeKind::Failed { .. } => &self.failed,
            OutcomeKind::Panicked { .. } => &self.panicked,
            OutcomeKind::TimedOut { .. } => &self.timed_out,
            OutcomeKind::Rejected { .. } => &self.rejected,
        };
        count.fetch_add(1, Ordering::AcqRel);
    }
}

/// What is known of a handler of one generation, without holding that generation.
#[derive(Debug)]
pub(crate) struct HandlerInfo {
    pub(crate) plugin: Arc<str>,
    pub(crate) handler: Arc<str>,
    /// Stands for this handler in a worker's slot.
    pub(crate) key: u64,
    pub(crate) counts: Arc<CallCounts>,
    /// Calls of this generation that have not ended.
    pub(crate) active: AtomicI64,
}

/// Tells the pending calls of one generation that they will not be waited for any longer.
#[derive(Debug, Default)]
pub(crate) struct Cancel {
    cancelled: AtomicBool,
    changed: Notify,
}

impl Cancel {
    /// Ends every pending call at its present await; see [`call`].
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    async fn wait(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.cancelled.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }
}

/// A handler that can be called.
pub(crate) struct Target {
    pub(crate) info: Arc<HandlerInfo>,
    pub(crate) callee: Arc<dyn Callee>,
    pub(crate) number: u64,
    pub(crate) timeout: Duration,
    pub(crate) blocking: bool,
    pub(crate) cancel: Arc<Cancel>,
}

/// What a call needs of the host.
#[derive(Clone)]
pub(crate) struct CallSite {
    pub(crate) workers: Arc<Workers>,
    /// The host's own runtime, whose timers a call may use and which never polls one.
    pub(crate) runtime: Handle,
}

/// Calls one handler. On a dispatch worker.
pub(crate) async fn call(target: Arc<Target>, event: Arc<Event>, site: &CallSite) -> Outcome {
    let (plugin, handler) = (target.info.plugin.clone(), target.info.handler.clone());
    let accounted = Accounted::begin(target.info.clone());
    let active = Active::begin(target.info.clone());
    let result = match target.blocking {
        true => run_blocking(&target, event, site, active).await,
        false => {
            let result = run(&target, &event, site).await;
            drop(active);
            result
        }
    };
    accounted.end(&result);
    Outcome { plugin, handler, result }
}

/// A call on a thread of its own. Its emitter waits no longer than the deadline, although the thread may.
async fn run_blocking(
    target: &Arc<Target>,
    event: Arc<Event>,
    site: &CallSite,
    active: Active,
) -> OutcomeKind {
    let limit = Limit::of(target, &event, site);
    let (there, site_there) = (target.clone(), site.clone());
    // If it is given up on, the task is dropped: before it has begun, or after its present poll. The call counts as
    // active until then.
    let task = site.workers.spawn_blocking(async move {
        let result = run(&there, &event, &site_there).await;
        drop(active);
        result
    });
    limit.hold(target, task).await
}

async fn run(target: &Target, event: &Arc<Event>, site: &CallSite) -> OutcomeKind {
    let (key, number) = (target.info.key, event.id().number());
    let started = poll_fn(|cx| {
        Poll::Ready(polling(key, number, || target.callee.start(target.number, event, cx)))
    })
    .await;
    // Dropped at the end of this function, after which the target may go.
    let mut going_on: Pin<Box<dyn Future<Output = OutcomeKind> + Send>> = match started {
        Started::Ready(kind) => return kind,
        Started::Host(future) => future,
        Started::Plugin(future) => Box::pin(async move {
            match future.await {
                Ok(end) => outcome_of(end),
                Err(message) => OutcomeKind::Panicked { message: message.to_text() },
            }
        }),
    };
    // Most calls are ready at once, so the timer is armed only here.
    let limit = Limit::of(target, event, site);
    limit.hold(target, poll_fn(|cx| polling(key, number, || going_on.as_mut().poll(cx)))).await
}

/// Until when a call is waited for.
struct Limit {
    timer: tokio::time::Sleep,
    after: Duration,
}

impl Limit {
    fn of(target: &Target, event: &Event, site: &CallSite) -> Self {
        let (deadline, after) = limit(target.timeout, event.deadline());
        let _inside = site.runtime.enter();
        Limit { timer: tokio::time::sleep_until(deadline.into()), after }
    }

    /// Waits for a call, but not beyond its limit, nor when its generation is not waited for any longer.
    async fn hold(self, target: &Target, call: impl Future<Output = OutcomeKind>) -> OutcomeKind {
        let Limit { timer, after } = self;
        let (mut timer, mut cancelled) = (pin!(timer), pin!(target.cancel.wait()));
        let mut call = pin!(call);
        poll_fn(|cx| {
            if let Poll::Ready(kind) = call.as_mut().poll(cx) {
                return Poll::Ready(kind);
            }
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(OutcomeKind::TimedOut { after });
            }
            let reason = || OutcomeKind::Rejected { reason: CANCELLED.to_owned() };
            cancelled.as_mut().poll(cx).map(|()| reason())
        })
        .await
    }
}

/// When a call must be done, and how long that is from now.
fn limit(timeout: Duration, deadline: Option<Instant>) -> (Instant, Duration) {
    let now = Instant::now();
    let own = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(365 * 24 * 3_600));
    match deadline {
        Some(deadline) if deadline < own => {
            // To the millisecond, because people read it.
            let left = deadline.saturating_duration_since(now);
            (
                deadline,
                Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)),
            )
        }
        _ => (own, timeout),
    }
}

/// Counts a call as begun, and as ended in exactly one way, also when its emitter gives it up.
struct Accounted {
    info: Arc<HandlerInfo>,
    ended: bool,
}

impl Accounted {
    fn begin(info: Arc<HandlerInfo>) -> Self {
        info.counts.accepted.fetch_add(1, Ordering::AcqRel);
        Accounted { info, ended: false }
    }

    fn end(mut self, kind: &OutcomeKind) {
        self.info.counts.end(kind);
        self.ended = true;
    }
}

impl Drop for Accounted {
    fn drop(&mut self) {
        if !self.ended {
            // The emitter's future was dropped, so nobody is there to read the reason.
            self.info.counts.end(&OutcomeKind::Rejected { reason: String::new() });
        }
    }
}

/// Counts a call as one that the generation still has to finish.
struct Active(Arc<HandlerInfo>);

impl Active {
    fn begin(info: Arc<HandlerInfo>) -> Self {
        info.active.fetch_add(1, Ordering::AcqRel);
        Active(info)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}
