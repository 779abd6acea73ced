//! Why a module of Python is no plugin: one variant a failed step.

use std::{path::PathBuf, time::Duration};

use thiserror::Error;

use crate::plugin::file::{copy::CopyError, manifest::ManifestError};

/// Why a module of Python is no plugin, or not yet.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PythonError {
    /// There is no such program.
    #[error(
        "it is a module of Python, and there is no interpreter: {interpreter} was not found{where_}. Install CPython 3.10 or \
         later, or name one (`interpreter` in [python])",
        interpreter = .interpreter.display(),
        where_ = if .interpreter.components().count() > 1 { "" } else { " in PATH" }
    )]
    NoInterpreter {
        /// As it is configured.
        interpreter: PathBuf,
    },
    /// There is one, which does not say what it is.
    #[error(
        "it is a module of Python, and {interpreter} does not say its version: {reason}. Name an interpreter that runs \
         (`interpreter` in [python])",
        interpreter = .interpreter.display()
    )]
    Unusable {
        /// As it is configured.
        interpreter: PathBuf,
        /// What it does instead.
        reason: String,
        /// Whether it may say it at another time: it has said nothing.
        may_pass: bool,
    },
    /// It is too old, or none that is known.
    #[error(
        "it is a module of Python, and {interpreter} is {found}, where CPython 3.10 or later is needed: name one \
         (`interpreter` in [python])",
        interpreter = .interpreter.display()
    )]
    TooOld {
        /// As it is configured.
        interpreter: PathBuf,
        /// What it says that it is.
        found: String,
    },
    /// The source cannot be parsed.
    #[error("{file}, line {line}, column {column}: {message}{}", quoted(text))]
    Syntax {
        /// The module.
        file: String,
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What the parser says.
        message: String,
        /// The line.
        text: String,
    },
    /// What is written is no plugin.
    #[error("{message}")]
    Mistake {
        /// What is wrong, and what to do about it.
        message: String,
    },
    /// The source says of the module what cannot be.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The interpreter cannot be started for now.
    #[error("its source is not read, because {program} cannot be started: {source}", program = .program.display())]
    NotStarted {
        /// The interpreter.
        program: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It has ended while it read this source.
    #[error(
        "reading its source ended the process that reads them ({how}): is it very long, or deeply nested?"
    )]
    Died {
        /// With which status.
        how: String,
    },
    /// It has not read this source in time.
    #[error("its source was not read within {} (timeouts.probe)", humantime::format_duration(*.after))]
    TimedOut {
        /// What it was given.
        after: Duration,
    },
    /// Its answer cannot be understood.
    #[error("its source was read, and what was found cannot be understood: {reason}")]
    Answer {
        /// What is wrong with it.
        reason: String,
    },
    /// What modules import cannot be written where they find it.
    #[error("the package that modules import cannot be written to {path}: {source}", path = .path.display())]
    Package {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no place for it.
    #[error(transparent)]
    NoPlace(#[from] CopyError),
    /// It needs packages, and nobody is to install them.
    #[error(
        "it needs {}, and nothing installs packages here: set `install` in [python] to \"uv\" or \"pip\"; or run `{command}`, \
         and `ksi load` it then",
        packages.join(", ")
    )]
    NotInstalled {
        /// What it needs.
        packages: Vec<String>,
        /// What would install it where the host looks for it.
        command: String,
    },
    /// What it needs is the name of no package.
    #[error("it needs {name:?}, which is the name of no package: see PEP 508")]
    NoPackage {
        /// As it is written.
        name: String,
    },
    /// Its packages could not be installed.
    #[error("what it needs was not installed by `{command}`: {reason}")]
    Install {
        /// What was run.
        command: String,
        /// What it said last, or why it was given up.
        reason: String,
    },
    /// There is no place for its packages.
    #[error("there is no place for what it needs: {path}: {source}", path = .path.display())]
    Environment {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A folder that it imports from has a name that cannot be passed on.
    #[error("{path} is no UTF-8, which what modules import from has to be: see host.private_dir and state.dir", path = .path.display())]
    NoText {
        /// The folder.
        path: PathBuf,
    },
    /// Its limits make no sense to whoever is to pass them on.
    #[error("what it is to be limited to ([isolation]) cannot be read: {reason}")]
    Limits {
        /// What is wrong with it.
        reason: String,
    },
    /// It is to be limited, and nobody could do that.
    #[error(
        "it is to be limited ([isolation]), and there is no program for that: this one does not call ksi_host::answer_probe \
         first thing in its main"
    )]
    NobodyLimits,
}

impl PythonError {
    /// Whether the same file may be a plugin at another time.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            PythonError::Unusable { may_pass, .. } => *may_pass,
            PythonError::NotStarted { .. }
            | PythonError::Died { .. }
            | PythonError::TimedOut { .. }
            | PythonError::Package { .. }
            | PythonError::Install { .. }
            | PythonError::Environment { .. } => true,
            PythonError::NoPlace(error) => error.may_pass(),
            _ => false,
        }
    }
}

/// The line that is meant, if there is one.
fn quoted(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(": `{text}`") }
}
