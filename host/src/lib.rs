//! A host for native event plugins.
//!
//! Plugins are shared libraries in a folder, written with `ksi-plugin-api`. They talk only by
//! events. A plugin whose file changes is replaced while the host runs.
//!
//! The way of an event, from emit to [report](Report), is that of `ksi-kernel`, a crate of its own.
//! The way of a file, from a folder to a live plugin and on to its replacement: `plugin`. Around
//! them: `builtin`, the host's own handlers; `control`, where clients send events; `core`, which
//! holds it all together, and [`Host`], its handle. ARCHITECTURE.md in the repository is the map.

// What an embedding program holds, and what that is a handle of.
mod host;
// Its inside,
mod core;
// what it answers by itself,
mod builtin;
// where clients ask it,
mod control;
// and its plugins.
mod plugin;
// Where it is entered in processes that it has started.
mod child_entry;
// What those share.
mod catalog;
mod clients;
mod config;
mod crash;
mod history;
mod log_levels;
mod start_up;
mod stopping;
// What knows nothing of a host.
mod secrets;
mod sync;
mod system;
mod text;

pub use child_entry::answer_probe;
pub use config::{
    AfterDrain, Cgroup, Checkpoint, Config, ConfigError, ConfigFault, ContractPolicy, Contracts,
    ContractsOf, InstallWith, Isolation, IsolationMode, IsolationOf, IsolationPolicy, Limits, Log,
    LogFormat, Metrics, Origin, Problem, Python, PythonOf, Recorder, Recovery, Reload, ReloadOf,
    ReloadPolicy, Restart, StateFiles, Timeouts, UntrustedPlugins, Validate,
    socket_path::{Environment, SocketPath, SocketPathError},
};
pub use control::{ClaimedSocket, ControlSocket, SocketError};
pub use core::{
    UnkeptState,
    settings::{ConfigReloaded, Reconfigured, ReconfiguredOutcome, ReloadConfigError},
};
pub use crash::{JournalError, LastWords, expect_exit, last_words};
pub use host::{HandlerId, Host, HostBuilder, Loaded, RequestError, StartError, StartingHost};
pub use ksi_abi::{EventName, NameError, Pattern, validate_event_name};
pub use ksi_kept::{DescriptorStore, StoredDescriptor};
pub use ksi_kernel::{
    call::{
        outcome_taps::{ObservedCall, OutcomeStatus, OutcomeWatch},
        tally::Counts,
    },
    event::{Event, EventId, EventRef, IntoEvent, InvalidEvent, NewEvent, Payload},
    report::{Outcome, OutcomeKind, Report},
    router::{
        host_handler::Failure,
        not_sent::SendError,
        taps::{Watch, Watched},
    },
};
pub use ksi_sandbox::{Bytes, Limits as ProcessLimits, Peers, Ports, Profile};
pub use log_levels::{InvalidLogLevel, LogLevel, LogLevels};
pub use plugin::{
    file::{
        copy::{CopyError, PrivateDirError},
        manifest::{
            Built, HandlerManifest, Manifest, ManifestError, NativeBuild, PythonBuild,
            StateManifest, Unread,
        },
        trust::TrustError,
        watch::WatchError,
    },
    instance::library::LoadError,
    lifecycle::{error::DeployError, hand_over::HandOverError},
    probe::{answer::ChildEntry, error::ProbeError},
    python::error::PythonError,
    state::{
        persistence::PersistError,
        snapshot::StateError,
        store::{Damage, KeptStateError, StateDirError},
    },
    supervisor::deploy::check::{Checked, CheckedPlugin},
};
pub use secrets::SecretError;
pub use stopping::{StopHandle, StopStage};
pub use system::{
    lock_holder::LockHolder,
    threads::{TooFewThreads, check_threads},
};
pub use text::{
    causes::with_causes,
    printable::{is_unprintable, printable},
};

/// Reads what a plugin file is from its bytes. Nothing of it is loaded or run. A file of more than
/// 256 MiB, the default of [`Limits::plugin_bytes`], is not read, and neither is what is no regular
/// file. The source of a module of Python is read by the interpreter that is `python3` in `PATH`.
///
/// # Errors
/// The file cannot be read, or is no plugin for this host.
pub fn manifest_of(file: &std::path::Path) -> Result<Manifest, InspectError> {
    use plugin::file::kind::FileKind;

    let path = || file.to_owned();
    let no_plugin = |source| InspectError::Manifest { path: path(), source };
    let (kind, limits) = (FileKind::of(file), Limits::default());
    let longest = kind.longest(limits.plugin_bytes as u64);
    let open = || plugin::file::copy::SourceFile::open(file, longest);
    if kind != FileKind::Native {
        if kind == FileKind::Python {
            open()?;
        }
        let limit = Timeouts::default().probe;
        let read =
            plugin::python::modules::manifest_of(&Python::default().interpreter, limit, file);
        return read.map_err(|source| InspectError::Python { path: path(), source });
    }
    let mut source = open()?;
    plugin::file::manifest::check_head(&source.head()?, source.len()).map_err(no_plugin)?;
    plugin::file::manifest::read_manifest(&source.read()?, ksi_abi::ABI_VERSION, file)
        .map_err(no_plugin)
}

/// Why [`manifest_of`] gives no manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] CopyError),
    /// It is no plugin for this host.
    #[error("{path} is no plugin for this host: {source}", path = .path.display())]
    Manifest {
        /// The file.
        path: std::path::PathBuf,
        /// What it is instead.
        source: ManifestError,
    },
    /// It is a module of Python, and cannot be a plugin.
    #[error("{path} is no plugin for this host: {source}", path = .path.display())]
    Python {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        source: PythonError,
    },
}
