//! A host's end, in the order of its [stages](crate::stopping).

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use tokio::sync::OnceCell;

use super::{Core, drain::drained};
use crate::stopping::StopStage;

/// How far a host's end is, for whoever goes on with one that was given up.
#[derive(Default)]
pub(crate) struct Shutdown {
    ended: OnceCell<()>,
    /// What is inside has until then. Set as it is told that the host stops, which is once.
    drained_by: OnceLock<Instant>,
    /// The plugins have until then.
    stopped_by: OnceLock<Instant>,
}

impl Core {
    /// Lets what is inside end, and then every plugin go. Whoever comes while that goes on waits
    /// for its end, and whoever comes later has nothing to wait for.
    pub(crate) async fn shut_down(&self) {
        self.shutdown.ended.get_or_init(|| self.stop_in_stages()).await;
    }

    async fn stop_in_stages(&self) {
        let Core { stop, router, supervisor, settings, shutdown, .. } = self;
        let timeouts = settings.in_effect().timeouts;
        stop.reach(StopStage::Draining);
        supervisor.begin_to_stop();
        // Whoever has not answered when the first one is given up is not told once more.
        let is_first = shutdown.drained_by.set(Instant::now() + timeouts.drain).is_ok();
        let until = shutdown.drained_by.get().copied().unwrap_or_else(Instant::now);
        if is_first {
            let told = self.announce("system:shutdown");
            let told = tokio::select! {
                biased;
                told = tokio::time::timeout_at(until.into(), told) => told.is_ok(),
                () = stop.reached(StopStage::Unloading) => false,
            };
            if !told {
                tracing::warn!("not every listener of system:shutdown ended in time");
            }
        }
        drained(stop, router, supervisor, until.into()).await;
        // Whoever asked for the next stage already does not wait for calls.
        let until = if stop.stage() > StopStage::Draining { Instant::now() } else { until };
        stop.reach(StopStage::Unloading);
        let at_most = timeouts.shutdown + Duration::from_secs(3);
        let until_all = *shutdown.stopped_by.get_or_init(|| until.max(Instant::now()) + at_most);
        supervisor.stop(until, until_all.saturating_duration_since(Instant::now())).await;
        // After this, the supervisor is this host's alone, and so are its private copies.
        supervisor.quarantine.forget_suspects();
        if let Some(Err(error)) = supervisor.forget_notes() {
            tracing::warn!("the crash journal is not emptied: {error}");
        }
        let told = self.history.host_stopped();
        if tokio::time::timeout(Duration::from_secs(2), told).await.is_err() {
            tracing::warn!("the history of the plugins is not written to its end");
        }
        let ended = supervisor.thread.end();
        if tokio::time::timeout(Duration::from_secs(2), ended).await.is_err() {
            tracing::warn!("the supervisor's thread does not end");
        }
    }
}
