//! The host: what an embedding program, the control socket and the built-in handlers hold.

mod emission;
mod late;
mod starting;

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use async_task::Task;
use ksi_abi::{NameError, Pattern};
use ksi_wire::system::Announced;
use serde::Serialize;
use thiserror::Error;
use tokio::runtime::Handle;

use crate::{
    builtin,
    clients::Clients,
    config::{Config, Problem, UntrustedPlugins},
    crash::{Journal, JournalError},
    dispatch::tally::Counts,
    event::{self, Event, NewEvent, Payload},
    kernel::{Kernel, KernelLimits, StuckCall},
    memory::Budget,
    plugin::{
        announce::Announcer,
        file::{
            copy::{Places, PrivateDir, PrivateDirError},
            trust::{OnDistrust, Trust},
            watch::{FolderWatch, WatchError},
        },
        instance::{configs::Configs, kept_resources::KeptResources},
        lifecycle::{
            activate::Activation, error::DeployError, prepare::Preparation, retire::Retirer,
        },
        probe::prober::Prober,
        state::{
            persistence::Persistence,
            snapshot::LARGEST_SNAPSHOT,
            store::{StateDir, StateDirError},
        },
        supervisor::{
            Parts, Supervisor,
            quarantine::{Entry, Judged, Quarantine},
            retry::Recovery,
        },
    },
    report::Report,
    router::{
        Router,
        emit::{RouterLimits, SendError},
        native::Failure,
        taps::Watch,
    },
    session::SessionLimits,
    settings::{Settings, encoded_all},
    socket::{self, ClaimedSocket, ControlSocket, SocketError, SocketLimits},
    start_up::StartUp,
    stopping::{StopHandle, StopStage, drain::drained},
    system::{
        own_thread::OwnThread,
        threads::{TooFewThreads, check_threads},
    },
};
use ksi_abi::Counted;

pub(crate) use emission::Emission;
pub(crate) use late::OnLate;
pub use starting::StartingHost;

/// What a host needs beside the workers, to start with: the supervisor, the watchdog, the watch of the folders, files, a probe
/// and its process, a library, the beginning and the end of a plugin.
const OWN_THREADS: usize = 10;

/// A host of plugins. A clone is another reference to the same host.
///
/// End it with [`shutdown`](Self::shutdown). Dropping it does not: its plugins and their threads stay until the process
/// ends.
///
/// ```no_run
/// use ksi_host::{Host, NewEvent, Payload};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     ksi_host::answer_probe(); // first thing in `main`
///     tokio::runtime::Runtime::new()?.block_on(async {
///         let host = Host::builder().plugins("plugins").start().await?;
///         let payload = Payload::encode(&serde_json::json!({ "name": "you" }))?;
///         let report = host.emit(NewEvent::new("greet:request", payload)?).await;
///         for reply in report.replies() {
///             println!("{reply:?}");
///         }
///         host.shutdown().await;
///         Ok(())
///     })
/// }
/// ```
#[derive(Clone)]
pub struct Host(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) router: Arc<Router>,
    pub(crate) supervisor: Arc<Supervisor>,
    /// What it was started with. Some of it may have changed since: see `settings`.
    pub(crate) config: Config,
    pub(crate) settings: Arc<Settings>,
    pub(crate) started: Instant,
    /// Events that somebody answers without a handler: the control socket.
    pub(crate) described: Mutex<Vec<builtin::Described>>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) stop: StopHandle,
    pub(crate) start_up: StartUp,
    shut_down: AtomicBool,
    /// Clients can connect to its socket also when it has ended.
    pub(crate) socket_stays: AtomicBool,
}

/// Why a host does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A value of the configuration is out of its range.
    #[error(transparent)]
    Config(#[from] Problem),
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

/// A plugin whose state could not be kept on the disk. An earlier snapshot of it, if there is one, is there still.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UnkeptState {
    /// The plugin.
    pub plugin: String,
    /// Why the last attempt failed.
    pub reason: String,
    /// When it failed for the first time since it last succeeded.
    pub since: SystemTime,
}

/// Says what a host is to be like before it starts.
#[derive(Debug, Default)]
pub struct HostBuilder {
    config: Config,
    file: Option<(PathBuf, Config)>,
    probe: Option<PathBuf>,
    stop: StopHandle,
}

impl HostBuilder {
    /// The whole configuration, in place of what was said before.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The file that the configuration was read from, and what that held, before anything was changed in it: what
    /// [`Host::reload_config`] reads again and compares with.
    pub fn config_file(mut self, path: impl Into<PathBuf>, held: Config) -> Self {
        self.file = Some((path.into(), held));
        self
    }

    /// One more folder of plugins. It need not exist yet.
    pub fn plugins(mut self, folder: impl Into<PathBuf>) -> Self {
        self.config.plugin_dirs.push(folder.into());
        self
    }

    /// An executable that probes plugin files, such as an installed `ksi`. Without it the running executable does, if it
    /// called [`answer_probe`](crate::answer_probe).
    pub fn probe_with(mut self, program: impl Into<PathBuf>) -> Self {
        self.probe = Some(program.into());
        self
    }

    /// Has this handle ask the host to stop, from before it is started.
    pub fn stopped_by(mut self, stop: &StopHandle) -> Self {
        self.stop = stop.clone();
        self
    }

    /// Starts the host on the tokio runtime around it, and loads what is in its folders. A plugin that does not load is
    /// no error of the host: see `module:list` and the log.
    ///
    /// A host that is asked to stop meanwhile comes back at once, with what is live by then, to be
    /// [shut down](Host::shutdown). One whose start is given up, because this future is dropped, is shut down in the
    /// background, and its [handle](Self::stopped_by) is asked to stop: see [`StartingHost`].
    ///
    /// # Errors
    /// The configuration is wrong, or the system does not give what a host needs.
    pub async fn start(self) -> Result<Host, StartError> {
        Ok(self.prepare()?.load().await)
    }

    /// Does all of it but loading plugins, so that clients can be served while that goes on. To be called inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn prepare(self) -> Result<StartingHost, StartError> {
        let HostBuilder { config, file, probe, stop } = self;
        config.check()?;
        let runtime = Handle::try_current()?;
        let (started, start_up) = (Instant::now(), StartUp::begin());
        let (timeouts, limits) = (&config.timeouts, &config.limits);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        // One more than there are cores: when each of those has a call that takes milliseconds, a short one waits for the
        // system's scheduler in place of them. With as many as cores, `system:health` took 16 ms at p99 under events of 2 MB,
        // with one more 9, and with two more no less.
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
        let prober = Prober::new(probe, timeouts.probe, timeouts.init);
        if let Err(reason) = &prober {
            tracing::warn!("plugin files are loaded without a probe: {reason}");
        }
        let persistence = state_folder(&config, &router)?;
        let (journal, quarantine) = crash_journal(&config)?;
        let settings = Settings::new(&config, file);
        let policies = settings.policies();
        let private = PrivateDir::create(Places::of_process(config.private_dir.clone()))?;
        let on_distrust = config.untrusted_plugins.map(|untrusted| match untrusted {
            UntrustedPlugins::Refuse => OnDistrust::Refuse,
            UntrustedPlugins::Warn => OnDistrust::Warn,
            UntrustedPlugins::Allow => OnDistrust::Allow,
        });
        let trust = Trust::new(&config.plugin_dirs, on_distrust);
        let thread = OwnThread::start().map_err(StartError::Threads)?;
        let supervisor = Arc::new(Supervisor::new(Parts {
            thread,
            preparation: Preparation::new(private, prober, trust, limits.plugin_bytes),
            activation: Activation {
                router: router.clone(),
                init_timeout: timeouts.init,
                limits: SessionLimits {
                    background_tasks: limits.background_tasks,
                    subscriptions: limits.subscriptions,
                    held_events: limits.held_events,
                    held_bytes: limits.held_bytes,
                },
                resources: KeptResources::new(limits.kept_resources),
                epoch: started,
                configs: Configs::new(encoded_all(&config)),
                policies: policies.clone(),
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
            recovery: Recovery {
                first: config.recovery.first,
                longest: config.recovery.longest,
                attempts: config.recovery.attempts,
                after_rollback: config.recovery.after_rollback,
            },
            kept_versions: config.reload.kept_versions,
            stop: stop.clone(),
            start_up: start_up.clone(),
        }));
        let folders = {
            let _there = supervisor.thread.runtime().enter();
            FolderWatch::start(config.plugin_dirs.clone())
        };
        let (stuck, abandoned) = (timeouts.stuck, limits.abandoned_workers);
        let inner = Inner {
            router,
            supervisor,
            config,
            settings,
            started,
            described: Mutex::default(),
            clients: Arc::default(),
            stop,
            start_up,
            shut_down: AtomicBool::new(false),
            socket_stays: AtomicBool::new(false),
        };
        let host = Host(Arc::new(inner));
        let weak = host.downgrade();
        let told = move |call| {
            if let Some(inner) = weak.upgrade() {
                report_stuck(&Host(inner), call);
            }
        };
        kernel.watch_over(stuck, abandoned, told).map_err(StartError::Threads)?;
        builtin::register(&host);
        let (folders, changes) = folders?;
        Ok(StartingHost::new(host, folders, changes))
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
    for Entry { file, plugin, version, reason, verdict, .. } in quarantine.judge(&left) {
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

fn report_stuck(host: &Host, call: StuckCall) {
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
    let announcer = Announcer::new(host.0.router.clone());
    announcer.call_stuck(plugin, handler, &event, seconds);
}

impl Host {
    /// Begins to describe a host.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// Runs every handler of an event and gathers their outcomes. It never fails: failures are in the report.
    pub async fn emit(&self, event: NewEvent) -> Report {
        self.0.router.emit(event, None).await
    }

    /// Hands an event over without waiting for its handlers.
    ///
    /// # Errors
    /// The queue is full, or the event is too large: it was not accepted then.
    pub fn send(&self, event: NewEvent) -> Result<(), SendError> {
        self.0.router.send(event)
    }

    /// Lets the caller see every event that matches one of the patterns, beside its handlers. At most `capacity` wait to
    /// be read; a watcher that is slower than that is cut off, and never slows an emitter.
    pub fn watch(&self, patterns: &[Pattern], capacity: usize) -> Watch {
        self.0.router.watch(patterns, capacity)
    }

    /// Handles events in the embedding program, as a plugin would. A reply that encodes as `null` is none. The number
    /// is for [`off`](Self::off). Plugins that wait for somebody who handles it are started.
    ///
    /// # Errors
    /// The pattern is none.
    pub fn on<F, Fut, R>(&self, pattern: &str, handler: F) -> Result<u64, NameError>
    where
        F: Fn(Counted<Event>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Serialize,
    {
        let parsed = Pattern::parse(pattern)?;
        let number = self.0.router.add_native(pattern, &[parsed], None, handler);
        self.0.supervisor.wake_waiting();
        Ok(number)
    }

    /// Ends a handler of the embedding program. Calls that have begun go on.
    pub fn off(&self, handler: u64) {
        self.0.router.remove_native(handler);
    }

    /// Whether anybody handles an event of this name.
    pub fn has_handler(&self, name: &str) -> bool {
        self.0.router.is_handled(name)
    }

    /// The names that somebody handles, sorted. Patterns are left out.
    pub fn event_names(&self) -> Vec<String> {
        let mut names = self.0.router.event_names();
        names.sort_unstable();
        names
    }

    /// How all calls so far ended.
    pub fn counts(&self) -> Counts {
        self.0.router.all_counts()
    }

    /// Loads a plugin file, or replaces the plugin that it is; returns its name and the number of its generation.
    ///
    /// # Errors
    /// At which step it failed, and why. What was live goes on.
    pub async fn load(&self, file: &Path) -> Result<(String, u64), DeployError> {
        let deployed = self.0.supervisor.load(file).await?;
        Ok((deployed.plugin.to_string(), deployed.generation))
    }

    /// Replaces a plugin by what its file holds now; returns the number of its generation.
    ///
    /// # Errors
    /// As for [`load`](Self::load), or there is no such plugin.
    pub async fn reload(&self, plugin: &str) -> Result<u64, DeployError> {
        Ok(self.0.supervisor.reload(plugin).await?.generation)
    }

    /// Goes back to the version of a plugin before the live one, with its state; returns the number of its new generation.
    /// The file that it was loaded from is quarantined: its folder does not load it again until it changes.
    ///
    /// # Errors
    /// There is no such plugin or no earlier version, or it does not load, or cannot take the state over.
    /// [`DeployError::LosesState`] if it can only go on from older state: then nothing has happened, and
    /// [`rollback_forced`](Self::rollback_forced) goes back all the same.
    pub async fn rollback(&self, plugin: &str) -> Result<u64, DeployError> {
        Ok(self.0.supervisor.rollback(plugin, false).await?.generation)
    }

    /// The same also if that gives up what the live version has done to the state. That is kept aside on the disk first.
    ///
    /// # Errors
    /// As for [`rollback`](Self::rollback), or it cannot be kept aside.
    pub async fn rollback_forced(&self, plugin: &str) -> Result<u64, DeployError> {
        Ok(self.0.supervisor.rollback(plugin, true).await?.generation)
    }

    /// Unloads a plugin.
    ///
    /// # Errors
    /// There is no such plugin, or it is not live.
    pub async fn unload(&self, plugin: &str) -> Result<(), DeployError> {
        self.0.supervisor.unload(plugin).await.map(drop)
    }

    /// Serves clients on a Unix socket at `path`, with the limits of the configuration.
    ///
    /// # Errors
    /// Another host serves it, or it cannot be bound.
    pub async fn serve(&self, path: impl AsRef<Path>) -> Result<ControlSocket, SocketError> {
        ClaimedSocket::take(path).map(|claimed| self.serve_on(claimed))
    }

    /// Serves clients on a socket that was [taken](ClaimedSocket::take) before this host was started, with the limits of
    /// the configuration. Clients that have connected since then are served now. To be called inside a tokio runtime.
    pub fn serve_on(&self, socket: ClaimedSocket) -> ControlSocket {
        let limits = &self.0.config.limits;
        let limits = SocketLimits {
            line_bytes: limits.line_bytes,
            connections: limits.connections,
            requests_per_connection: limits.requests_per_connection,
            subscriber_queue: limits.subscriber_queue,
            unread_bytes: limits.unread_bytes,
            subscribed_patterns: limits.subscribed_patterns,
            management_connections: limits.management_connections,
            idle: self.0.config.timeouts.idle,
        };
        if socket.is_given() {
            self.0.socket_stays.store(true, Ordering::Release);
        }
        let control = ControlSocket::serve(self.clone(), socket, limits);
        self.describe(socket::EVENTS.iter().map(|event| {
            event.parameters.iter().fold(
                builtin::Described::new(event.event, event.summary),
                |described, parameter| {
                    let socket::SocketParameter { name, kind, required, description } = *parameter;
                    described.takes(name, kind, required, description)
                },
            )
        }));
        control
    }

    /// Waits until somebody asks the host to stop, by `system:shutdown_request`, [`request_stop`](Self::request_stop) or
    /// its [handle](HostBuilder::stopped_by).
    pub async fn wait_stopped(&self) {
        self.0.stop.requested().await;
    }

    /// Asks whoever waits in [`wait_stopped`](Self::wait_stopped) to shut the host down. From here on the events of clients
    /// of the control socket are refused, save the host's own, and no plugin is loaded or replaced any more. A further
    /// request has the host go on to the next stage of its end, whatever that waits for.
    pub fn request_stop(&self) {
        self.0.stop.request();
    }

    /// How far the host has come with its end.
    pub fn stop_stage(&self) -> StopStage {
        self.0.stop.stage()
    }

    /// Tells everybody by `system:shutdown`, lets what is inside end, with all plugins there to answer each other, and then
    /// lets every plugin go, the last started first. Takes at most the drain and the shutdown timeout of the configuration
    /// together, and some ten seconds for state that is still being written; less if it is asked
    /// [once more](Self::request_stop) to stop.
    pub async fn shutdown(&self) {
        if self.0.shut_down.swap(true, Ordering::AcqRel) {
            return;
        }
        let Inner { stop, router, supervisor, settings, .. } = &*self.0;
        let timeouts = settings.in_effect().timeouts;
        stop.reach(StopStage::Draining);
        supervisor.begin_to_stop();
        let until = Instant::now() + timeouts.drain;
        let told = tokio::select! {
            biased;
            told = tokio::time::timeout_at(until.into(), self.announce("system:shutdown")) => told.is_ok(),
            () = stop.reached(StopStage::Unloading) => false,
        };
        if !told {
            tracing::warn!("not every listener of system:shutdown ended in time");
        }
        drained(stop, router, supervisor, until.into()).await;
        // Whoever asked for the next stage already does not wait for calls.
        let until = if stop.stage() > StopStage::Draining { Instant::now() } else { until };
        stop.reach(StopStage::Unloading);
        let rest = until.saturating_duration_since(Instant::now());
        supervisor.stop(until, rest + timeouts.shutdown + Duration::from_secs(3)).await;
        // After this, the supervisor is this host's alone, and so are its private copies.
        supervisor.quarantine.forget_suspects();
        if let Some(Err(error)) = supervisor.forget_notes() {
            tracing::warn!("the crash journal is not emptied: {error}");
        }
        let ended = supervisor.thread.end();
        if tokio::time::timeout(Duration::from_secs(2), ended).await.is_err() {
            tracing::warn!("the supervisor's thread does not end");
        }
    }

    /// Resolves when a dispatch worker has done something for whoever asks, which is what a watchdog wants to know: a host
    /// whose workers do not answer is not well, although its process is there.
    pub async fn responds(&self) {
        // A host that ends answers nobody any more.
        if self.spawn(async {}).fallible().await.is_none() {
            std::future::pending().await
        }
    }

    /// The plugins whose state is not on the disk as it is, and why; none where all is well, or where no state is kept. After
    /// [`shutdown`](Self::shutdown), those whose last changes are lost.
    pub fn unkept_state(&self) -> Vec<UnkeptState> {
        let persistence = self.0.supervisor.persistence.iter();
        let troubles = persistence.flat_map(|persistence| persistence.troubles.all());
        let unkept = troubles.map(|(plugin, trouble)| UnkeptState {
            plugin: plugin.to_string(),
            reason: trouble.reason,
            since: trouble.since,
        });
        unkept.collect()
    }

    /// Runs a future on the dispatch workers, where an event that it emits is handled in place. Whatever it holds is
    /// polled and dropped there alone.
    pub(crate) fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.router.workers().spawn(future)
    }

    /// Runs something that takes its time on threads that may be blocked.
    pub(crate) fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        self.0.router.workers().spawn_life_cycle(async move { work() }).detach();
    }

    /// Has an emission polled by a task of its own, as `polled` does; what that gives, or `instead` of it once a handler
    /// has not returned within its timeout, with what is known by then. `None` if the host ends.
    pub(crate) async fn answered<T, F>(
        &self,
        event: &str,
        emission: Emission,
        polled: impl FnOnce(Emission) -> F,
        instead: impl Fn(Report) -> T + Send + Sync + 'static,
    ) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let progress = emission.progress.clone().unwrap_or_default();
        self.0.router.answered(event, progress, polled(emission), instead).await
    }

    /// With what to register a socket that is served by [such](Self::spawn) a future.
    pub(crate) fn io(&self) -> &Handle {
        self.0.router.workers().io()
    }

    async fn announce(&self, event: &str) {
        let plugins = self.0.supervisor.registry().last_started_first().len();
        let (pid, version) = (std::process::id(), env!("CARGO_PKG_VERSION").into());
        let data = Announced { pid, plugins, version };
        if let Ok(payload) = Payload::encode(&data) {
            self.emit(event::of_host(event, payload)).await;
        }
    }

    /// Adds events to what `system:discover` shows that are answered by somebody else than a handler.
    pub(crate) fn describe(&self, events: impl IntoIterator<Item = builtin::Described>) {
        let mut described = self.0.described.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            if !described.iter().any(|known| known.event == event.event) {
                described.push(event);
            }
        }
    }

    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Host(inner)
    }

    /// Who is connected to the control sockets.
    pub(crate) fn clients(&self) -> &Arc<Clients> {
        &self.0.clients
    }

    /// What all that waits is charged to.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        self.0.router.budget()
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("config", &self.0.config).finish_non_exhaustive()
    }
}
