//! `config:*`: the configuration while the host runs.

use std::sync::Arc;

use ksi_kernel::router::host_handler::Failure;
use ksi_wire::config::{Reconfigured, Reloaded};

use super::{Nothing, handle_change};
use crate::{
    catalog::Described,
    core::{
        Core,
        settings::{ReconfiguredOutcome, ReloadConfigError},
    },
    plugin::announce::shown,
    text::causes::with_causes,
};

pub(super) fn register(core: &Arc<Core>) {
    let reload = Described::new(
        "config:reload",
        "Reads the configuration file again, and applies what can be while the host runs.",
    );
    handle_change(core, reload, reload_config);
}

async fn reload_config(core: Arc<Core>, _: Nothing) -> Result<Reloaded, Failure> {
    let reloaded = core.reload_config().await.map_err(|error| {
        let code = match error {
            ReloadConfigError::NoFile => "no_config_file",
            ReloadConfigError::Config(_) => "invalid_config",
            ReloadConfigError::Stopping => "stopping",
            ReloadConfigError::Panicked(_) => "host_panicked",
        };
        Failure::new(code, with_causes(&error))
    })?;
    let plugins = reloaded.plugins.into_iter().map(|plugin| {
        let (status, generation, reason) = match plugin.outcome {
            ReconfiguredOutcome::Reloaded { generation } => ("reloaded", Some(generation), None),
            ReconfiguredOutcome::NotLive { reason } => ("not_live", None, Some(reason)),
            ReconfiguredOutcome::Refused { reason } => ("refused", None, Some(Some(reason))),
        };
        Reconfigured { generation, name: plugin.plugin, reason, status: status.into() }
    });
    Ok(Reloaded {
        plugins: plugins.collect(),
        applied: reloaded.applied,
        file: shown(&reloaded.file),
        needs_restart: reloaded.needs_restart,
        status: "reloaded".into(),
    })
}
