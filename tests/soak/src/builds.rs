//! The two builds of ksi-soak-plugin that a run's files are cut from: they differ in size and in
//! code.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cargo_metadata::Message;

use crate::{error::SoakError, library::Library};

const PACKAGE: &str = "ksi-soak-plugin";
const LIBRARY: &str = "ksi_soak_plugin";

/// A small one, and a large one with a tokio runtime.
pub(crate) struct Builds {
    pub(crate) plain: Library,
    pub(crate) bulk: Library,
}

impl Builds {
    /// Takes the files that were named, or has cargo build them in the profile and target folder of
    /// this program.
    ///
    /// # Errors
    /// Cargo fails, or a file is no build of ksi-soak-plugin.
    pub(crate) fn get(files: &[PathBuf]) -> Result<Self, SoakError> {
        let of = |path: &Path| Library::new(read(path)?);
        match files {
            [] => {
                Ok(Builds { plain: of(&build(&[])?)?, bulk: of(&build(&["--features", "bulk"])?)? })
            }
            [plain] => Ok(Builds { plain: of(plain)?, bulk: of(plain)? }),
            [plain, bulk, ..] => Ok(Builds { plain: of(plain)?, bulk: of(bulk)? }),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SoakError> {
    std::fs::read(path).map_err(|source| SoakError::File { path: path.to_owned(), source })
}

/// The workspace's folder.
fn workspace() -> PathBuf {
    // What cargo says now comes first: the folder may have been moved with all that was built in
    // it.
    let own = std::env::var_os("CARGO_MANIFEST_DIR");
    let own = PathBuf::from(own.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()));
    own.ancestors().nth(2).map_or(own.clone(), Path::to_owned)
}

/// Builds the library. The next build writes over its file.
fn build(arguments: &[&str]) -> Result<PathBuf, SoakError> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.current_dir(workspace()).stdin(Stdio::null()).stderr(Stdio::piped());
    cargo.args([
        "build",
        "--package",
        PACKAGE,
        "--lib",
        "--message-format=json-render-diagnostics",
    ]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    cargo.args(arguments);
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
    let output = cargo.output().map_err(SoakError::Cargo)?;
    if !output.status.success() {
        return Err(SoakError::Build(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let mut built = Message::parse_stream(&output.stdout[..]).filter_map(|it| library(it.ok()?));
    built.next().ok_or_else(|| SoakError::NoLibrary(workspace()))
}

/// The shared library, if a message of cargo's tells of the one that is built here.
fn library(message: Message) -> Option<PathBuf> {
    let Message::CompilerArtifact(artifact) = message else { return None };
    let mut files = artifact.filenames.into_iter().filter(|_| artifact.target.name == LIBRARY);
    let library = files.find(|file| file.as_str().ends_with(std::env::consts::DLL_SUFFIX));
    library.map(PathBuf::from)
}

/// The target folder that this program was built into.
fn target_folder() -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    this.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists()).map(Path::to_owned)
}
