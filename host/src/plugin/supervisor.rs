//! The supervisor: takes a file through all steps to a live generation, and replaces or unloads generations.
//!
//! A transaction has one commit point, [`Router::change`]. Before it, a failure means that nothing happened: the live
//! generation goes on, and the reason is written down and announced.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    activate::{Activation, Leftover},
    announce::Announcer,
    deploy_error::DeployError,
    generation::{Generation, LiveInstance},
    prepare::{Candidate, Preparation},
    private_copy::{CopyError, PrivateCopy},
    registry::{PINNED, RefusedFile, Registry},
    retire::{Retired, RetiredState, Retirer},
    turns::{Turn, Turns},
    watch::{Change, FolderWatch},
};
use crate::router::{Router, table::Owner};

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
    turns: Arc<Turns>,
    watch: Mutex<Option<FolderWatch>>,
    stopping: watch::Sender<bool>,
}

enum Prepared {
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
            stopping: watch::Sender::new(false),
        }
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) -> MutexGuard<'_, Option<FolderWatch>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- what the folder says ----

    /// Loads what is in the folders, then follows their changes until the host stops.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        folders: FolderWatch,
        mut changes: mpsc::Receiver<Change>,
    ) {
        let found = folders.found().to_vec();
        *self.watch() = Some(folders);
        self.load_all(found).await;
        let supervisor = self.clone();
        let mut stopping = self.stopping.subscribe();
        tokio::spawn(async move {
            loop {
                let change = tokio::select! {
                    change = changes.recv() => change,
                    _ = stopping.wait_for(|stopping| *stopping) => return,
                };
                let supervisor = supervisor.clone();
                match change {
                    // Each in its own task: a file that is slow to start holds up no other. Changes of one file wait
                    // for their turn, and a change whose content is live already is no work.
                    Some(Change::Settled(file)) => {
                        tokio::spawn(async move { supervisor.file_settled(&file).await });
                    }
                    Some(Change::Removed(file)) => {
                        tokio::spawn(async move { supervisor.file_removed(&file).await });
                    }
                    None => return,
                }
            }
        });
    }

    /// Copies, reads and probes all at once; initializes one after the other, by file name.
    async fn load_all(self: &Arc<Self>, files: Vec<PathBuf>) {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let places = Arc::new(tokio::sync::Semaphore::new(cores * 2));
        let preparing: Vec<_> = files
            .into_iter()
            .map(|file| {
                let (supervisor, places) = (self.clone(), places.clone());
                tokio::spawn(async move {
                    let _place = places.acquire().await;
                    let prepared = supervisor.prepare(&file, false).await;
                    (file, prepared)
                })
            })
            .collect();
        for prepared in preparing {
            match prepared.await {
                Ok((file, prepared)) => {
                    let _turn = self.turns.take(Turn::File(file.clone())).await;
                    let deployed = match prepared {
                        Ok(prepared) => self.finish(prepared).await,
                        Err(error) => Err(error),
                    };
                    // What went wrong is written down, logged and announced by then.
                    let _ = self.note(&file, deployed);
                }
                Err(error) => tracing::error!(%error, "a plugin file could not be prepared"),
            }
        }
    }

    async fn file_settled(self: &Arc<Self>, file: &Path) {
        let deployed = self.deploy(file, false).await;
        let _ = self.note(file, deployed);
    }

    async fn file_removed(self: &Arc<Self>, file: &Path) {
        let turn = self.turns.take(Turn::File(file.to_owned())).await;
        let live = {
            let mut registry = self.registry();
            registry.refused.remove(file);
            registry.live_of(file)
        };
        if let Some(name) = live
            && let Err(error) = self.take_out(&name, "its file was removed").await
        {
            tracing::warn!(plugin = %name, "{error}");
        }
        drop(turn);
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
        self.to_the_end(
            |supervisor| async move { supervisor.take_out(&name, "it was asked for").await },
        )
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

    /// Takes a plugin out of the routing table and lets it go.
    async fn take_out(self: &Arc<Self>, name: &str, reason: &str) -> Result<Deployed, DeployError> {
        let name: Arc<str> = name.into();
        let turn = self.turns.take(Turn::Plugin(name.clone())).await;
        let (generation, retired, duplicates) = {
            let mut registry = self.registry();
            let duplicates = registry.duplicates_of(&name);
            let Some(plugin) = registry.plugins.get_mut(&name) else {
                return Err(DeployError::NoSuchPlugin { plugin: name.to_string() });
            };
            let Some(generation) = plugin.live.take() else {
                return Err(DeployError::NotLive { plugin: name.to_string() });
            };
            let retired = Retired::new(generation.facts.number);
            plugin.remember(retired.clone());
            let forgotten = registry.forget_unloaded();
            forgotten.iter().for_each(|plugin| self.router.forget_plugin(plugin));
            (generation, retired, duplicates)
        };
        let facts = generation.facts.clone();
        self.router.change(|table| table.without(&name));
        generation.host_side.detach();
        drop(turn);
        tracing::info!(plugin = %name, generation = facts.number, "unloaded: {reason}");
        self.announcer.generation("module:unloaded", &facts, reason, json!({}));
        self.retire_in_background(generation, retired);
        if let Some(watch) = &*self.watch() {
            // One of them may be that plugin now.
            duplicates.into_iter().for_each(|file| watch.settle_again(file));
        }
        Ok(Deployed {
            plugin: name,
            version: facts.manifest.version.clone(),
            generation: facts.number,
        })
    }

    /// Lets every plugin go, the last started first, and waits until they are gone or `limit` is over.
    pub(crate) async fn stop(self: &Arc<Self>, limit: Duration) {
        self.stopping.send_replace(true);
        drop(self.watch().take());
        let names = self.registry().last_started_first();
        let mut closing = Vec::new();
        let deadline = tokio::time::Instant::now() + limit;
        for name in names {
            let _turn = self.turns.take(Turn::Plugin(name.clone())).await;
            let taken = {
                let mut registry = self.registry();
                registry.plugins.get_mut(&name).and_then(|plugin| {
                    let generation = plugin.live.take()?;
                    let retired = Retired::new(generation.facts.number);
                    plugin.remember(retired.clone());
                    Some((generation, retired))
                })
            };
            let Some((generation, retired)) = taken else { continue };
            self.router.change(|table| table.without(&name));
            generation.host_side.detach();
            let facts = generation.facts.clone();
            let supervisor = self.clone();
            let (quiet, is_quiet) = tokio::sync::oneshot::channel();
            closing.push(tokio::spawn(async move {
                let quieted = supervisor.retirer.quiesce(generation, &retired).await;
                // The next plugin waits for this; if the host does not wait any longer, nobody does.
                let _ = quiet.send(());
                supervisor.retirer.close(quieted, &retired).await;
            }));
            // One after the other, because a plugin may need those that were started before it. One that does not end
            // keeps the others waiting for no longer than the host waits at all.
            if tokio::time::timeout_at(deadline, is_quiet).await.is_err() {
                tracing::warn!(plugin = %name, "it did not shut down in time");
            }
            self.announcer.generation("module:unloaded", &facts, "the host is stopping", json!({}));
        }
        for closing in closing {
            let _ = tokio::time::timeout_at(deadline, closing).await;
        }
    }

    // ---- the transaction ----

    async fn deploy(self: &Arc<Self>, file: &Path, forced: bool) -> Result<Deployed, DeployError> {
        let _turn = self.turns.take(Turn::File(file.to_owned())).await;
        if *self.stopping.borrow() {
            return Err(DeployError::Stopping);
        }
        let prepared = self.prepare(file, forced).await?;
        self.finish(prepared).await
    }

    async fn prepare(&self, file: &Path, forced: bool) -> Result<Prepared, DeployError> {
        let copied = self.preparation.copy(file).await?;
        match self.unchanged(file, &copied.copy).filter(|_| !forced) {
            Some(live) => Ok(Prepared::Unchanged(live)),
            None => Ok(Prepared::Candidate(Box::new(self.preparation.examine(copied).await?))),
        }
    }

    /// What is live from this file, if that has the same bytes.
    fn unchanged(&self, file: &Path, copy: &PrivateCopy) -> Option<Deployed> {
        let registry = self.registry();
        let plugin = registry.plugins.get(&registry.live_of(file)?)?;
        (plugin.facts.hash == copy.hash()).then(|| Deployed {
            plugin: plugin.facts.plugin.clone(),
            version: plugin.facts.manifest.version.clone(),
            generation: plugin.facts.number,
        })
    }

    /// From a candidate to the live generation: load, initialize, swap; then the old one goes.
    async fn finish(self: &Arc<Self>, prepared: Prepared) -> Result<Deployed, DeployError> {
        let candidate = match prepared {
            Prepared::Candidate(candidate) => *candidate,
            Prepared::Unchanged(deployed) => return Ok(deployed),
        };
        let name: Arc<str> = candidate.manifest.name.as_str().into();
        let turn = self.turns.take(Turn::Plugin(name.clone())).await;
        if *self.stopping.borrow() {
            return Err(DeployError::Stopping);
        }
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
        let declared = match declared {
            Ok(declared) => declared,
            Err(error) => {
                drop(live);
                self.retire_leftover(&name, Leftover { generation, creating: None });
                return Err(error);
            }
        };
        let mut routes = generation.host_side.attach(&live);
        routes.push((Owner::Plugin(name.clone()), declared));
        // The commit point.
        self.router.change(|table| table.swapped(&name, number, routes));
        drop(live);

        let old = self.registry().install(generation);
        let replaced = old.is_some();
        if let Some(old) = old {
            old.host_side.detach();
            let retired = Retired::new(old.facts.number);
            if let Some(plugin) = self.registry().plugins.get_mut(&name) {
                plugin.remember(retired.clone());
            }
            self.retire_in_background(old, retired);
        }
        drop(turn);
        // The file was another plugin before: that one has no file any more.
        if let Some(before) = before.filter(|before| *before != name)
            && let Err(error) = self.take_out(&before, "its file is another plugin now").await
        {
            tracing::warn!(plugin = %before, "{error}");
        }
        let version = facts.manifest.version.clone();
        let (event, reason) = match replaced {
            true => ("module:reloaded", "replaced by a new generation"),
            false => ("module:loaded", "loaded"),
        };
        tracing::info!(plugin = %name, %version, generation = number, file = %file.display(), "{reason}");
        self.announcer.generation(event, &facts, reason, json!({}));
        Ok(Deployed { plugin: name, version, generation: number })
    }

    /// Whether a candidate may become the next generation of `name`: its number, and the plugin that its file is now.
    fn admit(
        &self,
        name: &Arc<str>,
        candidate: &Candidate,
    ) -> Result<(u64, Option<Arc<str>>), DeployError> {
        let mut registry = self.registry();
        if let Some(plugin) = registry.plugins.get(name) {
            let other = &plugin.facts.file;
            if plugin.live.is_some() && *other != candidate.file && other.exists() {
                let (file, other) = (candidate.file.clone(), other.clone());
                return Err(DeployError::Duplicate { file, plugin: name.clone(), other });
            }
        }
        let count = registry.lingering(name);
        if count >= PINNED {
            return Err(DeployError::TooManyPinned { plugin: name.clone(), count });
        }
        Ok((registry.take_generation(name), registry.live_of(&candidate.file)))
    }

    // ---- afterwards ----

    fn retire_in_background(self: &Arc<Self>, generation: Generation, retired: Arc<Retired>) {
        let supervisor = self.clone();
        tokio::spawn(async move { supervisor.retire(generation, &retired).await });
    }

    /// Retires a generation that was never live; if its `initialize` has not ended, once it has.
    fn retire_leftover(self: &Arc<Self>, name: &Arc<str>, leftover: Leftover) {
        let Leftover { mut generation, creating } = leftover;
        let retired = Retired::new(generation.facts.number);
        self.registry().remember(name, retired.clone());
        let supervisor = self.clone();
        tokio::spawn(async move {
            // Its future is dropped at its next await. If it ended just now, its instance goes the usual way.
            if let Some(creating) = creating
                && let Some(Ok(instance)) = creating.cancel().await
            {
                let (live, unused) = LiveInstance::new(instance);
                drop(live);
                generation.unused = Some(unused);
            }
            supervisor.retire(generation, &retired).await;
        });
    }

    async fn retire(self: &Arc<Self>, generation: Generation, retired: &Retired) {
        let facts = generation.facts.clone();
        let quiet = self.retirer.quiesce(generation, retired).await;
        self.retirer.close(quiet, retired).await;
        let (unmapped, cause) = match retired.state() {
            RetiredState::Pinned(cause) => (false, Some(cause)),
            _ => (true, None),
        };
        tracing::debug!(plugin = %facts.plugin, generation = facts.number, unmapped, "retired");
        let more = json!({ "unmapped": unmapped, "cause": cause });
        self.announcer.generation("module:retired", &facts, "retired", more);
    }

    /// Writes down and announces why a file did not become live.
    fn note(
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
            let plugin = live.and_then(|name| registry.plugins.get_mut(&name));
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
