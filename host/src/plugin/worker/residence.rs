//! A generation's residence that is a process: the file is opened there and nowhere else, and each
//! instance has a process of its own.
//!
//! The first process is started to open the file and describe it, and the first instance is made in
//! it. A further instance of the same generation gets a further process.

use std::{
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{Arc, MutexGuard, Weak},
    time::Duration,
};

use ksi_abi::Description;
use ksi_kernel::{lock::Lock, router::Router};
use ksi_worker_protocol::{VERSION, life};

use super::{
    body::WorkerBody,
    link::{Confined, Health, Link, LinkLimits, Next, WorkerHost},
    process::{Death, GroupPolicy, Processes},
};
use crate::plugin::{
    file::manifest::{Built, Manifest},
    instance::{
        body::Body,
        configs::PluginConfig,
        log,
        residence::{Creation, ProcessEnd, ProcessInfo, Residence, Vacated},
        services::HostServices,
        signals::Handled,
    },
};

/// A process has ended in which an instance of a generation was.
#[derive(Debug, Clone)]
pub(crate) struct Down {
    /// What the instance had of the host.
    pub(crate) services: Weak<HostServices>,
    pub(crate) plugin: Arc<str>,
    pub(crate) generation: u64,
    pub(crate) end: ProcessEnd,
}

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
    /// Who follows up on ends.
    pub(crate) downs: tokio::sync::mpsc::UnboundedSender<Down>,
}

/// Who lives in a process of its own, and with what those are started.
pub(crate) struct ProcessResidences {
    /// None if there is no program that could be started.
    pub(crate) spawner: Option<Arc<Spawner>>,
    pub(crate) policies: WorkerPolicies,
}

/// How each plugin is to live in a process; nothing for those that live in the host's.
pub(crate) type WorkerPolicies = Arc<dyn Fn(&Manifest) -> Option<WorkerPolicy> + Send + Sync>;

/// Why nobody can live in a process of its own.
pub(crate) const NO_PROGRAM: &str = "there is no program for that: this one does not call \
     ksi_host::answer_probe first thing in its main";

impl ProcessResidences {
    /// Why a plugin that asks for a process of its own lives in the host's; nothing of one that
    /// does not ask.
    pub(crate) fn why_not(&self, manifest: &Manifest) -> Option<String> {
        let Manifest { isolated: true, name, .. } = manifest else { return None };
        Some(match (self.policies)(manifest) {
            Some(_) => format!("it gets one when it is replaced (`ksi reload {name}`)"),
            None if self.spawner.is_none() => NO_PROGRAM.to_owned(),
            None => format!(
                "the operator has it live in the host's (isolation.default, \
                 isolation.plugins.{name}.mode)"
            ),
        })
    }
}

/// How one plugin is to live in a process.
#[derive(Debug, Clone)]
pub(crate) struct WorkerPolicy {
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
    /// The process that the file is open in, and no instance is made in yet.
    spare: Lock<Option<Arc<Link>>>,
}

/// What a further process is started with.
struct Making {
    spawner: Arc<Spawner>,
    plugin: Arc<str>,
    policy: WorkerPolicy,
    open: life::Open,
    blocking: Arc<[bool]>,
    /// All that were started, but for those that are forgotten.
    started: Lock<Vec<Weak<Link>>>,
}

impl WorkerResidence {
    /// Starts a process and has it open the copy at `path` of this file.
    ///
    /// # Errors
    /// Why it is not open, for people.
    pub(crate) async fn open(
        spawner: &Arc<Spawner>,
        policy: WorkerPolicy,
        path: &Path,
        file: &Path,
        manifest: &Manifest,
    ) -> Result<Self, String> {
        let open = life::Open {
            protocol: VERSION,
            plugin: manifest.name.clone(),
            path: path.as_os_str().as_bytes().to_vec(),
            header: match &manifest.built {
                Built::Native(build) => build.header.clone(),
            },
            file: file.as_os_str().as_bytes().to_vec(),
            trial: false,
            level: log::max_level(),
            clock_zero: spawner.clock_zero,
            limits: spawner.limits.clone(),
            sandbox: policy.sandbox.clone(),
        };
        let making = Arc::new(Making {
            spawner: spawner.clone(),
            plugin: manifest.name.as_str().into(),
            policy,
            open,
            blocking: manifest.handlers.iter().map(|handler| handler.blocking).collect(),
            started: Lock::default(),
        });
        let (link, description) = making.start().await?;
        Ok(WorkerResidence { making, description, spare: Lock::new(Some(link)) })
    }

    /// The process that is there now.
    fn newest(&self) -> Option<Arc<Link>> {
        self.making.started().iter().rev().find_map(Weak::upgrade)
    }
}

impl Making {
    /// Starts a process that has the file open.
    async fn start(self: &Arc<Self>) -> Result<(Arc<Link>, Description), String> {
        let Spawner { processes, router, open_limit, link: limits, .. } = &*self.spawner;
        let not_started = |error: std::io::Error| format!("no process can be started: {error}");
        let new = processes.start(&self.plugin, &self.policy.group).await.map_err(not_started)?;
        let link = Link::start(new, router, *limits).map_err(not_started)?;
        let link = Unfinished(Some(link));
        {
            let mut started = self.started();
            started.retain(|link| link.strong_count() > 0);
            started.extend(link.0.as_ref().map(Arc::downgrade));
        }
        let Some(there) = &link.0 else { return Err("the host is stopping".to_owned()) };
        let health = self.policy.health.look_after(Arc::downgrade(there));
        processes.runtime().map_err(not_started)?.spawn(health);
        let opened = processes.in_time(*open_limit, there.open(&self.open)).await;
        let limit = humantime::format_duration(*open_limit);
        let description = opened
            .unwrap_or_else(|| Err(format!("it was not opened within {limit} (timeouts.probe)")))?;
        let description = serde_json::from_slice(&description)
            .map_err(|error| format!("its description is none: {error}"))?;
        Ok((link.finished()?, description))
    }

    async fn create(
        self: Arc<Self>,
        spare: Option<Arc<Link>>,
        host: WorkerHost,
        config: PluginConfig,
    ) -> Result<Box<dyn Body>, String> {
        let link = match spare.filter(|link| link.death().is_none()) {
            Some(link) => Unfinished(Some(link)),
            None => Unfinished(Some(self.start().await?.0)),
        };
        if let Some(link) = &link.0 {
            link.create(host, &config).await?;
        }
        let (link, processes) = (link.finished()?, self.spawner.processes.clone());
        let (blocking, shutdown) = (self.blocking.clone(), self.spawner.shutdown);
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
        let told_down = move |death: &Arc<Death>| {
            let (services, plugin, end) = (services_of.clone(), plugin.clone(), death.end());
            // Nobody follows up when the host is ending.
            let _ = downs.send(Down { services, plugin, generation, end });
        };
        let host = WorkerHost::new(
            services.clone(),
            self.making.policy.confined.clone(),
            Box::new(told_down),
        );
        let spare = self.spare.lock().take();
        Box::pin(self.making.clone().create(spare, host, config))
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
