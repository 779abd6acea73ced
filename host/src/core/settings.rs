//! The configuration as it is in effect, and reading it anew while the host runs.
//!
//! What a plugin is given, how plugins are replaced, and what is logged changes at once: plugins
//! whose own tables differ take them, or are reloaded, one after the other; everything else holds
//! from the next replacement on. What the host was built with (folders, limits, most timeouts)
//! needs a restart, and is named. Nothing of a file that is not valid is taken.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ksi_kernel::lock::Lock;
use ksi_wire::module::HistoryBy;
use thiserror::Error;
use tokio::{sync, task::JoinError};

use super::Core;
use crate::{
    config::{
        AfterDrain, Changes, Config, ConfigError, ContractPolicy, IsolationPolicy, Log, Reload,
        ReloadPolicy, Validate,
    },
    plugin::{
        lifecycle::{
            contracts::{ContractPolicies, OnBreak},
            error::DeployError,
            policy::{Policies, Policy},
        },
        supervisor::{Deployed, configure::Configured},
    },
    sync::keyed_lock::{KeyedLock, LockGuard, LockKey},
    text::causes::with_causes,
};

pub(crate) mod effective;
mod follow;
mod reloaded;

pub use reloaded::{ConfigReloaded, Reconfigured, ReconfiguredOutcome};

use follow::Seen;

/// Why a configuration was not read anew.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReloadConfigError {
    /// The host was started without one.
    #[error(
        "this host was started without a configuration file, so there is none to read again: start it with --config FILE \
         (KSI_CONFIG), or HostBuilder::config_file"
    )]
    NoFile,
    /// It cannot be read, or is not valid. Nothing of it was taken.
    #[error("nothing has changed: {0}")]
    Config(#[from] ConfigError),
    /// The host is stopping.
    #[error("the host is stopping")]
    Stopping,
    /// The host's own code panicked. Some of it may have been taken.
    #[error(
        "the host failed at it, and not the configuration: {0}; some of it may be in effect. The log says where it \
         panicked: please report that"
    )]
    Panicked(#[source] JoinError),
}

impl From<JoinError> for ReloadConfigError {
    fn from(error: JoinError) -> Self {
        if error.is_panic() { Self::Panicked(error) } else { Self::Stopping }
    }
}

/// A file that is not read by then is not waited for: whoever reloads something would wait as long.
const READ: Duration = Duration::from_secs(10);

/// What a plugin is reloaded with.
pub(crate) enum Reread {
    /// What it had: there is no file, or it says the same.
    AsBefore,
    /// It was to be reloaded with what the file says of it now.
    Changed,
    /// What it had: the file is not valid.
    Invalid(ConfigError),
}

/// The file that a host was started with.
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    /// What it held, before anything was changed in it.
    pub(crate) held: Config,
    /// Whether it is read again when it has changed.
    pub(crate) is_followed: bool,
}

/// See the [module](self).
pub(crate) struct Settings {
    file: Option<PathBuf>,
    known: Lock<Arc<KnownConfig>>,
    /// `contracts.validate` as it is in effect, for those who look at every event of a client.
    validates_clients: AtomicBool,
    /// Held while the file is read and what it says is noted, and not while a plugin is replaced:
    /// that may wait for a call which asks for another plugin.
    reading: sync::Mutex<()>,
    /// Who has the file open.
    opened: Arc<sync::Mutex<()>>,
    /// Who has the lock of a plugin gives it its configuration. Taken before `reading`.
    locks: Arc<KeyedLock>,
    /// Whether the file is read again when it has changed.
    is_followed: bool,
    /// What the file was when it was last read as a whole, and why it could not be used then.
    last_read: Lock<(Seen, Option<String>)>,
}

#[derive(Clone)]
struct KnownConfig {
    /// What the file held, as far as it was taken. The command line may have said otherwise in
    /// places.
    held: Config,
    in_effect: Config,
    /// What the file held when it was last read.
    newest: Arc<Config>,
}

impl Settings {
    /// For a host that starts with `config`, which was made of what the file held.
    pub(crate) fn new(config: &Config, file: Option<ConfigFile>) -> Arc<Self> {
        let is_followed = file.as_ref().is_some_and(|file| file.is_followed);
        let (file, held) = file.map(|file| (file.path, file.held)).unzip();
        // The current folder may change.
        let file = file.map(|file| std::path::absolute(&file).unwrap_or(file));
        let held = held.unwrap_or_else(|| config.clone());
        let newest = Arc::new(held.clone());
        let known = Lock::new(Arc::new(KnownConfig { held, in_effect: config.clone(), newest }));
        let validates_clients = AtomicBool::new(validates_clients(config));
        let (reading, opened, locks) = Default::default();
        // It was read by whoever starts the host, a moment ago.
        let last_read = Lock::new((file.as_deref().map_or(Seen::Nothing, Seen::at), None));
        Arc::new(Settings {
            file,
            known,
            validates_clients,
            reading,
            opened,
            locks,
            is_followed,
            last_read,
        })
    }

    /// What the file was when it was last read as a whole.
    fn seen(&self) -> Seen {
        self.last_read.lock().0
    }

    /// Why the file could not be used when it was last read as a whole.
    fn trouble(&self) -> Option<String> {
        self.last_read.lock().1.clone()
    }

    fn known(&self) -> MutexGuard<'_, Arc<KnownConfig>> {
        self.known.lock()
    }

    /// The configuration as it is in effect.
    pub(crate) fn in_effect(&self) -> Config {
        self.known().in_effect.clone()
    }

    /// The policy of each plugin, as it is in effect when it is asked for.
    pub(crate) fn policies(self: &Arc<Self>) -> Policies {
        let settings = self.clone();
        Arc::new(move |plugin: &str| {
            let known = settings.known().clone();
            policy(known.in_effect.reload_policy(plugin))
        })
    }

    /// What becomes of broken contracts, as it is in effect when one is found.
    pub(crate) fn contracts(self: &Arc<Self>) -> ContractPolicies {
        let settings = self.clone();
        Arc::new(move |event: &str, plugin: &str, other: Option<&str>| {
            let known = settings.known().clone();
            match known.in_effect.contract_policy(event, plugin, other) {
                ContractPolicy::Off => OnBreak::Ignore,
                ContractPolicy::Warn => OnBreak::Warn,
                ContractPolicy::Refuse => OnBreak::Refuse,
            }
        })
    }

    /// Whether payloads of clients are validated.
    pub(crate) fn validates_clients(&self) -> bool {
        self.validates_clients.load(Ordering::Relaxed)
    }

    /// Where the plugin of this name lives, and how, as it is in effect.
    pub(crate) fn isolation(&self, plugin: &str) -> IsolationPolicy {
        self.known().in_effect.isolation.policy(plugin)
    }

    fn change(&self, change: impl FnOnce(&mut KnownConfig)) {
        let mut known = self.known();
        change(Arc::make_mut(&mut known));
    }

    /// Reads the file, and has the plugins get what it says from here on. Under `reading`.
    async fn read(&self, file: &Path) -> Result<Arc<Config>, ConfigError> {
        let new = Arc::new(read(file.to_owned(), self.opened.clone(), READ).await?);
        self.change(|known| known.newest = new.clone());
        Ok(new)
    }

    async fn lock_of(&self, plugin: &str) -> LockGuard {
        self.locks.lock(LockKey::Plugin(plugin.into())).await
    }

    /// What the file says of a plugin, if the plugin has not got that. Under its lock.
    fn changed(&self, plugin: &str) -> Option<Own> {
        let known = self.known();
        let own = known.newest.plugins.get(plugin);
        (own != known.held.plugins.get(plugin)).then(|| own.cloned())
    }

    fn take_plugin(&self, plugin: &str, own: &Own) {
        self.change(|known| {
            for config in [&mut known.held, &mut known.in_effect] {
                match own {
                    Some(own) => config.plugins.insert(plugin.to_owned(), own.clone()),
                    None => config.plugins.remove(plugin),
                };
            }
        });
    }
}

/// Whether a plugin is to be made anew with its configuration, though it might be told of it.
enum Anew {
    Yes,
    No,
}

/// What the file says of a plugin, if it says anything.
type Own = Option<serde_json::Value>;

impl Core {
    /// Reads the configuration file anew, gives plugins their own tables of it where those, or
    /// their secrets, are other ones than before, and applies what else can be while the host runs.
    ///
    /// # Errors
    /// There is no file, or it is not valid; then nothing has changed. That a plugin does not take
    /// its new configuration is no error: see [`ConfigReloaded::plugins`].
    pub(crate) async fn reload_config(
        self: &Arc<Self>,
        by: &HistoryBy,
    ) -> Result<ConfigReloaded, ReloadConfigError> {
        // Whoever asks may go away, and what is half applied must not be left by that.
        let (core, by) = (self.clone(), by.clone());
        let reloading = async move { core.take_config(&by).await };
        let reloaded = self.supervisor.thread.runtime().spawn(reloading).await;
        reloaded.unwrap_or_else(|error| Err(error.into()))
    }

    async fn take_config(&self, by: &HistoryBy) -> Result<ConfigReloaded, ReloadConfigError> {
        let settings = &self.settings;
        let file = settings.file.clone().ok_or(ReloadConfigError::NoFile)?;
        let changes = {
            let _reading = settings.reading.lock().await;
            // Before it is read: what is written meanwhile is read once more.
            let seen = tokio::time::timeout(READ, Seen::of(file.clone())).await;
            let seen = seen.ok().flatten().unwrap_or(Seen::Nothing);
            let new = settings.read(&file).await.inspect_err(|error| {
                tracing::error!("the configuration stays as it is: {}", with_causes(error));
            });
            let trouble = new.as_ref().err().map(|error| with_causes(error).to_string());
            *settings.last_read.lock() = (seen, trouble);
            let new = new?;
            let changes = Changes::between(&settings.known().held, &new);
            settings.change(|known| {
                let KnownConfig { held, in_effect, .. } = known;
                held.isolation = new.isolation.clone();
                in_effect.isolation = new.isolation.clone().told_as(&in_effect.isolation);
                for config in [&mut *held, in_effect] {
                    config.contracts = new.contracts.clone();
                    config.log = Log { format: config.log.format, ..new.log.clone() };
                    let kept_versions = config.reload.kept_versions;
                    config.reload = Reload { kept_versions, ..new.reload.clone() };
                    (config.timeouts.drain, config.timeouts.hold) =
                        (new.timeouts.drain, new.timeouts.hold);
                }
            });
            settings.validates_clients.store(validates_clients(&new), Ordering::Relaxed);
            self.levels.configuration(new.log.level, &new.log.levels);
            changes
        };
        for (plugin, _) in self.supervisor.refused_configs() {
            if settings.changed(&plugin).is_none() {
                self.supervisor.config_is_settled(&plugin);
            }
        }
        if changes.at_once.iter().any(|key| key.starts_with("contracts.")) {
            self.supervisor.contracts_are_judged_anew();
        }
        let mut reloaded = ConfigReloaded {
            file,
            applied: changes.at_once,
            needs_restart: changes.at_restart,
            plugins: Vec::new(),
        };
        let rotated = self.rotated(&changes.plugins).await;
        for plugin in changes.plugins.iter().chain(&rotated).cloned() {
            let _lock = settings.lock_of(&plugin).await;
            let has_rotated = rotated.contains(&plugin);
            let configured = match settings.changed(&plugin) {
                Some(own) => self.configure(&plugin, own, Anew::No, by).await,
                None if has_rotated => {
                    let own = settings.known().held.plugins.get(&plugin).cloned();
                    self.configure(&plugin, own, Anew::No, by).await
                }
                // Somebody else has asked for the plugin meanwhile.
                None => self.supervisor.as_configured(&plugin),
            };
            reloaded.plugins.push(Reconfigured { plugin, outcome: configured.into() });
        }
        reloaded.log();
        Ok(reloaded)
    }

    /// Plugins beside these whose secrets are other ones by now, though the file says the same.
    async fn rotated(&self, changed: &[String]) -> Vec<String> {
        let held = self.settings.known().held.plugins.clone();
        let mut rotated = Vec::new();
        for (plugin, own) in held {
            if !changed.contains(&plugin) && self.supervisor.has_other_secrets(&plugin, own).await {
                rotated.push(plugin);
            }
        }
        rotated
    }

    /// Reloads a plugin, with what the configuration file says of it now.
    pub(crate) async fn reload_with_its_config(
        self: &Arc<Self>,
        plugin: &str,
        by: &HistoryBy,
    ) -> (Reread, Result<Deployed, DeployError>) {
        // Whoever asks may be a call that is cancelled, and what is refused is to be taken back all
        // the same.
        let (core, plugin, by) = (self.clone(), plugin.to_owned(), by.clone());
        let reloading = async move { core.reload_reread(&plugin, &by).await };
        let reloaded = self.supervisor.thread.runtime().spawn(reloading).await;
        reloaded.unwrap_or_else(|error| (Reread::AsBefore, Err(error.into())))
    }

    async fn reload_reread(
        &self,
        plugin: &str,
        by: &HistoryBy,
    ) -> (Reread, Result<Deployed, DeployError>) {
        let settings = &self.settings;
        let reload = || self.supervisor.reload(plugin, by);
        let Some(file) = &settings.file else { return (Reread::AsBefore, reload().await) };
        let _lock = settings.lock_of(plugin).await;
        let read = {
            let _reading = settings.reading.lock().await;
            settings.read(file).await
        };
        if let Err(error) = read {
            return (Reread::Invalid(error), reload().await);
        }
        let Some(own) = settings.changed(plugin) else {
            return (Reread::AsBefore, reload().await);
        };
        let deployed = match self.configure(plugin, own, Anew::Yes, by).await {
            Configured::Taken(deployed) | Configured::Live(deployed) => Ok(deployed),
            Configured::Refused(error) | Configured::NotLive(Some(error)) => Err(error),
            // As for every plugin that is not live, its file is loaded.
            Configured::NotLive(None) => reload().await,
        };
        (Reread::Changed, deployed)
    }

    /// Gives a plugin what the configuration says of it. Under its lock.
    async fn configure(&self, plugin: &str, own: Own, anew: Anew, by: &HistoryBy) -> Configured {
        let configured = match anew {
            Anew::Yes => self.supervisor.reconfigure(plugin, own.clone(), by).await,
            Anew::No => self.supervisor.configure(plugin, own.clone(), by).await,
        };
        if !matches!(configured, Configured::Refused(_)) {
            self.settings.take_plugin(plugin, &own);
        }
        configured
    }
}

/// Reads it where a file that gives nothing, as a pipe or one of a server that is gone, holds up
/// one thread at most, and everybody else no longer than `limit`.
async fn read(
    file: PathBuf,
    opened: Arc<sync::Mutex<()>>,
    limit: Duration,
) -> Result<Config, ConfigError> {
    let path = file.clone();
    let reading = async {
        let alone = opened.lock_owned().await;
        let read = move || {
            let _alone = alone;
            Config::from_file(&path)
        };
        tokio::task::spawn_blocking(read).await
    };
    let error = match tokio::time::timeout(limit, reading).await {
        Ok(Ok(read)) => return read,
        Ok(Err(error)) => io::Error::other(error),
        Err(_) => {
            let why = format!("it gave nothing within {}", humantime::format_duration(limit));
            io::Error::new(io::ErrorKind::TimedOut, why)
        }
    };
    Err(ConfigError::Read { path: file, source: error })
}

fn validates_clients(config: &Config) -> bool {
    config.contracts.validate == Validate::Clients
}

fn policy(policy: ReloadPolicy) -> Policy {
    let ReloadPolicy { drain, hold, after_drain, probation, margin, min_calls, exclusive, trial } =
        policy;
    let keep_calls = after_drain == AfterDrain::Keep;
    Policy { drain, hold, keep_calls, probation, margin, min_calls, exclusive, trial }
}

#[cfg(test)]
mod tests;
