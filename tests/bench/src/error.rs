//! Why nothing was measured.

use std::{io, path::PathBuf};

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("cargo cannot be started to build the plugins: {0}")]
    Cargo(#[source] io::Error),
    #[error("cargo could not build the plugins; see above")]
    Build,
    #[error("cargo built no {0}; is this its workspace?")]
    NotBuilt(&'static str),
    #[error("the library has {found} places of {mark:?} where one was expected")]
    Mark { mark: String, found: usize },
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("no folder for a host could be made: {0}")]
    Folder(#[source] io::Error),
    #[error("the tokio runtime could not be started: {0}")]
    Runtime(#[source] io::Error),
    #[error("the host could not be started: {0}")]
    Start(#[from] ksi_host::StartError),
    #[error("a setting is refused: {0}")]
    Config(#[from] ksi_host::Problem),
    #[error("the host's socket could not be served: {0}")]
    Serve(#[from] ksi_host::SocketError),
    #[error("an event name is refused: {0}")]
    Name(#[from] ksi_host::NameError),
    #[error("{live} of {wanted} plugins are live: {errors}")]
    NotLive { wanted: usize, live: usize, errors: String },
    #[error("{event}: {problem}")]
    Event { event: String, problem: String },
    #[error("{0}: a reply is wrong or missing")]
    Wrong(String),
    #[error("a client or the echo could not talk on its socket: {0}")]
    Socket(#[source] io::Error),
    #[error("python3, or what it runs beside the host, could not be used: {0}")]
    Python(#[source] io::Error),
    #[error("a program that was started could not be used: {0}")]
    Program(String),
    #[error(
        "there is no valgrind, which counts the instructions: install it, for instance with \
         `apt-get install valgrind` or `dnf install valgrind`"
    )]
    NoValgrind,
    #[error("tests/bench/bounds.toml, as it was when this was built: {0}")]
    Bounds(#[source] Box<toml::de::Error>),
    #[error("a part of the measurement ended before its time: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("something could not become JSON, or is none: {0}")]
    Json(#[from] serde_json::Error),
}
