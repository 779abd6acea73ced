//! What became of a configuration that was read anew, for those who asked and for the log.

use std::path::PathBuf;

use crate::{
    plugin::{
        lifecycle::error::DeployError,
        supervisor::{Deployed, configure::Configured},
    },
    text::causes::with_causes,
};

/// What became of a configuration that was read anew.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConfigReloaded {
    /// The file.
    pub file: PathBuf,
    /// Keys whose new values hold from now on, as in `reload.margin`.
    pub applied: Vec<String>,
    /// Keys whose new values need a restart of the host, as in `limits.connections`.
    pub needs_restart: Vec<String>,
    /// The plugins whose own configuration has changed.
    pub plugins: Vec<Reconfigured>,
}

/// A plugin whose configuration has changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reconfigured {
    /// The plugin.
    pub plugin: String,
    /// What became of it.
    pub outcome: ReconfiguredOutcome,
}

/// What became of a plugin whose configuration has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReconfiguredOutcome {
    /// It has taken it, in the generation that was live.
    Taken {
        /// The generation.
        generation: u64,
    },
    /// It goes on with the new one, in this generation.
    Reloaded {
        /// The generation.
        generation: u64,
    },
    /// It is not live, and gets the new one when it is loaded.
    NotLive {
        /// Why it could not be, if that was tried.
        reason: Option<String>,
    },
    /// It goes on with the configuration before.
    Refused {
        /// For programs: the plugin's own code, or `not_initialized`, `timed_out`, `panicked`,
        /// `crashed` or `not_replaced`.
        code: String,
        /// Why it has not taken the new one, or could not be reloaded with it.
        reason: String,
    },
}

impl ConfigReloaded {
    pub(super) fn log(&self) {
        let ConfigReloaded { file, applied, needs_restart, plugins } = self;
        let file = file.display();
        if applied.is_empty() && needs_restart.is_empty() && plugins.is_empty() {
            tracing::info!("the configuration {file} was read again; nothing in it has changed");
            return;
        }
        tracing::info!("the configuration {file} was read again");
        if !applied.is_empty() {
            tracing::info!("from now on: {}", applied.join(", "));
        }
        for Reconfigured { plugin, outcome } in plugins {
            match outcome {
                ReconfiguredOutcome::Taken { generation } => {
                    tracing::info!(plugin, generation, "it has taken its new configuration");
                }
                ReconfiguredOutcome::Reloaded { generation } => {
                    tracing::info!(plugin, generation, "it has its new configuration");
                }
                ReconfiguredOutcome::NotLive { reason: None } => {
                    tracing::info!(
                        plugin,
                        "it is not live; it gets its new configuration when it is loaded"
                    );
                }
                ReconfiguredOutcome::NotLive { reason: Some(reason) } => {
                    tracing::warn!(plugin, "its new configuration did not help: {reason}");
                }
                ReconfiguredOutcome::Refused { code, reason } => {
                    tracing::warn!(
                        plugin,
                        code,
                        "it goes on with the configuration before: {reason}"
                    );
                }
            }
        }
        if !needs_restart.is_empty() {
            let keys = needs_restart.join(", ");
            tracing::warn!(
                "changed in the configuration, and in effect after a restart of the host alone: {keys}"
            );
        }
    }
}

impl From<Configured> for ReconfiguredOutcome {
    fn from(configured: Configured) -> Self {
        let reason = |error: DeployError| with_causes(&error).to_string();
        match configured {
            Configured::Taken(Deployed { generation, .. }) => Self::Taken { generation },
            Configured::Live(Deployed { generation, .. }) => Self::Reloaded { generation },
            Configured::NotLive(error) => Self::NotLive { reason: error.map(reason) },
            Configured::Refused(error) => {
                Self::Refused { code: error.config_code().to_owned(), reason: reason(error) }
            }
        }
    }
}
