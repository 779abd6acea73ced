//! A host's end, in the order of its [stages](crate::stopping).

use std::time::{Duration, Instant};

use super::{Core, drain::drained};
use crate::stopping::StopStage;

impl Core {
    /// Lets what is inside end, and then every plugin go. Whoever comes while that goes on waits
    /// for its end, and whoever comes later has nothing to wait for.
    pub(crate) async fn shut_down(&self) {
        self.shut_down.get_or_init(|| self.stop_in_stages()).await;
    }

    async fn stop_in_stages(&self) {
        let Core { stop, router, supervisor, settings, .. } = self;
        let timeouts = settings.in_effect().timeouts;
        stop.reach(StopStage::Draining);
        supervisor.begin_to_stop();
        let until = Instant::now() + timeouts.drain;
        let told = tokio::select! {
            biased;
            told = tokio::time::timeout_at(until.into(), self.announce("system:shutdown")) => told.is_ok(),
            () = stop.reached(StopStage::Unloading) => false,
        };
        if !told {
            tracing::warn!("not every listener of system:shutdown ended in time");
        }
        drained(stop, router, supervisor, until.into()).await;
        // Whoever asked for the next stage already does not wait for calls.
        let until = if stop.stage() > StopStage::Draining { Instant::now() } else { until };
        stop.reach(StopStage::Unloading);
        let rest = until.saturating_duration_since(Instant::now());
        supervisor.stop(until, rest + timeouts.shutdown + Duration::from_secs(3)).await;
        // After this, the supervisor is this host's alone, and so are its private copies.
        supervisor.quarantine.forget_suspects();
        if let Some(Err(error)) = supervisor.forget_notes() {
            tracing::warn!("the crash journal is not emptied: {error}");
        }
        supervisor.activation.end_processes().await;
        let ended = supervisor.thread.end();
        if tokio::time::timeout(Duration::from_secs(2), ended).await.is_err() {
            tracing::warn!("the supervisor's thread does not end");
        }
    }
}
