//! Where the state of the next generation comes from, and how it gets there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::super::{
    SetAsideResult, Supervisor,
    checkpoint::LAST_KEPT,
    origin::{Arrived, Origin, StateSource},
};
use crate::plugin::{
    instance::{
        info::{GenerationInfo, Timings},
        live::LiveInstance,
    },
    lifecycle::{
        error::DeployError,
        from_disk::{self, RestoredFromDisk},
        hand_over::{GivenUp, HandOverError, HandedOver, Predecessor, SetAsideRequest, Wanted},
        prepare::Candidate,
    },
    state::snapshot::{self, Snapshot, StateError, common_version},
};

/// What it may take to write down the state that is given up, with the plugin's events held.
const ASIDE: Duration = Duration::from_secs(10);
/// What is waited for beyond the drain timeout until an earlier generation's state is kept.
const FINAL_STATE: Duration = Duration::from_secs(20);

/// What the next generation has got, for people and programs.
const OF_THE_SWAP: &str = "as_of_the_swap";
const NOTHING: &str = "none";

/// Other state than the live generation has, or none.
fn instead(state: Option<&Snapshot>, aside: Option<SetAsideRequest>) -> Wanted {
    let how = if state.is_some() { OF_THE_SWAP } else { NOTHING };
    Wanted::Instead { state: state.cloned(), how, aside }
}

impl Supervisor {
    /// Where the state of the next generation comes from.
    pub(super) async fn source(
        &self,
        candidate: &Candidate,
        predecessor: Option<&Predecessor>,
        origin: &Origin,
    ) -> Result<StateSource, DeployError> {
        let restores = candidate.manifest.state.as_ref();
        let refused = |source| DeployError::HandOver { file: candidate.file.clone(), source };
        let Some(writes) =
            predecessor.and_then(|predecessor| predecessor.info.manifest.state.as_ref())
        else {
            let Some(restores) = restores else { return Ok(StateSource::Nowhere) };
            let name = &*candidate.manifest.name;
            if let Some(orphaned) = self.orphaned(name) {
                return match restores.restores.contains(&orphaned.version) {
                    true => Ok(StateSource::Orphaned(orphaned)),
                    false => Err(refused(HandOverError::NoCommonVersion {
                        writes: vec![orphaned.version],
                        restores: restores.restores.clone(),
                    })),
                };
            }
            let Some(persistence) = &self.persistence else { return Ok(StateSource::Nowhere) };
            self.final_state_is_kept(name)
                .await
                .map_err(|after| refused(HandOverError::Leaving { after }))?;
            let kept = persistence
                .load(name, &[])
                .await
                .and_then(|kept| kept.map(|kept| kept.for_version(name, restores)).transpose());
            let kept = kept.map_err(|source| DeployError::Persist {
                file: candidate.file.clone(),
                source: Box::new(source),
            })?;
            return Ok(kept.map_or(StateSource::Nowhere, StateSource::Kept));
        };
        if let Some(predecessor) = predecessor.filter(|it| it.is_down()) {
            match origin {
                Origin::File(_) | Origin::KeptGood(_) => {
                    return self.source_of_one_down(predecessor, candidate).await.map_err(refused);
                }
                Origin::Earlier(back) if !back.takes_instead() => {
                    let restores = restores.map_or(&[][..], |state| &state.restores);
                    if let Some(kept) = self.kept_last_for(&predecessor.info, restores).await {
                        let (state, how, aside) = (Some(kept), LAST_KEPT, None);
                        return Ok(StateSource::Live(Wanted::Instead { state, how, aside }));
                    }
                }
                Origin::Earlier(_) | Origin::Chosen(_) => {}
            }
        }
        let aside = || {
            let version = writes.writes.iter().copied().max()?;
            Some(SetAsideRequest { version, required: origin.keeps_aside() })
        };
        let back = match origin {
            Origin::File(_) | Origin::KeptGood(_) => None,
            Origin::Earlier(back) => Some(back),
            Origin::Chosen(chosen) => {
                let (state, aside) = (Some(chosen.state.clone()), aside());
                let how = OF_THE_SWAP;
                return Ok(StateSource::Live(Wanted::Instead { state, how, aside }));
            }
        };
        let version = restores.and_then(|restores| common_version(writes, restores));
        let wanted = match (restores, version, back) {
            (None, _, None) => return Err(refused(HandOverError::NoState)),
            (None, _, Some(_)) => instead(None, aside()),
            (Some(_), _, Some(back)) if back.takes_instead() => {
                let aside = aside().filter(|_| back.asks_the_bad_one());
                instead(back.state(), aside)
            }
            (Some(_), Some(version), _) => Wanted::Version(version),
            (Some(restores), None, back) => match back.filter(|it| it.gives_up_the_present()) {
                Some(back) => instead(back.state(), aside()),
                None => {
                    let (writes, restores) = (writes.writes.clone(), restores.restores.clone());
                    return Err(refused(HandOverError::NoCommonVersion { writes, restores }));
                }
            },
        };
        Ok(StateSource::Live(wanted))
    }

    /// The same when the live generation's process is gone: what was kept of it last.
    async fn source_of_one_down(
        &self,
        predecessor: &Predecessor,
        candidate: &Candidate,
    ) -> Result<StateSource, HandOverError> {
        let kept = self.state_kept_last(&predecessor.info).await;
        let kept =
            kept.map_err(|reason| HandOverError::Snapshot(StateError::Snapshot { reason }))?;
        let restores = candidate.manifest.state.as_ref().map(|state| &state.restores);
        match (kept, restores) {
            (Some(_), None) => Err(HandOverError::NoState),
            (Some(kept), Some(restores)) if !restores.contains(&kept.version) => {
                let (writes, restores) = (vec![kept.version], restores.clone());
                Err(HandOverError::NoCommonVersion { writes, restores })
            }
            (state, _) => {
                let how = if state.is_some() { LAST_KEPT } else { NOTHING };
                Ok(StateSource::Live(Wanted::Instead { state, how, aside: None }))
            }
        }
    }

    /// Waits until the state of every earlier generation of a plugin is kept; or else how long it
    /// has waited.
    pub(in crate::plugin::supervisor) async fn final_state_is_kept(
        &self,
        name: &str,
    ) -> Result<(), Duration> {
        let patience = (self.policies)(name).drain + FINAL_STATE;
        let kept = tokio::time::timeout(patience, self.departures.final_state_is_kept(name));
        kept.await.map_err(|_| patience)
    }

    /// Restores the new generation's state, with the plugin's events held if it comes from the live
    /// generation.
    pub(super) async fn state_arrives(
        &self,
        info: &GenerationInfo,
        new: &Arc<dyn LiveInstance>,
        predecessor: Option<&Predecessor>,
        source: StateSource,
    ) -> Result<Arrived, DeployError> {
        let refused = |source| DeployError::HandOver { file: info.file.clone(), source };
        let policy = (self.policies)(&info.plugin);
        match (source, predecessor) {
            (StateSource::Live(wanted), Some(predecessor)) => {
                let (mut how, is_its_own) = match &wanted {
                    Wanted::Version(_) => ("handed_over", true),
                    Wanted::Instead { how, .. } => (*how, false),
                };
                let mut handed = self.hand_over.run(predecessor, new, wanted, policy).await;
                let restores = info.manifest.state.as_ref().map_or(&[][..], |it| &it.restores);
                if let Err(error) = &handed
                    && is_its_own
                    && let Some(kept) = self.kept_in_place_of(predecessor, error, restores).await
                {
                    how = LAST_KEPT;
                    let wanted = Wanted::Instead { state: Some(kept), how, aside: None };
                    handed = self.hand_over.run(predecessor, new, wanted, policy).await;
                }
                let Some(handed) = handed.map_err(refused)? else {
                    return Ok(Arrived::nothing(how));
                };
                let HandedOver { held, snapshot, aside } = handed;
                let aside = match aside {
                    Some(given_up) => {
                        Some(self.keep_aside(&predecessor.info, given_up).await.map_err(refused)?)
                    }
                    None => None,
                };
                let restored = snapshot.clone();
                Ok(Arrived { held: Some(held), snapshot, restored, aside, ..Arrived::nothing(how) })
            }
            (StateSource::Kept(kept), _) => {
                let refused = |source| DeployError::Persist {
                    file: info.file.clone(),
                    source: Box::new(source),
                };
                let Some(persistence) = &self.persistence else {
                    return Ok(Arrived::nothing("none"));
                };
                let began = Instant::now();
                let (workers, limit) = (self.router.workers(), self.activation.init_timeout);
                let restored =
                    from_disk::restore_kept(workers, limit, info, new, persistence, kept).await;
                let RestoredFromDisk { snapshot, notice } = restored.map_err(refused)?;
                let mut timings = Timings::default();
                timings.note("restore", began.elapsed());
                let _ = info.hand_over.set(timings);
                let how = if notice.is_some() { "older" } else { "kept" };
                Ok(Arrived { restored: Some(snapshot), notice, ..Arrived::nothing(how) })
            }
            (StateSource::Orphaned(snapshot), _) => {
                let workers = self.router.workers();
                let (limit, live) = (self.activation.init_timeout, new.clone());
                let began = Instant::now();
                let restored = snapshot::restore(workers, live, snapshot.clone(), limit).await;
                restored.map_err(|source| DeployError::Persist {
                    file: info.file.clone(),
                    source: Box::new(source.into()),
                })?;
                let mut timings = Timings::default();
                timings.note("restore", began.elapsed());
                let _ = info.hand_over.set(timings);
                Ok(Arrived { restored: Some(snapshot), ..Arrived::nothing("kept") })
            }
            (StateSource::Nowhere | StateSource::Live(_), _) => Ok(Arrived::nothing("none")),
        }
    }

    /// Keeps on the disk what the live generation is about to lose. Where it is then, or why it is
    /// nowhere.
    pub(in crate::plugin::supervisor) async fn keep_aside(
        &self,
        predecessor: &GenerationInfo,
        given_up: GivenUp,
    ) -> Result<SetAsideResult, HandOverError> {
        let GivenUp { taken, required } = given_up;
        let snapshot = match taken {
            Ok(snapshot) => snapshot,
            // It may give one at another time.
            Err(error @ StateError::TimedOut { .. }) if required => {
                return Err(HandOverError::NotAside { reason: error.to_string() });
            }
            Err(error) => return Ok(Err(error.to_string())),
        };
        let Some(persistence) = &self.persistence else {
            let reason = "this host keeps no state on disk (`--state DIR`, state.dir)".to_owned();
            return match required {
                true => Err(HandOverError::NotAside { reason }),
                false => Ok(Err(reason)),
            };
        };
        let storing = persistence.store_aside(predecessor, snapshot);
        let stored = match tokio::time::timeout(ASIDE, storing).await {
            Ok(stored) => stored.map(|place| place.to_string()).map_err(|error| error.to_string()),
            Err(_) => Err(format!("it was not written within {ASIDE:?}")),
        };
        match stored {
            Err(reason) if required => Err(HandOverError::NotAside { reason }),
            stored => Ok(stored),
        }
    }
}
