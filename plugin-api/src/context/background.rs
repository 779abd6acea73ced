//! What goes on beside the calls of a plugin: its tasks, and ticks.

use std::time::Duration;

use super::Context;

/// A background task. Dropping this does not end it.
#[derive(Debug)]
pub struct Task {
    pub(super) ctx: Context,
    pub(super) number: u64,
}

impl Task {
    /// Drops the task's future at once, or after its present poll.
    pub fn cancel(self) {
        self.ctx.host().cancel(self.number);
    }
}

/// See [`Context::interval`].
#[derive(Debug)]
pub struct Interval {
    pub(super) ctx: Context,
    pub(super) period: Duration,
    pub(super) next: Duration,
}

impl Interval {
    /// Awaits the next tick. Ticks that were missed while nobody waited are left out.
    pub async fn tick(&mut self) {
        let now = self.ctx.now();
        if let Some(wait) = self.next.checked_sub(now) {
            self.ctx.sleep(wait).await;
        } else {
            self.next = now;
        }
        self.next += self.period;
    }
}
