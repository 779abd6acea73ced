//! The supervisor: takes a file through all steps to a live generation, and replaces or unloads generations.
//!
//! A transaction has one commit point, [`Router::change`]. Before it, a failure means that nothing happened: the live
//! generation goes on, and the reason is written down and announced.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use ksi_plugin_api::{
    Description, NameError, Pattern,
    abi::{ABI_VERSION, CallEnd, HostRef, Instance, ModuleRef, module},
};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::{OwnedMutexGuard, watch};

use super::{
    generation::{Facts, Generation, LiveInstance, SHUTDOWN_EVENT, Timings},
    host_side::{HostSide, HostSideLimits},
    load::{LoadError, PluginLibrary},
    manifest::{HandlerManifest, Manifest, ManifestError, read_manifest},
    private_copy::{CopyError, PrivateCopy, PrivateDir},
    probe::{ProbeError, Prober, describe_module},
    registry::{PINNED, RefusedFile, Registry},
    retire::{Retired, RetiredState, Retirer},
    watch::{Change, FolderWatch},
};
use crate::{
    event::{NewEvent, Payload},
    report::OutcomeKind,
    router::{
        Router,
        emit::NewTarget,
        table::{Owner, Route},
    },
};

/// Why a file did not become the live generation of a plugin.
#[derive(Debug, Error)]
pub enum DeployError {
    /// The file could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Its bytes are not those of a plugin for this host.
    #[error("{file} is refused: {source}", file = .file.display())]
    Manifest {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The probe found it unfit.
    #[error("{file} is refused: {source}", file = .file.display())]
    Probe {
        /// The file.
        file: PathBuf,
        /// What the probe found.
        source: ProbeError,
    },
    /// Another file is that plugin already.
    #[error(
        "{file} is refused: it is a plugin named {plugin:?}, and so is {other}, which is live. Remove one of them, or \
         rename one of the plugins", file = .file.display(), other = .other.display()
    )]
    Duplicate {
        /// The file.
        file: PathBuf,
        /// The name of both.
        plugin: Arc<str>,
        /// The file that is live.
        other: PathBuf,
    },
    /// Its library could not be loaded.
    #[error("{file} is refused: {source}", file = .file.display())]
    Load {
        /// The file.
        file: PathBuf,
        /// At which step.
        source: LoadError,
    },
    /// It cannot describe itself.
    #[error("{file} is refused: {reason}", file = .file.display())]
    Describe {
        /// The file.
        file: PathBuf,
        /// What it says instead.
        reason: String,
    },
    /// A subscription of its manifest is none.
    #[error("{file} is refused: its handler {handler:?} has a bad subscription: {source}", file = .file.display())]
    Subscription {
        /// The file.
        file: PathBuf,
        /// The handler.
        handler: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// Its `initialize` failed or panicked.
    #[error("{plugin} of {file} did not initialize: {reason}", file = .file.display())]
    Init {
        /// The plugin.
        plugin: Arc<str>,
        /// The file.
        file: PathBuf,
        /// The error or the panic.
        reason: String,
    },
    /// Its `initialize` did not end.
    #[error(
        "{plugin} of {file} did not initialize within {after} (timeouts.init)",
        file = .file.display(), after = humantime::format_duration(*.after)
    )]
    InitTimedOut {
        /// The plugin.
        plugin: Arc<str>,
        /// The file.
        file: PathBuf,
        /// What it was given.
        after: Duration,
    },
    /// Too many of its old generations are still in memory.
    #[error(
        "{plugin} is not replaced any more: {count} replaced generations of it are still in memory. Find out from \
         module:inspect what pins them, and restart the host"
    )]
    TooManyPinned {
        /// The plugin.
        plugin: Arc<str>,
        /// How many.
        count: usize,
    },
    /// There is no such plugin.
    #[error("there is no plugin named {plugin:?}; `ksi list` shows those there are")]
    NoSuchPlugin {
        /// The name.
        plugin: String,
    },
    /// The plugin is not live.
    #[error("{plugin} is not live")]
    NotLive {
        /// The name.
        plugin: String,
    },
    /// The host is stopping.
    #[error("the host is stopping and loads nothing any more")]
    Stopping,
}

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
    dir: PrivateDir,
    prober: Option<Prober>,
    init_timeout: Duration,
    limits: HostSideLimits,
    epoch: Instant,
    configs: HashMap<String, Vec<u8>>,
    retirer: Retirer,
    registry: Mutex<Registry>,
    /// One transaction at a time for each file, and for each plugin.
    turns: Mutex<HashMap<Turn, Arc<tokio::sync::Mutex<()>>>>,
    watch: Mutex<Option<FolderWatch>>,
    stopping: watch::Sender<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Turn {
    File(PathBuf),
    Plugin(Arc<str>),
}

/// What a supervisor is made from.
pub(crate) struct SupervisorParts {
    pub(crate) router: Arc<Router>,
    pub(crate) dir: PrivateDir,
    pub(crate) prober: Option<Prober>,
    pub(crate) init_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) limits: HostSideLimits,
    pub(crate) epoch: Instant,
    /// Each plugin's configuration, encoded.
    pub(crate) configs: HashMap<String, Vec<u8>>,
}

/// A file that was copied, read and probed.
struct Candidate {
    file: PathBuf,
    copy: PrivateCopy,
    manifest: Manifest,
    /// `None` when there was no probe.
    description: Option<Description>,
    timings: Timings,
}

enum Prepared {
    Candidate(Box<Candidate>),
    /// The live generation has the same bytes.
    Unchanged(Deployed),
}

impl Supervisor {
    pub(crate) fn new(parts: SupervisorParts) -> Self {
        let retirer = Retirer {
            router: parts.router.clone(),
            drain: parts.drain_timeout,
            shutdown: parts.shutdown_timeout,
            turn: tokio::sync::Mutex::default(),
        };
        Supervisor {
            router: parts.router,
            dir: parts.dir,
            prober: parts.prober,
            init_timeout: parts.init_timeout,
            limits: parts.limits,
            epoch: parts.epoch,
            configs: parts.configs,
            retirer,
            registry: Mutex::default(),
            turns: Mutex::default(),
            watch: Mutex::default(),
            stopping: watch::Sender::new(false),
        }
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- what the folder says ----

    /// Loads what is in the folders, then follows their changes until the host stops.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        folders: FolderWatch,
        mut changes: tokio::sync::mpsc::Receiver<Change>,
    ) {
        let found = folders.found().to_vec();
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(folders);
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
                    let _turn = self.turn(Turn::File(file.clone())).await;
                    let deployed = match prepared {
                        Ok(prepared) => self.finish(prepared).await,
                        Err(error) => Err(error),
                    };
                    // What went wrong is written down, logged and announced by then.
                    let _ = self.note(&file, deployed).await;
                }
                Err(error) => tracing::error!(%error, "a plugin file could not be prepared"),
            }
        }
    }

    async fn file_settled(self: &Arc<Self>, file: &Path) {
        let deployed = self.deploy(file, false).await;
        let _ = self.note(file, deployed).await;
    }

    async fn file_removed(self: &Arc<Self>, file: &Path) {
        let turn = self.turn(Turn::File(file.to_owned())).await;
        let live = {
            let mut registry = self.registry();
            registry.refused.remove(file);
            registry.live_of(file)
        };
        if let Some(name) = live
            && let Err(error) = self.unload(&name, "its file was removed").await
        {
            tracing::warn!(plugin = %name, "{error}");
        }
        drop(turn);
        self.forget_turn(&Turn::File(file.to_owned()));
    }

    // ---- what people ask for ----

    /// Loads a file, or replaces the plugin that it is.
    pub(crate) async fn load(self: &Arc<Self>, file: &Path) -> Result<Deployed, DeployError> {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let deployed = self.deploy(&file, true).await;
        self.note(&file, deployed).await
    }

    /// Replaces a plugin by what its file holds now, also when that has not changed.
    pub(crate) async fn reload(self: &Arc<Self>, name: &str) -> Result<Deployed, DeployError> {
        let file = match self.registry().plugins.get(name) {
            Some(plugin) => plugin.facts.file.clone(),
            None => return Err(DeployError::NoSuchPlugin { plugin: name.to_owned() }),
        };
        self.load(&file).await
    }

    /// Takes a plugin out of the routing table and lets it go.
    pub(crate) async fn unload(
        self: &Arc<Self>,
        name: &str,
        reason: &str,
    ) -> Result<Deployed, DeployError> {
        let name: Arc<str> = name.into();
        let turn = self.turn(Turn::Plugin(name.clone())).await;
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
            (generation, retired, duplicates)
        };
        let facts = generation.facts.clone();
        self.router.change(|table| table.without(&name));
        generation.host_side.detach();
        drop(turn);
        tracing::info!(plugin = %name, generation = facts.number, "unloaded: {reason}");
        self.announce("module:unloaded", &facts, reason, json!({})).await;
        self.retire_in_background(generation, retired);
        if let Some(watch) = &*self.watch.lock().unwrap_or_else(PoisonError::into_inner) {
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
        drop(self.watch.lock().unwrap_or_else(PoisonError::into_inner).take());
        let names = self.registry().last_started_first();
        let mut closing = Vec::new();
        let deadline = tokio::time::Instant::now() + limit;
        for name in names {
            let _turn = self.turn(Turn::Plugin(name.clone())).await;
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
            self.announce("module:unloaded", &facts, "the host is stopping", json!({})).await;
        }
        for closing in closing {
            let _ = tokio::time::timeout_at(deadline, closing).await;
        }
    }

    // ---- the transaction ----

    async fn deploy(self: &Arc<Self>, file: &Path, forced: bool) -> Result<Deployed, DeployError> {
        let _turn = self.turn(Turn::File(file.to_owned())).await;
        if *self.stopping.borrow() {
            return Err(DeployError::Stopping);
        }
        let prepared = self.prepare(file, forced).await?;
        self.finish(prepared).await
    }

    /// Everything that needs no turn: private copy, manifest, probe.
    async fn prepare(self: &Arc<Self>, file: &Path, forced: bool) -> Result<Prepared, DeployError> {
        let mut timings = Timings::default();
        let started = Instant::now();
        let (supervisor, path) = (self.clone(), file.to_owned());
        let copied = tokio::task::spawn_blocking(move || {
            let label =
                path.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy());
            supervisor.dir.copy(&path, &label)
        });
        let (copy, bytes) = match copied.await {
            Ok(copied) => copied?,
            Err(_) => return Err(DeployError::Stopping),
        };
        timings.note("copy", started.elapsed());
        if !forced && let Some(live) = self.unchanged(file, &copy) {
            return Ok(Prepared::Unchanged(live));
        }
        let started = Instant::now();
        let manifest = read_manifest(&bytes, ABI_VERSION)
            .map_err(|source| DeployError::Manifest { file: file.to_owned(), source })?;
        drop(bytes);
        timings.note("manifest", started.elapsed());
        let started = Instant::now();
        let description = match &self.prober {
            Some(prober) => Some(
                prober
                    .probe(copy.path())
                    .await
                    .map_err(|source| DeployError::Probe { file: file.to_owned(), source })?,
            ),
            None => None,
        };
        timings.note("probe", started.elapsed());
        let file = file.to_owned();
        Ok(Prepared::Candidate(Box::new(Candidate { file, copy, manifest, description, timings })))
    }

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
        let turn = self.turn(Turn::Plugin(name.clone())).await;
        if *self.stopping.borrow() {
            return Err(DeployError::Stopping);
        }
        let (number, before) = self.admit(&name, &candidate)?;
        let file = candidate.file.clone();
        let (generation, instance) = self.initialize(name.clone(), number, candidate).await?;
        let facts = generation.facts.clone();

        let (live, unused) = LiveInstance::new(instance);
        let declared = self.routes(&generation, &live, &facts);
        let declared = match declared {
            Ok(declared) => declared,
            Err(error) => {
                drop(live);
                let generation = Generation { unused: Some(unused), ..generation };
                self.retire_in_background(generation, Retired::new(number));
                return Err(error);
            }
        };
        let mut routes = generation.host_side.attach(&live);
        routes.push((Owner::Plugin(name.clone()), declared));
        let generation = Generation { unused: Some(unused), ..generation };
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
            && let Err(error) = self.unload(&before, "its file is another plugin now").await
        {
            tracing::warn!(plugin = %before, "{error}");
        }
        let version = facts.manifest.version.clone();
        let (event, reason) = match replaced {
            true => ("module:reloaded", "replaced by a new generation"),
            false => ("module:loaded", "loaded"),
        };
        tracing::info!(plugin = %name, %version, generation = number, file = %file.display(), "{reason}");
        self.announce(event, &facts, reason, json!({})).await;
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
            let count = plugin.lingering();
            if count >= PINNED {
                return Err(DeployError::TooManyPinned { plugin: name.clone(), count });
            }
        }
        Ok((registry.next_generation(name), registry.live_of(&candidate.file)))
    }

    /// Opens the library and makes the instance, both on dispatch workers.
    async fn initialize(
        self: &Arc<Self>,
        name: Arc<str>,
        number: u64,
        candidate: Candidate,
    ) -> Result<(Generation, Instance), DeployError> {
        let Candidate { file, copy, manifest, description, mut timings } = candidate;
        let workers = &self.router.site.workers;
        let started = Instant::now();
        let path = copy.path().to_owned();
        let opened = workers.spawn(async move { PluginLibrary::open(&path) }).await;
        let library = opened.map_err(|source| DeployError::Load { file: file.clone(), source })?;
        timings.note("load", started.elapsed());

        let host_side = HostSide::new(
            name.clone(),
            number,
            self.router.clone(),
            self.limits.clone(),
            self.epoch,
        );
        let started = Instant::now();
        let (library, created) = self.create(library, description, &name, &host_side).await;
        timings.note("init", started.elapsed());
        let (description, instance, failure) = match created {
            Ok((description, instance)) => (description, Some(instance), None),
            Err(failure) => (Description::default(), None, Some(failure)),
        };
        let handlers = OnceLock::new();
        let hash = copy.hash();
        let facts = Facts {
            plugin: name.clone(),
            number,
            manifest,
            description,
            file: file.clone(),
            hash,
            handlers,
            timings,
        };
        let generation =
            Generation { facts: Arc::new(facts), host_side, unused: None, library, copy };
        match (instance, failure) {
            (Some(instance), _) => Ok((generation, instance)),
            (None, failure) => {
                generation.host_side.detach();
                let retired = Retired::new(number);
                let error = match failure {
                    Some(NotCreated::Failed(reason)) => {
                        self.retire_in_background(generation, retired);
                        DeployError::Init { plugin: name, file, reason }
                    }
                    Some(NotCreated::Undescribed(reason)) => {
                        self.retire_in_background(generation, retired);
                        DeployError::Describe { file, reason }
                    }
                    Some(NotCreated::TimedOut(ended)) => {
                        self.retire_when(ended, generation, retired);
                        DeployError::InitTimedOut { plugin: name, file, after: self.init_timeout }
                    }
                    None => DeployError::Stopping,
                };
                Err(error)
            }
        }
    }

    async fn create(
        &self,
        library: PluginLibrary,
        description: Option<Description>,
        name: &Arc<str>,
        host_side: &Arc<HostSide>,
    ) -> (PluginLibrary, Result<(Description, Instance), NotCreated>) {
        let workers = &self.router.site.workers;
        let (library, description) = match description {
            Some(description) => (library, description),
            None => {
                let (library, described) = workers
                    .spawn(async move {
                        let described = describe_module(&library);
                        (library, described)
                    })
                    .await;
                match described {
                    Ok(description) => (library, description),
                    Err(reason) => return (library, Err(NotCreated::Undescribed(reason))),
                }
            }
        };
        let module: ModuleRef = library.module;
        let config = self.configs.get(&**name).cloned().unwrap_or_else(|| b"{}".to_vec());
        let host = HostRef::new(host_side.clone());
        let mut task = workers.spawn(async move { module::create(module, host, &config).await });
        match tokio::time::timeout(self.init_timeout, &mut task).await {
            Ok(Ok(instance)) => (library, Ok((description, instance))),
            Ok(Err(end)) => (library, Err(NotCreated::Failed(reason_of(end)))),
            Err(_) => (library, Err(NotCreated::TimedOut(task))),
        }
    }

    fn routes(
        &self,
        generation: &Generation,
        live: &Arc<LiveInstance>,
        facts: &Arc<Facts>,
    ) -> Result<Vec<Route>, DeployError> {
        let (mut routes, mut infos) = (Vec::new(), Vec::new());
        for (order, handler) in (0..).zip(&facts.manifest.handlers) {
            let HandlerManifest { name, subscriptions, priority, timeout_ms, blocking } = handler;
            let target = self.router.target(NewTarget {
                plugin: facts.plugin.clone(),
                handler: name.as_str().into(),
                callee: live.clone(),
                number: order,
                timeout: (*timeout_ms > 0).then(|| Duration::from_millis(*timeout_ms)),
                blocking: *blocking,
                cancel: generation.host_side.cancel_calls().clone(),
            });
            infos.push(target.info.clone());
            for subscription in subscriptions.iter().filter(|name| *name != SHUTDOWN_EVENT) {
                let pattern = Pattern::parse(subscription).map_err(|source| {
                    let (file, handler) = (facts.file.clone(), name.clone());
                    DeployError::Subscription { file, handler, source }
                })?;
                let target = target.clone();
                routes.push(Route { pattern, priority: *priority, order, target });
            }
        }
        facts.handlers.get_or_init(|| infos);
        Ok(routes)
    }

    // ---- afterwards ----

    fn retire_in_background(self: &Arc<Self>, generation: Generation, retired: Arc<Retired>) {
        let supervisor = self.clone();
        tokio::spawn(async move { supervisor.retire(generation, &retired).await });
    }

    /// Retires a generation whose `initialize` has not ended, once it has.
    fn retire_when(
        self: &Arc<Self>,
        creating: async_task::Task<Result<Instance, CallEnd>>,
        mut generation: Generation,
        retired: Arc<Retired>,
    ) {
        let supervisor = self.clone();
        tokio::spawn(async move {
            // Its future is dropped at its next await. If it ended just now, its instance goes the usual way.
            if let Some(Ok(instance)) = creating.cancel().await {
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
        self.announce("module:retired", &facts, "retired", more).await;
    }

    /// Writes down and announces why a file did not become live.
    async fn note(
        &self,
        file: &Path,
        deployed: Result<Deployed, DeployError>,
    ) -> Result<Deployed, DeployError> {
        let error = match deployed {
            Ok(deployed) => return Ok(deployed),
            Err(error @ DeployError::Stopping) => return Err(error),
            Err(DeployError::Copy(error @ CopyError::ChangedWhileCopying { .. })) => {
                if let Some(watch) = &*self.watch.lock().unwrap_or_else(PoisonError::into_inner) {
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
            if facts.is_none() {
                let duplicate_of = match &error {
                    DeployError::Duplicate { plugin, .. } => Some(plugin.clone()),
                    _ => None,
                };
                let refused = RefusedFile { reason: reason.clone(), duplicate_of };
                registry.refused.insert(file.to_owned(), refused);
            }
            facts
        };
        match facts {
            Some(facts) => self.announce("module:reload_failed", &facts, &reason, json!({})).await,
            None => {
                let data = json!({ "file": file, "reason": reason });
                self.emit("module:load_failed", data).await;
            }
        }
        Err(error)
    }

    async fn announce(&self, event: &str, facts: &Facts, reason: &str, more: Value) {
        let mut data = json!({
            "name": *facts.plugin,
            "version": facts.manifest.version,
            "generation": facts.number,
            "reason": reason,
            "file": facts.file,
        });
        if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        self.emit(event, data).await;
    }

    /// Emits an event of the life cycle. Nobody waits for its handlers: a listener must not hold up a replacement.
    async fn emit(&self, event: &str, data: Value) {
        match Payload::encode(&data) {
            Ok(payload) => {
                let report = self.router.emit(NewEvent::valid(event, payload), None);
                let event = event.to_owned();
                self.router.spawn_detached(async move {
                    for outcome in report.await.outcomes() {
                        if !matches!(outcome.result, OutcomeKind::Replied(_) | OutcomeKind::NoReply)
                        {
                            tracing::warn!(
                                plugin = %outcome.plugin, handler = %outcome.handler,
                                "a listener of {event} failed: {}", outcome.result.message()
                            );
                        }
                    }
                });
            }
            Err(error) => tracing::error!(%error, "the event {event} could not be encoded"),
        }
    }

    async fn turn(&self, turn: Turn) -> OwnedMutexGuard<()> {
        let lock = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry(turn).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// Forgets the turn of a file that is gone, unless somebody waits for it.
    fn forget_turn(&self, turn: &Turn) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.get(turn).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            turns.remove(turn);
        }
    }
}

/// Why there is no instance.
enum NotCreated {
    Undescribed(String),
    Failed(String),
    /// It has not ended yet.
    TimedOut(async_task::Task<Result<Instance, CallEnd>>),
}

fn reason_of(end: CallEnd) -> String {
    match end {
        CallEnd::Failed(_, message) => message.to_text(),
        CallEnd::Panicked(message) => format!("it panicked: {}", message.to_text()),
        CallEnd::Reply(_) | CallEnd::NoReply => "it gave an answer that makes no sense".to_owned(),
    }
}
