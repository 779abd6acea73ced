//! From a settled file to a candidate: private copy, manifest, probe. No code of the file runs in
//! the host here.
//!
//! Whoever runs these steps may look at the manifest before the probe, and says what the candidate
//! is tried with, or why it is not tried.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ksi_abi::{ABI_VERSION, Description, Pattern};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::error::DeployError;
use crate::{
    plugin::{
        file::{
            copy::{Content, CopyError, PrivateCopy, PrivateDir, SourceFile},
            kind::{FileKind, Original},
            manifest::{Built, Linkage, Manifest, check_head, read_manifest},
            own_libraries::OwnLibraries,
            trust::{Trust, TrustError},
        },
        instance::{
            info::{Timings, Tried},
            residence::Residence,
        },
        probe::{
            cache::Probed,
            prober::{NoProber, Prober},
            trial::Trial,
        },
        python::modules::Modules,
    },
    system::{low_priority, sandbox::SandboxSpec},
};

/// How often private copies are made to look used: cleaners go by days.
const FRESHEN: Duration = Duration::from_secs(3600);

/// What a process that opens the file of a plugin may have and reach.
pub(crate) type Sandboxes = Arc<dyn Fn(&Manifest) -> SandboxSpec + Send + Sync>;

/// Where copies go, and who probes them.
pub(crate) struct Preparation {
    dir: Arc<PrivateDir>,
    prober: Result<Prober, NoProber>,
    modules: Arc<Modules>,
    trust: Arc<Trust>,
    sandboxes: Sandboxes,
    own_libraries: Arc<OwnLibraries>,
    probed: Probed,
    /// Bounds how many files are copied or probed at a time.
    places: Arc<Semaphore>,
    /// Bytes that a file may have.
    limit: u64,
}

/// A file that was copied.
pub(crate) struct Copied {
    file: PathBuf,
    pub(crate) copy: PrivateCopy,
    bytes: Content,
    timings: Timings,
    place: Option<OwnedSemaphorePermit>,
}

/// A copy whose manifest was read.
pub(crate) struct Examined {
    pub(crate) file: PathBuf,
    pub(crate) copy: PrivateCopy,
    pub(crate) manifest: Manifest,
    timings: Timings,
    place: Option<OwnedSemaphorePermit>,
}

/// A file that may be loaded.
pub(crate) struct Candidate {
    pub(crate) file: PathBuf,
    pub(crate) copy: PrivateCopy,
    pub(crate) manifest: Manifest,
    /// `None` when there was no probe.
    pub(crate) description: Option<Description>,
    /// What its trial told.
    pub(crate) tried: Tried,
    /// If it was opened before its turn. Whoever does not use it has it closed.
    pub(crate) residence: Option<Box<dyn Residence>>,
    pub(crate) timings: Timings,
}

impl Preparation {
    pub(crate) fn new(
        dir: Arc<PrivateDir>,
        prober: Result<Prober, NoProber>,
        modules: Arc<Modules>,
        trust: Trust,
        sandboxes: Sandboxes,
        limit: usize,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Preparation {
            dir,
            prober,
            modules,
            trust: Arc::new(trust),
            sandboxes,
            own_libraries: Arc::default(),
            probed: Probed::default(),
            places: Arc::new(Semaphore::new(cores * 2)),
            limit: limit as u64,
        }
    }

    /// Ends what is being probed: it is not loaded any more.
    pub(crate) fn end_probes(&self) {
        self.modules.end();
        if let Ok(prober) = &self.prober {
            prober.end();
        }
    }

    /// Whether there is a process to try a candidate in.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn tries(&self) -> Result<(), String> {
        let prober = self.prober.as_ref();
        prober.map(drop).map_err(|reason| format!("the host has no probe process: {reason}"))
    }

    /// What a host warns of that loads the file all the same: who else could have written it.
    pub(crate) fn warns_of(&self, file: &Path) -> Option<TrustError> {
        self.trust.warns_of(file)
    }

    /// Copies a file. `settled` says that it has just settled: how long that took is noted.
    pub(crate) async fn copy(
        self: &Arc<Self>,
        file: &Path,
        settled: bool,
    ) -> Result<Copied, DeployError> {
        let took = settled.then(|| since_last_change(file)).flatten();
        let mut copied = self.copy_for(file, Original::of(file), file).await?;
        if let Some(took) = took {
            copied.timings.note("settle", took);
        }
        Ok(copied)
    }

    /// Copies what lies at `source`, which was copied from its original, and is to be live in place
    /// of `file`.
    pub(crate) async fn copy_for(
        self: &Arc<Self>,
        source: &Path,
        original: Original,
        file: &Path,
    ) -> Result<Copied, DeployError> {
        let (preparation, path) = (self.clone(), source.to_owned());
        self.copy_aside(file, move || preparation.copied(&path, &original)).await
    }

    /// Copies the copy of an earlier version, which is to be live in place of `file`. What that one
    /// was copied from need not be where it was any more, nor have been of the same kind as `file`.
    pub(crate) async fn copy_again(
        self: &Arc<Self>,
        earlier: &Arc<PrivateCopy>,
        file: &Path,
    ) -> Result<Copied, DeployError> {
        let (preparation, earlier) = (self.clone(), earlier.clone());
        let copy = move || Ok(preparation.dir.copy_again(&earlier, preparation.limit)?);
        self.copy_aside(file, copy).await
    }

    async fn copy_aside(
        self: &Arc<Self>,
        file: &Path,
        copy: impl FnOnce() -> Result<(PrivateCopy, Content), DeployError> + Send + 'static,
    ) -> Result<Copied, DeployError> {
        // Never closed, so there is always a place to wait for.
        let place = self.places.clone().acquire_owned().await.ok();
        let started = Instant::now();
        let copied = low_priority::done("ksi-copy", copy).await;
        let no_thread = |error| CopyError::NoThread { path: file.to_owned(), source: error };
        let (copy, bytes) = match copied.map_err(no_thread)? {
            Err(DeployError::Copy(CopyError::Closed)) => return Err(DeployError::Stopping),
            copied => copied?,
        };
        let mut timings = Timings::default();
        timings.note("copy", started.elapsed());
        Ok(Copied { file: file.to_owned(), copy, bytes, timings, place })
    }

    /// Keeps the private copies from cleaners for as long as this is there.
    pub(crate) fn keep_fresh(self: &Arc<Self>, runtime: &Handle) {
        let preparation = Arc::downgrade(self);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(FRESHEN).await;
                let Some(preparation) = preparation.upgrade() else { return };
                // For want of a thread, it is done the next time.
                let _ = low_priority::done("ksi-freshen", move || preparation.dir.freshen()).await;
            }
        });
    }

    /// Removes the private copies. Nothing is copied from here on.
    pub(crate) fn close(&self) {
        self.dir.close();
    }

    /// What begins like no plugin, or is longer than one may be, is not copied at all.
    fn copied(
        &self,
        file: &Path,
        original: &Original,
    ) -> Result<(PrivateCopy, Content), DeployError> {
        let kind = original.kind();
        let is_trusted = |path: &Path, source: &SourceFile| {
            let untrusted = |source| DeployError::Untrusted { file: file.to_owned(), source };
            self.trust.check(path, source.opened()).map_err(untrusted)
        };
        if kind == FileKind::Folder {
            return self.dir.copy_folder(file, original, self.limit, is_trusted);
        }
        let mut source = SourceFile::open(file, kind.longest(self.limit))?;
        is_trusted(file, &source)?;
        if kind == FileKind::Native
            && let Err(refusal) = check_head(&source.head()?, source.len())
        {
            // Of a file that is being written this says nothing.
            source.check()?;
            return Err(DeployError::Manifest { file: file.to_owned(), source: refusal });
        }
        Ok(self.dir.copy(&source, original)?)
    }

    /// Reads what a copy is from its bytes.
    pub(crate) async fn examine(&self, copied: Copied) -> Result<Examined, DeployError> {
        let Copied { file, copy, bytes, mut timings, place } = copied;
        let started = Instant::now();
        // What it is called after, and what is told if it is none: not what it takes the place of.
        let own = || copy.original().path().to_owned();
        let manifest = match copy.kind() {
            FileKind::Native => read_manifest(&bytes, ABI_VERSION, copy.original().path())
                .map_err(|source| DeployError::Manifest { file: own(), source })?,
            FileKind::Python | FileKind::Folder => {
                copy.check_in_place()?;
                let read = self.modules.manifest(&copy).await;
                let refused =
                    |source| DeployError::Python { file: own(), source: Box::new(source) };
                let manifest = read.map_err(refused)?;
                has_subscriptions(&manifest, copy.original().path())?;
                manifest
            }
        };
        timings.note("manifest", started.elapsed());
        for notice in &manifest.notices {
            tracing::warn!(file = %file.display(), plugin = manifest.name, "{notice}");
        }
        Ok(Examined { file, copy, manifest, timings, place })
    }

    /// Copies the libraries that it needs and that lie beside it. A copy of an earlier version has
    /// those that it had.
    async fn with_own_libraries(
        &self,
        examined: Examined,
        linkage: Linkage,
    ) -> Result<Examined, DeployError> {
        let Examined { file, mut copy, mut manifest, timings, place } = examined;
        let (own, dir) = (self.own_libraries.clone(), self.dir.clone());
        let (trust, limit) = (self.trust.clone(), self.limit);
        let from = copy.original().path().to_owned();
        let bring = move || {
            let notices = own.bring(&dir, &mut copy, &from, &linkage, |path| {
                let source = SourceFile::open(path, limit)?;
                let untrusted = |source| DeployError::Untrusted { file: path.to_owned(), source };
                trust.check(path, source.opened()).map_err(untrusted)?;
                Ok::<_, DeployError>(source)
            })?;
            Ok((copy, notices))
        };
        let brought = low_priority::done("ksi-copy", bring).await;
        let no_thread = |source| CopyError::NoThread { path: file.clone(), source };
        let (copy, notices) = match brought.map_err(no_thread)? {
            Err(DeployError::Copy(CopyError::Closed)) => return Err(DeployError::Stopping),
            brought => brought?,
        };
        for notice in &notices {
            tracing::warn!(file = %file.display(), plugin = &*manifest.name, "{notice}");
        }
        manifest.notices.extend(notices);
        Ok(Examined { file, copy, manifest, timings, place })
    }

    /// Whether something has to be installed before it can be loaded, which may take minutes.
    pub(crate) fn installs(&self, examined: &Examined) -> bool {
        match &examined.manifest.built {
            Built::Native(_) => false,
            Built::Python(build) => self.modules.installs(build),
        }
    }

    /// Lets a child process open it and try an instance of it, or only open it, for the reason that
    /// there is none to be tried. What an earlier probe of the same bytes has found is taken,
    /// unless there is state to restore.
    pub(crate) async fn probe(
        &self,
        mut examined: Examined,
        trial: Result<Trial, String>,
    ) -> Result<Candidate, DeployError> {
        let (header, linkage) = match &examined.manifest.built {
            Built::Native(build) => (build.header.clone(), build.linkage.clone()),
            Built::Python(build) => {
                // What is installed may take minutes, and others want to be copied.
                drop(examined.place.take());
                let (name, copy) = (&examined.manifest.name, &mut examined.copy);
                let provided = self.modules.provide(name, build, copy).await;
                if self.modules.has_ended() {
                    return Err(DeployError::Stopping);
                }
                let refused = |source| DeployError::Python {
                    file: examined.file.clone(),
                    source: Box::new(source),
                };
                provided.map_err(refused)?;
                return Ok(not_probed(examined));
            }
        };
        let examined = match OwnLibraries::may_have(&linkage) {
            true => self.with_own_libraries(examined, linkage).await?,
            false => examined,
        };
        let Examined { file, copy, manifest, mut timings, place: _place } = examined;
        let known = self.probed.get(copy.hash_of_all(), trial.as_ref().ok());
        let (description, tried) = match (known, &self.prober) {
            (Some(known), _) => {
                let tried = trial.map_or_else(Tried::Skipped, |_| Tried::Passed);
                (Some(known), tried)
            }
            (None, Ok(prober)) => {
                let started = Instant::now();
                let (trial, skipped) = match trial {
                    Ok(trial) => (Some(Arc::new(trial)), None),
                    Err(reason) => (None, Some(Tried::Skipped(reason))),
                };
                copy.check_in_place()?;
                let sandbox = (self.sandboxes)(&manifest);
                let probed = prober.probe(copy.path(), &header, trial.clone(), sandbox);
                let probed = probed.await;
                if prober.has_ended() {
                    return Err(DeployError::Stopping);
                }
                let (description, unsure) = probed.map_err(|source| {
                    let kept = trial.as_deref().and_then(|trial| trial.kept.clone());
                    let file = file.clone();
                    match kept.filter(|_| source.is_of_state()) {
                        Some(path) => {
                            let plugin = manifest.name.clone();
                            let source = Box::new(source);
                            DeployError::NotRestoredInTrial { file, plugin, path, source }
                        }
                        None => DeployError::Probe { file, source },
                    }
                })?;
                let passed = trial.as_deref().filter(|_| unsure.is_none());
                self.probed.remember(copy.hash_of_all(), &description, passed);
                timings.note("probe", started.elapsed());
                let told = || unsure.map_or(Tried::Passed, Tried::Unsure);
                (Some(description), skipped.unwrap_or_else(told))
            }
            (None, Err(_)) => (None, Tried::Skipped(self.tries().err().unwrap_or_default())),
        };
        Ok(Candidate { file, copy, manifest, description, tried, residence: None, timings })
    }
}

/// A module runs in no other process before its own, which is no part of the host: whatever becomes
/// of it there is told before it takes the place of the one that is live.
fn not_probed(examined: Examined) -> Candidate {
    const WHY: &str = "it is a module of Python: it is opened, initialized and given its state in the process that it \
                       lives in, before it is live";
    let Examined { file, copy, manifest, timings, place: _ } = examined;
    let (description, tried) = (None, Tried::Skipped(WHY.to_owned()));
    Candidate { file, copy, manifest, description, tried, residence: None, timings }
}

/// Whether the names that its handlers are for are such.
pub(crate) fn has_subscriptions(manifest: &Manifest, file: &Path) -> Result<(), DeployError> {
    for handler in &manifest.handlers {
        for event in &handler.subscriptions {
            Pattern::parse(event).map_err(|source| DeployError::Subscription {
                file: file.to_owned(),
                handler: handler.name.clone(),
                source,
            })?;
        }
    }
    Ok(())
}

/// How long ago a file was written, renamed or otherwise touched.
fn since_last_change(file: &Path) -> Option<Duration> {
    let metadata = std::fs::metadata(file).ok()?;
    let seconds = u64::try_from(metadata.ctime()).ok()?;
    let changed = UNIX_EPOCH + Duration::new(seconds, u32::try_from(metadata.ctime_nsec()).ok()?);
    SystemTime::now().duration_since(changed).ok()
}
