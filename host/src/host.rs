//! The host, as a program that embeds it holds it.

mod builder;
mod check;
mod isolation;
mod request;
mod starting;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use ksi_abi::{NameError, Pattern};
use ksi_kernel::{
    call::{outcome_taps::OutcomeWatch, tally::Counts},
    event::{EventRef, IntoEvent, InvalidEvent},
    report::{self, Report},
    router::{host_handler::Failure, not_sent::SendError, taps::Watch},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    control::{self, ClaimedSocket, ControlSocket, SocketError, SocketLimits},
    core::{
        Core, UnkeptState,
        settings::{ConfigReloaded, ReloadConfigError},
    },
    history::PROGRAM,
    plugin::{lifecycle::error::DeployError, probe::answer::ChildEntry, supervisor::Deployed},
    stopping::StopStage,
};

pub use builder::{HostBuilder, StartError};
pub use request::RequestError;
pub use starting::StartingHost;

/// A host of plugins. A clone is another reference to the same host.
///
/// End it with [`shutdown`](Self::shutdown). Dropping it does not: its plugins and their threads
/// stay until the process ends.
///
/// ```no_run
/// use ksi_host::{Host, NewEvent};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let entry = ksi_host::answer_probe(); // first thing in `main`
///     tokio::runtime::Runtime::new()?.block_on(async {
///         let host = Host::builder(entry).plugins("plugins").start().await?;
///         let you = serde_json::json!({ "name": "you" });
///         let report = host.emit(NewEvent::json("greet:request", &you)?).await;
///         for reply in report.replies() {
///             println!("{reply:?}");
///         }
///         host.shutdown().await;
///         Ok(())
///     })
/// }
/// ```
#[derive(Clone)]
pub struct Host(Arc<Core>);

/// A handler of the embedding program, for [`Host::off`]. A number is none:
///
/// ```compile_fail,E0308
/// # fn off(host: ksi_host::Host) {
/// host.off(7);
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandlerId(u64);

/// A plugin that is live by what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// Its name.
    pub plugin: String,
    /// The number of its generation.
    pub generation: u64,
}

impl From<Deployed> for Loaded {
    fn from(Deployed { plugin, generation, .. }: Deployed) -> Self {
        Loaded { plugin: plugin.to_string(), generation }
    }
}

/// What is told of something that cannot be emitted.
fn not_an_event(error: &InvalidEvent) -> Report {
    report::not_let_in("invalid_event", &error.to_string())
}

impl Host {
    /// Begins to describe a host. The entry is what [`answer_probe`](crate::answer_probe) gives,
    /// which a program calls first thing in its `main`; one that cannot takes [`ChildEntry::none`].
    pub fn builder(entry: ChildEntry) -> HostBuilder {
        HostBuilder::new(entry)
    }

    /// Runs every handler of an event and gathers their outcomes. It never fails: failures are in
    /// the report, also that something is no event.
    ///
    /// What is emitted is a [`NewEvent`](crate::NewEvent), or a value of a type that belongs to one
    /// event name: see [`IntoEvent`].
    pub async fn emit(&self, event: impl IntoEvent) -> Report {
        match event.into_event() {
            Ok(event) => self.0.router.emit(event, None).await,
            Err(error) => not_an_event(&error),
        }
    }

    /// Emits an event that is answered once, and gives the answer.
    ///
    /// ```no_run
    /// # async fn run(host: ksi_host::Host) -> Result<(), Box<dyn std::error::Error>> {
    /// use ksi_host::NewEvent;
    ///
    /// let health: serde_json::Value = host.request(NewEvent::json("system:health", &())?).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Nobody handles it, nobody replied and a handler failed, there is no reply or more than one,
    /// or it is not of this type. Where no handler has to reply, `()` and an `Option` are an answer
    /// without one.
    pub async fn request<R: DeserializeOwned + 'static>(
        &self,
        event: impl IntoEvent,
    ) -> Result<R, RequestError> {
        let event = event.into_event()?;
        let report = self.0.router.emit(event, None).await;
        request::only_reply(&report)
    }

    /// Hands an event over without waiting for its handlers.
    ///
    /// # Errors
    /// It is no event, the queue is full, or the event is too large: it was not accepted then.
    pub fn send(&self, event: impl IntoEvent) -> Result<(), SendError> {
        let event = event.into_event().map_err(|error| SendError::Refused(error.to_string()))?;
        self.0.router.send(event)
    }

    /// Lets the caller see every event that matches one of the patterns, beside its handlers. At
    /// most `capacity` wait to be read; a watcher that is slower than that is cut off, and never
    /// slows an emitter.
    pub fn watch(&self, patterns: &[Pattern], capacity: usize) -> Watch {
        self.0.router.watch(patterns, capacity)
    }

    /// Lets the caller see how every call of a handler ends, of plugins and of the host: whose it
    /// was, with which event, how it ended, when it began and how long it took. For metrics and
    /// traces.
    ///
    /// At most `capacity` calls wait to be read, and no more bytes than for a watcher of events
    /// (`limits.subscriber_bytes`). What does not fit is [missed](OutcomeWatch::missed), and slows
    /// nobody. It does not end with the host: [`next`](OutcomeWatch::next) waits on after
    /// [`shutdown`](Self::shutdown). Calls that began before this are not seen. As long as nobody
    /// looks, this costs nothing but a look at a flag for each call.
    ///
    /// ```
    /// use ksi_host::{ChildEntry, Host, NewEvent, OutcomeStatus};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let host = Host::builder(ChildEntry::none()).start().await?;
    /// host.on("sums:add", |_| async { Ok(7) })?;
    /// let mut outcomes = host.watch_outcomes(100);
    ///
    /// host.emit(NewEvent::json("sums:add", &())?).await;
    ///
    /// let call = outcomes.next().await.ok_or("it was given up")?;
    /// assert_eq!((&*call.event_name, call.outcome), ("sums:add", OutcomeStatus::Replied));
    /// println!("{} took {:?}, and {} calls were missed", call.handler, call.took, outcomes.missed());
    /// # host.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch_outcomes(&self, capacity: usize) -> OutcomeWatch {
        self.0.router.watch_outcomes(capacity)
    }

    /// Handles events in the embedding program, as a plugin would. A reply that encodes as `null`
    /// is none. Plugins that wait for somebody who handles it are started. To be there before any
    /// plugin is, see [`HostBuilder::on`].
    ///
    /// # Errors
    /// The pattern is none.
    pub fn on<F, Fut, R>(&self, pattern: &str, handler: F) -> Result<HandlerId, NameError>
    where
        F: Fn(EventRef) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Serialize,
    {
        let parsed = Pattern::parse(pattern)?;
        let number = self.0.router.add_host_handler(pattern, &[parsed], None, handler);
        self.0.supervisor.wake_waiting();
        Ok(HandlerId(number))
    }

    /// Ends a handler of the embedding program. Calls that have begun go on.
    pub fn off(&self, HandlerId(number): HandlerId) {
        self.0.router.remove_host_handler(number);
    }

    /// Whether anybody handles an event of this name.
    pub fn has_handler(&self, name: &str) -> bool {
        self.0.router.is_handled(name)
    }

    /// The names that somebody handles, sorted. Patterns are left out.
    pub fn event_names(&self) -> Vec<String> {
        self.0.event_names()
    }

    /// How all calls so far ended.
    pub fn counts(&self) -> Counts {
        self.0.router.all_counts()
    }

    /// Loads a plugin file, or replaces the plugin that it is.
    ///
    /// # Errors
    /// At which step it failed, and why. What was live goes on.
    pub async fn load(&self, file: &Path) -> Result<Loaded, DeployError> {
        self.0.supervisor.load(file, &PROGRAM).await.map(Loaded::from)
    }

    /// Loads files, or replaces the plugins that they are, as one change: all of them go live by
    /// one swap, or none does. For plugins whose new versions understand each other only; at most
    /// 16 files, and no exclusive plugin among them.
    ///
    /// # Errors
    /// What is wrong with one of the files. What was live goes on.
    pub async fn load_together(&self, files: &[PathBuf]) -> Result<Vec<Loaded>, DeployError> {
        let loaded = self.0.supervisor.load_together(files, &PROGRAM).await?;
        Ok(loaded.into_iter().map(Loaded::from).collect())
    }

    /// Replaces a plugin by what its file holds now.
    ///
    /// # Errors
    /// As for [`load`](Self::load), or there is no such plugin.
    pub async fn reload(&self, plugin: &str) -> Result<Loaded, DeployError> {
        self.0.supervisor.reload(plugin, &PROGRAM).await.map(Loaded::from)
    }

    /// Goes back to the version of a plugin before the live one, with its state. The file that it
    /// was loaded from is quarantined: its folder does not load it again until it changes.
    ///
    /// # Errors
    /// There is no such plugin or no earlier version, or it does not load, or cannot take the state
    /// over. [`DeployError::LosesState`] if it can only go on from older state: then nothing has
    /// happened, and [`rollback_forced`](Self::rollback_forced) goes back all the same.
    pub async fn rollback(&self, plugin: &str) -> Result<Loaded, DeployError> {
        self.0.supervisor.rollback(plugin, false, &PROGRAM).await.map(Loaded::from)
    }

    /// The same also if that gives up what the live version has done to the state. That is kept
    /// aside on the disk first.
    ///
    /// # Errors
    /// As for [`rollback`](Self::rollback), or it cannot be kept aside.
    pub async fn rollback_forced(&self, plugin: &str) -> Result<Loaded, DeployError> {
        self.0.supervisor.rollback(plugin, true, &PROGRAM).await.map(Loaded::from)
    }

    /// Unloads a plugin.
    ///
    /// # Errors
    /// There is no such plugin, or it is not live.
    pub async fn unload(&self, plugin: &str) -> Result<(), DeployError> {
        self.0.supervisor.unload(plugin, &PROGRAM).await.map(drop)
    }

    /// Serves clients on a Unix socket at `path`, with the limits of the configuration.
    ///
    /// # Errors
    /// Another host serves it, or it cannot be bound.
    pub async fn serve(&self, path: impl AsRef<Path>) -> Result<ControlSocket, SocketError> {
        ClaimedSocket::take(path).map(|claimed| self.serve_on(claimed))
    }

    /// Serves clients on a socket that was [taken](ClaimedSocket::take) before this host was
    /// started, with the limits of the configuration. Clients that have connected since then are
    /// served now. To be called inside a tokio runtime.
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
        let control = ControlSocket::serve(self.0.clone(), socket, limits);
        self.0.describe(control::described());
        control
    }

    /// Waits until somebody asks the host to stop, by `system:shutdown_request`,
    /// [`request_stop`](Self::request_stop) or its [handle](HostBuilder::stopped_by).
    pub async fn wait_stopped(&self) {
        self.0.stop.requested().await;
    }

    /// Asks whoever waits in [`wait_stopped`](Self::wait_stopped) to shut the host down. From here
    /// on the events of clients of the control socket are refused, save the host's own, and no
    /// plugin is loaded or replaced any more. A further request has the host go on to the next
    /// stage of its end, whatever that waits for.
    pub fn request_stop(&self) {
        self.0.stop.request();
    }

    /// Reads the configuration file anew, gives plugins their own tables of it where those, or
    /// their secrets, are other ones than before, and applies what else can be while the host runs.
    ///
    /// # Errors
    /// There is no file, or it is not valid; then nothing has changed. That a plugin does not take
    /// its new configuration is no error: see [`ConfigReloaded::plugins`].
    pub async fn reload_config(&self) -> Result<ConfigReloaded, ReloadConfigError> {
        self.0.reload_config(&PROGRAM).await
    }

    /// How far the host has come with its end.
    pub fn stop_stage(&self) -> StopStage {
        self.0.stop.stage()
    }

    /// Tells everybody by `system:shutdown`, lets what is inside end, with all plugins there to
    /// answer each other, and then lets every plugin go, the last started first. Takes at most the
    /// drain and the shutdown timeout of the configuration together, and some ten seconds for state
    /// that is still being written; less if it is asked [once more](Self::request_stop) to stop.
    ///
    /// Whoever calls it while it goes on waits for its end, so a handler of `system:shutdown` that
    /// does is itself waited for until the drain timeout. If the first one is given up, the next
    /// one goes on with what is left, and with the time that is left.
    pub async fn shutdown(&self) {
        self.0.shut_down().await;
    }

    /// Resolves when a dispatch worker has done something for whoever asks, which is what a
    /// watchdog wants to know: a host whose workers do not answer is not well, although its process
    /// is there.
    pub async fn responds(&self) {
        // A host that ends answers nobody any more.
        if self.0.spawn(async {}).fallible().await.is_none() {
            std::future::pending().await
        }
    }

    /// The plugins whose state is not on the disk as it is, and why; none where all is well, or
    /// where no state is kept. After [`shutdown`](Self::shutdown), those whose last changes are
    /// lost.
    pub fn unkept_state(&self) -> Vec<UnkeptState> {
        self.0.unkept_state()
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("config", &self.0.config).finish_non_exhaustive()
    }
}
