//! `config:*`: the configuration while the host runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Word;

/// The reply to `config:reload`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reloaded {
    /// Keys whose new values hold from now on, as in `reload.margin`.
    pub applied: Vec<String>,
    /// The file that was read.
    pub file: String,
    /// Keys whose new values need a restart of the host.
    pub needs_restart: Vec<String>,
    /// The plugins whose own configuration has changed.
    pub plugins: Vec<Reconfigured>,
    /// `reloaded`.
    pub status: Word,
}

/// A plugin whose own configuration has changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reconfigured {
    /// For programs, why it was refused: the plugin's own, or what went wrong; missing where it was
    /// not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The generation that has the new one; missing where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The plugin.
    pub name: String,
    /// Why it has not; missing where it has, and null where nothing was tried.
    #[serde(deserialize_with = "crate::there", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Option<String>>,
    /// `taken`, `reloaded`, `not_live` or `refused`.
    pub status: Word,
}

/// The reply to `config:show`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shown {
    /// The configuration file; null where the host was started without one.
    pub file: Option<String>,
    /// Why it could not be used when it was last read; missing where it could.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_error: Option<String>,
    /// Plugins that have not taken what the file says of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// Every value that is in effect.
    pub settings: Vec<Setting>,
}

/// A plugin that has not taken what the file says of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refused {
    /// For programs: the plugin's own, or what went wrong.
    pub code: String,
    /// The plugin.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// One value of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Setting {
    /// The option or the variable that it was said by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// `default`, `file`, `command_line`, `environment` or `program`.
    pub from: Word,
    /// What the file says otherwise; it is not in effect.
    #[serde(deserialize_with = "crate::there", skip_serializing_if = "Option::is_none")]
    pub in_file: Option<Value>,
    /// As in `limits.workers`.
    pub key: String,
    /// The line of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The value is not shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub masked: bool,
    /// The value; null where there is none.
    pub value: Value,
}
