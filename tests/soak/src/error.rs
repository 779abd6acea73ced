//! Why a soak could not run to its end. What a run finds out about the host is no error but a
//! figure.

use std::{io, path::PathBuf};

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SoakError {
    #[error("cargo cannot be started to build the plugins: {0}")]
    Cargo(#[source] io::Error),
    #[error("cargo could not build the plugins:\n{0}")]
    Build(String),
    #[error("cargo built no shared library of ksi-soak-plugin; is this its workspace? {0}")]
    NoLibrary(PathBuf),
    #[error(
        "the library has {found} places of {mark:?} where one was expected: is it a build of ksi-soak-plugin?"
    )]
    Mark { mark: &'static str, found: usize },
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("no folder for the run could be made: {0}")]
    Folder(#[source] io::Error),
    #[error("the tokio runtime could not be started: {0}")]
    Runtime(#[source] io::Error),
    #[error("the host's configuration is refused: {0}")]
    Config(#[from] ksi_host::ConfigError),
    #[error("the host could not be started: {0}")]
    Start(#[from] ksi_host::StartError),
    #[error("the socket could not be served: {0}")]
    Socket(#[from] ksi_host::SocketError),
    #[error("an event name of the soak is refused: {0}")]
    Name(#[from] ksi_host::NameError),
    #[error("{0} is not live after the start: {1}")]
    NotLive(&'static str, String),
    #[error("the announcements of the host could not be followed: {0} were missed")]
    Missed(u64),
    #[error("{0}")]
    Stuck(String),
    #[error("a client could not talk on the socket: {0}")]
    Client(#[source] io::Error),
    #[error("a histogram could not be made: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    #[error("the report could not become JSON: {0}")]
    Json(#[from] serde_json::Error),
}
