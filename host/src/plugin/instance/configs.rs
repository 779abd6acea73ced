//! The configuration of each plugin, as its next instance gets it: with the secrets that it has by
//! reference, which are looked for when it gets them.
//!
//! An instance that is made again for a generation gets what that generation had, which is in its
//! `GenerationInfo`.

use std::{collections::HashMap, io, path::PathBuf, sync::MutexGuard, time::Duration};

use ksi_kernel::lock::Lock;
use serde_json::Value;

pub(crate) use crate::secrets::PluginConfig;
use crate::secrets::{SecretError, has_references};

/// A secret that is not there by then, as on a server that is gone, is not waited for.
const LIMIT: Duration = Duration::from_secs(10);

/// A secret that a plugin cannot be given.
#[derive(Debug)]
pub(crate) struct NoSecret {
    /// As in `plugin.hello.api_key`.
    pub(crate) key: String,
    pub(crate) source: SecretError,
}

pub(crate) struct Configs(Lock<HashMap<String, Value>>);

impl Configs {
    pub(crate) fn new(configs: HashMap<String, Value>) -> Self {
        Configs(Lock::new(configs))
    }

    /// What the next instance of a plugin gets.
    pub(crate) async fn of(&self, plugin: &str) -> Result<PluginConfig, NoSecret> {
        let own = self.lock().get(plugin).cloned();
        encoded(plugin, own).await
    }

    /// Changes what it is made of; what it was before.
    pub(in crate::plugin) fn set(&self, plugin: &str, config: Option<Value>) -> Option<Value> {
        match config {
            Some(config) => self.lock().insert(plugin.to_owned(), config),
            None => self.lock().remove(plugin),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Value>> {
        self.0.lock()
    }
}

/// What a plugin gets of which the configuration says this.
pub(in crate::plugin) async fn encoded(
    plugin: &str,
    own: Option<Value>,
) -> Result<PluginConfig, NoSecret> {
    let Some(own) = own else { return Ok(PluginConfig::nothing()) };
    let no_secret = |(key, source)| NoSecret { key, source };
    if !has_references(&own) {
        return PluginConfig::of(plugin, &own).map_err(no_secret);
    }
    let name = plugin.to_owned();
    let finding = tokio::task::spawn_blocking(move || PluginConfig::of(&name, &own));
    let why = match tokio::time::timeout(LIMIT, finding).await {
        Ok(Ok(found)) => return found.map_err(no_secret),
        Ok(Err(error)) => io::Error::other(error),
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    let source = SecretError::Read { path: PathBuf::from("a file of its secrets"), source: why };
    Err(NoSecret { key: format!("plugin.{plugin}"), source })
}
