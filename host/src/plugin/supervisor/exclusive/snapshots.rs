//! What the old instance of an exclusive replacement has, and what the new one is to get.

use std::time::Instant;

use super::super::{Supervisor, checkpoint::LAST_KEPT, origin::StateSource};
use crate::plugin::{
    lifecycle::hand_over::{GivenUp, HandOverError, Held, Predecessor, Wanted, not_aside},
    state::{persistence::KeptSnapshot, snapshot::Snapshot},
};

/// The snapshots of a replacement.
pub(super) struct Snapshots {
    /// For the new version.
    pub(super) next: Next,
    /// For the old one, if it has to be made again.
    pub(super) own: Option<Snapshot>,
    /// For people: what that is.
    pub(super) own_is: &'static str,
    /// What is given up, if that is asked for.
    pub(super) given_up: Option<GivenUp>,
    /// For people and programs: what the new version gets.
    pub(super) how: &'static str,
}

/// What a new version is restored from.
pub(super) enum Next {
    Nothing,
    Snapshot(Snapshot),
    /// What is kept on the disk, where there may be older ones as well.
    Kept(KeptSnapshot),
}

const ITS_STATE: &str = "with its state";
const NO_STATE: &str = "which keeps no state";
const OTHER_STATE: &str =
    "with the state that was to take the place of its own, of which it gave no snapshot";
const KEPT_STATE: &str = "with what was kept of its state last";
const LOST_STATE: &str = "without its state, of which it gave no snapshot";

impl Supervisor {
    /// What the old instance has, and what the new one is to get that restores these versions.
    pub(super) async fn snapshots(
        &self,
        predecessor: &Predecessor,
        source: StateSource,
        restores: &[u32],
        held: &mut Held,
    ) -> Result<Snapshots, HandOverError> {
        let began = Instant::now();
        let snapshots = match source {
            StateSource::Nowhere => without_own(Next::Nothing, "none"),
            StateSource::Kept(kept) => without_own(Next::Kept(kept), "kept"),
            StateSource::Orphaned(snapshot) => without_own(Next::Snapshot(snapshot), "kept"),
            StateSource::Live(Wanted::Version(version)) => {
                match self.handed_over(predecessor, version, held).await {
                    Ok((next, own)) => {
                        let (next, own, own_is) = (Next::Snapshot(next), Some(own), ITS_STATE);
                        Snapshots { next, own, own_is, given_up: None, how: "handed_over" }
                    }
                    Err(error) => {
                        let kept = self.kept_in_place_of(predecessor, &error, restores).await;
                        let kept = kept.ok_or(error)?;
                        let own = self.state_kept_last(&predecessor.info).await.ok().flatten();
                        let (own, own_is) = (own.or_else(|| Some(kept.clone())), KEPT_STATE);
                        let next = Next::Snapshot(kept);
                        Snapshots { next, own, own_is, given_up: None, how: LAST_KEPT }
                    }
                }
            }
            // It is not relied upon, but it may have to go on.
            StateSource::Live(Wanted::Instead { state: next, how, aside }) => {
                let taken = match predecessor.info.writes() {
                    Some(version) => {
                        let taken =
                            predecessor.snapshot(self.router.workers(), version, held.rest());
                        let required = aside.is_some_and(|aside| aside.required);
                        let taken = held.while_waiting("its snapshot was taken", taken).await;
                        Some(taken.map_err(|error| not_aside(required, error))?)
                    }
                    None => None,
                };
                let is_own = matches!(taken, Some(Ok(_)));
                let own = taken.clone().and_then(Result::ok).or_else(|| next.clone());
                let given_up = aside.zip(taken);
                let given_up =
                    given_up.map(|(aside, taken)| GivenUp { taken, required: aside.required });
                let own_is = match (&own, is_own) {
                    (Some(_), true) => ITS_STATE,
                    (Some(_), false) => OTHER_STATE,
                    (None, _) => LOST_STATE,
                };
                let next = next.map_or(Next::Nothing, Next::Snapshot);
                Snapshots { next, own, own_is, given_up, how }
            }
        };
        held.note("snapshot", began);
        Ok(snapshots)
    }

    /// What the old instance has for the new one, and for another one of its own.
    async fn handed_over(
        &self,
        predecessor: &Predecessor,
        version: u32,
        held: &Held,
    ) -> Result<(Snapshot, Snapshot), HandOverError> {
        let next = self.snapshot(predecessor, version, held).await?;
        let own = match predecessor.info.writes().filter(|own| *own != version) {
            Some(own) => self.snapshot(predecessor, own, held).await?,
            None => next.clone(),
        };
        Ok((next, own))
    }

    async fn snapshot(
        &self,
        predecessor: &Predecessor,
        version: u32,
        held: &Held,
    ) -> Result<Snapshot, HandOverError> {
        let taken = predecessor.snapshot(self.router.workers(), version, held.rest());
        let taken = held.while_waiting("its snapshot was taken", taken).await?;
        taken.map_err(HandOverError::Snapshot)
    }
}

/// The old instance keeps no state.
fn without_own(next: Next, how: &'static str) -> Snapshots {
    Snapshots { next, own: None, own_is: NO_STATE, given_up: None, how }
}
