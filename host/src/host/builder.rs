//! Says what a host is to be like, and makes it: everything but the loading of its plugins.

use std::{
    fmt,
    future::Future,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use ksi_abi::{NameError, Pattern};
use ksi_kernel::{
    event::EventRef,
    kernel::{Kernel, KernelLimits, StuckCall},
    router::{Router, emit::RouterLimits, host_handler::Failure},
    session::SessionLimits,
};
use ksi_worker_protocol::life;
use serde::Serialize;
use thiserror::Error;
use tokio::{runtime::Handle, sync::mpsc};

use super::{Host, StartingHost};
use crate::{
    builtin,
    config::{self, Config, IsolationMode, IsolationPolicy, Problem, Restart, UntrustedPlugins},
    core::{
        Core,
        settings::{Settings, encoded_all},
    },
    crash::{Journal, JournalError},
    plugin::{
        announce::Announcer,
        file::{
            copy::{Places, PrivateDir, PrivateDirError},
            trust::{OnDistrust, Trust},
            watch::{FolderWatch, WatchError},
        },
        instance::{configs::Configs, kept_resources::KeptResources},
        lifecycle::{activate::Activation, prepare::Preparation, retire::Retirer},
        probe::{answer::ChildEntry, prober::Prober},
        state::{
            persistence::Persistence,
            snapshot::LARGEST_SNAPSHOT,
            store::{StateDir, StateDirError},
        },
        supervisor::{
            Parts, Supervisor,
            quarantine::{Judged, Quarantine, QuarantineEntry},
            restart::{RestartPolicies, RestartPolicy, RestartWhen},
            retry::RetryPolicy,
        },
        worker::{
            self,
            link::{Health, LinkLimits},
            process::Processes,
            residence::{Down, ProcessResidences, Spawner, WorkerPolicies, WorkerPolicy},
        },
    },
    start_up::StartUp,
    stopping::StopHandle,
    system::{
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
    file: Option<(PathBuf, Config)>,
    probe: Option<PathBuf>,
    stop: StopHandle,
    handlers: Vec<Registered>,
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
        self.file = Some((path.into(), held));
        self
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

    /// Has this handle ask the host to stop, from before it is started.
    pub fn stopped_by(mut self, stop: &StopHandle) -> Self {
        self.stop = stop.clone();
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
        let HostBuilder { entry, config, file, probe, stop, handlers } = self;
        config.check()?;
        if let Some(plugins) = config.isolation.isolated() {
            return Err(StartError::NotIsolated { plugins });
        }
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
            },
        };
        let kernel = Kernel::start(kernel_limits, runtime).map_err(StartError::Threads)?;
        let router = kernel.router.clone();
        let prober = Prober::new(probe, entry, timeouts.probe, timeouts.init);
        if let Err(reason) = &prober {
            tracing::warn!("plugin files are loaded without a probe: {reason}");
        }
        let program = prober.as_ref().ok().map(|prober| prober.program().to_owned());
        let persistence = state_folder(&config, &router)?;
        let (journal, quarantine) = crash_journal(&config)?;
        let settings = Settings::new(&config, file);
        let isolation = isolation(&config, &settings, program, &router, started)?;
        let (isolation, ends) = isolation.unzip();
        let policies = settings.policies();
        let private = PrivateDir::create(Places::of_process(config.private_dir.clone()))?;
        let on_distrust = config.untrusted_plugins.map(|untrusted| match untrusted {
            UntrustedPlugins::Refuse => OnDistrust::Refuse,
            UntrustedPlugins::Warn => OnDistrust::Warn,
            UntrustedPlugins::Allow => OnDistrust::Allow,
        });
        let trust = Trust::new(&config.plugin_dirs, on_distrust);
        let thread = OwnThread::start("ksi-supervisor").map_err(StartError::Threads)?;
        let supervisor = Arc::new(Supervisor::new(Parts {
            thread,
            preparation: Preparation::new(private, prober, trust, limits.plugin_bytes),
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
                resources: KeptResources::new(limits.kept_resources),
                epoch: started,
                configs: Configs::new(encoded_all(&config)),
                policies: policies.clone(),
                isolation,
                journal,
            },
            quarantine,
            retirer: Retirer::new(
                router.clone(),
                policies.clone(),
                timeouts.shutdown,
                persistence.clone(),
            ),
            persistence,
            policies,
            recovery: RetryPolicy {
                first: config.recovery.first,
                longest: config.recovery.longest,
                attempts: config.recovery.attempts,
                after_rollback: config.recovery.after_rollback,
            },
            kept_versions: config.reload.kept_versions,
            restarts: restarts(&config, &settings),
            stop: stop.clone(),
            start_up: start_up.clone(),
        }));
        if let Some(ends) = ends {
            supervisor.follow_ends(ends);
        }
        let folders = {
            let _there = supervisor.thread.runtime().enter();
            FolderWatch::start(config.plugin_dirs.clone())
        };
        let (stuck, abandoned) = (timeouts.stuck, limits.abandoned_workers);
        let core = Core::new(config, settings, router, supervisor, (stop, start_up), started);
        let weak = Arc::downgrade(&core);
        let told = move |call| {
            if let Some(core) = weak.upgrade() {
                report_stuck(&core, call);
            }
        };
        kernel.watch_over(stuck, abandoned, told).map_err(StartError::Threads)?;
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

fn state_folder(
    config: &Config,
    router: &Arc<Router>,
) -> Result<Option<Arc<Persistence>>, StartError> {
    match &config.state.dir {
        Some(dir) if config.state.persist => {
            let dir = StateDir::open(dir.clone(), LARGEST_SNAPSHOT)?;
            Ok(Some(Arc::new(Persistence::new(dir, Announcer::new(router.clone())))))
        }
        _ => Ok(None),
    }
}

/// Bytes of frames that no payload of an event has: heads, names, and the JSON of a description.
const FRAME_ROOM: u64 = 1 << 20;
/// What a worker may have asked for at a time.
const ASKS: usize = 4_096;

/// Who lives in a process of its own, and where it is told that one has ended.
fn isolation(
    config: &Config,
    settings: &Arc<Settings>,
    program: Option<PathBuf>,
    router: &Arc<Router>,
    started: Instant,
) -> Result<Option<(ProcessResidences, mpsc::UnboundedReceiver<Down>)>, StartError> {
    let Some(program) = program else { return Ok(None) };
    let processes = Processes::new(program, worker::ARGUMENT);
    let processes = processes.map_err(StartError::Threads)?;
    let (downs, ends) = mpsc::unbounded_channel();
    let Config { limits, timeouts, .. } = config;
    let payload = limits.payload_bytes as u64;
    let state = LARGEST_SNAPSHOT;
    let frame = payload.max(state) + FRAME_ROOM;
    let frame = u32::try_from(frame).unwrap_or(u32::MAX);
    let link = LinkLimits { frame, payload: payload.max(state), asks: ASKS };
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0));
    let zero = now.saturating_sub(started.elapsed()).as_nanos();
    let spawner = Spawner {
        processes,
        router: router.clone(),
        open_limit: timeouts.probe,
        shutdown: timeouts.shutdown,
        link,
        limits: life::Limits {
            frame,
            payload,
            state,
            depth: u32::try_from(limits.event_depth).unwrap_or(u32::MAX),
            tasks: limits.background_tasks as u64,
            subscriptions: limits.subscriptions as u64,
            emits: ASKS as u64,
            watch_bytes: limits.subscriber_bytes as u64,
            ..life::Limits::default()
        },
        clock_zero: u64::try_from(zero).unwrap_or(u64::MAX),
        downs,
    };
    let settings = settings.clone();
    let policies: WorkerPolicies = Arc::new(move |plugin| {
        let policy = settings.isolation(plugin);
        // What is no text was refused where it was read; whoever reads this would refuse it too.
        let sandbox = serde_json::to_value(&policy.limits);
        let sandbox = sandbox.unwrap_or_else(|error| error.to_string().into());
        let health = Health { stuck: policy.stuck };
        (policy.mode == IsolationMode::Process).then_some(WorkerPolicy { health, sandbox })
    });
    Ok(Some((ProcessResidences { spawner: Arc::new(spawner), policies }, ends)))
}

fn restarts(config: &Config, settings: &Arc<Settings>) -> RestartPolicies {
    let (longest_wait, settings) = (config.recovery.longest, settings.clone());
    Arc::new(move |plugin| {
        let IsolationPolicy { restart, intensity, period, .. } = settings.isolation(plugin);
        let when = match restart {
            Restart::OnCrash => RestartWhen::OnCrash,
            Restart::Always => RestartWhen::Always,
            Restart::Never => RestartWhen::Never,
        };
        RestartPolicy { when, intensity, period, longest_wait }
    })
}

/// Reads what an earlier host has died of, says so, and begins to note what this one may die of.
fn crash_journal(config: &Config) -> Result<(Option<Arc<Journal>>, Quarantine), StartError> {
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
    for QuarantineEntry { file, plugin, version, reason, verdict, .. } in quarantine.judge(&left) {
        match verdict {
            Judged::Suspected => tracing::warn!(
                plugin,
                version,
                file,
                "{reason}: this may be by chance, so these bytes are tried once more, in a process of their own first"
            ),
            _ => tracing::error!(
                plugin,
                version,
                file,
                "{reason}: these bytes are quarantined; `ksi load` tries them again"
            ),
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
    let announcer = Announcer::new(core.router.clone());
    announcer.call_stuck(plugin, handler, &event, seconds);
}

/// Why a host does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A value of the configuration is out of its range.
    #[error(transparent)]
    Config(#[from] Problem),
    /// Plugins are to live in processes of their own. Without them the host would start with less
    /// between it and them than the operator counts on.
    #[error(
        "this version cannot give plugins a process of their own, and {plugins} would run in the host's: take out \
         `mode = \"process\"` and `default = \"process\"` of [isolation], and --isolate"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_started_again_and_how_often_is_as_the_configuration_has_it() {
        let toml = "
            [recovery]
            longest = '3m'
            [isolation]
            restart = 'always'
            [isolation.plugins.once]
            restart = 'never'
            [isolation.plugins.often]
            restart = 'on_crash'
            intensity = 9
            period = '1s'
        ";
        let config = Config::from_toml(toml, "/".as_ref()).unwrap();
        let restarts = restarts(&config, &Settings::new(&config, None));
        assert_eq!(restarts("any").when, RestartWhen::Always);
        assert_eq!(restarts("once").when, RestartWhen::Never);
        let often = RestartPolicy {
            when: RestartWhen::OnCrash,
            intensity: 9,
            period: Duration::from_secs(1),
            longest_wait: Duration::from_secs(180),
        };
        assert_eq!(restarts("often"), often);
    }
}
