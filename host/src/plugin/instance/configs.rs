//! The configuration of each plugin, encoded, as its next instance gets it.
//!
//! An instance that is made again for a generation gets what that generation began with, which is
//! in its `GenerationInfo`.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard},
};

use ksi_kernel::lock::Lock;

/// The encoded configuration of one plugin.
pub(crate) type PluginConfig = Arc<[u8]>;

/// Of a plugin that the configuration says nothing of.
pub(crate) const NOTHING: &[u8; 2] = b"{}";

pub(crate) struct Configs(Lock<HashMap<String, PluginConfig>>);

impl Configs {
    pub(crate) fn new(configs: HashMap<String, PluginConfig>) -> Self {
        Configs(Lock::new(configs))
    }

    /// What the next instance of a plugin gets.
    pub(crate) fn of(&self, plugin: &str) -> PluginConfig {
        self.lock().get(plugin).cloned().unwrap_or_else(|| PluginConfig::from(*NOTHING))
    }

    /// Changes that; what it was before.
    pub(in crate::plugin) fn set(
        &self,
        plugin: &str,
        config: Option<PluginConfig>,
    ) -> Option<PluginConfig> {
        match config {
            Some(config) => self.lock().insert(plugin.to_owned(), config),
            None => self.lock().remove(plugin),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, PluginConfig>> {
        self.0.lock()
    }
}
