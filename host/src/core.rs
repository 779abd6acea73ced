//! The inside of a host: what its own handlers, the control socket and its settings hold, and what
//! [`Host`](crate::Host) is a handle of.
//!
//! `emission` lets a client's event in or not, and `late` tells whoever waits for one of calls that
//! do not return. [`settings`] is the configuration as it is in effect, [`rates`] how many calls
//! there were lately. `shutdown` and [`drain`]
//! end a host in stages.
//!
//! Below it are the router, the supervisor of plugins and the stages of a start and a stop; above
//! it whoever asks for something. Knows neither who asks, nor by what means.

pub(crate) mod drain;
mod emission;
mod late;
pub(crate) mod rates;
pub(crate) mod settings;
mod shutdown;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Instant, SystemTime},
};

use async_task::Task;
use ksi_kernel::{
    event::{self, Payload},
    lock::Lock,
    memory::Budget,
    report::Report,
    router::Router,
};
use ksi_wire::system::HostAnnounced;
use tokio::runtime::Handle;

use crate::{
    catalog::{self, Described},
    clients::Clients,
    config::Config,
    history::History,
    log_levels::LogLevels,
    plugin::supervisor::Supervisor,
    start_up::StartUp,
    stopping::StopHandle,
};
use rates::Rates;
use settings::Settings;
use shutdown::Shutdown;

pub(crate) use emission::Emission;
pub(crate) use late::OnLate;

/// A host from the inside.
pub(crate) struct Core {
    pub(crate) router: Arc<Router>,
    pub(crate) supervisor: Arc<Supervisor>,
    /// What it was started with. Some of it may have changed since: see `settings`.
    pub(crate) config: Config,
    pub(crate) settings: Arc<Settings>,
    pub(crate) started: Instant,
    /// How many calls there were lately.
    pub(crate) rates: Rates,
    /// What is written of the log.
    pub(crate) levels: LogLevels,
    /// Events that somebody answers without a handler: the control socket.
    described: Lock<Vec<Described>>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) history: Arc<History>,
    pub(crate) stop: StopHandle,
    pub(crate) start_up: StartUp,
    /// Done by the first who asks for it, and awaited by all others.
    shutdown: Shutdown,
    /// Clients can connect to its socket also when it has ended.
    pub(crate) socket_stays: AtomicBool,
}

/// A plugin whose state could not be kept on the disk. An earlier snapshot of it, if there is one,
/// is there still.
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

impl Core {
    /// Nothing is asked of it yet.
    pub(crate) fn new(
        config: Config,
        settings: Arc<Settings>,
        router: Arc<Router>,
        supervisor: Arc<Supervisor>,
        (history, levels): (Arc<History>, LogLevels),
        (stop, start_up): (StopHandle, StartUp),
        started: Instant,
    ) -> Arc<Self> {
        Arc::new(Core {
            router,
            supervisor,
            config,
            settings,
            started,
            rates: Rates::since(started),
            levels,
            described: Lock::default(),
            clients: Arc::default(),
            history,
            stop,
            start_up,
            shutdown: Shutdown::default(),
            socket_stays: AtomicBool::new(false),
        })
    }

    /// The names that somebody handles, sorted. Patterns are left out.
    pub(crate) fn event_names(&self) -> Vec<String> {
        let mut names = self.router.event_names();
        names.sort_unstable();
        names
    }

    /// The plugins whose state is not on the disk as it is, and why.
    pub(crate) fn unkept_state(&self) -> Vec<UnkeptState> {
        let persistence = self.supervisor.persistence.iter();
        let troubles = persistence.flat_map(|persistence| persistence.troubles.all());
        let unkept = troubles.map(|(plugin, trouble)| UnkeptState {
            plugin: plugin.to_string(),
            reason: trouble.reason,
            since: trouble.since,
        });
        unkept.collect()
    }

    /// Runs a future on the dispatch workers, where an event that it emits is handled in place.
    /// Whatever it holds is polled and dropped there alone.
    pub(crate) fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.router.workers().spawn(future)
    }

    /// Runs something that takes its time on threads that may be blocked.
    pub(crate) fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        self.router.workers().spawn_life_cycle(async move { work() }).detach();
    }

    /// Has an emission polled by a task of its own, as `polled` does; what that gives, or `instead`
    /// of it once a handler has not returned within its timeout, with what is known by then. `None`
    /// if the host ends.
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
        let progress = emission.progress.clone();
        self.router.answered(event, progress, polled(emission), instead).await
    }

    /// With what to register a socket that is served by [such](Self::spawn) a future.
    pub(crate) fn io(&self) -> &Handle {
        self.router.workers().io()
    }

    pub(crate) async fn announce(&self, event: &str) {
        let plugins = self.supervisor.registry().last_started_first().len();
        let (pid, version) = (std::process::id(), env!("CARGO_PKG_VERSION").into());
        let data = HostAnnounced { pid, plugins, version };
        if let Ok(payload) = Payload::encode(&data) {
            self.router.emit(event::of_host(event, payload), None).await;
        }
    }

    /// Every exactly named event that somebody answers.
    pub(crate) fn catalog(&self) -> Vec<catalog::CatalogEntry> {
        let described = self.described.lock().clone();
        catalog::entries(&described, &self.supervisor.registry())
    }

    /// Adds events to what `system:discover` shows that are answered by somebody else than a
    /// handler.
    pub(crate) fn describe(&self, events: impl IntoIterator<Item = Described>) {
        let mut described = self.described.lock();
        for event in events {
            if !described.iter().any(|known| known.event == event.event) {
                described.push(event);
            }
        }
    }

    /// Who is connected to the control sockets.
    pub(crate) fn clients(&self) -> &Arc<Clients> {
        &self.clients
    }

    /// What all that waits is charged to.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        self.router.budget()
    }
}
