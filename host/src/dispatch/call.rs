//! One guarded call: from the first poll of a handler to its one outcome.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ksi_plugin_api::abi::{BoundaryFuture, CallEnd};
use tokio::{runtime::Handle, sync::Notify};

use super::{
    hold::{Gate, Inside},
    slot::polling,
    tally::CallCounts,
    workers::Workers,
};
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
const CANCELLED: &str = "cancelled: the plugin is being replaced or unloaded, and the call did not end before the deadline of that";

/// What a plugin's answer is to the host.
pub(crate) fn outcome_of(end: CallEnd) -> OutcomeKind {
    match end {
        CallEnd::Reply(reply) => OutcomeKind::Replied(reply.into()),
        end @ CallEnd::Value(_) => outcome_of(end.encoded()),
        CallEnd::NoReply => OutcomeKind::NoReply,
        CallEnd::Failed(code, message) => {
            OutcomeKind::Failed { code: code.to_text(), message: message.to_text() }
        }
        CallEnd::Panicked(message) => OutcomeKind::Panicked { message: message.to_text() },
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
    /// How often calls were cancelled; [`FOR_GOOD`] for all that there are and will be.
    round: AtomicU64,
    changed: Notify,
}

const FOR_GOOD: u64 = u64::MAX;

impl Cancel {
    /// Ends every pending call at its present await, now and later; see [`call`].
    pub(crate) fn cancel(&self) {
        self.round.store(FOR_GOOD, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Ends the calls that have begun, and none that begins later.
    pub(crate) fn cancel_present(&self) {
        // In one step: a host that stops may cancel for good meanwhile, and that must stay.
        let next = |round| (round != FOR_GOOD).then(|| round + 1);
        let _ = self.round.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        self.changed.notify_waiters();
    }

    fn now(&self) -> u64 {
        self.round.load(Ordering::Acquire)
    }

    /// Waits until a call that began at `since` is cancelled.
    async fn wait(&self, since: u64) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let round = self.now();
            if round == FOR_GOOD || round > since {
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
    pub(crate) priority: i32,
    /// Its place among the plugin's declarations; run-time subscriptions come after them.
    pub(crate) order: u64,
    pub(crate) timeout: Duration,
    pub(crate) blocking: bool,
    pub(crate) cancel: Arc<Cancel>,
    /// Of a generation that keeps state.
    pub(crate) gate: Option<Arc<Gate>>,
}

/// What a call needs of the host.
#[derive(Clone)]
pub(crate) struct CallSite {
    pub(crate) workers: Arc<Workers>,
    /// The host's own runtime, whose timers a call may use and which never polls one.
    pub(crate) runtime: Handle,
}

/// Calls one handler. On a dispatch worker. `inside` is where the event has entered, if the generation has a gate.
pub(crate) async fn call(
    target: Arc<Target>,
    event: Arc<Event>,
    inside: Option<Arc<Inside>>,
    site: &CallSite,
) -> Outcome {
    let (plugin, handler) = (target.info.plugin.clone(), target.info.handler.clone());
    let accounted = Accounted::begin(target.info.clone());
    let active = Active::begin(target.info.clone(), inside);
    let since = target.cancel.now();
    let result = match target.blocking {
        true => run_blocking(&target, event, site, active, since).await,
        false => {
            let result = run(&target, &event, site, since).await;
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
    since: u64,
) -> OutcomeKind {
    let limit = Limit::of(target, &event, site);
    let (there, site_there) = (target.clone(), site.clone());
    // If it is given up on, the task is dropped: before it has begun, or after its present poll. The call counts as
    // active until then.
    let task = site.workers.spawn_blocking(async move {
        let result = run(&there, &event, &site_there, since).await;
        drop(active);
        result
    });
    limit.hold(target, since, task).await
}

async fn run(target: &Target, event: &Arc<Event>, site: &CallSite, since: u64) -> OutcomeKind {
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
    let call = poll_fn(|cx| polling(key, number, || going_on.as_mut().poll(cx)));
    limit.hold(target, since, call).await
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
    async fn hold(
        self,
        target: &Target,
        since: u64,
        call: impl Future<Output = OutcomeKind>,
    ) -> OutcomeKind {
        let Limit { timer, after } = self;
        let (mut timer, mut cancelled) = (pin!(timer), pin!(target.cancel.wait(since)));
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

/// Counts a call that waits for a plugin's next generation, if it never gets there.
pub(crate) struct Waiting(Vec<Arc<HandlerInfo>>);

impl Waiting {
    /// For these handlers of the generation that is about to go.
    pub(crate) fn begin(handlers: Vec<Arc<HandlerInfo>>) -> Self {
        Waiting(handlers)
    }

    /// The event has got to a generation, where its calls count.
    pub(crate) fn arrived(mut self) {
        self.0.clear();
    }

    /// It will not get there: how its calls end instead.
    pub(crate) fn ended(mut self, kind: &OutcomeKind) -> Vec<Outcome> {
        let ended = std::mem::take(&mut self.0).into_iter().map(|info| {
            let (plugin, handler) = (info.plugin.clone(), info.handler.clone());
            Accounted::begin(info).end(kind);
            Outcome { plugin, handler, result: kind.clone() }
        });
        ended.collect()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Whoever is dropped without its end counts as rejected.
        self.0.drain(..).for_each(|info| drop(Accounted::begin(info)));
    }
}

/// Counts a call as begun, and as ended in exactly one way, also when its emitter gives it up.
struct Accounted {
    info: Arc<HandlerInfo>,
    ended: bool,
}

impl Accounted {
    fn begin(info: Arc<HandlerInfo>) -> Self {
        info.counts.begin();
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
struct Active {
    info: Arc<HandlerInfo>,
    _inside: Option<Arc<Inside>>,
}

impl Active {
    fn begin(info: Arc<HandlerInfo>, inside: Option<Arc<Inside>>) -> Self {
        info.active.fetch_add(1, Ordering::AcqRel);
        Active { info, _inside: inside }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.info.active.fetch_sub(1, Ordering::AcqRel);
    }
}
