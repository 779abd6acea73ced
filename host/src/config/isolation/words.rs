//! What stands in `[isolation]` where it is no number and no list.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// Where a plugin lives. In TOML, `"asked"`, `"none"` or `"process"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum IsolationMode {
    /// In a process of its own if it asks for one (`#[plugin(isolated)]`), else in the host's.
    #[default]
    Asked,
    /// In the host's process, with all others, also if it asks for one of its own.
    None,
    /// In a process of its own.
    Process,
}

/// When the process of a plugin that has ended is started again. In TOML, `"on_crash"`, `"always"`
/// or `"never"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Restart {
    /// When a signal or a status other than zero has ended it, or the host because it was stuck.
    #[default]
    OnCrash,
    /// However it has ended.
    Always,
    /// Not until its file changes, or somebody says so.
    Never,
}

/// When the state of a plugin is taken, for the process after this one. In TOML, a duration or
/// `"on_change"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Checkpoint {
    /// That long after the last time; above zero and at most thirty days.
    Every(Duration),
    /// After each call that may have changed it.
    OnChange,
}

/// Whether the process of a plugin has a cgroup (of version 2) of its own, with all that it starts:
/// it is ended as a whole then, and `memory` and `processes` bound it as a whole. In TOML, `true`,
/// `false` or `"require"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cgroup {
    /// Where the system gives the host a part of the tree.
    #[default]
    WhereDelegated,
    /// It has none.
    Never,
    /// It has, or the plugin does not start.
    Require,
}

impl IsolationMode {
    /// Whether a plugin lives in a process of its own that asks for one, or does not.
    pub fn is_process(self, asks: bool) -> bool {
        match self {
            IsolationMode::Asked => asks,
            IsolationMode::None => false,
            IsolationMode::Process => true,
        }
    }
}

impl<'de> Deserialize<'de> for Checkpoint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        const ON_CHANGE: &str = "on_change";
        let text = String::deserialize(from)?;
        if text == ON_CHANGE {
            return Ok(Checkpoint::OnChange);
        }
        humantime::parse_duration(&text).map(Checkpoint::Every).map_err(|error| {
            de::Error::custom(format!(
                "`{text}` is neither \"{ON_CHANGE}\" nor a duration such as \"1s\": {error}"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Cgroup {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "true, false or \"require\"")]
        enum Written {
            Where(bool),
            Word(String),
        }
        match Written::deserialize(from)? {
            Written::Where(true) => Ok(Cgroup::WhereDelegated),
            Written::Where(false) => Ok(Cgroup::Never),
            Written::Word(word) if word == "require" => Ok(Cgroup::Require),
            Written::Word(word) => {
                Err(de::Error::custom(format!("`{word}` is none of true, false and \"require\"")))
            }
        }
    }
}
