//! `[reload]`: how plugins are replaced, and when a new version counts as bad.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{Config, Problem, file, range};

/// How plugins are replaced, and how a new version is judged. TOML: `[reload]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Reload {
    /// What becomes of calls on the old generation that have not ended at the deadline. Default:
    /// they are cancelled.
    pub after_drain: AfterDrain,
    /// How long a new version is watched before it is trusted; zero to at most thirty days. Zero:
    /// not at all. Default: 30 s.
    #[serde(deserialize_with = "file::duration")]
    pub probation: Duration,
    /// By how much the new version's share of calls that fail, panic or time out may be above its
    /// predecessor's; from 0 to 1. Beyond it, the host goes back to the predecessor. Default: 0.1.
    pub margin: f64,
    /// How many calls of the new version must have ended before it is judged. Default: 10.
    pub min_calls: u64,
    /// Whether an instance of a new version is made in a process of its own first, so that an
    /// `initialize` that ends the process ends that one. A plugin may refuse that too. Default:
    /// yes.
    pub trial: bool,
    /// How many copies of a plugin's earlier versions are kept for going back; at most 16. Default:
    /// 3.
    pub kept_versions: usize,
    /// What differs for single plugins, by name. TOML: `[reload.plugins.NAME]`. Default: nothing.
    pub plugins: BTreeMap<String, ReloadOf>,
}

/// What differs from [`Reload`] and [`Timeouts`](super::Timeouts) for one plugin. What is `None` is
/// as for all others.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReloadOf {
    /// In place of [`Timeouts::drain`](super::Timeouts::drain).
    #[serde(deserialize_with = "file::some_duration")]
    pub drain: Option<Duration>,
    /// In place of [`Timeouts::hold`](super::Timeouts::hold).
    #[serde(deserialize_with = "file::some_duration")]
    pub hold: Option<Duration>,
    /// In place of [`Reload::after_drain`].
    pub after_drain: Option<AfterDrain>,
    /// In place of [`Reload::probation`].
    #[serde(deserialize_with = "file::some_duration")]
    pub probation: Option<Duration>,
    /// In place of [`Reload::margin`].
    pub margin: Option<f64>,
    /// In place of [`Reload::min_calls`].
    pub min_calls: Option<u64>,
    /// Whether its old generation is shut down and dropped before the new one is initialized,
    /// because both hold something that only one may hold: a database file, a device, a port. A
    /// plugin that asks for it itself (`#[plugin(exclusive)]`) always is replaced that way.
    /// Default: false.
    pub exclusive: bool,
    /// In place of [`Reload::trial`].
    pub trial: Option<bool>,
}

/// What becomes of calls that outlast the deadline of a replacement. In TOML, `"cancel"` or
/// `"keep"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AfterDrain {
    /// They are cancelled, and reported as rejected for that reason.
    #[default]
    Cancel,
    /// They go on, and the old generation with them: it stays until they end, or, where its state
    /// would have to be handed over, the replacement is given up.
    Keep,
}

/// How one plugin is replaced and judged: what holds for all, with what differs for it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ReloadPolicy {
    /// What calls in flight on the old generation get to end.
    pub drain: Duration,
    /// How long events may wait while state is handed over.
    pub hold: Duration,
    /// What becomes of calls that have not ended by then.
    pub after_drain: AfterDrain,
    /// How long the new version is watched. Zero: not at all.
    pub probation: Duration,
    /// The share of bad calls, above the predecessor's share, from which on a version is bad.
    pub margin: f64,
    /// How many calls must have ended before that is judged.
    pub min_calls: u64,
    /// Whether the operator wants the old generation released before the new one is initialized.
    /// That the plugin itself asks for it stands in its manifest.
    pub exclusive: bool,
    /// Whether an instance of the new version is tried in a process of its own first.
    pub trial: bool,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            after_drain: AfterDrain::Cancel,
            probation: Duration::from_secs(30),
            margin: 0.1,
            min_calls: 10,
            trial: true,
            kept_versions: 3,
            plugins: BTreeMap::new(),
        }
    }
}

impl Config {
    /// How the plugin of this name is replaced and judged.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let text = "[reload.plugins.billing]\ndrain = '2m'";
    /// let config = ksi_host::Config::from_toml(text, ".".as_ref())?;
    /// assert_eq!(config.reload_policy("billing").drain, Duration::from_secs(120));
    /// assert_eq!(config.reload_policy("hello").drain, config.timeouts.drain);
    /// # Ok::<(), ksi_host::ConfigError>(())
    /// ```
    pub fn reload_policy(&self, plugin: &str) -> ReloadPolicy {
        let (all, own) = (&self.reload, self.reload.plugins.get(plugin));
        let own = own.cloned().unwrap_or_default();
        ReloadPolicy {
            drain: own.drain.unwrap_or(self.timeouts.drain),
            hold: own.hold.unwrap_or(self.timeouts.hold),
            after_drain: own.after_drain.unwrap_or(all.after_drain),
            probation: own.probation.unwrap_or(all.probation),
            margin: own.margin.unwrap_or(all.margin),
            min_calls: own.min_calls.unwrap_or(all.min_calls),
            exclusive: own.exclusive,
            trial: own.trial.unwrap_or(all.trial),
        }
    }
}

/// More than anybody has the patience to wait for, and far from where a counter ends.
const MOST_CALLS: u64 = 1 << 20;

impl Reload {
    pub(super) fn check(&self) -> Result<(), Problem> {
        let Self { after_drain: _, trial: _, probation, margin, min_calls, kept_versions, plugins } =
            self;
        range::zero_or_duration("reload", "probation", *probation)?;
        range::count("reload", "margin", *margin, 0.0..=1.0)?;
        range::count("reload", "min_calls", *min_calls, 1..=MOST_CALLS)?;
        range::count("reload", "kept_versions", *kept_versions, 0..=16)?;
        plugins.iter().try_for_each(|(name, own)| own.check(name))
    }
}

impl ReloadOf {
    fn check(&self, name: &str) -> Result<(), Problem> {
        if !is_plugin_name(name) {
            return Err(Problem::NoPluginName { table: "reload.plugins", name: name.to_owned() });
        }
        let table = format!("reload.plugins.{name}");
        let Self {
            drain,
            hold,
            after_drain: _,
            trial: _,
            exclusive: _,
            probation,
            margin,
            min_calls,
        } = *self;
        for (key, value) in [("drain", drain), ("hold", hold)] {
            value.map_or(Ok(()), |value| range::durations(&table, &[(key, value)]))?;
        }
        probation.map_or(Ok(()), |value| range::zero_or_duration(&table, "probation", value))?;
        margin.map_or(Ok(()), |value| range::count(&table, "margin", value, 0.0..=1.0))?;
        min_calls.map_or(Ok(()), |value| range::count(&table, "min_calls", value, 1..=MOST_CALLS))
    }
}

/// The rule that a manifest is held to as well: a name of any other form belongs to no plugin.
pub(super) fn is_plugin_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
