//! What people do with the kept state of a plugin: look at it, choose another snapshot, give some
//! up.
//!
//! Choosing one for a live plugin is a replacement of it by itself, with that state in place of its
//! own, which is kept aside first. For a plugin that is not live, it becomes the newest, which the
//! next start begins with.

use std::{path::Path, sync::Arc, time::Duration};

use ksi_wire::module::HistoryBy;
use thiserror::Error;

use super::{
    Deployed, SetAsideResult, Supervisor,
    origin::{Attempt, Chosen, Origin, Prepared},
    retry::DeployReason,
};
use crate::{
    plugin::{
        file::copy::PrivateCopy,
        lifecycle::{error::DeployError, hand_over::HandOverError},
        state::{
            persistence::{KeptSnapshot, PersistError, Persistence},
            snapshot::Snapshot,
            store::{Listed, SnapshotPlace},
        },
    },
    sync::keyed_lock::LockKey,
};

/// Why nothing was done with kept state.
#[derive(Debug, Error)]
pub(crate) enum StateByHandError {
    /// There is no folder for it.
    #[error(
        "this host keeps no state on disk: start it with `--state DIR`, or set state.dir in its configuration"
    )]
    NoFolder,
    /// There is no such kind of file.
    #[error(
        "{found:?} is none of the snapshots that a plugin can have, which are newest, previous, good, broken and aside-1, \
         aside-2 and so on; `ksi state list` shows those there are"
    )]
    NoSuchPlace {
        /// What was asked for.
        found: String,
    },
    /// None was named, and there is none to take by itself.
    #[error(
        "there is no older snapshot of {plugin} to choose; `ksi state list {plugin}` shows what there is"
    )]
    NothingOlder {
        /// The plugin.
        plugin: String,
    },
    /// It is live.
    #[error(
        "{plugin} is live and would keep its state anew: `ksi unload {plugin}` first, or name one of its older snapshots"
    )]
    Live {
        /// The plugin.
        plugin: String,
    },
    /// Nothing of it is there.
    #[error(
        "nothing is kept of {plugin}; `ksi state list` shows of which plugins there is something"
    )]
    NothingKept {
        /// The plugin.
        plugin: String,
    },
    /// An earlier generation still has the newest.
    #[error(
        "the generation of {plugin} that was unloaded before has not ended within {}, so its state is not kept yet. \
         `ksi inspect` tells what holds it; ask again when it is gone", humantime::format_duration(*.after)
    )]
    Leaving {
        /// The plugin.
        plugin: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The files.
    #[error(transparent)]
    Files(#[from] PersistError),
    /// The replacement.
    #[error(transparent)]
    Deploy(Box<DeployError>),
}

impl From<DeployError> for StateByHandError {
    fn from(error: DeployError) -> Self {
        StateByHandError::Deploy(Box::new(error))
    }
}

/// A snapshot was chosen.
pub(crate) struct RestoredByHand {
    pub(crate) which: SnapshotPlace,
    /// The new generation, if the plugin is live.
    pub(crate) deployed: Option<Deployed>,
    /// What was the state before.
    pub(crate) aside: Option<SetAsideResult>,
}

/// What a name of people means.
pub(crate) fn place_of(which: &str) -> Result<SnapshotPlace, StateByHandError> {
    which.parse().map_err(|()| StateByHandError::NoSuchPlace { found: which.to_owned() })
}

impl Supervisor {
    fn kept_on_disk(&self) -> Result<&Arc<Persistence>, StateByHandError> {
        self.persistence.as_ref().ok_or(StateByHandError::NoFolder)
    }

    /// What is kept, of one plugin or of all.
    pub(crate) async fn kept_states(
        &self,
        plugin: Option<&str>,
    ) -> Result<Vec<Listed>, StateByHandError> {
        Ok(self.kept_on_disk()?.list(plugin).await?)
    }

    /// One snapshot with its bytes.
    pub(crate) async fn kept_state(
        &self,
        plugin: &str,
        place: SnapshotPlace,
    ) -> Result<KeptSnapshot, StateByHandError> {
        Ok(self.kept_on_disk()?.load_from(plugin, place).await?)
    }

    /// Lets a plugin go on from a kept snapshot: the last good one, else the previous one, if none
    /// is named.
    pub(crate) async fn restore_state(
        self: &Arc<Self>,
        plugin: &str,
        place: Option<SnapshotPlace>,
        by: &HistoryBy,
    ) -> Result<RestoredByHand, StateByHandError> {
        let (plugin, by) = (plugin.to_owned(), by.clone());
        let chosen = |supervisor: Arc<Self>| async move {
            supervisor.choose_state(&plugin, place, by).await
        };
        self.to_the_end(chosen).await
    }

    async fn choose_state(
        self: &Arc<Self>,
        plugin: &str,
        place: Option<SnapshotPlace>,
        by: HistoryBy,
    ) -> Result<RestoredByHand, StateByHandError> {
        let persistence = self.kept_on_disk()?.clone();
        self.state_is_kept(plugin).await?;
        let which = match place {
            Some(place) => place,
            None => older(&persistence.list(Some(plugin)).await?)
                .ok_or_else(|| StateByHandError::NothingOlder { plugin: plugin.to_owned() })?,
        };
        let kept = persistence.load_from(plugin, which).await?;
        let live = self.registry().plugins.get(plugin).and_then(|plugin| {
            plugin.live.as_ref().map(|live| (live.info.clone(), live.copy.clone()))
        });
        let Some((info, copy)) = live else {
            let orphaned = self.keep_orphaned_aside(&persistence, plugin).await?;
            let aside = persistence.make_newest(plugin, kept).await?;
            let aside = orphaned.or(aside);
            self.forget_orphaned(plugin);
            persistence.troubles.forget(plugin);
            return Ok(RestoredByHand {
                which,
                deployed: None,
                aside: aside.map(|it| Ok(it.to_string())),
            });
        };
        let restores = info.manifest.state.clone().ok_or(DeployError::HandOver {
            file: info.file.clone(),
            source: HandOverError::NoState,
        })?;
        let kept = kept.for_version(plugin, &restores)?;
        let name = info.plugin.clone();
        let chosen = Chosen {
            state: kept.snapshot,
            which: which.to_string(),
            instead_of: info.number,
            by: by.clone(),
        };
        let deployed = match self.replace_by_itself(&info.file, &copy, chosen).await {
            // There is nothing live of the file any more: it is tried again.
            Err(error @ DeployError::Down { .. }) => {
                let _ = self.registry().retries.begin(&info.file, info.hash, DeployReason::Asked);
                self.note(&info.file, &Attempt::of(by, info.hash), Err(error))
            }
            deployed => deployed,
        };
        let deployed = deployed?;
        self.keep_now(&name);
        let aside = deployed.aside.clone();
        Ok(RestoredByHand { which, deployed: Some(deployed), aside })
    }

    /// Replaces the live version by the same once more, with state that somebody has chosen.
    async fn replace_by_itself(
        self: &Arc<Self>,
        file: &Path,
        copy: &Arc<PrivateCopy>,
        chosen: Chosen,
    ) -> Result<Deployed, DeployError> {
        let _lock = self.locks.lock(LockKey::File(file.to_owned())).await;
        self.ensure_running()?;
        // A copy of the copy: a path that may still be mapped gives the library that is mapped.
        let copied = self.preparation.copy_again(copy, file).await?;
        let examined = self.preparation.examine(copied).await?;
        let trial = self.is_tried(&examined);
        let trial = match trial {
            Ok(()) => self.trial_with(&examined, Some(chosen.state.clone())).await,
            Err(skipped) => Err(skipped),
        };
        let candidate = self.preparation.probe(examined, trial).await?;
        let candidate = Prepared::Candidate(Box::new(candidate));
        self.finish(candidate, Origin::Chosen(chosen)).await
    }

    async fn state_is_kept(&self, plugin: &str) -> Result<(), StateByHandError> {
        let kept = self.final_state_is_kept(plugin).await;
        kept.map_err(|after| StateByHandError::Leaving { plugin: plugin.to_owned(), after })
    }

    /// Keeps the state of a generation that went without a successor, if it is in memory alone.
    /// Where it is then.
    async fn keep_orphaned_aside(
        &self,
        persistence: &Persistence,
        plugin: &str,
    ) -> Result<Option<SnapshotPlace>, StateByHandError> {
        let orphaned = {
            let registry = self.registry();
            let plugin = registry.plugins.get(plugin);
            plugin.and_then(|plugin| Some((plugin.info.clone(), plugin.orphaned.clone()?)))
        };
        let Some((info, orphaned)) = orphaned else { return Ok(None) };
        let newest = persistence.load_from(plugin, SnapshotPlace::Snapshot).await;
        let is_newest = |kept: KeptSnapshot| {
            let Snapshot { version, bytes, .. } = kept.snapshot;
            version == orphaned.version && bytes.as_json() == orphaned.bytes.as_json()
        };
        if newest.is_ok_and(is_newest) {
            return Ok(None);
        }
        Ok(Some(persistence.store_aside(&info, orphaned).await?))
    }

    /// Gives up kept snapshots: one, or all that the plugin would be started from. Those that were
    /// there.
    pub(crate) async fn drop_state(
        self: &Arc<Self>,
        plugin: &str,
        place: Option<SnapshotPlace>,
    ) -> Result<Vec<SnapshotPlace>, StateByHandError> {
        let plugin = plugin.to_owned();
        // What is gone from the disk must not stay in memory because whoever asked goes away.
        self.to_the_end(|supervisor| async move { supervisor.drop_kept(&plugin, place).await })
            .await
    }

    async fn drop_kept(
        &self,
        plugin: &str,
        place: Option<SnapshotPlace>,
    ) -> Result<Vec<SnapshotPlace>, StateByHandError> {
        let persistence = self.kept_on_disk()?;
        self.state_is_kept(plugin).await?;
        let is_live =
            self.registry().plugins.get(plugin).is_some_and(|plugin| plugin.live.is_some());
        if is_live && place.is_none_or(|place| place == SnapshotPlace::Snapshot) {
            return Err(StateByHandError::Live { plugin: plugin.to_owned() });
        }
        if let Some(place) = place {
            // Says what there is, if this is not.
            let listed = persistence.list(Some(plugin)).await?;
            if !listed.iter().any(|it| it.place == place) {
                persistence.load_from(plugin, place).await?;
            }
        }
        let all = [
            SnapshotPlace::Snapshot,
            SnapshotPlace::New,
            SnapshotPlace::Previous,
            SnapshotPlace::Good,
            SnapshotPlace::Broken,
        ];
        let places = place.map_or_else(|| all.to_vec(), |place| vec![place]);
        let is_newest = places.contains(&SnapshotPlace::Snapshot);
        let mut removed = persistence.remove(plugin, places).await?;
        // What the next start would begin with, whatever is on the disk.
        if is_newest && self.forget_orphaned(plugin) && removed.is_empty() {
            removed.push(SnapshotPlace::Snapshot);
        }
        if removed.is_empty() {
            return Err(StateByHandError::NothingKept { plugin: plugin.to_owned() });
        }
        if !is_live {
            persistence.troubles.forget(plugin);
        }
        Ok(removed)
    }
}

/// The one to go back to when none is named.
fn older(listed: &[Listed]) -> Option<SnapshotPlace> {
    let hash = |place: SnapshotPlace| {
        let found = listed.iter().find(|it| it.place == place)?;
        found.content.as_ref().ok().map(|about| about.hash.as_str())
    };
    let newest = hash(SnapshotPlace::Snapshot);
    let older = [SnapshotPlace::Good, SnapshotPlace::Previous].into_iter();
    older.into_iter().find(|place| hash(*place).is_some_and(|found| Some(found) != newest))
}
