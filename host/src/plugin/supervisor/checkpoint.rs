//! What a plugin in a process of its own has, kept in memory: what another process of it begins
//! with when this one has ended.
//!
//! Only an end that nobody could see coming needs it. What is handed over, and what is kept on the
//! disk, is taken anew.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use tokio::task::AbortHandle;

use super::Supervisor;
use crate::plugin::{
    instance::{info::GenerationInfo, live::LiveInstance},
    lifecycle::hand_over::{HandOverError, Predecessor},
    state::snapshot::{self, Snapshot, common_version},
};

/// How often it is looked whether something has changed.
const LOOK: Duration = Duration::from_millis(10);
/// What a snapshot gets.
const LIMIT: Duration = Duration::from_secs(10);

/// What the next generation has got when it begins with that, for people and programs.
pub(super) const LAST_KEPT: &str = "kept";

/// When the state is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckpointPolicy {
    /// That long after the last time.
    Every(Duration),
    /// As soon as calls have ended since.
    OnChange,
}

/// What an instance had.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    /// When that was.
    pub(crate) taken: SystemTime,
    /// Calls of its generation that had ended before it was asked for it.
    pub(crate) calls: u64,
    pub(crate) snapshot: Snapshot,
    /// The same for the version before it, as long as the host may go back to that by itself and it
    /// does not read the other one.
    pub(crate) earlier: Option<Snapshot>,
}

impl Checkpoint {
    /// What it has now, after so many calls.
    fn after(calls: u64, snapshot: Snapshot) -> Self {
        Checkpoint { taken: SystemTime::now(), calls, snapshot, earlier: None }
    }

    /// What it begins with. Whatever was asked for before this moment, of whichever version, knows
    /// no more.
    pub(super) fn at_first(snapshot: Snapshot, began: Instant) -> Self {
        Checkpoint::after(0, Snapshot { asked: began, ..snapshot })
    }
}

/// Takes checkpoints of a generation until this is dropped: what is known of one that is replaced
/// does not stay in memory until the next one is due.
pub(crate) struct TakesCheckpoints(AbortHandle);

impl Drop for TakesCheckpoints {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Supervisor {
    /// Keeps what a generation has, until it is not live any more. It lives in a process of its
    /// own.
    pub(super) fn keep_checkpoints(self: &Arc<Self>, info: &Arc<GenerationInfo>) {
        let Some(version) = info.writes().filter(|_| self.is_isolated(info)) else { return };
        let (plugin, number) = (info.plugin.clone(), info.number);
        let (supervisor, info) = (Arc::downgrade(self), info.clone());
        let task = self.thread.runtime().spawn(async move {
            let mut ended = 0;
            loop {
                let policy = match supervisor.upgrade() {
                    Some(supervisor) => (supervisor.restarts)(&info.plugin).checkpoint,
                    None => return,
                };
                match policy {
                    CheckpointPolicy::Every(interval) => tokio::time::sleep(interval).await,
                    CheckpointPolicy::OnChange => tokio::time::sleep(LOOK).await,
                }
                let Some(supervisor) = supervisor.upgrade() else { return };
                let Some(live) = supervisor.live_instance(&info) else { return };
                let counts = info.counts();
                let now = counts.accepted - counts.in_flight;
                // At its time it is taken whatever has ended: tasks and timers change state too.
                if policy == CheckpointPolicy::OnChange && now == ended {
                    continue;
                }
                if supervisor.take_checkpoint(&info, &live, version, now).await {
                    ended = now;
                }
            }
        });
        let checkpoints = TakesCheckpoints(task.abort_handle());
        let mut registry = self.registry();
        let is_live = registry.is_live(&plugin, number);
        if let Some(plugin) = registry.plugins.get_mut(&plugin).filter(|_| is_live) {
            plugin.checkpoints = Some(checkpoints);
        }
    }

    /// Takes what an instance has now, after so many calls. Whether it gave that.
    async fn take_checkpoint(
        &self,
        info: &GenerationInfo,
        live: &Weak<dyn LiveInstance>,
        version: u32,
        calls: u64,
    ) -> bool {
        let Some(live) = live.upgrade() else { return false };
        let workers = self.router.workers();
        let taken = snapshot::snapshot(workers, live.clone(), version, LIMIT).await;
        let snapshot = match taken {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let (plugin, generation) = (&*info.plugin, info.number);
                tracing::debug!(plugin, generation, "no checkpoint was taken: {error}");
                return false;
            }
        };
        let earlier = match self.version_to_go_back_with(info, version) {
            Some(older) => snapshot::snapshot(workers, live, older, LIMIT).await.ok(),
            None => None,
        };
        let mut registry = self.registry();
        let is_live = registry.is_live(&info.plugin, info.number);
        if let Some(plugin) = registry.plugins.get_mut(&info.plugin).filter(|_| is_live) {
            plugin.checkpoint = Some(Checkpoint { earlier, ..Checkpoint::after(calls, snapshot) });
        }
        true
    }

    /// The version of snapshots that the version before this one reads, as long as the host may go
    /// back to that by itself, if it does not read this one.
    fn version_to_go_back_with(&self, info: &GenerationInfo, version: u32) -> Option<u32> {
        let registry = self.registry();
        let plugin = registry.plugins.get(&info.plugin)?;
        plugin.compared_with(info.number)?;
        let restores = plugin.previous.front()?.info.manifest.state.as_ref()?;
        let common = common_version(info.manifest.state.as_ref()?, restores)?;
        (!restores.restores.contains(&version)).then_some(common)
    }

    /// The state that another instance of a live generation begins with, if there is some: what was
    /// taken last, in memory or on the disk.
    ///
    /// # Errors
    /// There is some, and it cannot be read; for people.
    pub(super) async fn state_kept_last(
        &self,
        info: &GenerationInfo,
    ) -> Result<Option<Snapshot>, String> {
        let Some(restores) = info.manifest.state.as_ref() else { return Ok(None) };
        let checkpoint = {
            let registry = self.registry();
            let plugin = registry.plugins.get(&info.plugin);
            plugin.and_then(|plugin| plugin.checkpoint.as_ref()).map(|it| it.snapshot.clone())
        };
        let Some(persistence) = &self.persistence else { return Ok(checkpoint) };
        if let Some(snapshot) = &checkpoint
            && !persistence.knows_more_than(&info.plugin, snapshot.asked)
        {
            return Ok(checkpoint);
        }
        let kept = persistence
            .load(&info.plugin, &[])
            .await
            .and_then(|kept| kept.map(|kept| kept.for_version(&info.plugin, restores)).transpose());
        match (kept, checkpoint) {
            (Ok(kept), _) => Ok(kept.map(|kept| kept.snapshot)),
            (Err(error), Some(snapshot)) if restores.restores.contains(&snapshot.version) => {
                tracing::warn!(
                    plugin = %info.plugin, generation = info.number,
                    "going on from what was kept of it in memory, because what is kept on the disk \
                     cannot be read: {error}"
                );
                Ok(Some(snapshot))
            }
            (Err(error), _) => Err(format!("its kept state cannot be read: {error}")),
        }
    }

    /// What was taken of a generation last that somebody can read who restores these versions, in
    /// memory or on the disk; nothing also if it cannot be read.
    pub(super) async fn kept_last_for(
        &self,
        info: &GenerationInfo,
        restores: &[u32],
    ) -> Option<Snapshot> {
        let readable = |kept: &Snapshot| restores.contains(&kept.version);
        let kept = self.state_kept_last(info).await.ok().flatten().filter(readable);
        if kept.is_some() {
            return kept;
        }
        let registry = self.registry();
        let checkpoint = registry.plugins.get(&info.plugin)?.checkpoint.as_ref()?;
        checkpoint.earlier.clone().filter(readable)
    }

    /// What takes the place of a snapshot that a live generation did not give because its process
    /// has ended meanwhile: what was kept of it last, for somebody who restores these versions.
    pub(super) async fn kept_in_place_of(
        &self,
        predecessor: &Predecessor,
        error: &HandOverError,
        restores: &[u32],
    ) -> Option<Snapshot> {
        match error {
            HandOverError::Snapshot(_) if predecessor.is_down() => {
                self.kept_last_for(&predecessor.info, restores).await
            }
            _ => None,
        }
    }

    /// The instance of a generation, as long as that is live.
    fn live_instance(&self, info: &GenerationInfo) -> Option<Weak<dyn LiveInstance>> {
        let registry = self.registry();
        let live = registry.plugins.get(&info.plugin)?.live.as_ref()?;
        (live.info.number == info.number).then(|| live.live.clone())
    }

    fn is_isolated(&self, info: &GenerationInfo) -> bool {
        let registry = self.registry();
        let live = registry.plugins.get(&info.plugin).and_then(|plugin| plugin.live.as_ref());
        live.is_some_and(|live| live.info.number == info.number && !live.residence.is_here())
    }
}
