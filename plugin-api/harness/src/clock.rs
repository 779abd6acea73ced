//! A clock that stands still until the test moves it.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::tasks::lock;

/// What an alarm is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The plugin sleeps, or waits for an event with a timeout.
    Plugin,
    /// A handler must not take longer.
    HandlerTimeout,
}

/// The clock of one harness.
#[derive(Default)]
pub(super) struct Clock {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    now: Duration,
    alarms: u64,
    /// By time, then by the order in which they were set.
    pending: BTreeMap<(Duration, u64), Pending>,
}

struct Pending {
    purpose: Purpose,
    waker: Option<Waker>,
}

impl Clock {
    pub(super) fn now(&self) -> Duration {
        lock(&self.inner).now
    }

    /// An alarm that is set from now on, also before it is polled.
    pub(super) fn alarm(self: &Arc<Self>, after: Duration, purpose: Purpose) -> Alarm {
        let mut inner = lock(&self.inner);
        inner.alarms += 1;
        let key = (inner.now.saturating_add(after), inner.alarms);
        inner.pending.insert(key, Pending { purpose, waker: None });
        Alarm { clock: self.clone(), key }
    }

    /// When the next alarm goes off.
    pub(super) fn next(&self) -> Option<Duration> {
        lock(&self.inner).pending.first_key_value().map(|((at, _), _)| *at)
    }

    /// When the plugin itself next waits for time.
    pub(super) fn plugin_waits_until(&self) -> Option<Duration> {
        let inner = lock(&self.inner);
        let mut own = inner.pending.iter().filter(|(_, alarm)| alarm.purpose == Purpose::Plugin);
        own.next().map(|((at, _), _)| *at)
    }

    /// Moves on to the next alarm that goes off until `limit`, and lets this one alone go off. With
    /// none, moves on to `limit` and says so.
    pub(super) fn step(&self, limit: Duration) -> bool {
        let fired = {
            let mut inner = lock(&self.inner);
            let next = inner.pending.first_key_value().map(|(key, _)| *key);
            match next.filter(|(at, _)| *at <= limit) {
                Some(key) => {
                    inner.now = inner.now.max(key.0);
                    inner.pending.remove(&key)
                }
                None => {
                    inner.now = inner.now.max(limit);
                    return false;
                }
            }
        };
        if let Some(waker) = fired.and_then(|alarm| alarm.waker) {
            waker.wake();
        }
        true
    }
}

/// Ready when its time has come.
pub(super) struct Alarm {
    clock: Arc<Clock>,
    key: (Duration, u64),
}

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = lock(&self.clock.inner);
        let due = inner.now >= self.key.0;
        let before = if due {
            inner.pending.remove(&self.key).and_then(|alarm| alarm.waker)
        } else {
            let alarm = inner.pending.get_mut(&self.key);
            alarm.and_then(|alarm| alarm.waker.replace(cx.waker().clone()))
        };
        // A waker may hold the last reference to a task, whose drop runs code of the plugin.
        drop(inner);
        drop(before);
        if due { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let alarm = lock(&self.clock.inner).pending.remove(&self.key);
        drop(alarm);
    }
}
