//! Why a file does not become the live generation of a plugin: one variant a failed step.

mod code;

use std::{path::PathBuf, sync::Arc, time::Duration};

use ksi_abi::NameError;
use thiserror::Error;
use tokio::task::JoinError;

use super::{contracts::in_short, hand_over::HandOverError};
use crate::{
    plugin::{
        file::{copy::CopyError, manifest::ManifestError, trust::TrustError},
        instance::{configs::NoSecret, library::LoadError},
        probe::error::ProbeError,
        python::error::PythonError,
        state::persistence::{PersistError, ways_out},
    },
    secrets::SecretError,
};

/// Why a file did not become the live generation of a plugin.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeployError {
    /// The file could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// An earlier version that was kept is not what it was.
    #[error("{path} is not the file that was kept there: its bytes have another hash", path = .path.display())]
    NotAsKept {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else could have written it.
    #[error("{file} is refused: {source}", file = .file.display())]
    Untrusted {
        /// The file.
        file: PathBuf,
        /// Who could, and where.
        source: TrustError,
    },
    /// Its bytes are not those of a plugin for this host.
    #[error("{file} is refused: {source}", file = .file.display())]
    Manifest {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// It is a module of Python, and cannot be a plugin, or not yet.
    #[error("{file} is refused: {source}", file = .file.display())]
    Python {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: Box<PythonError>,
    },
    /// The probe found it unfit.
    #[error("{file} is refused: {source}", file = .file.display())]
    Probe {
        /// The file.
        file: PathBuf,
        /// What the probe found.
        source: ProbeError,
    },
    /// Another file is that plugin already.
    #[error(
        "{file} is refused: it is a plugin named {plugin:?}, and so is {other}, which is live. If that file is \
         removed, this one takes its place, with its state; or rename one of the plugins", file = .file.display(), other = .other.display()
    )]
    Duplicate {
        /// The file.
        file: PathBuf,
        /// The name of both.
        plugin: Arc<str>,
        /// The file that is live.
        other: PathBuf,
    },
    /// Its library could not be loaded.
    #[error("{file} is refused: {source}", file = .file.display())]
    Load {
        /// The file.
        file: PathBuf,
        /// At which step.
        source: LoadError,
    },
    /// The process that it is to live in did not open it.
    #[error("{file} is refused, and no process of the host has opened it but its own: {reason}", file = .file.display())]
    Worker {
        /// The file.
        file: PathBuf,
        /// What became of its process.
        reason: String,
        /// Whether it may be opened at another time: its process was not started, was late, or has
        /// ended, and the plugin has not said what is wrong.
        may_pass: bool,
    },
    /// It cannot describe itself.
    #[error("{file} is refused: {reason}", file = .file.display())]
    Describe {
        /// The file.
        file: PathBuf,
        /// What it says instead.
        reason: String,
    },
    /// A subscription of its manifest is none.
    #[error("{file} is refused: its handler {handler:?} has a bad subscription: {source}", file = .file.display())]
    Subscription {
        /// The file.
        file: PathBuf,
        /// The handler.
        handler: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// Its `initialize` failed or panicked.
    #[error("{plugin} of {file} did not initialize: {reason}", file = .file.display())]
    Init {
        /// The plugin.
        plugin: Arc<str>,
        /// The file.
        file: PathBuf,
        /// The error or the panic.
        reason: String,
    },
    /// Its `initialize` did not end.
    #[error(
        "{plugin} of {file} did not initialize within {after} (timeouts.init)",
        file = .file.display(), after = humantime::format_duration(*.after)
    )]
    InitTimedOut {
        /// The plugin.
        plugin: Arc<str>,
        /// The file.
        file: PathBuf,
        /// What it was given.
        after: Duration,
    },
    /// The live generation does not take another configuration.
    #[error("{plugin} does not take it: {reason}")]
    Config {
        /// The plugin.
        plugin: Arc<str>,
        /// Its own, or what went wrong: `panicked`, `timed_out`, `crashed`.
        code: String,
        /// What it says.
        reason: String,
    },
    /// A secret of its configuration cannot be had.
    #[error("{plugin} is not given `{key}`: {source}")]
    Secret {
        /// The plugin.
        plugin: String,
        /// Where in the configuration it stands, as in `plugin.hello.api_key`.
        key: String,
        /// Why.
        source: SecretError,
    },
    /// It requires events that nobody handles.
    #[error(
        "{plugin} of {file} waits: it requires {}, which nobody handles. Load the plugin that does",
        .missing.join(" and "), file = .file.display()
    )]
    Missing {
        /// The plugin.
        plugin: Arc<str>,
        /// The file.
        file: PathBuf,
        /// The events.
        missing: Vec<String>,
    },
    /// It breaks contracts with live plugins.
    #[error(
        "{file} is refused: version {version} of {plugin} breaks a contract: {}. Load a version that keeps it, or the plugins \
         that have to change together as one (`ksi load A B`); or let it pass (`contracts.policy`, for the plugin or the \
         event)", in_short(.broken), file = .file.display()
    )]
    Contract {
        /// The file.
        file: PathBuf,
        /// The plugin.
        plugin: Arc<str>,
        /// Its version.
        version: String,
        /// Each broken contract: with whom, over which event, and how.
        broken: Vec<String>,
        /// The plugins that it is refused for.
        with: Vec<Arc<str>>,
    },
    /// Two files that are to go live as one are the same plugin.
    #[error("{file} is not loaded with the others: it is a plugin named {plugin:?}, and so is one of them", file = .file.display())]
    SamePlugin {
        /// The file.
        file: PathBuf,
        /// The name of both.
        plugin: Arc<str>,
    },
    /// An exclusive plugin cannot go live with others.
    #[error(
        "{plugin} is exclusive, so its old instance has to go before there is a new one, and it cannot go live with others by \
         one swap: load it by itself"
    )]
    ExclusiveTogether {
        /// The plugin.
        plugin: Arc<str>,
    },
    /// More files than can go live as one.
    #[error("at most {most} files are loaded as one change")]
    TooManyTogether {
        /// How many can.
        most: usize,
    },
    /// One of several files that were to go live as one did not.
    #[error("none of the files was loaded: {source}")]
    Together {
        /// What is wrong with one of them.
        source: Box<DeployError>,
    },
    /// The live generation's state was not handed over.
    #[error("{file} does not take over: {source}", file = .file.display())]
    HandOver {
        /// The file.
        file: PathBuf,
        /// At which step it failed.
        source: HandOverError,
    },
    /// The state that was kept on disk was not restored.
    #[error("{file} is not started, so that its kept state is not lost: {source}", file = .file.display())]
    Persist {
        /// The file.
        file: PathBuf,
        /// At which step it failed.
        source: Box<PersistError>,
    },
    /// The state that was kept on disk can be read, and a copy of it was not restored in a trial.
    #[error(
        "{} is not started, so that its kept state is not lost: the kept snapshot {} was not restored: {source}. Load a \
         version that restores it; {}", .file.display(), .path.display(), ways_out(plugin)
    )]
    NotRestoredInTrial {
        /// The file.
        file: PathBuf,
        /// The plugin.
        plugin: String,
        /// The snapshot's file.
        path: PathBuf,
        /// What the trial found.
        source: Box<ProbeError>,
    },
    /// Going back would give up state, and nobody has agreed to that.
    #[error(
        "going back to {to} of {plugin} would give up {cost}. {}", agreement(plugin, to, *.has_folder)
    )]
    LosesState {
        /// The plugin.
        plugin: String,
        /// The version to go back to.
        to: String,
        /// What it costs, and why.
        cost: String,
        /// Whether the host keeps state on disk, so that what is given up can be kept aside.
        has_folder: bool,
    },
    /// The host went back from these very bytes, or died of them.
    #[error(
        "{file} is quarantined until it changes, or `ksi load {file}` asks for it: {reason}", file = .file.display()
    )]
    Quarantined {
        /// The file.
        file: PathBuf,
        /// What happened.
        reason: String,
    },
    /// There is no earlier version.
    #[error(
        "there is no version of {plugin} to go back to: it was not replaced since it was loaded (or reload.kept_versions is 0)"
    )]
    NothingBefore {
        /// The name.
        plugin: String,
    },
    /// Too many of its old generations are still in memory.
    #[error(
        "{plugin} is not replaced for now: {count} earlier generations of it are still in memory. `ksi inspect` tells what \
         pins them; end that, or restart the host"
    )]
    TooManyPinned {
        /// The plugin.
        plugin: Arc<str>,
        /// How many.
        count: usize,
    },
    /// There is no such plugin.
    #[error("there is no plugin named {plugin:?}; `ksi list` shows those there are")]
    NoSuchPlugin {
        /// The name.
        plugin: String,
    },
    /// The plugin is not live.
    #[error("{plugin} is not live")]
    NotLive {
        /// The name.
        plugin: String,
    },
    /// An exclusive plugin's new version failed when the old instance was gone; another one of the
    /// old version is there.
    #[error(
        "{source}. The instance before was released by then: one of version {version} was made again, {state}, and \
         goes on"
    )]
    Reinstated {
        /// The version that is live again.
        version: String,
        /// With which state.
        state: &'static str,
        /// What failed.
        source: Box<DeployError>,
    },
    /// An exclusive plugin's new version failed when the old instance was gone, and no other could
    /// be made.
    #[error(
        "{source}. The instance before was released by then, and none of version {version} could be made again: {reason}. \
         {plugin} is not live; its file is tried again, and `ksi load` or `ksi reload` try at once"
    )]
    Down {
        /// The plugin.
        plugin: Arc<str>,
        /// The version that was live.
        version: String,
        /// Why it is not live again.
        reason: String,
        /// What failed.
        source: Box<DeployError>,
    },
    /// The host is stopping.
    #[error("the host is stopping and loads nothing any more")]
    Stopping,
    /// The host's own code panicked.
    #[error(
        "the host failed at it, and not the plugin: {0}. The log says where it panicked: please report that; `ksi list` shows \
         what is live"
    )]
    Panicked(#[source] JoinError),
}

impl From<JoinError> for DeployError {
    fn from(error: JoinError) -> Self {
        if error.is_panic() { Self::Panicked(error) } else { Self::Stopping }
    }
}

/// What somebody can do who wants to go back at the cost of state.
fn agreement(plugin: &str, to: &str, has_folder: bool) -> String {
    match has_folder {
        true => format!(
            "To do it all the same, ask again with `--force` (\"force\": true): the state as it is now is kept aside then, and \
             `ksi state list {plugin}` shows it"
        ),
        false => format!(
            "This host keeps no state on disk, so there is nowhere to keep it aside, and `--force` is refused as long as \
             {plugin} gives its state: start the host with `--state DIR`; or give the state up with `ksi unload {plugin}`, \
             and load the file of {to} then"
        ),
    }
}

/// Why state did not go from one version to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfState {
    /// The live version does not give it.
    NotGiven,
    /// The next one does not take it.
    NotTaken,
    /// Something else was in the way. The state may be as good as ever.
    HeldUp,
}

impl DeployError {
    /// That a plugin cannot be given its configuration.
    pub(in crate::plugin) fn no_secret(plugin: &str, no_secret: NoSecret) -> Self {
        let NoSecret { key, source } = no_secret;
        DeployError::Secret { plugin: plugin.to_owned(), key, source }
    }
}

impl DeployError {
    /// For programs: why a plugin has not taken another configuration.
    pub(crate) fn config_code(&self) -> &str {
        match self {
            DeployError::Config { code, .. } => code,
            DeployError::Reinstated { source, .. } => source.config_code(),
            other => other.code(),
        }
    }

    /// Whether the live generation did not give its state away, or the new one did not take it, in
    /// its trial or in the host; or whether it did not come to that.
    pub(crate) fn of_state(&self) -> Option<OfState> {
        match self {
            DeployError::HandOver { source, .. } => match source {
                HandOverError::Snapshot(_) => Some(OfState::NotGiven),
                HandOverError::Restore(_) | HandOverError::NoCommonVersion { .. } => {
                    Some(OfState::NotTaken)
                }
                HandOverError::Busy { .. }
                | HandOverError::Leaving { .. }
                | HandOverError::NotReleased { .. }
                | HandOverError::NotReady { .. }
                | HandOverError::TooManyHeld { .. } => Some(OfState::HeldUp),
                // Nothing is wrong with the state.
                HandOverError::NoState | HandOverError::NotAside { .. } => None,
            },
            DeployError::Probe { source, .. } if source.is_of_state() => Some(OfState::NotTaken),
            DeployError::Reinstated { source, .. } => source.of_state(),
            _ => None,
        }
    }

    /// Whether the same file may become a plugin at another time.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            DeployError::Copy(error) => error.may_pass(),
            DeployError::Load { source, .. } => matches!(source, LoadError::Thread { .. }),
            DeployError::Init { .. }
            | DeployError::Secret { .. }
            | DeployError::InitTimedOut { .. }
            | DeployError::TooManyPinned { .. }
            | DeployError::Down { .. } => true,
            DeployError::Reinstated { source, .. } => source.may_pass(),
            DeployError::Python { source, .. } => source.may_pass(),
            DeployError::Probe { source, .. } => source.may_pass(),
            DeployError::Worker { may_pass, .. } => *may_pass,
            DeployError::HandOver { source, .. } => match source {
                HandOverError::Busy { .. }
                | HandOverError::Leaving { .. }
                | HandOverError::NotReleased { .. }
                | HandOverError::NotReady { .. }
                | HandOverError::TooManyHeld { .. } => true,
                HandOverError::Snapshot(error) | HandOverError::Restore(error) => error.may_pass(),
                HandOverError::NoState
                | HandOverError::NotAside { .. }
                | HandOverError::NoCommonVersion { .. } => false,
            },
            DeployError::Persist { source, .. } => match &**source {
                PersistError::State(error) | PersistError::NotRestored { source: error, .. } => {
                    error.may_pass()
                }
                PersistError::NotDone(_) => true,
                _ => false,
            },
            DeployError::NotRestoredInTrial { source, .. } => source.may_pass(),
            _ => false,
        }
    }
}
