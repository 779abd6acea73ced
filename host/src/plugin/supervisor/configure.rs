//! A plugin gets another configuration: the live instance takes it, if its version says how, or
//! else a new generation, which is the only one that sees it.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use ksi_kernel::{event::Payload, report::OutcomeKind};
use serde_json::Value;

use ksi_wire::module::HistoryBy;

use super::{Deployed, Supervisor, deployed};
use crate::{
    plugin::{
        instance::{configs::encoded, info::CONFIGURE_EVENT},
        lifecycle::{directed, error::DeployError},
    },
    secrets::has_references,
    sync::keyed_lock::LockKey,
    text::causes::with_causes,
};

/// What became of a plugin whose configuration was changed.
pub(crate) enum Configured {
    /// Its live instance has taken the new one.
    Taken(Deployed),
    /// A new generation goes on with the new one.
    Live(Deployed),
    /// It is not live, and gets it when it is loaded; why it could not be, if that was tried.
    NotLive(Option<DeployError>),
    /// It goes on with the one before, as it did.
    Refused(DeployError),
}

/// A configuration that a plugin did not take, as long as that is not settled.
#[derive(Debug, Clone)]
pub(crate) struct RefusedConfig {
    /// For programs: the plugin's own, or what went wrong.
    pub(crate) code: String,
    pub(crate) reason: String,
    pub(crate) since: SystemTime,
}

impl Supervisor {
    /// Has a plugin go on with another configuration. If it can't, it keeps the one it has, for
    /// later generations too: a new version is not to fail for what an old one was not given.
    pub(crate) async fn configure(
        self: &Arc<Self>,
        name: &str,
        config: Option<Value>,
        by: &HistoryBy,
    ) -> Configured {
        match self.told(name, config.clone()).await {
            Some(told) => self.noted(name, told),
            None => self.reconfigure(name, config, by).await,
        }
    }

    /// The same by a new generation, whatever the live one can be told.
    pub(crate) async fn reconfigure(
        self: &Arc<Self>,
        name: &str,
        config: Option<Value>,
        by: &HistoryBy,
    ) -> Configured {
        // What is live is not let go for a secret that is not there.
        if self.file_if_live(name).is_some()
            && let Err(no_secret) = encoded(name, config.clone()).await
        {
            let refused = Configured::Refused(DeployError::no_secret(name, no_secret));
            return self.noted(name, refused);
        }
        let configs = &self.activation.configs;
        let before = configs.set(name, config);
        let Some(file) = self.file_to_configure(name) else {
            return self.noted(name, Configured::NotLive(None));
        };
        let configured = match self.load(&file, by).await {
            Ok(deployed) => Configured::Live(deployed),
            // What is not live has nothing to go on with.
            Err(error) if self.file_if_live(name).is_none() => Configured::NotLive(Some(error)),
            Err(error) => {
                configs.set(name, before);
                self.do_not_retry(name);
                Configured::Refused(error)
            }
        };
        self.noted(name, configured)
    }

    /// Has the live instance take it, if its version says how and it can be called.
    async fn told(&self, name: &str, config: Option<Value>) -> Option<Configured> {
        // Whoever replaces it meanwhile begins with what it has taken.
        let _lock = self.locks.lock(LockKey::Plugin(name.into())).await;
        let (info, live) = {
            let registry = self.registry();
            let live = registry.plugins.get(name)?.live.as_ref()?;
            (live.info.clone(), live.live.upgrade()?)
        };
        let handler = info.at_configure().next()?;
        if !live.body()?.is_there() {
            return None;
        }
        let given = match encoded(name, config.clone()).await {
            Ok(given) => given,
            Err(no_secret) => {
                return Some(Configured::Refused(DeployError::no_secret(name, no_secret)));
            }
        };
        let payload = Payload::from_json_bytes(given.to_vec());
        let (router, limit) = (self.router.clone(), self.activation.init_timeout);
        let called = self.router.workers().spawn_life_cycle(async move {
            let body = live.body()?;
            Some(directed::call(body, handler, (CONFIGURE_EVENT, payload), limit, &router).await)
        });
        let outcome = called.await?;
        if let OutcomeKind::Replied(_) | OutcomeKind::NoReply = outcome {
            self.activation.configs.set(name, config);
            *info.config.lock() = given;
            return Some(Configured::Taken(deployed(&info)));
        }
        let (code, reason) = (outcome.code().to_owned(), given.redacted(outcome.message()));
        Some(Configured::Refused(DeployError::Config { plugin: info.plugin.clone(), code, reason }))
    }

    /// Whether a live plugin of which the configuration says this has other secrets than it would
    /// get now. A secret that cannot be had any more is none.
    pub(crate) async fn has_other_secrets(&self, name: &str, own: Value) -> bool {
        if !has_references(&own) {
            return false;
        }
        let info = match self.registry().plugins.get(name) {
            Some(plugin) if plugin.live.is_some() => plugin.info.clone(),
            _ => return false,
        };
        let found = encoded(name, Some(own)).await;
        found.is_ok_and(|found| **info.config.lock() != *found)
    }

    /// Remembers a refusal where people look for it, or that there is none any more.
    fn noted(&self, name: &str, configured: Configured) -> Configured {
        let refused = match &configured {
            Configured::Refused(error) => Some(RefusedConfig {
                code: error.config_code().to_owned(),
                reason: with_causes(error).to_string(),
                since: SystemTime::now(),
            }),
            _ => None,
        };
        if let Some(plugin) = self.registry().plugins.get_mut(name) {
            plugin.config_refused = refused;
        }
        configured
    }

    /// What was refused to a plugin is not to be given to it any more.
    pub(crate) fn config_is_settled(&self, name: &str) {
        if let Some(plugin) = self.registry().plugins.get_mut(name) {
            plugin.config_refused = None;
        }
    }

    /// The plugins that have not taken what the configuration says of them, and why.
    pub(crate) fn refused_configs(&self) -> Vec<(Arc<str>, RefusedConfig)> {
        let registry = self.registry();
        let refused = registry
            .plugins
            .iter()
            .filter_map(|(name, plugin)| Some((name.clone(), plugin.config_refused.clone()?)));
        refused.collect()
    }

    /// The very bytes that are live have failed for a configuration that they do not get again.
    fn do_not_retry(&self, name: &str) {
        let mut registry = self.registry();
        let live = registry.plugins.get(name).filter(|plugin| plugin.live.is_some());
        let Some(info) = live.map(|plugin| plugin.info.clone()) else { return };
        let failed = registry.retries.of(&info.file).and_then(|(hash, _)| hash);
        if failed == Some(info.hash) {
            registry.retries.forget(&info.file);
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
