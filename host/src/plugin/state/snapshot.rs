//! Snapshots of an instance's state, and restoring them.
//!
//! What a snapshot holds is the plugin's affair. The host carries its bytes and the number of their
//! version, and picks a version that both sides know. What is to be kept on disk is read back
//! first, by the plugin's own type.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_task::Task;
use ksi_kernel::{event::Payload, executor::workers::Workers, report::OutcomeKind};
use thiserror::Error;

use crate::plugin::{
    file::manifest::StateManifest,
    instance::{body::Body, live::LiveInstance},
};

/// The largest snapshot that is carried, in bytes.
pub(crate) const LARGEST_SNAPSHOT: u64 = 1 << 30;

/// With this code a library's restore fails whose type does not fit the snapshot.
const UNREADABLE: &str = "invalid_snapshot";

/// A plugin's state as bytes.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Of the format, as the plugin counts it.
    pub(crate) version: u32,
    pub(crate) bytes: Payload,
    /// The version of the plugin that gave it, for people, where that is known.
    pub(crate) by: Option<String>,
    /// When it was asked for, or read: of two of one plugin, the later one knows more, whichever
    /// was there first.
    pub(crate) asked: Instant,
}

impl Snapshot {
    /// One that is there now.
    pub(crate) fn new(version: u32, bytes: Payload) -> Self {
        Snapshot { version, bytes, by: None, asked: Instant::now() }
    }

    fn given_by(self, predecessor: &dyn LiveInstance) -> Self {
        Snapshot { by: Some(predecessor.version().to_owned()), ..self }
    }
}

/// Why there is no snapshot, or why it was not restored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StateError {
    /// The plugin's snapshot failed or panicked.
    #[error("its snapshot failed: {reason}")]
    Snapshot {
        /// The error or the panic.
        reason: String,
    },
    /// What it gave is not a snapshot that it could be restored from.
    #[error(
        "its snapshot of version {version} cannot be read back, so it is not kept: {reason}. Its #[snapshot] and #[restore] \
         have to agree"
    )]
    NotReadBack {
        /// Of the snapshot.
        version: u32,
        /// What reading it back said.
        reason: String,
    },
    /// The plugin's restore cannot read the snapshot. It has changed nothing.
    #[error("it cannot read the snapshot of version {version}: {reason}")]
    Unreadable {
        /// Of the snapshot.
        version: u32,
        /// Where it does not fit.
        reason: String,
    },
    /// The plugin's restore failed or panicked.
    #[error("its restore of a snapshot of version {version} failed: {reason}")]
    Restore {
        /// Of the snapshot.
        version: u32,
        /// The error or the panic.
        reason: String,
    },
    /// It did not end.
    #[error("its {step} did not end within {}", humantime::format_duration(*.after))]
    TimedOut {
        /// Snapshot or restore.
        step: &'static str,
        /// What it was given.
        after: Duration,
    },
    /// The process that it runs in has ended meanwhile.
    #[error("its {step} did not end: {how}")]
    Died {
        /// Snapshot or restore.
        step: &'static str,
        /// How the process ended.
        how: String,
    },
    /// The snapshot is too large.
    #[error("its snapshot has {bytes} bytes, and {LARGEST_SNAPSHOT} are carried at the most")]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
}

impl StateError {
    /// Whose state was asked for is there no more.
    pub(crate) fn gone() -> Self {
        StateError::Snapshot { reason: "the plugin is gone".to_owned() }
    }

    /// Whether the same may be done at another time: nothing is known of the state then.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, StateError::TimedOut { .. } | StateError::Died { .. })
    }
}

/// The highest version that the one writes and the other restores.
pub(crate) fn common_version(writes: &StateManifest, restores: &StateManifest) -> Option<u32> {
    writes.writes.iter().copied().filter(|version| restores.restores.contains(version)).max()
}

/// Takes a snapshot of a live instance that is to be kept, and proves that it can be read back; on
/// threads that may be blocked.
pub(crate) async fn snapshot_to_keep(
    workers: &Workers,
    live: Arc<dyn LiveInstance>,
    version: u32,
    limit: Duration,
) -> Result<Snapshot, StateError> {
    let task = workers.spawn_life_cycle(async move {
        proved_snapshot_of(live.body().ok_or_else(StateError::gone)?, version).await
    });
    within("snapshot", limit, task).await
}

/// Takes a snapshot of a live instance, on threads that may be blocked.
pub(crate) async fn snapshot(
    workers: &Workers,
    live: Arc<dyn LiveInstance>,
    version: u32,
    limit: Duration,
) -> Result<Snapshot, StateError> {
    let task = workers.spawn_life_cycle(async move {
        let snapshot = snapshot_of(live.body().ok_or_else(StateError::gone)?, version).await?;
        Ok(snapshot.given_by(&*live))
    });
    within("snapshot", limit, task).await
}

/// Restores a snapshot in an instance, on threads that may be blocked.
pub(crate) async fn restore(
    workers: &Workers,
    live: Arc<dyn LiveInstance>,
    snapshot: Snapshot,
    limit: Duration,
) -> Result<(), StateError> {
    let task = workers.spawn_life_cycle(async move {
        match live.body() {
            Some(instance) => {
                restore_in(instance, snapshot.version, snapshot.bytes.as_json()).await
            }
            None => Err(StateError::Restore {
                version: snapshot.version,
                reason: "the plugin is gone".to_owned(),
            }),
        }
    });
    within("restore", limit, task).await
}

/// How far a [`transfer`] has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct TransferStep(Arc<AtomicBool>);

impl TransferStep {
    /// Whether the snapshot was taken.
    pub(crate) fn is_restoring(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A snapshot that was restored, and how long it took to take it and to restore it.
pub(crate) struct Transferred {
    pub(crate) snapshot: Snapshot,
    pub(crate) taking: Duration,
    pub(crate) restoring: Duration,
}

/// Takes a snapshot of one instance and restores it in another, on one thread that may be blocked:
/// events wait meanwhile, and on a machine that is busy each change of threads has to wait for a
/// processor. An error is the one of the step that `progress` tells.
pub(crate) async fn transfer(
    workers: &Workers,
    from: Arc<dyn LiveInstance>,
    to: Arc<dyn LiveInstance>,
    version: u32,
    limit: Duration,
    progress: TransferStep,
) -> Result<Transferred, StateError> {
    let there = progress.clone();
    let task = workers.spawn_life_cycle(async move {
        let began = Instant::now();
        let snapshot = snapshot_of(from.body().ok_or_else(StateError::gone)?, version).await?;
        let snapshot = snapshot.given_by(&*from);
        let taking = began.elapsed();
        // A restore that does not return must not hold the old generation.
        drop(from);
        let to = to.body().ok_or_else(StateError::gone)?;
        there.0.store(true, Ordering::Release);
        restore_in(to, version, snapshot.bytes.as_json()).await?;
        Ok(Transferred { snapshot, taking, restoring: began.elapsed().saturating_sub(taking) })
    });
    let ended = within("snapshot", limit, task).await;
    ended.map_err(|error| match error {
        StateError::TimedOut { after, .. } if progress.is_restoring() => {
            StateError::TimedOut { step: "restore", after }
        }
        error => error,
    })
}

async fn within<T>(
    step: &'static str,
    limit: Duration,
    mut task: Task<Result<T, StateError>>,
) -> Result<T, StateError> {
    match tokio::time::timeout(limit, &mut task).await {
        Ok(result) => result,
        // The task is dropped: it ends at its next await, or after its present poll.
        Err(_) => Err(StateError::TimedOut { step, after: limit }),
    }
}

/// Takes a snapshot. Where plugin code may run.
pub(crate) async fn snapshot_of(instance: &dyn Body, version: u32) -> Result<Snapshot, StateError> {
    let asked = Instant::now();
    match instance.snapshot(version).await {
        OutcomeKind::Replied(bytes) if bytes.as_json().len() as u64 > LARGEST_SNAPSHOT => {
            Err(StateError::TooLarge { bytes: bytes.as_json().len() })
        }
        OutcomeKind::Replied(bytes) => Ok(Snapshot { version, bytes, by: None, asked }),
        OutcomeKind::NoReply => {
            Err(StateError::Snapshot { reason: "it gave no snapshot".to_owned() })
        }
        OutcomeKind::Crashed { message } => Err(died("snapshot", message)),
        bad => Err(StateError::Snapshot { reason: bad.message() }),
    }
}

/// Takes a snapshot and proves that it can be read back. Where plugin code may run.
pub(crate) async fn proved_snapshot_of(
    instance: &dyn Body,
    version: u32,
) -> Result<Snapshot, StateError> {
    let snapshot = snapshot_of(instance, version).await?;
    let bytes = snapshot.bytes.as_json();
    match instance.read_back(version, bytes).await {
        OutcomeKind::NoReply | OutcomeKind::Replied(_) => Ok(snapshot),
        OutcomeKind::Crashed { message } => Err(died("snapshot", message)),
        bad => Err(StateError::NotReadBack { version, reason: bad.message() }),
    }
}

/// Restores a snapshot. Where plugin code may run.
pub(crate) async fn restore_in(
    instance: &dyn Body,
    version: u32,
    bytes: &[u8],
) -> Result<(), StateError> {
    match instance.restore(version, bytes).await {
        OutcomeKind::Replied(_) | OutcomeKind::NoReply => Ok(()),
        OutcomeKind::Failed { code, message } if &*code == UNREADABLE => {
            Err(StateError::Unreadable { version, reason: message.to_string() })
        }
        OutcomeKind::Crashed { message } => Err(died("restore", message)),
        bad => Err(StateError::Restore { version, reason: bad.message() }),
    }
}

fn died(step: &'static str, how: String) -> StateError {
    StateError::Died { step, how }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(writes: &[u32], restores: &[u32]) -> StateManifest {
        StateManifest { writes: writes.to_vec(), restores: restores.to_vec() }
    }

    #[test]
    fn the_highest_version_that_both_know_is_carried() {
        let (old, new) = (versions(&[2, 1], &[2, 1]), versions(&[3], &[3, 2, 1]));
        assert_eq!(common_version(&old, &new), Some(2));
        assert_eq!(common_version(&new, &old), None);
        let careful = versions(&[3, 1], &[3, 1]);
        assert_eq!(common_version(&careful, &old), Some(1));
    }
}
