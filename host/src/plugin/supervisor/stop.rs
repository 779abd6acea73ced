//! How all plugins go when the host stops: the last started first, each with its state kept.
//!
//! When this begins, what was inside has ended, or is not waited for any more: see
//! [`stopping`](crate::stopping).

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{error::Elapsed, timeout, timeout_at};

use super::Supervisor;
use crate::{
    plugin::lifecycle::{retire::FinalState, retired::Retired},
    stopping::StopStage,
};

/// How long a host that stops waits beyond its time until the state of plugins that are late is
/// kept.
const LAST_STATES: Duration = Duration::from_secs(2);
/// The same when somebody asked not to wait for plugins any longer: their state still is to be
/// kept.
const STATES_IN_A_HURRY: Duration = Duration::from_secs(15);
/// How long a host that stops waits for libraries to leave memory, once nothing of them runs any
/// more.
const UNMAP: Duration = Duration::from_secs(2);

impl Supervisor {
    /// Begins no deployment any more, and does not look at the folders any more. What is being
    /// probed is given up.
    pub(crate) fn begin_to_stop(&self) {
        self.preparation.end_probes();
        drop(self.watch().take());
    }

    /// Lets every plugin go, the last started first, and waits until they are gone, `limit` is
    /// over, or somebody asks to leave. Calls get until `drain` to end.
    pub(crate) async fn stop(self: &Arc<Self>, drain: Instant, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        self.activation.resources.outlive_this_process();
        self.retirer.end_all(drain);
        // Calls that are waited for are not any more.
        let hurried = async {
            self.stop.reached(StopStage::Leaving).await;
            tracing::warn!(
                "stopping: plugins are not waited for any longer, as somebody asked; their state is kept"
            );
            self.retirer.end_all(Instant::now());
            std::future::pending().await
        };
        tokio::select! {
            biased;
            () = hurried => {}
            () = self.let_all_go(deadline) => {}
        }
        self.last_states(deadline).await;
        let left = async {
            if timeout_at(deadline, self.departures.drains.wait()).await.is_err() {
                tracing::warn!("not every call on a replaced generation ended in time");
            }
            // What is left is unmapping, which the end of a process does as well.
            let soon = deadline.min(tokio::time::Instant::now() + UNMAP);
            if timeout_at(soon, self.departures.retirements.wait()).await.is_err() {
                tracing::info!("not every library could be unmapped; see the causes above");
            }
        };
        tokio::select! {
            biased;
            () = left => {}
            () = self.stop.reached(StopStage::Leaving) => {}
        }
        // One that is just starting may still read what lies there: a spare interpreter, as an
        // example.
        self.activation.end_processes().await;
        // Somebody may be copying still. However the process ends from here on, it leaves no copy
        // behind.
        self.preparation.close();
    }

    /// One after the other, because a plugin may need those that were started before it; all that
    /// are left at once, when somebody asks to leave.
    async fn let_all_go(self: &Arc<Self>, deadline: tokio::time::Instant) {
        // What is on its way finds out that it may not become live any more. It gets half of the
        // time: the rest is for those that are live.
        let half = deadline.saturating_duration_since(tokio::time::Instant::now()) / 2;
        if !self.unless_leaving(timeout(half, self.deploys.wait())).await {
            tracing::warn!("a plugin that is just being loaded does not get done");
        }
        let names = self.registry().last_started_first();
        for name in names {
            // Without its lock, which a generation that never gets started has for ever. Nothing is
            // swapped any more.
            self.keep_of_released(&name, deadline).await;
            let Ok((generation, retired)) = self.disconnect(&name, None) else { continue };
            let info = generation.info.clone();
            let quiet = self.let_go(generation, retired, FinalState::Keep);
            if !self.unless_leaving(timeout_at(deadline, quiet)).await
                && self.stop.stage() < StopStage::Leaving
            {
                tracing::warn!(plugin = %name, "it did not shut down in time");
            }
            self.announcer.unloaded_with_host(&info);
        }
    }

    /// Whether something is done in its time, and before somebody asks to leave.
    async fn unless_leaving<T>(&self, timed: impl Future<Output = Result<T, Elapsed>>) -> bool {
        tokio::select! {
            biased;
            timed = timed => timed.is_ok(),
            () = self.stop.reached(StopStage::Leaving) => false,
        }
    }

    /// Keeps the state of a plugin whose instance was released, and which gets no other any more.
    /// Whoever released it finds that its generation was let go.
    async fn keep_of_released(self: &Arc<Self>, name: &Arc<str>, deadline: tokio::time::Instant) {
        let (generation, own, retired) = {
            let mut registry = self.registry();
            let Some(plugin) = registry.plugins.get_mut(name) else { return };
            if !plugin.released {
                return;
            }
            let own = plugin.released_with.take();
            let Some(generation) = plugin.live.take() else { return };
            plugin.released = false;
            plugin.checkpoints = None;
            let retired = Retired::new(&generation.info);
            plugin.remember(retired.clone());
            (generation, own, retired)
        };
        let info = generation.info.clone();
        tracing::warn!(
            plugin = %name, generation = info.number,
            "its replacement does not get done; the state of the instance that was released for it is kept"
        );
        generation.services.detach();
        self.router.withdraw(name);
        if let Some(persistence) = &self.persistence {
            let rest = deadline.saturating_duration_since(tokio::time::Instant::now());
            persistence.keep_released(&info, own, rest.max(LAST_STATES)).await;
        }
        drop(self.let_go(generation, retired, FinalState::HandedOver));
        self.announcer.unloaded_with_host(&info);
    }

    /// Gives the state of those that are not gone a little longer, side by side: the time may have
    /// been over before their turn came, and who was unloaded before had none. What is not kept
    /// then is told.
    async fn last_states(&self, deadline: tokio::time::Instant) {
        let Some(persistence) = &self.persistence else { return };
        let kept = async {
            for info in self.departures.pending_final_states() {
                self.departures.final_state_is_kept(&info.plugin).await;
            }
        };
        let mut kept = pin!(kept);
        let patience = deadline.max(tokio::time::Instant::now() + LAST_STATES);
        let are_kept = tokio::select! {
            biased;
            kept = timeout_at(patience, &mut kept) => kept.is_ok(),
            () = self.stop.reached(StopStage::Leaving) => {
                // Those that were unloaded before have calls that were still waited for.
                self.retirer.end_all(Instant::now());
                timeout(STATES_IN_A_HURRY, kept).await.is_ok()
            }
        };
        if !are_kept {
            self.departures
                .pending_final_states()
                .iter()
                .for_each(|info| persistence.gave_up(info));
        }
    }
}
