//! The supervisor: takes files through all steps to live generations, and replaces or unloads
//! generations.
//!
//! What people ask for is here. How a file is loaded and replaced is in [`deploy`], how a
//! generation is let go [`letting_go`], going back to an earlier version [`rollback`], what becomes
//! of files that did not become a plugin [`retry`], and how all of them go when the host stops
//! [`stop`].

// What the folders say
mod follow;
// is deployed,
pub(crate) mod deploy;
mod origin;
// in another order if two cannot be alive,
mod exclusive;
mod reinstate;
// and remembered.
pub(crate) mod registry;
// What was replaced goes,
mod letting_go;
// and may come back.
mod kept_good;
pub(crate) mod quarantine;
mod rollback;
// What has ended by itself is started again.
pub(crate) mod restart;
// with what was kept of it.
pub(crate) mod checkpoint;
// What did not become a plugin is tried again.
pub(crate) mod retry;
// What people ask for, and time.
pub(crate) mod configure;
#[cfg(test)]
mod fake;
mod keep_state;
pub(crate) mod state_by_hand;
mod stop;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard},
};

use ksi_kernel::lock::Lock;
use ksi_kernel::router::Router;
use ksi_wire::module::HistoryBy;
use tokio::task::JoinHandle;

use super::{
    announce::Announcer,
    file::{manifest::Manifest, watch::FolderWatch},
    instance::{generation::Generation, info::GenerationInfo},
    lifecycle::{
        activate::Activation,
        contracts::ContractPolicies,
        departures::Departures,
        error::DeployError,
        hand_over::HandOver,
        policy::Policies,
        prepare::Preparation,
        retire::{FinalState, Retirer},
        retired::Retired,
    },
    state::persistence::Persistence,
};
use crate::{
    start_up::StartUp,
    stopping::StopHandle,
    sync::{
        keyed_lock::{KeyedLock, LockKey},
        task_tracker::TaskTracker,
    },
    system::own_thread::OwnThread,
    text::causes::with_causes,
};
use deploy::contracts::Agreement;
use kept_good::Keeping;
use origin::Attempt;
use quarantine::Quarantine;
use registry::Registry;
use restart::RestartPolicies;
use retry::{DeployReason, RetryPolicy};
use rollback::{Asked, Cost};

/// What became of a file.
#[derive(Debug, Clone)]
pub(crate) struct Deployed {
    pub(crate) plugin: Arc<str>,
    pub(crate) version: String,
    pub(crate) generation: u64,
    /// What people call the snapshot of state that was given up, or why there is none; `None` if
    /// none was.
    pub(crate) aside: Option<SetAsideResult>,
    /// What the change has cost.
    pub(crate) lost: Option<Cost>,
}

/// What people call the snapshot of state that was given up, or why there is none.
pub(crate) type SetAsideResult = Result<String, String>;

/// Runs load, reload and unload.
pub(crate) struct Supervisor {
    /// Where deployments and retirements run.
    pub(crate) thread: OwnThread,
    router: Arc<Router>,
    preparation: Arc<Preparation>,
    pub(crate) activation: Activation,
    retirer: Retirer,
    hand_over: HandOver,
    pub(crate) persistence: Option<Arc<Persistence>>,
    policies: Policies,
    contracts: Agreement,
    recovery: RetryPolicy,
    pub(crate) quarantine: Quarantine,
    keeping: Keeping,
    /// How many earlier versions of a plugin can be gone back to.
    kept_versions: usize,
    restarts: RestartPolicies,
    registry: Lock<Registry>,
    announcer: Announcer,
    locks: Arc<KeyedLock>,
    watch: Lock<Option<FolderWatch>>,
    /// Files that are being tried, from their copy on.
    tries: TaskTracker,
    /// Deployments behind the probe, which a host waits for when it stops.
    deploys: TaskTracker,
    departures: Departures,
    stop: StopHandle,
    start_up: StartUp,
}

/// What a supervisor is made of.
pub(crate) struct Parts {
    pub(crate) thread: OwnThread,
    pub(crate) preparation: Preparation,
    pub(crate) activation: Activation,
    pub(crate) retirer: Retirer,
    pub(crate) persistence: Option<Arc<Persistence>>,
    pub(crate) policies: Policies,
    pub(crate) contracts: ContractPolicies,
    pub(crate) recovery: RetryPolicy,
    pub(crate) quarantine: Quarantine,
    pub(crate) kept_versions: usize,
    pub(crate) restarts: RestartPolicies,
    pub(crate) announcer: Announcer,
    pub(crate) stop: StopHandle,
    pub(crate) start_up: StartUp,
}

impl Supervisor {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            thread,
            preparation,
            activation,
            retirer,
            persistence,
            policies,
            contracts,
            recovery,
            quarantine,
            kept_versions,
            restarts,
            announcer,
            stop,
            start_up,
        } = parts;
        let preparation = Arc::new(preparation);
        preparation.keep_fresh(thread.runtime());
        Supervisor {
            thread,
            announcer,
            hand_over: HandOver::new(activation.router.clone()),
            router: activation.router.clone(),
            preparation,
            activation,
            retirer,
            persistence,
            policies,
            contracts: Agreement::new(contracts),
            recovery,
            quarantine,
            keeping: Keeping::default(),
            kept_versions,
            restarts,
            registry: Lock::default(),
            locks: Arc::default(),
            watch: Lock::default(),
            tries: TaskTracker::new(),
            deploys: TaskTracker::new(),
            departures: Departures::new(),
            stop,
            start_up,
        }
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock()
    }

    fn watch(&self) -> MutexGuard<'_, Option<FolderWatch>> {
        self.watch.lock()
    }

    /// Loads a file, or replaces the plugin that it is.
    pub(crate) async fn load(
        self: &Arc<Self>,
        file: &Path,
        by: &HistoryBy,
    ) -> Result<Deployed, DeployError> {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let attempt = Attempt::by(by.clone());
        self.to_the_end(|supervisor| async move {
            let deployed = supervisor.deploy(&file, DeployReason::Asked, &attempt).await;
            supervisor.note(&file, &attempt, deployed)
        })
        .await
    }

    /// Loads files, or replaces the plugins that they are, as one change: all of them go live by
    /// one swap, or none does.
    pub(crate) async fn load_together(
        self: &Arc<Self>,
        files: &[PathBuf],
        by: &HistoryBy,
    ) -> Result<Vec<Deployed>, DeployError> {
        let by = by.clone();
        let absolute = |file: &PathBuf| std::path::absolute(file).unwrap_or_else(|_| file.clone());
        let files: BTreeSet<PathBuf> = files.iter().map(absolute).collect();
        self.to_the_end(|supervisor| async move {
            let deployed = supervisor.deploy_together(&files, &by).await;
            // Nothing is noted of the files: one that is well by itself is not to go live alone
            // later on, and none is worse than it was for another one.
            deployed.map_err(|failed| {
                let (file, source) = *failed;
                let error = DeployError::Together { source: Box::new(source) };
                let reason = with_causes(&error).to_string();
                tracing::error!(file = %file.display(), "{reason}");
                supervisor.announcer.refused_with_others(&file, &by, &reason);
                error
            })
        })
        .await
    }

    /// Replaces a plugin by what its file holds now, also when that has not changed.
    pub(crate) async fn reload(
        self: &Arc<Self>,
        name: &str,
        by: &HistoryBy,
    ) -> Result<Deployed, DeployError> {
        let file = match self.registry().plugins.get(name) {
            Some(plugin) => plugin.info.file.clone(),
            None => return Err(DeployError::NoSuchPlugin { plugin: name.to_owned() }),
        };
        self.load(&file, by).await
    }

    /// Unloads a plugin because somebody asked for it.
    pub(crate) async fn unload(
        self: &Arc<Self>,
        name: &str,
        by: &HistoryBy,
    ) -> Result<Deployed, DeployError> {
        let (name, by) = (name.to_owned(), by.clone());
        {
            // A newer version that lies in its file and is to be tried again would bring it back.
            let mut registry = self.registry();
            let file = registry.plugins.get(&*name).map(|plugin| plugin.info.file.clone());
            if let Some(file) = file {
                registry.retries.give_up(&file);
                registry.wait_for(&file, &[]);
                registry.refuse_for(&file, &[]);
            }
        }
        self.to_the_end(|supervisor| async move {
            supervisor.take_out(&name, None, &by, "it was asked for").await
        })
        .await
    }

    /// Goes back to the version of a plugin before the live one because somebody asked for it.
    /// If that gives up some of its state, only with `force`.
    pub(crate) async fn rollback(
        self: &Arc<Self>,
        name: &str,
        force: bool,
        by: &HistoryBy,
    ) -> Result<Deployed, DeployError> {
        let (name, by) = (name.to_owned(), by.clone());
        self.to_the_end(|supervisor| async move {
            supervisor.go_back(&name, Asked::ByHand { force }, &by, "it was asked for").await
        })
        .await
    }

    /// Runs a deployment in a task of its own, so that it is not given up half-way when whoever
    /// asked goes away.
    async fn to_the_end<T, E, F>(
        self: &Arc<Self>,
        work: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DeployError> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let task: JoinHandle<_> = self.thread.runtime().spawn(work(self.clone()));
        task.await.unwrap_or_else(|error| Err(DeployError::from(error).into()))
    }

    /// Takes a plugin out of the routing table and lets it go; if `expected` is given, only that
    /// generation.
    async fn take_out(
        self: &Arc<Self>,
        name: &str,
        expected: Option<u64>,
        by: &HistoryBy,
        reason: &str,
    ) -> Result<Deployed, DeployError> {
        let name: Arc<str> = name.into();
        let lock = self.locks.lock(LockKey::Plugin(name.clone())).await;
        let (generation, retired) = self.disconnect(&name, expected)?;
        let info = generation.info.clone();
        self.activation.resources.give_back(&name);
        tracing::info!(plugin = %name, generation = info.number, "unloaded: {reason}");
        self.announcer.unloaded(&info, by, reason);
        // Its end is not waited for here: whoever asked may be a call that it still has to finish.
        drop(self.let_go(generation, retired, FinalState::Keep));
        drop(lock);
        let duplicates = {
            let mut registry = self.registry();
            let forgotten = registry.forget_unloaded();
            forgotten.iter().for_each(|plugin| self.router.forget_plugin(plugin));
            registry.duplicates_of(&name)
        };
        // One of them may be that plugin now.
        self.settle_again(duplicates);
        Ok(deployed(&info))
    }

    /// Looks at files once more, although they have not changed.
    fn settle_again(&self, files: Vec<PathBuf>) {
        if let Some(watch) = &*self.watch() {
            files.into_iter().for_each(|file| watch.settle_again(file));
        }
    }

    /// Leaves a plugin without a route. Under its lock, or when the host stops.
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
            let is_expected = expected.is_none_or(|number| number == plugin.info.number);
            // One that was released has nothing to be shut down; whoever released it sees to the
            // rest.
            let is_expected = is_expected && !plugin.released;
            let Some(generation) = plugin.live.take_if(|_| is_expected) else {
                return Err(DeployError::NotLive { plugin: name.to_string() });
            };
            let retired = Retired::new(&generation.info);
            plugin.remember(retired.clone());
            plugin.previous.clear();
            plugin.probation = None;
            plugin.checkpoints = None;
            (generation, retired)
        };
        generation.services.detach();
        self.router.withdraw(name);
        self.wake_refused_for(name);
        Ok((generation, retired))
    }

    /// Whether an old generation is to be released before this one is initialized.
    pub(crate) fn is_exclusive(&self, manifest: &Manifest) -> bool {
        self.activation.is_exclusive(manifest)
    }

    /// Nothing is loaded any more once the host stops.
    fn ensure_running(&self) -> Result<(), DeployError> {
        match self.stop.is_requested() {
            true => Err(DeployError::Stopping),
            false => Ok(()),
        }
    }
}

fn deployed(info: &GenerationInfo) -> Deployed {
    let (plugin, version) = (info.plugin.clone(), info.manifest.version.clone());
    Deployed { plugin, version, generation: info.number, aside: None, lost: None }
}

#[cfg(test)]
mod tests;
