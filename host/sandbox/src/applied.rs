//! What became of the limits of a process, for whoever shows it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What was set, and what this system does not have for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Applied {
    /// What was set, in this order.
    pub set: Vec<Setting>,
    /// What was wanted, and cannot be here.
    pub missing: Vec<Missing>,
}

/// One thing that was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Setting {
    /// The setting, as in `memory`.
    pub name: String,
    /// What it is now, in words.
    pub value: String,
}

/// One thing that cannot be here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Missing {
    /// What is not limited therefore, as in "files are not limited".
    pub what: String,
    /// What was tried.
    pub tried: String,
    /// What was found instead.
    pub found: String,
    /// What to do about it.
    pub advice: String,
}

impl fmt::Display for Setting {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.name, self.value)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, tried, found, advice } = self;
        write!(to, "{what}: tried {tried}, found {found}; {advice}")
    }
}

impl Applied {
    #[cfg(target_os = "linux")]
    pub(crate) fn is_set(&mut self, name: &str, value: impl Into<String>) {
        self.set.push(Setting { name: name.to_owned(), value: value.into() });
    }

    pub(crate) fn lacks(&mut self, what: &str, tried: &str, found: &str, advice: &str) {
        let [what, tried, found, advice] = [what, tried, found, advice].map(str::to_owned);
        self.missing.push(Missing { what, tried, found, advice });
    }
}
