//! The events of a plugin that has no process for now: they wait, as long as the operator lets them
//! and as many as he lets, whatever is done meanwhile. From then on they are refused with the
//! reason until there is an instance again.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::Context,
    time::{Duration, Instant},
};

use ksi_abi::{Counted, ReplyForm};
use ksi_kernel::{
    call::{Callee, Started, gate::GateHold, outcome::CallOutcome},
    event::Event,
};

use super::super::Supervisor;
use crate::plugin::lifecycle::hand_over::Predecessor;

/// Dropped, it lets events go wherever they go then.
pub(super) struct WaitingEvents<'a> {
    supervisor: &'a Arc<Supervisor>,
    plugin: Arc<str>,
    generation: u64,
    /// None once they do not wait any more.
    hold: Option<GateHold>,
    /// Until when they may.
    until: Instant,
    /// No other process is started for them.
    stays_down: bool,
}

/// What stands in the place of an instance that is to be made again, once events do not wait for it
/// any more.
struct IsDown(Arc<str>);

impl Callee for IsDown {
    fn start(&self, _: u64, _: Counted<Event>, _: &ReplyForm, _: &mut Context<'_>) -> Started {
        Started::Ready(CallOutcome::Rejected { reason: (&*self.0).into() })
    }
}

impl<'a> WaitingEvents<'a> {
    /// They wait from here on.
    pub(super) fn of(supervisor: &'a Arc<Supervisor>, gone: &Predecessor) -> Self {
        Self::since(Instant::now(), supervisor, gone)
    }

    /// The same, where they have waited since then.
    pub(super) fn since(
        began: Instant,
        supervisor: &'a Arc<Supervisor>,
        gone: &Predecessor,
    ) -> Self {
        let hold = gone.services.session().gate_now().hold();
        let plugin = gone.info.plugin.clone();
        // After the gate is closed: what was not delivered goes there.
        if let Some(plugin) = supervisor.registry().plugins.get(&plugin)
            && let Some(live) = &plugin.live
        {
            live.residence.events_wait();
        }
        let limit = (supervisor.policies)(&plugin).hold;
        let far = Duration::from_secs(365 * 24 * 3_600);
        let until = began.checked_add(limit).unwrap_or_else(|| began + far);
        let (generation, hold, stays_down) = (gone.info.number, Some(hold), false);
        WaitingEvents { supervisor, plugin, generation, hold, until, stays_down }
    }

    /// No other process is started for them: they wait for another version, if one is on its way.
    pub(super) fn for_somebody_else(&mut self) {
        self.stays_down = true;
    }

    /// Does something meanwhile. When they have waited for long enough, as many wait as may, or the
    /// host stops, they are refused, and it is done all the same.
    pub(super) async fn during<T>(&mut self, why: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Some(hold) = &self.hold {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep_until(self.until.into()) => {}
                _ = hold.full() => {}
                // No other process comes.
                () = self.supervisor.stop.requested() => {}
            }
            self.refuse(why);
        }
        work.await
    }

    /// They go to whoever has taken its place, or find nobody.
    pub(super) fn moved(self) {
        if let Some(hold) = self.hold {
            hold.moved();
        }
    }

    /// They do not wait any more: they are refused, unless somebody else has them by now.
    pub(super) fn refuse(&mut self, why: &str) {
        let Some(hold) = self.hold.take() else { return };
        // Unless somebody has taken its place meanwhile, and only has something to do still.
        if self.supervisor.without_process(&self.plugin, self.generation).is_some() {
            let follows = match (self.stays_down, self.supervisor.stop.is_requested()) {
                (true, _) => "",
                (false, true) => ", and not started again, because the host is stopping",
                (false, false) => ", and started again",
            };
            let reason = format!("the plugin is down{follows}: {why}");
            self.supervisor.router.redirect(&self.plugin, Arc::new(IsDown(reason.into())));
        }
        drop(hold);
    }
}
