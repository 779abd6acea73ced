//! What a module's manifest is, and how its process is started.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ksi_kernel::lock::Lock;
use ksi_sandbox::Limits;
use ksi_worker_protocol::life;
use serde_json::json;

use super::{
    describer::Describer,
    environment::Environments,
    error::PythonError,
    interpreter::{Interpreter, Interpreters},
    package::Package,
};
use crate::{
    plugin::{
        file::{
            copy::{PrivateCopy, PrivateDir},
            kind::{FileKind, Original},
            manifest::{Built, Manifest, PythonBuild},
        },
        worker::{
            process::Program,
            residence::{Launch, Spawner, WorkerPolicy},
            spares::Spares,
        },
    },
    system::{low_priority, sandbox::SandboxSpec},
};

pub(crate) use super::environment::Installer;

/// What an interpreter runs to be the process of a module; its argument is where the package lies.
const WORKER: &str =
    "import sys; sys.path.insert(0, sys.argv[1]); from ksi.worker import main; main()";
/// Where a folder has its sources, if not in itself.
const SOURCES: &str = "src";
/// Variables of the environment that would change what an interpreter does begin so.
const ITS_VARIABLES: &str = "PYTHON";

/// How modules are run.
pub(crate) struct PythonSettings {
    /// A name that is looked for in `PATH`, or a path.
    pub(crate) interpreter: PathBuf,
    /// Whether a process waits for the next module.
    pub(crate) spare: bool,
    /// The globals that are the state of plugins, by name, where the operator says so.
    pub(crate) keep: BTreeMap<String, Vec<String>>,
    /// What reading a source may take.
    pub(crate) limit: Duration,
    /// What installs the packages that modules need.
    pub(crate) installer: Option<Installer>,
    /// Where they are kept over a restart of the host; if nowhere, they go with it.
    pub(crate) environments: Option<PathBuf>,
    /// Folders that all of them import from.
    pub(crate) path: Vec<PathBuf>,
}

/// See the module.
pub(crate) struct Modules {
    spare: bool,
    keep: BTreeMap<String, Vec<String>>,
    shared: Vec<PathBuf>,
    interpreters: Interpreters,
    describer: Describer,
    dir: Arc<PrivateDir>,
    package: Package,
    environments: Environments,
    spawner: Arc<Spawner>,
    /// What limits itself and becomes an interpreter then.
    limiter: Option<Arc<Program>>,
    /// For the program that they run.
    spares: Lock<Option<(Arc<Program>, Arc<Spares>)>>,
}

impl Modules {
    /// Nothing is looked for or started before there is a module.
    pub(crate) fn new(
        settings: PythonSettings,
        dir: Arc<PrivateDir>,
        spawner: Arc<Spawner>,
        limiter: Option<Arc<Program>>,
    ) -> Self {
        let PythonSettings { interpreter, spare, keep, limit, installer, environments, path } =
            settings;
        Modules {
            environments: Environments::new(environments, installer),
            spare,
            keep,
            shared: path,
            interpreters: Interpreters::named(interpreter),
            describer: Describer::new(limit),
            dir,
            package: Package::default(),
            spawner,
            limiter,
            spares: Lock::default(),
        }
    }

    /// What the module is that was copied. Nothing of it is run.
    ///
    /// # Errors
    /// It is none, or there is no interpreter.
    pub(crate) async fn manifest(&self, copy: &PrivateCopy) -> Result<Manifest, PythonError> {
        let interpreter = self.interpreters.get().await?;
        let (of, at) = (copy.original(), copy.content_path());
        let name = of.stem();
        let read = self.describer.describe(&interpreter, at, of.path(), &name);
        let manifest = read.await?;
        let keep = self.keep.get(&manifest.name);
        Ok(completed(manifest, &interpreter, keep))
    }

    /// Sees to it that the packages are there that a module needs, and stay for as long as its copy
    /// does.
    ///
    /// # Errors
    /// They are not.
    pub(crate) async fn provide(
        &self,
        name: &str,
        build: &PythonBuild,
        copy: &mut PrivateCopy,
    ) -> Result<(), PythonError> {
        if build.dependencies.is_empty() {
            return Ok(());
        }
        let interpreter = self.interpreters.get().await?;
        let provided =
            self.environments.provide(&self.dir, &interpreter, &build.dependencies, name);
        if let Some(environment) = provided.await? {
            copy.stays_with(environment);
        }
        Ok(())
    }

    /// Whether packages that a module needs have to be installed first, and will be.
    pub(crate) fn installs(&self, build: &PythonBuild) -> bool {
        let interpreter = self.interpreters.known();
        let installs = |it: Arc<_>| self.environments.installs(&self.dir, &it, &build.dependencies);
        interpreter.is_some_and(installs)
    }

    /// Ends what goes on for the sake of modules that are not live: the host stops.
    pub(crate) fn end(&self) {
        self.environments.end();
    }

    /// Whether the host stops.
    pub(crate) fn has_ended(&self) -> bool {
        self.environments.has_ended()
    }

    /// How the process of a module of this name comes to have it open.
    ///
    /// # Errors
    /// There is nothing to be started.
    pub(crate) async fn launch(
        self: &Arc<Self>,
        name: &str,
        build: &PythonBuild,
        copy: &PrivateCopy,
        policy: &WorkerPolicy,
    ) -> Result<Launch, PythonError> {
        let interpreter = self.interpreters.get().await?;
        let modules = self.clone();
        let written =
            low_priority::done("ksi-python", move || modules.package.folder(&modules.dir));
        let not_written = |source| PythonError::Package { path: PathBuf::new(), source };
        let package = written.await.map_err(not_written)??;
        let program = program(&interpreter, &package);
        let packages = self.environments.folder_of(&self.dir, &interpreter, &build.dependencies)?;
        let own = match copy.kind() {
            FileKind::Folder => imports_from(copy.content_path(), &build.entry),
            FileKind::Native | FileKind::Python => Vec::new(),
        };
        let as_text = |folder: &PathBuf| {
            let no_text = || PythonError::NoText { path: folder.clone() };
            folder.to_str().map(str::to_owned).ok_or_else(no_text)
        };
        let path: Vec<String> =
            own.iter().chain(&packages).map(as_text).collect::<Result<_, _>>()?;
        let shared: Vec<String> = self.shared.iter().map(as_text).collect::<Result<_, _>>()?;
        let keep = build.keep_is_named.then_some(&build.keep);
        let python = json!({
            "kind": build.kind, "module": name, "entry": build.entry, "keep": keep,
            "path": path, "shared": shared, "pluggy": build.pluggy,
        });
        let told = life::Open { python, ..life::Open::default() };
        if policy.limited {
            let limiter = self.limiter.as_ref().ok_or(PythonError::NobodyLimits)?;
            let own = [package, copy.content_path().to_owned()].into_iter().chain(packages);
            let read = interpreter.folders.iter().chain(&self.shared).cloned().chain(own);
            let program = Arc::new(limited(limiter, &policy.sandbox, &program, read)?);
            return Ok(Launch { program, spares: None, told });
        }
        let spares = self.spare.then(|| self.spares(&program));
        Ok(Launch { program, spares, told })
    }

    /// Those that run this program.
    fn spares(&self, program: &Arc<Program>) -> Arc<Spares> {
        let mut spares = self.spares.lock();
        match &*spares {
            Some((of, spares)) if of == program => spares.clone(),
            // The package has been written to another folder.
            _ => {
                let new = Spares::new(self.spawner.clone(), program.clone());
                *spares = Some((program.clone(), new.clone()));
                new
            }
        }
    }
}

/// What a module is, for whoever has no host. Blocks.
///
/// # Errors
/// It is none, or there is no interpreter.
pub(crate) fn manifest_of(
    interpreter: &Path,
    limit: Duration,
    file: &Path,
) -> Result<Manifest, PythonError> {
    let interpreter = Interpreter::ask(interpreter)?;
    let of = Original::of(file);
    let manifest = Describer::describe_now(&interpreter, limit, file, &of.stem())?;
    Ok(completed(manifest, &interpreter, None))
}

/// Where what is in a folder is imported from: where the file lies that is run, and its `src`.
fn imports_from(folder: &Path, entry: &str) -> Vec<PathBuf> {
    let sources = folder.join(SOURCES);
    let is_within = Path::new(entry).starts_with(SOURCES);
    let root = (!is_within).then(|| folder.to_owned());
    root.into_iter().chain(sources.is_dir().then_some(sources)).collect()
}

/// Adds what its source does not say: what runs it, and what the operator says that its state is.
fn completed(
    mut manifest: Manifest,
    interpreter: &Interpreter,
    keep: Option<&Vec<String>>,
) -> Manifest {
    let Built::Python(build) = &mut manifest.built else { return manifest };
    build.interpreter.clone_from(&interpreter.version);
    if let Some(keep) = keep {
        build.keep.clone_from(keep);
        build.keep_is_named = true;
    }
    manifest
}

fn program(interpreter: &Interpreter, package: &Path) -> Arc<Program> {
    // Isolated: with nothing of the user's own or of the environment's, and no current folder.
    let arguments = ["-I", "-u", "-c", WORKER].map(OsString::from).into_iter();
    let arguments = arguments.chain([package.as_os_str().to_owned()]).collect();
    Arc::new(Program { path: interpreter.path.clone(), arguments, without: ITS_VARIABLES })
}

/// The same within limits, set by another program that becomes this one. It may read what the
/// interpreter and the module are made of.
fn limited(
    limiter: &Program,
    sandbox: &SandboxSpec,
    program: &Program,
    read: impl Iterator<Item = PathBuf>,
) -> Result<Program, PythonError> {
    let unreadable = |error: serde_json::Error| PythonError::Limits { reason: error.to_string() };
    let mut limits: Limits = serde_json::from_value(sandbox.clone()).map_err(unreadable)?;
    // A link is followed when it is run, and the way there is not looked at.
    limits.becomes = program.path.canonicalize().ok().or_else(|| Some(program.path.clone()));
    limits.read.extend(read);
    let limits = serde_json::to_string(&limits).map_err(unreadable)?;
    let mut arguments = limiter.arguments.clone();
    arguments.extend([limits.into(), program.path.clone().into()]);
    arguments.extend(program.arguments.iter().cloned());
    Ok(Program { path: limiter.path.clone(), arguments, without: program.without })
}
