//! A plugin gets another configuration: by a new generation, which is the only one that sees it.

use std::{path::PathBuf, sync::Arc};

use super::{Deployed, Supervisor, deployed};
use crate::plugin::{instance::configs::PluginConfig, lifecycle::error::DeployError};

/// What became of a plugin whose configuration was changed.
pub(crate) enum Configured {
    /// It goes on with the new one.
    Live(Deployed),
    /// It is not live, and gets it when it is loaded; why it could not be, if that was tried.
    NotLive(Option<DeployError>),
    /// It goes on with the one before, as it did.
    Refused(DeployError),
}

impl Supervisor {
    /// Has a plugin go on with another configuration. If it can't, it keeps the one it has, for
    /// later generations too: a new version is not to fail for what an old one was not given.
    pub(crate) async fn configure(
        self: &Arc<Self>,
        name: &str,
        config: Option<PluginConfig>,
    ) -> Configured {
        let configs = &self.activation.configs;
        let before = configs.set(name, config.clone());
        let Some(file) = self.file_to_configure(name) else { return Configured::NotLive(None) };
        match self.load(&file).await {
            Ok(deployed) => Configured::Live(deployed),
            // What is not live has nothing to go on with.
            Err(error) if self.file_if_live(name).is_none() => Configured::NotLive(Some(error)),
            Err(error) => {
                configs.set(name, before);
                Configured::Refused(error)
            }
        }
    }

    /// A plugin that has its configuration already.
    pub(crate) fn as_configured(&self, name: &str) -> Configured {
        let registry = self.registry();
        let live = registry.plugins.get(name).and_then(|plugin| plugin.live.as_ref());
        live.map_or(Configured::NotLive(None), |live| Configured::Live(deployed(&live.info)))
    }

    fn file_if_live(&self, name: &str) -> Option<PathBuf> {
        let registry = self.registry();
        let plugin = registry.plugins.get(name)?;
        plugin.live.as_ref().map(|live| live.info.file.clone())
    }

    /// The file that the plugin is live from, or that it did not initialize from. What was unloaded
    /// stays so.
    fn file_to_configure(&self, name: &str) -> Option<PathBuf> {
        self.file_if_live(name).or_else(|| self.registry().not_initialized(name))
    }
}
