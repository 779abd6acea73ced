//! The supervisor: takes a file through all steps to a live generation, and replaces or unloads generations.
//!
//! A transaction has one commit point, [`Router::change`]. Before it, a failure means that nothing happened: the live
//! generation goes on, and the reason is written down and announced.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout_at,
};

use super::{
    activate::{Activation, Leftover},
    announce::Announcer,
    deploy_error::DeployError,
    generation::{Facts, Generation, LiveInstance},
    ongoing::{One, Ongoing},
    prepare::{Candidate, Preparation},
    private_copy::{CopyError, PrivateCopy},
    registry::{LiveGeneration, RefusedFile, Registry},
    retire::{Retired, RetiredState, Retirer},
    turns::{Turn, Turns},
    watch::FolderWatch,
};
use crate::router::{Router, table::Owner};

/// How long a host that stops waits for libraries to leave memory, once nothing of them runs any more.
const UNMAP: Duration = Duration::from_secs(2);

/// What became of a file.
#[derive(Debug, Clone)]
pub(crate) struct Deployed {
    pub(crate) plugin: Arc<str>,
    pub(crate) version: String,
    pub(crate) generation: u64,
}

/// Runs load, reload and unload.
pub(crate) struct Supervisor {
    router: Arc<Router>,
    preparation: Arc<Preparation>,
    activation: Activation,
    retirer: Retirer,
    registry: Mutex<Registry>,
    announcer: Announcer,
    pub(super) turns: Arc<Turns>,
    watch: Mutex<Option<FolderWatch>>,
    /// Transactions behind the probe, and retirements, that a host waits for when it stops.
    transactions: Ongoing,
    retirements: Ongoing,
    /// Retirements up to the point where the instance is gone.
    drains: Ongoing,
    stopping: watch::Sender<bool>,
}

pub(super) enum Prepared {
    Candidate(Box<Candidate>),
    /// The live generation has the same bytes.
    Unchanged(Deployed),
}

impl Supervisor {
    pub(crate) fn new(preparation: Preparation, activation: Activation, retirer: Retirer) -> Self {
        Supervisor {
            announcer: Announcer::new(activation.router.clone()),
            router: activation.router.clone(),
            preparation: Arc::new(preparation),
            activation,
            retirer,
            registry: Mutex::default(),
            turns: Arc::default(),
            watch: Mutex::default(),
            transactions: Ongoing::new(),
            retirements: Ongoing::new(),
            drains: Ongoing::new(),
            stopping: watch::Sender::new(false),
        }
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self) -> MutexGuard<'_, Option<FolderWatch>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- what people ask for ----

    /// Loads a file, or replaces the plugin that it is.
    pub(crate) async fn load(self: &Arc<Self>, file: &Path) -> Result<Deployed, DeployError> {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        self.to_the_end(|supervisor| async move {
            let deployed = supervisor.deploy(&file, true).await;
            supervisor.note(&file, deployed)
        })
        .await
    }

    /// Replaces a plugin by what its file holds now, also when that has not changed.
    pub(crate) async fn reload(self: &Arc<Self>, name: &str) -> Result<Deployed, DeployError> {
        let file = match self.registry().plugins.get(name) {
            Some(plugin) => plugin.facts.file.clone(),
            None => return Err(DeployError::NoSuchPlugin { plugin: name.to_owned() }),
        };
        self.load(&file).await
    }

    /// Unloads a plugin because somebody asked for it.
    pub(crate) async fn unload(self: &Arc<Self>, name: &str) -> Result<Deployed, DeployError> {
        let name = name.to_owned();
        self.to_the_end(|supervisor| async move {
            supervisor.take_out(&name, None, "it was asked for").await
        })
        .await
    }

    /// Runs a transaction in a task of its own, so that it is not given up half-way when whoever asked goes away.
    async fn to_the_end<F>(
        self: &Arc<Self>,
        transaction: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<Deployed, DeployError>
    where
        F: Future<Output = Result<Deployed, DeployError>> + Send + 'static,
    {
        let task: JoinHandle<_> = self.router.site.runtime.spawn(transaction(self.clone()));
        task.await.unwrap_or(Err(DeployError::Stopping))
    }

    /// Takes a plugin out of the routing table and lets it go; if `expected` is given, only that generation.
    pub(super) async fn take_out(
        self: &Arc<Self>,
        name: &str,
        expected: Option<u64>,
        reason: &str,
    ) -> Result<Deployed, DeployError> {
        let name: Arc<str> = name.into();
        let turn = self.turns.take(Turn::Plugin(name.clone())).await;
        let (generation, retired) = self.disconnect(&name, expected)?;
        drop(turn);
        let facts = generation.facts.clone();
        tracing::info!(plugin = %name, generation = facts.number, "unloaded: {reason}");
        self.announcer.generation("module:unloaded", &facts, reason, json!({}));
        // Its end is not waited for here: whoever asked may be a call that it still has to finish.
        drop(self.retire_in_background(generation, retired));
        let duplicates = {
            let mut registry = self.registry();
            let forgotten = registry.forget_unloaded();
            forgotten.iter().for_each(|plugin| self.router.forget_plugin(plugin));
            registry.duplicates_of(&name)
        };
        if let Some(watch) = &*self.watch() {
            // One of them may be that plugin now.
            duplicates.into_iter().for_each(|file| watch.settle_again(file));
        }
        Ok(deployed(&facts))
    }

    /// Leaves a plugin without a route. Under its turn, or when the host stops.
    fn disconnect(
        &self,
        name: &Arc<str>,
        expected: Option<u64>,
    ) -> Result<(Generation, Arc<Retired>), DeployError> {
        let (generation, retired) = {
            let mut registry = self.registry();
            let Some(plugin) = registry.plugins.get_mut(name) else {
                return Err(DeployError::NoSuchPlugin { plugin: name.to_string() });
            };
            let is_expected = expected.is_none_or(|number| number == plugin.facts.number);
            let Some(generation) = plugin.live.take_if(|_| is_expected) else {
                return Err(DeployError::NotLive { plugin: name.to_string() });
            };
            let retired = Retired::new(generation.facts.number);
            plugin.remember(retired.clone());
            (generation, retired)
        };
        generation.host_side.detach();
        self.router.change(|table| table.without(name));
        Ok((generation, retired))
    }

    /// Lets every plugin go, the last started first, and waits until they are gone or `limit` is over.
    pub(crate) async fn stop(self: &Arc<Self>, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        self.stopping.send_replace(true);
        drop(self.watch().take());
        // What is on its way becomes live, or finds out that it may not any more. It gets half of the time: the rest is
        // for those that are live.
        if timeout_at(deadline - limit / 2, self.transactions.none()).await.is_err() {
            tracing::warn!("a plugin that is just being loaded does not get done");
        }
        // One after the other, because a plugin may need those that were started before it.
        let names = self.registry().last_started_first();
        for name in names {
            // Without its turn, which a generation that never gets started has for ever. Nothing is swapped any more.
            let Ok((generation, retired)) = self.disconnect(&name, None) else { continue };
            let facts = generation.facts.clone();
            let quiet = self.retire_in_background(generation, retired);
            if timeout_at(deadline, quiet).await.is_err() {
                tracing::warn!(plugin = %name, "it did not shut down in time");
            }
            self.announcer.generation("module:unloaded", &facts, "the host is stopping", json!({}));
        }
        if timeout_at(deadline, self.drains.none()).await.is_err() {
            tracing::warn!("not every call on a replaced generation ended in time");
        }
        // What is left is unmapping, which the end of a process does as well.
        let soon = deadline.min(tokio::time::Instant::now() + UNMAP);
        if timeout_at(soon, self.retirements.none()).await.is_err() {
            tracing::info!("not every library could be unmapped; see the causes above");
        }
    }

    // ---- the transaction ----

    pub(super) async fn deploy(
        self: &Arc<Self>,
        file: &Path,
        forced: bool,
    ) -> Result<Deployed, DeployError> {
        let _turn = self.turns.take(Turn::File(file.to_owned())).await;
        self.go_on()?;
        let prepared = self.prepare(file, forced).await?;
        self.finish(prepared).await
    }

    pub(super) async fn prepare(&self, file: &Path, forced: bool) -> Result<Prepared, DeployError> {
        let copied = self.preparation.copy(file).await?;
        match self.unchanged(file, &copied.copy).filter(|_| !forced) {
            Some(live) => Ok(Prepared::Unchanged(live)),
            None => Ok(Prepared::Candidate(Box::new(self.preparation.examine(copied).await?))),
        }
    }

    /// What is live from this file, if that has the same bytes.
    fn unchanged(&self, file: &Path, copy: &PrivateCopy) -> Option<Deployed> {
        let registry = self.registry();
        let plugin = registry.plugins.get(&registry.live_of(file)?.0)?;
        (plugin.facts.hash == copy.hash()).then(|| deployed(&plugin.facts))
    }

    /// From a candidate to the live generation: load, initialize, swap; then the old one goes.
    pub(super) async fn finish(
        self: &Arc<Self>,
        prepared: Prepared,
    ) -> Result<Deployed, DeployError> {
        let candidate = match prepared {
            Prepared::Candidate(candidate) => *candidate,
            Prepared::Unchanged(live) => {
                // A bad file lay there in between, and is gone.
                if let Some(plugin) = self.registry().plugins.get_mut(&live.plugin) {
                    plugin.last_error = None;
                }
                return Ok(live);
            }
        };
        let _transaction = self.transactions.begin();
        let name: Arc<str> = candidate.manifest.name.as_str().into();
        let turn = self.turns.take(Turn::Plugin(name.clone())).await;
        self.go_on()?;
        let (number, before) = self.admit(&name, &candidate)?;
        let file = candidate.file.clone();
        let (generation, instance) = match self.activation.initialize(number, candidate).await {
            Ok(activated) => activated,
            Err(failed) => {
                if let Some(leftover) = failed.leftover {
                    self.retire_leftover(&name, leftover);
                }
                return Err(failed.error);
            }
        };
        let facts = generation.facts.clone();
        let (live, unused) = LiveInstance::new(instance);
        let declared = self.activation.routes(&generation, &live);
        let generation = Generation { unused: Some(unused), ..generation };
        // The host may have begun to stop while it was initialized.
        let declared = match declared.and_then(|declared| self.go_on().map(|()| declared)) {
            Ok(declared) => declared,
            Err(error) => {
                drop(live);
                self.retire_leftover(&name, Leftover { generation, creating: None });
                return Err(error);
            }
        };
        let mut routes = generation.host_side.attach(&live);
        routes.push((Owner::Plugin(name.clone()), declared));
        if let Some(old) = &self.registry().plugins.get(&name).and_then(|old| old.live.as_ref()) {
            // What it subscribed to at run time goes with the swap, and nothing may be added after it.
            old.host_side.detach();
        }
        // The commit point.
        self.router.change(|table| table.swapped(&name, number, routes));
        drop(live);

        let old = self.registry().install(generation);
        let replaced = old.is_some();
        if let Some(old) = old {
            let retired = Retired::new(old.facts.number);
            if let Some(plugin) = self.registry().plugins.get_mut(&name) {
                plugin.remember(retired.clone());
            }
            drop(self.retire_in_background(old, retired));
        }
        drop(turn);
        // The file was another plugin before: that one has no file any more.
        if let Some((before, number)) = before.filter(|(before, _)| *before != name) {
            // It may have been replaced from another file meanwhile.
            let _ = self.take_out(&before, Some(number), "its file is another plugin now").await;
        }
        let version = facts.manifest.version.clone();
        let (event, reason) = match replaced {
            true => ("module:reloaded", "replaced by a new generation"),
            false => ("module:loaded", "loaded"),
        };
        tracing::info!(plugin = %name, %version, generation = number, file = %file.display(), "{reason}");
        self.announcer.generation(event, &facts, reason, json!({}));
        Ok(deployed(&facts))
    }

    /// Whether a candidate may become the next generation of `name`: its number, and the plugin that its file is now.
    fn admit(
        &self,
        name: &Arc<str>,
        candidate: &Candidate,
    ) -> Result<(u64, Option<LiveGeneration>), DeployError> {
        let mut registry = self.registry();
        if let Some(plugin) = registry.plugins.get(name) {
            let other = &plugin.facts.file;
            if plugin.live.is_some() && *other != candidate.file && other.exists() {
                let (file, other) = (candidate.file.clone(), other.clone());
                return Err(DeployError::Duplicate { file, plugin: name.clone(), other });
            }
        }
        if let Some(count) = registry.too_many(name) {
            return Err(DeployError::TooManyPinned { plugin: name.clone(), count });
        }
        Ok((registry.take_generation(name), registry.live_of(&candidate.file)))
    }

    /// Nothing is loaded any more once the host stops.
    fn go_on(&self) -> Result<(), DeployError> {
        match *self.stopping.borrow() {
            true => Err(DeployError::Stopping),
            false => Ok(()),
        }
    }

    // ---- afterwards ----

    /// Lets a generation go. What is returned resolves when its instance is gone.
    fn retire_in_background(
        self: &Arc<Self>,
        generation: Generation,
        retired: Arc<Retired>,
    ) -> oneshot::Receiver<()> {
        let (supervisor, ongoing, drain) =
            (self.clone(), self.retirements.begin(), self.drains.begin());
        let (quiet, is_quiet) = oneshot::channel();
        tokio::spawn(async move {
            supervisor.retire(generation, &retired, (quiet, drain)).await;
            drop(ongoing);
        });
        is_quiet
    }

    /// Retires a generation that was never live; if its `initialize` has not ended, once it has.
    fn retire_leftover(self: &Arc<Self>, name: &Arc<str>, leftover: Leftover) {
        let Leftover { mut generation, creating } = leftover;
        let retired = Retired::new(generation.facts.number);
        self.registry().remember(name, retired.clone());
        let (supervisor, ongoing, drain) =
            (self.clone(), self.retirements.begin(), self.drains.begin());
        let (quiet, _) = oneshot::channel();
        tokio::spawn(async move {
            // Its future is dropped at its next await. If it ended just now, its instance goes the usual way.
            if let Some(creating) = creating
                && let Some(Ok(instance)) = creating.cancel().await
            {
                let (live, unused) = LiveInstance::new(instance);
                drop(live);
                generation.unused = Some(unused);
            }
            supervisor.retire(generation, &retired, (quiet, drain)).await;
            drop(ongoing);
        });
    }

    async fn retire(
        &self,
        generation: Generation,
        retired: &Retired,
        (quiet, drain): (oneshot::Sender<()>, One),
    ) {
        let facts = generation.facts.clone();
        let quieted = self.retirer.quiesce(generation, retired).await;
        // Only a host that stops waits for this.
        let _ = quiet.send(());
        drop(drain);
        self.retirer.close(quieted, retired).await;
        let (unmapped, cause) = match retired.state() {
            RetiredState::Pinned(cause) => (false, Some(cause)),
            _ => (true, None),
        };
        tracing::debug!(plugin = %facts.plugin, generation = facts.number, unmapped, "retired");
        let more = json!({ "unmapped": unmapped, "cause": cause });
        self.announcer.generation("module:retired", &facts, "retired", more);
    }

    /// Writes down and announces why a file did not become live.
    pub(super) fn note(
        &self,
        file: &Path,
        deployed: Result<Deployed, DeployError>,
    ) -> Result<Deployed, DeployError> {
        let error = match deployed {
            Ok(deployed) => return Ok(deployed),
            Err(error @ DeployError::Stopping) => return Err(error),
            Err(DeployError::Copy(error @ CopyError::ChangedWhileCopying { .. })) => {
                if let Some(watch) = &*self.watch() {
                    watch.settle_again(file.to_owned());
                }
                return Err(DeployError::Copy(error));
            }
            Err(error) => error,
        };
        let reason = error.to_string();
        tracing::error!(file = %file.display(), "{reason}");
        let facts = {
            let mut registry = self.registry();
            let live = registry.live_of(file);
            let plugin = live.and_then(|(name, _)| registry.plugins.get_mut(&name));
            let facts = plugin.map(|plugin| {
                plugin.last_error = Some(reason.clone());
                plugin.facts.clone()
            });
            // A path that somebody asked for and where nothing is needs no entry.
            if facts.is_none() && std::fs::symlink_metadata(file).is_ok() {
                let duplicate_of = match &error {
                    DeployError::Duplicate { plugin, .. } => Some(plugin.clone()),
                    _ => None,
                };
                let refused = RefusedFile { reason: reason.clone(), duplicate_of };
                registry.refuse(file, refused);
            }
            facts
        };
        match facts {
            Some(facts) => {
                self.announcer.generation("module:reload_failed", &facts, &reason, json!({}))
            }
            None => self.announcer.refused(file, &reason),
        }
        Err(error)
    }
}

fn deployed(facts: &Facts) -> Deployed {
    let (plugin, version) = (facts.plugin.clone(), facts.manifest.version.clone());
    Deployed { plugin, version, generation: facts.number }
}
