//! Starts a plugin from what is kept of its state on the disk: the newest snapshot that it can
//! read.
//!
//! One that its type does not fit is passed over for an older one of a version that it restores,
//! and set aside: reading it has run nothing of the plugin, and has changed nothing. That is told
//! wherever somebody looks. Anything else that goes wrong with a snapshot (its version is unknown,
//! its restore fails, panics or does not end) is more likely a fault of the file, and then going on
//! with older state would lose what the right file could read: the plugin is not started.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use ksi_kernel::executor::workers::Workers;

use crate::plugin::{
    instance::{info::GenerationInfo, live::LiveInstance},
    state::{
        persistence::{KeptSnapshot, PersistError, Persistence},
        snapshot::{self, Snapshot, StateError},
        store::SnapshotPlace,
    },
};

/// What a plugin was restored from.
pub(in crate::plugin) struct RestoredFromDisk {
    pub(in crate::plugin) snapshot: Snapshot,
    /// Why that is not the newest, if it is not.
    pub(in crate::plugin) notice: Option<String>,
}

/// A snapshot that was passed over.
struct Unread {
    kept: KeptSnapshot,
    reason: String,
}

/// Restores what is kept in a new instance within this time, beginning with this snapshot.
pub(in crate::plugin) async fn restore_kept(
    workers: &Workers,
    limit: Duration,
    info: &GenerationInfo,
    new: &Arc<dyn LiveInstance>,
    persistence: &Persistence,
    first: KeptSnapshot,
) -> Result<RestoredFromDisk, PersistError> {
    let plugin = || info.plugin.to_string();
    let mut unread: Vec<Unread> = Vec::new();
    let mut next = Some(first);
    while let Some(kept) = next {
        let restore = snapshot::restore(workers, new.clone(), kept.snapshot.clone(), limit).await;
        match restore {
            Ok(()) => return Ok(settled(info, persistence, kept, unread).await),
            Err(StateError::Unreadable { reason, .. }) => unread.push(Unread { kept, reason }),
            Err(source) => {
                let (plugin, path) = (plugin(), kept.path);
                return Err(PersistError::NotRestored { plugin, path, source });
            }
        }
        next = older(info, persistence, &unread).await;
    }
    let snapshots = unread.into_iter().map(|it| (it.kept.path, it.reason)).collect();
    Err(PersistError::NoneReadable { plugin: plugin(), snapshots })
}

/// The next older snapshot whose version is restored.
async fn older(
    info: &GenerationInfo,
    persistence: &Persistence,
    unread: &[Unread],
) -> Option<KeptSnapshot> {
    let mut tried: Vec<SnapshotPlace> = unread.iter().map(|it| it.kept.place).collect();
    let restores = info.manifest.state.as_ref().map_or(&[][..], |state| &state.restores);
    loop {
        // Damage of older ones is no news: there is nothing to read in them.
        let kept = persistence.load(&info.plugin, &tried).await.ok()??;
        if restores.contains(&kept.snapshot.version) {
            return Some(kept);
        }
        tried.push(kept.place);
    }
}

/// Sets aside what was passed over, and says so.
async fn settled(
    info: &GenerationInfo,
    persistence: &Persistence,
    kept: KeptSnapshot,
    unread: Vec<Unread>,
) -> RestoredFromDisk {
    let mut reasons: Vec<String> = Vec::new();
    for Unread { kept: KeptSnapshot { path, place, .. }, reason } in unread {
        let now = match persistence.set_aside(&info.plugin, place).await {
            Ok(Some(aside)) => format!("it is kept as {aside}"),
            Ok(None) => "it is gone".to_owned(),
            Err(error) => format!("it could not be kept aside: {error}"),
        };
        reasons.push(format!("{} cannot be read by it: {reason}; {now}", path.display()));
    }
    if reasons.is_empty() {
        reasons.extend(kept.fallback.clone());
    }
    let notice = (!reasons.is_empty()).then(|| {
        let age = SystemTime::now().duration_since(kept.written).unwrap_or_default();
        format!(
            "it was started from an older snapshot, {}, written {} ago: {}. What it did after that is not in it; \
             `ksi state list {}` shows what there is",
            kept.path.display(),
            humantime::format_duration(Duration::from_secs(age.as_secs())),
            reasons.join("; "),
            info.plugin
        )
    });
    if let Some(notice) = &notice {
        tracing::error!(plugin = %info.plugin, generation = info.number, "{notice}");
    }
    RestoredFromDisk { snapshot: kept.snapshot, notice }
}
