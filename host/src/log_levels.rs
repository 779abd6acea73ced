//! Which lines of the log are written: a level for all, for single plugins, and for single targets,
//! which can change while the host runs.
//!
//! What is said comes from three places, each stronger than the one before: the configuration file,
//! the environment (`KSI_LOG`), and people who ask a running host. Whoever filters the lines of the
//! process asks [`LogLevels::writes`]; plugins are told which level they are to listen to, so that
//! a line that nobody wants is not even formatted. Knows neither subscribers nor plugins.

mod directives;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use tracing::{Level, Metadata, level_filters::LevelFilter};

use directives::Directives;
pub(crate) use directives::check_name;
pub use directives::{InvalidLogLevel, LogLevel};

/// The target of all lines and spans of plugins.
pub(crate) const OF_PLUGINS: &str = "ksi_plugin";

/// How many names may have a level of their own that people have asked for.
const ASKED: usize = 256;

/// The name that stands for all that has no level of its own.
pub(crate) const ALL: &str = "*";

/// Which lines are written. Clones share it.
///
/// ```
/// use ksi_host::{LogLevel, LogLevels};
///
/// let levels = LogLevels::new(LogLevel::Info);
/// levels.environment("warn,state=debug")?;
/// levels.ask("ksi_host::plugin", LogLevel::Trace)?;
/// # Ok::<_, ksi_host::InvalidLogLevel>(())
/// ```
#[derive(Clone)]
pub struct LogLevels(Arc<Shared>);

struct Shared {
    state: RwLock<State>,
    /// Who is told that something has changed, with the plugin that it is of.
    followers: Mutex<Followers>,
}

type Followers = Vec<(Arc<str>, Arc<dyn Follower>)>;

/// Somebody who is told of changes.
pub(crate) trait Follower: Send + Sync {
    /// Whether it is there still.
    fn is_there(&self) -> bool;

    /// Levels have changed.
    fn levels_changed(&self);
}

struct State {
    /// Nothing is said here: whoever has set the process's subscriber decides.
    of_subscriber: bool,
    default: LogLevel,
    file: Directives,
    environment: Directives,
    asked: Directives,
    /// All of them, the stronger ones over the others.
    effective: Directives,
}

/// A level that is in effect, and who has said so.
pub(crate) struct LevelInEffect {
    pub(crate) name: String,
    pub(crate) level: LogLevel,
    pub(crate) from: &'static str,
}

impl LogLevels {
    /// Everything up to this level is written, until somebody says otherwise.
    pub fn new(default: LogLevel) -> Self {
        Self::of(default, false)
    }

    /// Those of a program that logs by a subscriber of its own, which nobody here changes.
    pub(crate) fn of_subscriber() -> Self {
        Self::of(LogLevel::Trace, true)
    }

    fn of(default: LogLevel, of_subscriber: bool) -> Self {
        let [file, environment, asked, effective] = Default::default();
        let state =
            RwLock::new(State { of_subscriber, default, file, environment, asked, effective });
        LogLevels(Arc::new(Shared { state, followers: Mutex::default() }))
    }

    /// Takes what the environment says: a level, or levels of plugins and targets, as in
    /// `warn,state=debug,ksi_host::plugin=trace`.
    ///
    /// # Errors
    /// It says something else. Then nothing has changed.
    pub fn environment(&self, text: &str) -> Result<(), InvalidLogLevel> {
        let read = Directives::read(text)?;
        self.change(|state| state.environment = read);
        Ok(())
    }

    /// Takes what the configuration file says, of all and of single plugins and targets, in place
    /// of what it said before.
    pub fn configuration(&self, all: Option<LogLevel>, levels: &BTreeMap<String, LogLevel>) {
        let mut read = Directives::default();
        all.iter().for_each(|level| read.set(ALL, *level));
        levels.iter().for_each(|(name, level)| read.set(name, *level));
        self.change(|state| state.file = read);
    }

    /// Gives a plugin or a target a level, or `*`, which is all that has none of its own. It holds
    /// until it is said otherwise or the process ends.
    ///
    /// # Errors
    /// It is no name of a plugin or target, or there are too many, or the program logs by a
    /// subscriber of its own.
    pub fn ask(&self, name: &str, level: LogLevel) -> Result<(), InvalidLogLevel> {
        check_name(name)?;
        self.ask_all(&[(name.to_owned(), level)])
    }

    /// The same for several, all of them or none.
    pub(crate) fn ask_all(&self, levels: &[(String, LogLevel)]) -> Result<(), InvalidLogLevel> {
        levels.iter().try_for_each(|(name, _)| check_name(name))?;
        {
            let state = self.state();
            if state.of_subscriber {
                return Err(InvalidLogLevel::OfSubscriber);
            }
            let new = levels.iter().filter(|(name, _)| state.asked.get(name).is_none());
            if state.asked.len() + new.count() > ASKED {
                return Err(InvalidLogLevel::TooMany { most: ASKED });
            }
        }
        self.change(|state| levels.iter().for_each(|(name, level)| state.asked.set(name, *level)));
        Ok(())
    }

    /// Forgets what was [asked for](Self::ask).
    pub fn reset(&self) {
        self.change(|state| state.asked = Directives::default());
    }

    /// Whether a line with these metadata is written. Those of plugins are asked about before
    /// they get here.
    pub fn writes(&self, of: &Metadata<'_>) -> bool {
        let state = self.state();
        of.target() == OF_PLUGINS || LogLevel::of(*of.level()) <= state.of_target(of.target())
    }

    /// The most detailed level of which some line may be written.
    pub fn most(&self) -> LogLevel {
        let state = self.state();
        state.effective.levels().chain([state.of_all()]).max().unwrap_or_default()
    }

    /// Whether a line that a plugin writes with this target and level is written.
    pub(crate) fn writes_of_plugin(&self, plugin: &str, target: &str, level: u8) -> bool {
        let state = self.state();
        let most = match state.of_subscriber {
            true => of_subscriber(),
            false => state.effective.of_target(target).unwrap_or_else(|| state.of_plugin(plugin)),
        };
        level <= most.number()
    }

    /// The most detailed level of which some line of this plugin may be written, as a number that
    /// crosses.
    pub(crate) fn most_of_plugin(&self, plugin: &str) -> u8 {
        let state = self.state();
        if state.of_subscriber {
            return of_subscriber().number();
        }
        // Any plugin may have any target, but none of the host's, and of names that are those of
        // other plugins it is taken that they mean these.
        let others = self.followers();
        let is_of_another =
            |name: &str| others.iter().any(|(other, it)| **other == *name && it.is_there());
        let of_targets = state.effective.iter().filter(|(name, _)| {
            *name != ALL
                && *name != OF_PLUGINS
                && *name != plugin
                && !is_of_host(name)
                && !is_of_another(name)
        });
        let levels = of_targets.map(|(_, level)| level).chain([state.of_plugin(plugin)]);
        levels.max().unwrap_or_default().number()
    }

    /// All levels that are in effect: first that of all that has none of its own.
    pub(crate) fn in_effect(&self) -> Vec<LevelInEffect> {
        let state = self.state();
        let all = match state.of_subscriber {
            true => (of_subscriber(), "subscriber"),
            false => state.said(ALL).unwrap_or((state.default, "default")),
        };
        let name = |name: &str, (level, from)| LevelInEffect { name: name.to_owned(), level, from };
        let others = state.effective.iter().filter(|(name, _)| *name != ALL);
        let others = others.filter_map(|(of, _)| Some(name(of, state.said(of)?)));
        [name(ALL, all)].into_iter().chain(others).collect()
    }

    /// Has somebody told of changes who speaks for a plugin, for as long as he is there.
    pub(crate) fn follow(&self, plugin: Arc<str>, follower: Arc<dyn Follower>) {
        let mut followers = self.followers();
        followers.retain(|(_, follower)| follower.is_there());
        followers.push((plugin, follower));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        {
            let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
            change(&mut state);
            state.effective = state.file.under(&state.environment).under(&state.asked);
        }
        tracing::callsite::rebuild_interest_cache();
        // Whoever is told asks, and so not under the lock.
        let followers = self.followers().clone();
        followers.iter().for_each(|(_, follower)| follower.levels_changed());
    }

    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn followers(&self) -> MutexGuard<'_, Followers> {
        self.0.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of_all(&self) -> LogLevel {
        self.effective.get(ALL).unwrap_or(self.default)
    }

    fn of_target(&self, target: &str) -> LogLevel {
        self.effective.of_target(target).unwrap_or_else(|| self.of_all())
    }

    /// What holds for a plugin's lines but for those of targets that have a level of their own.
    fn of_plugin(&self, plugin: &str) -> LogLevel {
        let own = self.effective.get(plugin).or_else(|| self.effective.get(OF_PLUGINS));
        own.unwrap_or_else(|| self.of_all())
    }

    /// What is said of exactly this name, and where.
    fn said(&self, name: &str) -> Option<(LogLevel, &'static str)> {
        let places =
            [(&self.asked, "asked"), (&self.environment, "environment"), (&self.file, "file")];
        places.into_iter().find_map(|(of, from)| Some((of.get(name)?, from)))
    }
}

/// The most detailed level that the process's subscriber listens to.
fn of_subscriber() -> LogLevel {
    LevelFilter::current().into_level().map_or(LogLevel::Off, LogLevel::of)
}

/// Whether lines have this target, or may have it, that are of no single plugin.
pub(crate) fn is_of_process(target: &str) -> bool {
    target == OF_PLUGINS || is_of_host(target) || target.contains("::")
}

/// Whether a target is one of the host's own code.
fn is_of_host(target: &str) -> bool {
    let own = target.split("::").next().unwrap_or(target);
    own == "ksi" || (own.starts_with("ksi_") && own != OF_PLUGINS)
}

impl LogLevel {
    fn of(level: Level) -> Self {
        match level {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG => LogLevel::Debug,
            _ => LogLevel::Trace,
        }
    }
}

impl fmt::Debug for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLevels").field("effective", &self.state().effective).finish()
    }
}

#[cfg(test)]
mod tests;
