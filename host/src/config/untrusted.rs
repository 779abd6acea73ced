//! `[host] untrusted_plugins`: what becomes of a plugin that somebody else could have written.

use serde::Deserialize;

/// What is done with a plugin file that somebody else than the host's user and the superuser may
/// write to, or replace. TOML: `[host] untrusted_plugins`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum UntrustedPlugins {
    /// It is not loaded. `"refuse"`.
    Refuse,
    /// It is loaded, and the log says once what is wrong. `"warn"`.
    Warn,
    /// It is loaded. `"allow"`.
    Allow,
}
