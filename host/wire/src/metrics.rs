//! `metrics:*`: how calls ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Counts;

/// The reply to `metrics:get`, and the payload of `metrics:report`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Over all handlers.
    pub host: Counts,
    /// By plugin.
    pub plugins: BTreeMap<String, PluginMetrics>,
}

/// The calls of one plugin, over all its generations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginMetrics {
    /// Over its handlers.
    pub counts: Counts,
    /// The generation that is live, or was last.
    pub generation: u64,
    /// By handler.
    pub handlers: BTreeMap<String, Counts>,
}
