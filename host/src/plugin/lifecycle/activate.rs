//! From a candidate to a generation that can be swapped in: open the library, make the instance,
//! lay out the routes.
//!
//! All plugin code that this runs, it runs on dispatch workers. Nothing is committed here.

use std::{
    future::Future,
    path::Path,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use async_task::Task;
use ksi_abi::{Description, Pattern};
use ksi_kept::KeptResources;
use ksi_kernel::{
    label::Label,
    lock::Lock,
    router::Router,
    session::{DeclaredRoutes, HandlerSpec, Session, SessionLimits},
};
use ksi_worker_protocol::life;

use super::{error::DeployError, policy::Policies, prepare::Candidate};
use crate::{
    crash::{self, About, Journal, Noted},
    log_levels::LogLevels,
    plugin::{
        file::manifest::{Built, HandlerManifest, Manifest},
        instance::{
            body::Body,
            configs::{Configs, PluginConfig},
            generation::Generation,
            info::{GenerationInfo, is_directed},
            library_residence::LibraryResidence,
            live::{LiveInstance, NoInstance},
            payload_check::payload_check,
            residence::{Creation, NotMade, Residence},
            services::HostServices,
        },
        python::modules::Modules,
        worker::{
            link::NotOpened,
            residence::{
                Declared, Launch, NO_PROGRAM, ProcessResidences, WorkerPolicy, WorkerResidence,
            },
        },
    },
    text::printable::printable,
};

/// What instances are made with.
pub(crate) struct Activation {
    pub(crate) router: Arc<Router>,
    pub(crate) init_timeout: Duration,
    pub(crate) limits: SessionLimits,
    pub(crate) resources: Arc<KeptResources>,
    /// When the host started.
    pub(crate) epoch: Instant,
    /// What is written of the log.
    pub(crate) levels: LogLevels,
    pub(crate) configs: Configs,
    pub(crate) policies: Policies,
    /// Who lives in a process of its own.
    pub(crate) isolation: ProcessResidences,
    /// What modules of Python are run with.
    pub(crate) modules: Arc<Modules>,
    /// Where it is noted that code runs for the first time.
    pub(crate) journal: Option<Arc<Journal>>,
}

/// A candidate did not become callable; its residence may be there by then and has to be vacated in
/// order.
pub(crate) struct NotActivated {
    pub(crate) error: DeployError,
    pub(crate) leftover: Option<Leftover>,
}

/// A generation that was never live.
pub(crate) struct Leftover {
    pub(crate) generation: Generation,
    /// Its `initialize`, if that has not ended.
    pub(crate) creating: Option<Creating>,
}

/// An `initialize` on its way.
pub(crate) type Creating = Task<Result<Box<dyn Body>, NotMade>>;

/// Why there is no instance.
pub(in crate::plugin) enum NotCreated {
    Undescribed(String),
    Failed(String),
    /// The system does not start what it would run in.
    NotStarted(String),
    TimedOut(Creating),
    /// Whoever waited for it does not any more.
    GivenUp(Creating),
}

impl Activation {
    /// Opens the candidate as it was built, which is where it lives from here on.
    pub(crate) async fn open(
        &self,
        candidate: &mut Candidate,
    ) -> Result<Box<dyn Residence>, DeployError> {
        let started = Instant::now();
        candidate.copy.check_in_place()?;
        let policy = (self.isolation.policies)(&candidate.manifest);
        if !policy.isolated
            && let Some(reason) = self.isolation.why_not(&candidate.manifest)
        {
            let plugin = &*candidate.manifest.name;
            tracing::info!(plugin, "it asks for a process of its own, and has none: {reason}");
        }
        let opened = match &candidate.manifest.built {
            Built::Native(build) if !policy.isolated => {
                let noted = crash::note(self.journal.as_ref(), &about(candidate, "its opening"));
                let opened = LibraryResidence::open(candidate.copy.path(), build, noted).await;
                let refused = |source| DeployError::Load { file: candidate.file.clone(), source };
                Box::new(opened.map_err(refused)?) as Box<dyn Residence>
            }
            Built::Native(_) | Built::Python(_) => self.open_apart(candidate, policy).await?,
        };
        candidate.timings.note("load", started.elapsed());
        Ok(opened)
    }

    /// Whether the candidate has to be opened in this process to say what it sends and takes.
    pub(crate) fn would_be_opened_here(&self, candidate: &Candidate) -> bool {
        let is_native = matches!(candidate.manifest.built, Built::Native(_));
        let is_known = candidate.description.is_some() || candidate.residence.is_some();
        is_native && !is_known && !(self.isolation.policies)(&candidate.manifest).isolated
    }

    /// Has the candidate say what it sends and takes, if no probe has: then it is open from here
    /// on.
    ///
    /// # Errors
    /// It cannot be opened, or does not describe itself.
    pub(crate) async fn described(&self, candidate: &mut Candidate) -> Result<(), DeployError> {
        if candidate.description.is_some() {
            return Ok(());
        }
        let residence = match candidate.residence.take() {
            Some(residence) => residence,
            None => self.open(candidate).await?,
        };
        let (residence, described) = self.describe(residence, None).await;
        candidate.residence = Some(residence);
        let file = candidate.file.clone();
        let description = described.map_err(|reason| DeployError::Describe { file, reason })?;
        candidate.description = Some(description);
        Ok(())
    }

    /// Opens the candidate in a process of its own.
    async fn open_apart(
        &self,
        candidate: &mut Candidate,
        policy: WorkerPolicy,
    ) -> Result<Box<dyn Residence>, DeployError> {
        let Candidate { copy, file, manifest, .. } = &*candidate;
        let refused =
            |reason, may_pass| DeployError::Worker { file: file.clone(), reason, may_pass };
        let launch = match &manifest.built {
            Built::Native(build) => {
                let program = self.isolation.native.clone();
                let reason = || format!("it is to live in a process of its own, and {NO_PROGRAM}");
                let nobody = || refused(reason(), false);
                let program = program.ok_or_else(nobody)?;
                let (header, sandbox) = (build.header.clone(), policy.sandbox.clone());
                let told = life::Open { header, sandbox, ..life::Open::default() };
                Launch { program, spares: None, told }
            }
            Built::Python(build) => {
                let launch = self.modules.launch(&manifest.name, build, copy, &policy).await;
                launch.map_err(|source| DeployError::Python {
                    file: file.clone(),
                    source: Box::new(source),
                })?
            }
        };
        let spawner = &self.isolation.spawner;
        let path = copy.content_path();
        let opened = WorkerResidence::open(spawner, policy, launch, path, file, manifest);
        let residence =
            opened.await.map_err(|NotOpened { reason, may_pass }| refused(reason, may_pass))?;
        if let Some(Declared { handlers, state, keep }) = residence.declared().cloned() {
            (candidate.manifest.handlers, candidate.manifest.state) = (handlers, state);
            if let Built::Python(build) = &mut candidate.manifest.built {
                build.keep = keep;
            }
        }
        Ok(Box::new(residence))
    }

    /// Opens the library, if nobody has yet, and makes the instance within this time, or until it
    /// is given up.
    pub(crate) async fn initialize(
        &self,
        number: u64,
        mut candidate: Candidate,
        limit: Duration,
        given_up: impl Future<Output = ()>,
    ) -> Result<(Generation, Box<dyn Body>), NotActivated> {
        let config = match self.configs.of(&candidate.manifest.name).await {
            Ok(config) => config,
            Err(no_secret) => {
                let error = DeployError::no_secret(&candidate.manifest.name, no_secret);
                let opened = candidate.residence.take();
                let leftover = opened.map(|opened| self.unused(number, candidate, opened));
                return Err(NotActivated { error, leftover });
            }
        };
        let residence = match candidate.residence.take() {
            Some(residence) => residence,
            None => {
                let opened = self.open(&mut candidate).await;
                opened.map_err(|error| NotActivated { error, leftover: None })?
            }
        };
        let services = self.services(number, &candidate.manifest, &candidate.file);
        let started = Instant::now();
        let description = candidate.description.take();
        let (plugin, file) = (plugin_of(&candidate), candidate.file.clone());
        residence.belongs_to(&plugin, number);
        let noted = crash::note(self.journal.as_ref(), &about(&candidate, "its initialize"));
        let (residence, described) = self.describe(residence, description).await;
        let created = match described {
            Ok(description) => {
                let creation = create(&*residence, &config, &services);
                let instance = self.instance(creation, limit, given_up, noted).await;
                instance.map(|instance| (description, instance))
            }
            Err(reason) => Err(NotCreated::Undescribed(reason)),
        };
        candidate.timings.note("init", started.elapsed());
        let (description, created) = match created {
            Ok((description, instance)) => (description, Ok(instance)),
            Err(failure) => (Description::default(), Err(failure)),
        };
        candidate.description = Some(description);
        let generation = generation(number, candidate, config, services, residence);
        let failure = match created {
            Ok(instance) => return Ok((generation, instance)),
            Err(failure) => failure,
        };
        generation.services.detach();
        let (error, creating) = match failure {
            NotCreated::Undescribed(reason) => (DeployError::Describe { file, reason }, None),
            NotCreated::Failed(reason) | NotCreated::NotStarted(reason) => {
                (DeployError::Init { plugin, file, reason }, None)
            }
            NotCreated::TimedOut(creating) | NotCreated::GivenUp(creating) => {
                let after = limit;
                (DeployError::InitTimedOut { plugin, file, after }, Some(creating))
            }
        };
        Err(NotActivated { error, leftover: Some(Leftover { generation, creating }) })
    }

    /// A generation of a candidate that was opened and is not to be initialized.
    pub(crate) fn unused(
        &self,
        number: u64,
        candidate: Candidate,
        residence: Box<dyn Residence>,
    ) -> Leftover {
        let services = self.services(number, &candidate.manifest, &candidate.file);
        services.detach();
        let config = PluginConfig::nothing();
        let generation = generation(number, candidate, config, services, residence);
        Leftover { generation, creating: None }
    }

    /// What an instance of a generation has of the host.
    pub(in crate::plugin) fn services(
        &self,
        generation: u64,
        manifest: &Manifest,
        file: &Path,
    ) -> Arc<HostServices> {
        // Events wait for another process too.
        let isolated = (self.isolation.policies)(manifest).isolated;
        let gated = manifest.state.is_some() || self.is_exclusive(manifest) || isolated;
        let (router, limits) = (self.router.clone(), self.limits.clone());
        let plugin = manifest.name.as_str().into();
        let session = Session::new(plugin, generation, router, limits, gated);
        let (file, levels) = (file.to_owned(), self.levels.clone());
        HostServices::new(session, file, &self.resources, self.epoch, levels)
    }

    /// Ends the processes that plugins live in: the host stops, and all of them were let go.
    pub(crate) async fn end_processes(&self) {
        self.isolation.spawner.processes.end().await;
    }

    /// Whether an old generation is to be released before this one is initialized.
    pub(crate) fn is_exclusive(&self, manifest: &Manifest) -> bool {
        manifest.exclusive || (self.policies)(&manifest.name).exclusive
    }

    /// Has it describe itself, if no probe has.
    async fn describe(
        &self,
        residence: Box<dyn Residence>,
        description: Option<Description>,
    ) -> (Box<dyn Residence>, Result<Description, String>) {
        match description {
            Some(description) => (residence, Ok(description)),
            None => {
                let workers = self.router.workers();
                let describing = workers.spawn_life_cycle(async move {
                    let described = residence.describe();
                    (residence, described)
                });
                describing.await
            }
        }
    }

    /// Waits so long for an instance on its way, or until it is given up.
    pub(in crate::plugin) async fn instance(
        &self,
        creation: Creation,
        limit: Duration,
        given_up: impl Future<Output = ()>,
        noted: Noted,
    ) -> Result<Box<dyn Body>, NotCreated> {
        // Where it may block: it may read files, and if it fails its own runtime waits for its
        // tasks.
        let mut creating = self.router.workers().spawn_life_cycle(noted.through(creation));
        tokio::select! {
            biased;
            created = &mut creating => created.map_err(|error| match error {
                NotMade::Failed(reason) => NotCreated::Failed(reason),
                NotMade::NotStarted(reason) => NotCreated::NotStarted(reason),
            }),
            () = tokio::time::sleep(limit) => Err(NotCreated::TimedOut(creating)),
            () = given_up => Err(NotCreated::GivenUp(creating)),
        }
    }

    /// The routes of the declared handlers.
    pub(crate) fn routes(
        &self,
        generation: &Generation,
        live: &Arc<dyn LiveInstance>,
    ) -> Result<DeclaredRoutes, DeployError> {
        let info = &generation.info;
        let here = generation.residence.is_here();
        let specs = info.manifest.handlers.iter().map(|handler| spec_of(info, handler, here));
        let specs = specs.collect::<Result<Vec<_>, _>>()?;
        let (session, keeper) = (generation.services.session(), live.keeper());
        let declared = session.declared(specs, live.clone(), keeper.as_ref());
        for (at, handler) in declared.handlers().iter().enumerate() {
            handler.check.get_or_init(|| payload_check(info, at));
        }
        info.handlers.get_or_init(|| declared.handlers().to_vec());
        Ok(declared)
    }
}

/// Has a residence make an instance. What that says when there is none has no secret in it.
pub(in crate::plugin) fn create(
    residence: &dyn Residence,
    config: &PluginConfig,
    services: &Arc<HostServices>,
) -> Creation {
    let (creation, config) = (residence.create(config.clone(), services), config.clone());
    Box::pin(async move {
        creation.await.map_err(|not_made| match not_made {
            NotMade::Failed(reason) => NotMade::Failed(config.redacted(reason)),
            not_started => not_started,
        })
    })
}

/// A declared handler, as it is to be called and by which events.
fn spec_of(
    info: &GenerationInfo,
    handler: &HandlerManifest,
    here: bool,
) -> Result<HandlerSpec, DeployError> {
    let HandlerManifest { name, subscriptions, priority, timeout_ms, blocking } = handler;
    let routed = subscriptions.iter().filter(|event| !is_directed(event));
    let patterns = routed.map(|text| Pattern::parse(text)).collect::<Result<_, _>>();
    Ok(HandlerSpec {
        name: name.as_str().into(),
        label: label_of(info, handler),
        patterns: patterns.map_err(|source| {
            let (file, handler) = (info.file.clone(), name.clone());
            DeployError::Subscription { file, handler, source }
        })?,
        priority: *priority,
        timeout: (*timeout_ms > 0).then(|| Duration::from_millis(*timeout_ms)),
        // No thread of the host waits for one that blocks elsewhere.
        blocking: *blocking && here,
    })
}

/// What is told of a handler if the host dies of it.
fn label_of(info: &GenerationInfo, handler: &HandlerManifest) -> Label {
    let GenerationInfo { plugin, number, manifest, .. } = info;
    let HandlerManifest { name, subscriptions, .. } = handler;
    let (version, events) = (&manifest.version, subscriptions.join(" and "));
    // They are written as they are when the host dies.
    Label::new(&printable(&format!(
        "plugin {plugin} {version} (generation {number}), handler {name} of {events}"
    )))
}

/// What is noted when code of a candidate runs for the first time.
fn about(candidate: &Candidate, step: &str) -> About {
    let Candidate { file, copy, manifest, .. } = candidate;
    About {
        hash: copy.hash().to_hex().to_string(),
        file: file.to_string_lossy().into_owned(),
        plugin: manifest.name.clone(),
        version: manifest.version.clone(),
        step: step.to_owned(),
    }
}

fn plugin_of(candidate: &Candidate) -> Arc<str> {
    candidate.manifest.name.as_str().into()
}

fn generation(
    number: u64,
    candidate: Candidate,
    config: PluginConfig,
    services: Arc<HostServices>,
    residence: Box<dyn Residence>,
) -> Generation {
    let plugin = plugin_of(&candidate);
    let Candidate { file, copy, manifest, description, tried, residence: _, timings } = candidate;
    let info = GenerationInfo {
        plugin,
        number,
        manifest,
        description: description.unwrap_or_default(),
        config: Lock::new(config),
        tried,
        file,
        hash: copy.hash(),
        handlers: OnceLock::new(),
        timings,
        hand_over: OnceLock::new(),
    };
    let (info, copy) = (Arc::new(info), Arc::new(copy));
    let live = Weak::<NoInstance>::new();
    Generation { info, services, live, unused: None, residence, copy }
}
