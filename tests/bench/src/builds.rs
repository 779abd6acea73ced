//! The libraries that are loaded, built by cargo in the profile and the target folder of this
//! program.

use std::{
    collections::HashMap,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cargo_metadata::{Message, TargetKind};
use ksi_host::ChildEntry;

use crate::{error::BenchError, library::Library};

const EMITTER: &str = "ksi-bench-emitter";
const HANDLERS: &str = "ksi-bench-handlers";
const SMALL: &str = "hello";
const STATE: &str = "ksi-plugin-state";
/// Its library has a name of its own.
const STATE_LIBRARY: &str = "ksi-state";
const ALLOCATIONS: &str = "ksi-bench-allocations";

/// Everything that a run loads.
pub(crate) struct Builds {
    /// What this program gives the hosts that load them.
    pub(crate) entry: ChildEntry,
    pub(crate) emitter: Library,
    pub(crate) handlers: Library,
    /// The smallest plugin, for hosts with many.
    pub(crate) small: Library,
    /// One that keeps state.
    pub(crate) state: Library,
}

/// The program that counts allocations, and the builds of the two plugins that count theirs.
pub(crate) struct Counting {
    pub(crate) program: PathBuf,
    pub(crate) emitter: PathBuf,
    pub(crate) handlers: PathBuf,
}

/// The files of the two plugins.
pub(crate) struct Plugins {
    pub(crate) emitter: PathBuf,
    pub(crate) handlers: PathBuf,
}

impl Plugins {
    /// # Errors
    /// Cargo fails, or builds something else.
    pub(crate) fn get() -> Result<Self, BenchError> {
        let built = build(&[EMITTER, HANDLERS], &[])?;
        let file = |package| file(&built, package).cloned();
        Ok(Plugins { emitter: file(EMITTER)?, handlers: file(HANDLERS)? })
    }
}

impl Builds {
    /// # Errors
    /// Cargo fails, or builds something else.
    pub(crate) fn get(entry: ChildEntry) -> Result<Self, BenchError> {
        let built = build(&[EMITTER, HANDLERS, SMALL, STATE], &[])?;
        let library = |package| Library::read(file(&built, package)?);
        let (emitter, handlers) = (library(EMITTER)?, library(HANDLERS)?);
        let (small, state) = (library(SMALL)?, library(STATE_LIBRARY)?);
        Ok(Builds { entry, emitter, handlers, small, state })
    }
}

impl Counting {
    /// Builds over the files of [`Builds`], which are read by then.
    ///
    /// # Errors
    /// Cargo fails, or builds something else.
    pub(crate) fn get() -> Result<Self, BenchError> {
        let features = "ksi-bench-emitter/count-allocations,ksi-bench-handlers/count-allocations";
        let built = build(&[EMITTER, HANDLERS, ALLOCATIONS], &["--features", features])?;
        let file = |package| file(&built, package).cloned();
        let (program, emitter) = (file(ALLOCATIONS)?, file(EMITTER)?);
        Ok(Counting { program, emitter, handlers: file(HANDLERS)? })
    }
}

type Files = HashMap<String, PathBuf>;

fn file<'a>(files: &'a Files, package: &'static str) -> Result<&'a PathBuf, BenchError> {
    files.get(package).ok_or(BenchError::NotBuilt(package))
}

/// Builds packages; gives their libraries and programs.
fn build(packages: &[&str], arguments: &[&str]) -> Result<Files, BenchError> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.current_dir(workspace()).stdin(Stdio::null()).stdout(Stdio::piped());
    cargo.args(["build", "--message-format=json-render-diagnostics"]).args(arguments);
    cargo.args(packages.iter().flat_map(|package| ["--package", package]));
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    if let Some(target) = target_folder() {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    for (name, _) in std::env::vars() {
        // `cargo run` sets these for us, and build scripts that look at them would run again at
        // every build.
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    let mut cargo = cargo.spawn().map_err(BenchError::Cargo)?;
    let messages = cargo.stdout.take().map(BufReader::new);
    let messages = messages.into_iter().flat_map(Message::parse_stream);
    let files = messages.filter_map(|message| artifact(message.ok()?)).collect();
    match cargo.wait().map_err(BenchError::Cargo)?.success() {
        true => Ok(files),
        false => Err(BenchError::Build),
    }
}

/// The package and its program or shared library, if a message tells of one.
fn artifact(message: Message) -> Option<(String, PathBuf)> {
    let Message::CompilerArtifact(artifact) = message else { return None };
    let is_library = artifact.target.kind.contains(&TargetKind::CDyLib);
    let mut files = artifact.filenames.into_iter().filter(|_| is_library);
    let library = files.find(|file| file.as_str().ends_with(std::env::consts::DLL_SUFFIX));
    let file = artifact.executable.or(library)?;
    // A library is called like its package, with underscores.
    Some((artifact.target.name.replace('_', "-"), file.into()))
}

/// The workspace's folder.
fn workspace() -> PathBuf {
    // What cargo says now comes first: the folder may have been moved with all that was built in
    // it.
    let own = std::env::var_os("CARGO_MANIFEST_DIR");
    let own = PathBuf::from(own.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()));
    own.ancestors().nth(2).map_or(own.clone(), Path::to_owned)
}

/// The target folder that this program was built into.
fn target_folder() -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    this.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists()).map(Path::to_owned)
}
