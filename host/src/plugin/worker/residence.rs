//! A generation's residence that is a process: the file is opened there and nowhere else, and each
//! instance has a process of its own.
//!
//! The first process is started to open the file and describe it, and the first instance is made in
//! it. A further instance of the same generation gets a further process.

use std::{
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{Arc, MutexGuard, Weak},
    time::Duration,
};

use ksi_abi::Description;
use ksi_kernel::{lock::Lock, router::Router};
use ksi_worker_protocol::{VERSION, life};
use serde::Deserialize;

use super::{
    body::WorkerBody,
    down::Down,
    link::{Confined, Health, Link, LinkLimits, Next, NotOpened, WorkerHost},
    process::{Death, GroupPolicy, Processes, Program},
    spares::Spares,
};
use crate::{
    log_levels::LogLevels,
    plugin::{
        file::manifest::{HandlerManifest, Manifest, StateManifest},
        instance::{
            body::Body,
            configs::PluginConfig,
            residence::{Creation, NotMade, ProcessInfo, Residence, Vacated},
            services::HostServices,
            signals::Handled,
        },
    },
};

/// What processes of plugins are started with.
pub(crate) struct Spawner {
    pub(crate) processes: Arc<Processes>,
    pub(crate) router: Arc<Router>,
    /// What one gets to open its file and describe it.
    pub(crate) open_limit: Duration,
    /// What one gets to end by itself.
    pub(crate) shutdown: Duration,
    pub(crate) link: LinkLimits,
    /// What is told to each of them.
    pub(crate) limits: life::Limits,
    /// What `CLOCK_MONOTONIC` showed when the host's clock was zero, in nanoseconds.
    pub(crate) clock_zero: u64,
    /// What is written of the log.
    pub(crate) levels: LogLevels,
    /// Who follows up on ends.
    pub(crate) downs: tokio::sync::mpsc::UnboundedSender<Down>,
}

/// Who lives in a process of its own, and with what those are started.
pub(crate) struct ProcessResidences {
    pub(crate) spawner: Arc<Spawner>,
    /// What the process of a plugin of native code runs; none if there is no program that could.
    pub(crate) native: Option<Arc<Program>>,
    pub(crate) policies: WorkerPolicies,
}

/// How each plugin is to live.
pub(crate) type WorkerPolicies = Arc<dyn Fn(&Manifest) -> WorkerPolicy + Send + Sync>;

/// Why nobody can live in a process of its own.
pub(crate) const NO_PROGRAM: &str = "there is no program for that: this one does not call \
     ksi_host::answer_probe first thing in its main";

impl ProcessResidences {
    /// Why a plugin that asks for a process of its own lives in the host's; nothing of one that
    /// does not ask.
    pub(crate) fn why_not(&self, manifest: &Manifest) -> Option<String> {
        let Manifest { isolated: true, name, .. } = manifest else { return None };
        Some(match (self.policies)(manifest).isolated {
            true => format!("it gets one when it is replaced (`ksi reload {name}`)"),
            false if self.native.is_none() => NO_PROGRAM.to_owned(),
            false => format!(
                "the operator has it live in the host's (isolation.default, \
                 isolation.plugins.{name}.mode)"
            ),
        })
    }
}

/// How one plugin is to live in a process.
#[derive(Debug, Clone)]
pub(crate) struct WorkerPolicy {
    /// Whether it is to, if it could live in the host's as well.
    pub(crate) isolated: bool,
    /// Whether its process limits itself in any way.
    pub(crate) limited: bool,
    pub(crate) health: Health,
    /// With all that it starts.
    pub(crate) group: GroupPolicy,
    /// What its process does to itself before it opens the file.
    pub(crate) sandbox: serde_json::Value,
    /// What the host does not do in its name; nothing of one that may do what any plugin may.
    pub(crate) confined: Option<Arc<Confined>>,
}

/// See the module.
pub(crate) struct WorkerResidence {
    making: Arc<Making>,
    description: Description,
    /// What it has found, where that is not known before the file is opened.
    declared: Option<Declared>,
    blocking: Arc<[bool]>,
    /// The process that the file is open in, and no instance is made in yet.
    spare: Lock<Option<Arc<Link>>>,
}

/// How a process comes to have a file open.
pub(crate) struct Launch {
    pub(crate) program: Arc<Program>,
    /// Processes of this program that wait to be used, if some do.
    pub(crate) spares: Option<Arc<Spares>>,
    /// What it is told beyond what each one is told.
    pub(crate) told: life::Open,
}

/// What a further process is started with.
struct Making {
    spawner: Arc<Spawner>,
    plugin: Arc<str>,
    policy: WorkerPolicy,
    program: Arc<Program>,
    spares: Option<Arc<Spares>>,
    open: life::Open,
    /// All that were started, but for those that are forgotten.
    started: Lock<Vec<Weak<Link>>>,
}

impl WorkerResidence {
    /// Starts a process and has it open the copy at `path` of this file.
    ///
    /// # Errors
    /// Why it is not open.
    pub(crate) async fn open(
        spawner: &Arc<Spawner>,
        policy: WorkerPolicy,
        launch: Launch,
        path: &Path,
        file: &Path,
        manifest: &Manifest,
    ) -> Result<Self, NotOpened> {
        let Launch { program, spares, told } = launch;
        let open = life::Open {
            protocol: VERSION,
            plugin: manifest.name.clone(),
            path: path.as_os_str().as_bytes().to_vec(),
            file: file.as_os_str().as_bytes().to_vec(),
            trial: false,
            level: spawner.levels.most_of_plugin(&manifest.name),
            clock_zero: spawner.clock_zero,
            limits: spawner.limits.clone(),
            ..told
        };
        let (spawner, plugin) = (spawner.clone(), manifest.name.as_str().into());
        let started = Lock::default();
        let making = Arc::new(Making { spawner, plugin, policy, program, spares, open, started });
        let (link, opened) = making.start().await?;
        let not_told = |reason: String| NotOpened { reason, may_pass: false };
        let description = serde_json::from_slice(&opened)
            .map_err(|error| not_told(format!("its description is none: {error}")))?;
        let declared = match making.open.python.is_null() {
            true => None,
            false => Some(Declared::read(&opened).map_err(not_told)?),
        };
        let handlers = declared.as_ref().map_or(&manifest.handlers, |found| &found.handlers);
        let blocking = handlers.iter().map(|handler| handler.blocking).collect();
        let spare = Lock::new(Some(link));
        Ok(WorkerResidence { making, description, declared, blocking, spare })
    }

    /// What was found when the file was opened, if it was not known before.
    pub(crate) fn declared(&self) -> Option<&Declared> {
        self.declared.as_ref()
    }

    /// The process that is there now.
    fn newest(&self) -> Option<Arc<Link>> {
        self.making.started().iter().rev().find_map(Weak::upgrade)
    }
}

/// What a description has beside what it has of each plugin, where that is not known before.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Declared {
    pub(crate) handlers: Vec<HandlerManifest>,
    /// Of one that keeps state.
    pub(crate) state: Option<StateManifest>,
    /// The globals that are its state, if some are.
    #[serde(default)]
    pub(crate) keep: Vec<String>,
}

impl Declared {
    fn read(opened: &[u8]) -> Result<Self, String> {
        let found: Declared = serde_json::from_slice(opened)
            .map_err(|error| format!("what it has is not told: {error}"))?;
        match found.state.as_ref().and_then(StateManifest::mistake) {
            Some(mistake) => Err(format!("what it tells of its state cannot be: {mistake}")),
            None => Ok(found),
        }
    }
}

impl Spawner {
    /// Starts a process of this program, and listens to it.
    pub(super) async fn start(&self, program: &Arc<Program>) -> io::Result<Arc<Link>> {
        let new = self.processes.start(program).await?;
        Link::start(new, &self.router, self.link)
    }
}

/// Another try may go better.
fn for_now(reason: String) -> NotOpened {
    NotOpened { reason, may_pass: true }
}

impl Making {
    /// Starts a process that has the file open; what that says of it.
    async fn start(self: &Arc<Self>) -> Result<(Arc<Link>, Vec<u8>), NotOpened> {
        self.opened_in(self.process().await?).await
    }

    /// Starts a process.
    async fn process(self: &Arc<Self>) -> Result<Unfinished, NotOpened> {
        let processes = &self.spawner.processes;
        let not_started = |error: io::Error| {
            let program = self.program.path.display();
            for_now(format!("no process of {program} can be started: {error}"))
        };
        let link = match self.spares.as_ref().and_then(|spares| spares.take()) {
            Some(waiting) => waiting,
            None => self.spawner.start(&self.program).await.map_err(not_started)?,
        };
        let given = processes.give(link.process(), &self.plugin, &self.policy.group);
        let link = Unfinished(Some(link));
        given.map_err(not_started)?;
        {
            let mut started = self.started();
            started.retain(|link| link.strong_count() > 0);
            started.extend(link.0.as_ref().map(Arc::downgrade));
        }
        let Some(there) = &link.0 else { return Err(for_now("the host is stopping".to_owned())) };
        let health = self.policy.health.look_after(Arc::downgrade(there));
        processes.runtime().map_err(not_started)?.spawn(health);
        Ok(link)
    }

    /// Has a process open the file; what that says of it.
    async fn opened_in(&self, link: Unfinished) -> Result<(Arc<Link>, Vec<u8>), NotOpened> {
        let Spawner { processes, open_limit, .. } = &*self.spawner;
        let Some(there) = &link.0 else { return Err(for_now("the host is stopping".to_owned())) };
        let opened = processes.in_time(*open_limit, there.open(&self.open)).await;
        let limit = humantime::format_duration(*open_limit);
        let late = || for_now(format!("it was not opened within {limit} (timeouts.probe)"));
        let opened = opened.unwrap_or_else(|| Err(late()))?;
        Ok((link.finished().map_err(for_now)?, opened))
    }

    async fn create(
        self: Arc<Self>,
        spare: Option<Arc<Link>>,
        host: WorkerHost,
        config: PluginConfig,
        blocking: Arc<[bool]>,
    ) -> Result<Box<dyn Body>, NotMade> {
        // When it is done, or given up, there is time for the one that waits next.
        let _refill = Refill(self.spares.clone());
        let link = match spare.filter(|link| link.death().is_none()) {
            Some(link) => Unfinished(Some(link)),
            None => {
                let process = self.process().await;
                let process = process.map_err(|error| NotMade::NotStarted(error.reason))?;
                Unfinished(Some(self.opened_in(process).await.map_err(|error| error.reason)?.0))
            }
        };
        if let Some(link) = &link.0 {
            link.create(host, &config).await?;
        }
        let (link, processes) = (link.finished()?, self.spawner.processes.clone());
        let shutdown = self.spawner.shutdown;
        Ok(Box::new(WorkerBody::new(link, processes, blocking, shutdown)))
    }

    fn started(&self) -> MutexGuard<'_, Vec<Weak<Link>>> {
        self.started.lock()
    }

    /// Where calls go that found a process gone.
    fn settle(&self, next: &Next) {
        let started: Vec<_> = self.started().iter().filter_map(Weak::upgrade).collect();
        let gone = started.iter().filter(|link| link.death().is_some() || next.is_nowhere());
        gone.for_each(|link| link.is_followed_by(next.clone()));
    }
}

/// Has another process wait when this is dropped.
struct Refill(Option<Arc<Spares>>);

impl Drop for Refill {
    fn drop(&mut self) {
        if let Some(spares) = &self.0 {
            spares.refill();
        }
    }
}

/// A process that is killed if nobody waits any more for what it is to do.
struct Unfinished(Option<Arc<Link>>);

impl Unfinished {
    fn finished(mut self) -> Result<Arc<Link>, String> {
        self.0.take().ok_or_else(|| "its process is gone".to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(link) = self.0.take() {
            link.process().kill("nobody waits for it any more");
        }
    }
}

impl Residence for WorkerResidence {
    fn belongs_to(&self, _: &Arc<str>, _: u64) {}

    fn describe(&self) -> Result<Description, String> {
        Ok(self.description.clone())
    }

    fn create(&self, config: PluginConfig, services: &Arc<HostServices>) -> Creation {
        let session = services.session();
        let (plugin, generation) = (session.plugin().clone(), session.generation());
        let downs = self.making.spawner.downs.clone();
        let services_of = Arc::downgrade(services);
        let told_down = move |link: &Arc<Link>, death: &Arc<Death>| {
            let (services, plugin, end) = (services_of.clone(), plugin.clone(), death.end());
            let down = Down { services, plugin, generation, end, calls: Arc::downgrade(link) };
            // Nobody follows up when the host is ending.
            let _ = downs.send(down);
        };
        let host = WorkerHost::new(
            services.clone(),
            self.making.policy.confined.clone(),
            Box::new(told_down),
        );
        let spare = self.spare.lock().take();
        Box::pin(self.making.clone().create(spare, host, config, self.blocking.clone()))
    }

    fn references(&self) -> usize {
        0
    }

    fn signals(&self) -> Vec<Handled> {
        Vec::new()
    }

    fn is_here(&self) -> bool {
        false
    }

    fn process(&self) -> Option<ProcessInfo> {
        let link = self.newest()?;
        let usage = link.process().usage();
        Some(ProcessInfo {
            pid: link.process().pid(),
            resident_kib: usage.map(|usage| usage.resident_kib),
            cpu: usage.map(|usage| usage.cpu),
            late: link.late(),
            ended: link.death().map(|death| death.end()),
        })
    }

    fn events_wait(&self) {
        self.making.settle(&Next::Gate);
    }

    fn withdraw(&self) {
        let reason = "the plugin is gone, and its process ended before it got the call";
        self.making.settle(&Next::Nowhere(reason.into()));
    }

    fn vacate(self: Box<Self>) -> Vacated {
        let started: Vec<_> = self.making.started().iter().filter_map(Weak::upgrade).collect();
        drop(self.spare.lock().take());
        let processes = &self.making.spawner.processes;
        for link in &started {
            link.process().kill("its plugin is gone");
            processes.wait_for(link.process(), Duration::from_secs(1));
        }
        match started.iter().any(|link| link.process().dead().is_none()) {
            false => Vacated::Gone,
            true => Vacated::Stays {
                cause: "its process was killed, and has not ended".to_owned(),
                residence: self,
            },
        }
    }
}

#[cfg(test)]
mod tests;
