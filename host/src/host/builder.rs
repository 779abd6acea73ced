//! Says what a host is to be like, and makes it: everything but the loading of its plugins.

use std::{fmt, future::Future, io, path::PathBuf, sync::Arc, time::Instant};

use ksi_abi::{NameError, Pattern};
use ksi_kept::{DescriptorStore, KeptResources, StoredDescriptor};
use ksi_kernel::{
    event::EventRef,
    kernel::{Kernel, KernelLimits, StuckCall},
    router::{Router, emit::RouterLimits, host_handler::Failure},
    session::SessionLimits,
};
use ksi_wire::module::{HistoryEntry, HistoryKind};
use serde::Serialize;
use thiserror::Error;
use tokio::runtime::Handle;

use super::{
    Host, StartingHost,
    isolation::{isolation, restarts, sandboxes},
};
use crate::{
    builtin,
    config::{self, Config, Problem, UntrustedPlugins},
    core::{
        Core,
        settings::{ConfigFile, Settings},
    },
    crash::{Journal, JournalError},
    history::{HOST, History},
    log_levels::LogLevels,
    plugin::{
        announce::Announcer,
        file::{
            copy::{Places, PrivateDir, PrivateDirError},
            trust::{OnDistrust, Trust},
            watch::{FolderWatch, WatchError},
        },
        instance::configs::Configs,
        lifecycle::{activate::Activation, prepare::Preparation, retire::Retirer},
        probe::{answer::ChildEntry, prober::Prober},
        python::modules::{Installer, Modules, PythonSettings},
        state::{
            persistence::Persistence,
            snapshot::LARGEST_SNAPSHOT,
            store::{StateDir, StateDirError},
        },
        supervisor::{
            Parts, Supervisor,
            quarantine::{Judged, Quarantine, QuarantineEntry},
            retry::RetryPolicy,
        },
        worker::{self, process::Program, residence::Spawner},
    },
    start_up::StartUp,
    stopping::StopHandle,
    system::{
        cpu_clock,
        own_thread::OwnThread,
        threads::{TooFewThreads, check_threads},
    },
};

/// What a host needs beside the workers, to start with: the supervisor, the watchdog, the watch of
/// the folders, files, a probe and its process, a library, the beginning and the end of a plugin.
const OWN_THREADS: usize = 10;

/// Adds a handler of the program to a router that has none of plugins yet.
type Registered = Box<dyn FnOnce(&Router) + Send>;

/// Says what a host is to be like before it starts.
#[must_use = "a host is started by `start`, or by `prepare`"]
pub struct HostBuilder {
    entry: ChildEntry,
    config: Config,
    file: Option<ConfigFile>,
    probe: Option<PathBuf>,
    stop: StopHandle,
    handlers: Vec<Registered>,
    store: Option<Box<dyn DescriptorStore>>,
    stored: Vec<StoredDescriptor>,
    levels: Option<LogLevels>,
}

impl HostBuilder {
    pub(super) fn new(entry: ChildEntry) -> Self {
        HostBuilder {
            entry,
            config: Config::default(),
            file: None,
            probe: None,
            stop: StopHandle::default(),
            handlers: Vec::new(),
            store: None,
            stored: Vec::new(),
            levels: None,
        }
    }

    /// Handles events in the embedding program, as [`Host::on`] does, from before any plugin is
    /// there: none is refused because it requires them, and none emits one that nobody handles. It
    /// stays as long as the host; one that is to be taken off again is made by [`Host::on`].
    ///
    /// ```no_run
    /// # async fn run(entry: ksi_host::ChildEntry) -> Result<(), Box<dyn std::error::Error>> {
    /// use ksi_host::Failure;
    ///
    /// let builder = ksi_host::Host::builder(entry).plugins("plugins");
    /// let host = builder.on("app:version", |_| async { Ok::<_, Failure>("1.0") })?.start().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The pattern is none.
    pub fn on<F, Fut, R>(mut self, pattern: &str, handler: F) -> Result<Self, NameError>
    where
        F: Fn(EventRef) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Serialize,
    {
        let (parsed, name) = (Pattern::parse(pattern)?, pattern.to_owned());
        self.handlers.push(Box::new(move |router| {
            router.add_host_handler(&name, &[parsed], None, handler);
        }));
        Ok(self)
    }

    /// The whole configuration, in place of what was said before.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The file that the configuration was read from, and what that held, before anything was
    /// changed in it: what [`Host::reload_config`] reads again and compares with.
    pub fn config_file(mut self, path: impl Into<PathBuf>, held: Config) -> Self {
        self.file = Some(ConfigFile { path: path.into(), held, is_followed: false });
        self
    }

    /// Has the [file](Self::config_file) read again, as by [`Host::reload_config`], within two
    /// seconds after it has changed.
    pub fn follow_config_file(mut self) -> Self {
        self.file.iter_mut().for_each(|file| file.is_followed = true);
        self
    }

    /// What is to be changed in it for something else than a host.
    pub(super) fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// One more folder of plugins. It need not exist yet.
    pub fn plugins(mut self, folder: impl Into<PathBuf>) -> Self {
        self.config.plugin_dirs.push(folder.into());
        self
    }

    /// Which plugins live in a process of their own, and how, in place of what was said before.
    ///
    /// ```no_run
    /// # async fn run(entry: ksi_host::ChildEntry) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut isolation = ksi_host::Isolation::default();
    /// isolation.memory = Some("512 MiB".parse()?);
    /// isolation.isolate("parser")?;
    /// let builder = ksi_host::Host::builder(entry).plugins("plugins").isolation(isolation);
    /// # Ok(())
    /// # }
    /// ```
    pub fn isolation(mut self, isolation: config::Isolation) -> Self {
        self.config.isolation = isolation;
        self
    }

    /// An executable that probes plugin files, such as an installed `ksi`. Without it the running
    /// executable does, if it calls [`answer_probe`](crate::answer_probe).
    pub fn probe_with(mut self, program: impl Into<PathBuf>) -> Self {
        self.probe = Some(program.into());
        self
    }

    /// Has the log of plugins follow these levels, by which the program's own subscriber goes as
    /// well. Without them that subscriber alone decides, and no level can be changed by events
    /// (`system:log`).
    pub fn log_levels(mut self, levels: &LogLevels) -> Self {
        self.levels = Some(levels.clone());
        self
    }

    /// Has this handle ask the host to stop, from before it is started.
    pub fn stopped_by(mut self, stop: &StopHandle) -> Self {
        self.stop = stop.clone();
        self
    }

    /// Has the descriptors that plugins keep kept beyond this process too, and gives plugins those
    /// that were kept since an earlier one. A socket that listens is open all the time then, also
    /// while no host runs.
    pub fn descriptor_store(
        mut self,
        store: Box<dyn DescriptorStore>,
        stored: Vec<StoredDescriptor>,
    ) -> Self {
        (self.store, self.stored) = (Some(store), stored);
        self
    }

    /// Starts the host on the tokio runtime around it, and loads what is in its folders. A plugin
    /// that does not load is no error of the host: see `module:list` and the log.
    ///
    /// A host that is asked to stop meanwhile comes back at once, with what is live by then, to be
    /// [shut down](Host::shutdown). One whose start is given up, because this future is dropped, is
    /// shut down in the background, and its [handle](Self::stopped_by) is asked to stop: see
    /// [`StartingHost`].
    ///
    /// # Errors
    /// The configuration is wrong, or the system does not give what a host needs.
    pub async fn start(self) -> Result<Host, StartError> {
        Ok(self.prepare()?.load().await)
    }

    /// Does all of it but loading plugins, so that clients can be served while that goes on. To be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn prepare(self) -> Result<StartingHost, StartError> {
        let HostBuilder { entry, config, file, probe, stop, handlers, store, stored, levels } =
            self;
        config.check()?;
        let levels = levels.unwrap_or_else(LogLevels::of_subscriber);
        levels.configuration(config.log.level, &config.log.levels);
        let runtime = Handle::try_current()?;
        let (started, start_up) = (Instant::now(), StartUp::begin());
        let (timeouts, limits) = (&config.timeouts, &config.limits);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        // One more than there are cores: when each of those has a call that takes milliseconds, a
        // short one waits for the system's scheduler in place of them. With as many as cores,
        // `system:health` took 16 ms at p99 under events of 2 MB, with one more 9, and with two
        // more no less.
        let calls = if limits.workers == 0 { cores.max(2) + 1 } else { limits.workers };
        check_threads(calls + OWN_THREADS)?;
        let kernel_limits = KernelLimits {
            workers: calls,
            blocking_threads: limits.blocking_threads,
            waiting_bytes: limits.waiting_bytes,
            router: RouterLimits {
                queued_events: limits.queued_events,
                queued_bytes: limits.queued_bytes,
                subscriber_bytes: limits.subscriber_bytes,
                event_depth: limits.event_depth,
                payload_bytes: limits.payload_bytes,
                timeout: timeouts.handler,
                recorder: config.recorder.limits(),
            },
        };
        let kernel = Kernel::start(kernel_limits, runtime).map_err(StartError::Threads)?;
        let router = kernel.router.clone();
        let prober = Prober::new(probe, entry, timeouts.probe, timeouts.init);
        if let Err(reason) = &prober {
            tracing::warn!("plugin files are loaded without a probe: {reason}");
        }
        let program = prober.as_ref().ok().map(|prober| prober.program().to_owned());
        let state = state_folder(&config)?;
        let history = match config.state.dir.as_ref().filter(|_| state.is_some()) {
            Some(dir) => History::open(dir),
            None => History::in_memory(),
        };
        let announcer = Announcer::new(router.clone(), history.clone());
        let persistence = state.map(|dir| Arc::new(Persistence::new(dir, announcer.clone())));
        history.host_started();
        let (journal, quarantine) = crash_journal(&config, &history)?;
        let settings = Settings::new(&config, file);
        if program.is_none()
            && let Some(plugins) = config.isolation.isolated()
        {
            return Err(StartError::NotIsolated { plugins });
        }
        let limiter = program.as_ref().map(|program| {
            Arc::new(Program::with_argument(program.clone(), worker::limited::ARGUMENT))
        });
        let (isolation, ends) = isolation(&config, &settings, program, &router, started, &levels);
        let policies = settings.policies();
        let private = PrivateDir::create(Places::of_process(config.private_dir.clone()))?;
        let private = Arc::new(private);
        let modules = modules(&config, &private, isolation.spawner.clone(), limiter);
        let on_distrust = config.untrusted_plugins.map(|untrusted| match untrusted {
            UntrustedPlugins::Refuse => OnDistrust::Refuse,
            UntrustedPlugins::Warn => OnDistrust::Warn,
            UntrustedPlugins::Allow => OnDistrust::Allow,
        });
        let trust = Trust::new(&config.plugin_dirs, on_distrust);
        let thread = OwnThread::start("ksi-supervisor").map_err(StartError::Threads)?;
        let supervisor = Arc::new(Supervisor::new(Parts {
            thread,
            preparation: Preparation::new(
                private,
                prober,
                modules.clone(),
                trust,
                sandboxes(&settings),
                limits.plugin_bytes,
            ),
            activation: Activation {
                router: router.clone(),
                init_timeout: timeouts.init,
                limits: SessionLimits {
                    background_tasks: limits.background_tasks,
                    subscriptions: limits.subscriptions,
                    watched_events: limits.subscriber_queue,
                    held_events: limits.held_events,
                    held_bytes: limits.held_bytes,
                },
                resources: KeptResources::with_store(limits.kept_resources, store, stored),
                epoch: started,
                levels: levels.clone(),
                configs: Configs::new(config.plugins.clone().into_iter().collect()),
                policies: policies.clone(),
                isolation,
                modules,
                journal,
            },
            quarantine,
            retirer: Retirer::new(
                router.clone(),
                policies.clone(),
                timeouts.shutdown,
                persistence.clone(),
                announcer.clone(),
            ),
            persistence,
            policies,
            contracts: settings.contracts(),
            recovery: RetryPolicy {
                first: config.recovery.first,
                longest: config.recovery.longest,
                attempts: config.recovery.attempts,
                after_rollback: config.recovery.after_rollback,
            },
            kept_versions: config.reload.kept_versions,
            restarts: restarts(&config, &settings),
            announcer,
            stop: stop.clone(),
            start_up: start_up.clone(),
        }));
        supervisor.follow_ends(ends);
        let folders = {
            let _there = supervisor.thread.runtime().enter();
            FolderWatch::start(config.plugin_dirs.clone())
        };
        let (stuck, abandoned) = (timeouts.stuck, limits.abandoned_workers);
        let core = Core::new(
            config,
            settings,
            router,
            supervisor,
            (history, levels),
            (stop, start_up),
            started,
        );
        let weak = Arc::downgrade(&core);
        let told = move |call| {
            if let Some(core) = weak.upgrade() {
                report_stuck(&core, call);
            }
        };
        kernel
            .watch_over(stuck, abandoned, Box::new(cpu_clock::of_thread), told)
            .map_err(StartError::Threads)?;
        builtin::register(&core);
        handlers.into_iter().for_each(|register| register(&core.router));
        let (folders, changes) = folders?;
        Ok(StartingHost::new(Host(core), folders, changes))
    }
}

impl fmt::Debug for HostBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostBuilder { entry, config, probe, .. } = self;
        let mut shown = f.debug_struct("HostBuilder");
        shown.field("entry", entry).field("config", config).field("probe", probe);
        shown.finish_non_exhaustive()
    }
}

fn modules(
    config: &Config,
    private: &Arc<PrivateDir>,
    spawner: Arc<Spawner>,
    limiter: Option<Arc<Program>>,
) -> Arc<Modules> {
    let config::Python { interpreter, install, spare, environments: _, path, plugins } =
        &config.python;
    for folder in path.iter().filter(|folder| !folder.is_dir()) {
        tracing::warn!("python.path names {}, and there is no such folder", folder.display());
    }
    let keep = plugins.iter().filter_map(|(name, of)| Some((name.clone(), of.keep.clone()?)));
    let settings = PythonSettings {
        interpreter: interpreter.clone(),
        spare: *spare,
        keep: keep.collect(),
        limit: config.timeouts.probe,
        installer: install.map(|with| match with {
            config::InstallWith::Uv => Installer::Uv,
            config::InstallWith::Pip => Installer::Pip,
        }),
        environments: config.environments(),
        path: path.clone(),
    };
    Arc::new(Modules::new(settings, private.clone(), spawner, limiter))
}

fn state_folder(config: &Config) -> Result<Option<StateDir>, StartError> {
    let dir = config.state.dir.as_ref().filter(|_| config.state.persist);
    Ok(dir.map(|dir| StateDir::open(dir.clone(), LARGEST_SNAPSHOT)).transpose()?)
}

/// Reads what an earlier host has died of, says so, and begins to note what this one may die of.
fn crash_journal(
    config: &Config,
    history: &Arc<History>,
) -> Result<(Option<Arc<Journal>>, Quarantine), StartError> {
    let Some(dir) = &config.recovery.dir else { return Ok((None, Quarantine::default())) };
    let unusable = |error: &JournalError| {
        tracing::warn!("going on without a crash journal: {error}");
    };
    let (journal, left) = match Journal::open(dir) {
        Ok(opened) => opened,
        // Two hosts would take each other's notes for those of a dead one.
        Err(error @ JournalError::InUse { .. }) => return Err(error.into()),
        Err(error) => {
            unusable(&error);
            // What is quarantined may be readable all the same.
            return Ok((None, Quarantine::open(dir)));
        }
    };
    let quarantine = Quarantine::open(dir);
    if let Some(words) = &left.last_words {
        tracing::error!("the last words of the host before this one: {words}");
    }
    for QuarantineEntry { hash, file, plugin, version, reason, verdict, .. } in
        quarantine.judge(&left)
    {
        match verdict {
            Judged::Suspected => tracing::warn!(
                plugin,
                version,
                file,
                "{reason}: this may be by chance, so these bytes are tried once more, in a process of their own first"
            ),
            _ => {
                tracing::error!(
                    plugin,
                    version,
                    file,
                    "{reason}: these bytes are quarantined; `ksi load` tries them again"
                );
                history.note(HistoryEntry {
                    by: HOST,
                    file: Some(file),
                    hash: Some(hash),
                    kind: HistoryKind::Quarantined,
                    name: Some(plugin),
                    reason,
                    version: Some(version),
                    ..HistoryEntry::default()
                });
            }
        }
    }
    // What was judged is remembered by now.
    let path = dir.join("crashes");
    match journal.begin() {
        Ok(()) => Ok((Some(journal), quarantine)),
        Err(source) => {
            unusable(&JournalError::File { path, source });
            Ok((None, quarantine))
        }
    }
}

fn report_stuck(core: &Core, call: StuckCall) {
    let event = format!("evt_{:x}", call.event);
    let seconds = call.since.as_secs_f64();
    let (plugin, handler) = match &call.handler {
        Some(info) => (info.owner(), &*info.handler),
        None => ("", "a background task"),
    };
    tracing::warn!(
        plugin,
        handler,
        event,
        seconds,
        "a call has not returned from one poll; it can't be ended, and should be a blocking handler or await"
    );
    let announcer = Announcer::new(core.router.clone(), core.history.clone());
    announcer.call_stuck(plugin, handler, &event, seconds);
}

/// Why a host does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Files are to be compared with the plugins of what is no folder of them: what has none would
    /// let all pass.
    #[error("{} is no folder of plugins, so there is nothing to compare with: name one that is there", .path.display())]
    NoFolder {
        /// What was named.
        path: PathBuf,
    },
    /// A value of the configuration is out of its range.
    #[error(transparent)]
    Config(#[from] Problem),
    /// Plugins are to live in processes of their own. Without them the host would start with less
    /// between it and them than the operator counts on.
    #[error(
        "{plugins} cannot have a process of their own, and would run in the host's: this program does not call \
         ksi_host::answer_probe first thing in its main. Let it, or name a program that does (HostBuilder::probe_with), \
         or take `process` out of [isolation]"
    )]
    NotIsolated {
        /// Which.
        plugins: String,
    },
    /// It was not started inside a tokio runtime.
    #[error("a host needs a tokio runtime with time and I/O enabled around it: {0}")]
    NoRuntime(#[from] tokio::runtime::TryCurrentError),
    /// The system gives fewer threads than a host needs.
    #[error(transparent)]
    TooFewThreads(#[from] TooFewThreads),
    /// The system gives no threads.
    #[error("the host's threads cannot be started: {0}")]
    Threads(#[source] io::Error),
    /// There is no place for private copies.
    #[error(transparent)]
    PrivateDir(#[from] PrivateDirError),
    /// The folder for plugins' state cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// Another host has the crash journal. One that cannot be used for another reason is a warning.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The plugin folders cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
}
