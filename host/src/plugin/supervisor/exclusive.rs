//! Exclusive replacement: the old instance is released before the new one is made.
//!
//! A plugin that holds what two cannot hold (a database file, a device, a port) asks for it in its
//! manifest, or its operator does. Its events are held, the calls inside end, the old instance
//! gives its snapshot and is *released*: its tasks and subscriptions end, its shutdown handlers
//! run, and it is dropped. Only then the new one is initialized and restored. The swap is that of
//! every other replacement.
//!
//! Invariant: no two instances of such a plugin are alive at a time. Before the release, a failure
//! means that nothing has happened. After it, an instance of the old library is made again, of the
//! same generation: number, counters, probation and the versions to go back to are as they were,
//! and only what an instance is (tasks, subscriptions) is new. It gets the snapshot, and the held
//! events (`reinstate.rs`). If even that fails, the plugin is not live any more: every event that
//! waits gets an outcome, the snapshot is kept for whoever comes next, and the file is tried again.
//!
//! Nothing here knows what the instances hold.

mod snapshots;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{error::Elapsed, timeout};

use self::snapshots::{Next, Snapshots};
use super::{
    Supervisor,
    origin::{Arrived, Ready, StateSource},
};
use crate::plugin::{
    file::manifest::Manifest,
    instance::{
        body::{Body, Unused},
        live::NoInstance,
    },
    lifecycle::{
        error::DeployError,
        from_disk::{self, RestoredFromDisk},
        hand_over::{HandOverError, Held, PATIENCE, Predecessor, Wanted, not_aside},
        prepare::Candidate,
    },
    state::snapshot::{self, Snapshot, StateError},
};

/// What an earlier instance gets to be gone, beyond the drain timeout, before a new one is made.
const GONE: Duration = Duration::from_secs(20);

const RESTORED: &str = "its snapshot was restored";

impl Supervisor {
    /// Whether two generations of a plugin must not be alive at a time, because one of them says
    /// so.
    pub(super) fn exclude_each_other(&self, old: &Manifest, new: &Manifest) -> bool {
        self.is_exclusive(old) || self.is_exclusive(new)
    }

    /// Whether a generation of a plugin that is not live has to wait for those before it: either of
    /// them says so.
    pub(super) fn waits_for_instances(&self, name: &str, new: &Manifest) -> bool {
        let before = self.registry().plugins.get(name).map(|plugin| plugin.info.clone());
        self.is_exclusive(new) || before.is_some_and(|info| self.is_exclusive(&info.manifest))
    }

    /// Waits until no instance of a plugin is there any more, but for a live one.
    pub(in crate::plugin) async fn instances_are_gone(
        &self,
        name: &str,
        file: &Path,
    ) -> Result<(), DeployError> {
        let after = (self.policies)(name).drain + GONE;
        timeout(after, self.departures.instances_are_gone(name)).await.map_err(|_: Elapsed| {
            let source = HandOverError::NotReleased { after };
            DeployError::HandOver { file: file.to_owned(), source }
        })
    }

    /// Makes the next generation in the place of the live one, which gives up its instance for it.
    pub(super) async fn make_in_place_of(
        self: &Arc<Self>,
        predecessor: &Predecessor,
        number: u64,
        mut candidate: Candidate,
        source: StateSource,
    ) -> Result<(Ready, Arrived), DeployError> {
        // All that can be done while the old instance works.
        if candidate.residence.is_none() {
            candidate.residence = Some(self.activation.open(&mut candidate).await?);
        }
        let file = candidate.file.clone();
        let restores = candidate.manifest.state.as_ref().map(|state| state.restores.clone());
        let restores = restores.unwrap_or_default();
        let policy = (self.policies)(&predecessor.info.plugin);
        let mut held =
            self.hand_over.hold(&predecessor.services.session().gate_now(), policy).await;
        let refused = |source| DeployError::HandOver { file: file.clone(), source };
        let released = async {
            let bad = matches!(source, StateSource::Live(Wanted::Instead { .. }));
            let required = matches!(&source, StateSource::Live(wanted) if wanted.requires_aside());
            let quiet = tokio::select! {
                biased;
                quiet = held.quiet(predecessor, bad) => quiet,
                // Nobody is to be cancelled for what does not happen any more.
                () = self.stop.requested() => return Err(DeployError::Stopping),
            };
            quiet.map_err(|error| refused(not_aside(required, error)))?;
            let snapshots = self.snapshots(predecessor, source, &restores, &mut held).await;
            let mut snapshots = snapshots.map_err(refused)?;
            let aside = match snapshots.given_up.take() {
                Some(given_up) => {
                    Some(self.keep_aside(&predecessor.info, given_up).await.map_err(refused)?)
                }
                None => None,
            };
            // There is no way back from here, and a host that stops goes no further.
            self.ensure_running()?;
            let own = snapshots.own.clone();
            let instance = self.reclaim(predecessor, &held, bad, own).await.map_err(refused)?;
            Ok((snapshots, aside, instance))
        };
        let (snapshots, aside, instance) = match released.await {
            Ok(released) => released,
            Err(error) => return Err(self.let_go_unused(candidate, error)),
        };
        let Snapshots { next, own, own_is, how, .. } = snapshots;
        let ready = match self.release(predecessor, instance, &mut held).await {
            Ok(()) => self.successor(number, candidate, next, &mut held).await,
            Err(source) => Err(self.let_go_unused(candidate, refused(source))),
        };
        match ready {
            Ok((ready, restored)) => {
                let (restored, notice) = match restored {
                    Some(RestoredFromDisk { snapshot, notice }) => (Some(snapshot), notice),
                    None => (None, None),
                };
                let how = if notice.is_some() { "older" } else { how };
                let (held, snapshot) = (Some(held), own);
                Ok((ready, Arrived { held, snapshot, restored, notice, aside, how }))
            }
            Err(error) => Err(self.reinstate(predecessor, (own, own_is), held, error).await),
        }
    }

    /// Takes the instance out of everybody's reach, and gives it, unless its process has ended and
    /// it was let go of for that. On an error it is where it was. A host that stops finds its state
    /// in the registry as long as there is no other instance.
    async fn reclaim(
        &self,
        predecessor: &Predecessor,
        held: &Held,
        bad: bool,
        own: Option<Snapshot>,
    ) -> Result<Option<Box<dyn Body>>, HandOverError> {
        let (info, is_down) = (&predecessor.info, predecessor.is_down());
        let unused = {
            let mut registry = self.registry();
            let plugin = registry.plugins.get_mut(&info.plugin);
            let live = plugin.filter(|plugin| plugin.info.number == info.number);
            live.and_then(|plugin| {
                let unused = plugin.live.as_mut()?.unused.take();
                if unused.is_none() && !is_down {
                    return None;
                }
                plugin.released = true;
                plugin.released_with = own;
                Some(unused)
            })
        };
        // A host that stops has let it go meanwhile.
        let gone = || HandOverError::Snapshot(StateError::gone());
        let unused = unused.ok_or_else(gone)?;
        predecessor.services.session().suspend();
        self.router.redirect(&info.plugin, Arc::new(NoInstance));
        let Some(mut unused) = unused else { return Ok(None) };
        let busy = match self.comes_free(predecessor, held, bad, &mut unused).await {
            Ok(instance) => return Ok(Some(instance)),
            Err(busy) => busy,
        };
        let Some(live) = predecessor.live.upgrade() else {
            // It has come free just now.
            return unused.await.map(Some).map_err(|_| gone());
        };
        predecessor.services.resume(live.clone());
        self.router.redirect(&info.plugin, live);
        let mut registry = self.registry();
        if let Some(plugin) = registry.plugins.get_mut(&info.plugin) {
            plugin.released = false;
            plugin.released_with = None;
            if let Some(generation) = &mut plugin.live {
                generation.unused = Some(unused);
            }
        }
        Err(busy)
    }

    /// Waits until nobody uses the instance. Calls have ended by then, save those that entered
    /// before there was a gate; whoever keeps its state at this moment still has it.
    async fn comes_free(
        &self,
        predecessor: &Predecessor,
        held: &Held,
        bad: bool,
        unused: &mut Unused,
    ) -> Result<Box<dyn Body>, HandOverError> {
        let after = held.rest();
        if let Ok(Ok(instance)) = timeout(after, &mut *unused).await {
            return Ok(instance);
        }
        if (self.policies)(&predecessor.info.plugin).keep_calls && !bad {
            return Err(predecessor.busy(after));
        }
        predecessor.cancel_calls();
        match timeout(PATIENCE, unused).await {
            Ok(Ok(instance)) => Ok(instance),
            _ => Err(predecessor.busy(after)),
        }
    }

    /// Ends all that the old instance does, shuts it down and drops it. From here on there is no
    /// way back to it.
    async fn release(
        &self,
        predecessor: &Predecessor,
        instance: Option<Box<dyn Body>>,
        held: &mut Held,
    ) -> Result<(), HandOverError> {
        let (info, began) = (&predecessor.info, Instant::now());
        predecessor.services.detach();
        let leaving = self.departures.begin_instance(&info.plugin);
        let release = self.retirer.release(info, &predecessor.services, instance, true);
        self.thread.runtime().spawn(async move {
            release.await;
            drop(leaving);
        });
        let after = self.retirer.release_limit(info);
        // Those of earlier attempts have to be gone as well.
        let gone = timeout(after, self.departures.instances_are_gone(&info.plugin)).await;
        held.note("release", began);
        gone.map_err(|_: Elapsed| HandOverError::NotReleased { after })
    }

    /// Initializes the new version and gives it its state.
    async fn successor(
        self: &Arc<Self>,
        number: u64,
        candidate: Candidate,
        next: Next,
        held: &mut Held,
    ) -> Result<(Ready, Option<RestoredFromDisk>), DeployError> {
        let file = candidate.file.clone();
        let refused = |source| DeployError::HandOver { file: file.clone(), source };
        let step = "the new version was initialized";
        let limit = held.rest().min(self.activation.init_timeout);
        let mut full = None;
        let given_up = async {
            tokio::select! {
                overfull = held.full(step) => full = Some(overfull),
                // What is not live by now never will be.
                () = self.stop.requested() => {}
            }
        };
        let initialized = self.initialized(number, candidate, limit, given_up).await;
        let (generation, live) = initialized.map_err(|error| match (error, full) {
            (DeployError::InitTimedOut { .. }, Some(full)) => refused(full),
            (DeployError::InitTimedOut { after, .. }, None) => {
                refused(HandOverError::NotReady { after })
            }
            (error, _) => error,
        })?;
        let began = Instant::now();
        let restored = match (next, &self.persistence) {
            (Next::Snapshot(snapshot), _) => {
                let workers = self.router.workers();
                let restore =
                    snapshot::restore(workers, live.clone(), snapshot.clone(), held.rest());
                let restored = held.while_waiting(RESTORED, restore).await;
                let restored = restored.and_then(|it| it.map_err(HandOverError::Restore));
                restored
                    .map(|()| Some(RestoredFromDisk { snapshot, notice: None }))
                    .map_err(refused)
            }
            (Next::Kept(kept), Some(persistence)) => {
                let (workers, limit) = (self.router.workers(), self.activation.init_timeout);
                let info = &generation.info;
                let restore =
                    from_disk::restore_kept(workers, limit, info, &live, persistence, kept);
                match held.while_waiting(RESTORED, restore).await {
                    Ok(Ok(restored)) => Ok(Some(restored)),
                    Ok(Err(source)) => {
                        Err(DeployError::Persist { file: file.clone(), source: Box::new(source) })
                    }
                    Err(full) => Err(refused(full)),
                }
            }
            (Next::Nothing | Next::Kept(_), _) => Ok(None),
        };
        held.note("restore", began);
        self.ready(generation, live, restored)
    }

    /// The state of a generation of a plugin that went without a successor.
    pub(super) fn orphaned(&self, name: &str) -> Option<Snapshot> {
        self.registry().plugins.get(name)?.orphaned.clone()
    }

    /// Forgets it. Whether there was some.
    pub(super) fn forget_orphaned(&self, name: &str) -> bool {
        let mut registry = self.registry();
        registry.plugins.get_mut(name).is_some_and(|plugin| plugin.orphaned.take().is_some())
    }
}
