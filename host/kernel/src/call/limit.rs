//! Until when a call is waited for: the deadline of its event or its handler's timeout, and the end
//! of its generation.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use super::{CallSite, CallTarget, outcome::CallOutcome};
use crate::executor::clock::{self, Tick};

/// Why a call was given up on.
const CANCELLED: &str = "cancelled: the plugin is being replaced or unloaded, and the call did not end before the deadline of that";

/// Until when a call is waited for.
pub(super) struct Limit {
    pub(super) timer: tokio::time::Sleep,
    after: Duration,
    /// When the time began to run; `None` if it may run out within one tick.
    began: Option<Tick>,
}

impl Limit {
    pub(super) fn of(entry: &CallTarget, deadline: Option<Instant>, site: &CallSite) -> Self {
        let (deadline, after) = limit(entry.timeout, deadline);
        let began = (after > Tick::LONGEST).then(Tick::now);
        let _inside = site.runtime.enter();
        Limit { timer: tokio::time::sleep_until(deadline.into()), after, began }
    }

    /// Waits for a call, but not beyond its limit, nor when its generation is not waited for any
    /// longer.
    pub(super) async fn hold(
        self,
        entry: &CallTarget,
        since: u64,
        call: impl Future<Output = CallOutcome>,
    ) -> CallOutcome {
        let Limit { timer, after, began } = self;
        let (mut timer, mut cancelled) = (pin!(timer), pin!(entry.cancel.wait(since)));
        let mut call = pin!(call);
        poll_fn(|cx| {
            let polled = call.as_mut().poll(cx);
            // Looked at before the timer is polled, which costs more: it is late too if it held up
            // its thread.
            let late =
                !began.is_some_and(Tick::lasts) && clock::now() >= timer.deadline().into_std();
            match polled {
                Poll::Ready(kind) if !late => return Poll::Ready(kind),
                Poll::Pending if !timer.as_mut().poll(cx).is_ready() => {}
                Poll::Ready(_) | Poll::Pending => {
                    return Poll::Ready(CallOutcome::TimedOut { after });
                }
            }
            let reason = || CallOutcome::Rejected { reason: CANCELLED.into() };
            cancelled.as_mut().poll(cx).map(|()| reason())
        })
        .await
    }
}

/// When a call must be done, and how long that is from now.
fn limit(timeout: Duration, deadline: Option<Instant>) -> (Instant, Duration) {
    let now = clock::now();
    let own = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(365 * 24 * 3_600));
    match deadline {
        Some(deadline) if deadline < own => {
            // To the millisecond, because people read it.
            let left = deadline.saturating_duration_since(now);
            (deadline, Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
        }
        _ => (own, timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::OutcomeKind;

    #[test]
    fn who_had_no_time_left_is_not_told_a_time() {
        let told = |deadline| {
            let (_, after) = limit(Duration::from_secs(9), Some(deadline));
            OutcomeKind::TimedOut { after }.message()
        };
        assert_eq!(told(clock::now()), "no time was left for the handler");
        let second = Duration::from_secs(1);
        assert!(told(clock::now() + second).starts_with("the handler did not finish within"));
    }
}
