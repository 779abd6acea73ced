//! A deployment: from a file to the live generation of a plugin, in place of the one before.
//!
//! It has one commit point, [`Router::swap`](ksi_kernel::router::Router::swap) in
//! `commit.rs`. Before it, a failure means that nothing happened: the live generation goes on, with
//! all events that waited for its state.
//!
//! What a candidate is tried with is in `trying.rs`, whether it is let in in `admit.rs` and
//! `contracts.rs`, where its state comes from in `state.rs`, and what is noted and told after the
//! swap in `installed.rs`. Several that go live as one are in `together.rs`; what would become of
//! files that nobody deploys, in `check.rs`.

mod admit;
pub(crate) mod check;
mod commit;
pub(super) mod contracts;
mod installed;
mod state;
mod together;
mod trying;

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use super::{
    Deployed, Supervisor, deployed,
    origin::{Admitted, Arrived, Attempt, Found, Origin, Prepared, Ready, StateSource},
    retry::DeployReason,
};
use crate::{
    plugin::{
        file::copy::{CopyError, PrivateCopy},
        instance::{
            generation::Generation,
            live::{FirstCalls, LiveInstance},
        },
        lifecycle::{
            activate::Leftover,
            error::DeployError,
            hand_over::Predecessor,
            prepare::{Candidate, Examined},
        },
    },
    sync::keyed_lock::{LockGuard, LockKey},
};

use commit::Change;

impl Supervisor {
    pub(super) async fn deploy(
        self: &Arc<Self>,
        file: &Path,
        why: DeployReason,
        attempt: &Attempt,
    ) -> Result<Deployed, DeployError> {
        let _lock = self.locks.lock(LockKey::File(file.to_owned())).await;
        self.ensure_running()?;
        let _try = self.tries.begin();
        let prepared = self.prepare(file, why, attempt).await?;
        self.finish(prepared, Origin::File(attempt.by.clone())).await
    }

    /// Copies a file, reads what it is and lets it be tried. Several files at a time.
    async fn prepare(
        self: &Arc<Self>,
        file: &Path,
        why: DeployReason,
        attempt: &Attempt,
    ) -> Result<Prepared, DeployError> {
        match self.look_into(file, why, attempt).await? {
            Found::Unchanged(live) => Ok(Prepared::Unchanged(live)),
            Found::New(examined) => self.try_out(*examined).await,
        }
    }

    /// Copies a file and reads what it is.
    pub(super) async fn look_into(
        self: &Arc<Self>,
        file: &Path,
        why: DeployReason,
        attempt: &Attempt,
    ) -> Result<Found, DeployError> {
        let copied = self.preparation.copy(file, why == DeployReason::Changed).await?;
        attempt.is_of(copied.copy.hash());
        if why != DeployReason::Asked
            && let Some(live) = self.unchanged(file, &copied.copy)
        {
            // Whatever lay there in between is gone.
            let mut registry = self.registry();
            registry.retries.forget(file);
            registry.wait_for(file, &[]);
            registry.refuse_for(file, &[]);
            if let Some(plugin) = registry.plugins.get_mut(&live.plugin) {
                plugin.last_error = None;
            }
            drop(registry);
            self.quarantine.forget_rollback(file);
            return Ok(Found::Unchanged(live));
        }
        // Nobody has looked whether the new content stands still.
        if !self.begin_try(file, copied.copy.hash(), why, &attempt.by)? {
            return Err(CopyError::ChangedWhileCopying { path: file.to_owned() }.into());
        }
        Ok(Found::New(Box::new(self.preparation.examine(copied).await?)))
    }

    /// Has what it needs be there, and lets it be tried.
    pub(super) async fn try_out(&self, examined: Examined) -> Result<Prepared, DeployError> {
        let trial = self.trial(&examined).await;
        Ok(Prepared::Candidate(Box::new(self.preparation.probe(examined, trial).await?)))
    }

    /// What is live from this file, if that has the same bytes.
    fn unchanged(&self, file: &Path, copy: &PrivateCopy) -> Option<Deployed> {
        let registry = self.registry();
        let plugin = registry.plugins.get(&registry.live_of(file)?.0)?;
        (plugin.info.hash == copy.hash()).then(|| deployed(&plugin.info))
    }

    /// The live generation of a plugin.
    pub(super) fn predecessor(&self, name: &str) -> Option<Predecessor> {
        let registry = self.registry();
        let live = registry.plugins.get(name)?.live.as_ref()?;
        let (info, services) = (live.info.clone(), live.services.clone());
        Some(Predecessor { info, services, live: live.live.clone() })
    }

    /// From a candidate to the live generation: load, initialize, hand state over, swap; then the
    /// old one goes.
    pub(super) async fn finish(
        self: &Arc<Self>,
        prepared: Prepared,
        origin: Origin,
    ) -> Result<Deployed, DeployError> {
        let mut candidate = match prepared {
            Prepared::Candidate(candidate) => *candidate,
            Prepared::Unchanged(live) => return Ok(live),
        };
        let _deploy = self.deploys.begin();
        let name: Arc<str> = candidate.manifest.name.as_str().into();
        let lock = self.locks.lock(LockKey::Plugin(name.clone())).await;
        let admitted = match self.admit(&name, &mut candidate, &origin).await {
            Ok(admitted) => admitted,
            Err(error) => {
                // It may have counted as a version of its plugin for a while.
                if !matches!(error, DeployError::Contract { .. }) {
                    self.wake_refused_for(&name);
                }
                return Err(self.let_go_unused(candidate, error));
            }
        };
        let finished = self.finish_admitted(candidate, admitted, origin, lock).await;
        // Its plugin is another one now; or it is not, and counted as one until here.
        self.wake_refused_for(&name);
        finished
    }

    async fn finish_admitted(
        self: &Arc<Self>,
        candidate: Candidate,
        admitted: Admitted,
        origin: Origin,
        lock: LockGuard,
    ) -> Result<Deployed, DeployError> {
        let Admitted { number, before, predecessor, source, passed } = admitted;
        let file = candidate.file.clone();
        let made = match &predecessor {
            Some(predecessor)
                if self.exclude_each_other(&predecessor.info.manifest, &candidate.manifest) =>
            {
                self.make_in_place_of(predecessor, number, candidate, source).await?
            }
            predecessor => {
                self.make_beside(predecessor.as_ref(), number, candidate, source).await?
            }
        };
        let (ready, arrived) = made;
        let change = Change { file, origin, ready, arrived, predecessor, before, passed, lock };
        Ok(self.commit(change).await)
    }

    /// Makes the next generation while the live one, if there is one, goes on; events wait for the
    /// state alone.
    async fn make_beside(
        self: &Arc<Self>,
        predecessor: Option<&Predecessor>,
        number: u64,
        candidate: Candidate,
        source: StateSource,
    ) -> Result<(Ready, Arrived), DeployError> {
        let limit = self.activation.init_timeout;
        // A host that stops swaps nothing any more, so nobody needs what is not there yet.
        let stopped = self.stop.requested();
        let (generation, live) = self.initialized(number, candidate, limit, stopped).await?;
        // Events that are held for it go on to the generation that stays; what it reads from the
        // disk stays there.
        let arrived = tokio::select! {
            biased;
            arrived = self.state_arrives(&generation.info, &live, predecessor, source) => arrived,
            () = self.stop.requested() => Err(DeployError::Stopping),
        };
        self.ready(generation, live, arrived)
    }

    /// An instance of a candidate, which nothing leads to yet.
    pub(super) async fn initialized(
        self: &Arc<Self>,
        number: u64,
        candidate: Candidate,
        limit: Duration,
        given_up: impl Future<Output = ()>,
    ) -> Result<(Generation, Arc<dyn LiveInstance>), DeployError> {
        let name: Arc<str> = candidate.manifest.name.as_str().into();
        match self.activation.initialize(number, candidate, limit, given_up).await {
            Ok((generation, instance)) => {
                // What a process of its own dies of, the host does not.
                let here = generation.residence.is_here();
                let journal = self.activation.journal.clone().filter(|_| here);
                let first_calls = FirstCalls { info: generation.info.clone(), journal };
                let (live, unused) = instance.into_live(first_calls);
                let weak = Arc::downgrade(&live);
                Ok((Generation { live: weak, unused: Some(unused), ..generation }, live))
            }
            Err(failed) => {
                if let Some(leftover) = failed.leftover {
                    self.let_go_leftover(&name, leftover);
                }
                Err(match failed.error {
                    // It was given up, and may be well.
                    DeployError::InitTimedOut { .. } if self.ensure_running().is_err() => {
                        DeployError::Stopping
                    }
                    error => error,
                })
            }
        }
    }

    /// What can be swapped in, once its state has arrived; or else it is let go.
    pub(super) fn ready<T>(
        self: &Arc<Self>,
        generation: Generation,
        live: Arc<dyn LiveInstance>,
        arrived: Result<T, DeployError>,
    ) -> Result<(Ready, T), DeployError> {
        let ready = arrived.and_then(|arrived| {
            let declared = self.activation.routes(&generation, &live)?;
            // The host may have begun to stop meanwhile.
            self.ensure_running().map(|()| (arrived, declared))
        });
        match ready {
            Ok((arrived, declared)) => Ok((Ready { generation, live, declared }, arrived)),
            Err(error) => {
                drop(live);
                let name = generation.info.plugin.clone();
                self.let_go_leftover(&name, Leftover { generation, creating: None });
                Err(error)
            }
        }
    }
}
