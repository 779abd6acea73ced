//! Levels by name, as they are written.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::Deserialize;
use thiserror::Error;

use super::ALL;

/// How much is written: this level and the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogLevel {
    /// Nothing. `"off"`.
    Off,
    /// What has failed. `"error"`.
    Error,
    /// What somebody should look at. `"warn"`.
    Warn,
    /// What happens. `"info"`.
    #[default]
    Info,
    /// What helps to find a mistake. `"debug"`.
    Debug,
    /// All there is. `"trace"`.
    Trace,
}

impl LogLevel {
    const ALL: [(&str, LogLevel); 6] = [
        ("off", LogLevel::Off),
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];

    /// As it crosses to plugins.
    pub(super) fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = LogLevel::ALL.iter().find(|(_, level)| level == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

impl FromStr for LogLevel {
    type Err = InvalidLogLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLogLevel> {
        let is_it = |(name, _): &&(&str, LogLevel)| text.eq_ignore_ascii_case(name);
        let named = LogLevel::ALL.iter().find(is_it).map(|(_, level)| *level);
        named.ok_or_else(|| InvalidLogLevel::Level { found: text.to_owned() })
    }
}

/// Why something does not say what is to be logged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidLogLevel {
    /// It is no level.
    #[error("{found:?} is no level: those are off, error, warn, info, debug and trace")]
    Level {
        /// What it is.
        found: String,
    },
    /// It is no name of a plugin or a target.
    #[error(
        "{found:?} is neither the name of a plugin nor a target such as `ksi_host::plugin`, nor `*`"
    )]
    Name {
        /// What it is.
        found: String,
    },
    /// Too many have a level of their own.
    #[error(
        "at most {most} plugins and targets have a level of their own; `ksi log --reset` forgets those"
    )]
    TooMany {
        /// How many can.
        most: usize,
    },
    /// Nobody here decides what is written.
    #[error(
        "the program that this host runs in logs by a subscriber of its own, and decides what that writes"
    )]
    OfSubscriber,
}

/// The longest name of a target that gets a level of its own, in bytes.
const LONGEST: usize = 256;

/// Whether something can be the name of a plugin or a target.
pub(crate) fn check_name(name: &str) -> Result<(), InvalidLogLevel> {
    let may_stand = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.');
    let is_one = !name.is_empty() && name.len() <= LONGEST && name.chars().all(may_stand);
    match is_one || name == ALL {
        true => Ok(()),
        false => Err(InvalidLogLevel::Name { found: name.to_owned() }),
    }
}

/// Levels of plugins and targets by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Directives(BTreeMap<String, LogLevel>);

impl Directives {
    /// Reads `warn,state=debug`. A name without a level has all of its lines written.
    pub(super) fn read(text: &str) -> Result<Self, InvalidLogLevel> {
        let mut read = Directives::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, level) = match part.split_once('=') {
                Some((name, level)) => (name.trim(), level.trim().parse()?),
                None => match part.parse() {
                    Ok(level) => (ALL, level),
                    Err(_) => (part, LogLevel::Trace),
                },
            };
            check_name(name)?;
            read.set(name, level);
        }
        Ok(read)
    }

    pub(super) fn set(&mut self, name: &str, level: LogLevel) {
        self.0.insert(name.to_owned(), level);
    }

    pub(super) fn get(&self, name: &str) -> Option<LogLevel> {
        self.0.get(name).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, LogLevel)> {
        self.0.iter().map(|(name, level)| (name.as_str(), *level))
    }

    pub(super) fn levels(&self) -> impl Iterator<Item = LogLevel> {
        self.0.values().copied()
    }

    /// With these over it.
    pub(super) fn under(&self, stronger: &Directives) -> Directives {
        let both = self.0.iter().chain(&stronger.0);
        Directives(both.map(|(name, level)| (name.clone(), *level)).collect())
    }

    /// That of a target or of the nearest module around it.
    pub(super) fn of_target(&self, target: &str) -> Option<LogLevel> {
        let mut name = target;
        loop {
            if let Some(level) = self.get(name) {
                return Some(level);
            }
            name = name.rsplit_once("::")?.0;
        }
    }
}
