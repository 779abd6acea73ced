//! `[isolation]`: which plugins live in a process of their own, when that is started again, and
//! what it may have and reach.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ksi_sandbox::{Bytes, Limits, Peers, Ports, Profile, SandboxError};
use serde::Deserialize;

use super::{Problem, file, range, reload};

mod words;

pub use words::{Cgroup, Checkpoint, IsolationMode, Restart};

#[cfg(test)]
mod tests;

/// Which plugins live in a process of their own, and how. TOML: `[isolation]`.
///
/// ```
/// use ksi_host::IsolationMode;
///
/// let text = "
///     [isolation]
///     memory = '256 MiB'
///     [isolation.plugins.parser]
///     mode = 'process'
///     profile = 'strict'
/// ";
/// let config = ksi_host::Config::from_toml(text, ".".as_ref())?;
/// let parser = config.isolation.policy("parser");
/// assert_eq!(parser.mode, IsolationMode::Process);
/// assert_eq!(parser.limits.memory, Some("256 MiB".parse()?));
/// assert_eq!(config.isolation.policy("hello").mode, IsolationMode::Asked);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Isolation {
    /// Where a plugin lives that has no table of its own, or none that says so. Default: in a
    /// process of its own if it asks for one, else in the host.
    pub default: IsolationMode,
    /// When a process that has ended is started again. Default: when it has crashed.
    pub restart: Restart,
    /// How often it is started again within `period`, at the most; from 1 to 1000. Beyond it, the
    /// plugin is down. Default: 5.
    pub intensity: u32,
    /// See `intensity`; above zero and at most thirty days. Default: 60 s.
    #[serde(deserialize_with = "file::duration")]
    pub period: Duration,
    /// When the state is taken that the next process begins with. Default: every 30 s.
    pub checkpoint: Checkpoint,
    /// For how long a process may answer nothing while nobody waits for a call of it, and for how
    /// long a call may go on after nobody waits for it any more; then it is ended. Above zero and
    /// at most thirty days. Default: 10 s.
    #[serde(deserialize_with = "file::duration")]
    pub stuck: Duration,
    /// See [`Limits::memory`]. Default: no bound.
    pub memory: Option<Bytes>,
    /// See [`Limits::cpu`]. Default: no bound.
    #[serde(deserialize_with = "file::some_duration")]
    pub cpu: Option<Duration>,
    /// See [`Limits::open_files`]. Default: what the host has.
    pub open_files: Option<u64>,
    /// See [`Limits::processes`]. Default: no bound.
    pub processes: Option<u64>,
    /// How much is taken away. Default: nothing but what is bounded above.
    pub profile: Profile,
    /// See [`Limits::read`]. Default: none.
    pub read: Vec<PathBuf>,
    /// See [`Limits::write`]. Default: none.
    pub write: Vec<PathBuf>,
    /// See [`Limits::execute`]. Default: none.
    pub exec: Vec<PathBuf>,
    /// See [`Limits::connect`]. Default: nobody.
    pub connect: Peers,
    /// See [`Limits::bind`]. Default: none.
    pub bind: Ports,
    /// See [`Limits::require`]. Default: false.
    pub require: bool,
    /// Whether each process has a cgroup of its own, with all that it starts. Default: where the
    /// system gives the host a part of the tree.
    pub cgroup: Cgroup,
    /// What differs for single plugins, by name. TOML: `[isolation.plugins.NAME]`. Default:
    /// nothing.
    pub plugins: BTreeMap<String, IsolationOf>,
    /// Who was told to live in a process beside what the file says: see [`isolate`](Self::isolate).
    #[serde(skip)]
    pub(crate) told: Vec<String>,
}

/// What differs from [`Isolation`] for one plugin. What is `None` is as for all others; a list
/// takes the place of the list for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct IsolationOf {
    /// In place of [`Isolation::default`].
    pub mode: Option<IsolationMode>,
    /// In place of [`Isolation::restart`].
    pub restart: Option<Restart>,
    /// In place of [`Isolation::intensity`].
    pub intensity: Option<u32>,
    /// In place of [`Isolation::period`].
    #[serde(deserialize_with = "file::some_duration")]
    pub period: Option<Duration>,
    /// In place of [`Isolation::checkpoint`].
    pub checkpoint: Option<Checkpoint>,
    /// In place of [`Isolation::stuck`].
    #[serde(deserialize_with = "file::some_duration")]
    pub stuck: Option<Duration>,
    /// In place of [`Isolation::memory`].
    pub memory: Option<Bytes>,
    /// In place of [`Isolation::cpu`].
    #[serde(deserialize_with = "file::some_duration")]
    pub cpu: Option<Duration>,
    /// In place of [`Isolation::open_files`].
    pub open_files: Option<u64>,
    /// In place of [`Isolation::processes`].
    pub processes: Option<u64>,
    /// In place of [`Isolation::profile`].
    pub profile: Option<Profile>,
    /// In place of [`Isolation::read`].
    pub read: Option<Vec<PathBuf>>,
    /// In place of [`Isolation::write`].
    pub write: Option<Vec<PathBuf>>,
    /// In place of [`Isolation::exec`].
    pub exec: Option<Vec<PathBuf>>,
    /// In place of [`Isolation::connect`].
    pub connect: Option<Peers>,
    /// In place of [`Isolation::bind`].
    pub bind: Option<Ports>,
    /// In place of [`Isolation::require`].
    pub require: Option<bool>,
    /// In place of [`Isolation::cgroup`].
    pub cgroup: Option<Cgroup>,
}

/// Where one plugin lives and how: what holds for all, with what differs for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IsolationPolicy {
    /// Where it lives.
    pub mode: IsolationMode,
    /// When its process is started again.
    pub restart: Restart,
    /// How often within [`period`](Self::period), at the most.
    pub intensity: u32,
    /// See [`intensity`](Self::intensity).
    pub period: Duration,
    /// When its state is taken.
    pub checkpoint: Checkpoint,
    /// How long its process may be silent.
    pub stuck: Duration,
    /// Whether its process has a cgroup of its own.
    pub cgroup: Cgroup,
    /// What its process applies to itself, with what is given here alone.
    pub limits: Limits,
}

impl Default for Isolation {
    fn default() -> Self {
        Self {
            default: IsolationMode::Asked,
            restart: Restart::OnCrash,
            intensity: 5,
            period: Duration::from_secs(60),
            checkpoint: Checkpoint::Every(Duration::from_secs(30)),
            stuck: Duration::from_secs(10),
            memory: None,
            cpu: None,
            open_files: None,
            processes: None,
            profile: Profile::None,
            read: Vec::new(),
            write: Vec::new(),
            exec: Vec::new(),
            connect: Peers::default(),
            bind: Ports::default(),
            require: false,
            cgroup: Cgroup::WhereDelegated,
            plugins: BTreeMap::new(),
            told: Vec::new(),
        }
    }
}

impl Isolation {
    /// How the plugin of this name lives.
    pub fn policy(&self, plugin: &str) -> IsolationPolicy {
        let own = self.plugins.get(plugin).cloned().unwrap_or_default();
        let mut limits = Limits::default();
        limits.profile = own.profile.unwrap_or(self.profile);
        limits.memory = own.memory.or(self.memory);
        limits.cpu = own.cpu.or(self.cpu);
        limits.open_files = own.open_files.or(self.open_files);
        limits.processes = own.processes.or(self.processes);
        limits.read = own.read.unwrap_or_else(|| self.read.clone());
        limits.write = own.write.unwrap_or_else(|| self.write.clone());
        limits.execute = own.exec.unwrap_or_else(|| self.exec.clone());
        limits.connect = own.connect.unwrap_or_else(|| self.connect.clone());
        limits.bind = own.bind.unwrap_or_else(|| self.bind.clone());
        limits.require = own.require.unwrap_or(self.require);
        IsolationPolicy {
            mode: own.mode.unwrap_or(self.default),
            restart: own.restart.unwrap_or(self.restart),
            intensity: own.intensity.unwrap_or(self.intensity),
            period: own.period.unwrap_or(self.period),
            checkpoint: own.checkpoint.unwrap_or(self.checkpoint),
            stuck: own.stuck.unwrap_or(self.stuck),
            cgroup: own.cgroup.unwrap_or(self.cgroup),
            limits,
        }
    }

    /// Has the plugin of this name live in a process of its own, whatever was said before; `"all"`
    /// is every plugin.
    ///
    /// ```
    /// use ksi_host::{Isolation, IsolationMode};
    ///
    /// let mut isolation = Isolation::default();
    /// isolation.isolate("parser")?;
    /// assert_eq!(isolation.policy("parser").mode, IsolationMode::Process);
    /// assert!(isolation.isolate("a b").is_err());
    /// # Ok::<(), ksi_host::Problem>(())
    /// ```
    ///
    /// # Errors
    /// It is no name of a plugin.
    pub fn isolate(&mut self, plugin: &str) -> Result<(), Problem> {
        if plugin != ALL {
            is_name(plugin)?;
        }
        self.take(plugin);
        self.told.push(plugin.to_owned());
        Ok(())
    }

    /// The same settings with what was said beside the file of the ones before.
    pub(crate) fn told_as(mut self, before: &Isolation) -> Self {
        before.told.iter().for_each(|plugin| self.take(plugin));
        self.told.clone_from(&before.told);
        self
    }

    fn take(&mut self, plugin: &str) {
        if plugin == ALL {
            self.default = IsolationMode::Process;
            self.plugins.values_mut().for_each(|own| own.mode = None);
            return;
        }
        let own = self.plugins.entry(plugin.to_owned()).or_default();
        own.mode = Some(IsolationMode::Process);
    }

    /// Which plugins are to live in processes of their own, in words; none if it is none at all.
    pub(crate) fn isolated(&self) -> Option<String> {
        if self.default == IsolationMode::Process {
            return Some("all plugins".to_owned());
        }
        let is_isolated = |(_, own): &(_, &IsolationOf)| own.mode == Some(IsolationMode::Process);
        let isolated = self.plugins.iter().filter(is_isolated).map(|(name, _)| name.as_str());
        let isolated: Vec<&str> = isolated.collect();
        (!isolated.is_empty()).then(|| isolated.join(", "))
    }

    /// With relative paths made relative to this folder. An empty one stays, for the check.
    pub(super) fn within(mut self, folder: &Path) -> Self {
        let in_folder = |paths: &mut Vec<PathBuf>| {
            paths.iter_mut().filter(|path| !is_empty(path)).for_each(|path| {
                *path = folder.join(&*path);
            });
        };
        let sockets_in_folder = |peers: &mut Peers| {
            if let Peers::Only { sockets, .. } = peers {
                *sockets = sockets.iter().map(|path| folder.join(path)).collect();
            }
        };
        [&mut self.read, &mut self.write, &mut self.exec].into_iter().for_each(in_folder);
        sockets_in_folder(&mut self.connect);
        for own in self.plugins.values_mut() {
            let paths = [&mut own.read, &mut own.write, &mut own.exec];
            paths.into_iter().flatten().for_each(in_folder);
            own.connect.as_mut().map(sockets_in_folder);
        }
        self
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        let all = self.policy("");
        all.check("isolation")?;
        // A profile that nobody has makes the lists say nothing.
        let profiles = self.plugins.values().filter_map(|own| own.profile);
        if profiles.chain([self.profile]).all(|profile| profile == Profile::None) {
            no_lists(&all.limits, "isolation")?;
        }
        for (name, own) in &self.plugins {
            is_name(name)?;
            let table = format!("isolation.plugins.{name}");
            let policy = self.policy(name);
            policy.check(&table)?;
            if policy.limits.profile == Profile::None {
                no_lists(&own.lists(), &table)?;
            }
        }
        Ok(())
    }
}

/// On the command line.
const ALL: &str = "all";

impl IsolationOf {
    /// What its own table says of files and network.
    fn lists(&self) -> Limits {
        let only = Isolation::default();
        let own = IsolationOf { profile: None, ..self.clone() };
        Isolation { plugins: BTreeMap::from([(String::new(), own)]), ..only }.policy("").limits
    }
}

impl IsolationPolicy {
    fn check(&self, table: &str) -> Result<(), Problem> {
        let Self { mode: _, restart: _, intensity, period, checkpoint, stuck, cgroup: _, limits } =
            self;
        range::count(table, "intensity", *intensity, 1..=1000)?;
        range::durations(table, &[("period", *period), ("stuck", *stuck)])?;
        if let Checkpoint::Every(every) = checkpoint {
            range::durations(table, &[("checkpoint", *every)])?;
        }
        let lists = [("read", &limits.read), ("write", &limits.write), ("exec", &limits.execute)];
        if let Some((key, _)) = lists.iter().find(|(_, paths)| paths.iter().any(|it| is_empty(it)))
        {
            return Err(range::outside(table, key, "\"\"", "a path"));
        }
        let sockets: Vec<PathBuf> = match &limits.connect {
            Peers::Only { sockets, .. } => sockets.iter().cloned().collect(),
            Peers::Any => Vec::new(),
        };
        let is_text = |path: &PathBuf| path.to_str().is_some();
        let mut paths = lists.into_iter().chain([("connect", &sockets)]);
        if let Some((key, _)) = paths.find(|(_, paths)| !paths.iter().all(is_text)) {
            // They go to the process as text.
            return Err(range::outside(table, key, "a path that is no UTF-8", "one that is"));
        }
        match limits.check() {
            Ok(()) => Ok(()),
            Err(SandboxError::Wrong { setting, text }) => {
                let key = if setting == "execute" { "exec" } else { setting };
                Err(Problem::Limit { key: format!("{table}.{key}"), text })
            }
            Err(error) => Err(Problem::Limit { key: table.to_owned(), text: error.to_string() }),
        }
    }
}

/// Without a profile nothing of this is looked at, which would be found out on the worst day.
fn no_lists(limits: &Limits, table: &str) -> Result<(), Problem> {
    let some = [
        ("read", !limits.read.is_empty()),
        ("write", !limits.write.is_empty()),
        ("exec", !limits.execute.is_empty()),
        ("connect", !limits.connect.is_nobody()),
        ("bind", !limits.bind.is_none()),
    ];
    match some.iter().find(|(_, some)| *some) {
        Some((key, _)) => Err(Problem::Limit {
            key: format!("{table}.{key}"),
            text:
                "limits nothing while `profile` is \"none\": set it to \"standard\" or \"strict\""
                    .to_owned(),
        }),
        None => Ok(()),
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn is_name(name: &str) -> Result<(), Problem> {
    match reload::is_plugin_name(name) {
        true => Ok(()),
        false => Err(Problem::NoPluginName { table: "isolation.plugins", name: name.to_owned() }),
    }
}
