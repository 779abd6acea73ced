//! What the operator may set: where plugins are, where the socket is, how long things may take and
//! how much there may be of anything.
//!
//! Every key has a default, so a host runs without a file. A key that is not known is an error that
//! names it: a misspelt limit that silently keeps its default is found out on the worst day. This
//! module reads text and numbers; it creates nothing and looks at no folder.
//!
//! ```toml
//! [host]
//! plugin_dirs = ["plugins"]       # relative to this file
//! socket = "ksi.sock"
//! pid_file = "ksi_daemon.pid"     # KSI's own command line wants it beside the socket
//! private_dir = "/run/ksi"        # of private copies of plugin files
//! untrusted_plugins = "warn"      # those that others may write to; or "refuse", "allow"
//!
//! [timeouts]
//! handler = "30s"
//!
//! [limits]
//! event_depth = 64
//!
//! [reload]
//! probation = "1m"
//!
//! [reload.plugins.hello]          # for the plugin `hello` alone
//! drain = "2m"
//!
//! [isolation.plugins.parser]      # `parser` lives in a process of its own
//! mode = "process"
//!
//! [python]
//! interpreter = "python3.13"      # of plugins that are modules of Python
//!
//! [contracts]
//! policy = "warn"                 # of what live plugins no longer take or get; or "refuse", "off"
//!
//! [state]
//! dir = "state"                   # relative to this file
//!
//! [log]
//! format = "json"                 # or "human"
//! levels = { hello = "debug" }    # of single plugins and targets
//!
//! [plugin.hello]                  # handed to the plugin `hello` as it is
//! greeting = "Good morning"
//! ```

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ksi_kernel::{router::emit::RouterLimits, session::SessionLimits};
use serde::Deserialize;

use crate::secrets::references;

pub(crate) use self::changes::Changes;
pub use self::contracts::{ContractPolicy, Contracts, ContractsOf, Validate};
pub use self::fault::ConfigFault;
pub use self::isolation::{
    Cgroup, Checkpoint, Isolation, IsolationMode, IsolationOf, IsolationPolicy, Restart,
};
pub(crate) use self::listed::{Listed, listed};
pub use self::log::{Log, LogFormat};
pub use self::metrics::Metrics;
pub use self::origin::Origin;
pub use self::problem::{ConfigError, Problem};
pub use self::python::{InstallWith, Python, PythonOf};
pub use self::recorder::Recorder;
pub use self::recovery::Recovery;
pub use self::reload::{AfterDrain, Reload, ReloadOf, ReloadPolicy};
pub use self::state::StateFiles;
pub use self::untrusted::UntrustedPlugins;

mod changes;
mod contracts;
mod fault;
mod file;
mod isolation;
mod listed;
mod log;
mod metrics;
mod origin;
mod problem;
mod python;
mod range;
mod recorder;
mod recovery;
mod reload;
pub(crate) mod socket_path;
mod state;
#[cfg(test)]
mod tests;
mod untrusted;

/// Everything that can be configured. `Config::default()` is what a host without a file runs with,
/// and what a program changes that has none:
///
/// ```
/// let mut config = ksi_host::Config::default();
/// config.plugin_dirs = vec!["plugins".into()];
/// config.limits.connections = 16;
/// ```
///
/// It gets further fields, as its parts do, so that none of them is made of all its fields:
///
/// ```compile_fail,E0639
/// use ksi_host::Config;
///
/// let config = Config { plugin_dirs: vec!["plugins".into()], ..Config::default() };
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Config {
    /// The folders whose plugin files are loaded and watched. TOML: `[host] plugin_dirs`. Default:
    /// none.
    pub plugin_dirs: Vec<PathBuf>,
    /// The path of the control socket. TOML: `[host] socket`. Default: none, so the environment
    /// decides.
    pub socket: Option<PathBuf>,
    /// The file that `ksi run` writes the number of its process to while it runs. TOML:
    /// `[host] pid_file`. Default: none.
    pub pid_file: Option<PathBuf>,
    /// The folder that the host makes its directory for private copies of plugin files in; it has
    /// to allow execution. TOML: `[host] private_dir`. Default: none, so it is `$XDG_RUNTIME_DIR`,
    /// or else the folder for temporary files.
    pub private_dir: Option<PathBuf>,
    /// What is done with a plugin file that others may write to, by its own mode and owner or those
    /// of the folders on the way to it. TOML: `[host] untrusted_plugins`. Default: none, so a host
    /// of the superuser refuses it, and any other warns.
    pub untrusted_plugins: Option<UntrustedPlugins>,
    /// How long things may take. TOML: `[timeouts]`.
    pub timeouts: Timeouts,
    /// How much there may be of anything. TOML: `[limits]`.
    pub limits: Limits,
    /// How plugins are replaced, and how a new version is judged. TOML: `[reload]`.
    pub reload: Reload,
    /// Which plugins live in a process of their own, and what that may have and reach. TOML:
    /// `[isolation]`.
    pub isolation: Isolation,
    /// How plugins are run that are modules of Python. TOML: `[python]`.
    pub python: Python,
    /// What becomes of a version that no longer understands the plugins beside it. TOML:
    /// `[contracts]`.
    pub contracts: Contracts,
    /// Where snapshots of plugins' state are kept. TOML: `[state]`.
    pub state: StateFiles,
    /// How often a plugin that did not come up is tried again. TOML: `[recovery]`.
    pub recovery: Recovery,
    /// In which form the host logs, and how much. TOML: `[log]`.
    pub log: Log,
    /// How often counts are reported as an event. TOML: `[metrics]`.
    pub metrics: Metrics,
    /// What is kept of calls that have ended. TOML: `[recorder]`.
    pub recorder: Recorder,
    /// The configuration of each plugin by its name, always JSON objects. An object with the one
    /// key `$secret` stands for a text that is elsewhere, as `{"$secret": {"env": "API_KEY"}}`; it
    /// is looked for when the plugin gets it. TOML: `[plugin.NAME]`.
    pub plugins: BTreeMap<String, serde_json::Value>,
    /// Where all that comes from.
    pub(crate) origins: origin::Origins,
}

/// How long things may take. In TOML, durations are written as `"500ms"`, `"5s"` or `"1m 30s"`;
/// each is above zero and at most thirty days.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Timeouts {
    /// One call of a handler that declares no timeout of its own. Default: 30 s.
    #[serde(deserialize_with = "file::duration")]
    pub handler: Duration,
    /// The child process that tries a plugin file before the host loads it. Default: 5 s.
    #[serde(deserialize_with = "file::duration")]
    pub probe: Duration,
    /// A plugin's `initialize`. Default: 10 s.
    #[serde(deserialize_with = "file::duration")]
    pub init: Duration,
    /// A plugin's `module:shutdown` handlers. Default: 5 s.
    #[serde(deserialize_with = "file::duration")]
    pub shutdown: Duration,
    /// The calls in flight on a generation that is being replaced, before they are cancelled.
    /// Default: 30 s.
    #[serde(deserialize_with = "file::duration")]
    pub drain: Duration,
    /// How long events may wait while the state of their plugin is handed over; then the
    /// replacement is given up and the old generation gets them. Default: 5 s.
    #[serde(deserialize_with = "file::duration")]
    pub hold: Duration,
    /// A client of the control socket that nothing was heard of for this long, and that waits for
    /// nothing, gives way when there are as many as may be and another one comes. Default: 10 s.
    #[serde(deserialize_with = "file::duration")]
    pub idle: Duration,
    /// A call that has not returned from one poll for this long is reported as stuck. Default: 1 s.
    #[serde(deserialize_with = "file::duration")]
    pub stuck: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handler: RouterLimits::default().timeout,
            probe: Duration::from_secs(5),
            init: Duration::from_secs(10),
            shutdown: Duration::from_secs(5),
            drain: Duration::from_secs(30),
            hold: Duration::from_secs(5),
            idle: Duration::from_secs(10),
            stuck: Duration::from_secs(1),
        }
    }
}

/// How much there may be of anything. Every limit is above zero, save `workers`, where zero lets
/// the host choose.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Events accepted by `send` whose handlers have not all ended. Default: 1024.
    pub queued_events: usize,
    /// Their bytes. With one that does not fit, it is refused, as it is at the count. Default: 64
    /// MiB.
    pub queued_bytes: usize,
    /// Bytes that may wait in the whole host: events that were sent, that are held or wait for
    /// subscribers, and what was read from clients and waits to be written to them. Beyond it, the
    /// subscriber or client that holds the most is dropped; an event that was sent is refused when
    /// that does not help. Default: 128 MiB.
    pub waiting_bytes: usize,
    /// Events of one plugin that wait while its state is handed over. At the limit the replacement
    /// is given up and the old generation gets them; none is refused. Default: 4096.
    pub held_events: usize,
    /// Their bytes, with the same consequence. Default: 64 MiB.
    pub held_bytes: usize,
    /// Events caused by events: how long a chain may grow before it counts as a loop. Default: 64.
    pub event_depth: usize,
    /// Bytes of one event's payload, encoded. Default: 10 MiB.
    pub payload_bytes: usize,
    /// Bytes of one plugin file. Default: 256 MiB.
    pub plugin_bytes: usize,
    /// Bytes of one line on the control socket. Default: 10 MiB.
    pub line_bytes: usize,
    /// Clients connected to the control socket at a time. Default: 256.
    pub connections: usize,
    /// Clients beyond those, for the host's own events alone, so that an operator always gets in.
    /// Default: 8.
    pub management_connections: usize,
    /// Requests of one connection that are being served at a time. Default: 256.
    pub requests_per_connection: usize,
    /// Events waiting for one slow subscriber before it is dropped. Default: 1024.
    pub subscriber_queue: usize,
    /// Their bytes; one event may always wait. Default: 32 MiB.
    pub subscriber_bytes: usize,
    /// Bytes of replies and events that wait to be written to one client; one line may always wait.
    /// As many again are set aside for the replies of its requests in service, by what their events
    /// were replied to with lately. At either limit its requests wait. Default: 16 MiB.
    pub unread_bytes: usize,
    /// Patterns that all clients together are subscribed to. Default: 16384.
    pub subscribed_patterns: usize,
    /// Threads that run plugin code. Default: 0, which means one more than there are processor
    /// cores, and at least three.
    pub workers: usize,
    /// Threads for handlers that block, of the host and of each module of Python. Default: 64.
    pub blocking_threads: usize,
    /// Background tasks of one plugin. Default: 1024.
    pub background_tasks: usize,
    /// Subscriptions that one plugin makes at run time. Default: 1024.
    pub subscriptions: usize,
    /// Sockets and other descriptors that are kept for one plugin over its generations. Default:
    /// 64.
    pub kept_resources: usize,
    /// Workers given up on because a call never returned to them. Default: 64.
    pub abandoned_workers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // Those of the kernel, by which a plugin's tests go as well.
        let (router, session) = (RouterLimits::default(), SessionLimits::default());
        Self {
            queued_events: router.queued_events,
            queued_bytes: router.queued_bytes,
            waiting_bytes: 128 * MIB,
            held_events: session.held_events,
            held_bytes: session.held_bytes,
            event_depth: router.event_depth,
            payload_bytes: router.payload_bytes,
            plugin_bytes: 256 * MIB,
            line_bytes: 10 * MIB,
            connections: 256,
            management_connections: 8,
            requests_per_connection: 256,
            subscriber_queue: 1024,
            subscriber_bytes: router.subscriber_bytes,
            unread_bytes: 16 * MIB,
            subscribed_patterns: 16384,
            workers: 0,
            blocking_threads: 64,
            background_tasks: session.background_tasks,
            subscriptions: session.subscriptions,
            kept_resources: 64,
            abandoned_workers: 64,
        }
    }
}

impl Config {
    /// Reads a TOML file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// The file cannot be read or is larger than 1 MiB, it is no TOML, a key is unknown or has the
    /// wrong type, or a value is out of its range.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let (text, folder) = text_of(path)?;
        file::parse(&text, &folder)
            .map_err(|problem| ConfigError::Invalid { path: path.to_owned(), problem })
    }

    /// Looks for all that is wrong in a TOML file, and not for the first of it alone. Nothing is
    /// wrong in one that [`from_file`](Self::from_file) reads.
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// let file = folder.path().join("ksi.toml");
    /// std::fs::write(&file, "[limits]\nworkers = -1\nconections = 7")?;
    /// let faults = ksi_host::Config::faults_in(&file)?;
    /// assert_eq!(faults.len(), 2);
    /// assert!(faults[1].to_string().starts_with("line 3, column 1: unknown field `conections`"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The file cannot be read or is larger than 1 MiB.
    pub fn faults_in(path: &Path) -> Result<Vec<ConfigFault>, ConfigError> {
        let (text, folder) = text_of(path)?;
        Ok(fault::faults(&text, &folder))
    }

    /// Notes that a key, as in `state.dir`, has its value from elsewhere than from the file, for
    /// whoever asks the host for its settings.
    pub fn said_by(&mut self, key: &str, origin: Origin) {
        self.origins.say(key, origin);
    }

    /// Reads TOML text. Relative paths in it are relative to `folder`.
    ///
    /// # Errors
    /// Those of [`Config::from_file`], save what only a file can have.
    pub fn from_toml(text: &str, folder: &Path) -> Result<Self, ConfigError> {
        file::parse(text, folder)
            .map_err(|problem| ConfigError::Invalid { path: "TOML text".into(), problem })
    }

    /// The folder of the packages that modules of Python need, if it is to outlive the host: see
    /// [`Python::environments`].
    pub fn environments(&self) -> Option<PathBuf> {
        // No plugin has such a name, so no snapshot is called like that.
        let beside_state = || Some(self.state.dir.as_ref()?.join(".python"));
        let named = self.python.environments.clone();
        named.or_else(|| beside_state().filter(|_| self.state.persist))
    }

    /// Looks whether every value is inside its range, for a configuration that was put together by
    /// a program.
    ///
    /// # Errors
    /// Names the first key that is out of range, its value and the range.
    pub fn check(&self) -> Result<(), Problem> {
        self.timeouts.check()?;
        self.limits.check()?;
        self.reload.check()?;
        self.isolation.check()?;
        self.python.check()?;
        self.contracts.check()?;
        self.state.check()?;
        self.recovery.check()?;
        self.log.check()?;
        self.metrics.check()?;
        self.recorder.check()?;
        for (name, own) in &self.plugins {
            if !own.is_object() {
                return Err(Problem::NotATable { name: name.clone() });
            }
            let mut wrong = None;
            references(own, &format!("plugin.{name}"), &mut |key, reference| {
                let text = reference.err().filter(|_| wrong.is_none());
                wrong = wrong.take().or(text.map(|text| (key.to_owned(), text)));
            });
            if let Some((key, text)) = wrong {
                return Err(Problem::Secret { key, text });
            }
        }
        Ok(())
    }

    /// What somebody should know of the files that plugins' secrets are in: that one cannot be
    /// read, or can be read by others. Where the host runs, that may be otherwise.
    pub fn secret_remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for (name, own) in &self.plugins {
            references(own, &format!("plugin.{name}"), &mut |key, reference| {
                let remark = reference.ok().and_then(|reference| reference.remark());
                remarks.extend(remark.map(|remark| format!("the secret {key}: {remark}")));
            });
        }
        remarks
    }
}

/// What a file says, and the folder that its paths are relative to.
fn text_of(path: &Path) -> Result<(String, PathBuf), ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(read)?;
    file.take(LONGEST_FILE + 1).read_to_string(&mut text).map_err(read)?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(ConfigError::TooLong { path: path.to_owned() });
    }
    let absolute = std::path::absolute(path).map_err(read)?;
    Ok((text, absolute.parent().unwrap_or(Path::new("/")).to_owned()))
}

const MIB: usize = 1 << 20;
const LONGEST_FILE: u64 = 1 << 20;

impl Timeouts {
    /// All of them, by key.
    fn all(&self) -> [(&'static str, Duration); 8] {
        // Taken apart without `..`, so that a new field cannot be left out.
        let Self { handler, probe, init, shutdown, drain, hold, idle, stuck } = *self;
        [
            ("handler", handler),
            ("probe", probe),
            ("init", init),
            ("shutdown", shutdown),
            ("drain", drain),
            ("hold", hold),
            ("idle", idle),
            ("stuck", stuck),
        ]
    }

    fn check(&self) -> Result<(), Problem> {
        range::durations("timeouts", &self.all())
    }
}

impl Limits {
    /// All of them, by key, with their ranges. The upper bounds are far above use and below what a
    /// machine or a queue's own arithmetic stands.
    fn all(&self) -> [(&'static str, usize, RangeInclusive<usize>); 22] {
        let Self {
            queued_events,
            queued_bytes,
            waiting_bytes,
            held_events,
            held_bytes,
            event_depth,
            payload_bytes,
            plugin_bytes,
            line_bytes,
            connections,
            management_connections,
            requests_per_connection,
            subscriber_queue,
            subscriber_bytes,
            unread_bytes,
            subscribed_patterns,
            workers,
            blocking_threads,
            background_tasks,
            subscriptions,
            kept_resources,
            abandoned_workers,
        } = *self;
        const COUNT: RangeInclusive<usize> = 1..=1 << 20;
        const BYTES: RangeInclusive<usize> = 1024..=1 << 30;
        const THREADS: RangeInclusive<usize> = 1..=4096;
        [
            ("queued_events", queued_events, COUNT),
            ("queued_bytes", queued_bytes, BYTES),
            ("waiting_bytes", waiting_bytes, BYTES),
            ("held_events", held_events, COUNT),
            ("held_bytes", held_bytes, BYTES),
            ("event_depth", event_depth, 1..=4096),
            ("payload_bytes", payload_bytes, BYTES),
            ("plugin_bytes", plugin_bytes, BYTES),
            ("line_bytes", line_bytes, BYTES),
            ("connections", connections, COUNT),
            ("management_connections", management_connections, COUNT),
            ("requests_per_connection", requests_per_connection, COUNT),
            ("subscriber_queue", subscriber_queue, COUNT),
            ("subscriber_bytes", subscriber_bytes, BYTES),
            ("unread_bytes", unread_bytes, BYTES),
            ("subscribed_patterns", subscribed_patterns, COUNT),
            ("workers", workers, 0..=1024),
            ("blocking_threads", blocking_threads, THREADS),
            ("background_tasks", background_tasks, COUNT),
            ("subscriptions", subscriptions, COUNT),
            ("kept_resources", kept_resources, 1..=4096),
            ("abandoned_workers", abandoned_workers, THREADS),
        ]
    }

    fn check(&self) -> Result<(), Problem> {
        self.all()
            .into_iter()
            .try_for_each(|(key, value, range)| range::count("limits", key, value, range))
    }
}
